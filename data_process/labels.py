"""Label vocabularies: names <-> class numbers.

    vocab = LabelVocab.from_counts({"PlayMusic": 3, "GetWeather": 9}, level="sequence")
    vocab.encode("PlayMusic"); vocab.names
"""

from collections.abc import Iterable, Sequence
from typing import Any

IGNORE = -100  # torch's ignore_index: no gold label here


class LabelVocab:
    """An ordered list of label names. Unknown ones (seen only in eval data) encode to -100: they can only be missed."""

    def __init__(self, names: Sequence[str]):
        if len(set(names)) != len(names):
            raise ValueError(f"label names must differ: {list(names)}")
        self.names = list(names)
        self._ids = {name: i for i, name in enumerate(self.names)}

    @classmethod
    def from_counts(cls, labels: Iterable[str], level: str) -> "LabelVocab":
        """Sorted names, so that the numbering does not depend on the order of the data."""
        return cls(close_tags(labels) if level == "word" else sorted(labels))

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, gold: Any) -> Any:
        """A name -> its number; a list of names -> a list of numbers."""
        if isinstance(gold, str):
            return self._ids.get(gold, IGNORE)
        return [self._ids.get(name, IGNORE) for name in gold]

    def unknown(self, labels: Iterable[str]) -> list[str]:
        return sorted(set(labels) - set(self.names))


def is_entity_tag(tag: str) -> bool:
    return tag[:2] in ("B-", "I-") and len(tag) > 2


def close_tags(tags: Iterable[str]) -> list[str]:
    """O first, then B-x, I-x of every entity x (both, even if one of them never occurs in the data)."""
    tags = set(tags)
    entities = sorted({tag[2:] for tag in tags if is_entity_tag(tag)})
    plain = sorted(tag for tag in tags if tag != "O" and not is_entity_tag(tag))
    return ["O"] * bool(entities or "O" in tags) + [f"{p}-{entity}" for entity in entities for p in "BI"] + plain
