"""Texts with their titles or summaries, from a table of any dialect or JSON -> source and target.

    for where, record in read_summaries("csl_title_train.json", FIELDS, (), notes):
        print(record)       # {"source": "the abstract", "target": "the title"}
"""

from collections import Counter
from typing import Any

from ..errors import DataError
from ..readers.lines import Items
from ._rows import read_rows
from ._tables import Fields, Layouts
from ._values import clean_text, converted


def read_summaries(file: str, fields: Fields, layouts: Layouts, notes: Counter[str], task: str = "") -> Items:
    """Yield (where, {"source", "target"}).

    Args:
        fields: for "source", "target" and, if there is one, "task".
        task: what "task" must be; rows of other tasks are errors.
    """
    rows = read_rows(file, fields, layouts, notes)
    return converted(rows, lambda where, row: _record(where, row, notes, task))


def _record(where: str, row: dict[str, Any], notes: Counter[str], task: str) -> dict[str, str]:
    if "task" in row and row["task"] != task:
        raise DataError(where, f"the task is {row['task'][:40]!r}, not {task!r}", "task")
    return {side: clean_text(where, row.get(side), notes, side) for side in ("source", "target")}
