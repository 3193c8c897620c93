"""The table for people who come from transformers.Trainer: complete, and everything it names is there."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "from_transformers_trainer.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:3] for line in TEXT.splitlines() if line.startswith("| `")]


def test_no_method_is_missing() -> None:
    from transformers import Trainer

    own = {"evaluate", "predict", "train", "log_metrics", "metrics_format", "save_metrics", "save_state"}  # mixed in
    public = {name for name, value in vars(Trainer).items() if not name.startswith("_") and inspect.isfunction(value)}
    public |= {name for name in own if callable(getattr(Trainer, name))}
    named = {name for left, _ in ROWS for name in re.findall(r"`(\w+)`", left)}
    assert public - named == set()
    assert named - public - {"compute_metrics"} <= {name for name in dir(Trainer) if not name.startswith("_")}


def exists(name: str, module: str) -> bool:
    found = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            return part in getattr(found, "__annotations__", {}) or self_attribute(found, part)
        found = getattr(found, part)
    return True


def self_attribute(cls: object, name: str) -> bool:
    return inspect.isclass(cls) and f"self.{name}" in inspect.getsource(cls)


MODULES = {
    "Trainer": "trainer.trainer", "TrainStep": "trainer.step", "Head": "model_utils.heads.sequence_classification",
    "RunFolder": "trainer.run_folder", "RunLog": "trainer.monitor", "Data": "data_process.build", "Job": "main",
    "make_autocast": "trainer.device", "build_optimizer": "model_utils.optim", "build_scheduler": "model_utils.optim",
    "parameter_groups": "model_utils.optim", "map_loader": "data_loader.build", "stream_loader": "data_loader.build",
    "eval_loader": "data_loader.build", "rank": "trainer.distributed",
}  # fmt: skip


@pytest.mark.parametrize("right", [row[1] for row in ROWS])
def test_what_it_names_exists(right: str) -> None:
    for name in re.findall(r"`([\w.]+)(?:/)?`", right):
        if name.endswith(".py") or "/" in name:
            assert (ROOT / name).exists(), name
        elif name.startswith("main."):
            assert exists(name.removeprefix("main."), "main"), name
        elif name.partition(".")[0] in MODULES:
            assert exists(name, MODULES[name.partition(".")[0]]), name
    for path in re.findall(r"`(\w+/[\w/.]+\.py)`", right):
        assert (ROOT / path).is_file(), path
