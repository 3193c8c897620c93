"""TNEWS: titles of Chinese news on 15 topics, from Toutiao (今日头条), a task of CLUE.

Xu et al. 2020, "CLUE", https://aclanthology.org/2020.coling-main.419; https://github.com/CLUEbenchmark/CLUE; the older
form is https://github.com/aceimnorstuvwxz/toutiao-text-classfication-dataset. Licence: see there.

Raw files: train.json, dev.json, test.json (without labels), one object per line: {"label": "102", "label_desc":
"news_entertainment", "sentence": "…", "keywords": "…"}; or toutiao_cat_data.txt: id, number, name, title and keywords,
separated by `_!_`. The label that is written is the name.
"""

from collections import Counter
from typing import Any

from ..errors import DataError
from ..readers.lines import Items
from ._rows import read_rows
from ._values import clean_text, converted, known_label

FORM = "classification"
FILES = ("*.json", "*.jsonl", "*.txt")
LABELS = {
    "100": "news_story", "101": "news_culture", "102": "news_entertainment", "103": "news_sports",
    "104": "news_finance", "106": "news_house", "107": "news_car", "108": "news_edu",
    "109": "news_tech", "110": "news_military", "112": "news_travel", "113": "news_world",
    "114": "news_stock", "115": "news_agriculture", "116": "news_game",
}  # fmt: skip
NAMES = {name: name for name in LABELS.values()} | {"stock": "news_stock"}
FIELDS = {"text": ("sentence",), "label": ("label",), "name": ("label_desc",)}
LAYOUTS = (("id", "label", "name", "text", "keywords"),)


def read(file: str, notes: Counter[str]) -> Items:
    rows = read_rows(file, FIELDS, LAYOUTS, notes, ("_!_",))
    return converted(rows, lambda where, row: _record(where, row, notes))


def _record(where: str, row: dict[str, Any], notes: Counter[str]) -> dict[str, Any]:
    record = {"text": clean_text(where, row.get("text"), notes, "text")}
    if "label" not in row:
        return record
    label = known_label(where, row["label"], LABELS, notes)
    if "name" in row and known_label(where, row["name"], NAMES, notes, "label_desc") != label:
        raise DataError(where, f"{row['label']} means {label}, but label_desc is {row['name']!r}", "label")
    return record | {"label": label}
