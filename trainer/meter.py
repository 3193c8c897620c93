"""Means of device tensors without a host sync per step.

meter.add({"loss": loss}, weight=1 - masked)    # stays on the device
meter.mean()                                    # one transfer, when it is logged

Copy: with device.py, distributed.py; needs torch.
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
        self.steps = self.zero()

    def zero(self) -> torch.Tensor:
        return torch.zeros((), dtype=sum_dtype(self.device), device=self.device)

    def add(self, values: Mapping[str, torch.Tensor], weight: torch.Tensor) -> None:
        """weight: 0-dim, on the device; 1, or 0 for a step that does not count, whose values may be NaN."""
        for name, value in values.items():
            counted = torch.where(weight > 0, value, 0.0).to(sum_dtype(self.device))
            self.sums[name] = self.sums.get(name, self.zero()) + counted
        self.steps = self.steps + weight

    def totals(self) -> torch.Tensor:
        """The sums over all ranks, then the steps; a collective operation."""
        sums = sum_over_ranks(torch.stack([*self.sums.values(), self.zero()]))
        sums[-1] = self.steps
        return sums

    def mean(self) -> dict[str, float]:
        """Mean per counted step of each value, summed over the ranks; {} if none counted. A collective operation."""
        *sums, steps = self.totals().tolist()
        return {name: value / steps for name, value in zip(self.sums, sums, strict=True)} if steps else {}

    def state_dict(self) -> dict[str, Any]:
        """The sums over all ranks, so that a resume may have another number of ranks."""
        return {"names": list(self.sums), "totals": self.totals().cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Rank 0 takes over all that was summed up, the other ranks start from 0."""
        totals = state["totals"].to(self.device)
        self.sums = dict(zip(state["names"], (totals[:-1] * (rank() == 0)).unbind(), strict=True))
        self.steps = totals[-1]
