"""What happens when a loss or a gradient is NaN or infinite. The update itself is masked on the device, see step.py.

    nonfinite = NonfinitePolicy("skip", limit=10)
    nonfinite.add(step, skipped, sample_ids)        # after each step; nothing is read from the device
    nonfinite.check()                               # where the host waits anyway, and before anything is saved

Copy: alone; needs torch.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch

logger = logging.getLogger(__name__)


class TrainingDiverged(RuntimeError):
    """NaN or infinity beyond the policy. No such update was applied: the weights are the last good ones."""

    exit_code = 3


class NonfinitePolicy:
    """Counts the masked updates and names the samples they came from."""

    def __init__(self, policy: str = "stop", limit: int = 10):
        """policy: "stop": the first one ends training; "skip": go on until more than `limit` of the run are masked."""
        if policy not in ("stop", "skip"):
            raise ValueError(f"nonfinite: {policy!r} is neither stop nor skip")
        self.limit = limit if policy == "skip" else 0
        self.skipped = 0
        self.pending: list[tuple[int, torch.Tensor, Sequence[int]]] = []

    def add(self, step: int, skipped: torch.Tensor, sample_ids: Sequence[int]) -> None:
        """skipped: 0-dim, on the device, 1 where the update was masked; sample_ids: of this rank's group."""
        self.pending.append((step, skipped, sample_ids))

    def check(self) -> None:
        """Log what was masked since the last time; one transfer. Raises TrainingDiverged."""
        if not self.pending:
            return
        flags = torch.stack([skipped for _, skipped, _ in self.pending]).tolist()
        masked = [(step, ids) for (step, _, ids), flag in zip(self.pending, flags, strict=True) if flag]
        self.pending.clear()
        for step, ids in masked:
            logger.warning("step %d: non-finite loss or gradient, update not applied; sample ids %s", step, [*ids])
        self.skipped += len(masked)
        if self.skipped > self.limit:
            ids = masked[-1][1]
            raise TrainingDiverged(
                f"non-finite loss or gradient in {self.skipped} update(s), the last at step {masked[-1][0]} with the "
                f"sample ids {', '.join(map(str, ids[:8]))}{' …' if len(ids) > 8 else ''}; "
                "look at these records, try a lower --lr or --precision fp32, or --nonfinite skip"
            )

    def state_dict(self) -> dict[str, Any]:
        """To be taken after `check`."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped = state["skipped"]
