"""Check every record of a file before anything is written, and learn its labels.

    info = scan(read_records("train.jsonl"), schema, gold="required")
    info.label_counts["intent"]     # {"PlayMusic": 1914, ...}

One pass in constant memory, but for the four bytes of each record that say its label, for stratified splits. The first
wrong record raises `DataError` with `file:line: field: what is wrong and what would be right`, or is left out and
remembered (on_bad_record="skip").
"""

import logging
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from .errors import DataError
from .levels import level_of
from .levels.word import split
from .record_checks import check_record, wrong_tag_set
from .schema import Schema

logger = logging.getLogger(__name__)
LISTED = 10  # mistakes of a file that are shown


class Strata(Sequence[str | list[str]]):
    """A label, or list of labels, for each record; those that are equal are kept once."""

    def __init__(self) -> None:
        self.numbers: dict[str | tuple[str, ...], int] = {}
        self.labels: list[str | list[str]] = []
        self.of_record = array("I")

    def append(self, label: str | list[str]) -> None:
        number = self.numbers.setdefault(label if isinstance(label, str) else tuple(label), len(self.labels))
        if number == len(self.labels):
            self.labels.append(label)
        self.of_record.append(number)

    def __len__(self) -> int:
        return len(self.of_record)

    def __getitem__(self, record: Any) -> Any:
        return self.labels[self.of_record[record]]

    def __iter__(self) -> Iterator[str | list[str]]:
        return map(self.labels.__getitem__, self.of_record)


@dataclass
class DataInfo:
    """What a scan found."""

    num_records: int = 0
    """those left out included"""
    label_counts: dict[str, Counter[str]] = field(default_factory=dict)
    """task -> label -> occurrences (in records, for "word" in words); nothing where labels have no names"""
    strata: Strata = field(default_factory=Strata)
    """the first label, or list of labels, of each good record, for splits; "" without one"""
    groups: list[str | int] = field(default_factory=list)
    """the group of each good record, if the schema has groups"""
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
        if len(self.mistakes) < LISTED:
            self.mistakes.append(error)

    def reasons(self, file: str) -> list[str]:
        """The first mistakes as `line 5: tags: …`."""
        texts = [str(error).removeprefix(file).lstrip(": ") for error in self.mistakes]
        return [f"line {text}" if text[0].isdigit() else text for text in texts]


def check_file(
    file: str,
    read: Callable[[], Iterable[tuple[str, Any]]],
    schema: Schema,
    gold: Literal["required", "optional"],
    limit: int | None = None,
    on_bad_record: Literal["error", "skip"] = "error",
) -> DataInfo:
    """Scan what `read()` gives, again if need be, and warn of the records left out; an error if there is no other."""
    found = scan(read(), schema, gold, limit, on_bad_record)
    if found.mixed:
        found = scan(read(), schema, gold, limit, on_bad_record, found.mixed)
    total, reasons = found.num_records, found.reasons(file)
    if total == len(found.skipped):
        raise DataError(file, f"none of its {total} records can be used; the first: {reasons[0]}")
    if found.skipped:
        more = f" (first {LISTED} listed)" if len(found.skipped) > LISTED else ""
        logger.warning("%s: %d of %d records skipped: %s%s", file, len(found.skipped), total, ", ".join(reasons), more)
    return found


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
    for label in schema.labels:  # `first` has tags at the level "word" only
        wrong = wrong_tag_set(label, first[label.task], schema.tag_scheme)
        if wrong and on_bad_record == "error":
            raise wrong
        if wrong:
            info.mixed.add(label.task)
    return info


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
        info.label_counts[label.task].update(level_of(label.level).names(found[label.task]))
        if label.level == "sequence":
            types.setdefault(label.task, type(record[label.column]))
        elif label.level == "word":
            for tag in split(record[label.column]):
                first[label.task].setdefault(tag, where)
    sortable = (n.task for n in schema.labels if n.level in ("sequence", "multi_label") and n.task in found)
    info.strata.append(next((found[task] for task in sortable), ""))
    if schema.group_column:
        info.groups.append(record.get(schema.group_column, ""))
