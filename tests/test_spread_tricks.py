"""With FSDP2 two processes do with each trick what they do with DDP, the same random numbers included."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from config import TRICKS, WHOLE_TRICKS, Arguments, chosen_tricks
from tests.processes import torchrun
from tests.tiny import tiny_model, tiny_trainer
from trainer import distributed
from trainer.sharding import shard
from trainer.step import TrainStep
from tricks.build import build_tricks

USED = [name.removeprefix("use_") for name in TRICKS if name.startswith("use_")]
USED = [name for name in USED if name not in (*WHOLE_TRICKS, "reinit")]  # reinit changes a model before it is spread


@pytest.mark.slow
def test_spread_weights_are_trained_as_whole_ones(tmp_path: Path) -> None:
    done = torchrun(2, "-m", "tests.test_spread_tricks", str(tmp_path / "losses.json"), timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = json.loads((tmp_path / "losses.json").read_text())
    for trick in ["plain", *USED]:
        assert losses[f"fsdp {trick}"] == pytest.approx(losses[f"ddp {trick}"], rel=1e-5), trick
    changed = [trick for trick in USED if losses[f"ddp {trick}"] != losses["ddp plain"]]
    assert {*USED} - {*changed} == {"rdrop", "multi_sample_dropout"}  # nothing without dropout


def train(trick: str, parallel: str) -> list[float]:
    """Losses of each step of an epoch, and that of its evaluation."""
    model: Any = tiny_model(dropout=0.0)
    if parallel == "fsdp":
        shard(model, "cpu")
    args = Arguments()
    if trick != "plain":
        setattr(args, f"use_{trick}", True)
    trainer = tiny_trainer(model, rank=distributed.rank(), world_size=2, logging_steps=1, epochs=1)
    plain = trainer.train_step
    teacher = tiny_model(dropout=0.0, seed=3).eval() if trick == "distillation" else None
    used = build_tricks(model, plain.optimizer, chosen_tricks(args), total_steps=7, teacher=teacher)
    varies = trick == "gradual_unfreezing"
    trainer.train_step = TrainStep(model, plain.optimizer, plain.scheduler, tasks_vary=varies, **used.places)
    used.begin(())
    losses: list[float] = []
    trainer.callbacks = [lambda event, step, values: losses.append(values["loss"]) if event == "log" else None]
    torch.manual_seed(5 + distributed.rank())
    trainer.train()
    return [*losses, trainer.history[-1]["eval"]["loss"]]


if __name__ == "__main__":  # under torchrun
    torch.set_num_threads(1)
    distributed.start("cpu")
    found = {f"{kind} {trick}": train(trick, kind) for kind in ("ddp", "fsdp") for trick in ["plain", *USED]}
    if distributed.rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(found))
