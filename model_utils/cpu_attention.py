"""Attention with dropout for training on a CPU, in tiles that stay in its cache.

    use_cpu_attention(model)               # a model of transformers whose attention is sdpa

With dropout torch has no fused kernel on a CPU: it makes each of scores, mask, softmax, random numbers and products for
the whole batch, in main memory. Here a tile of a few heads goes through all of it before the next one, forward and
backward, and random numbers cost a tenth (cpu_dropout.py). Scores and softmax are fp32 also where the rest is bf16, as
in fused kernels. Without dropout, for a few short texts, and whenever a model asks for more than a mask, sdpa itself is
called.

B texts, H heads, T sub-words that look, S that are seen, D size of a head.

Copy: with cpu_dropout.py; needs torch, transformers, numpy.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .cpu_dropout import fill_kept, scale

NAME = "cpu_tiles"
UNUSUAL = ("cache", "position_bias", "softcap", "s_aux")  # what a model may ask for beside a mask
SMALL = 2**17  # scores below which torch's way is as fast
TILE = 2**19  # scores that a thread works on at once: 2 MB in fp32


def use_cpu_attention(model: Any) -> None:
    """A model of transformers, in place; one whose attention is not sdpa stays as it is."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attention_forward)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: query (B, H, T, D), key and value (B, H or fewer, S, D); returns (B, T, H, D)."""
    small = query.shape[:3].numel() * key.shape[2] < SMALL
    unusual = any(more.get(name) is not None for name in UNUSUAL)
    if not 0 < dropout < 1 or query.device.type != "cpu" or small or unusual:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling,
                                      is_causal=is_causal, **more)  # fmt: skip
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    if attention_mask is None and causal and query.shape[2] > 1:
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()[None, None]
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key = query.to(value.dtype), key.to(value.dtype)
    return tiled_attention(query, key, value, additive(attention_mask), dropout, scaling), None


@torch.compiler.disable
def tiled_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float, scaling: float
) -> Tensor:
    """TiledAttention, which a compiled layer calls as it is: a graph could not hold NumPy's work on its bits."""
    found: Any = TiledAttention.apply(query, key, value, mask, p, scaling)
    return found


def additive(mask: Tensor | None) -> Tensor | None:
    """(B or 1, H or 1, T or 1, S) bool, True = is seen, or numbers that are added -> fp32 numbers."""
    if mask is None or mask.dtype != torch.bool:
        return None if mask is None else mask.float()
    return torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)


class TiledAttention(torch.autograd.Function):
    """dropout(softmax(Q K^T * scaling + mask)) V with its gradient."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float, scaling: float
                ) -> Tensor:  # fmt: skip
        """Returns (B, T, H, D)."""
        shares = value.new_empty(*query.shape[:3], key.shape[2])  # (B, H, T, S)
        out, kept = value.new_empty(*query.shape[:3], value.shape[3]), torch.empty_like(shares)
        mask = None if mask is None else mask.expand(shares.shape)
        with torch.autocast("cpu", enabled=False):
            for tile in tiles(shares):
                scores = (query[tile].float() * scaling) @ key[tile].float().mT
                if mask is not None:
                    scores += mask[tile]
                shares[tile] = scores.softmax(-1)
                out[tile] = (shares[tile] * fill_kept(kept[tile], p)) @ value[tile]
        ctx.save_for_backward(query, key, value, shares, kept)
        ctx.p, ctx.scaling = p, scaling
        return out.mul_(scale(p)).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """gradient: (B, T, H, D)."""
        query, key, value, shares, kept = ctx.saved_tensors
        gradient = gradient.transpose(1, 2) * scale(ctx.p)
        of_query, of_key, of_value = (torch.empty(x.shape, dtype=x.dtype) for x in (query, key, value))
        for tile in tiles(shares):
            of_value[tile] = (shares[tile] * kept[tile]).mT @ gradient[tile]
            of_shares = (gradient[tile] @ value[tile].mT).mul_(kept[tile])
            of_scores = torch._softmax_backward_data(of_shares, shares[tile], -1, shares.dtype).mul_(ctx.scaling)
            of_query[tile] = of_scores @ key[tile]
            of_key[tile] = of_scores.mT @ query[tile]
        return of_query, of_key, of_value, None, None, None


def tiles(scores: Tensor) -> Iterator[tuple[slice, slice]]:
    """Texts and heads that are worked on together, contiguous in `scores` (B, H, T, S)."""
    texts, heads, *size = scores.shape
    at_once = max(1, TILE * torch.get_num_threads() // math.prod(size))  # heads
    for text in range(0, texts, step := max(1, at_once // heads)):
        for head in range(0, heads, at_once):
            yield slice(text, text + step), slice(head, head + at_once)
