"""A run in trackio, swanlab or wandb, with the names that TensorBoard has.

    with Tracker("wandb", "output/run", {"lr": 1e-4}) as tracker:
        trainer.callbacks.append(tracker)       # before RunLog is made, which cuts metrics.jsonl back
        trainer.train()

The run's id is kept in tracker.json, so a resumed run goes on in the same one; steps that were sent before it was
interrupted, and are taken again, are not sent again. The library's own settings (WANDB_MODE, SWANLAB_MODE,
TRACKIO_DIR …) are environment variables.

Copy: with checkpoint.py, monitor.py; needs torch, numpy, safetensors; can use tensorboard.
"""

import importlib
import json
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint import read_json, write_json
from .monitor import KINDS

logger = logging.getLogger(__name__)


class TrackerError(ValueError):
    """A library that is not there, or does not begin a run."""

    exit_code = 2


class Tracker:
    """A callback of the trainer, on rank 0. If the library fails while training goes on, that is logged, once."""

    def __init__(self, name: str, folder: str | Path, config: Mapping[str, Any]):
        """
        Args:
            name: "trackio", "swanlab" or "wandb".
            folder: of the run, whose name the run gets; the project is named by <NAME>_PROJECT in the environment, or
                after the folder in which the process runs.
            config: arguments of the run, plain values.

        Raises: TrackerError.
        """
        folder = Path(folder)
        file = folder / "tracker.json"
        ids = read_json(file) if file.exists() else {}
        self.sent = last_steps(folder / "metrics.jsonl") if name in ids else {}
        ids.setdefault(name, secrets.token_hex(4))
        project = os.environ.get(f"{name.upper()}_PROJECT") or Path.cwd().name
        own: dict[str, dict[str, Any]] = {
            "trackio": {},  # it knows runs by their names
            "swanlab": {"id": ids[name], "log_dir": str(folder / "swanlab")},
            "wandb": {"id": ids[name], "dir": str(folder), "allow_val_change": True},  # on resume
        }
        try:
            self.library = importlib.import_module(name)
            shown = f"{folder.resolve().name}-{ids[name]}"
            self.library.init(project=project, name=shown, config=dict(config), resume="allow", **own[name])
        except Exception as error:
            raise TrackerError(f"tracker: {name}: {error}") from error
        write_json(file, ids)
        self.failed = False

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self.guarded("finish")

    def __call__(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        if event in KINDS and step > self.sent.get("eval" if event == "eval" else "train", 0):
            self.guarded("log", {f"{KINDS[event]}/{name}": value for name, value in values.items()}, step=step)

    def guarded(self, verb: str, *inputs: Any, **named: Any) -> None:
        try:
            getattr(self.library, verb)(*inputs, **named)
        except Exception as error:
            if not self.failed:
                logger.warning("tracker: %s: %s; training goes on", self.library.__name__, error)
            self.failed = True


def last_steps(metrics: Path) -> dict[str, int]:
    """Kind -> step of its last line in metrics.jsonl."""
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True) if metrics.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return {line["kind"]: line["step"] for line in whole}
