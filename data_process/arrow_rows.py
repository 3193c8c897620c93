"""Rows of a memory-mapped Arrow file as dicts whose lists are NumPy views: nothing becomes a Python list.

    rows = ArrowRows(dataset, leave_out=["record"])      # datasets.Dataset
    rows.__getitems__([5, 3])                            # [{"sample_id": 5, "input_ids": array([2, 17, 3]), …}, …]

`dataset[[5, 3]]` copies the rows, makes Python lists of them and leaves it to the collator to make arrays again. Lists
of lists and lists with gaps are Python lists here too. A worker that is not forked opens the file itself.

Copy: alone; needs numpy, pyarrow.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

Reader = Callable[[np.ndarray], list[Any]]  # row numbers -> values


class ArrowRows:
    """Picklable as far as the data set is."""

    def __init__(self, dataset: Any, leave_out: Collection[str] = ()):
        """dataset: a datasets.Dataset of whole files, not a selection of its rows. Raises: ValueError for that."""
        if dataset._indices is not None:
            raise ValueError("these are selected rows of a data set; give the whole one")
        self.dataset, self.leave_out = dataset, leave_out
        self.readers: dict[str, Reader] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Raises: IndexError for a number that is not there."""
        if not self.readers:
            table = self.dataset.data.table
            self.readers = {n: reader(table.column(n)) for n in table.column_names if n not in self.leave_out}
        wanted = np.asarray(numbers, dtype=np.int64)
        columns = [read(wanted) for read in self.readers.values()]
        return [dict(zip(self.readers, row, strict=True)) for row in zip(*columns, strict=True)]

    def __reduce__(self) -> Any:
        return ArrowRows, (self.dataset, self.leave_out)


def reader(column: pa.ChunkedArray) -> Reader:
    """How to get the values of a column."""
    kind = column.type
    if pa.types.is_struct(kind):
        return struct_reader(column)
    if pa.types.is_list(kind) and pa.types.is_primitive(kind.value_type):
        if not any(chunk.values.null_count for chunk in column.chunks):
            return list_reader(column)
    elif pa.types.is_primitive(kind) and not column.null_count:
        values = column.to_numpy()
        return lambda numbers: values[numbers].tolist()
    return lambda numbers: column.take(pa.array(numbers)).to_pylist()


def struct_reader(column: pa.ChunkedArray) -> Reader:
    """Dicts; None where there is none."""
    kind = column.type
    fields = [kind.field(i).name for i in range(kind.num_fields)]
    readers = [
        reader(pa.chunked_array([chunk.field(i) for chunk in column.chunks], kind.field(i).type))
        for i in range(kind.num_fields)
    ]
    missing = nulls(column)

    def read(numbers: np.ndarray) -> list[Any]:
        columns = [read(numbers) for read in readers]
        rows = [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)] or [{} for _ in numbers]
        if missing is None:
            return rows
        return [None if gone else row for gone, row in zip(missing[numbers].tolist(), rows, strict=True)]

    return read


def list_reader(column: pa.ChunkedArray) -> Reader:
    """Views of the file's numbers; None where there is no list."""
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    firsts = ends - [len(chunk) for chunk in column.chunks]
    borders = [chunk.offsets.to_numpy() for chunk in column.chunks]
    values = [chunk.values.to_numpy() for chunk in column.chunks]
    missing = nulls(column)

    def read(numbers: np.ndarray) -> list[Any]:
        chunks = np.searchsorted(ends, numbers, side="right")
        places = numbers - firsts[chunks]
        found = [
            values[chunk][borders[chunk][place] : borders[chunk][place + 1]]
            for chunk, place in zip(chunks.tolist(), places.tolist(), strict=True)
        ]
        if missing is None:
            return found
        return [None if gone else value for gone, value in zip(missing[numbers].tolist(), found, strict=True)]

    return read


def nulls(column: pa.ChunkedArray) -> np.ndarray | None:
    """(N,) bool, True where there is nothing; None if that is nowhere."""
    return column.is_null().to_numpy() if column.null_count else None
