"""Any number of labels per record: a list of names, or one string with | between them; an empty one has none."""

from collections.abc import Sequence
from typing import Any

from ..errors import DataError, kind
from ..labels import IGNORE, LabelVocab, check_name

FORM = None
NAMED = True
DTYPE, DEPTH = "int64", 1
NONE = -1  # stands first, so that a record without labels differs from one whose gold is unknown


def check(where: str, label: Any, value: Any, record: dict[str, Any], schema: Any) -> None:
    if not isinstance(value, str | list):
        raise DataError(where, f"must be a list of labels, or a string with | between them, found {kind(value)}",
                        label.column)  # fmt: skip
    for number, name in enumerate(split(value), 1):
        if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
            message = f"label {number} must be a string or an integer, not empty, found {kind(name)}"
            raise DataError(where, message, label.column)
        check_name(where, label.column, str(name), "label")
    found = gold(value, record, schema)
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise DataError(where, f"has the label {twice!r} twice", label.column)


def split(value: str | list[Any]) -> list[Any]:
    return [part.strip() for part in value.split("|")] * bool(value.strip()) if isinstance(value, str) else value


def gold(value: Any, record: dict[str, Any], schema: Any) -> list[str]:
    """Sorted, so that equal sets are equal lists."""
    return sorted(str(name) for name in split(value))


def names(gold: list[str]) -> Sequence[str]:
    return gold


def encode(gold: list[str], vocab: LabelVocab, feature: dict[str, Any]) -> list[int]:
    return [NONE, *(number for number in vocab.encode(gold) if number != IGNORE)]


def shown(value: list[str], record: dict[str, Any], schema: Any) -> list[str]:
    return value


def is_right(prediction: list[str], gold: list[str]) -> bool:
    return prediction == gold


def right(gold: list[str]) -> list[str]:
    return gold
