"""Check every record of a file before anything is written, and learn its labels.

    info = scan(read_records("train.jsonl"), schema, gold="required")
    info.label_counts["intent"]     # {"PlayMusic": 1914, ...}

One pass in constant memory (plus one label per record for stratified splits). The first wrong record raises `DataError`
with `file:line: field: what is wrong and what would be right`, or is left out and remembered (on_bad_record="skip").
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from .errors import DataError
from .schema import LabelColumn, Schema, names
from .tag_schemes import fitting, is_tag, to_iob2

# Longer ones are no texts, sentences or labels, but lost line ends, blank lines, or the wrong column.
MAX_TEXT_CHARS, MAX_LABEL_CHARS = 1_000_000, 256
SHOWN = 10


@dataclass
class DataInfo:
    """What a scan found."""

    num_records: int = 0
    """those left out included"""
    label_counts: dict[str, Counter[str]] = field(default_factory=dict)
    """task -> label -> occurrences (records for "sequence", words for "word")"""
    strata: list[str] = field(default_factory=list)
    """the first sequence-level label of each good record, for stratified splits; "" without one"""
    skipped: list[int] = field(default_factory=list)
    """numbers of the records left out, from 0"""
    mistakes: list[DataError] = field(default_factory=list)
    """why the first of them were left out"""
    mixed: set[str] = field(default_factory=set)
    """tasks with entities in some records and other tags in others: scan again with these `entities`"""

    @property
    def kept(self) -> Sequence[int]:
        """Numbers of the good records."""
        wrong = set(self.skipped)
        return [n for n in range(self.num_records) if n not in wrong] if wrong else range(self.num_records)

    def skip(self, error: DataError) -> None:
        self.skipped.append(self.num_records)
        if len(self.mistakes) < SHOWN:
            self.mistakes.append(error)


def scan(
    records: Iterable[tuple[str, Any]],
    schema: Schema,
    gold: Literal["required", "optional"],
    limit: int | None = None,
    on_bad_record: Literal["error", "skip"] = "error",
    entities: Collection[str] = (),
) -> DataInfo:
    """Check all records (or the first `limit`); gold labels may be absent or null only where they are "optional".

    Args:
        records: (where, record), or (where, DataError) for a record that could not be read.
        entities: tasks that are known to have entities, so that any other tag is a mistake of its record.
    """
    info = DataInfo(label_counts={label.task: Counter() for label in schema.labels})
    types: dict[str, type] = {}  # task -> type of its labels
    first: dict[str, dict[str, str]] = {label.task: {} for label in schema.labels}  # task -> tag -> where it came up
    for where, record in islice(records, limit):
        try:
            check_record(where, record, schema, gold, types, entities)
        except DataError as error:
            if on_bad_record == "error":
                raise
            info.skip(error)
        else:
            learn(info, where, record, schema, types, first)
        info.num_records += 1
    for label in schema.labels:
        error = wrong_tag_set(label, first[label.task], schema.tag_scheme)
        if error and on_bad_record == "error":
            raise error
        if error:
            info.mixed.add(label.task)
    return info


def check_record(
    where: str, record: Any, schema: Schema, gold: str, types: dict[str, type], entities: Collection[str]
) -> None:
    """Raises DataError for the first mistake of a record."""
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


def learn(
    info: DataInfo,
    where: str,
    record: dict[str, Any],
    schema: Schema,
    types: dict[str, type],
    first: dict[str, dict[str, str]],
) -> None:
    """Count the labels of a good record."""
    found = schema.gold(record)
    for label in schema.labels:
        if label.task not in found:
            continue
        if label.level == "word":
            info.label_counts[label.task].update(found[label.task])
            for tag in names(record[label.column], "word"):
                first[label.task].setdefault(tag, where)
        else:
            types.setdefault(label.task, type(record[label.column]))
            info.label_counts[label.task][found[label.task]] += 1
    info.strata.append(next((found[n.task] for n in schema.labels if n.level == "sequence" and n.task in found), ""))


def missing(record: dict[str, Any], column: str, needed: str) -> str:
    if column in record:
        return f"is null; {needed} is needed here"
    shown = ", ".join(repr(name)[:40] for name in list(record)[:SHOWN]) + ", ..." * (len(record) > SHOWN)
    return f"no such column; this record has {shown or 'none'}"


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
    odd = next((char for char in name if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs")), None)
    if odd is not None:
        message = f"{what} {name[:40]!r} holds the control character U+{ord(odd):04X}; remove it"
        raise DataError(where, message, label.column)


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
