"""Saved states that are damaged, planted, or do not fit on the disk, and losses that are NaN."""

import os
import pickle
import re
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.faults.job import Job
from tests.faults.kills import Counts, die, in_the_end, whole_run
from tests.faults.process import FINAL, Ended, copied, finite, note, run, same_weights

SAVED = 8  # step of the newest state; the process is killed in step 10


def truncate(file: Path, _: int) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path, turn: int) -> None:
    """One bit, at a quarter, the half or three quarters of the file."""
    content = bytearray(file.read_bytes())
    content[len(content) * (turn + 1) // 4] ^= 0x10
    file.write_bytes(content)


def delete(file: Path, _: int) -> None:
    file.unlink()


def interrupted(peer: Any, folder: Path) -> tuple[Path, Path, list[Path]]:
    """The output folder of a killed run, a copy of it to begin with each time, the files of its newest state."""
    output = folder / "run"

    def die_when_saved() -> None:  # a thread of this project may still be writing
        while peer.saved_step(output) != SAVED:
            time.sleep(0.01)
        die()

    run(peer, output, Job(at={SAVED + 2: die_when_saved}))
    assert peer.saved_step(output) == SAVED
    return output, copied(output, folder / "before"), [file.relative_to(output) for file in peer.state_files(output)]


def damaged_files(peer: Any, folder: Path, trials: int, damage: Callable[[Path, int], None], turns: int = 1) -> Counts:
    """Each file of the newest saved state in turn, then the same call again. Compared with the unbroken run and with a
    resume from the undamaged state."""
    whole = whole_run(peer, folder / "whole", Job())
    output, before, files = interrupted(peer, folder)
    control = run(peer, output, Job())
    shutil.copy(note(output, FINAL), note(folder / "control", FINAL))
    counts: Counts = Counter()
    for file in files:
        for turn in range(turns):
            damage(copied(before, output) / file, turn)
            ended = run(peer, output, Job())
            exact = ended.done and any(same_weights(output, other) for other in (whole, folder / "control"))
            counts[outcome(ended, control, file, exact)] += 1
    return counts


def outcome(ended: Ended, control: Ended, file: Path, exact: bool) -> str:
    """What was said is what an undamaged resume does not say."""
    names = (file.name, file.parent.name)
    if not ended.done:
        return f"refused, {'' if any(name in ended.error for name in names) else 'not '}naming the file or checkpoint"
    new = set(plain(ended.output)) - set(plain(control.output))
    said = any(name in line for name in (*names, "checkpoint") for line in new)
    used = {SAVED: "goes on from it", 0: "starts anew at step 0"}.get(ended.start, "goes on from the state before")
    return f"{used}, {'with a warning' if said else 'nothing said'}, {'same' if exact else 'other'} weights"


def plain(output: str) -> list[str]:
    return [re.sub(r"\d+", "0", line) for line in output.splitlines()]


def nan_loss(peer: Any, folder: Path, trials: int) -> Counts:
    """In step 5 of a fresh run."""
    output = folder / "run"
    ended = run(peer, output, Job(nan_at=5))
    said = "said" if re.search(r"non-finite|\bnan\b", ended.output, re.IGNORECASE) else "not said"
    told = f"{said} on the console, loss in the log of step 5: {peer.logged_loss(output, 5)}"
    if not ended.done:
        return Counter([f"stops, exit code {ended.code}, newest state of step {peer.saved_step(output)}; {told}"])
    weights = "finite" if finite(output) else "NaN"
    return Counter([f"runs to the end, exit code 0, final weights {weights}; {told}"])


def full_disk(peer: Any, folder: Path, trials: int) -> Counts:
    """From step 7 on no file may reach the size of each large file of a state in turn; then without limit."""
    whole = whole_run(peer, folder / "whole", Job())
    _, _, files = interrupted(peer, folder)
    sizes = sorted({size for file in files if (size := (folder / "before" / file).stat().st_size) > 6000})
    counts: Counts = Counter()
    for size in sizes:
        output = folder / f"limit{size}"

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, size - 1))

        ended = run(peer, output, Job(at={7: limit}))
        how = "one line" if "Traceback" not in ended.output else "traceback"
        after = in_the_end(run(peer, output, Job()), output, whole)
        counts[f"exit code {ended.code}, {how}; with space again: {after}"] += 1
    return counts


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


def planted_code(peer: Any, folder: Path, trials: int) -> Counts:
    """Each file of the newest state replaced by a pickle that runs code, plain and as torch.save writes it."""
    output, before, files = interrupted(peer, folder)
    marker = folder / "marker"
    counts: Counts = Counter()
    for file in files:
        for write in (plant_plain, plant_zip):
            write(copied(before, output) / file, Planted(marker))
            peer.repair(output)
            ended = run(peer, output, Job())
            ran = marker.exists()
            shutil.rmtree(marker, ignore_errors=True)
            counts["code was run" if ran else f"no code run, {'goes on' if ended.done else 'refused'}"] += 1
    return counts


def plant_plain(file: Path, planted: Planted) -> None:
    file.write_bytes(pickle.dumps(planted))


def plant_zip(file: Path, planted: Planted) -> None:
    torch.save({"state": planted}, file)
