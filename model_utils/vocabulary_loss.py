"""Cross-entropy over a vocabulary, in parts: no copy of all scores in fp32, none of their softmax.

    loss = summed_cross_entropy(scores, labels)         # a sum

What F.cross_entropy(scores.float(), labels, ignore_index=-100, reduction="sum") gives, which holds three arrays of fp32
as large as the scores until its gradient is done: 12 bytes a score beside the 2 of bf16. Here a few rows at a time are
turned into fp32, forward and once more backward. N items, V entries of the vocabulary.

Copy: alone; needs torch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORE = -100
AT_ONCE = {"cpu": 2**19}  # scores in fp32: what stays in the cache of a CPU
ON_DEVICE = 2**26


def summed_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """
    Args:
        scores: (N, V) before softmax, of any type.
        labels: (N,) entries of the vocabulary, -100 = none.

    Returns: 0-dim, fp32.
    """
    found: Tensor = SummedCrossEntropy.apply(scores, labels)
    return found


class SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor) -> Tensor:
        ctx.save_for_backward(scores, labels)
        known, gold = labels != IGNORE, labels.clamp(min=0)[:, None]
        total = torch.zeros((), device=scores.device)
        for part in parts(scores):
            losses = -scores[part].float().log_softmax(1).gather(1, gold[part])[:, 0]
            total += torch.where(known[part], losses, 0.0).sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """softmax - one-hot, where there is a label."""
        scores, labels = ctx.saved_tensors
        factors, gold = torch.where(labels != IGNORE, gradient, 0.0)[:, None], labels.clamp(min=0)[:, None]
        found = torch.empty_like(scores)
        for part in parts(scores):
            shares = scores[part].float().softmax(1).mul_(factors[part])
            found[part] = shares.scatter_add_(1, gold[part], -factors[part])
        return found, None


def parts(scores: Tensor) -> list[slice]:
    """Some rows at a time."""
    rows = max(1, AT_ONCE.get(scores.device.type, ON_DEVICE) // scores.shape[1])
    return [slice(first, first + rows) for first in range(0, len(scores), rows)]
