"""Check every record of a file before anything is written, and learn its labels.

    info = scan(read_records("train.jsonl"), schema, gold="required")
    info.label_counts["intent"]     # {"PlayMusic": 1914, ...}

One pass in constant memory (plus one label per record for stratified splits). The first wrong record raises `DataError`
with `file:line: field: what is wrong and what would be right`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from .errors import DataError
from .schema import LabelColumn, Schema, names


@dataclass
class DataInfo:
    """What a scan found."""

    num_records: int = 0
    label_counts: dict[str, Counter[str]] = field(default_factory=dict)
    """task -> label -> occurrences (records for "sequence", words for "word")"""
    num_gold: Counter[str] = field(default_factory=Counter)
    """task -> records with a gold label"""
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
    types: dict[str, type] = {}
    for where, record in islice(records, limit):
        check_text(where, record, schema.text_column)
        if schema.text_pair_column:
            check_text(where, record, schema.text_pair_column)
        stratum = ""
        for label in schema.labels:
            value = record.get(label.column)
            if value is None:
                if gold == "required":
                    raise DataError(where, missing(record, label.column), label.column)
                continue
            if label.level == "word":
                check_tags(where, label, value, schema.text(record))
                info.label_counts[label.task].update(names(value, "word"))
            else:
                check_label(where, label, value, types)
                stratum = stratum or str(value)
                info.label_counts[label.task][str(value)] += 1
            info.num_gold[label.task] += 1
        info.strata.append(stratum)
        info.num_records += 1
    return info


def missing(record: dict[str, Any], column: str) -> str:
    if column in record:
        return "is null; a gold label is needed here"
    return f"no such column; this record has {', '.join(map(repr, record)) or 'none'}"


def check_text(where: str, record: dict[str, Any], column: str) -> None:
    text = record.get(column)
    if text is None:
        raise DataError(where, missing(record, column).replace("a gold label", "a text"), column)
    if isinstance(text, str):
        if not text.strip():
            raise DataError(where, "is empty; remove the record or give it a text", column)
    elif not isinstance(text, list) or not all(isinstance(word, str) for word in text):
        raise DataError(where, f"must be a string or a list of words, found {kind(text)}", column)
    elif not any(word.strip() for word in text):
        raise DataError(where, "has no words; remove the record or give it a text", column)


def check_label(where: str, label: LabelColumn, value: Any, types: dict[str, type]) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(where, f"must be a label: a string or an integer, found {kind(value)}", label.column)
    if isinstance(value, str) and not value.strip():
        raise DataError(where, "is an empty label", label.column)
    if types.setdefault(label.task, type(value)) is not type(value):
        raise DataError(where, f"found {kind(value)} after labels of type {types[label.task].__name__}; use one type", label.column)


def check_tags(where: str, label: LabelColumn, value: Any, words: Any) -> None:
    """Tags must be strings, one per word, and legal IOB2 (B- begins, I- only goes on)."""
    if not isinstance(value, str | list) or not all(isinstance(tag, str) and tag for tag in value):
        raise DataError(where, f"must be a list of tags, one per word, found {kind(value)}", label.column)
    tags = names(value, "word")
    if len(tags) != len(words):
        raise DataError(where, f"{len(tags)} tags for {len(words)} words; there must be one tag per word", label.column)
    for position, (before, tag) in enumerate(zip(["O", *tags], tags, strict=False)):
        if tag.startswith("I-") and before not in (f"B-{tag[2:]}", tag):
            raise DataError(where, f"{tag} at word {position} follows {before}; an entity must begin with B-{tag[2:]}", label.column)


def kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def unseen_labels(train: dict[str, list[str]], info: DataInfo) -> Iterator[tuple[str, list[str]]]:
    """Tasks with labels that the training data lacks: such labels can only be missed."""
    for task, counts in info.label_counts.items():
        extra = sorted(set(counts) - set(train[task]))
        if extra:
            yield task, extra
