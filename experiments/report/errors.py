"""The wrong records of a run, as a table: a row per record and task that was wrong.

    table = read_errors(Path("output/run/errors/test.jsonl"), reports["test"])
    write_csv(Path("output/run/errors/test.csv"), table)
    page_data([table])                           # what page.js shows

A row's confidence is that of its surest wrong decision. Its loss is the record's own (`record_losses` of the heads);
the highest ones are where the model finds the gold label least likely, so wrong gold labels gather there (classes:
Northcutt et al. 2021, arXiv 1911.00068; tags: Wang and Mueller 2022, arXiv 2210.03920).
"""

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUSPECT_SHARE = 0.05
"""of the wrong rows of a task, those with the highest losses: probable label errors"""
MOST_ROWS = 50_000
"""in a page; the files have all"""
MOST_CHARACTERS = 1500
"""of a text in a page"""
OWN = ("sample_id", "predictions", "confidences", "gold", "losses", "wrong")


@dataclass
class Row:
    record: int
    """its place in the table's records"""
    task: str
    shape: str
    gold: Any
    predicted: Any
    pairs: list[tuple[str | None, str | None, float | None]]
    """(gold label, predicted label, confidence) of each wrong decision; None: nothing there"""
    confidence: float | None
    loss: float | None
    length: int
    """words of a list or of a tagged text, else characters"""
    value: Any = None
    """what a page needs to show gold and prediction, labels as they are"""
    suspect: bool = False


@dataclass
class Table:
    name: str
    """of the file: test, eval, test-NAME"""
    records: list[dict[str, Any]]
    rows: list[Row]
    """the most confident mistakes first"""


def read_errors(path: Path, reports: Mapping[str, Any]) -> Table:
    """
    Args:
        path: errors/<part>.jsonl.
        reports: task -> report of this part, or nothing.
    """
    with open(path, encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    gold_of: defaultdict[str, list[Any]] = defaultdict(list)
    for record in records:
        for task, gold in record["gold"].items():
            gold_of[task].append((gold, record["predictions"][task]))
    shapes = {task: shape_of(pairs, reports.get(task, {})) for task, pairs in gold_of.items()}
    names = {task: list(report.get("classes", ())) for task, report in reports.items()}
    rows = [
        row_of(number, record, task, shapes[task], names.get(task, []))
        for number, record in enumerate(records)
        for task in wrong_tasks(record)
    ]
    for shape in set(shapes.values()) - {"text"}:  # that a long text is unlikely says nothing
        mark_suspects([row for row in rows if row.shape == shape])
    return Table(path.stem, records, sorted(rows, key=surest_first))


def wrong_tasks(record: Mapping[str, Any]) -> list[str]:
    return record.get("wrong", [t for t, gold in record["gold"].items() if gold != record["predictions"][t]])


def surest_first(row: Row) -> tuple[float, float]:
    return -(row.confidence or 0), -(row.loss or 0)


def shape_of(pairs: Iterable[tuple[Any, Any]], report: Mapping[str, Any]) -> str:
    """What gold labels and predictions of a task look like: a key of READ."""
    values = [value for pair in pairs for value in pair]
    inside = [part for value in values if isinstance(value, list) for part in value]
    if all(isinstance(value, int | float) for value in values):
        return "number"
    if all(isinstance(value, dict) for value in values):
        return "answer" if all("answer_start" in value for value in values) else "choice"
    if all(isinstance(value, list) for value in values):
        if any(isinstance(part, dict) for part in inside):
            return "spans"
        thresholds = any("threshold" in figures for figures in report.get("classes", {}).values())
        return "labels" if thresholds or any(len(a) != len(b) for a, b in pairs) else "tags"
    return "label" if "classes" in report else "text"


def mark_suspects(rows: Sequence[Row]) -> None:
    by_task: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.loss is not None:
            by_task[row.task].append(row)
    for own in by_task.values():
        own.sort(key=lambda row: row.loss or 0, reverse=True)
        for row in own[: math.ceil(SUSPECT_SHARE * len(own))]:
            row.suspect = True


def row_of(number: int, record: Mapping[str, Any], task: str, shape: str, names: Sequence[str]) -> Row:
    gold, predicted = record["gold"][task], record["predictions"][task]
    sure = record.get("confidences", {}).get(task)
    pairs, value = READ[shape](gold, predicted, sure, names)
    known = [confidence for _, _, confidence in pairs if confidence is not None]
    text = main_text(record)
    length = len(gold) if shape == "tags" else len(text)
    return Row(number, task, shape, gold, predicted, pairs, max(known, default=None),
               record.get("losses", {}).get(task), length, value)  # fmt: skip


def main_text(record: Mapping[str, Any]) -> Any:
    """A string, or a list of words; the first column of the data."""
    return next((value for name, value in record.items() if name not in OWN), "")


# Each: (gold, predicted, confidences, class names) -> (pairs of the wrong decisions, what a page shows).


def read_label(gold: str, predicted: str, sure: Any, names: Sequence[str]) -> tuple[list[Any], Any]:
    return [(gold, predicted, sure)], None


def read_tags(gold: list[str], predicted: list[str], sure: Any, names: Sequence[str]) -> tuple[list[Any], Any]:
    """Shown: [place, gold, predicted, confidence] of every word with a tag that is not "O" twice."""
    words = list(zip(gold, predicted, sure or [None] * len(gold), strict=True))
    shown = [(place, *word) for place, word in enumerate(words) if word[:2] != ("O", "O")]
    return [word for word in words if word[0] != word[1]], shown


def read_labels(gold: list[str], predicted: list[str], sure: Any, names: Sequence[str]) -> tuple[list[Any], Any]:
    """A label too many: (None, label, its probability); one that was missed: (label, None, 1 - its probability)."""
    probability = dict(zip(names, sure, strict=True)) if sure and len(sure) == len(names) else {}
    extra = [(None, label, probability.get(label)) for label in predicted if label not in gold]
    missed = [(label, None, 1 - probability[label] if label in probability else None)
              for label in gold if label not in predicted]  # fmt: skip
    return missed + extra, (gold, predicted)


def read_spans(gold: list[Any], predicted: list[Any], sure: Any, names: Sequence[str]) -> tuple[list[Any], Any]:
    """Shown: [label, words, whether it is in the other one] of both."""
    sure = sure or [None] * len(predicted)
    missed = [(span["label"], None, None) for span in gold if span not in predicted]
    extra = [(None, span["label"], c) for span, c in zip(predicted, sure, strict=True) if span not in gold]
    shown = [
        [(span["label"], " ".join(span["words"]), span in others) for span in spans]
        for spans, others in ((gold, predicted), (predicted, gold))
    ]
    return missed + extra, shown


def read_choice(gold: Any, predicted: Any, sure: Any, names: Sequence[str]) -> tuple[list[Any], Any]:
    return [(None, None, sure)], tuple(f"{value['number']}: {value['text']}" for value in (gold, predicted))


def read_answer(gold: Any, predicted: Any, sure: Any, names: Sequence[str]) -> tuple[list[Any], Any]:
    return [(None, None, sure)], tuple(" | ".join(value["text"]) for value in (gold, predicted))


def read_other(gold: Any, predicted: Any, sure: Any, names: Sequence[str]) -> tuple[list[Any], Any]:
    sure = sure if isinstance(sure, float) else None
    return [(None, None, sure)], tuple(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                                       for value in (gold, predicted))  # fmt: skip


READ: dict[str, Callable[..., tuple[list[Any], Any]]] = {
    "label": read_label, "tags": read_tags, "labels": read_labels, "spans": read_spans, "choice": read_choice,
    "answer": read_answer, "number": read_other, "text": read_other,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- files


def write_csv(path: Path, table: Table) -> None:
    """All rows, for a spreadsheet: UTF-8 with a mark, and no cell that it would take for a formula."""
    texts = list(dict.fromkeys(name for record in table.records for name in record if name not in OWN))
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["sample_id", "task", "gold", "predicted", "confidence", "loss", "length", "probable_label_error",
                     *texts])  # fmt: skip
    for row in table.rows:
        record = table.records[row.record]
        own = [cell(record["sample_id"]), cell(row.task), cell(row.gold), cell(row.predicted), row.confidence, row.loss,
               row.length, int(row.suspect)]  # fmt: skip
        writer.writerow([*own, *(cell(record.get(name, "")) for name in texts)])
    path.write_bytes(content.getvalue().encode("utf-8-sig", "replace"))


def cell(value: Any) -> Any:
    """Lists of words with spaces between them, other lists as JSON."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = " ".join(value)
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    written = written.replace("\0", "\ufffd")
    return "'" + written if written[:1] in ("=", "+", "-", "@", "\t", "\r") else written


def page_data(tables: Sequence[Table]) -> dict[str, Any]:
    """Labels, tasks and shapes as numbers, so that a page of many rows stays small. See page.js."""
    labels: dict[str, int] = {}
    tasks: dict[str, int] = {}
    shapes: dict[str, int] = {}
    parts: list[Any] = []
    records: list[Any] = []
    rows: list[Any] = []
    for part, table in enumerate(tables):
        shown = table.rows[: MOST_ROWS // len(tables)]
        parts.append({"name": table.name, "rows": len(table.rows), "shown": len(shown)})
        places: dict[int, int] = {}
        for row in shown:
            if row.record not in places:
                places[row.record] = len(records)
                records.append(page_record(part, table.records[row.record], row.shape == "tags"))
            rows.append([
                places[row.record], numbered(row.task, tasks), numbered(row.shape, shapes), rounded(row.confidence),
                rounded(row.loss), row.length, int(row.suspect),
                [[numbered(label, labels) for label in pair] for pair in dict.fromkeys(pair[:2] for pair in row.pairs)],
                with_numbers(row, labels),
            ])  # fmt: skip
    return {"labels": list(labels), "tasks": list(tasks), "shapes": list(shapes), "parts": parts, "records": records,
            "rows": rows}  # fmt: skip


def page_record(part: int, record: Mapping[str, Any], tagged: bool) -> list[Any]:
    """[part, id, text or words, [[name, text], …] of the other columns]"""
    text = main_text(record)
    others = [[name, clipped(" / ".join(value) if isinstance(value, list) else value)]
              for name, value in record.items() if name not in OWN][1:]  # fmt: skip
    return [part, record["sample_id"], clipped(text.split() if tagged and isinstance(text, str) else text), others]


def clipped(value: Any) -> Any:
    if isinstance(value, list):
        return value if len(value) <= MOST_CHARACTERS // 5 else [*value[: MOST_CHARACTERS // 5], "…"]
    value = "" if value is None else str(value)
    return value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}…"


def with_numbers(row: Row, labels: dict[str, int]) -> Any:
    if row.shape == "tags":
        return [[place, numbered(gold, labels), numbered(predicted, labels), rounded(sure, 2)]
                for place, gold, predicted, sure in row.value]  # fmt: skip
    if row.shape == "labels":
        return [[numbered(label, labels) for label in found] for found in row.value]
    if row.shape == "spans":
        return [[[numbered(label, labels), words, int(shared)] for label, words, shared in found]
                for found in row.value]  # fmt: skip
    return [clipped(text) for text in row.value] if row.value else None


def numbered(name: str | None, known: dict[str, int]) -> int:
    """-1 for None."""
    return -1 if name is None else known.setdefault(name, len(known))


def rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
