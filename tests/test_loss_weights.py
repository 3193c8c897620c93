"""Weights of tasks: formulas computed by hand, accumulation, and a resumed run that is the unbroken one."""

import math
from typing import Any

import pytest
import torch

import main
from model_utils.loss_weights import UncertaintyWeights, falling_speed
from model_utils.multitask_model import MultiTaskModel
from tests.sample_job import arguments, read
from tests.tiny import collate, tiny_features, tiny_model
from trainer.step import TrainStep


def uncertain(seed: int = 0) -> Any:
    plain = tiny_model(dropout=0.0, seed=seed)
    model: Any = MultiTaskModel(plain.encoder, plain.heads, plain.loss_weights, uncertainty=True).train()
    with torch.no_grad():
        model.uncertainty.log_variances.copy_(torch.tensor([0.5, -1.0]))
    return model


def test_uncertainty_is_the_formula_of_the_paper():
    model, batch = uncertain(), collate()(tiny_features(8))
    output = model(batch)
    intent, slots = (output.losses[task].item() for task in ("intent", "slots"))
    expected = math.exp(-0.5) * 0.5 * intent + 0.5 / 2 + math.exp(1.0) * slots - 1.0 / 2  # intent has loss_weight 0.5
    assert output.loss.item() == pytest.approx(expected, rel=1e-6)
    output.loss.backward()
    gradient = [-math.exp(-0.5) * 0.5 * intent + 0.5, -math.exp(1.0) * slots + 0.5]
    assert model.uncertainty.log_variances.grad.tolist() == pytest.approx(gradient, rel=1e-5)


def test_in_evaluation_losses_have_their_own_weights_only():
    model, batch = uncertain().eval(), collate()(tiny_features(8))
    model.factors = {"intent": 9.0}
    output = model(batch)
    assert output.loss.item() == pytest.approx(0.5 * output.losses["intent"].item() + output.losses["slots"].item())


def test_an_absent_task_is_left_alone():
    model, batch = uncertain(), collate()(tiny_features(8))
    del batch["labels"]["slots"]
    model(batch).loss.backward()
    assert model.uncertainty.log_variances.grad[1] == 0
    assert all(p.grad is None for p in model.heads["slots"].parameters())


def test_the_best_uncertainty_is_known():
    """d/ds (e^(-s) L + s/2) = 0 at s = log 2L."""
    weights = UncertaintyWeights(2)
    optimizer = torch.optim.SGD(weights.parameters(), lr=0.1)
    losses = torch.tensor([3.0, 0.2])
    for _ in range(2000):
        optimizer.zero_grad()
        weights(losses, torch.ones(2), [0, 1]).backward()
        optimizer.step()
    assert weights.log_variances.tolist() == pytest.approx([math.log(6.0), math.log(0.4)], abs=1e-4)


@pytest.mark.parametrize("sizes", [(1, 7), (4, 4), (2, 2, 2, 2)])
def test_however_a_step_is_cut_its_gradient_is_the_same(sizes):
    features, gradients = tiny_features(8), []
    for cut in ((8,), sizes):
        model = uncertain()
        step = TrainStep(model, torch.optim.AdamW(model.parameters(), fused=True), scheduler=None)
        ends = [sum(cut[: n + 1]) for n in range(len(cut))]
        group = [collate()(features[end - size : end]) for size, end in zip(cut, ends, strict=True)]
        step.accumulate(group)
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert "uncertainty.log_variances" in gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_falling_speed_is_the_formula_of_the_paper():
    history = [{"a": 9.0, "b": 9.0}, {"a": 2.0, "b": 1.0}, {"a": 1.8, "b": 0.5}]
    a, b = math.exp(0.9 / 2), math.exp(0.5 / 2)
    assert falling_speed(history) == pytest.approx({"a": 2 * a / (a + b), "b": 2 * b / (a + b)})
    assert falling_speed(history[:1]) == falling_speed([]) == {}
    even = falling_speed(history, temperature=1e6)
    assert even == pytest.approx({"a": 1.0, "b": 1.0}, abs=1e-5)
    assert falling_speed([{"a": 0.0, "b": 2.0}, {"a": 1.0, "b": 1.0}]) == {"b": 1.0}, "nothing to compare with"


@pytest.mark.parametrize("weighting", [pytest.param("uncertainty", marks=pytest.mark.slow), "dynamic"])
def test_a_resumed_run_is_the_unbroken_one(weighting, data, tmp_path):
    options = {"loss_weighting": weighting, "epochs": 3, "lr_scheduler": "constant", "do_eval": None}
    assert main.run(arguments(data, tmp_path / "whole", **options)) == 0
    assert main.run(arguments(data, tmp_path / "broken", **options | {"epochs": 2})) == 0
    assert main.run(arguments(data, tmp_path / "broken", **options)) == 0
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for name in ("last/model.safetensors", "last/encoder/model.safetensors", "log.json"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes(), name
    fixed = tmp_path / "fixed"
    assert main.run(arguments(data, fixed, **options | {"loss_weighting": "fixed"})) == 0
    assert (fixed / "last/encoder/model.safetensors").read_bytes() != (
        whole / "last/encoder/model.safetensors"
    ).read_bytes()
    assert read(whole / "last" / "config.json")["uncertainty"] is (weighting == "uncertainty")
