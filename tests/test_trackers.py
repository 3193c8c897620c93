"""trainer/trackers.py with libraries that only write down how they are called."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import main
from model_utils.multitask_model import MultiTaskModel
from tests.sample_job import arguments, read
from tests.tiny import tiny_model, tiny_trainer
from trainer.monitor import RunLog
from trainer.trackers import Tracker, last_steps

NAMES = ["trackio", "swanlab", "wandb"]
FAKE = """
import json
def note(*call):
    with open({calls!r}, "a") as file:
        file.write(json.dumps(call) + "\\n")
def init(**named): note("init", named)
def log(values, step): note("log", step, values)
def finish(): note("finish")
"""


class Calls:
    """Of a fake library."""

    def __init__(self, file: Path):
        self.file = file

    def __call__(self, verb: str) -> list[Any]:
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == verb]


@pytest.fixture(params=NAMES)
def library(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Calls]:
    """A name that imports a fake, and its calls."""
    return fake(request.param, tmp_path, monkeypatch)


def fake(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, source: str = FAKE) -> tuple[str, Calls]:
    calls = folder / "calls.jsonl"
    (folder / f"{name}.py").write_text(source.format(calls=str(calls)), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv(f"{name.upper()}_PROJECT", "ours")
    return name, Calls(calls)


def test_what_a_run_tells_a_library(library: tuple[str, Calls], tmp_path: Path) -> None:
    name, calls = library
    folder = tmp_path / "run"
    folder.mkdir()
    with Tracker(name, folder, {"lr": 1e-3}) as tracker:
        tracker("log", 5, {"loss": 2.0, "lr/encoder": 1e-3})
        tracker("speed", 5, {"samples/s": 10.0})
        tracker("machine", 5, {"cpu_percent": 50.0})
        tracker("eval", 5, {"intent/accuracy": 0.5})
        tracker("epoch", 5, {"history": []})
    [[init]] = calls("init")
    number = read(folder / "tracker.json")[name]
    assert init["config"] == {"lr": 1e-3} and init["project"] == "ours" and init["name"] == f"run-{number}"
    assert init["resume"] == "allow" and init.get("id") == (None if name == "trackio" else number)
    assert calls("log") == [
        [5, {"train/loss": 2.0, "train/lr/encoder": 1e-3}], [5, {"speed/samples/s": 10.0}],
        [5, {"machine/cpu_percent": 50.0}], [5, {"eval/intent/accuracy": 0.5}],
    ]  # fmt: skip
    assert calls("finish") == [[]]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at step 10, two after the last state: each step comes once, with the values of the unbroken run."""
    name, calls = fake("wandb", tmp_path, monkeypatch)
    folder = tmp_path / "run"

    def start(model: Any, interrupted: bool) -> None:
        torch.manual_seed(0)
        trainer = tiny_trainer(model, folder, epochs=1, logging_steps=2, save_steps=8, async_save=False)
        if not interrupted:
            trainer.resume(folder / "last")
        with Tracker(name, folder, {"lr": 0.01}) as tracker:
            trainer.callbacks += [tracker, RunLog(folder, trainer.step, trainer.history, tensorboard=False)]
            if interrupted:
                trainer.callbacks.append(stop)
            trainer.train()

    def stop(event: str, step: int, values: Any) -> None:
        if event == "speed" and step == 10:
            raise KeyboardInterrupt

    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        start(tiny_model(), interrupted=True)
    assert calls("finish") == [[]], "a run that is interrupted is finished, too"
    start(MultiTaskModel.from_pretrained(folder / "last"), interrupted=False)
    [first], [second] = calls("init")
    assert first == second and len(calls("finish")) == 2
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12, 13]
    expected = [[line.pop("step"), named(line)] for line in lines]
    assert [call for call in calls("log") if "speed/seconds" not in call[1]] == expected
    assert [step for step, values in calls("log") if "speed/seconds" in values] == [2, 4, 6, 8, 10, 12]


def named(line: dict[str, Any]) -> dict[str, Any]:
    kind = line.pop("kind")
    return {f"{kind}/{name}": value for name, value in line.items()}


def test_a_new_library_gets_a_run_of_its_own_with_all_later_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another one was sent says nothing about it; a line that was cut off does not count."""
    fake("wandb", tmp_path, monkeypatch)
    _, calls = fake("trackio", tmp_path, monkeypatch)
    line = '{"step": 20, "kind": "train"}\n{"step": 15, "kind": "eval"}\n{"step": 25, "kind": "tr'
    (tmp_path / "metrics.jsonl").write_text(line, encoding="utf-8")
    (tmp_path / "tracker.json").write_text('{"wandb": "abc"}', encoding="utf-8")
    assert last_steps(tmp_path / "metrics.jsonl") == {"train": 20, "eval": 15}
    Tracker("trackio", tmp_path, {})("log", 18, {"loss": 1.0})
    assert read(tmp_path / "tracker.json")["wandb"] == "abc" and len(calls("log")) == 1
    tracker = Tracker("wandb", tmp_path, {})
    for event, step in (("log", 20), ("speed", 20), ("eval", 15), ("eval", 20), ("log", 21)):
        tracker(event, step, {"x": 1.0})
    assert [step for step, _ in calls("log")][1:] == [20, 21]


def test_a_library_that_fails_later_does_not_end_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake("wandb", tmp_path, monkeypatch, FAKE + "\ndef log(values, step): raise OSError('no route to host')\n")
    with Tracker("wandb", tmp_path, {}) as tracker:
        tracker("log", 1, {"loss": 1.0})
        tracker("log", 2, {"loss": 1.0})
    assert caplog.text.count("wandb: no route to host; training goes on") == 1


def test_a_library_that_does_not_begin_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake("wandb", tmp_path, monkeypatch, FAKE + "\ndef init(**named): raise RuntimeError('api_key not configured')\n")
    assert main.run([], lambda _: Tracker("wandb", tmp_path, {}).__exit__()) == 2
    assert capsys.readouterr().err == "error: tracker: wandb: api_key not configured\n"
    assert not (tmp_path / "tracker.json").exists()


@pytest.mark.parametrize("leftover", [False, True])
def test_a_missing_library_is_named_before_anything_begins(
    leftover: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """leftover: the folder that wandb makes where it runs; it looks like a package."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if not has(p, "wandb"))])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    if leftover:
        (tmp_path / "wandb").mkdir()
    assert main.run(arguments(data, tmp_path / "run", tracker="wandb")) == 2 and not (tmp_path / "run").exists()
    assert capsys.readouterr().err == "error: arguments: tracker: wandb is not installed: pip install wandb\n"


def has(path: str, name: str) -> bool:
    return (Path(path) / name / "__init__.py").exists()
