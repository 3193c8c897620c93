"""Dropout for training on a CPU: the same distribution as torch's, without its cost.

    use_cpu_dropout(model)                 # nn.Dropout modules of a model, in place
    y = dropout(x, 0.1)

torch draws one number of a Mersenne twister per element, on one thread: a fifth of the time of a training step of a
BERT in bf16. Four elements share one here, with 16 bits each, so that the rate is a multiple of 2^-16, and what stays
is scaled by exactly that rate (torch's scale in bf16 is a rounded number: 1.1094 for 1 / 0.9). The numbers come from
torch's generator of the CPU: torch.manual_seed, a restored state and activation checkpointing give the same masks
again.

Copy: alone; needs torch, numpy.
"""

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 2**16


class CPUDropout(nn.Dropout):
    """nn.Dropout, but for how it draws on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and self.training and 0 < self.p < 1:
            return dropout(input, self.p)
        return super().forward(input)


def use_cpu_dropout(model: nn.Module) -> None:
    """Replace the modules that are nn.Dropout; subclasses and those that work in place stay."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Dropout and not child.inplace:
                setattr(parent, name, CPUDropout(child.p).train(child.training))


@torch.compiler.disable
def dropout(x: Tensor, p: float) -> Tensor:
    """Zeros with probability p, the rest divided by 1 - p; x: on the CPU, 0 < p < 1."""
    return x.mul(fill_kept(torch.empty(x.shape, dtype=x.dtype), p)).mul_(scale(p))


def fill_kept(out: Tensor, p: float) -> Tensor:
    """Fill a contiguous tensor with 1 for what stays and 0 for what is dropped.

    Its type is to be that of what it is multiplied with: a product of two types takes ten times as long.
    """
    bits = torch.empty(-(-out.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    stays = bits.numpy().view(np.uint16)[: out.numel()].reshape(out.shape) >= dropped_levels(p)
    if out.dtype == torch.bfloat16:  # unknown to NumPy: the bits of its 1
        np.multiply(stays, np.int16(0x3F80), out=out.view(torch.int16).numpy())
    else:
        np.copyto(out.numpy(), stays)
    return out


def scale(p: float) -> float:
    """1 / (share that stays)"""
    return LEVELS / (LEVELS - dropped_levels(p))


def dropped_levels(p: float) -> int:
    """Of LEVELS; at least one stays."""
    return min(round(p * LEVELS), LEVELS - 1)
