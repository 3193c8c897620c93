"""Check every record of a file before anything is written, and learn its labels.

    info = scan(read_records("train.jsonl"), schema, gold="required")
    info.label_counts["intent"]     # {"PlayMusic": 1914, ...}

One pass in constant memory (plus one label per record for stratified splits). The first wrong record raises `DataError`
with `file:line: field: what is wrong and what would be right`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from .errors import DataError
from .labels import is_entity_tag
from .schema import LabelColumn, Schema, names


@dataclass
class DataInfo:
    """What a scan found."""

    num_records: int = 0
    label_counts: dict[str, Counter[str]] = field(default_factory=dict)
    """task -> label -> occurrences (records for "sequence", words for "word")"""
    strata: list[str] = field(default_factory=list)
    """the first sequence-level label of each record, for stratified splits; "" without one"""


def scan(
    records: Iterable[tuple[str, dict[str, Any]]],
    schema: Schema,
    gold: Literal["required", "optional"],
    limit: int | None = None,
) -> DataInfo:
    """Check all records (or the first `limit`); gold labels may be absent or null only where they are "optional"."""
    info = DataInfo(label_counts={label.task: Counter() for label in schema.labels})
    types: dict[str, type] = {}  # task -> type of its labels
    first: dict[str, dict[str, str]] = {label.task: {} for label in schema.labels}  # task -> tag -> where it came up
    for where, record in islice(records, limit):
        check_text(where, record, schema.text_column)
        if schema.text_pair_column:
            check_text(where, record, schema.text_pair_column)
        stratum = ""
        for label in schema.labels:
            value = record.get(label.column)
            if value is None:
                if gold == "required":
                    raise DataError(where, missing(record, label.column, "a gold label"), label.column)
                continue
            if label.level == "word":
                check_tags(where, label, value, schema.text(record))
                tags = names(value, "word")
                info.label_counts[label.task].update(tags)
                first[label.task] |= {tag: where for tag in tags if tag not in first[label.task]}
            else:
                check_label(where, label, value, types)
                stratum = stratum or str(value)
                info.label_counts[label.task][str(value)] += 1
        info.strata.append(stratum)
        info.num_records += 1
    for label in schema.labels:
        check_tag_set(label, first[label.task])
    return info


def missing(record: dict[str, Any], column: str, needed: str) -> str:
    if column in record:
        return f"is null; {needed} is needed here"
    return f"no such column; this record has {', '.join(map(repr, record)) or 'none'}"


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


def check_label(where: str, label: LabelColumn, value: Any, types: dict[str, type]) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(where, f"must be a label: a string or an integer, found {kind(value)}", label.column)
    if isinstance(value, str) and not value.strip():
        raise DataError(where, "is an empty label", label.column)
    usual = types.setdefault(label.task, type(value))
    if usual is not type(value):
        message = f"found {kind(value)} after labels of type {usual.__name__}; use one type"
        raise DataError(where, message, label.column)


def check_tags(where: str, label: LabelColumn, value: Any, words: Any) -> None:
    """Tags must be strings, one per word, and legal IOB2 (B- begins, I- only goes on)."""
    if not isinstance(value, str | list):
        raise DataError(where, f"must be a list of tags, one per word, found {kind(value)}", label.column)
    for number, tag in enumerate(value, 1):
        if not isinstance(tag, str) or not tag:
            raise DataError(where, f"tag {number} must be a string, not empty, found {kind(tag)}", label.column)
    tags = names(value, "word")
    if len(tags) != len(words):
        message = f"{len(tags)} tags for {len(words)} words; there must be one tag per word"
        raise DataError(where, message, label.column)
    for number, (before, tag) in enumerate(zip(["O", *tags], tags, strict=False), 1):
        if tag.startswith("I-") and before not in (f"B-{tag[2:]}", tag):
            message = f"{tag} at word {number} follows {before}; an entity must begin with B-{tag[2:]}"
            raise DataError(where, message, label.column)


def check_tag_set(label: LabelColumn, first: dict[str, str]) -> None:
    """Where there are entities, every tag is O, B-x or I-x: the metrics know no other scheme (as BIOES).

    first: tag -> where it came up first.
    """
    if any(is_entity_tag(tag) for tag in first):
        for tag, where in first.items():
            if tag != "O" and not is_entity_tag(tag):
                message = f"found the tag {tag!r} in data with entities; use IOB2: B-x, then I-x, else O"
                raise DataError(where, message, label.column)


def kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
