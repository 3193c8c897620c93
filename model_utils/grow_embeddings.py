"""Embeddings for new sub-words: the mean of those of the pieces that each was before.

    grow_embeddings(model, {30522: [2033, 24117, 2239]})      # the new id -> the old ids

Koto et al. 2021, IndoBERTweet, https://arxiv.org/abs/2109.04607: the average of the pieces made further pretraining
five times faster than other ways to begin, and its results better. The same mean is taken of an output layer that is
not tied and of the bias behind it, so that a new word's score is, for any hidden state, the mean of its pieces' scores:
never above that of its best piece, so no new word crowds out the old ones.

Copy: with encoder.py, model_error.py; needs torch, transformers, safetensors.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.utils import logging as transformers_logging

from .encoder import load_weights
from .model_error import ModelError


def load_whole(path: str) -> Any:
    """A model in fp32 with all its heads: the class that its config.json names.

    Raises: ModelError if it cannot be loaded, lacks weights, or its class is not one of transformers.
    """
    try:
        names = AutoConfig.from_pretrained(path).architectures or []
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"model_name_or_path: {path} has no configuration that can be read: {reason}") from error
    model_class = getattr(transformers, names[0], None) if names else AutoModel
    if model_class is None:
        raise ModelError(f"model_name_or_path: {path} is a {names[0]}, which transformers does not have")
    transformers_logging.disable_progress_bar()
    return load_weights(model_class, path, trust_remote_code=False)


@torch.no_grad()
def grow_embeddings(model: Any, pieces: Mapping[int, Sequence[int]]) -> None:
    """Give the new ids their rows, in the tables of inputs and outputs; the old rows stay as they are.

    The tables get longer if they must, and not longer than that; tied ones stay tied.

    Raises: ModelError if ids below the new ones have no row either.
    """
    size, rows = max(pieces) + 1, model.get_input_embeddings().num_embeddings
    if min(pieces) > rows:
        raise ModelError(f"model_name_or_path: {rows} embeddings for {min(pieces)} sub-words of the tokenizer")
    if size > rows:
        resize(model, size)
    output = model.get_output_embeddings()
    tables = [model.get_input_embeddings().weight]
    if output is not None and output.weight is not tables[0]:
        tables.append(output.weight)
    if getattr(output, "bias", None) is not None:
        tables.append(output.bias)
    for table in tables:
        fill(table, pieces)


def resize(model: Any, size: int) -> None:
    """As transformers does it, which makes one of the two biases of an untied BERT: saved so, it cannot be loaded."""
    owners = {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it recommends a multiple of 8
    model.resize_token_embeddings(size, mean_resizing=False)
    transformers_logging.set_verbosity(verbosity)
    first_names: dict[int, str] = {}
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        first = first_names.setdefault(id(parameter), name)
        if owners[name] != owners[first]:
            module, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(module), leaf, nn.Parameter(parameter.clone()))


def fill(table: Tensor, pieces: Mapping[int, Sequence[int]]) -> None:
    """(V, H) or (V,): the rows of the new ids."""
    table[list(pieces)] = torch.stack([table[list(old)].mean(0) for old in pieces.values()])
