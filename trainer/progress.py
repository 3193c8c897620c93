"""`[Epoch 0] [TRAIN] 57%|████ | 57/100 loss=0.412 lr=4.3e-05`: a bar on a terminal, plain log lines elsewhere."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm import tqdm

from . import distributed


def progress_bar(items: Iterable[Any], title: str, total: int, initial: int = 0) -> Any:
    """`tqdm` over items; silent without a terminal and on other ranks than 0."""
    hidden = None if distributed.rank() == 0 else True  # None: hide it if the output is not a terminal
    shape = {"total": total, "initial": initial, "dynamic_ncols": True, "leave": False}
    return tqdm(items, desc=title, disable=hidden, file=sys.stdout, **shape)


def figures(values: Mapping[str, float]) -> str:
    """`loss=0.412 lr=4.3e-05`"""
    return " ".join(f"{name}={value:.4g}" for name, value in values.items())
