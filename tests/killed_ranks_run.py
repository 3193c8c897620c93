"""Started by test_killed_ranks.py under a launcher: trains a toy as main.py would, from the newest state on.

python -m trainer.launch --standalone --nproc_per_node 2 -m tests.killed_ranks_run OUT '{"epochs": 2}'

Of the libraries only torch is imported, so that a start takes two seconds.
"""

import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import main
from trainer import distributed
from trainer.checkpoint import set_damaged_aside
from trainer.lock import owned
from trainer.monitor import RunLog
from trainer.run_folder import RunFolder, find_state
from trainer.sharding import shard
from trainer.signals import Interrupted, StopSignals
from trainer.step import TrainStep
from trainer.trainer import Trainer

BATCH, STEPS = 4, 10  # records of a rank's batch, steps of an epoch


class Head(nn.Linear):
    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        return (labels != -100).sum()


class Model(nn.Module):
    """The sign of the first of 8 numbers, through 64 units with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dropout = nn.Linear(8, 64), nn.Dropout(0.3)
        self.heads, self.loss_weights = nn.ModuleDict({"sign": Head(64, 2)}), {"sign": 1.0}

    def num_items(self, labels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sign": (labels["sign"] != -100).sum()}

    def forward(self, batch: dict[str, Any], num_items: dict[str, torch.Tensor]) -> SimpleNamespace:
        logits = self.heads["sign"](self.dropout(self.layer(batch["x"]).relu()))
        loss = nn.functional.cross_entropy(logits, batch["labels"]["sign"], reduction="sum") / num_items["sign"]
        return SimpleNamespace(loss=loss, losses={"sign": loss}, logits={"sign": logits})


class Batches:
    """This rank's batches of an epoch: a pure function of its number and of what is done already."""

    def __init__(self, rank: int, world_size: int, does: Any):
        self.rank, self.world_size, self.does = rank, world_size, does

    def __call__(self, epoch: int, samples_seen: int) -> Any:
        size = self.world_size * BATCH
        for step in range(samples_seen // size, STEPS):
            x = torch.randn(size, 8, generator=torch.Generator().manual_seed(STEPS * epoch + step))
            own = torch.arange(size)[self.rank :: self.world_size]
            self.does(epoch * STEPS + step)
            yield {"sample_id": step * size + own, "x": x[own], "labels": {"sign": (x[own, 0] > 0).long()}}


def train(arguments: list[str] | None) -> None:
    """OUT, and options of the Trainer. More of them:

    step_seconds: that the data of a step takes, at least.
    parallel: "fsdp" = spread, and each rank saves its part of the state.
    rank_does: rank -> ["sleep", step, seconds], ["slow", step, seconds of each from there on], ["raise", step, 0] or
        ["exit", step, code].
    """
    assert arguments is not None
    folder, options = Path(arguments[0]), json.loads(arguments[1])
    rank, _, world_size = distributed.start("cpu")
    what, at, value = options.pop("rank_does", {}).get(str(rank), ["", 0, 0])
    step_seconds, spread = options.pop("step_seconds", 0.0), options.pop("parallel", "ddp") == "fsdp"

    def does(step: int) -> None:
        time.sleep(step_seconds)
        if (what == "sleep" and step == at) or (what == "slow" and step >= at):
            time.sleep(value)
        if what == "raise" and step == at:
            raise TypeError("a bug on one rank")
        if what == "exit" and step == at:
            os._exit(value)

    with ExitStack() as output:
        if rank == 0:
            output.enter_context(owned(folder))
        state = find_state(folder, "auto")
        torch.manual_seed(0)
        model = Model()
        if state:
            model.load_state_dict(load_file(state / "model.safetensors"))
        if spread:
            shard(model, "cpu")
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        stop_signal = StopSignals()
        trainer = Trainer(
            model, TrainStep(model, optimizer, scheduler), train_loader=Batches(rank, world_size, does),
            steps_per_epoch=STEPS, stop_signal=stop_signal,
            run_folder=RunFolder(folder, lambda path, weights: save_file(dict(weights), path / "model.safetensors"),
                                 model.state_dict, sharded=spread), **options,
        )  # fmt: skip
        torch.manual_seed(3 + rank)  # dropout differs
        if state:
            trainer.resume(state)
            if trainer.finished:
                return
        if rank == 0:
            set_damaged_aside(folder / "last")
            trainer.callbacks = [RunLog(folder, trainer.step, trainer.history, tensorboard=False)]
        with stop_signal:
            trainer.train()
        if stop_signal():
            raise Interrupted(stop_signal())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main.setup_logging(rank=int(os.environ["RANK"]))
    sys.exit(main.run(sys.argv[1:], train))
