"""last/, best/ and, if wanted, older states of a run.

folder = RunFolder("output/run", model.save_pretrained, model.state_dict)
folder.save_last(trainer.state_dict())                  # enough to resume
folder.save_best({"epoch": 3, "eval": metrics})         # enough to predict
folder.wait()                                           # until both are on the disk
trainer.load_state_dict(read_state("output/run/last"))
"""

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from . import distributed
from .background import Background
from .checkpoint import (
    CheckpointError,
    damaged,
    load_tree,
    newest_whole,
    read_json,
    save_tree,
    while_written,
    write_folder,
    write_json,
)
from .sharded_state import load_shards, new_group, save_shards
from .sharding import gathered

WHOLE, SHARDS = "trainer.safetensors", "trainer"  # a file or a folder of last/


class RunFolder:
    """Rank 0 writes, by default in the background; every folder is whole or not there (see checkpoint.py)."""

    def __init__(
        self,
        output_dir: str | Path,
        save_pretrained: Callable[[Path, Mapping[str, torch.Tensor]], None],
        weights: Callable[[], Mapping[str, torch.Tensor]],
        arguments: Mapping[str, Any] | None = None,
        keep_states: int = 0,
        async_save: bool = True,
        sharded: bool = False,
        describe: Callable[[Mapping[str, Any]], str] | None = None,
    ):
        """
        Args:
            save_pretrained: (path, weights) -> None; writes the model into a folder, perhaps in another thread: it must
                take no weight from the model itself.
            weights: the model's weights as they are, which save_pretrained gets, or a copy of them; of a model that is
                spread (sharding.py) rank 0 gathers them.
            arguments: written into trainer_state.json, for comparison on resume.
            keep_states: how many states stay in states/step-N beside last/; 0 = none.
            async_save: write a copy in a thread while training goes on, and fail at the next call here; the copies,
                whose memory is kept, are those of last/ and of best/. Else the other ranks wait for the disk, too.
            sharded: each rank writes its part of the training state, see sharded_state.py; the model is whole anyway.
            describe: metrics of the best state -> README.md of best/; None: there is none.
        """
        self.output_dir = Path(output_dir)
        self.save_pretrained, self.weights = save_pretrained, weights
        self.arguments, self.keep_states = dict(arguments or {}), keep_states
        self.background = Background() if async_save else None
        self.sharded, self.group = sharded, new_group() if sharded else None
        self.describe = describe

    def save_last(self, state: Mapping[str, Any]) -> None:
        """state: `progress`, plain values that people may read, and `tensors`, nested state dicts."""
        self._save("last", self._write_last, state)

    def save_best(self, metrics: Mapping[str, Any]) -> None:
        self._save("best", self._write_best, {"metrics": metrics})

    def check(self) -> None:
        """Raises SaveError if a state could not be written."""
        if self.background is not None:
            self.background.check()

    def wait(self) -> None:
        """Until all is on the disk. Raises SaveError."""
        if self.background is not None:
            self.background.wait()

    def _save(self, name: str, write: Callable[[Any], None], state: Mapping[str, Any]) -> None:
        state = {**(state if self.sharded else gathered(state)), "weights": gathered(self.weights())}
        if distributed.rank() == 0 or (self.sharded and name == "last"):
            if self.background is not None:
                self.background(name, write, state)
            else:
                write(state)
        if self.background is None:
            distributed.barrier()

    def _write_last(self, state: Mapping[str, Any]) -> None:
        def write(folder: Path) -> None:
            with ThreadPoolExecutor(1) as beside:
                model = beside.submit(self.save_pretrained, folder, state["weights"])
                if self.sharded:
                    self._write_shards(folder, state["tensors"])
                else:
                    save_tree(folder / WHOLE, state["tensors"])
                model.result()
            write_json(folder / "trainer_state.json", {**state["progress"], "arguments": self.arguments})

        last = self.output_dir / "last"
        if distributed.rank() != 0:
            self._write_shards(while_written(last), state["tensors"])
            return
        write_folder(last, write, keep_previous=True)
        if self.keep_states:
            kept = self.output_dir / f"states/step-{state['progress']['step']}"
            write_folder(kept, partial(link_files, last), keep_previous=False)
            self._prune()

    def _write_shards(self, folder: Path, tensors: Mapping[str, Any]) -> None:
        distributed.barrier(self.group)  # until rank 0 has made the folder
        save_shards(folder / SHARDS, tensors, self.group)

    def _write_best(self, state: Mapping[str, Any]) -> None:
        def write(folder: Path) -> None:
            self.save_pretrained(folder, state["weights"])
            write_json(folder / "metrics.json", state["metrics"])
            if self.describe is not None:
                (folder / "README.md").write_text(self.describe(state["metrics"]), encoding="utf-8")

        write_folder(self.output_dir / "best", write, keep_previous=False)

    def _prune(self) -> None:
        """Delete all but the newest keep_states of states/."""
        states = self.output_dir.glob("states/step-*[0-9]")
        for old in sorted(states, key=lambda folder: int(folder.name[5:]))[: -self.keep_states]:
            shutil.rmtree(old)


def link_files(source: Path, target: Path) -> None:
    """Fill a folder with hard links to another's files (copies where the file system has no links)."""

    def link(file: str, copy: str) -> None:
        try:
            os.link(file, copy)
        except OSError:
            shutil.copy2(file, copy)

    own = shutil.ignore_patterns("manifest.json")
    shutil.copytree(source, target, copy_function=link, dirs_exist_ok=True, ignore=own)


def read_state(folder: str | Path, like: Any = None) -> dict[str, Any]:
    """What `save_last` wrote; tensors on the CPU. Where each rank wrote its part, what is spread in `like` is so again.

    A collective operation. Raises CheckpointError.
    """
    folder = Path(folder)
    sharded = (folder / SHARDS).is_dir()
    tensors = load_shards(folder / SHARDS, like) if sharded else load_tree(folder / WHOLE)
    return {"progress": read_json(folder / "trainer_state.json"), "tensors": tensors}


def find_state(output_dir: str | Path, resume: str) -> Path | None:
    """The state that training goes on from, which rank 0 looks for; None for a new run. Raises CheckpointError.

    Args:
        resume: "auto": output_dir/last if it is there; "never": a new run, refused if it is there; else a path to one.
    """
    return distributed.from_rank_0(partial(look_for_state, output_dir, resume))


def look_for_state(output_dir: str | Path, resume: str) -> Path | None:
    if resume not in ("auto", "never"):
        state = Path(resume)
        if not (state / "trainer_state.json").is_file():
            raise CheckpointError(f"resume: there is no saved state at {resume}")
        if damage := damaged(state):
            raise CheckpointError(f"resume: {resume} is damaged: {damage}; give another state, or --resume auto")
        if Path(output_dir, "last").is_dir() and not state.resolve().is_relative_to(Path(output_dir).resolve()):
            raise CheckpointError(f"resume: {output_dir} holds another run; give a new --output_dir, or --resume auto")
        return state
    last = newest_whole(Path(output_dir, "last"))
    if last is not None and resume == "never":
        raise CheckpointError(f"resume: {output_dir} holds a run; give another --output_dir, or --resume auto to go on")
    return last


def find_best(output_dir: str | Path) -> Path:
    """best/, or last/ of a run without evaluation. Raises CheckpointError."""
    best = newest_whole(Path(output_dir, "best")) or newest_whole(Path(output_dir, "last"))
    if best is None:
        raise CheckpointError(f"output_dir: there is no trained model in {output_dir}; train first, or give "
                              "--model_name_or_path a folder with labels.json")  # fmt: skip
    return best
