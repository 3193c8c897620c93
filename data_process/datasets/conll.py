"""CoNLL-2003: persons, places, organisations and others in English newspaper text.

Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419; described at
https://www.clips.uantwerpen.be/conll2003/ner/. The annotation is free; the text is the Reuters Corpus, for research
under the agreement with NIST.

Raw files: eng.train, eng.testa (the dev part) and eng.testb, or train.txt, valid.txt and test.txt: four columns word,
part of speech, chunk, entity; German has five. Entities are in IOB1, in many copies in IOB2; which one is found out.
"""

from collections import Counter

from ..readers.lines import Items
from ._column_format import read_columns

FORM = "tagging"
FILES = ("*.train", "*.dev", "*.test", "*.testa", "*.testb", "*.txt", "*.conll", "*.bio", "*.iob")
TYPES = {name: name for name in ("PER", "LOC", "ORG", "MISC")}


def read(file: str, notes: Counter[str]) -> Items:
    return read_columns(file, TYPES, ("iob1", "iob2"), notes)
