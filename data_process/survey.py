"""What is in the parts of a data set, beside what a scan finds: one pass over each file, nothing is encoded.

    found = survey(data, sample=2000)
    found["train"].texts                    # fingerprints, see fingerprints.py
    found["eval"].counts["topic"]           # Counter of labels; of tags their entities
    found["train"].sample                   # [(number, record), …], evenly spread over the part

    illegal_tags(data, "train")             # ["train.jsonl:17", …]
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from .build import Data
from .errors import DataError
from .fingerprints import Fingerprints
from .labels import is_entity_tag
from .levels import entities, level_of
from .levels.word import split
from .schema import LabelColumn, Schema
from .sources import open_source
from .tag_schemes import refuse_plain, to_iob2

as_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True, default=str).encode


@dataclass
class Survey:
    """Of the records of a part that are not left out."""

    texts: Fingerprints = field(default_factory=Fingerprints)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """task -> label -> occurrences; of tags of entities their types, nothing where labels have no names"""
    with_gold: Counter[str] = field(default_factory=Counter)
    """task -> records with a gold label"""
    alike: dict[str, Any] = field(default_factory=dict)
    """task -> the one gold label that all of them have; a task whose gold labels differ is absent"""
    sample: list[tuple[int, dict[str, Any]]] = field(default_factory=list)


def survey(data: Data, sample: int = 2000) -> dict[str, Survey]:
    """Part -> what is in it.

    Args:
        sample: records of each part that are kept.
    """
    found = {part: Survey(counts={label.task: Counter() for label in data.schema.labels}) for part in data.sources}
    for source in dict.fromkeys(data.sources.values()):
        parts = [part for part in data.sources if data.sources[part] == source]
        members = {part: as_mask(data.numbers(part), data.scan_of(part)) for part in parts}
        chosen = {part: spread(data.numbers(part), sample) for part in parts}
        first: dict[str, dict[str, Any]] = {part: {} for part in parts}
        for number, (where, record) in enumerate(islice(open_source(source), data.limit)):
            for part in parts:
                if members[part][number] and isinstance(record, dict):
                    learn(found[part], where, record, data.schema, first[part])
                    if number in chosen[part]:
                        found[part].sample.append((number, record))
    for each in found.values():
        each.counts = {task: types_of(counts) for task, counts in each.counts.items()}
    return found


def as_mask(numbers: Sequence[int], scan: Any) -> Any:
    mask = np.zeros(scan.num_records, dtype=bool)
    mask[np.asarray(numbers, dtype=np.int64)] = True
    mask[scan.skipped] = False
    return mask


def spread(numbers: Sequence[int], most: int) -> set[int]:
    """At most so many of them, at equal distances."""
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int)
    return {numbers[place] for place in places.tolist()}


def learn(found: Survey, where: str, record: dict[str, Any], schema: Schema, first: dict[str, Any]) -> None:
    gold = schema.gold(record)
    texts = (text if isinstance(text, str) else " ".join(text) for text in texts_of(record, schema))
    found.texts.add("\0".join(texts), as_json(gold), where)
    for label in schema.labels:
        if label.task not in gold:
            continue
        value = gold[label.task]
        found.counts[label.task].update(level_of(label.level).names(value))
        found.with_gold[label.task] += 1
        if found.with_gold[label.task] == 1:
            first[label.task] = found.alike[label.task] = value
        elif label.task in found.alike and not same_gold(label, value, first[label.task]):
            del found.alike[label.task]


def same_gold(label: LabelColumn, value: Any, other: Any) -> bool:
    """Of tags those that occur, not how many words have them; of answers, choices and texts there are always others."""
    if label.level == "word":
        return set(value) == set(other) and len(set(value)) == 1
    return label.level in ("sequence", "multi_label", "number", "pair", "entities") and value == other


def texts_of(record: dict[str, Any], schema: Schema) -> list[Any]:
    """All that the model reads of a record: strings, or lists of words."""
    texts = (schema.text(record), schema.text_pair(record), *schema.choices(record))
    return [text for text in texts if text is not None]


def types_of(counts: Counter[str]) -> Counter[str]:
    """Of IOB2 tags the entities, of other labels the same."""
    begun = Counter({tag[2:]: number for tag, number in counts.items() if tag.startswith("B-")})
    return begun or counts


def illegal_tags(data: Data, part: str) -> list[str]:
    """Where the records are, among those of a part's file that were left out, whose tags the scheme does not allow."""
    skipped = set(data.scan_of(part).skipped)
    records = enumerate(islice(open_source(data.sources[part]), data.limit) if skipped else ())
    return [where for number, (where, record) in records if number in skipped and is_illegal(record, data)]


def is_illegal(record: dict[str, Any] | DataError, data: Data) -> bool:
    """Whether some tags of a record are of another scheme, or no sequence that the scheme allows."""
    for label in data.schema.labels if isinstance(record, dict) else ():
        value = record.get(label.column)  # type: ignore[union-attr]
        if label.level not in ("word", "entities") or not entities.is_tags(value):
            continue
        try:
            tags = split(value)  # type: ignore[arg-type]
            if label.level == "entities" or any(map(is_entity_tag, data.vocabs[label.task].names)):
                refuse_plain(tags, data.schema.tag_scheme)
            to_iob2(tags, data.schema.tag_scheme)
        except (ValueError, TypeError, IndexError):  # or no tags at all
            return True
    return False
