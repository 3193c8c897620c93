"""STS-B: pairs of English or Chinese sentences with their similarity from 0 to 5.

Cer et al. 2017, "SemEval-2017 Task 1", https://aclanthology.org/S17-2001; as of GLUE, https://gluebenchmark.com/tasks,
or http://ixa2.si.ehu.eus/stswiki/index.php/STSbenchmark (CC BY-SA 4.0); Chinese: CNSD,
https://github.com/pluto-junzeng/CNSD (for research only).

Raw files: of GLUE, train.tsv, dev.tsv, test.tsv (without scores), ten columns with a header; of STSbenchmark,
sts-train.csv, sts-dev.csv, sts-test.csv, seven columns by tabs and sometimes more; of CNSD, cnsd-sts-train.txt, -dev,
-test: number||sentence||sentence||score; copies with sentence, sentence, score by tabs.
"""

from collections import Counter
from typing import Any

from ..readers.lines import Items
from ._question_pairs import FIELDS, FILES
from ._rows import read_rows
from ._tables import COMMA, REST, TAB
from ._values import clean_text, converted, number_in

__all__ = ["FILES", "FORM", "read"]

FORM = "pairs"
LAYOUTS = (
    ("genre", "file", "year", "id", "label", "text_a", "text_b", REST),
    ("id", "text_a", "text_b", "label"),
    ("text_a", "text_b", "label"),
)


def read(file: str, notes: Counter[str]) -> Items:
    fields = FIELDS | {"label": ("score", "similarity", "label")}
    rows = read_rows(file, fields, LAYOUTS, notes, ("||", TAB, COMMA))
    return converted(rows, lambda where, row: _record(where, row, notes))


def _record(where: str, row: dict[str, Any], notes: Counter[str]) -> dict[str, Any]:
    record = {side: clean_text(where, row.get(side), notes, side) for side in ("text_a", "text_b")}
    return record | ({"label": number_in(where, row["label"], 0, 5, notes)} if "label" in row else {})
