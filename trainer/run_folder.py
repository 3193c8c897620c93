"""last/, best/ and, if wanted, older states of a run.

folder = RunFolder("output/run", save_pretrained)       # save_pretrained(path) writes the model into a folder
folder.save_last(trainer.state_dict())                  # enough to resume
folder.save_best({"epoch": 3, "eval": metrics})         # enough to predict
trainer.load_state_dict(read_state("output/run/last"))
"""

import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import distributed
from .checkpoint import (
    CheckpointError,
    damaged,
    load_tree,
    newest_whole,
    read_json,
    save_tree,
    write_folder,
    write_json,
)


class RunFolder:
    """Rank 0 writes, the others wait; every folder is whole or not there (see checkpoint.py)."""

    def __init__(
        self,
        output_dir: str | Path,
        save_pretrained: Callable[[Path], None],
        arguments: Mapping[str, Any] | None = None,
        keep_states: int = 0,
    ):
        """
        Args:
            arguments: written into trainer_state.json, for comparison on resume.
            keep_states: how many states stay in states/step-N beside last/; 0 = none.
        """
        self.output_dir = Path(output_dir)
        self.save_pretrained = save_pretrained
        self.arguments, self.keep_states = dict(arguments or {}), keep_states

    def save_last(self, state: Mapping[str, Any]) -> None:
        """state: `progress`, plain values that people may read, and `tensors`, nested state dicts."""

        def write(folder: Path) -> None:
            self.save_pretrained(folder)
            save_tree(folder / "trainer.safetensors", state["tensors"])
            write_json(folder / "trainer_state.json", {**state["progress"], "arguments": self.arguments})

        self._write("last", write, keep_previous=True)
        if self.keep_states:
            name = f"states/step-{state['progress']['step']}"
            self._write(name, partial(link_files, self.output_dir / "last"), keep_previous=False)
            self._prune()

    def save_best(self, metrics: Mapping[str, Any]) -> None:
        def write(folder: Path) -> None:
            self.save_pretrained(folder)
            write_json(folder / "metrics.json", metrics)

        self._write("best", write, keep_previous=False)

    def _write(self, name: str, write: Callable[[Path], None], keep_previous: bool) -> None:
        if distributed.rank() == 0:
            write_folder(self.output_dir / name, write, keep_previous)
        distributed.barrier()

    def _prune(self) -> None:
        """Delete all but the newest keep_states of states/."""
        if distributed.rank() == 0:
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


def read_state(folder: str | Path) -> dict[str, Any]:
    """What `save_last` wrote; tensors on the CPU."""
    folder = Path(folder)
    return {"progress": read_json(folder / "trainer_state.json"), "tensors": load_tree(folder / "trainer.safetensors")}


def find_state(output_dir: str | Path, resume: str) -> Path | None:
    """The state that training goes on from; None for a new run. Raises CheckpointError.

    Args:
        resume: "auto": output_dir/last if it is there; "never": a new run, refused if it is there; else a path to one.
    """
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
