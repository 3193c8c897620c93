"""SIGTERM and SIGINT: the step is finished, the state saved, the exit code tells; nothing is lost or done twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import main
from model_utils.multitask_model import MultiTaskModel
from tests.sample_job import arguments, read
from tests.tiny import tiny_model, tiny_trainer
from trainer.monitor import RunLog
from trainer.signals import Interrupted

ROOT = Path(__file__).parents[1]
OPTIONS = {"epochs": 2, "logging_steps": 2, "eval_steps": 5, "save_steps": 100, "accumulate": 2}  # 7 steps an epoch


def run(folder, model, resume=False, **options):
    folder.mkdir(exist_ok=True)
    trainer = tiny_trainer(model, folder, **(OPTIONS | options))
    torch.manual_seed(3)
    if resume:
        trainer.resume(folder / "last")
    trainer.callbacks = [RunLog(folder, trainer.step, trainer.history, tensorboard=False)]
    trainer.train()
    return trainer


def tensors(folder):
    return load_file(folder / "last" / "trainer.safetensors") | load_file(folder / "best/encoder/model.safetensors")


@pytest.mark.parametrize("limit", [{}, pytest.param({"max_steps": 12}, marks=pytest.mark.slow)])
def test_stopped_at_any_step_and_resumed_equals_unbroken(tmp_path, limit):
    """Every step of the run: also the last of an epoch, the last of all, and those with an evaluation."""
    whole = tmp_path / "whole"
    run(whole, tiny_model(), **limit)
    weights = tensors(whole)
    for stop_at in range(1, limit.get("max_steps", 14) + 1):
        folder = tmp_path / f"stopped{stop_at}"
        asked = iter([0] * (stop_at - 1) + [signal.SIGTERM] * 99)
        with pytest.raises(Interrupted) as stopped:
            run(folder, tiny_model(), stop_signal=lambda asked=asked: int(next(asked)), **limit)
        assert stopped.value.exit_code == 143
        assert read(folder / "last" / "trainer_state.json")["step"] == stop_at
        run(folder, MultiTaskModel.from_pretrained(folder / "last"), resume=True, **limit)
        ours = tensors(folder)
        assert ours.keys() == weights.keys() and all(torch.equal(ours[k], weights[k]) for k in ours), stop_at
        for name in ("log.json", "metrics.jsonl", "best/metrics.json", "last/trainer_state.json"):
            assert (folder / name).read_text() == (whole / name).read_text(), (stop_at, name)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_this_step_and_the_same_command_goes_on(data, tmp_path, monkeypatch, capfd, number, code):
    whole, out, handler = tmp_path / "whole", tmp_path / "out", signal.getsignal(number)
    options = {"eval_file": data / "dev.jsonl", "save_steps": 10}
    assert main.run(arguments(data, whole, **options)) == 0
    log = RunLog.__call__

    def signalled(self, event, step, values):
        log(self, event, step, values)
        if event == "log" and step == 35:
            signal.raise_signal(number)
            signal.raise_signal(number)  # the same one again, as schedulers and launchers do

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "__call__", signalled)
        assert main.run(arguments(data, out, **options)) == code
    assert f"error: stopped by {number.name}; the same command goes on" in capfd.readouterr().err
    assert signal.getsignal(number) == handler, "handlers are put back"
    assert read(out / "last" / "trainer_state.json")["step"] == 35
    assert main.run(arguments(data, out, **options)) == 0
    for name in ("log.json", "metrics.jsonl", "test_metrics.json", "last/trainer_state.json"):
        assert (out / name).read_text().replace("/out", "/whole") == (whole / name).read_text(), name
    for name in ("last/trainer.safetensors", "best/encoder/model.safetensors"):
        ours, theirs = load_file(out / name), load_file(whole / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_a_second_signal_ends_at_once():
    script = """
import os, signal, sys, time
from trainer.signals import StopSignals
with StopSignals() as stop_signal:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop_signal() == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)    # within a second: the same one, seen twice
    time.sleep(1.1)
    print("alive", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (130, "alive\n"), done.stderr


def test_save_minutes(tmp_path, monkeypatch):
    """A clock on which each look is ten seconds later: saved when half a minute has passed since the last time."""
    ticks = iter(range(0, 10**6, 10))
    monkeypatch.setattr("trainer.trainer.time.monotonic", lambda: next(ticks))
    saved = []
    trainer = tiny_trainer(tiny_model(), epochs=1, save_steps=7, save_minutes=0.5)
    trainer.run_folder = type("Folder", (), {"save_last": lambda _, state: saved.append(state["progress"]["step"]),
                                             "save_best": lambda *_: None, "check": lambda _: None,
                                             "wait": lambda _: None})()  # fmt: skip
    trainer.train()
    # a look per step and one more when it is saved: 0 | 10 20 30 save 40 | 50 60 70 save 80 (step 6) | step 7 | …
    assert saved == [3, 6, 7, 10, 13, 13]


@pytest.mark.parametrize("streaming", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_workers_outlive_the_signal_that_all_processes_get(data, tmp_path, streaming):
    """As from Ctrl-C on a terminal, or a scheduler that ends a job: the last batches still come."""
    out = tmp_path / "out"
    options = {"epochs": 500, "eval_steps": 10**6, "num_workers": 2, "streaming": streaming, "do_eval": None}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "main.py", *arguments(data, out, **options)], cwd=ROOT,
                                   stdout=log, stderr=log, start_new_session=True)  # fmt: skip
        wait_for(lambda: (out / "metrics.jsonl").exists() and "loss" in (out / "metrics.jsonl").read_text(), process)
        os.killpg(process.pid, signal.SIGTERM)
        code = process.wait(timeout=60)
    text = (tmp_path / "log").read_text()
    assert code == 143 and "Traceback" not in text, text[-3000:]
    assert read(out / "last" / "trainer_state.json")["step"] >= 5


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
@pytest.mark.slow
@pytest.mark.parametrize("whom", ["launcher", "one rank"])
def test_two_processes_stop_at_the_same_step(data, tmp_path, whom):
    out = tmp_path / "out"
    argv = arguments(data, out, epochs=500, eval_steps=10**6, batch_size=4, logging_steps=10, do_eval=None)
    command = [sys.executable, "-m", "trainer.launch", "--standalone", "--nproc_per_node=2", "main.py", *argv]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        wait_for(lambda: (out / "metrics.jsonl").exists() and "loss" in (out / "metrics.jsonl").read_text(), process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if whom == "one rank" and not children.exists():
            process.kill()
            pytest.skip("needs /proc to find a rank's process")
        ranks = [pid for pid in map(int, children.read_text().split()) if b"main.py" in cmdline(pid)]
        os.kill(process.pid if whom == "launcher" else ranks[-1], signal.SIGTERM)
        code = process.wait(timeout=120)
    text = (tmp_path / "log").read_text()
    assert code == 143, text[-3000:]
    state = read(out / "last" / "trainer_state.json")
    assert state["world_size"] == 2 and state["step"] >= 10
    assert "Traceback" not in text, text[-3000:]


def cmdline(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, "ended too early, or too slow"
        time.sleep(0.1)
