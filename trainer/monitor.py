"""Where the trainer's figures go: metrics.jsonl, log.json, speed.json and TensorBoard.

    log = RunLog("output/run", trainer.step, trainer.history)
    trainer.callbacks.append(log)

A callback is a function `callback(event, step, values)`; the trainer calls it on rank 0 with
    "log"    means over the last logging_steps: loss, <task>/loss, lr …
    "speed"  records/s, where the time went … since the "log" before, see speed.py
    "machine"  CPU, memory, GPUs … since the "log" before, see machine.py
    "total"  the same of the whole training, at its end
    "eval"   all metrics of an evaluation
    "epoch"  {"history": one entry per finished epoch or evaluation}

Copy: with checkpoint.py; needs torch, numpy, safetensors; can use tensorboard.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .checkpoint import write_json, write_text

KINDS = {"log": "train", "eval": "eval", "speed": "speed", "machine": "machine"}  # event -> first part of the names


class RunLog:
    """Steps only rise: what an interrupted run logged after its last saved state is cut off when it is resumed."""

    def __init__(
        self,
        folder: str | Path,
        resume_step: int = 0,
        history: Sequence[Mapping[str, Any]] = (),
        tensorboard: bool = True,
    ):
        """history: of the resumed state; the evaluation of its very step may still be to come."""
        self.folder = Path(folder)
        self.metrics = self.folder / "metrics.jsonl"
        evaluated = history[-1]["step"] if history else 0
        known = {"train": resume_step, "eval": evaluated}
        lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True) if self.metrics.exists() else []
        whole = [(json.loads(line), line) for line in lines if line.endswith("\n")]
        kept = [(values, line) for values, line in whole if values["step"] <= known[values["kind"]]]
        write_text(self.metrics, "".join(line for _, line in kept))
        write_json(self.folder / "log.json", list(history))
        self.writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # it forgets whole steps; what is known of the last one is drawn again
            self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=resume_step)
            for values, _ in kept:
                if values["step"] == resume_step:
                    self.draw(values)

    def __call__(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        if event == "epoch":
            write_json(self.folder / "log.json", values["history"])
            return
        if event == "total":
            write_json(self.folder / "speed.json", values)
            return
        line = {"step": step, "kind": KINDS[event], **values}
        if event in ("speed", "machine"):  # not in metrics.jsonl, which is the same for the same run
            self.draw(line)
            return
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.draw(line)

    def draw(self, line: Mapping[str, Any]) -> None:
        if self.writer is not None:
            for name, value in line.items():
                if name not in ("step", "kind"):
                    self.writer.add_scalar(f"{line['kind']}/{name}", value, line["step"])
            self.writer.flush()
