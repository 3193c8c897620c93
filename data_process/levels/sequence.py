"""One label per record: a string or an integer, which stands for its text."""

from collections.abc import Sequence
from typing import Any

from ..errors import DataError, kind
from ..labels import LabelVocab, check_name

FORM = None
NAMED = True
DTYPE, DEPTH = "int64", 0


def check(where: str, label: Any, value: Any, record: dict[str, Any], schema: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(where, f"must be a label: a string or an integer, found {kind(value)}", label.column)
    if isinstance(value, str) and not value.strip():
        raise DataError(where, "is an empty label", label.column)
    check_name(where, label.column, str(value), "label")


def gold(value: Any, record: dict[str, Any], schema: Any) -> str:
    return str(value)


def names(gold: str) -> Sequence[str]:
    return (gold,)


def encode(gold: str, vocab: LabelVocab, feature: dict[str, Any]) -> int:
    return vocab.encode(gold)


def shown(value: str, record: dict[str, Any], schema: Any) -> str:
    return value


def is_right(prediction: str, gold: str) -> bool:
    return prediction == gold


def right(gold: str) -> str:
    return gold
