"""NaN and infinity: never applied, named by sample, skipped up to a limit or the end with exit code 3."""

import json
import logging

import pytest
import torch

from model_utils.multitask_model import MultiTaskModel
from tests.tiny import tiny_features, tiny_model, tiny_trainer
from trainer.monitor import RunLog
from trainer.nonfinite import NonfinitePolicy, TrainingDiverged


def poison(trainer, steps, kind):
    """Make the loss of these steps non-finite: as a number, through the gradient alone, or the number alone."""
    plain = trainer.train_step.compute_loss

    def compute_loss(model, batch, num_items):
        output = plain(model, batch, num_items)
        if trainer.step + 1 in steps:
            if kind == "gradient":  # sqrt has an infinite slope at 0
                output.loss = output.loss + (output.loss * 0).sqrt()
            elif kind == "number":
                output.loss = output.loss + float("inf")
            else:
                output.loss = output.loss * float("nan")
        return output

    trainer.train_step.compute_loss = compute_loss


@pytest.mark.parametrize("kind", ["nan", "gradient", "number"])
def test_a_skipped_update_changes_nothing_but_the_schedule(kind):
    """Equal to a loop in which the optimizer does not step there."""
    trainer = tiny_trainer(tiny_model(dropout=0.0), epochs=1, logging_steps=3, nonfinite=NonfinitePolicy("skip"))
    logged = []
    trainer.callbacks = [lambda event, step, values: logged.append(dict(values)) if event == "log" else None]
    poison(trainer, {4, 5, 9}, kind)
    trainer.train()
    reference = tiny_trainer(tiny_model(dropout=0.0), epochs=1)
    step, losses = reference.train_step, []
    reference.model.train()
    for number, batch in enumerate(reference.train_loader(0, 0), 1):
        loss = step.accumulate([batch])[0]["loss"]
        if number in (4, 5, 9):
            step.optimizer.zero_grad()
            step.scheduler.step()
        else:
            step.update()
            losses.append((number, loss))
    for ours, theirs in zip(trainer.model.parameters(), reference.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert trainer.nonfinite.skipped == 3
    for window, values in enumerate(logged):  # means over the updates that were made
        counted = [loss for number, loss in losses if window * 3 < number <= window * 3 + 3]
        assert values["loss"] == pytest.approx(float(sum(counted) / len(counted)))


def test_the_limit_ends_the_run_with_a_good_last_state(tmp_path, caplog):
    policy = NonfinitePolicy("skip", limit=2)
    trainer = tiny_trainer(tiny_model(), tmp_path, save_steps=4, logging_steps=4, epochs=4, nonfinite=policy)
    order = [batch["sample_id"].tolist() for batch in trainer.train_loader(0, 0)]
    poison(trainer, {2, 6, 11}, "nan")
    with pytest.raises(TrainingDiverged, match="in 3 update") as diverged:
        trainer.train()
    assert f"the last at step 11 with the sample ids {', '.join(map(str, order[10]))};" in str(diverged.value)
    assert diverged.value.exit_code == 3
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    for step in (2, 6, 11):
        assert f"step {step}: non-finite loss or gradient, update not applied; sample ids {order[step - 1]}" in warned
    assert json.loads((tmp_path / "last" / "trainer_state.json").read_text())["step"] == 8
    for model in (trainer.model, MultiTaskModel.from_pretrained(tmp_path / "last")):
        assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_stop_ends_before_anything_is_saved(tmp_path):
    trainer = tiny_trainer(tiny_model(), tmp_path, save_steps=1, logging_steps=100)
    poison(trainer, {3}, "nan")
    with pytest.raises(TrainingDiverged, match="the last at step 3"):
        trainer.train()
    assert json.loads((tmp_path / "last" / "trainer_state.json").read_text())["step"] == 2


def test_a_resumed_run_remembers_what_it_skipped(tmp_path):
    def run(model, steps, resume, **options):
        policy = NonfinitePolicy("skip", limit=2)
        trainer = tiny_trainer(model, tmp_path, save_steps=4, nonfinite=policy, **options)
        if resume:
            trainer.resume(tmp_path / "last")
        poison(trainer, steps, "nan")
        trainer.train()

    run(tiny_model(), {2, 3}, False, max_steps=4)
    with pytest.raises(TrainingDiverged, match="in 3 update"):
        run(MultiTaskModel.from_pretrained(tmp_path / "last"), {7}, True)


def test_a_window_of_skipped_updates_only_logs_no_loss(tmp_path):
    trainer = tiny_trainer(tiny_model(), epochs=1, logging_steps=2, nonfinite=NonfinitePolicy("skip"))
    poison(trainer, {3, 4}, "nan")
    trainer.callbacks = [RunLog(tmp_path, tensorboard=False)]
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert ["loss" in line for line in lines if line["kind"] == "train"] == [True, False, True, True, True, True]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text() + (tmp_path / "log.json").read_text()


def test_an_overflow_in_the_forward_pass_ends_the_run():
    trainer = tiny_trainer(tiny_model(), train=tiny_features(8), batch_size=8, nonfinite=NonfinitePolicy())
    with torch.no_grad():
        trainer.model.encoder.get_input_embeddings().weight[5:] = 3e38
    with pytest.raises(TrainingDiverged):
        trainer.train()


def test_steps_that_fp16_skips_on_purpose_do_not_count():
    """Its scale starts far too high for these gradients: it halves until they fit. From NaN it halves below 1."""
    trainer = tiny_trainer(tiny_model(), precision="fp16", epochs=2, logging_steps=2)
    trainer.train_step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, backoff_factor=2.0**-20)
    trainer.train()
    assert trainer.nonfinite.skipped == 0 and 1 <= trainer.train_step.scale < 2.0**120
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    trainer = tiny_trainer(tiny_model(), precision="fp16", epochs=2, logging_steps=2)
    poison(trainer, set(range(3, 30)), "nan")
    with pytest.raises(TrainingDiverged, match="fp16's loss scale fell below 1 up to step 20"):
        trainer.train()


def test_the_policy_is_checked():
    with pytest.raises(ValueError, match="neither stop nor skip"):
        NonfinitePolicy("ignore")
