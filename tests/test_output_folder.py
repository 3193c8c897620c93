"""One owner, no silent mixing of runs: lock, used folders, finished runs, contradicting arguments, kept states."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import main
from tests.sample_job import TASKS, arguments, files, read
from tests.tiny import tiny_model, tiny_trainer
from trainer.lock import OutputError, owned
from trainer.run_folder import find_state, read_state

ROOT = Path(__file__).parents[1]
HOLD = """
import sys, time
from trainer.lock import owned
with owned(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def half(data, tmp_path_factory):
    """A run that was stopped after 30 of 50 steps."""
    output = tmp_path_factory.mktemp("half") / "out"
    argv = arguments(data, output, save_steps=10, max_steps=30, do_eval=None, lr_scheduler="constant")
    assert main.run(argv) == 0
    return output


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out"], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_and_names_the_first(holder, data, tmp_path, capsys):
    assert main.run(arguments(data, tmp_path / "out")) == 2
    message = capsys.readouterr().err
    assert f"out is in use by process {holder.pid} on {socket.gethostname()}; wait for it" in message
    assert message.count("\n") == 1 and files(tmp_path / "out") == {".lock"}


def test_the_lock_of_a_dead_process_is_no_obstacle(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert str(holder.pid) in (tmp_path / "out" / ".lock").read_text()
    with owned(tmp_path / "out"):
        assert (tmp_path / "out" / ".lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"


def test_a_forked_worker_of_a_dead_process_is_waited_for(tmp_path):
    """Workers inherit the lock and notice only after some seconds that the main process is gone."""
    script = f"""
import os, time
from trainer.lock import owned
with owned({str(tmp_path / "out")!r}):
    if os.fork():
        os._exit(0)
    print("held", flush=True)
    time.sleep(2)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    process.wait()
    process.stdout.close()
    with owned(tmp_path / "out"):
        pass


def test_a_failed_start_leaves_no_folder(tmp_path):
    with owned(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / ".lock").exists()
    assert not (tmp_path / "a").exists()
    with owned(tmp_path / "a"):
        (tmp_path / "a" / "result").write_text("1")
    assert (tmp_path / "a" / "result").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="output_dir: cannot write to"), owned(tmp_path / "file"):
        pass


def test_the_same_command_on_a_finished_run_changes_nothing(half, data):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in half.rglob("*") if path.is_file()}
    argv = arguments(data, half, save_steps=10, max_steps=30, do_eval=None, lr_scheduler="constant")
    assert main.run(argv) == 0
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in half.rglob("*") if path.is_file()}
    before.pop(half / ".lock"), after.pop(half / ".lock")
    assert after == before


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "lr": {"lr": 1e-3},
    "head_lr": {"head_lr": 1e-2},
    "max_length": {"max_length": 40},
    "text_column": {"text_column": "words"},
    "model_name_or_path": {"model_name_or_path": "scratch:small"},
    "monitor": {"monitor": "slots/f1"},
    "lr_scheduler": {"lr_scheduler": "linear"},
    "shared_layers": {"shared_layers": 1},
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradicting_arguments_are_named(name, half, data, tmp_path, capsys):
    """Checked against the saved state, before anything is written."""
    out = shutil.copytree(half, tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    options = {"lr_scheduler": "constant", "do_eval": None} | CONTRADICTIONS[name]
    assert main.run(arguments(data, out, **options)) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: arguments: {name}: is ") and message.count("\n") == 1, message
    assert f"in the saved run {out / 'last'}; go on with the same, or begin anew" in message
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("part", ["train", "eval"])
def test_other_data_are_refused(part, half, data, tmp_path, capsys):
    lines = (data / f"{'train' if part == 'train' else 'dev'}.jsonl").read_text().splitlines()
    (tmp_path / "other.jsonl").write_text("\n".join(lines[1:]) + "\n")
    out = shutil.copytree(half, tmp_path / "out")
    options = {"lr_scheduler": "constant", f"{part}_file": tmp_path / "other.jsonl"}
    assert main.run(arguments(data, out, **options)) == 2
    assert f"{part}_data: is not that of the saved run" in capsys.readouterr().err


def test_another_task_list_is_refused(half, data, tmp_path, capsys):
    out = shutil.copytree(half, tmp_path / "out")
    assert main.run(arguments(data, out, lr_scheduler="constant", tasks=json.dumps(TASKS[:1]))) == 2
    assert "tasks: differ from those of" in capsys.readouterr().err


def test_the_same_data_elsewhere_and_a_longer_run_are_welcome(half, data, tmp_path, capsys):
    out = shutil.copytree(half, tmp_path / "out")
    moved = shutil.copy(data / "train.jsonl", tmp_path / "moved.jsonl")
    options = {"lr_scheduler": "constant", "train_file": moved, "save_steps": 10, "max_steps": 40, "do_eval": None}
    assert main.run(arguments(data, out, **options)) == 0
    assert read(out / "last" / "trainer_state.json")["step"] == 40
    out = capsys.readouterr().out
    assert "going on with another value: max_steps 30 -> 40" in out and "train_file" not in out


def test_two_ways_out_of_a_used_folder(half, data, tmp_path, capsys):
    assert main.run(arguments(data, half, resume="never")) == 2
    assert "holds a run; give another --output_dir, or --resume auto to go on" in capsys.readouterr().err
    other = shutil.copytree(half, tmp_path / "other")
    assert main.run(arguments(data, half, resume=other / "last")) == 2
    assert "holds another run; give a new --output_dir, or --resume auto" in capsys.readouterr().err


def test_kept_states_are_the_newest_whole_and_resumable(tmp_path):
    trainer = tiny_trainer(tiny_model(), tmp_path, save_steps=3, epochs=1, keep_states=2)
    trainer.train()
    assert sorted(p.name for p in (tmp_path / "states").iterdir()) == ["step-12", "step-13"]
    for step in (12, 13):
        folder = tmp_path / "states" / f"step-{step}"
        assert find_state(tmp_path, str(folder)) == folder
        assert read_state(folder)["progress"]["step"] == step
    shutil.rmtree(tmp_path / "last")  # they do not depend on it
    assert find_state(tmp_path, str(tmp_path / "states" / "step-13"))


def test_a_damaged_last_state_does_not_push_out_the_good_one(half, data, tmp_path, capsys):
    """Resumed from last.previous; the damaged last/ is set aside, not renamed over the only whole state."""
    out = shutil.copytree(half, tmp_path / "out")
    step = read(out / "last.previous" / "trainer_state.json")["step"]
    weights = out / "last" / "encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    options = {"lr_scheduler": "constant", "save_steps": 10, "max_steps": 30, "do_eval": None}
    assert main.run(arguments(data, out, **options)) == 0
    printed = capsys.readouterr().out
    assert f"{out / 'last'} is damaged (encoder/model.safetensors was changed)" in printed
    assert f"going on from {out / 'last.previous'} at step {step}" in printed
    for name in ("last/trainer.safetensors", "last/encoder/model.safetensors", "best/encoder/model.safetensors"):
        assert (out / name).read_bytes() == (half / name).read_bytes(), name
    assert (out / "last.damaged").is_dir()


def test_no_state_holds_a_pickle(half):
    """Neither in its format (a zip or the pickle protocol's first bytes) nor by name."""
    for path in half.rglob("*"):
        if path.is_file():
            assert path.suffix not in (".pt", ".pth", ".bin", ".pkl", ".joblib", ".ckpt"), path
            assert not path.read_bytes().startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
