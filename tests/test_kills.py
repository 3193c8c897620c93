"""Processes killed at random moments, also while they save: no unreadable state, and the end of an unbroken run.

Each process is forked from a warm parent, trains the tiny model and is sent SIGKILL after a random time; the next one
resumes. `python -m pytest -m slow tests/test_kills.py` does it at least 100 times for each variant.
"""

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main
from model_utils.multitask_model import MultiTaskModel
from tests.processes import forked
from tests.sample_job import arguments
from tests.tiny import tiny_model, tiny_trainer
from trainer.checkpoint import damaged, set_damaged_aside
from trainer.lock import owned
from trainer.monitor import RunLog
from trainer.run_folder import find_state

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
OPTIONS = {"epochs": 2, "save_steps": 2, "logging_steps": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation, FGM, early stopping": {"accumulate": 2, "use_fgm": True, "patience": 6, "eval_steps": 3},
    "bf16, two workers, kept states": {"precision": "bf16", "num_workers": 2, "keep_states": 2},
}


def train(folder: Path, options: dict[str, Any]) -> None:
    """What main.py does around the trainer: lock, newest state, resume, logs cut back."""
    with owned(folder):
        state = find_state(folder, "auto")
        trainer = tiny_trainer(MultiTaskModel.from_pretrained(state) if state else tiny_model(), folder, **options)
        torch.manual_seed(3)
        if state:
            trainer.resume(state)
            if trainer.finished:
                return
        set_damaged_aside(folder / "last")
        trainer.callbacks = [RunLog(folder, trainer.step, trainer.history)]
        trainer.train()


def kill_and_compare(run: Callable[[Path], object], tmp_path: Path, kills: int, seed: int) -> dict[str, int]:
    """Runs killed again and again until `kills` hit; each ends with a process that is left alone, then is compared."""
    whole, rng = tmp_path / "whole", random.Random(seed)
    start = time.monotonic()
    assert forked(partial(run, whole)) == 0
    seconds = time.monotonic() - start
    counts = {"kills": 0, "runs": 0, "half-written folders": 0, "gone to last.previous": 0, "before any save": 0}
    while counts["kills"] < kills:
        folder = tmp_path / f"killed{counts['runs']}"
        counts["runs"] += 1
        for _ in range(8):
            if forked(partial(run, folder), kill_after=rng.random() * seconds) is not None:
                break
            counts["kills"] += 1
            counts["half-written folders"] += any(folder.glob("*.tmp")) or any(folder.glob("states/*.tmp"))
            counts["gone to last.previous"] += not (folder / "last").exists() and (folder / "last.previous").exists()
            counts["before any save"] += not any(folder.glob("last*"))
            for state in ("last", "last.previous", "best"):
                assert not (folder / state).exists() or not damaged(folder / state), state
        assert forked(partial(run, folder)) == 0
        assert_same(folder, whole)
        shutil.rmtree(folder)
    return counts


def assert_same(ours: Path, theirs: Path) -> None:
    """Byte for byte: everything of last/ and best/, and the logs."""
    for part in ("last", "best"):
        names = sorted(path.relative_to(theirs) for path in (theirs / part).rglob("*") if path.is_file())
        assert names == sorted(path.relative_to(ours) for path in (ours / part).rglob("*") if path.is_file())
        for name in names:
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    for log in ("log.json", "metrics.jsonl"):
        assert (ours / log).read_bytes() == (theirs / log).read_bytes(), log
    assert curves(ours) == curves(theirs)
    weights = load_file(ours / "best" / "encoder" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, but for how fast it was."""
    board = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0}).Reload()
    tags = [tag for tag in board.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in tags}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hundred_kills(tmp_path, variant):
    run = partial(train, options=OPTIONS | VARIANTS[variant] | {"save_steps": 1})
    counts = kill_and_compare(run, tmp_path, kills=100, seed=2)
    print(f"\n{variant}: {json.dumps(counts)}")
    assert counts["half-written folders"] > 0, "no kill hit a save"


def test_main_is_killed(data, tmp_path):
    kill_and_compare(job(data, streaming=False, num_workers=0), tmp_path, kills=1, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize(("streaming", "workers"), [(False, 2), (True, 2)])
def test_main_is_killed_often(data, tmp_path, streaming, workers):
    counts = kill_and_compare(job(data, streaming, workers), tmp_path, kills=20, seed=4)
    print(f"\nmain.py, streaming {streaming}, {workers} workers: {json.dumps(counts)}")


def job(data: Path, streaming: bool, num_workers: int) -> Callable[[Path], int]:
    """The same command each time, in a current folder of its own: its arguments stand in last/trainer_state.json."""
    options = {"save_steps": 5, "do_eval": None, "streaming": streaming, "num_workers": num_workers, "use_fgm": True}

    def run(folder: Path) -> int:
        os.chdir(folder.parent)
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        return main.run(arguments(data, ".", **options))

    return run
