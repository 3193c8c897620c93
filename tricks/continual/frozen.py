"""Frozen encoder: only heads are trained, so that no task can change the features that the others stand on.

Nothing is forgotten and nothing of the encoder is learned: what pretraining alone is worth. A head of its own for each
task keeps what it scored, whatever comes later; one head for several tasks may still forget.

    Approach().begin_task(model, None)      # 1. before the optimizer is made

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[frozen]'      # 2.

Exact where copies usually are not: frozen weights have no gradient at all, instead of a learning rate of 0, so that
weight decay cannot move them, and no backward pass goes through the encoder.
Cost: less than none.

Copy: alone; needs torch.
"""

from typing import Any

import torch
from torch import nn


class Approach:
    def begin_task(self, model: Any, task: Any) -> None:
        model.encoder.requires_grad_(False)


if __name__ == "__main__":
    model = nn.Module()
    model.encoder, model.heads = nn.Linear(2, 3), nn.Linear(3, 1)
    Approach().begin_task(model, None)
    model.heads(model.encoder(torch.ones(1, 2))).sum().backward()
    assert [weight.grad is None for weight in model.parameters()] == [True, True, False, False]
