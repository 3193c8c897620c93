"""A training run in a process of its own, forked from a warm parent: how it ended, what it said, its final weights."""

import json
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.faults.job import Job

FINAL, PATIENCE = "final.safetensors", 120  # seconds after which a run counts as hanging


@dataclass
class Ended:
    """code: as a shell counts, -9 for SIGKILL; step: where the run ended, start: where it had begun (-1: unknown)."""

    code: int
    step: int
    start: int
    error: str
    output: str

    @property
    def done(self) -> bool:
        return self.code == 0 and self.step >= 0


def run(peer: Any, folder: Path, job: Job, kill: Callable[[int, Path], Any] | None = None) -> Ended:
    """Train in a new process to its end. kill(pid, folder) may send a signal meanwhile."""
    pid = start(peer, folder, job)
    if kill is not None:
        kill(pid, folder)
    return wait(pid, folder)


def start(peer: Any, folder: Path, job: Job, name: str = "") -> int:
    """name: of its notes, if several run in one folder."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        redirect(note(folder, "log", name))
        code = execute(peer, folder, job, note(folder, "json", name))
    finally:
        os._exit(code)


def note(folder: Path, kind: str, name: str = "") -> Path:
    return folder.with_name(f"{folder.name}{name}.{kind}")


def redirect(file: Path) -> None:
    """Everything that is printed or logged from here on goes to the file."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(handle, number)
    logging.basicConfig(level=logging.WARNING, force=True)


def execute(peer: Any, folder: Path, job: Job, ended: Path) -> int:
    """The exit code that Python would give, or the error's own. Leaves the final weights and how it ended."""
    ended.unlink(missing_ok=True)
    error, code, step = "", 0, -1
    try:
        model, step = peer.train(folder, job)
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(weights, ended.with_suffix(".tmp"))
        ended.with_suffix(".tmp").replace(ended.with_suffix(f".{FINAL}"))
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except Exception as exception:
        code, error = getattr(exception, "exit_code", 1), f"{type(exception).__name__}: {exception}"
        if hasattr(exception, "exit_code"):  # as main.py does it
            print(f"error: {exception}", file=sys.stderr)
        else:
            traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    ended.write_text(json.dumps({"step": step, "start": max(step - job.taken, -1), "error": error}), "utf-8")
    return code


def wait(pid: int, folder: Path, name: str = "") -> Ended:
    deadline = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            deadline += PATIENCE
        time.sleep(0.005)
    ended = note(folder, "json", name)
    values = json.loads(ended.read_text("utf-8")) if ended.exists() else {"step": -1, "start": -1, "error": ""}
    output = note(folder, "log", name).read_text("utf-8", errors="replace")
    return Ended(os.waitstatus_to_exitcode(status), output=output, **values)


def weights(folder: Path, name: str = "") -> dict[str, torch.Tensor]:
    return load_file(note(folder, FINAL, name))


def same_weights(one: Path, other: Path, name: str = "") -> bool:
    """Bit by bit."""
    ours, theirs = weights(one, name), weights(other)
    bits = [value.contiguous().view(torch.uint8) for value in (*ours.values(), *theirs.values())]
    half = len(ours)
    return ours.keys() == theirs.keys() and all(map(torch.equal, bits[:half], bits[half:]))


def finite(folder: Path) -> bool:
    return all(bool(value.isfinite().all()) for value in weights(folder).values())


def copied(folder: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(folder, target)
