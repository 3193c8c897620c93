"""Texts with the label 0 or 1, from a table of any dialect or JSON -> text and "negative" or "positive".

    for where, record in read_sentiment("train.tsv", (("text", "label"),), notes):
        print(record)       # {"text": "...", "label": "positive"}
"""

from collections import Counter
from typing import Any

from ..readers.lines import Items
from ._rows import read_rows
from ._tables import Layouts
from ._values import clean_text, converted, known_label

FIELDS = {"text": ("sentence", "text_a", "text", "review"), "label": ("label",)}
LABELS = {"0": "negative", "1": "positive"}


def read_sentiment(file: str, layouts: Layouts, notes: Counter[str]) -> Items:
    """Yield (where, {"text", "label"}), without label for unlabelled files."""
    return converted(read_rows(file, FIELDS, layouts, notes), lambda where, row: _record(where, row, notes))


def _record(where: str, row: dict[str, Any], notes: Counter[str]) -> dict[str, Any]:
    record = {"text": clean_text(where, row.get("text"), notes, "text")}
    return record | ({"label": known_label(where, row["label"], LABELS, notes)} if "label" in row else {})
