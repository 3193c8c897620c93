"""What some optimizer steps spend their time on, operation by operation, by torch.profiler.

    with Profile(trainer, steps=10, folder="output/run/profile"):
        trainer.train()

After a few steps that are not like the others (caches, compilation) `steps` of them are recorded, with the waiting for
data between them; then training goes on. trace.json.gz opens in https://ui.perfetto.dev or chrome://tracing, table.txt
is for reading. It takes the place of `trainer.take_step` and steps aside when it is done.

Copy: alone; needs torch.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

logger = logging.getLogger(__name__)

SKIPPED = 5  # steps before those that are recorded
ABOUT = """{steps} of the optimizer on {device}. "Self" is the time of an operation without those that it calls.
ProfilerStep* is all of the steps; its own time is that of Python between the operations, which they wait for.
"""


class Profile:
    """Records once, in this process."""

    def __init__(self, trainer: Any, steps: int, folder: str | Path, skipped: int = SKIPPED):
        """
        Args:
            trainer: has take_step(group), called for each optimizer step, train_step.speed(part), and device.
            skipped: steps before; in the last of them the profiler warms up, so at least 1.
        """
        self.trainer, self.steps, self.folder = trainer, steps, Path(folder)
        self.device = torch.device(trainer.device)
        self.take_step, self.speed = trainer.take_step, trainer.train_step.speed
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self.device.type == "cuda")
        phases = schedule(wait=skipped - 1, warmup=1, active=steps, repeat=1)
        self.profiler = profile(activities=activities, schedule=phases, on_trace_ready=self.save)
        self.saved = False

    def __enter__(self) -> "Profile":
        self.trainer.take_step, self.trainer.train_step.speed = self, Named(self.speed)
        self.profiler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.profiler.stop()  # saves what there is
        self.step_aside()
        if not self.saved:
            logger.warning("no profile: training ended before there was a step to record")

    def __call__(self, group: Sequence[dict[str, Any]]) -> None:
        self.take_step(group)
        self.profiler.step()

    def save(self, profiler: Any) -> None:
        self.step_aside()
        self.folder.mkdir(parents=True, exist_ok=True)
        trace, table = self.folder / "trace.json.gz", self.folder / "table.txt"
        profiler.export_chrome_trace(str(trace))
        steps = f"{self.steps} step{'s' if self.steps > 1 else ''}"
        about = ABOUT.format(steps=steps, device=self.device)
        table.write_text(about + tables(profiler.key_averages(), self.device), encoding="utf-8")
        self.saved = True
        logger.info("[TRAIN] profile of %s: operations in %s, their course in %s", steps, table, trace)

    def step_aside(self) -> None:
        self.trainer.take_step, self.trainer.train_step.speed = self.take_step, self.speed


class Named:
    """A Speed whose parts have names in the trace."""

    def __init__(self, speed: Any):
        self.speed = speed

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        with record_function(part), self.speed(part):
            yield

    def __getattr__(self, name: str) -> Any:
        return getattr(self.speed, name)


def tables(averages: Any, device: torch.device) -> str:
    """By own time on the host and, if there is one, on the GPU."""
    order = [f"self_{name}_time_total" for name in ("cpu", "cuda") if name in ("cpu", device.type)]
    found = [averages.table(sort_by=by, row_limit=40, max_name_column_width=60) for by in reversed(order)]
    return "\n".join(found) + "\n"
