"""data_process/arrow_rows.py gives what datasets.Dataset gives, but arrays for lists."""

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from data_process.arrow_rows import ArrowRows
from data_process.feature_cache import write_arrow

INTS = pa.list_(pa.int32())
SCHEMA = pa.schema([
    ("sample_id", pa.int64()), ("input_ids", INTS), ("some", INTS), ("gaps", pa.list_(pa.int64())),
    ("truncated", pa.bool_()), ("record", pa.string()),
    ("labels", pa.struct([("a", pa.int64()), ("b", pa.int64()), ("number", pa.float64()),
                          ("tags", pa.list_(pa.int64())), ("entities", pa.list_(pa.list_(pa.int64())))])),
    ("unlabelled", pa.struct([])),
])  # fmt: skip


def rows(size: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)

    def numbers(most: int = 9) -> list[int]:
        return [rng.randrange(1000) for _ in range(rng.randrange(most))]

    def perhaps(value: Any) -> Any:
        return None if rng.random() < 0.2 else value

    return [
        {
            "sample_id": number, "input_ids": numbers(), "some": perhaps(numbers()), "truncated": rng.random() < 0.5,
            "gaps": perhaps([perhaps(n) for n in numbers()]), "record": perhaps(f"{number}"), "unlabelled": {},
            "labels": perhaps({"a": rng.randrange(9), "b": perhaps(1), "number": rng.random(),
                               "tags": perhaps(numbers()),
                               "entities": perhaps([numbers(4) for _ in range(rng.randrange(3))])}),
        }
        for number in range(size)
    ]  # fmt: skip


def plain(value: Any) -> Any:
    """With lists for arrays."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    chunks = [rows(7, 1), rows(1, 2), rows(20, 3)]
    write_arrow(tmp_path / "rows.arrow", iter(chunks), SCHEMA)
    return Dataset.from_file(str(tmp_path / "rows.arrow"))


def test_any_rows_of_any_columns(dataset: Dataset) -> None:
    found = ArrowRows(dataset)
    assert len(found) == 28
    for numbers in ([0], [27, 7, 6, 8, 0, 7], list(range(28))):
        expected = [dataset[number] for number in numbers]
        assert [plain(row) for row in found.__getitems__(numbers)] == expected
    part = ArrowRows(dataset.select(range(5, 20)))  # a slice of the table, not selected rows
    assert [plain(row) for row in part.__getitems__([14, 0, 3])] == [dataset[number] for number in (19, 5, 8)]
    row = found.__getitems__([3])[0]
    assert isinstance(row["input_ids"], np.ndarray) and type(row["sample_id"]) is int
    assert not row["input_ids"].flags.owndata, "a view of the file"
    with pytest.raises(IndexError):
        found.__getitems__([28])


def test_some_columns_and_other_processes(dataset: Dataset) -> None:
    found = ArrowRows(dataset, leave_out=["record", "labels"])
    again = pickle.loads(pickle.dumps(found))
    expected = [plain(row) for row in found.__getitems__([9, 2])]
    assert "record" not in expected[0] and [plain(row) for row in again.__getitems__([9, 2])] == expected
    assert len(pickle.dumps(found)) < 10_000, "the file's name, not its contents"
    with pytest.raises(ValueError, match="whole one"):
        ArrowRows(dataset.select([3, 1]))
