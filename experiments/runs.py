"""Runs of main.py as processes of their own: finished ones are not repeated, interrupted ones go on, several at once.

run_all([Run(["--config", "configs/snips.yaml", "--seed", "1"], Path("output/seeds/1"))], parallel=2)
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

import torch

from config import get_args


@dataclass
class Run:
    """One job and its folder."""

    argv: list[str]
    folder: Path
    part: str = "test"
    """which metrics are wanted: "test" or "eval" """

    @property
    def metrics_file(self) -> Path:
        return self.folder / f"{self.part}_metrics.json"

    def metrics(self) -> dict[str, float]:
        return json.loads(self.metrics_file.read_text(encoding="utf-8"))

    @property
    def wrong_file(self) -> Path:
        return self.folder / "errors" / f"{self.part}.jsonl"

    def right(self) -> list[bool]:
        """Whether each record of this part was labelled wholly right, in the order of the file."""
        with open(self.wrong_file, encoding="utf-8") as lines:  # not splitlines, which cuts at U+2028 in a text, too
            wrong = {json.loads(line)["sample_id"] for line in lines}
        splits, info = (
            json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("splits", "dataset_info")
        )
        return [number not in wrong for number in splits.get(self.part, range(info[self.part]["records"]))]


def run_all(runs: Sequence[Run], parallel: int = 1, keep_weights: bool = True) -> None:
    """Train and evaluate what is not finished; exits with the code of a run that fails.

    Args:
        parallel: runs at the same time. Where there are several GPUs each run sees one of them, in turn.
        keep_weights: False deletes the weights of each run that is finished, and keeps its figures.
    """

    def done(run: Run, place: int) -> int:
        if not (code := start(run, place)) and not keep_weights:
            drop_weights(run.folder)
        return code

    due = [run for run in runs if not finished(run)]
    if parallel == 1:
        codes: Iterable[int] = (done(run, 0) for run in due)
    else:
        places: Queue[int] = Queue()
        for place in range(parallel):
            places.put(place)

        def take_place(run: Run) -> int:
            place = places.get()
            try:
                return done(run, place)
            finally:
                places.put(place)

        with ThreadPoolExecutor(parallel) as pool:
            codes = list(pool.map(take_place, due))
    if failed := next((code for code in codes if code), 0):
        sys.exit(failed)


def finished(run: Run) -> bool:
    """Scored, and with these very arguments; main.py itself decides what to do with others."""
    state = run.folder / "last/trainer_state.json"
    if not (run.metrics_file.exists() and state.exists()):
        return False
    given = asdict(get_args(arguments(run)))
    saved = json.loads(state.read_text(encoding="utf-8"))["arguments"]
    return given == {name: saved.get(name) for name in given}


def drop_weights(folder: Path) -> None:
    """Of a finished run; `finished` still knows it."""
    shutil.rmtree(folder / "last.previous", ignore_errors=True)
    for file in folder.rglob("*.safetensors"):
        file.unlink()


def arguments(run: Run) -> list[str]:
    return [*run.argv, "--output_dir", str(run.folder), "--do_train", "--do_eval"]


def start(run: Run, place: int) -> int:
    env = dict(os.environ)
    if (count := torch.cuda.device_count()) > 1:
        env["CUDA_VISIBLE_DEVICES"] = str(place % count)
    return subprocess.run([sys.executable, "main.py", *arguments(run)], check=False, env=env).returncode
