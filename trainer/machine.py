"""What the machine does while a run trains: CPU, memory, disk and GPUs every few seconds, by a thread of its own.

    with Machine("output/run", seconds=5, device="cuda", emit=trainer.emit) as machine:
        trainer.callbacks.append(machine)       # means since the last log line, as the event "machine"
        trainer.train()

machine.json has the whole run in at most 2,000 points, each the mean of the `interval_seconds` before it:
{"interval_seconds": 5, "columns": {"seconds": [5.0, …], "cpu_percent": [38.2, …], …}}, null where a sensor gave
nothing. `seconds` count while the run runs: a resumed one goes on where it was stopped. Needs psutil; figures of GPUs
need nvidia-ml-py (AMD's: amdsmi), through torch.

Copy: with checkpoint.py; needs torch, numpy, safetensors; can use psutil.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .checkpoint import read_json, write_text

logger = logging.getLogger(__name__)

LIMIT = 2000  # points
WRITE_SECONDS = 60  # between two writes of machine.json
Values = Mapping[str, float | None]


class Machine:
    """Looks at its sensors until the block ends. Whatever fails is logged once, and training goes on."""

    def __init__(
        self,
        folder: str | Path,
        seconds: float = 5.0,
        device: torch.device | str = "cpu",
        emit: Callable[[str, Values], None] | None = None,
        resumes: bool = False,
        sensors: Sequence[Callable[[], Values]] | None = None,
    ):
        """
        Args:
            seconds: between two looks.
            device: of the training; if it is a GPU, all those that this process sees are looked at.
            emit: (event, values) -> None, tells all callbacks.
            resumes: whether machine.json goes on.
            sensors: each returns values by name; None: of the CPU, the folder's disk, and the GPUs.
        """
        self.file = Path(folder) / "machine.json"
        self.seconds, self.emit = seconds, emit
        self.told: set[str] = set()
        if sensors is None:
            of_cpu = self.guarded(partial(cpu_sensors, self.file.parent)) or []
            sensors = [*of_cpu, *gpu_sensors(torch.device(device))]
        self.sensors = sensors
        saved = self.guarded(partial(read_json, self.file)) if resumes and self.file.exists() else None
        self.timeline = Timeline(seconds, saved)
        self.before = self.timeline.end
        self.recent: deque[Values] = deque(maxlen=LIMIT)  # since the last log line
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, name="machine", daemon=True)

    def __enter__(self) -> "Machine":
        self.begun = self.looked = time.monotonic()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(timeout=10)  # unless a sensor hangs

    def __call__(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """A callback of the trainer."""
        if event == "speed" and self.emit is not None and self.recent:
            recent = [self.recent.popleft() for _ in range(len(self.recent))]
            self.emit("machine", {name: value for name, value in means(recent).items() if value is not None})

    def watch(self) -> None:
        self.sense()  # psutil's shares of the time are those since the call before it, of the same thread
        written = -float("inf")
        while not self.ended.wait(self.seconds):
            self.look()
            if self.looked - written >= WRITE_SECONDS:
                self.guarded(self.write)
                written = self.looked
        if time.monotonic() - self.looked > min(self.seconds, 1.0) / 2:  # in less, shares of the time mean nothing
            self.look()
        self.guarded(self.write)

    def look(self) -> None:
        self.looked = time.monotonic()
        values = self.sense()
        self.recent.append(values)
        self.timeline.add(self.before + self.looked - self.begun, values)

    def sense(self) -> Values:
        found = [self.guarded(sensor) or {} for sensor in self.sensors]
        return {name: value for values in found for name, value in values.items()}

    def write(self) -> None:
        write_text(self.file, json.dumps(self.timeline.as_dict()) + "\n")

    def guarded(self, function: Callable[[], Any]) -> Any:
        """What it returns; None, and a line in the log the first time, where it fails."""
        try:
            return function()
        except Exception as error:
            if str(error) not in self.told:
                logger.warning("no figures of the machine: %s; training goes on without", error)
            self.told.add(str(error))
            return None


class Timeline:
    """Columns of equal length, at most `limit`: then neighbours become their mean, and later points last twice as long.

    So memory is bounded, and a run of any length keeps between half of `limit` and all of it.
    """

    def __init__(self, interval: float, saved: Mapping[str, Any] | None = None, limit: int = LIMIT):
        """
        Args:
            interval: seconds from one `add` to the next.
            saved: what `as_dict` gave; the timeline goes on after it.
        """
        self.interval, self.limit = interval, limit
        self.columns: dict[str, list[float | None]] = {"seconds": []}
        self.per_point = 1  # adds
        self.waiting: list[Values] = []
        if saved is not None:
            self.columns |= {name: list(values) for name, values in saved["columns"].items()}
            self.per_point = max(1, round(saved["interval_seconds"] / interval))

    @property
    def end(self) -> float:
        """Seconds of the last point."""
        seconds = self.columns["seconds"]
        return (seconds[-1] or 0.0) if seconds else 0.0

    def add(self, seconds: float, values: Values) -> None:
        """values: by name; those that are missing are None, and so are new names at earlier points."""
        self.waiting.append(values)
        if len(self.waiting) < self.per_point:
            return
        point = {**means(self.waiting), "seconds": seconds}
        self.waiting = []
        for name in point.keys() - self.columns.keys():
            self.columns[name] = [None] * len(self.columns["seconds"])
        for name, column in self.columns.items():
            value = point.get(name)
            column.append(None if value is None else round(value, 3))
        if len(self.columns["seconds"]) >= self.limit:
            self.thin()

    def thin(self) -> None:
        """Half as many points; `seconds` say when a point ended."""
        for name, column in self.columns.items():
            pairs = [column[i : i + 2] for i in range(0, len(column), 2)]
            self.columns[name] = [pair[-1] if name == "seconds" else mean(pair) for pair in pairs]
        self.per_point *= 2

    def as_dict(self) -> dict[str, Any]:
        return {"interval_seconds": self.interval * self.per_point, "columns": self.columns}


def means(several: Sequence[Values]) -> Values:
    """Of each name, over the values that are there."""
    names = dict.fromkeys(name for values in several for name in values)
    return {name: mean([values.get(name) for values in several]) for name in names}


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def cpu_sensors(folder: Path) -> list[Callable[[], Values]]:
    """Raises ImportError without psutil."""
    import psutil

    process = psutil.Process()

    def cpu() -> Values:
        """Of all cores together, 0 to 100; of this process, 100 for each core that it keeps busy."""
        return {"cpu_percent": psutil.cpu_percent(), "process_cpu_percent": process.cpu_percent()}

    def memory() -> Values:
        """Of this process, and of all on the machine, in GiB."""
        whole = psutil.virtual_memory()
        used = (whole.total - whole.available) / 2**30
        return {"memory_gib": process.memory_info().rss / 2**30, "machine_memory_gib": used}

    def disk() -> Values:
        """Where the run is written."""
        return {"disk_free_gib": psutil.disk_usage(str(folder)).free / 2**30}

    return [cpu, memory, disk]


def gpu_sensors(device: torch.device) -> list[Callable[[], Values]]:
    """One for each GPU that this process sees, by its number there."""
    return [partial(gpu, number) for number in range(torch.cuda.device_count())] if device.type == "cuda" else []


def gpu(number: int) -> Values:
    """Share of the time in which it computed anything, memory of all its processes, power, temperature."""
    return {
        f"gpu{number}_percent": torch.cuda.utilization(number),
        f"gpu{number}_memory_gib": torch.cuda.device_memory_used(number) / 2**30,
        f"gpu{number}_watts": torch.cuda.power_draw(number) / 1000,
        f"gpu{number}_celsius": torch.cuda.temperature(number),
    }
