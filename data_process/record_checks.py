"""The first mistake of one record: texts, labels, and tags of words.

check_record("train.jsonl:17", record, schema, gold="required", types={}, entities=())
"""

import unicodedata
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from .errors import DataError
from .schema import LabelColumn, Schema, names
from .tag_schemes import fitting, is_tag, to_iob2

# Longer ones are no texts or labels, but lost line ends or the wrong column.
MAX_TEXT_CHARS, MAX_LABEL_CHARS = 1_000_000, 256
COLUMNS_SHOWN = 10


def check_record(
    where: str, record: Any, schema: Schema, gold: str, types: dict[str, type], entities: Collection[str]
) -> None:
    """Raises DataError.

    Args:
        record: or the DataError that says why it could not be read.
        gold: "required", or "optional" if gold labels may be absent or null.
        types: task -> type of its labels in the records before.
        entities: tasks that are known to have entities, so that any other tag is a mistake.
    """
    if isinstance(record, DataError):
        raise record
    check_text(where, record, schema.text_column)
    if schema.text_pair_column:
        check_text(where, record, schema.text_pair_column)
    for label in schema.labels:
        value = record.get(label.column)
        if value is None:
            if gold == "required":
                raise DataError(where, missing(record, label.column, "a gold label"), label.column)
        elif label.level == "word":
            check_tags(where, label, value, schema, record)
            here = dict.fromkeys(names(value, "word"), where)
            error = wrong_tag_set(label, here, schema.tag_scheme, True) if label.task in entities else None
            if error:
                raise error
        else:
            check_label(where, label, value, types)


def missing(record: dict[str, Any], column: str, needed: str) -> str:
    if column in record:
        return f"is null; {needed} is needed here"
    shown = [repr(name)[:40] for name in list(record)[:COLUMNS_SHOWN]] + ["..."] * (len(record) > COLUMNS_SHOWN)
    return f"no such column; this record has {', '.join(shown) or 'none'}"


def check_text(where: str, record: dict[str, Any], column: str) -> None:
    text = record.get(column)
    if text is None:
        raise DataError(where, missing(record, column, "a text"), column)
    if isinstance(text, str):
        if not text.strip():
            raise DataError(where, "is empty; remove the record or give it a text", column)
    elif not isinstance(text, list):
        raise DataError(where, f"must be a string or a list of words, found {kind(text)}", column)
    else:
        for number, word in enumerate(text, 1):
            if not isinstance(word, str):
                raise DataError(where, f"word {number} must be a string, found {kind(word)}", column)
        if not any(word.strip() for word in text):
            raise DataError(where, "has no words; remove the record or give it a text", column)
    length = len(text) if isinstance(text, str) else sum(map(len, text))
    if length > MAX_TEXT_CHARS:
        message = f"has {length:,} characters, at most {MAX_TEXT_CHARS:,} are read; are line ends lost? Else split it"
        raise DataError(where, message, column)


def check_label(where: str, label: LabelColumn, value: Any, types: dict[str, type]) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(where, f"must be a label: a string or an integer, found {kind(value)}", label.column)
    if isinstance(value, str) and not value.strip():
        raise DataError(where, "is an empty label", label.column)
    check_name(where, label, str(value), "label")
    usual = types.get(label.task, type(value))
    if usual is not type(value):
        message = f"found {kind(value)} after labels of type {usual.__name__}; use one type"
        raise DataError(where, message, label.column)


def check_name(where: str, label: LabelColumn, name: str, what: str) -> None:
    """A label is a short name on one line: it is shown in logs and tables."""
    if len(name) > MAX_LABEL_CHARS:
        message = f"{what} of {len(name):,} characters, at most {MAX_LABEL_CHARS} are usual; is this the right column?"
        raise DataError(where, message, label.column)
    if odd := odd_character(name):
        message = f"{what} {name[:40]!r} holds the control character U+{ord(odd):04X}; remove it"
        raise DataError(where, message, label.column)


@lru_cache(4096)
def odd_character(name: str) -> str:
    """The first one that breaks a line or is invisible; "" if there is none."""
    return next((char for char in name if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs")), "")


def check_tags(where: str, label: LabelColumn, value: Any, schema: Schema, record: dict[str, Any]) -> None:
    """Tags must be strings, one per word, and legal in the scheme."""
    if not isinstance(value, str | list):
        raise DataError(where, f"must be a list of tags, one per word, found {kind(value)}", label.column)
    for number, tag in enumerate(value, 1):
        if not isinstance(tag, str) or not tag:
            raise DataError(where, f"tag {number} must be a string, not empty, found {kind(tag)}", label.column)
    tags, words = names(value, "word"), schema.text(record)
    for tag in set(tags):
        check_name(where, label, tag, "tag")
    if len(tags) != len(words):
        message = f"{len(tags)} tags for {len(words)} words; there must be one tag per word"
        raise DataError(where, message, label.column)
    try:
        to_iob2(tags, schema.tag_scheme)
    except ValueError as error:
        raise DataError(where, str(error), label.column) from None


def wrong_tag_set(label: LabelColumn, first: dict[str, str], scheme: str, entities: bool = False) -> DataError | None:
    """Where there are entities, every other tag is O; and tags that are all of another scheme are no plain ones.

    first: tag -> where it came up first.
    entities: whether there are some for sure.
    """
    others = {tag: where for tag, where in first.items() if tag != "O" and not is_tag(tag, scheme)}
    schemes = fitting(first)
    if not others or not (entities or schemes or any(is_tag(tag, scheme) for tag in first)):
        return None
    tag, where = next(iter(others.items()))
    hint = f"--tag_scheme {' or '.join(schemes)}" if schemes else "O for words outside of entities"
    message = f"found the tag {tag!r} in data with entities of {scheme.upper()}; use {hint}"
    return DataError(where, message, label.column)


def kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
