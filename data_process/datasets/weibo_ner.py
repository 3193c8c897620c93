"""Weibo NER: persons, places, organisations and political entities in Chinese microblogs, by character.

Peng and Dredze 2015, https://aclanthology.org/D15-1064; second version by He and Sun 2016,
https://arxiv.org/abs/1611.04234; https://github.com/hltcoe/golden-horse. Its README states no licence.

Raw files: weiboNER_2nd_conll.train, .dev, .test (or the first version, weiboNER.conll.*), `character<tab>tag` lines
and a blank line after each message. Behind each character there is its place in its word, a digit: 男0 友1; copies
without it are read, too. NAM are names, NOM nominal mentions. A folder with both versions is refused: name the files
of one.
"""

from collections import Counter

from ..readers.lines import Items
from ._column_format import read_columns

FORM = "tagging"
FILES = ("*conll*", "*.train", "*.dev", "*.test", "*.txt", "*.bio", "*.bmes", "*.char")
TYPES = {name: name for name in (f"{kind}.{form}" for kind in ("PER", "LOC", "ORG", "GPE") for form in ("NAM", "NOM"))}


def read(file: str, notes: Counter[str]) -> Items:
    return read_columns(file, TYPES, ("iob2", "bmes", "iobes"), notes, characters=True, may_be_glued=True)
