"""One number per record, as a score or a price."""

import math
from collections.abc import Sequence
from typing import Any

from ..errors import DataError, kind

FORM = None
DTYPE, DEPTH = "float64", 0


def check(where: str, label: Any, value: Any, record: dict[str, Any], schema: Any) -> None:
    try:
        finite = not isinstance(value, bool) and math.isfinite(float(value))
    except (TypeError, ValueError):
        finite = False
    if not finite:
        raise DataError(where, f"must be a finite number, found {kind(value)}", label.column)


def gold(value: Any, record: dict[str, Any], schema: Any) -> float:
    return float(value)


def names(gold: float) -> Sequence[str]:
    return ()


def encode(gold: float, vocab: None, feature: dict[str, Any]) -> float:
    return gold


def shown(value: float, record: dict[str, Any], schema: Any) -> float:
    return round(value, 4)


def is_right(prediction: float, gold: float) -> bool:
    """Never: the files of errors have all records, with both numbers."""
    return False


def right(gold: float) -> float:
    return gold
