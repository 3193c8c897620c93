"""Iterable data set: a text file of any size, one record per line, encoded on the fly in constant memory.

    index = build_line_index("big.jsonl", "cache/big.lines")
    sampler = BatchSampler(count_lines(index), batch_size=32, seed=42)
    StreamDataset("big.jsonl", index, parse=json.loads, encode=…, collate=…, sampler=sampler)

A file of line offsets makes every line addressable, so the shuffle is a true one over the whole file and the same
pure function of (seed, epoch, position) as for the map-style data set: both give the same batches. Each worker makes
every num_workers-th batch, and the DataLoader takes them in turn, so their number does not change the order.

What `parse` and `encode` raise in a worker arrives as torch rebuilds it: an exception that takes more than one string
becomes a RuntimeError with the same text. So check the file before; that it is still the same is checked here.

Copy: with collate.py, order.py, samplers.py; needs torch, numpy.
"""

import os
import secrets
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from .collate import blank
from .samplers import BatchSampler, DataChanged

BUFFERED_OFFSETS = 1 << 16


class StreamDataset(IterableDataset):
    """Yields ready batches; use it with `DataLoader(batch_size=None)`."""

    def __init__(
        self,
        path: str | Path,
        index: str | Path,
        *,
        parse: Callable[[bytes], dict[str, Any]],
        encode: Callable[[list[tuple[int, dict[str, Any]]]], list[dict[str, Any]]],
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        sampler: BatchSampler,
        indices: Sequence[int] | None = None,
    ):
        """
        Args:
            path: the data file.
            index: its line index, from `build_line_index`.
            parse: line -> record.
            encode: numbered records -> features.
            collate: features -> batch.
            sampler: the micro-batches of this rank, over `indices` or the whole file.
            indices: the records that belong to this data set (a split), in order; None = all.

        Raises: DataChanged if the file no longer has the size it had when its index was made.
        """
        if os.path.getsize(path) != indexed_size(index):
            raise DataChanged(f"{path} has changed since its line index {index} was made")
        self.path, self.index = path, index
        self.parse, self.encode, self.collate = parse, encode, collate
        self.sampler, self.indices = sampler, indices

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        mine, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        with open(self.path, "rb") as data, open(self.index, "rb") as offsets:
            for numbers in islice(self.sampler, mine, None, workers):
                yield self.batch(data.fileno(), offsets.fileno(), numbers)

    def batch(self, data: int, offsets: int, numbers: list[int]) -> dict[str, Any]:
        lines = [max(n, ~n) if self.indices is None else self.indices[max(n, ~n)] for n in numbers]
        features = self.encode([(line, self.parse(read_line(data, offsets, line))) for line in lines])
        return self.collate([f if n >= 0 else blank(f) for n, f in zip(numbers, features, strict=True)])


def build_line_index(path: str | Path, index: str | Path) -> str:
    """Write the byte offset of every line that is not blank, and the file's size, as native 64-bit numbers.

    Blank is a line of white space (also U+3000 and its kind) and byte order marks. An existing index is taken as it
    is: name it after the file's content. Returns the path of the index.
    """
    index = Path(index)
    if not index.exists():
        index.parent.mkdir(parents=True, exist_ok=True)
        unfinished = index.with_name(f"{index.name}.{secrets.token_hex(4)}.tmp")  # several ranks may write at once
        try:
            with open(path, "rb") as data, open(unfinished, "wb") as out:
                found, offset = array("Q"), 0
                for line in data:
                    if line.decode("utf-8", "replace").lstrip("\ufeff").strip():
                        found.append(offset)
                    offset += len(line)
                    if len(found) >= BUFFERED_OFFSETS:
                        found.tofile(out)
                        found = array("Q")
                found.append(offset)
                found.tofile(out)
            unfinished.replace(index)
        finally:
            unfinished.unlink(missing_ok=True)
    return str(index)


def count_lines(index: str | Path) -> int:
    return Path(index).stat().st_size // 8 - 1


def indexed_size(index: str | Path) -> int:
    """Size of the data file when its index was made."""
    with open(index, "rb") as offsets:
        offsets.seek(-8, os.SEEK_END)
        return struct.unpack("=Q", offsets.read())[0]


def read_line(data: int, offsets: int, number: int) -> bytes:
    """A line without its "\\n". Positional reads keep no state and map no memory, so any worker may share the files."""
    here_and_next = os.pread(offsets, 16, 8 * number)
    if len(here_and_next) < 16:
        raise IndexError(f"record {number} is not in the file")
    start, end = struct.unpack("=QQ", here_and_next)
    return os.pread(data, end - start, start).partition(b"\n")[0]  # blank lines may follow before the next one
