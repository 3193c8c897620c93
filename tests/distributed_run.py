"""What test_distributed.py has all ranks do: train the tiny model, and write what came out.

python -m torch.distributed.run --nproc_per_node 2 -m tests.distributed_run OUT '{"use_fgm": true}'
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from model_utils.multitask_model import MultiTaskModel
from tests.tiny import tiny_model, tiny_trainer
from trainer import distributed
from trainer.compile import compile_layers
from trainer.sharding import is_spread, shard


def run(out: Path, options: dict[str, Any]) -> None:
    """options: parallel, compile, start (a state to go on from), and those of `tiny_trainer`."""
    torch.set_num_threads(1)
    options = dict(options)
    rank, _, world_size = distributed.start("cpu")
    start = options.pop("start", None)
    model = tiny_model(dropout=0.0, seed=0) if start is None else MultiTaskModel.from_pretrained(start)
    if options.pop("compile", False):
        compile_layers(model, "cpu", "aot_eager")
    if options.pop("parallel", "ddp") == "fsdp":
        shard(model, "cpu")
    trainer = tiny_trainer(model, out, rank=rank, world_size=world_size, **options)
    losses: list[float] = []
    trainer.callbacks = [lambda event, step, values: losses.append(values["loss"]) if event == "log" else None]
    if start is not None:
        trainer.resume(start)
    trainer.train()
    weights: list[Any] = [*model.parameters()]
    parts = [weight.to_local() if is_spread(weight) else weight for weight in weights]
    result = trainer.predict(trainer.eval_loader, with_confidences=True)
    out.mkdir(exist_ok=True)
    report = {"losses": losses, "history": trainer.history, "sample_ids": result.sample_ids, "labels": result.labels,
              "weights": sum(part.numel() for part in parts)}  # fmt: skip
    (out / f"rank{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    run(Path(sys.argv[1]), json.loads(sys.argv[2]))
