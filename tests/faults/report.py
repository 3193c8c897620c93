"""docs/reliability.md from what was measured."""

import os
import platform
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.faults.__main__ import PEERS, ROWS
from tests.faults.job import BATCH, SAVE_STEPS, STEPS, Job

INTRODUCTION = """# Reliability

What happens to a training run when it is killed, its files are damaged, the disk is full, a loss is NaN, or its data
is malformed. `tests/test_reliability.py` injects the faults, asserts the outcomes of this project, records those of
two other trainers and writes this file; nothing in it is edited by hand.

```sh
sh run_tests.sh --slow tests/test_reliability.py
```

Measured in {minutes:.0f} minutes on {cores} CPU cores with Python {python}, torch {torch}, transformers
{transformers}, accelerate {accelerate} and lightning {lightning}.

## Faults in training

All three train a BERT classifier of 2 layers and hidden size 16 with dropout {dropout} (encoder and head) for {total}
steps of {batch} records: 2 epochs of {epoch} steps, AdamW, linear schedule, gradients clipped at 1, evaluated after
each epoch, a checkpoint every {save} steps. Each run is a process of its own on the CPU with one thread. After a
fault the same call is made again, as each project documents it, and the final weights are compared bit by bit with
those of an unbroken run of the same trainer. A run so small spends much of its time on saving, so that random kills
hit a save far more often than in a real job; the table says what happens then, not how often.

- transformers.Trainer: `save_total_limit=2`, `full_determinism=True`, `restore_callback_states_from_checkpoint=True`,
  `EarlyStoppingCallback`, `trainer.train(resume_from_checkpoint=True)` if `get_last_checkpoint` finds one. The option
  that saves on SIGTERM is `enable_jit_checkpoint=True`.
- Lightning: `seed_everything`, `Trainer(deterministic=True)`, `ModelCheckpoint(every_n_train_steps={save},
  save_last=True, save_top_k=1)`, `EarlyStopping`, `trainer.fit(ckpt_path="last")`, and a loader with `state_dict` and
  `load_state_dict`, whose order depends on the epoch alone. The option that saves on SIGTERM is
  `ModelCheckpoint(save_on_exception=True)`.
- This project: the calls of `main.py`, which are the same for starting and resuming; SIGTERM saves without an option.
  Checkpoints are written by a thread while training goes on (`--async_save`, on by default). A run that ends by itself,
  by an error or by a signal waits until the last one is on the disk; after SIGKILL the one before it is whole.

"×" counts trials. Files of the newest checkpoint are tried one by one; this project's has {ours} files,
transformers.Trainer's {hf_trainer}, Lightning's {lightning_peer}. For damaged files "same weights" are those of the
unbroken run or of a resume from the undamaged checkpoint, and a warning is what the undamaged resume does not say.
Whoever planted a pickle here has also entered its sum into this project's manifest. No space: a limit on the size of
files, one byte below each file of the checkpoint above 6 kB. Early stopping: learning rate 0, patience 2, killed at
six steps between the second evaluation and the third, the first of them right after the second. After the signal of
SIGTERM each step takes half a second.

"""

DATA = """
## Malformed data

This project only, under `main.py`; the messages are as printed, with folders left out.

"""


def write(file: Path, found: Mapping[str, Any], malformed: str) -> None:
    """found: outcomes by row and trainer, seconds; malformed: a Markdown table."""
    names = [import_module(f"tests.faults.{peer}").NAME for peer in PEERS]
    rows = [["fault", *names], ["---"] * (len(names) + 1)]
    for key, row in ROWS.items():
        rows.append([row.title, *(cell(found["outcomes"][key][peer]) for peer in PEERS)])
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    libraries = {name: version(name) for name in ("torch", "transformers", "accelerate", "lightning")}
    counts = {peer: sum(found["outcomes"]["half"][peer].values()) for peer in PEERS}
    job = Job()
    head = INTRODUCTION.format(
        minutes=found["seconds"] / 60, cores=os.cpu_count(), python=platform.python_version(),
        save=SAVE_STEPS, dropout=job.dropout, total=job.total_steps, batch=BATCH, epoch=STEPS, **libraries, **counts,
    )  # fmt: skip
    file.write_text(head + table + DATA + malformed, encoding="utf-8")


def cell(counts: Mapping[str, int]) -> str:
    """Most frequent first; a single trial is not counted."""
    if sum(counts.values()) == 1:
        return next(iter(counts))
    return "<br>".join(f"{n} × {what}" for what, n in sorted(counts.items(), key=lambda item: -item[1]))
