"""MSRA: persons, places and organisations in Chinese newspaper text, by character.

Levow 2006, "The Third International Chinese Language Processing Bakeoff", https://aclanthology.org/W06-0115; its two
common forms are described at https://github.com/OYE93/Chinese-NLP-Corpus/tree/master/NER/MSRA. Licence: see there.

Raw files: msra_train_bio.txt, msra_test_bio.txt and the like, `character<tab>tag` lines and a blank line after each
sentence; or train1.txt and testright1.txt, one sentence per line with the entities cut out: 李白/nr 到/o 北京/ns.
"""

import re
from collections import Counter

from ..errors import DataError
from ..readers.lines import Items
from ._column_format import read_columns
from ._raw_lines import first_line, read_lines
from ._values import converted, plain_label, skip_blank

FORM = "tagging"
FILES = ("*.txt", "*.train", "*.dev", "*.test", "*.bio", "*.bmes", "*.char", "*.conll")
TYPES = {"PER": "PER", "LOC": "LOC", "ORG": "ORG", "nr": "PER", "ns": "LOC", "nt": "ORG", "NR": "PER", "NS": "LOC",
         "NT": "ORG"}  # fmt: skip

_SEGMENTED = re.compile(r"\S+/(?:o|n[rst])(?:\s|$)", re.IGNORECASE)


def read(file: str, notes: Counter[str]) -> Items:
    if not _SEGMENTED.match(first_line(file)):
        return read_columns(file, TYPES, ("iob2", "bmes", "iobes"), notes, characters=True)
    notes["files with one sentence per line, entities cut out"] += 1
    lines = skip_blank(read_lines(file, notes), notes)
    return converted(lines, lambda where, line: _record(where, line, notes))


def _record(where: str, line: str, notes: Counter[str]) -> dict[str, list[str]]:
    tokens: list[str] = []
    tags: list[str] = []
    for piece in re.split("[ \t]+", line.strip(" \t")):
        characters, slash, name = piece.rpartition("/")
        name = plain_label(where, name, notes, "tags").lower()
        if not characters or not slash or name not in {"o", *TYPES}:
            raise DataError(where, f"{piece!r} is not of the form characters/tag with the tag o, nr, ns or nt", "tags")
        tokens += characters
        rest = len(characters) - 1
        tags += ["O"] * (rest + 1) if name == "o" else [f"B-{TYPES[name]}"] + [f"I-{TYPES[name]}"] * rest
    return {"tokens": tokens, "tags": tags}
