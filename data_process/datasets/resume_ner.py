"""Resume NER: eight types of entities in Chinese resumes of managers, by character.

Zhang and Yang 2018, "Chinese NER Using Lattice LSTM", https://aclanthology.org/P18-1144;
https://github.com/jiesutd/LatticeLSTM. Licence: see there.

Raw files: train.char.bmes, dev.char.bmes, test.char.bmes, `character tag` lines in BMES and a blank line after each
sentence; copies in IOBES or IOB2 are read, too.
"""

from collections import Counter

from ..readers.lines import Items
from ._column_format import read_columns

FORM = "tagging"
FILES = ("*.bmes", "*.char", "*.train", "*.dev", "*.test", "*.txt", "*.bio", "*.conll")
TYPES = {name: name for name in ("NAME", "CONT", "RACE", "TITLE", "EDU", "ORG", "LOC", "PRO")}


def read(file: str, notes: Counter[str]) -> Items:
    return read_columns(file, TYPES, ("bmes", "iobes", "iob2"), notes, characters=True)
