"""`[Epoch 0] [TRAIN]: 57%|████ | 57/100 loss=0.412 lr=4.3e-05`: a bar on a terminal, plain log lines elsewhere.

Copy: with distributed.py; needs torch, tqdm.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm import tqdm

from . import distributed


def progress_bar(items: Iterable[Any], title: str, total: int, initial: int = 0) -> Any:
    """`tqdm` over items; disabled without a terminal, on other ranks than 0, and by TQDM_DISABLE=1."""
    shape = {"total": total, "initial": initial, "dynamic_ncols": True, "leave": False}
    shown = distributed.rank() == 0 and on_terminal()
    # an explicit disable=None or False would overrule TQDM_DISABLE
    return tqdm(items, desc=title, file=sys.stdout, **shape, **({} if shown else {"disable": True}))


def on_terminal() -> bool:
    """Whether stdout is a terminal of known size: in one of 0 lines, as containers make them, tqdm draws nothing."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).lines > 0
    except (OSError, ValueError):
        return False


def duration(seconds: float) -> str:
    """`01:23`, `2:01:23`"""
    return tqdm.format_interval(seconds)


def figures(values: Mapping[str, float]) -> str:
    """`loss=0.412 lr=4.3e-05`"""
    return " ".join(f"{name}={value:.4g}" for name, value in values.items())
