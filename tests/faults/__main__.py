"""Runs the faults and writes what happened: {row: {trainer: {outcome: how often}}}."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.faults import damage, kills

PEERS = ("ours", "hf_trainer", "lightning_peer")


class Row(NamedTuple):
    """trials: 0: one for each file, or one."""

    title: str
    function: Callable[..., kills.Counts]
    trials: int = 0


ROWS = {
    "kills": Row("SIGKILL at a random moment after the first checkpoint", kills.random_kills, 20),
    "kills_no_dropout": Row("the same in a job without dropout", partial(kills.random_kills, dropout=0.0), 10),
    "kills_saving": Row("SIGKILL while a checkpoint is written", kills.kills_while_saving, 20),
    "half": Row("a file of the newest checkpoint cut in half", partial(damage.damaged_files, damage=damage.truncate)),
    "bit": Row("one bit flipped in it, at 3 places", partial(damage.damaged_files, damage=damage.flip, turns=3)),
    "deleted": Row("a file of it deleted", partial(damage.damaged_files, damage=damage.delete)),
    "planted": Row("a pickle with code in place of a file of it", damage.planted_code),
    "full_disk": Row("no space for a file of the checkpoint", damage.full_disk),
    "nan": Row("NaN loss of one batch", damage.nan_loss),
    "early_stopping": Row("SIGKILL between evaluations: early stopping", kills.early_stopping, 6),
    "sigterm": Row("SIGTERM in step 5, default options", kills.sigterm),
    "sigterm_saving": Row("SIGTERM in step 5, with the option that saves", partial(kills.sigterm, options_on=True)),
    "two": Row("two processes in one output folder", kills.two_at_once, 5),
}


def measure(names: list[str], rows: list[str], trials: int) -> dict[str, Any]:
    """All peers' libraries are loaded once; every run is a fork of this process."""
    torch.set_num_threads(1)
    warnings.simplefilter("always")
    seconds: dict[str, float] = {}
    outcomes: dict[str, dict[str, kills.Counts]] = {}
    for name in names:
        peer = import_module(f"tests.faults.{name}")
        for module in peer.LOADED:
            import_module(module)
        for row in rows:
            _, function, most = ROWS[row]
            folder, begun = Path(tempfile.mkdtemp(prefix="faults-")), time.monotonic()
            try:
                outcomes.setdefault(row, {})[name] = function(peer, folder, min(trials or most, most))
            finally:
                shutil.rmtree(folder)
            seconds[f"{name}: {row}"] = round(time.monotonic() - begun, 1)
            print(f"{seconds[f'{name}: {row}']:6.1f} s  {name}: {row}: {dict(outcomes[row][name])}", file=sys.stderr)
    return {"outcomes": outcomes, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", action="append", choices=PEERS)
    parser.add_argument("--row", action="append", choices=ROWS)
    parser.add_argument("--trials", type=int, default=0, help="at most so many of each")
    args = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    found = measure(args.only or [*PEERS], args.row or [*ROWS], args.trials)
    args.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
