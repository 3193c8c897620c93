"""Label vocabularies: names <-> class numbers.

    vocab = LabelVocab.from_counts({"PlayMusic": 3, "GetWeather": 9}, level="sequence")
    vocab.encode("PlayMusic"); vocab.names

Copy: with errors.py; needs only Python.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from .errors import DataError

IGNORE = -100  # torch's ignore_index: no gold label here
MAX_LABEL_CHARS = 256  # longer ones are no labels, but the wrong column


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

    @property
    def settings(self) -> list[str]:
        """What decides the encoding."""
        return self.names

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


def check_name(where: str, column: str, name: str, what: str) -> None:
    """A label is a short name on one line: it is shown in logs and tables. Raises DataError."""
    if len(name) > MAX_LABEL_CHARS:
        message = f"{what} of {len(name):,} characters, at most {MAX_LABEL_CHARS} are usual; is this the right column?"
        raise DataError(where, message, column)
    if odd := odd_character(name):
        message = f"{what} {name[:40]!r} holds the control character U+{ord(odd):04X}; remove it"
        raise DataError(where, message, column)


@lru_cache(4096)
def odd_character(name: str) -> str:
    """The first one that breaks a line or is invisible; "" if there is none."""
    return next((char for char in name if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs")), "")
