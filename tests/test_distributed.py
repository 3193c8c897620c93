"""Two gloo processes do exactly what one process with twice the accumulation does."""

import json
from functools import partial
from typing import Any

import pytest
import torch

from model_utils.multitask_model import MultiTaskModel
from tests.distributed_run import run
from tests.processes import in_ranks
from tests.tiny import tiny_model, tiny_trainer

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")


@pytest.mark.parametrize(("parallel", "use_fgm", "compiled"), [
    ("ddp", True, False), ("fsdp", True, False),
    *(pytest.param(*case, marks=pytest.mark.slow)
      for case in (("ddp", False, False), ("fsdp", False, False), ("ddp", True, True), ("fsdp", True, True))),
])  # fmt: skip
def test_two_processes_equal_one(tmp_path, parallel, use_fgm, compiled):
    """50 samples in batches of 4: the last step has one micro-batch for two ranks, so one gets a stand-in."""
    options = {"epochs": 2, "logging_steps": 1, "use_fgm": use_fgm}
    single = tiny_trainer(tiny_model(dropout=0.0), accumulate=2, **options)
    losses = []
    single.callbacks = [lambda event, step, values: losses.append(values["loss"]) if event == "log" else None]
    single.train()
    more = {"parallel": parallel, "compile": compiled}
    assert in_ranks(2, partial(run, tmp_path, options | more)) == [0, 0]
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0]["losses"] == ranks[1]["losses"] == pytest.approx(losses, rel=1e-4)
    assert len(losses) == 14
    assert ranks[0]["history"] == ranks[1]["history"]
    for ours, theirs in zip(ranks[0]["history"], single.history, strict=True):
        assert ours["eval"] == pytest.approx(theirs["eval"], rel=1e-3)
    weights = MultiTaskModel.from_pretrained(tmp_path / "last").state_dict()
    for name, value in single.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4, msg=name)
    result = single.predict(single.eval_loader)
    assert ranks[0]["sample_ids"] == ranks[1]["sample_ids"] == result.sample_ids == list(range(20))
    assert ranks[0]["labels"] == result.labels
    size = sum(p.numel() for p in single.model.parameters())
    held = [rank["weights"] for rank in ranks]
    assert held == [size, size] if parallel == "ddp" else (sum(held) == size and max(held) < 0.6 * size)


@pytest.mark.parametrize("parallel", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_a_run_of_two_processes_resumes_on_one(tmp_path, parallel):
    """The order of the samples and the loss curve go on; the curve is that of two processes throughout."""
    options: dict[str, Any] = {"epochs": 3, "logging_steps": 1}
    two = options | {"parallel": parallel}
    assert in_ranks(2, partial(run, tmp_path / "whole", two)) == [0, 0]
    assert in_ranks(2, partial(run, tmp_path / "part", two | {"max_steps": 10})) == [0, 0]
    state = json.loads((tmp_path / "part" / "last" / "trainer_state.json").read_text())
    assert (state["epoch"], state["step"], state["samples_seen"], state["world_size"]) == (1, 10, 24, 2)
    one = tiny_trainer(MultiTaskModel.from_pretrained(tmp_path / "part" / "last"), accumulate=2, **options)
    one.resume(tmp_path / "part" / "last")
    losses = []
    one.callbacks = [lambda event, step, values: losses.append(values["loss"]) if event == "log" else None]
    one.train()
    expected = json.loads((tmp_path / "whole" / "rank0.json").read_text())["losses"]
    assert losses == pytest.approx(expected[10:], rel=1e-3)


@pytest.mark.slow
def test_a_spread_run_ends_as_an_unbroken_one_wherever_it_was_saved(tmp_path):
    """One curve, whoever goes on from whose state. Four micro-batches in a step: 4 of 1 process, 2 of each of 2, 1 of
    each of 4."""
    options: dict[str, Any] = {"epochs": 4, "logging_steps": 1}
    single = tiny_trainer(tiny_model(dropout=0.0), accumulate=4, **options)
    expected, found = [], []
    single.callbacks = [lambda event, step, values: expected.append(values["loss"]) if event == "log" else None]
    single.train()
    first = tiny_trainer(tiny_model(dropout=0.0), tmp_path / "0", accumulate=4, **options | {"max_steps": 3})
    first.callbacks = [lambda event, step, values: found.append(values["loss"]) if event == "log" else None]
    first.train()
    runs = [(2, "fsdp", False), (2, "ddp", False), (4, "fsdp", True), (2, "fsdp", True), (2, "ddp", True),
            (4, "fsdp", False), (1, "ddp", True), (4, "fsdp", True), (1, "ddp", False)]  # fmt: skip
    for number, (processes, parallel, sharded) in enumerate(runs):
        more = {"accumulate": 4 // processes, "max_steps": 4 + number, "parallel": parallel, "sharded": sharded,
                "start": str(tmp_path / str(number) / "last")}  # fmt: skip
        folder = tmp_path / str(number + 1)
        assert in_ranks(processes, partial(run, folder, options | more)) == [0] * processes
        found += json.loads((folder / "rank0.json").read_text())["losses"]
        assert (folder / "last/trainer").is_dir() == sharded
    assert found == pytest.approx(expected[: len(found)], rel=1e-5) and len(found) == 12
