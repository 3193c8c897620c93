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

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import chain
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

from .rounds import Clock, Comparison, Go, compare, options, show

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


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.add_argument("--parameters", type=int, default=100_000_000)
    parser.add_argument("--folder", help="a folder on the disk to write to; default: that of temporary files")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        yield from save_in_turn(given.parameters, given, Path(folder))


def save_in_turn(parameters: int, given: Any, folder: Path) -> list[Comparison]:
    """Each method has a process of its own, so that none finds memory that another has left; one works at a time."""
    torch.set_num_threads(1)
    parts = trained(parameters)
    fork = get_context("fork")  # the processes share the state
    names = [name for name in METHODS if name == "ours" or not given.peer or any(part in name for part in given.peer)]
    saves: list[dict[str, list[Go]]] = [{name: [] for name in names} for _ in range(2)]
    with ExitStack() as stack:
        processes = {name: stack.enter_context(ProcessPoolExecutor(1, fork, prepare, (name, *parts, folder / name)))
                     for name in names}  # fmt: skip
        memory = {name: process.submit(first_save).result() for name, process in processes.items()}
        turns = [names[number % len(names) :] + names[: number % len(names)] for number in range(given.rounds)]
        for name in chain.from_iterable(turns):
            for kind, clock in enumerate(processes[name].submit(next_save).result()):
                saves[kind][name].append(lambda clock=clock: (clock, 1))  # type: ignore[misc]
    given.threads = [1]
    of = [compare(title, "save", {name: partial(replay, iter(found)) for name, found in own.items()}, given, waits=True)
          for title, own in zip(("training waits", "until all is on the disk"), saves, strict=True)]  # fmt: skip
    of[1].notes.append("Memory: " + ", ".join(f"{name} {size:.2f} GiB" for name, size in memory.items()) + ".")
    return of


def replay(found: Iterator[Go]) -> Go:
    """What was measured, round by round."""
    return lambda: next(found)()


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


def next_save() -> tuple[Clock, Clock]:
    """Until training may go on, and until all is on the disk."""
    waits, whole = Clock(), Clock()
    waits.start()
    whole.start()
    finish = THIS["save"]()
    waits.stop()
    finish()
    whole.stop()
    return waits, whole


def resident(kind: str, reset: bool = False) -> int:
    """Bytes of this process in memory, now (VmRSS) or at most since the last reset (VmHWM)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
