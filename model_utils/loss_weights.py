"""Weights of the tasks' losses that follow from training: by uncertainty, or by how fast each loss falls.

    uncertainty = UncertaintyWeights(2)                         # learned with the model
    total = uncertainty(losses, shares)
    factors = falling_speed([{"a": 2.0, "b": 1.0}, {"a": 1.9, "b": 0.5}])     # {"a": 1.22…, "b": 0.77…}
K tasks.

Copy: alone; needs torch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


class UncertaintyWeights(nn.Module):
    """Kendall, Gal and Cipolla 2018 (arXiv 1705.07115): sum of e^(-s) * loss + s / 2, with learned s = log variance.

    A task with a large loss gets a large s, hence a small weight; s / 2 keeps the weights from going to 0.
    """

    def __init__(self, num_tasks: int):
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(num_tasks))

    def forward(self, losses: torch.Tensor, shares: torch.Tensor, present: Sequence[int]) -> torch.Tensor:
        """
        Args:
            losses: (K',) of the tasks that are there.
            shares: (K',), of each task's items of the optimizer step those that are in this micro-batch: s / 2 is added
                once per step, however the step is cut.
            present: numbers of these tasks.
        """
        s = self.log_variances[list(present)]
        return ((-s).exp() * losses + shares * s / 2).sum()


def falling_speed(losses: Sequence[Mapping[str, float]], temperature: float = 2.0) -> dict[str, float]:
    """Dynamic weight average (Liu, Johns and Davison 2019, arXiv 1803.10704, eq. 7): slow losses get more weight.

    Args:
        losses: mean training loss of each task per epoch, so far.
        temperature: above 0; higher = more even.

    Returns: factors whose mean is 1, of the tasks that both last epochs have; 1 for all before the third epoch.
    """
    if len(losses) < 2:
        return {}
    before, last = losses[-2:]
    speeds = {task: last[task] / before[task] for task in last if before.get(task)}
    scale = sum(math.exp(speed / temperature) for speed in speeds.values())
    return {task: len(speeds) * math.exp(speed / temperature) / scale for task, speed in speeds.items()}


def follow_losses(model: Any, event: str, step: int, values: Mapping[str, Any]) -> None:
    """A callback of the trainer, once `model` is bound with functools.partial: when an epoch has been evaluated, the
    tasks' losses are weighed by their `falling_speed`."""
    if event == "epoch":
        means = [entry["train"] for entry in values["history"]]
        losses = [{task: mean[f"{task}/loss"] for task in model.heads if f"{task}/loss" in mean} for mean in means]
        model.factors = falling_speed(losses)
