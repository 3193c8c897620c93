"""--profile: a trace that is JSON, a table that names what the model does, and the same training as without."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import tiny_model, tiny_trainer
from trainer.profiler import Profile


def trained(folder: Path | None = None, steps: int = 2, **options: Any) -> Any:
    """A trainer after 7 steps of two micro-batches each, of which the third and fourth are recorded."""
    torch.manual_seed(0)
    trainer = tiny_trainer(tiny_model(), epochs=1, accumulate=2, **options)
    if folder is None:
        trainer.train()
        return trainer
    with Profile(trainer, steps, folder, skipped=2):
        trainer.train()
    return trainer


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("run") / "profile"
    return trained(folder), folder


def recorded(folder: Path) -> list[str]:
    """Names of the events."""
    with gzip.open(folder / "trace.json.gz", "rt", encoding="utf-8") as file:
        return [event.get("name", "") for event in json.load(file)["traceEvents"]]


def test_trace_and_table(profiled: tuple[Any, Path]) -> None:
    _, folder = profiled
    names = recorded(folder)
    assert sum(name.startswith("ProfilerStep#") for name in names) == 2
    assert [names.count(part) for part in ("forward", "backward", "optimizer")] == [4, 4, 2]
    assert names.count("aten::embedding") == 4 * 3, "words, places and types of each micro-batch"
    assert names.count("aten::_fused_adamw_") > 0
    table = (folder / "table.txt").read_text(encoding="utf-8")
    for name in ("aten::addmm", "aten::mm", "forward", "backward", "Self CPU %", "ProfilerStep*"):
        assert name in table, name
    assert table.startswith("2 steps of the optimizer on cpu.") and "CUDA" not in table


def test_nothing_is_in_the_way_afterwards(profiled: tuple[Any, Path]) -> None:
    """The trainer's own methods are called again; weights and history are those of a run that was not recorded."""
    watched, plain = profiled[0], trained()
    assert watched.take_step.__func__ is type(watched).take_step
    assert type(watched.train_step.speed) is type(plain.train_step.speed)
    assert watched.history == plain.history and watched.step == plain.step == 7
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(weight, watched.model.state_dict()[name]), name


def test_a_run_that_ends_before_the_first_of_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path / "profile", max_steps=1)
    assert not (tmp_path / "profile").exists() and "no profile: training ended before" in caplog.text


@pytest.mark.slow
def test_a_run_that_ends_between_them_keeps_what_there_was(tmp_path: Path) -> None:
    trained(tmp_path / "profile", steps=100, max_steps=3)
    assert recorded(tmp_path / "profile").count("optimizer") == 1
