"""BQ Corpus: pairs of Chinese questions to a bank, whether they mean the same.

Chen et al. 2018, https://aclanthology.org/D18-1536; on request at http://icrc.hitsz.edu.cn/info/1037/1162.htm. For
research.

Raw files: train.tsv, dev.tsv, test.tsv (or .csv, .txt, .json): sentence, sentence, label, with or without a header.
"""

from collections import Counter

from ..readers.lines import Items
from ._question_pairs import FILES, read_pairs

__all__ = ["FILES", "FORM", "read"]

FORM = "pairs"


def read(file: str, notes: Counter[str]) -> Items:
    return read_pairs(file, notes)
