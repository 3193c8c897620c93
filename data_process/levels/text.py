"""A text to be generated."""

from collections.abc import Sequence
from typing import Any

from ..errors import DataError, kind

FORM = "source"
NAMED = False
DTYPE, DEPTH = "int64", 1


def check(where: str, label: Any, value: Any, record: dict[str, Any], schema: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise DataError(where, f"must be a text, not empty, found {kind(value)}", label.column)


def gold(value: str, record: dict[str, Any], schema: Any) -> str:
    """Without white space around it, as generated texts are."""
    return value.strip()


def names(gold: str) -> Sequence[str]:
    return ()


def encode(gold: str, vocab: Any, feature: dict[str, Any]) -> list[int]:
    """vocab: see `TargetEncoder` in encode.py."""
    return vocab.encode(gold)


def shown(value: str, record: dict[str, Any], schema: Any) -> str:
    return value


def is_right(prediction: str, gold: str) -> bool:
    return prediction == gold


def right(gold: str) -> str:
    return gold
