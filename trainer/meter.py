"""Means of device tensors without a host sync per step.

meter.add({"loss": loss}, weight=1 - masked, most={"grad_norm_max": norm})     # stays on the device
meter.mean()                                                                   # one transfer, when it is logged

Copy: with device.py, distributed.py; needs torch.
"""

from collections.abc import Mapping, Sequence
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
        self.names: list[str] = []
        self.most_names: list[str] = []
        self.sums = self.most = self.zeros(0)
        self.steps = self.zeros(1)[0]

    def zeros(self, size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=sum_dtype(self.device), device=self.device)

    def add(
        self, values: Mapping[str, torch.Tensor], weight: torch.Tensor, most: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """
        Args:
            weight: 0-dim, on the device; 1, or 0 for a step that does not count, whose values may be NaN.
            most: of these the largest is kept; not negative, and the same on all ranks.
        """
        if [*values] != self.names:
            self.names, self.sums = [*values], self.arranged(values, self.names, self.sums)
        self.sums = self.sums + self.counted(values, weight)
        if most:
            if [*most] != self.most_names:
                self.most_names, self.most = [*most], self.arranged(most, self.most_names, self.most)
            self.most = torch.maximum(self.most, self.counted(most, weight))
        self.steps = self.steps + weight

    def counted(self, values: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        return torch.where(weight > 0, torch.stack([*values.values()]), 0.0).to(sum_dtype(self.device))

    def arranged(self, names: Mapping[str, Any], before: Sequence[str], numbers: torch.Tensor) -> torch.Tensor:
        """What there is of each name; every `add` of a run has the same ones."""
        known = dict(zip(before, numbers.unbind(), strict=True))
        zero = self.zeros(1)[0]
        return torch.stack([known.get(name, zero) for name in names])

    def totals(self) -> torch.Tensor:
        """The sums over all ranks, then the steps; a collective operation."""
        sums = sum_over_ranks(torch.cat([self.sums, self.zeros(1)]))
        sums[-1] = self.steps
        return sums

    def mean(self) -> dict[str, float]:
        """Mean per counted step of each value, summed over the ranks, and the largest of each of `most`.

        {} if no step counted. A collective operation.
        """
        numbers = torch.cat([self.totals(), self.most]).tolist()
        steps = numbers.pop(len(self.names))
        divisors = [steps] * len(self.names) + [1] * len(self.most_names)
        names = [*self.names, *self.most_names]
        return {name: a / b for name, a, b in zip(names, numbers, divisors, strict=True)} if steps else {}

    def state_dict(self) -> dict[str, Any]:
        """The sums over all ranks, so that a resume may have another number of ranks."""
        most = {"most_names": list(self.most_names), "most": self.most.cpu()}
        return {"names": list(self.names), "totals": self.totals().cpu(), **most}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Rank 0 takes over all that was summed up, the other ranks start from 0."""
        totals = state["totals"].to(self.device)
        self.names, self.sums, self.steps = list(state["names"]), totals[:-1] * (rank() == 0), totals[-1]
        self.most_names = list(state.get("most_names", []))  # states of before have none
        self.most = state.get("most", self.zeros(0)).to(self.device)
