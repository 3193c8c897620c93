"""Means of device tensors without a host sync per step.

meter.add({"loss": loss}, weight=1 - masked, most={"grad_norm_max": norm})     # stays on the device
meter.mean()                                    # one transfer, when it is logged
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
        self.most: dict[str, torch.Tensor] = {}
        self.steps = self.zero()

    def zero(self) -> torch.Tensor:
        return torch.zeros((), dtype=sum_dtype(self.device), device=self.device)

    def add(
        self, values: Mapping[str, torch.Tensor], weight: torch.Tensor, most: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """
        Args:
            weight: 0-dim, on the device; 1, or 0 for a step that does not count, whose values may be NaN.
            most: of these the largest is kept; not negative, and the same on all ranks.
        """
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, self.zero()) + self.counted(value, weight)
        for name, value in (most or {}).items():
            self.most[name] = torch.maximum(self.most.get(name, self.zero()), self.counted(value, weight))
        self.steps = self.steps + weight

    def counted(self, value: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.where(weight > 0, value, 0.0).to(sum_dtype(self.device))

    def totals(self) -> torch.Tensor:
        """The sums over all ranks, then the steps; a collective operation."""
        sums = sum_over_ranks(torch.stack([*self.sums.values(), self.zero()]))
        sums[-1] = self.steps
        return sums

    def mean(self) -> dict[str, float]:
        """Mean per counted step of each value, summed over the ranks, and the largest of each of `most`.

        {} if no step counted. A collective operation.
        """
        numbers = torch.cat([self.totals(), *(value.view(1) for value in self.most.values())]).tolist()
        steps = numbers.pop(len(self.sums))
        divisors = [steps] * len(self.sums) + [1] * len(self.most)
        names = [*self.sums, *self.most]
        return {name: a / b for name, a, b in zip(names, numbers, divisors, strict=True)} if steps else {}

    def state_dict(self) -> dict[str, Any]:
        """The sums over all ranks, so that a resume may have another number of ranks."""
        return {"names": list(self.sums), "totals": self.totals().cpu(), "most": dict(self.most)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Rank 0 takes over all that was summed up, the other ranks start from 0."""
        totals = state["totals"].to(self.device)
        self.sums = dict(zip(state["names"], (totals[:-1] * (rank() == 0)).unbind(), strict=True))
        self.most = {name: value.to(self.device) for name, value in state.get("most", {}).items()}
        self.steps = totals[-1]
