"""The language model of a task that generates texts: any that transformers generates with, or a small one from scratch.

    language_model = load_language_model("scratch:gpt-small", tokenizer, max_length=128, max_target_length=64)
    is_causal("scratch:gpt-small")      # True: it goes on with its own input; else an encoder reads, a decoder writes

Copy: with encoder.py, model_error.py; needs torch, transformers, safetensors.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    GPT2Config,
)
from transformers.utils import logging as transformers_logging

from .encoder import SCRATCH, base_of, load_weights, position_limit
from .model_error import ModelError

CAUSAL = "gpt-"  # scratch:gpt-small


def is_causal(path: str, trust_remote_code: bool = False) -> bool:
    """Whether the language model goes on with its own input. Raises ModelError if it does not generate at all."""
    if path.startswith("scratch:"):
        return path.removeprefix("scratch:").startswith(CAUSAL)
    folder = str(Path(path, "encoder")) if Path(path, "labels.json").is_file() else path
    try:
        config = AutoConfig.from_pretrained(base_of(folder), trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"model_name_or_path: {path} has no configuration that can be read: {reason}") from error
    if config.is_encoder_decoder:
        return False
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in getattr(config, "auto_map", {})
    # transformers would load a BERT as a causal model too, whose words then see the ones that they should predict
    sees_all = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if not known or sees_all:
        raise ModelError(f"model_name_or_path: {path} ({config.model_type}) reads texts and writes none; "
                         "text_generation needs an encoder-decoder or a causal language model")  # fmt: skip
    return True


def load_language_model(
    path: str, tokenizer: Any, max_length: int = 0, max_target_length: int = 0, trust_remote_code: bool = False
) -> Any:
    """A language model in fp32, or a new one: scratch:SIZE is a BART, scratch:gpt-SIZE a GPT-2.

    Args:
        path: a hub name, a folder, or scratch:…
        max_length, max_target_length: longest input and longest text to be generated; a model with fewer positions,
            for both together if it is causal, is refused.

    Raises: ModelError if it cannot be loaded, lacks weights or is too short.
    """
    transformers_logging.disable_progress_bar()
    causal = is_causal(path, trust_remote_code)
    longest = max_length + max_target_length if causal else max(max_length, max_target_length)
    auto_class: Any = AutoModelForCausalLM if causal else AutoModelForSeq2SeqLM
    if path.startswith("scratch:"):
        model = auto_class.from_config(scratch_config(path, tokenizer, longest), dtype=torch.float32)
    else:
        model = load_weights(auto_class, path, trust_remote_code)
    positions = position_limit(model)
    if positions < longest:
        needed = f"for input and target together, not {max_length} + {max_target_length}" if causal else (
            f"for the input and as many for the target, not {max_length} and {max_target_length}")  # fmt: skip
        raise ModelError(f"max_length: {path} has {positions} positions {needed}")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    options = model.generation_config
    options.pad_token_id = tokenizer.pad_token_id
    options.eos_token_id = end_token(tokenizer)  # some name one that is none of their tokenizer's, and never end
    options.max_length = None  # max_new_tokens decides
    return model


def end_token(tokenizer: Any) -> int:
    """What generated texts end with, as the targets do."""
    return tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id


def scratch_config(path: str, tokenizer: Any, longest: int) -> Any:
    size = path.removeprefix("scratch:").removeprefix(CAUSAL)
    hidden, layers, heads = SCRATCH[size]
    end = end_token(tokenizer)
    shared = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": end,
              "bos_token_id": end}  # fmt: skip
    if path.startswith(f"scratch:{CAUSAL}"):
        return GPT2Config(n_embd=hidden, n_layer=layers, n_head=heads, n_positions=max(512, longest), **shared)
    # not T5: from random weights it learns far slower with AdamW, see docs/results.md
    return BartConfig(
        d_model=hidden, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=4 * hidden, decoder_ffn_dim=4 * hidden,
        max_position_embeddings=max(512, longest), decoder_start_token_id=end, forced_eos_token_id=None, **shared,
    )  # fmt: skip
