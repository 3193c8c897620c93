"""The gradient's norm that is logged: against torch's own of a reference step, and exact through a resume."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import collate, tiny_features, tiny_model, tiny_trainer
from trainer.meter import Meter
from trainer.monitor import RunLog


def reference_norm(batches: list[dict[str, Any]]) -> torch.Tensor:
    """Of the whole group's gradient, as torch computes it; nothing is clipped."""
    model = tiny_model(dropout=0.0).train()
    items = [model.num_items(batch["labels"]) for batch in batches]
    total = {task: sum(count[task] for count in items) for task in items[0]}
    for batch in batches:
        model(batch, total).loss.backward()
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("sizes", [(8,), (3, 3, 2)], ids=["one batch", "accumulated"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.1, 1e6], ids=["no clipping", "clipped", "not reached"])
def test_it_is_that_of_the_group_before_clipping(sizes: tuple[int, ...], max_grad_norm: float) -> None:
    batches = [collate()(part) for part in parts(tiny_features(8), sizes)]
    expected = reference_norm(batches)
    step = tiny_trainer(tiny_model(dropout=0.0)).train_step
    step.max_grad_norm = max_grad_norm or float("inf")
    step.model.train()
    given: dict[str, torch.Tensor] = {}

    def look(*_: Any) -> None:
        gradients = [p.grad for p in step.parameters if p.grad is not None]
        given["norm"] = torch.nn.utils.get_total_norm(gradients)

    step.optimizer.register_step_pre_hook(look)
    step(batches)
    torch.testing.assert_close(step.grad_norm, expected, rtol=1e-4, atol=1e-6)
    clipped = expected if not max_grad_norm else min(expected, torch.tensor(max_grad_norm))
    torch.testing.assert_close(given["norm"], clipped, rtol=1e-4, atol=1e-6)


def parts(features: list[dict[str, Any]], sizes: tuple[int, ...]) -> list[list[dict[str, Any]]]:
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    return [features[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def test_mean_and_largest_of_the_steps_that_count() -> None:
    meter = Meter(torch.device("cpu"))
    for norm, counts in ((3.0, 1), (float("inf"), 0), (1.0, 1), (float("nan"), 0), (2.0, 1)):
        meter.add({"grad_norm": torch.tensor(norm)}, torch.tensor(counts), most={"grad_norm_max": torch.tensor(norm)})
    assert meter.mean() == {"grad_norm": 2.0, "grad_norm_max": 3.0}
    other = Meter(torch.device("cpu"))
    other.load_state_dict(meter.state_dict())
    other.add({"grad_norm": torch.tensor(6.0)}, torch.tensor(1), most={"grad_norm_max": torch.tensor(2.5)})
    assert other.mean() == {"grad_norm": 3.0, "grad_norm_max": 3.0}
    old = {name: value for name, value in meter.state_dict().items() if "most" not in name}  # of before there was one
    other.load_state_dict(old)
    assert other.mean() == {"grad_norm": 2.0}
    meter.reset()
    assert meter.mean() == {}


def test_what_is_logged_is_mean_and_largest_of_each_step(tmp_path: Path) -> None:
    """A run of 13 steps and a line per 5, and one that is stopped between two lines and resumed: the same lines."""
    norms: list[float] = []
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    log = RunLog(tmp_path / "whole", tensorboard=False)
    whole = tiny_trainer(tiny_model(), epochs=1, logging_steps=5, callbacks=[log])
    take_step = whole.take_step

    def watched(group: Any) -> None:
        take_step(group)
        norms.append(float(whole.train_step.grad_norm))

    whole.take_step = watched  # type: ignore[method-assign]
    whole.train()
    first, second = [line for line in lines(tmp_path / "whole") if line["kind"] == "train"]
    for line, part in ((first, norms[:5]), (second, norms[5:10])):
        assert line["grad_norm"] == pytest.approx(sum(part) / 5) and line["grad_norm_max"] == pytest.approx(max(part))
    options: dict[str, Any] = {"epochs": 1, "logging_steps": 5, "save_steps": 8}
    torch.manual_seed(0)
    stopped = tiny_trainer(tiny_model(), tmp_path / "parts", **options, max_steps=8)
    stopped.callbacks.append(RunLog(tmp_path / "parts", tensorboard=False))
    stopped.train()
    model = tiny_model(seed=1)
    rest = tiny_trainer(model, tmp_path / "parts", **options)
    model.load_state_dict(stopped.model.state_dict())
    rest.resume(tmp_path / "parts" / "last")
    rest.callbacks.append(RunLog(tmp_path / "parts", rest.step, rest.history, tensorboard=False))
    rest.train()
    resumed = [line for line in lines(tmp_path / "parts") if line["kind"] == "train"]
    assert resumed == [first, second]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
