"""Remember the best value of a metric and stop when it no longer improves.

    stopping = EarlyStopping("slots/f1", patience=3)
    if stopping.update(metrics): save_best()
    if stopping.should_stop: break

Copy: alone; needs only Python.
"""

from collections.abc import Iterable, Mapping
from typing import Any


class MonitorError(ValueError):
    """A metric that no evaluation gives."""

    exit_code = 2


class EarlyStopping:
    """patience: evaluations without improvement after which `should_stop` is True; 0 = never."""

    def __init__(self, monitor: str, patience: int = 0, lower_is_better: bool = False):
        self.monitor = monitor
        self.patience = patience
        self.lower_is_better = lower_is_better
        self.best: float | None = None
        self.num_bad = 0

    def update(self, metrics: Mapping[str, float]) -> bool:
        """Take in one evaluation; True if it is the best so far. A NaN never is. Raises MonitorError."""
        if self.monitor not in metrics:
            raise MonitorError(f"monitor: unknown metric {self.monitor!r}; there are {', '.join(metrics)}")
        value = float(metrics[self.monitor])
        sign = -1.0 if self.lower_is_better else 1.0
        improved = value == value and (self.best is None or sign * value > sign * self.best)
        self.best = value if improved else self.best
        self.num_bad = 0 if improved else self.num_bad + 1
        return improved

    @property
    def should_stop(self) -> bool:
        return 0 < self.patience <= self.num_bad

    @property
    def standing(self) -> str:
        """How good the last evaluation was, in words."""
        if not self.num_bad:
            return f"best {self.monitor} so far"
        best = "none was a number" if self.best is None else f"{self.monitor}={self.best:.4g}"
        return f"best: {best}, {self.num_bad} evaluation{'s' if self.num_bad > 1 else ''} ago"

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best": self.best, "num_bad": self.num_bad}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.num_bad = state["best"], state["num_bad"]


def choose_monitor(name: str | None, heads: Mapping[str, Any], metrics: Iterable[str]) -> tuple[str, bool]:
    """The monitored metric and whether lower is better.

    Args:
        name: as the user gave it; None: the main metric of an only task, else sentence_accuracy.
        heads: task -> object with MONITOR and LOWER_IS_BETTER.
        metrics: the names that an evaluation gives.

    Raises: MonitorError with the known names.
    """
    if name is None:
        main_metrics = [f"{task}/{head.MONITOR}" for task, head in heads.items()]
        name = main_metrics[0] if len(main_metrics) == 1 else "sentence_accuracy"
    falling = {"loss"} | {f"{task}/{m}" for task, head in heads.items() for m in ("loss", *head.LOWER_IS_BETTER)}
    known = sorted({*metrics, "loss", *(f"{task}/loss" for task in heads)})
    if name not in known:
        raise MonitorError(f"monitor: unknown metric {name!r}; there are {', '.join(known)}")
    return name, name in falling
