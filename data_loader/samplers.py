"""Which samples make up each micro-batch: position-pure, from any position on, for any rank.

    for numbers in BatchSampler(size=1000, batch_size=32, seed=42, epoch=3, start=640, rank=0, world_size=2): ...

The epoch is one row of positions 0 … size-1, cut into micro-batches; rank r takes every world_size-th of them. So the
samples of a global step depend only on its size: the same for 1 process x 4 accumulated as for 4 processes x 1.
Which sample is at a position, the order decides: `shuffled` and `file_order` of order.py, or a `BalancedOrder`.

Copy: with order.py; needs numpy.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from .order import shuffled

Order = Callable[[np.ndarray, int, int, int], np.ndarray]  # (positions, size, seed, epoch) -> sample numbers
BLOCK = 4096  # positions ordered at once: NumPy's calls cost far more than the arithmetic of one micro-batch


class DataChanged(ValueError):
    """The data is no longer what it was when the epoch, or its line index, began."""

    exit_code = 2  # for the wiring script: no bug of ours


class BatchSampler:
    """Yields lists of sample numbers. Meant for `DataLoader(batch_sampler=…)` and for the streaming data set."""

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        order: Order = shuffled,
        rank: int = 0,
        world_size: int = 1,
    ):
        """
        Args:
            size: samples in the data set.
            batch_size: samples of a micro-batch; the last one of the epoch may be smaller.
            seed, epoch: decide the order, see order.py.
            start: positions already consumed in this epoch, by all ranks together.
            order: which sample is at a position; a pure function, see order.py.
            rank, world_size: this process among all. Every rank yields the same number of micro-batches, as collective
                operations need it: one that would run out gets a stand-in, written as ~number (negative), which is that
                sample with its labels blanked.

        Raises: DataChanged for a start behind the end.
        """
        if not 0 <= start <= size:
            raise DataChanged(f"{start} samples of epoch {epoch} are done, but the data set has {size}; is it another?")
        self.size, self.batch_size = size, batch_size
        self.seed, self.epoch, self.start, self.order = seed, epoch, start, order
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return math.ceil((self.size - self.start) / (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        turns_at_once = max(1, BLOCK // self.batch_size)
        for turn in range(0, len(self), turns_at_once):
            turns = np.arange(turn, min(turn + turns_at_once, len(self)))
            firsts = self.start + (turns * self.world_size + self.rank) * self.batch_size
            positions = firsts[:, None] + np.arange(self.batch_size)  # (turns, batch_size)
            real = positions < self.size
            # A stand-in is the epoch's first sample, also after a resume: its length decides what dropout draws.
            numbers = self.order(np.where(real, positions, 0), self.size, self.seed, self.epoch)
            for row, num_real in zip(numbers.tolist(), real.sum(axis=1).tolist(), strict=True):
                yield row[:num_real] or [~row[0]]
