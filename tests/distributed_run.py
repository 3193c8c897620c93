"""Started by test_distributed.py under torchrun: trains the tiny model on all ranks and writes what came out.

python -m torch.distributed.run --nproc_per_node 2 -m tests.distributed_run OUT '{"use_fgm": true}'
"""

import json
import sys
from pathlib import Path

import torch

from tests.tiny import tiny_model, tiny_trainer
from trainer import distributed

if __name__ == "__main__":
    torch.set_num_threads(1)
    out, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    rank, _, world_size = distributed.start("cpu")
    model = tiny_model(dropout=0.0, seed=0)
    trainer = tiny_trainer(model, out, rank=rank, world_size=world_size, **options)
    losses: list[float] = []
    trainer.callbacks = [lambda event, step, values: losses.append(values["loss"]) if event == "log" else None]
    trainer.train()
    result = trainer.predict(trainer.eval_loader, with_confidences=True)
    out.mkdir(exist_ok=True)
    report = {"losses": losses, "history": trainer.history, "sample_ids": result.sample_ids, "labels": result.labels}
    (out / f"rank{rank}.json").write_text(json.dumps(report))
