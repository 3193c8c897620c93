"""Largest difference of the losses between 1, 2 and 4 processes, for each kind of data, of parallelism and of trick.

    python -m tests.world_sizes                # the table of docs/multi_gpu.md, from three runs of torchrun

Micro-batches of 4 samples, 4 of them in a step: all of one process, 2 of each of two, or 1 of each of four. The steps
of 2 epochs, whose last one is short; fp32, no dropout.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch

from tests.processes import torchrun
from tests.tiny import tiny_model, tiny_trainer
from trainer import distributed
from trainer.sharding import shard

DATA = ("map", "iterable", "tasks vary")
PARALLEL = ("ddp", "fsdp")
TRICKS: dict[str, dict[str, Any]] = {"plain": {}, "FGM": {"use_fgm": True}, "EMA": {"use_ema": True}}
CASES = [" ".join(case) for case in product(DATA, PARALLEL, TRICKS)]
NUMBERS = (1, 2, 4)


def train(case: tuple[str, str, str], folder: Path) -> dict[str, Any]:
    """Losses of all steps, metrics of both evaluations, samples of each step in their order, and predictions."""
    data, parallel, trick = case
    rank, world_size = distributed.rank(), distributed.world_size()
    model = tiny_model(dropout=0.0)
    if parallel == "fsdp" and world_size > 1:
        shard(model, "cpu")
    trainer = tiny_trainer(model, rank=rank, world_size=world_size, accumulate=4 // world_size, logging_steps=1,
                           stream=folder / "data.jsonl" if data == "iterable" else None,
                           tasks_vary=data == "tasks vary", **TRICKS[trick])  # fmt: skip
    losses: list[float] = []
    trainer.callbacks = [lambda event, step, values: losses.append(values["loss"]) if event == "log" else None]
    seen: list[list[list[int]]] = []
    trainer.train_step = Noted(trainer.train_step, seen)
    trainer.train()
    batches = [batch for ranks in zip(*distributed.gather(seen), strict=True) for turn in zip(*ranks, strict=True)
               for batch in turn]  # fmt: skip
    result = trainer.predict(trainer.eval_loader)
    return {"losses": losses, "metrics": [entry["eval"] for entry in trainer.history],
            "samples": [number for batch in batches for number in batch if number >= 0],
            "sample_ids": result.sample_ids, "labels": result.labels}  # fmt: skip


class Noted:
    """A training step that notes the sample ids of its micro-batches."""

    def __init__(self, step: Any, seen: list[list[list[int]]]):
        self.step, self.seen = step, seen

    def __call__(self, group: list[dict[str, Any]]) -> Any:
        self.seen.append([batch["sample_id"].tolist() for batch in group])
        return self.step(group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)


def runs(folder: Path) -> dict[int, dict[str, Any]]:
    """Number of processes -> case -> what `train` returns."""
    found = {}
    for number in NUMBERS:
        done = torchrun(number, "-m", "tests.world_sizes", str(folder), timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
        found[number] = json.loads((folder / f"{number}.json").read_text())
    return found


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Of the losses, at most, as a share of them."""
    return max(abs(a - b) / abs(a) for a, b in zip(one["losses"], other["losses"], strict=True))


def table(found: Mapping[int, Mapping[str, Any]]) -> str:
    head = "| data | " + " | ".join(f"{p}, {t}" for p, t in product(PARALLEL, TRICKS)) + " |\n|" + "---|" * 7
    lines = [head]
    for data in DATA:
        cases = [f"{data} {p} {t}" for p, t in product(PARALLEL, TRICKS)]
        cells = [" / ".join(f"{difference(found[1][c], found[n][c]):.0e}" for n in NUMBERS[1:]) for c in cases]
        lines.append(f"| {data} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        with tempfile.TemporaryDirectory() as temporary:
            print(table(runs(Path(temporary))))
    else:
        torch.set_num_threads(1)
        distributed.start("cpu")
        output = Path(sys.argv[1])
        results = {" ".join(case): train(case, output) for case in product(DATA, PARALLEL, TRICKS)}
        if distributed.rank() == 0:
            (output / f"{distributed.world_size()}.json").write_text(json.dumps(results))
