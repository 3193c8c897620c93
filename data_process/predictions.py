"""Predictions as JSON lines, with the texts they belong to.

Copy: with levels/, errors.py, labels.py, schema.py, tag_schemes.py; needs only Python.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .levels import level_of
from .schema import Schema


def write_predictions(
    path: str | Path,
    rows: Any,
    schema: Schema,
    sample_ids: Sequence[int],
    labels: Mapping[str, Sequence[Any]],
    confidences: Mapping[str, Sequence[Any]],
    losses: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    only_wrong: bool = False,
) -> int:
    """One line per record: sample_id, its text, `predictions` and `confidences` by task; where there is gold also
    `gold` and `losses` by task, and `wrong`, the tasks whose prediction is.

    Args:
        rows: features with a column `record`, from `cached_features`; row number = sample id.
        labels, confidences, losses: task -> one entry per sample id.
        only_wrong: only records with gold labels of which at least one was not predicted.

    Returns: the number of lines. The file appears when it is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    records = rows.select_columns("record")
    columns = [name for name in (schema.text_column, schema.text_pair_column, schema.choices_column) if name]
    levels = {label.task: level_of(label.level) for label in schema.labels}
    written = 0
    with open(unfinished, "w", encoding="utf-8") as file:
        for position, sample_id in enumerate(sample_ids):
            record = json.loads(records[sample_id]["record"])
            predicted = {task: values[position] for task, values in labels.items()}
            gold = schema.gold(record)
            wrong = [task for task, value in gold.items() if not levels[task].is_right(predicted[task], value)]
            if only_wrong and not wrong:
                continue
            line = {
                "sample_id": sample_id,
                **{column: record[column] for column in columns if column in record},
                **shown(position, record, schema, labels, confidences),
            }
            if gold:
                line["gold"] = {task: levels[task].shown(value, record, schema) for task, value in gold.items()}
                line["losses"] = {task: rounded(values[position]) for task, values in losses.items()}
                line["wrong"] = wrong
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            written += 1
    unfinished.replace(path)
    return written


def shown(
    position: int,
    record: dict[str, Any],
    schema: Schema,
    labels: Mapping[str, Sequence[Any]],
    confidences: Mapping[str, Sequence[Any]],
) -> dict[str, dict[str, Any]]:
    """`predictions` and `confidences` of the record at a position of both, by task."""
    levels = {label.task: level_of(label.level) for label in schema.labels}
    return {
        "predictions": {task: levels[task].shown(values[position], record, schema) for task, values in labels.items()},
        "confidences": {task: rounded(values[position]) for task, values in confidences.items()},
    }


def rounded(value: Any) -> Any:
    """A confidence, a list of them, or None where there is none."""
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return None if value is None else round(value, 4)
