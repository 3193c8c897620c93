"""LCQMC: pairs of Chinese questions, whether they have the same intention.

Liu et al. 2018, https://aclanthology.org/C18-1166; on request at http://icrc.hitsz.edu.cn/Article/show/171.html;
format: https://github.com/zejunwang1/CSTS. For research.

Raw files: train.txt, dev.txt, test.txt (or .tsv, .csv, .json): sentence, sentence, label, by tabs, with or without a
header.
"""

from collections import Counter

from ..readers.lines import Items
from ._question_pairs import FILES, read_pairs

__all__ = ["FILES", "FORM", "read"]

FORM = "pairs"


def read(file: str, notes: Counter[str]) -> Items:
    return read_pairs(file, notes)
