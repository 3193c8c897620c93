"""One number per record, as a score or a price."""

from collections.abc import Sequence
from typing import Any

from ..errors import DataError, kind

FORM = None
NAMED = False
DTYPE, DEPTH = "float64", 0
LARGEST = 3.4e38  # in the float32 of a batch, larger ones are infinite


def check(where: str, label: Any, value: Any, record: dict[str, Any], schema: Any) -> None:
    try:
        finite = not isinstance(value, bool) and abs(float(value)) < LARGEST
    except (TypeError, ValueError, OverflowError):
        finite = False
    if not finite:
        raise DataError(where, f"must be a finite number, below 3.4e38, found {kind(value)}", label.column)


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
