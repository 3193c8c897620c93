"""CLUENER2020: ten types of entities in Chinese news, by character.

Xu et al. 2020, https://arxiv.org/abs/2001.04351; https://github.com/CLUEbenchmark/CLUENER2020. No licence is stated; it
was published for research.

Raw files: train.json, dev.json, test.json (without labels), one object per line: {"text": "…", "label": {"name":
{"李白": [[3, 4]]}}}, the end of a span inclusive. Spans may overlap, so that records have `entities` with all of
them; of those that do, `tags` has the longest one, of equal ones the first.
"""

from collections import Counter
from typing import Any

from ..errors import DataError
from ..readers.lines import Items
from ._rows import read_objects
from ._values import converted, need

FORM = "tagging"
FILES = ("*.json", "*.jsonl")
TYPES = ("address", "book", "company", "game", "government", "movie", "name", "organization", "position", "scene")


def read(file: str, notes: Counter[str]) -> Items:
    return converted(read_objects(file, notes), lambda where, item: _record(where, item, notes))


def _record(where: str, item: dict[str, Any], notes: Counter[str]) -> dict[str, Any]:
    text = need(where, item.get("text"), str, "text")
    record: dict[str, Any] = {"tokens": list(text)}
    if "label" not in item:
        return record
    entities = []
    for name, mentions in need(where, item["label"], dict, "label").items():
        if name not in TYPES:
            raise DataError(where, f"unknown type {name!r}; known: {', '.join(TYPES)}", "label")
        for mention, spans in need(where, mentions, dict, "label").items():
            for span in need(where, spans, list, "label"):
                entities.append(_entity(where, text, name, mention, span))
    entities.sort(key=lambda entity: (entity["start"], entity["end"], entity["label"]))
    tags = _tags(entities, len(text))
    notes["records with overlapping entities"] += sum(tag[:2] == "B-" for tag in tags) < len(entities)
    return record | {"tags": tags, "entities": entities}


def _entity(where: str, text: str, name: str, mention: str, span: Any) -> dict[str, Any]:
    if not isinstance(span, list) or len(span) != 2:
        raise DataError(where, f"the span of {mention!r} must be [first, last], found {span}", "label")
    first, last = (need(where, place, int, "label") for place in span)
    if first < 0 or last + 1 - first != len(mention) or text[first : last + 1] != mention or not mention:
        found = text[max(first, 0) : last + 1]
        raise DataError(where, f"{mention!r} is not at {span} of the text: there is {found!r}", "label")
    return {"start": first, "end": last + 1, "label": name}


def _tags(entities: list[dict[str, Any]], length: int) -> list[str]:
    tags = ["O"] * length
    for entity in sorted(entities, key=lambda entity: entity["start"] - entity["end"]):
        start, end, name = entity["start"], entity["end"], entity["label"]
        if set(tags[start:end]) == {"O"}:
            tags[start:end] = [f"B-{name}"] + [f"I-{name}"] * (end - start - 1)
    return tags
