"""Where the trainer's figures go: metrics.jsonl, log.json and TensorBoard.

    log = RunLog("output/run", resume_step=0)
    Trainer(..., callbacks=[log])

A callback is a function `callback(event, step, values)`; the trainer calls it on rank 0 with
    "log"    means over the last logging_steps: loss, <task>/loss, lr …
    "eval"   all metrics of an evaluation
    "epoch"  {"history": one entry per finished epoch or evaluation}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint import read_json, write_json, write_text


class RunLog:
    """Steps only rise: what an interrupted run logged after its last saved state is cut off when it is resumed."""

    def __init__(self, folder: str | Path, resume_step: int = 0, tensorboard: bool = True):
        self.folder = Path(folder)
        self.metrics = self.folder / "metrics.jsonl"
        lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True) if self.metrics.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= resume_step]
        if kept != lines or not lines:
            write_text(self.metrics, "".join(kept))
        history = self.folder / "log.json"
        if history.exists():
            write_json(history, [entry for entry in read_json(history) if entry["step"] <= resume_step])
        self.writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=resume_step + 1)

    def __call__(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        if event == "epoch":
            write_json(self.folder / "log.json", values["history"])
            return
        kind = "train" if event == "log" else "eval"
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{kind}/{name}", value, step)
            self.writer.flush()
