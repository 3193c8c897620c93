"""Entities as spans of words, which may nest or overlap: [{"start": 0, "end": 2, "label": "city"}], end exclusive.

Instead of spans a record may have tags, one per word; their entities are the gold ones.
"""

from collections.abc import Sequence
from typing import Any

from ..errors import DataError, kind
from ..labels import LabelVocab, check_name
from ..tag_schemes import refuse_plain
from . import word

FORM = "words"
NAMED = True
DTYPE, DEPTH = "int64", 2
NONE = (-1, -1, -1)  # stands first, so that a record without entities differs from one whose gold is unknown

Span = tuple[int, int, str]  # first word, word behind the last, label


def check(where: str, label: Any, value: Any, record: dict[str, Any], schema: Any) -> None:
    if is_tags(value):
        word.check(where, label, value, record, schema)
        try:
            refuse_plain(word.split(value), schema.tag_scheme)
        except ValueError as error:
            raise DataError(where, str(error), label.column) from None
        return
    if not isinstance(value, list):
        right = '[{"start": 0, "end": 2, "label": "city"}], or a list of tags'
        raise DataError(where, f"must be a list of entities as {right}, found {kind(value)}", label.column)
    num_words = len(schema.text(record))
    for number, entity in enumerate(value, 1):
        if not isinstance(entity, dict) or not {"start", "end", "label"} <= entity.keys():
            raise DataError(where, f"entity {number} needs start, end and label, found {kind(entity)}", label.column)
        start, end, name = entity["start"], entity["end"], entity["label"]
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= num_words:
            message = f"entity {number}: start {start!r}, end {end!r}; right is 0 <= start < end <= {num_words} words"
            raise DataError(where, message, label.column)
        if not isinstance(name, str) or not name.strip():
            message = f"entity {number}: label must be a string, not empty, found {kind(name)}"
            raise DataError(where, message, label.column)
        check_name(where, label.column, name, "label")


def is_tags(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and isinstance(value[0], str))


def gold(value: Any, record: dict[str, Any], schema: Any) -> list[Span]:
    """Sorted and without repetitions."""
    if is_tags(value):
        return spans(word.gold(value, record, schema))
    return sorted({(entity["start"], entity["end"], entity["label"]) for entity in value})


def spans(tags: Sequence[str]) -> list[Span]:
    """The entities of legal IOB2 tags."""
    found: list[Span] = []
    for number, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append((number, number + 1, tag[2:]))
        elif tag.startswith("I-"):
            found[-1] = (found[-1][0], number + 1, found[-1][2])
    return found


def names(gold: list[Span]) -> Sequence[str]:
    return [label for _, _, label in gold]


def encode(gold: list[Span], vocab: LabelVocab, feature: dict[str, Any]) -> list[Sequence[int]]:
    """[class, first word, last word] of those that truncation left and the vocabulary knows."""
    kept = len(feature["word_starts"])
    numbered = [(vocab.encode(label), start, end - 1) for start, end, label in gold if end <= kept]
    return [NONE, *(triple for triple in numbered if triple[0] >= 0)]


def shown(value: Sequence[Span], record: dict[str, Any], schema: Any) -> list[dict[str, Any]]:
    words = schema.text(record)
    return [{"start": start, "end": end, "label": label, "words": words[start:end]} for start, end, label in value]


def is_right(prediction: Sequence[Span], gold: list[Span]) -> bool:
    return list(prediction) == gold


def right(gold: list[Span]) -> list[Span]:
    return gold
