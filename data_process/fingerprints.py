"""Which texts come more than once: within a part, or in training and in evaluation; with the same label or another.

    train, test = Fingerprints(), Fingerprints()
    train.add("play yesterday", "PlayMusic", "train.jsonl:1")
    test.add("play yesterday", "GetWeather", "test.jsonl:7")
    copies(train, test).exact, copies(train, test).other_label         # 1, 1

A record takes 32 bytes, whatever its text is, and all is found by sorting numbers: millions of records are fine.
A fingerprint is a hash of 64 bits; among ten million texts two different ones have the same with a probability of 3e-6.

"near" is the same text but for capitals, full-width forms (NFKC) and white space.

Copy: alone; needs numpy.
"""

import hashlib
import unicodedata
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SHOWN = 5  # examples
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: a text and its label as one number


@dataclass
class Copies:
    """How many of the records have a text that stands elsewhere."""

    records: int
    """all that were looked at"""
    exact: int
    """with the very text of another one"""
    near: int
    """not these, but with its text in other capitals, widths or spaces"""
    other_label: int
    """with the very text of another one that has another label"""
    examples: list[list[str]] = field(default_factory=list)
    """[where, where the other one is] of the first few exact ones, those with another label first"""

    @property
    def share(self) -> float:
        """Of exact ones."""
        return self.exact / max(self.records, 1)


class Fingerprints:
    """Those of the records of a part, in order."""

    def __init__(self) -> None:
        self.texts, self.plain, self.labels, self.lines = (array("Q") for _ in range(4))
        self.sources: list[tuple[int, str]] = []
        """from which record on, and the beginning of `where`"""

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: str, label: str, where: str) -> None:
        """where: file:line, as the readers name it."""
        own = number_of(text)
        reduced = plain(text)
        self.texts.append(own)
        self.plain.append(own if reduced == text else number_of(reduced))
        self.labels.append(number_of(label))
        source = where.rstrip("0123456789")
        if not self.sources or self.sources[-1][1] != source:
            self.sources.append((len(self) - 1, source))
        self.lines.append(int(where[len(source) :] or 0))

    def extend(self, other: "Fingerprints") -> None:
        """With those of another data set behind its own."""
        self.sources += [(first + len(self), source) for first, source in other.sources]
        for name in ("texts", "plain", "labels", "lines"):
            getattr(self, name).extend(getattr(other, name))

    def where(self, record: int) -> str:
        source = next(source for first, source in reversed(self.sources) if first <= record)
        return f"{source}{self.lines[record]}"

    def numbers(self, name: str) -> Any:
        return np.frombuffer(getattr(self, name), dtype=np.uint64) if len(self) else np.zeros(0, np.uint64)

    @property
    def pairs(self) -> Any:
        """Of text and label together."""
        return self.numbers("texts") * MIX ^ self.numbers("labels")


def number_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def plain(text: str) -> str:
    """Without what capitals, widths and white space add."""
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return "".join(text.casefold().split())


def repeats(part: Fingerprints) -> Copies:
    """Records whose text came before in the same part; "other_label": records whose text has several labels there."""
    texts = part.numbers("texts")
    found, first, place = np.unique(texts, return_index=True, return_inverse=True)
    distinct = len(np.unique(part.numbers("plain")))
    mixed = num_labels(part)[place] > 1
    again = np.flatnonzero(first[place] != np.arange(len(texts)))
    shown = np.concatenate([again[mixed[again]], again[~mixed[again]]])[:SHOWN]
    examples = [[part.where(record), part.where(first[place[record]])] for record in shown.tolist()]
    return Copies(len(part), len(again), len(found) - distinct, int(np.count_nonzero(mixed)), examples)


def copies(train: Fingerprints, held_out: Fingerprints) -> Copies:
    """Records of a held-out part whose text stands in the training part; its label there may be the same and others."""
    texts = held_out.numbers("texts")
    found, first = np.unique(train.numbers("texts"), return_index=True)
    known = np.isin(texts, found)
    near = np.isin(held_out.numbers("plain"), train.numbers("plain")) & ~known
    same = np.isin(held_out.pairs, train.pairs)
    place = np.searchsorted(found, texts[known])
    other = known.copy()
    other[known] = num_labels(train)[place] > same[known]
    leaked = np.concatenate([np.flatnonzero(other), np.flatnonzero(known & ~other)])[:SHOWN]
    origin = first[np.searchsorted(found, texts[leaked])]
    examples = [[held_out.where(a), train.where(b)] for a, b in zip(leaked.tolist(), origin.tolist(), strict=True)]
    num_known, num_near, num_other = (int(np.count_nonzero(chosen)) for chosen in (known, near, other))
    return Copies(len(held_out), num_known, num_near, num_other, examples)


def num_labels(part: Fingerprints) -> Any:
    """Number of different labels of each distinct text, in the order of their fingerprints."""
    _, one_of_each = np.unique(part.pairs, return_index=True)
    return np.unique(part.numbers("texts")[one_of_each], return_counts=True)[1]
