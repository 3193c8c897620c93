"""SST-2: sentences of English film reviews, positive or negative.

Socher et al. 2013, https://aclanthology.org/D13-1170; as of GLUE, https://gluebenchmark.com/tasks (with phrases), or
sentences only, https://github.com/clairett/pytorch-sentiment-classification/tree/master/data/SST2. No licence is
stated.

Raw files: train.tsv, dev.tsv, test.tsv, of GLUE with the header `sentence<tab>label` (test: `index<tab>sentence`), else
without a header `sentence<tab>label`. 1 is positive.
"""

from collections import Counter

from ..readers.lines import Items
from ._sentiment import read_sentiment

FORM = "classification"
FILES = ("*.tsv", "*.csv", "*.txt", "*.json", "*.jsonl")


def read(file: str, notes: Counter[str]) -> Items:
    return read_sentiment(file, (("text", "label"),), notes)
