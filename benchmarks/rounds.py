"""Ours beside peers in rounds: in each all of them do the same work once, in rotated order.

    runs = {"ours": lambda: once(ours), "pytorch-crf": lambda: once(theirs)}
    print(compare("forward and backward", "batch", runs, given).table())

Cores may be shared, and clocks vary: so seconds are those of the process, on one thread, the ratio is taken inside each
round, and its median is given with the smallest and largest one. Beside it the same with the wall's clock and two
threads. On a GPU only the wall counts.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

WARM_UP = 2  # steps of each round that do not count


class Clock:
    """Seconds of this process, and of the wall, between `start` and `stop`; a GPU has done its work by then."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def start(self) -> None:
        finish()
        self.cpu, self.wall = -time.process_time(), -time.perf_counter()

    def stop(self) -> None:
        finish()
        self.cpu, self.wall = self.cpu + time.process_time(), self.wall + time.perf_counter()


def finish() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


Go = Callable[[], tuple[Clock, float]]  # does a round's work; its time, and how many units of work it was


def once(function: Callable[[], Any], units: float = 1) -> Go:
    def go() -> tuple[Clock, float]:
        clock = Clock()
        clock.start()
        function()
        clock.stop()
        return clock, units

    return go


@dataclass
class Comparison:
    """Seconds per unit of work; the first name is ours."""

    title: str
    unit: str
    seconds: dict[int, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    """threads -> name -> (of the process, of the wall) in each round"""
    waits: bool = False
    """whether the work waits for more than processors, so that seconds of the process say nothing"""
    notes: list[str] = field(default_factory=list)

    def columns(self) -> dict[str, dict[str, list[float]]]:
        """Heading -> name -> times that ours is faster in each round.

        Of the process with the fewest threads, of the wall with the most.
        """
        few, many = min(self.seconds), max(self.seconds)
        wall = {f"wall time, {threads_of(many)}": self.faster(many, 1)}
        if self.waits or torch.accelerator.is_available():
            return wall
        return {f"CPU time, {threads_of(few)}": self.faster(few, 0)} | wall

    def faster(self, threads: int, kind: int) -> dict[str, list[float]]:
        """name -> ratios; kind: 0 process, 1 wall."""
        ours, *others = self.seconds[threads]
        base = self.seconds[threads][ours]
        return {name: [own[kind] / mine[kind] for own, mine in zip(self.seconds[threads][name], base, strict=True)]
                for name in others}  # fmt: skip

    def table(self) -> str:
        """As Markdown."""
        columns = self.columns()
        heads = [self.title, "wall time", *(f"ours is faster, {name}" for name in columns)]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for name, found in self.seconds[max(self.seconds)].items():
            cells = [spread(ratios[name]) if name in ratios else "" for ratios in columns.values()]
            lines.append(f"| {name} | {self.pace(found)} | {' | '.join(cells)} |")
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def pace(self, found: Sequence[tuple[float, float]]) -> str:
        """Milliseconds of the wall for a unit of work, or units in a second."""
        seconds = statistics.median(wall for _, wall in found)
        if seconds >= 1:
            return f"{seconds:.2f} s a {self.unit}"
        return f"{1000 * seconds:,.3g} ms a {self.unit}" if seconds > 2e-3 else f"{1 / seconds:,.0f} {self.plural}/s"

    @property
    def plural(self) -> str:
        return f"{self.unit}es" if self.unit.endswith("ch") else f"{self.unit}s"

    def as_json(self) -> dict[str, Any]:
        """faster: name -> lowest, median and highest ratio of the first column."""
        first = next(iter(self.columns().values()))
        ranges = {name: (min(own), statistics.median(own), max(own)) for name, own in first.items()}
        return {"title": self.title, "unit": self.unit, "faster": ranges, "seconds": self.seconds, "notes": self.notes}


def threads_of(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} x ({min(values):.2f} … {max(values):.2f})"


def options(description: str | None) -> argparse.ArgumentParser:
    """What all cases have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch; the fewest for CPU time")
    parser.add_argument("--peer", nargs="+", default=[], help="parts of the names of those beside ours; none: all")
    return parser


def compare(
    title: str, unit: str, runs: Mapping[str, Callable[[], Go]], given: argparse.Namespace, waits: bool = False
) -> Comparison:
    """
    Args:
        runs: name -> what makes it ready; ours is the first.
        given: of `options`.
        waits: see Comparison.
    """
    ours, *peers = runs
    names = [ours, *(name for name in peers if not given.peer or any(part in name for part in given.peer))]
    ready = {name: runs[name]() for name in names}
    found = Comparison(title, unit, waits=waits)
    for threads in given.threads:
        torch.set_num_threads(threads)
        seconds = found.seconds[threads] = {name: [] for name in names}
        step = max(1, len(names) // given.rounds)  # who comes first pays for what is made for new shapes
        for number in range(given.rounds):
            turn = number * step % len(names)
            for name in names[turn:] + names[:turn]:
                clock, units = ready[name]()
                seconds[name].append((clock.cpu / units, clock.wall / units))
                print(f"{title}: {threads_of(threads)}, {name}: {found.pace(seconds[name][-1:])}", file=sys.stderr)
    return found


def show(comparisons: Callable[[Sequence[str]], Iterator[Comparison]]) -> Callable[[list[str] | None], None]:
    """The script of a case: prints its tables."""

    def report(argv: list[str] | None) -> None:
        for found in comparisons(argv or []):
            print(f"{found.table()}\n", flush=True)

    return report
