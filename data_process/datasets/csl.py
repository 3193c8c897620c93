"""CSL: abstracts of Chinese scientific papers, whose titles are to be written.

Li et al. 2022, https://aclanthology.org/2022.coling-1.344; https://github.com/ydli-ai/CSL. Apache-2.0.

Raw files: csl_title_train.json, csl_title_dev.json (or _val), csl_title_test.json of CLGE, one object per line with
`abst` and `title`; or benchmark/ts/train.tsv, dev.tsv, test.tsv: `to title`, abstract, title, by tabs; or all papers
in csl_camera_readly.tsv: title, abstract, keywords, discipline, category. (The CSL task of CLUE, to recognise
keywords, has no titles and is another one.)
"""

from collections import Counter

from ..readers.lines import Items
from ._summaries import read_summaries

FORM = "generation"
FILES = ("*.json", "*.jsonl", "*.tsv", "*.csv")
FIELDS = {"source": ("abst", "abstract", "content"), "target": ("title",), "task": ("prompt",)}
LAYOUTS = (("task", "source", "target"), ("target", "source", "keywords", "discipline", "category"))


def read(file: str, notes: Counter[str]) -> Items:
    return read_summaries(file, FIELDS, LAYOUTS, notes, task="to title")
