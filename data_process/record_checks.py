"""The first mistake of one record: texts, choices, gold labels.

check_record("train.jsonl:17", record, schema, gold="required", types={}, entities=())

Copy: with levels/, errors.py, labels.py, schema.py, tag_schemes.py; needs only Python.
"""

from collections.abc import Collection
from typing import Any

from .errors import DataError, kind
from .levels import level_of
from .levels.word import split
from .schema import LabelColumn, Schema
from .tag_schemes import fitting, is_tag

MAX_TEXT_CHARS = 1_000_000  # longer ones are no texts, but lost line ends
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
    if schema.text_pair_column and (schema.form != "separate" or record.get(schema.text_pair_column) is not None):
        check_text(where, record, schema.text_pair_column)
    if schema.choices_column:
        check_choices(where, record, schema.choices_column)
    if schema.group_column and gold == "required" and not isinstance(record.get(schema.group_column), str | int):
        right = f"must be a string or an integer, found {kind(record.get(schema.group_column))}"
        raise DataError(where, right, schema.group_column)
    for label in schema.labels:
        value = record.get(label.column)
        if value is None:
            if gold == "required" and not label.optional:
                raise DataError(where, missing(record, label.column, "a gold label"), label.column)
            continue
        level_of(label.level).check(where, label, value, record, schema)
        if label.level == "sequence":
            check_type(where, label, value, types)
        elif label.level == "word" and label.task in entities:
            error = wrong_tag_set(label, dict.fromkeys(split(value), where), schema.tag_scheme, True)
            if error:
                raise error


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


def check_choices(where: str, record: dict[str, Any], column: str) -> None:
    choices = record.get(column)
    if choices is None:
        raise DataError(where, missing(record, column, "a list of texts to choose from"), column)
    if not isinstance(choices, list) or len(choices) < 2:
        raise DataError(where, f"must be a list of at least two texts, found {kind(choices)}", column)
    for number, choice in enumerate(choices, 1):
        if not isinstance(choice, str) or not choice.strip():
            raise DataError(where, f"choice {number} must be a text, not empty, found {kind(choice)}", column)


def check_type(where: str, label: LabelColumn, value: Any, types: dict[str, type]) -> None:
    usual = types.get(label.task, type(value))
    if usual is not type(value):
        message = f"found {kind(value)} after labels of type {usual.__name__}; use one type"
        raise DataError(where, message, label.column)


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
