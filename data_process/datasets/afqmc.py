"""AFQMC: pairs of Chinese questions to a payment service, whether they mean the same, a task of CLUE.

Ant Financial Question Matching Corpus; Xu et al. 2020, "CLUE", https://aclanthology.org/2020.coling-main.419;
https://github.com/CLUEbenchmark/CLUE. For research.

Raw files: train.json, dev.json, test.json (without labels), one object per line: {"sentence1": "…", "sentence2": "…",
"label": "0"}; or tables train.txt, dev.txt (https://github.com/zejunwang1/CSTS): sentence, sentence, label, by tabs.
"""

from collections import Counter

from ..readers.lines import Items
from ._question_pairs import FILES, read_pairs

__all__ = ["FILES", "FORM", "read"]

FORM = "pairs"


def read(file: str, notes: Counter[str]) -> Items:
    return read_pairs(file, notes)
