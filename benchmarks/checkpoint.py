"""How long training waits for a checkpoint, and how long it takes until all is on the disk.

    python -m benchmarks.checkpoint --parameters 100_000_000 --rounds 5

ours               trainer/run_folder.py: a copy in memory that is kept, written by a thread, with a sha256 of each file
ours, blocking     the same with --async_save false
torch.save         one file, flushed and renamed as ours
DCP save           torch.distributed.checkpoint.save, which flushes its files, too
DCP async_save     with its defaults: new memory for each copy
DCP kept           async_save with a DefaultStager of our own, which keeps its memory

The weights of a stack of linear layers and their state of AdamW in fp32. Each method saves once before, and what it
wrote must be the state bit for bit; that first save shows how much memory it takes. Then all methods save in each
round, in rotated order: ratios are those within a round, medians with the range. Times are those of the wall, because
the disk is part of them; a disk or a processor that others use, too, makes them longer. Linux only.
"""

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

import main
from trainer.checkpoint import flush
from trainer.run_folder import RunFolder, read_state

Tree = dict[str, Any]
# state, folder -> a function that returns as soon as training may go on, with one that returns when all is on the disk
Method = Callable[[Callable[[], Tree], Path], Callable[[], Callable[[], object]]]


def ours(state: Callable[[], Tree], folder: Path, async_save: bool = True) -> Callable[[], Callable[[], object]]:
    def write(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
        save_file(dict(weights), path / "model.safetensors")

    run_folder = RunFolder(folder, write, lambda: state()["model"], async_save=async_save)

    def save() -> Callable[[], object]:
        run_folder.save_last({"progress": {}, "tensors": {"optimizer": state()["optimizer"]}})
        return run_folder.wait

    return save


def ours_blocking(state: Callable[[], Tree], folder: Path) -> Callable[[], Callable[[], object]]:
    return ours(state, folder, async_save=False)


def torch_save(state: Callable[[], Tree], folder: Path) -> Callable[[], Callable[[], object]]:
    def save() -> Callable[[], object]:
        torch.save(state(), folder / "state.tmp")
        flush(folder / "state.tmp")
        (folder / "state.tmp").rename(folder / "state.pt")
        flush(folder)
        return lambda: None

    return save


def dcp_save(state: Callable[[], Tree], folder: Path) -> Callable[[], Callable[[], object]]:
    def save() -> Callable[[], object]:
        dcp.save(state(), checkpoint_id=folder)
        return lambda: None

    return save


def dcp_async(state: Callable[[], Tree], folder: Path, stager: Any = None) -> Callable[[], Callable[[], object]]:
    def save() -> Callable[[], object]:
        running: Any = dcp.async_save(state(), checkpoint_id=folder, async_stager=stager)
        return running.result

    return save


def dcp_kept(state: Callable[[], Tree], folder: Path) -> Callable[[], Callable[[], object]]:
    return dcp_async(state, folder, DefaultStager(StagingOptions(False, False, False, False)))


def read_ours(folder: Path, _: Tree) -> Tree:
    last = folder / "last"
    return {"model": load_file(last / "model.safetensors"), **read_state(last)["tensors"]}


def read_torch(folder: Path, _: Tree) -> Tree:
    return torch.load(folder / "state.pt", weights_only=True, mmap=True)


def read_dcp(folder: Path, like: Tree) -> Tree:
    found = blank(like)
    dcp.load(found, checkpoint_id=folder)
    return found


METHODS: dict[str, tuple[Method, Callable[[Path, Tree], Tree]]] = {
    "ours": (ours, read_ours),
    "ours, blocking": (ours_blocking, read_ours),
    "torch.save": (torch_save, read_torch),
    "DCP save": (dcp_save, read_dcp),
    "DCP async_save": (dcp_async, read_dcp),
    "DCP kept": (dcp_kept, read_dcp),
}


def trained(parameters: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """About so many weights, after a step of AdamW."""
    torch.manual_seed(0)
    width = min(1024, int((parameters / 2) ** 0.5))
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(round(parameters / (width * width + width)))))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def blank(tree: Any) -> Any:
    """The same with zeros."""
    if isinstance(tree, torch.Tensor):
        return torch.zeros_like(tree)
    if isinstance(tree, Mapping):
        return {key: blank(value) for key, value in tree.items()}
    return [blank(value) for value in tree] if isinstance(tree, list | tuple) else tree


def check(found: Any, expected: Any, name: str) -> None:
    """Raises AssertionError unless all tensors and numbers are the same; a list is as good as a tuple."""
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype and torch.equal(found, expected), name
    elif isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), name
        for key, value in expected.items():
            check(found[key], value, f"{name}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), name
        for number, value in enumerate(expected):
            check(found[number], value, f"{name}.{number}")
    else:
        assert found == expected, name


@dataclass
class Found:
    """Of a method; the lists are those of `next_save`."""

    memory: float
    """GiB that the first save takes at most"""
    waits: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def compare(parameters: int, rounds: int, folder: Path) -> dict[str, Found]:
    """Each method has a process of its own, so that none finds memory that another has left; one works at a time."""
    torch.set_num_threads(1)
    parts = trained(parameters)
    fork, found = get_context("fork"), {}  # the processes share the state
    with ExitStack() as stack:
        processes = {name: stack.enter_context(ProcessPoolExecutor(1, fork, prepare, (name, *parts, folder / name)))
                     for name in METHODS}  # fmt: skip
        for name, process in processes.items():
            found[name] = Found(process.submit(first_save).result())
        names = list(METHODS)
        for number in range(rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                waits, whole, cpu = processes[name].submit(next_save).result()
                print(f"{name}: waits {waits:.3f} s, whole {whole:.2f} s, CPU {cpu:.2f} s", file=sys.stderr)
                for times, seconds in ((found[name].waits, waits), (found[name].whole, whole), (found[name].cpu, cpu)):
                    times.append(seconds)
    return found


def prepare(name: str, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """In the process of a method."""
    warnings.filterwarnings("ignore", message=".*(torch.distributed is disabled|existing checkpoint).*")

    def state() -> Tree:
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    method, read = METHODS[name]
    folder.mkdir()
    THIS["save"] = method(state, folder)
    THIS["check"] = lambda: check(read(folder, state()), state(), name)


THIS: dict[str, Any] = {}


def first_save() -> float:
    """GiB that it takes; what it wrote is checked."""
    before = resident("VmRSS", reset=True)
    THIS["save"]()()
    memory = (resident("VmHWM") - before) / 2**30
    THIS["check"]()
    return memory


def next_save() -> tuple[float, float, float]:
    """Seconds until training may go on, until all is on the disk, and of the process."""
    cpu, start = time.process_time(), time.perf_counter()
    finish = THIS["save"]()
    waits = time.perf_counter() - start
    finish()
    return waits, time.perf_counter() - start, time.process_time() - cpu


def resident(kind: str, reset: bool = False) -> int:
    """Bytes of this process in memory, now (VmRSS) or at most since the last reset (VmHWM)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def table(found: dict[str, Found]) -> str:
    base = found["ours"]
    head = "| | training waits | ours / this | whole save | ours / this | CPU | memory |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, own in found.items():
        cells = [f"{spread(own.waits)} s", ratios(base.waits, own.waits), f"{spread(own.whole)} s",
                 ratios(base.whole, own.whole), f"{statistics.median(own.cpu):.2f} s",
                 f"{own.memory:.2f} GiB"]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} … {max(values):.2f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="a folder on the disk to write to; default: that of temporary files")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print(table(compare(given.parameters, given.rounds, Path(folder))))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
