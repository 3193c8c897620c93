"""Processes that are killed or asked to stop, and two at once."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.job import STEPS, Job
from tests.faults.process import Ended, run, same_weights, start, wait

Counts = Counter[str]


def running(pid: int) -> bool:
    return not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)


def first_checkpoint(peer: Any, pid: int, output: Path) -> float:
    """Wait for it; the time."""
    while running(pid) and not peer.state_files(output):
        time.sleep(0.001)
    return time.monotonic()


def whole_run(peer: Any, folder: Path, job: Job, watch: Callable[[int, Path], Any] | None = None) -> Path:
    """An unbroken run to compare with."""
    ended = run(peer, folder, job, watch)
    assert ended.done, f"{peer.NAME} does not run at all:\n{ended.output}"
    return folder


def in_the_end(ended: Ended, folder: Path, whole: Path) -> str:
    """Of a run that resumed."""
    if not ended.done:
        return f"does not start again ({ended.error.split(':')[0] or f'exit code {ended.code}'})"
    return "finishes, weights identical" if same_weights(folder, whole) else "finishes, other weights"


def random_kills(peer: Any, folder: Path, trials: int, dropout: float = 0.1) -> Counts:
    """SIGKILL at a random moment after the first checkpoint, then the same call again."""
    whole, rng = folder / "whole", random.Random(1)
    times: list[float] = []
    whole_run(peer, whole, Job(dropout=dropout), lambda pid, output: times.append(first_checkpoint(peer, pid, output)))
    seconds = time.monotonic() - times[0]

    def kill(pid: int, output: Path) -> None:
        first_checkpoint(peer, pid, output)
        time.sleep(rng.random() * seconds)
        os.killpg(pid, signal.SIGKILL)

    return killed_and_resumed(peer, folder, trials, whole, kill, dropout)


def kills_while_saving(peer: Any, folder: Path, trials: int) -> Counts:
    """SIGKILL up to 20 ms after something new appeared in the output folder, after the first checkpoint."""
    whole = whole_run(peer, folder / "whole", Job())
    rng = random.Random(2)

    def kill(pid: int, output: Path) -> None:
        first_checkpoint(peer, pid, output)
        seen = names(output)
        left, delay = rng.randint(1, 10), rng.choice([0.0, rng.uniform(0, 0.02)])
        while left and running(pid):
            found = names(output)
            left -= bool(found - seen)
            seen = found
            time.sleep(0.0005)
        time.sleep(delay)
        os.killpg(pid, signal.SIGKILL)

    return killed_and_resumed(peer, folder, trials, whole, kill)


def names(output: Path) -> set[str]:
    """Everything in it; folders may vanish meanwhile."""
    return {f"{root}/{name}" for root, folders, files in os.walk(output) for name in folders + files}


def killed_and_resumed(
    peer: Any, folder: Path, trials: int, whole: Path, kill: Callable[[int, Path], Any], dropout: float = 0.1
) -> Counts:
    """Counts only trials in which the kill hit a running process."""
    counts: Counts = Counter()
    for number in range(4 * trials):
        if counts.total() == trials:
            break
        output = folder / f"killed{number}"
        if run(peer, output, Job(dropout=dropout), kill).code == -signal.SIGKILL:
            counts[in_the_end(run(peer, output, Job(dropout=dropout)), output, whole)] += 1
    return counts


def early_stopping(peer: Any, folder: Path, trials: int) -> Counts:
    """Learning rate 0: no evaluation is better than the first. Killed in every second step between the second
    evaluation and the third, resumed: does it stop at the same step?"""
    job = partial(Job, lr=0.0, patience=2, epochs=6)
    whole = run(peer, folder / "whole", job())
    assert whole.done, whole.output
    counts: Counts = Counter()
    for step in range(2 * STEPS + 1, 3 * STEPS + 1, 2)[:trials]:
        output = folder / f"killed{step}"
        run(peer, output, job(at={step: die}))
        ended = run(peer, output, job())
        late = ended.step - whole.step
        counts["same step" if ended.done and not late else f"{late:+d} steps" if ended.done else "no start"] += 1
    return counts


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sigterm(peer: Any, folder: Path, trials: int, options_on: bool = False) -> Counts:
    """A signal in step 5; the last state was saved after step 4. Each later step takes half a second."""
    whole = whole_run(peer, folder / "whole", Job())

    def ask() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    slow = {step: partial(time.sleep, 0.5) for step in range(6, 2 * STEPS + 1)}
    output = folder / "stopped"
    ended = run(peer, output, Job(at=slow | {5: ask}, options_on=options_on))
    how = f"killed by signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    saved = peer.saved_step(output)
    after = in_the_end(run(peer, output, Job(options_on=options_on)), output, whole)
    return Counter([f"{how}, newest state of step {saved}; resumed: {after}"])


def two_at_once(peer: Any, folder: Path, trials: int) -> Counts:
    """Both start in one output folder; afterwards the same call once more."""
    whole = whole_run(peer, folder / "whole", Job())
    counts: Counts = Counter()
    for number in range(trials):
        output = folder / f"shared{number}"
        slow = {step: partial(time.sleep, 0.02) for step in range(1, 2 * STEPS + 1)}
        pids = {name: start(peer, output, Job(at=slow), name) for name in ("a", "b")}
        both = [(name, wait(pid, output, name)) for name, pid in pids.items()]
        how = sorted(told(ended, output, whole, name) for name, ended in both)
        counts[f"{' / '.join(how)}; then again: {in_the_end(run(peer, output, Job()), output, whole)}"] += 1
    return counts


def told(ended: Ended, output: Path, whole: Path, name: str) -> str:
    if ended.done:
        return "finishes, weights identical" if same_weights(output, whole, name) else "finishes, other weights"
    if "in use by process" in ended.error:
        return f"refused, exit code {ended.code}"
    return f"traceback ({ended.error.split(':')[0]})"
