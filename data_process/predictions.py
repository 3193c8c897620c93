"""Predictions as JSON lines, with the texts they belong to."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .schema import Schema


def write_predictions(
    path: str | Path,
    rows: Any,
    schema: Schema,
    sample_ids: Sequence[int],
    labels: Mapping[str, Sequence[Any]],
    confidences: Mapping[str, Sequence[Any]],
    only_wrong: bool = False,
) -> int:
    """One line per record: sample_id, its text, `predictions` and `confidences` by task, `gold` where there is any.

    Args:
        rows: features with a column `record`, from `cached_features`; row number = sample id.
        labels, confidences: task -> one entry per sample id.
        only_wrong: only records with gold labels of which at least one was not predicted.

    Returns: the number of lines. The file appears when it is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    records = rows.select_columns("record")
    columns = [column for column in (schema.text_column, schema.text_pair_column) if column]
    written = 0
    with open(unfinished, "w", encoding="utf-8") as file:
        for position, sample_id in enumerate(sample_ids):
            record = json.loads(records[sample_id]["record"])
            predicted = {task: values[position] for task, values in labels.items()}
            gold = schema.gold(record)
            if only_wrong and all(predicted[task] == value for task, value in gold.items()):
                continue
            line = {
                "sample_id": sample_id,
                **{column: record[column] for column in columns},
                "predictions": predicted,
                "confidences": {task: rounded(values[position]) for task, values in confidences.items()},
                **({"gold": gold} if gold else {}),
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            written += 1
    unfinished.replace(path)
    return written


def rounded(value: Any) -> Any:
    return [round(v, 4) for v in value] if isinstance(value, list) else round(value, 4)
