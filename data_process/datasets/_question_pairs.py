"""Pairs of sentences with the label 0 or 1, from a table of any dialect or JSON -> text_a, text_b, label.

    for where, record in read_pairs("train.tsv", notes):
        print(record)       # {"text_a": "...", "text_b": "...", "label": "1"}

Without a header, three columns are text_a, text_b, label, four have a number before them, and two are unlabelled.
"""

from collections import Counter
from typing import Any

from ..readers.lines import Items
from ._rows import read_rows
from ._values import clean_text, converted, known_label

FILES = ("*.tsv", "*.csv", "*.txt", "*.json", "*.jsonl", "*.data")
FIELDS = {
    "text_a": ("sentence1", "text_a", "text1", "question1", "query1", "q1", "s1"),
    "text_b": ("sentence2", "text_b", "text2", "question2", "query2", "q2", "s2"),
    "label": ("label",),
}
LAYOUTS = (("text_a", "text_b", "label"), ("id", "text_a", "text_b", "label"), ("text_a", "text_b"))
LABELS = {"0": "0", "1": "1"}


def read_pairs(file: str, notes: Counter[str]) -> Items:
    """Yield (where, {"text_a", "text_b", "label"}), without label for unlabelled files."""
    rows = read_rows(file, FIELDS, LAYOUTS, notes)
    return converted(rows, lambda where, row: pair(where, row, notes))


def pair(where: str, row: dict[str, Any], notes: Counter[str]) -> dict[str, Any]:
    record = {side: clean_text(where, row.get(side), notes, side) for side in ("text_a", "text_b")}
    return record | ({"label": known_label(where, row["label"], LABELS, notes)} if "label" in row else {})
