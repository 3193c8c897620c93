"""Map-style data set: features that are already there, fetched by number.

    MapDataset(rows.__getitems__, size=len(rows))              # rows: datasets.Dataset, a list's wrapper, …

Copy: with collate.py; needs torch, numpy.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset

from .collate import blank


class MapDataset(Dataset):
    """Whole micro-batches are fetched at once; a negative number ~i means sample i as a stand-in."""

    def __init__(
        self,
        fetch: Callable[[list[int]], list[dict[str, Any]]],
        size: int,
        indices: Sequence[int] | None = None,
        first_id: int = 0,
    ):
        """
        Args:
            fetch: row numbers -> features.
            size: number of rows.
            indices: the rows that belong to this data set (a split), in order; None = all.
            first_id: added to the sample ids, so that those of several data sets differ.
        """
        self.fetch = fetch
        self.first_id = first_id
        self.indices = range(size) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: list[int]) -> list[dict[str, Any]]:
        rows = self.fetch([self.indices[max(n, ~n)] for n in numbers])
        if self.first_id:
            rows = [{**row, "sample_id": row["sample_id"] + self.first_id} for row in rows]
        return [row if n >= 0 else blank(row) for n, row in zip(numbers, rows, strict=True)]
