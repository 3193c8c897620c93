"""People's Daily (人民日报): persons, places and organisations in Chinese newspaper text, by character.

The corpus of ChineseNER, https://github.com/zjy-ucas/ChineseNER, described at
https://github.com/OYE93/Chinese-NLP-Corpus/tree/master/NER/People's%20Daily. Licence: see there.

Raw files: example.train, example.dev, example.test, `character tag` lines and a blank line after each sentence.
"""

from collections import Counter

from ..readers.lines import Items
from ._column_format import read_columns

FORM = "tagging"
FILES = ("*.train", "*.dev", "*.test", "*.txt", "*.bio", "*.bmes", "*.char", "*.conll")
TYPES = {name: name for name in ("PER", "LOC", "ORG")}


def read(file: str, notes: Counter[str]) -> Items:
    return read_columns(file, TYPES, ("iob2", "bmes", "iobes"), notes, characters=True)
