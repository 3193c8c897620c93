"""ChnSentiCorp: Chinese reviews of hotels, laptops and books, positive or negative.

Tan and Zhang 2008, "An empirical study of sentiment analysis for Chinese documents"; the split with a header is the
one that Baidu distributes with PaddleHub, the hotels alone are
https://github.com/SophonPlus/ChineseNlpCorpus/tree/master/datasets/ChnSentiCorp_htl_all. Licence: see there.

Raw files: train.tsv, dev.tsv, test.tsv with a header that names `label` and `text_a`; or ChnSentiCorp_htl_all.csv with
the header `label,review`. 1 is positive. (One review of that file is empty: `--on_bad_record skip`.)
"""

from collections import Counter

from ..readers.lines import Items
from ._sentiment import read_sentiment

FORM = "classification"
FILES = ("*.tsv", "*.csv", "*.txt", "*.json", "*.jsonl")


def read(file: str, notes: Counter[str]) -> Items:
    return read_sentiment(file, (("label", "text"),), notes)
