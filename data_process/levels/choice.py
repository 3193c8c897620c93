"""The right one of a record's choices: its number, counted from 0, or its text."""

from collections.abc import Sequence
from typing import Any

from ..errors import DataError, kind

FORM = "choices"
NAMED = False
DTYPE, DEPTH = "int64", 0


def check(where: str, label: Any, value: Any, record: dict[str, Any], schema: Any) -> None:
    choices = schema.choices(record)
    if isinstance(value, str):
        if choices.count(value) != 1:
            message = f"{value[:40]!r} must be exactly one of the choices, or its number, counted from 0"
            raise DataError(where, message, label.column)
    elif type(value) is not int:
        raise DataError(where, f"must be the number of a choice, or its text, found {kind(value)}", label.column)
    elif not 0 <= value < len(choices):
        message = f"is choice {value} of {len(choices)}; they are counted from 0"
        raise DataError(where, message, label.column)


def gold(value: Any, record: dict[str, Any], schema: Any) -> int:
    return schema.choices(record).index(value) if isinstance(value, str) else value


def names(gold: int) -> Sequence[str]:
    return ()


def encode(gold: int, vocab: None, feature: dict[str, Any]) -> int:
    return gold


def shown(value: int, record: dict[str, Any], schema: Any) -> dict[str, Any]:
    return {"number": value, "text": schema.choices(record)[value]}


def is_right(prediction: int, gold: int) -> bool:
    return prediction == gold


def right(gold: int) -> int:
    return gold
