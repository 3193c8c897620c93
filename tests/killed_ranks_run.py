"""Started by test_killed_ranks.py under a launcher: trains the tiny model as main.py would, from the newest state on.

python -m trainer.launch --standalone --nproc_per_node 2 -m tests.killed_ranks_run OUT '{"epochs": 2}'
"""

import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

import main
from model_utils.multitask_model import MultiTaskModel
from tests.tiny import tiny_model, tiny_trainer
from trainer import distributed
from trainer.checkpoint import set_damaged_aside
from trainer.lock import owned
from trainer.monitor import RunLog
from trainer.run_folder import find_state
from trainer.signals import Interrupted, StopSignals


def train(arguments: list[str] | None) -> None:
    """rank_does: rank -> ["sleep", step, seconds], ["raise", step, 0] or ["exit", step, code], when it comes there."""
    assert arguments is not None
    folder, options = Path(arguments[0]), json.loads(arguments[1])
    rank_does = options.pop("rank_does", {})
    rank, _, world_size = distributed.start("cpu")
    with ExitStack() as output:
        if rank == 0:
            output.enter_context(owned(folder))
        state = find_state(folder, "auto")
        model = MultiTaskModel.from_pretrained(state) if state else tiny_model()
        stop_signal = StopSignals()
        trainer = tiny_trainer(model, folder, rank=rank, world_size=world_size, stop_signal=stop_signal, **options)
        torch.manual_seed(3 + rank)  # dropout differs
        if state:
            trainer.resume(state)
            if trainer.finished:
                return
        if rank == 0:
            set_damaged_aside(folder / "last")
            trainer.callbacks = [RunLog(folder, trainer.step, trainer.history, tensorboard=False)]
        if str(rank) in rank_does:
            misbehave(trainer, *rank_does[str(rank)])
        with stop_signal:
            trainer.train()
        if stop_signal():
            raise Interrupted(stop_signal())


def misbehave(trainer: Any, what: str, step: int, value: float) -> None:
    take_step = trainer.take_step

    def taken(group: Any) -> None:
        if trainer.step == step:
            if what == "sleep":
                time.sleep(value)
            elif what == "raise":
                raise TypeError("a bug on one rank")
            else:
                os._exit(int(value))
        take_step(group)

    trainer.take_step = taken


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main.run(sys.argv[1:], train))
