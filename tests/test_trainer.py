"""The whole loop: it learns, resuming equals never having stopped, best and last states, early stopping, divergence."""

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model_utils.multitask_model import MultiTaskModel
from tests.tiny import collate, dataset, references, tiny_features, tiny_model, tiny_trainer
from trainer.checkpoint import save_tree, write_folder
from trainer.early_stopping import EarlyStopping, MonitorError, choose_monitor
from trainer.monitor import RunLog
from trainer.nonfinite import TrainingDiverged

ROOT = Path(__file__).parents[1]


def test_it_learns_a_tiny_set():
    features = tiny_features(24)
    model = tiny_model(dropout=0.0)
    trainer = tiny_trainer(model, train=features, epochs=40, batch_size=8)
    trainer.train()
    metrics = trainer.eval(batches_of(features), references(features))
    assert metrics["sentence_accuracy"] == 1.0 and metrics["slots/f1"] == 1.0
    assert trainer.history[-1]["train"]["loss"] < 0.05 * trainer.history[0]["train"]["loss"]


def batches_of(features):
    from data_loader.build import eval_loader

    return eval_loader(dataset(features), collate(), batch_size=5)


class Crash(Exception):
    """Stands for a power cut."""


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulate": {"accumulate": 3},
    "fgm": {"use_fgm": True, "accumulate": 2},
    "bf16": {"precision": "bf16"},
    "workers": {"num_workers": 2},
    "mid-epoch evaluation": {"eval_steps": 4, "patience": 5},
}


@pytest.mark.parametrize("crash_at", [1, 7, 13, 14])  # 13 steps an epoch without accumulation
@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_equals_unbroken(tmp_path, variant, crash_at):
    """Bit for bit: weights, optimizer, history, and every logged figure; from a crash at any step."""
    options = {"epochs": 3, "save_steps": 3, "logging_steps": 2} | VARIANTS[variant]
    unbroken = run(tmp_path / "unbroken", tiny_model(), options)

    def crash(event, step, values):
        if event == "log" and step >= crash_at:
            raise Crash

    broken = tmp_path / "broken"
    with pytest.raises(Crash):
        run(broken, tiny_model(), options, crash)
    torch.manual_seed(999)  # the state of the new process must not matter
    if (broken / "last").exists():
        resumed = run(broken, MultiTaskModel.from_pretrained(broken / "last"), options, resume=True)
    else:  # the crash came before the first save
        resumed = run(broken, tiny_model(), options)
    assert resumed.history == unbroken.history
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    for part in ("last/trainer.safetensors", "last/model.safetensors", "last/encoder/model.safetensors",
                 "best/model.safetensors", "best/encoder/model.safetensors"):  # fmt: skip
        ours, theirs = load_file(tmp_path / "unbroken" / part), load_file(broken / part)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours), part
    for name in ("log.json", "metrics.jsonl", "last/trainer_state.json", "best/metrics.json"):
        assert (tmp_path / "unbroken" / name).read_text() == (broken / name).read_text(), name


@pytest.mark.parametrize("workers", [(2, 0), (0, 1)])
def test_resumed_with_another_number_of_workers(tmp_path, workers):
    """Neither the order of the samples nor dropout knows of them."""
    options = {"epochs": 2, "save_steps": 3, "logging_steps": 2, "use_fgm": True}
    run(tmp_path / "whole", tiny_model(), options)
    run(tmp_path / "part", tiny_model(), options | {"max_steps": 9, "num_workers": workers[0]})
    shutil.rmtree(tmp_path / "part" / "last")
    shutil.move(tmp_path / "part" / "last.previous", tmp_path / "part" / "last")
    state = json.loads((tmp_path / "part" / "last" / "trainer_state.json").read_text())
    assert (state["step"], state["history"]) == (9, [])
    model = MultiTaskModel.from_pretrained(tmp_path / "part" / "last")
    run(tmp_path / "part", model, options | {"num_workers": workers[1]}, resume=True)
    for name in ("trainer.safetensors", "encoder/model.safetensors", "trainer_state.json"):
        assert (tmp_path / "part" / "last" / name).read_bytes() == (tmp_path / "whole" / "last" / name).read_bytes()


def run(folder, model, options, *callbacks, resume=False):
    folder.mkdir(exist_ok=True)
    trainer = tiny_trainer(model, folder, **options)
    torch.manual_seed(3)
    if resume:
        trainer.resume(folder / "last")
    trainer.callbacks = [RunLog(folder, trainer.step, trainer.history, tensorboard=False), *callbacks]
    trainer.train()
    return trainer


def test_resuming_a_finished_run_does_nothing(tmp_path):
    trainer = run(tmp_path, tiny_model(), {})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = run(tmp_path, MultiTaskModel.from_pretrained(tmp_path / "last"), {}, resume=True)
    assert again.history == trainer.history
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_damaged_last_state_is_not_used(tmp_path, caplog):
    from trainer.checkpoint import CheckpointError
    from trainer.run_folder import find_state

    run(tmp_path, tiny_model(), {})
    assert find_state(tmp_path, "auto") == tmp_path / "last"
    for path in sorted(p for p in (tmp_path / "last").rglob("*") if p.is_file()):
        content = path.read_bytes()
        for damage in (content[: len(content) // 2], bytes([content[0] ^ 1]) + content[1:], None):
            path.unlink() if damage is None else path.write_bytes(damage)
            caplog.clear()
            assert find_state(tmp_path, "auto") == tmp_path / "last.previous", path
            assert "last is damaged" in caplog.text
            path.write_bytes(content)
    assert find_state(tmp_path, "auto") == tmp_path / "last"
    (tmp_path / "last" / "manifest.json").unlink()
    (tmp_path / "last.previous" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="no whole state"):
        find_state(tmp_path, "auto")
    with pytest.raises(CheckpointError, match="no saved state"):
        find_state(tmp_path, str(tmp_path / "nowhere"))


def test_never_refuses_a_used_folder(tmp_path):
    from trainer.checkpoint import CheckpointError
    from trainer.run_folder import find_state

    assert find_state(tmp_path, "never") is None
    run(tmp_path, tiny_model(), {})
    with pytest.raises(CheckpointError, match="holds a run"):
        find_state(tmp_path, "never")


def test_the_best_state_is_the_one_with_the_best_metric(tmp_path):
    trainer = run(tmp_path, tiny_model(), {"epochs": 6, "eval_steps": 5})
    scores = [entry["eval"]["sentence_accuracy"] for entry in trainer.history]
    best = json.loads((tmp_path / "best" / "metrics.json").read_text())
    first_best = scores.index(max(scores))
    assert best["step"] == trainer.history[first_best]["step"] and best["eval"] == trainer.history[first_best]["eval"]
    model = MultiTaskModel.from_pretrained(tmp_path / "best")
    again = tiny_trainer(model)
    assert again.eval(again.eval_loader, again.references) == best["eval"]


def test_early_stopping_and_max_steps(tmp_path):
    trainer = tiny_trainer(tiny_model(), epochs=50, patience=2, lr=0.0)
    trainer.train()
    assert [entry["step"] for entry in trainer.history] == [13, 26, 39]  # the first is best, then two without gain
    trainer = tiny_trainer(tiny_model(), epochs=50, max_steps=20)
    trainer.train()
    assert trainer.step == 20 and [entry["step"] for entry in trainer.history] == [13, 20]


def test_divergence_stops_the_run_and_keeps_the_last_good_state(tmp_path):
    trainer = tiny_trainer(tiny_model(), tmp_path, save_steps=5, logging_steps=4, epochs=4)
    plain = trainer.train_step.compute_loss

    def poisoned(model, batch, num_items):
        output = plain(model, batch, num_items)
        output.loss = output.loss * (float("inf") if trainer.step >= 6 else 1.0)
        return output

    trainer.train_step.compute_loss = poisoned
    with pytest.raises(TrainingDiverged, match="gradient in 2 update"):
        trainer.train()
    assert TrainingDiverged.exit_code == 3
    assert json.loads((tmp_path / "last" / "trainer_state.json").read_text())["step"] == 5
    assert all(p.isfinite().all() for p in MultiTaskModel.from_pretrained(tmp_path / "last").parameters())
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_logged_losses_are_means_over_the_steps_between(tmp_path):
    model = tiny_model(dropout=0.0)
    trainer = tiny_trainer(model, epochs=1, logging_steps=3, lr=1e-9)  # weights stand still: losses can be recomputed
    logged = []
    trainer.callbacks = [lambda event, step, values: logged.append((step, dict(values))) if event == "log" else None]
    trainer.train()
    with torch.no_grad():
        losses = [model.train()(batch) for batch in trainer.train_loader(0, 0)]
    for step, values in logged:
        window = losses[step - 3 : step]
        assert values["loss"] == pytest.approx(sum(float(o.loss) for o in window) / 3, rel=1e-5)
        assert values["slots/loss"] == pytest.approx(sum(float(o.losses["slots"]) for o in window) / 3, rel=1e-5)
    assert trainer.history[0]["train"]["loss"] == pytest.approx(sum(float(o.loss) for o in losses) / 13, rel=1e-5)


def test_eval_equals_predict_and_score_and_a_plain_loop():
    model = tiny_model()
    trainer = tiny_trainer(model)
    metrics = trainer.eval(trainer.eval_loader, trainer.references)
    result = trainer.predict(trainer.eval_loader, with_confidences=True)
    assert trainer.score(result, trainer.references) == metrics
    assert result.sample_ids == list(range(20))
    features, gold = tiny_features(20, seed=1), references(tiny_features(20, seed=1))(range(20))
    right, sums, items = 0, {"intent": 0.0, "slots": 0.0}, {"intent": 0, "slots": 0}
    for number, feature in enumerate(features):
        batch = collate()([feature])
        with torch.no_grad():
            output = model.eval()(batch)
        for task in sums:
            count = int(model.heads[task].num_items(batch["labels"][task]))
            sums[task] += float(output.losses[task]) * count
            items[task] += count
        decoded = {task: model.heads[task].decode(output.logits[task], batch)[0] for task in sums}
        assert decoded == {task: result.labels[task][number] for task in sums}
        right += all(decoded[task] == gold[task][number] for task in sums)
    assert metrics["sentence_accuracy"] == right / 20
    for task in sums:
        assert metrics[f"{task}/loss"] == pytest.approx(sums[task] / items[task], rel=1e-5)
    assert metrics["loss"] == pytest.approx(0.5 * metrics["intent/loss"] + metrics["slots/loss"])


def test_callbacks_see_steps_that_only_rise_after_a_resume(tmp_path):
    lines = [{"step": step, "kind": kind, "loss": 1} for step, kind in ((2, "train"), (3, "eval"), (4, "train"))]
    text = "\n".join(json.dumps(line) for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"step": 6, "lo')
    RunLog(tmp_path, resume_step=3, tensorboard=False)("log", 4, {"loss": 2.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(2, 1), (4, 2.0)]


def test_tensorboard_holds_the_same_figures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_with_board = tiny_trainer(tiny_model(), tmp_path, logging_steps=5, epochs=1)
    run_with_board.callbacks = [RunLog(tmp_path)]
    run_with_board.train()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]
    assert [(e.step, pytest.approx(e.value)) for e in board.Scalars("train/loss")] == losses
    assert board.Scalars("eval/slots/f1")[0].value == pytest.approx(run_with_board.history[0]["eval"]["slots/f1"])


def test_early_stopping_rules():
    stopping = EarlyStopping("f1", patience=2)
    assert [stopping.update({"f1": v}) for v in (0.5, 0.4, 0.6, float("nan"), 0.6)] == [True, False, True, False, False]
    assert stopping.should_stop and stopping.best == 0.6
    falling = EarlyStopping("loss", lower_is_better=True)
    assert [falling.update({"loss": v}) for v in (2.0, 1.0, 1.5)] == [True, True, False] and not falling.should_stop
    copy = EarlyStopping("f1", patience=2)
    copy.load_state_dict(stopping.state_dict())
    assert copy.should_stop and copy.best == 0.6
    with pytest.raises(MonitorError, match=r"unknown metric 'f1'; there are accuracy"):
        EarlyStopping("f1").update({"accuracy": 1.0})


def test_choice_of_the_monitored_metric():
    heads = tiny_model().heads
    names = ["intent/accuracy", "slots/f1", "sentence_accuracy"]
    assert choose_monitor(None, heads, names) == ("sentence_accuracy", False)
    assert choose_monitor("slots/loss", heads, names) == ("slots/loss", True)
    assert choose_monitor(None, {"slots": heads["slots"]}, names) == ("slots/f1", False)
    with pytest.raises(
        MonitorError, match="'slots/f2'; there are intent/accuracy, intent/loss, loss, sentence_accuracy"
    ):
        choose_monitor("slots/f2", heads, names)


def test_a_crash_while_saving_leaves_the_old_state(tmp_path):
    from trainer.checkpoint import SaveError, newest_whole

    target = tmp_path / "last"
    write_folder(target, lambda folder: (folder / "a").write_text("1"))

    def fail(folder):
        (folder / "a").write_text("2")
        raise OSError("disk full")

    with pytest.raises(SaveError, match="last: could not be saved: disk full; what was saved before is whole"):
        write_folder(target, fail)
    assert not (tmp_path / "last.tmp").exists(), "its space is needed"
    assert newest_whole(target) == target and (target / "a").read_text() == "1"
    write_folder(target, lambda folder: (folder / "a").write_text("3"))
    assert (target / "a").read_text() == "3" and (tmp_path / "last.previous" / "a").read_text() == "1"
    shutil.rmtree(target)  # a crash between the two renames
    assert newest_whole(target) == tmp_path / "last.previous"
    write_folder(target, lambda folder: (folder / "a").write_text("4") and None, keep_previous=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last"]


def test_trees_survive_without_pickle(tmp_path):
    from trainer.checkpoint import load_tree

    shared = torch.arange(6.0).reshape(2, 3)
    tree = {
        "state": {0: {"m": shared, "t": shared.T}, 1: {"step": torch.tensor(3.0)}},
        "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1], "name": "é"}],
        "none": None,
        "half": torch.ones(2, dtype=torch.bfloat16),
        "empty": {},
        "infinite": float("inf"),
    }
    save_tree(tmp_path / "x.safetensors", tree)
    found = load_tree(tmp_path / "x.safetensors")
    assert torch.equal(found["state"][0]["t"], shared.T) and torch.equal(found["state"][0]["m"], shared)
    assert found["state"][1]["step"] == 3.0 and found["half"].dtype is torch.bfloat16
    assert found["groups"] == [{"lr": 0.1, "betas": [0.9, 0.999], "params": [0, 1], "name": "é"}]
    assert found["none"] is None and found["empty"] == {} and found["infinite"] == float("inf")


def test_the_example_of_the_readme():
    text = (ROOT / "trainer" / "README.md").read_text(encoding="utf-8")
    built = tiny_trainer(tiny_model())
    step = built.train_step
    names = {"model": built.model, "optimizer": step.optimizer, "scheduler": step.scheduler}
    names |= {"train_loader": built.train_loader, "eval_batches": built.eval_loader, "references": built.references}
    exec(text.split("```python\n")[1].split("```")[0], names)
    assert names["trainer"].step == 14 and names["metrics"]["slots/f1"] >= 0


@pytest.mark.parametrize(
    "size, environment, bar",
    [
        ((40, 120), {}, True),
        pytest.param((0, 0), {}, False, marks=pytest.mark.slow),
        pytest.param((40, 120), {"TQDM_DISABLE": "1"}, False, marks=pytest.mark.slow),
    ],
)
def test_a_bar_on_a_terminal_and_plain_lines_elsewhere(size, environment, bar, tmp_path):
    """In a real pseudo-terminal: of a usual size, of none (as in some containers), and with bars switched off."""
    script = (
        "from logging_config import setup_logging\n"
        "from tests.tiny import tiny_model, tiny_trainer\n"
        "setup_logging('train.log')\n"
        "tiny_trainer(tiny_model(), epochs=1, logging_steps=13).train()\n"
    )
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=child, stderr=subprocess.DEVNULL, cwd=tmp_path,
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(child)
    output = b""
    with contextlib.suppress(OSError):  # the end of a pseudo-terminal
        while chunk := os.read(parent, 4096):
            output += chunk
    os.close(parent)
    assert process.wait() == 0
    text = output.decode()
    assert bool(re.search(r"\[Epoch 0\] \[TRAIN\]: .*/13 .*loss=\S+ lr=", text)) == bar, text
    assert ("[Epoch 0] [TRAIN] 13/13 loss=" in text) == (not bar)
    assert "[Epoch 0] [TRAIN] 13/13 loss=" in (tmp_path / "train.log").read_text(encoding="utf-8")


def test_weights_are_as_readable_as_other_files(tmp_path):
    """safetensors alone would shut out everybody but the owner."""
    write_folder(tmp_path / "state", lambda folder: save_tree(folder / "w.safetensors", {"w": torch.zeros(2)}))
    plain = tmp_path / "plain"
    plain.touch()
    assert {path.stat().st_mode for path in (tmp_path / "state").iterdir()} == {plain.stat().st_mode}
