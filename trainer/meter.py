"""Means of device tensors without a host sync per step.

meter.add({"loss": loss})       # stays on the device
meter.mean()                    # one transfer, when it is logged
"""

from collections.abc import Mapping
from typing import Any

import torch

from .device import sum_dtype
from .distributed import rank, sum_over_ranks


class Meter:
    """Adds up 0-dim tensors, one `add` per step; each rank contributes its share of a value."""

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.steps = 0

    def add(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.to(sum_dtype(self.device))
        self.steps += 1

    def mean(self) -> dict[str, float]:
        """Mean per step of each value, summed over the ranks; a collective operation."""
        if not self.sums or not self.steps:
            return {}
        total = sum_over_ranks(torch.stack(list(self.sums.values())))
        return {name: value / self.steps for name, value in zip(self.sums, total.tolist(), strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """The sums over all ranks, so that a resume may have another number of ranks."""
        total = sum_over_ranks(torch.stack(list(self.sums.values()))) if self.sums else torch.empty(0)
        return {"names": list(self.sums), "sums": total.cpu(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Rank 0 takes over all that was summed up, the other ranks start from 0."""
        values = state["sums"].to(self.device) * (rank() == 0)
        self.sums = dict(zip(state["names"], values.unbind(), strict=True))
        self.steps = state["steps"]
