"""One tag per word: a list, or a string that is split at white space. The reference is IOB2."""

from collections.abc import Sequence
from typing import Any

from ..errors import DataError, kind
from ..labels import LabelVocab, check_name
from ..tag_schemes import to_iob2

FORM = "words"
NAMED = True
DTYPE, DEPTH = "int64", 1


def check(where: str, label: Any, value: Any, record: dict[str, Any], schema: Any) -> None:
    """Tags must be strings, one per word, and legal in the scheme."""
    if not isinstance(value, str | list):
        raise DataError(where, f"must be a list of tags, one per word, found {kind(value)}", label.column)
    for number, tag in enumerate(value, 1):
        if not isinstance(tag, str) or not tag:
            raise DataError(where, f"tag {number} must be a string, not empty, found {kind(tag)}", label.column)
    tags, words = split(value), schema.text(record)
    for tag in set(tags):
        check_name(where, label.column, tag, "tag")
    if len(tags) != len(words):
        message = f"{len(tags)} tags for {len(words)} words; there must be one tag per word"
        raise DataError(where, message, label.column)
    try:
        to_iob2(tags, schema.tag_scheme)
    except ValueError as error:
        raise DataError(where, str(error), label.column) from None


def split(value: str | list[str]) -> list[str]:
    return value.split() if isinstance(value, str) else list(value)


def gold(value: Any, record: dict[str, Any], schema: Any) -> list[str]:
    tags = split(value)
    return tags if schema.tag_scheme == "iob2" else to_iob2(tags, schema.tag_scheme)


def names(gold: list[str]) -> Sequence[str]:
    return gold


def encode(gold: list[str], vocab: LabelVocab, feature: dict[str, Any]) -> list[int]:
    return vocab.encode(gold[: len(feature["word_starts"])])


def shown(value: list[str], record: dict[str, Any], schema: Any) -> list[str]:
    return value


def is_right(prediction: list[str], gold: list[str]) -> bool:
    return prediction == gold


def right(gold: list[str]) -> list[str]:
    return gold
