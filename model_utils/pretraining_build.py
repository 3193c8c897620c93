"""A masked or causal language model to be pretrained: a checkpoint, or a new one of a given shape.

    language_model, causal = load_pretrained("bert-base-chinese")
    language_model, causal = new_of_shape({"model_type": "bert", "hidden_size": 256}, tokenizer, length=128)

Copy: with encoder.py, model_error.py; needs torch, transformers, safetensors.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
)
from transformers.utils import logging as transformers_logging

from .encoder import load_weights
from .model_error import ModelError


def load_pretrained(
    path: str, objective: str = "auto", state: str | None = None, trust_remote_code: bool = False
) -> tuple[Any, bool]:
    """A language model in fp32, and whether it is causal. A head that the checkpoint lacks is drawn anew.

    Args:
        path: a folder or a hub name.
        objective: "mlm", "clm", or "auto": what the architecture is made for.
        state: a folder whose weights are loaded instead, with nothing missing.

    Raises: ModelError.
    """
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"model_name_or_path: {path} has no configuration that can be read: {reason}") from error
    causal = is_causal(config, objective)
    return load_weights(auto_class(causal), state or path, trust_remote_code, new_head=state is None), causal


def new_of_shape(
    shape: Mapping[str, Any], tokenizer: Any, length: int, objective: str = "auto", state: str | None = None
) -> tuple[Any, bool]:
    """The same from random weights.

    Args:
        shape: model_type of transformers and the options of its configuration; vocabulary and special tokens are the
            tokenizer's, and there are positions enough for `length` and the 512 that fine-tuning may want.
        state: a folder whose weights are loaded.
    """
    transformers_logging.disable_progress_bar()
    options = {name: value for name, value in shape.items() if name != "model_type"}
    known = default_config(shape).to_dict()
    if unknown := sorted(options.keys() - known.keys()):
        raise ModelError(f"model: {shape['model_type']} has no {unknown[0]!r}; it has {', '.join(sorted(known))}")
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    positions = max(512, length) + 2  # RoBERTa's kind never uses the first two
    settled = {
        "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "cls_token_id": first,
        "sep_token_id": last, "bos_token_id": first if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        "eos_token_id": last if tokenizer.eos_token_id is None else tokenizer.eos_token_id,
        "max_position_embeddings": positions, "n_positions": positions,
    }  # fmt: skip
    settled = {name: value for name, value in settled.items() if name in known}
    config = AutoConfig.for_model(shape["model_type"], **settled | options)
    causal = is_causal(config, objective)
    if state is not None:
        return load_weights(auto_class(causal), state), causal
    try:
        return auto_class(causal).from_config(config, dtype=torch.float32), causal
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"model: {error}") from error


def default_config(shape: Mapping[str, Any]) -> Any:
    model_type = shape.get("model_type")
    try:
        return AutoConfig.for_model(model_type)
    except (ValueError, KeyError):
        right = "give one of transformers, such as bert, roberta, modernbert, gpt2, llama"
        raise ModelError(f"model: model_type {model_type!r}: there is no such architecture; {right}") from None


def is_causal(config: Any, objective: str) -> bool:
    """Raises ModelError where the architecture is not made for the objective."""
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not config.is_encoder_decoder
    made_causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not config.is_encoder_decoder
    made_for = {"mlm": masked, "clm": made_causal, "auto": masked or made_causal}
    if not made_for[objective]:
        right = "encoders are for mlm, causal language models for clm"
        raise ModelError(f"objective: {config.model_type} is not made for {objective}; {right}")
    return made_causal and not masked if objective == "auto" else objective == "clm"


def auto_class(causal: bool) -> Any:
    return AutoModelForCausalLM if causal else AutoModelForMaskedLM


def check_tokenizer(tokenizer: Any, causal: bool) -> None:
    """Raises ModelError if it lacks the token that the objective needs."""
    name = "eos_token" if causal else "mask_token"
    if getattr(tokenizer, name) is None:
        raise ModelError(f"tokenizer: it has no {name}, which this objective needs")
