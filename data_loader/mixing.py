"""One training order over several data sets: every micro-batch comes from one of them.

    sampler = MixedBatchSampler([1000, 200], [32, 8], mixing="temperature", temperature=5.0, seed=42, epoch=3)
    DataLoader(MixedDataset(datasets), batch_sampler=sampler, collate_fn=MixedCollator(collates))

b_d micro-batches hold data set d once, and an epoch is M = b_0 + b_1 + … micro-batches long. How many of them are
from d is in proportion to b_d ** exponent (whole numbers, at least 1 each):

    proportional   1, so that each sample comes exactly once per epoch
    temperature    1 / temperature; 1 is proportional, infinity is equal shares (Arivazhagan et al. 2019, 1907.05019)
    annealed       from 1 in the first epoch to 0.2 in the last one (Stickland and Murray 2019, arXiv 1902.02671)
    round_robin    0, and the data sets strictly take turns; otherwise their micro-batches are shuffled over the epoch

Each data set makes one shuffled pass after the other, and an epoch goes on where the one before ended. All of it is a
pure function of (seed, epoch, position).

Copy: with order.py, quotas.py, samplers.py; needs numpy.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .order import shuffled, subseed
from .quotas import quotas
from .samplers import DataChanged, Order

MIXINGS = ("proportional", "temperature", "annealed", "round_robin")


class MixedBatchSampler:
    """Yields lists of (data set number, sample number). Meant for the training DataLoader of a `MixedDataset`."""

    def __init__(
        self,
        sizes: Sequence[int],
        batch_sizes: Sequence[int],
        *,
        mixing: str = "proportional",
        temperature: float = 5.0,
        epochs: int = 1,
        orders: Sequence[Order] | None = None,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        """
        Args:
            sizes: samples of each data set.
            batch_sizes: samples of a micro-batch of each data set; the last one of a pass may be smaller.
            mixing: one of MIXINGS, see above.
            temperature: at least 1; read by "temperature" only.
            epochs: of the whole training; read by "annealed" only, whose shares no longer change after them.
            orders: of each data set, see samplers.py; None = shuffled.
            seed, epoch: decide the order.
            start: samples already consumed in this epoch, by all ranks together.
            rank, world_size: this process among all. Every rank yields the same number of micro-batches; one that
                would run out gets a stand-in, as in BatchSampler.

        Raises: DataChanged for a start at which no micro-batch begins; ValueError for wrong arguments.
        """
        self.sizes, self.batch_sizes = np.array(sizes, dtype=np.int64), np.array(batch_sizes, dtype=np.int64)
        if len(sizes) != len(batch_sizes) or min(self.batch_sizes, default=0) < 1 or min(self.sizes) < 1:
            raise ValueError(f"one batch size per data set, and none empty, found sizes {sizes} and {batch_sizes}")
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.orders = orders or [shuffled] * len(sizes)
        num_batches = -(-self.sizes // self.batch_sizes)  # of a pass through each data set
        counts = [batch_counts(num_batches, mixing, temperature, e, epochs) for e in range(epoch + 1)]
        self.datasets, ordinals = turns(counts[epoch], mixing, seed, epoch)  # (M,) each
        running = sum(counts[:epoch], np.zeros_like(num_batches))[self.datasets] + ordinals
        self.passes, within = np.divmod(running, num_batches[self.datasets])
        self.firsts = within * self.batch_sizes[self.datasets]  # position in the pass of the micro-batch's first sample
        self.lasts = np.minimum(self.firsts + self.batch_sizes[self.datasets], self.sizes[self.datasets])
        samples_before = np.cumsum(np.append(0, self.lasts - self.firsts))
        self.start = int(np.searchsorted(samples_before, start))
        if start not in samples_before:
            raise DataChanged(
                f"{start} samples of epoch {epoch} are done, but no micro-batch begins there; "
                "are data sets, batch sizes or mixing others?"
            )

    def __len__(self) -> int:
        return math.ceil((len(self.datasets) - self.start) / self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for position in range(self.start + self.rank, self.start + len(self) * self.world_size, self.world_size):
            if position < len(self.datasets):
                yield self.batch(position)
            else:
                # of rank 0's data set: another task's head would have a gradient of zeros, and be updated by its past
                dataset, number = self.batch(position - self.rank)[0]
                yield [(dataset, ~number)]

    def batch(self, position: int) -> list[tuple[int, int]]:
        """The micro-batch at a position of the epoch: that of a BatchSampler with the data set's own seed."""
        dataset = int(self.datasets[position])
        within = np.arange(self.firsts[position], self.lasts[position])
        own_seed = subseed(self.seed, dataset)
        numbers = self.orders[dataset](within, int(self.sizes[dataset]), own_seed, int(self.passes[position]))
        return [(dataset, number) for number in numbers.tolist()]


def batch_counts(num_batches: np.ndarray, mixing: str, temperature: float, epoch: int, epochs: int) -> np.ndarray:
    """Micro-batches of each data set in an epoch, (D,); their sum is that of `num_batches`, those of a pass."""
    if mixing not in MIXINGS:
        raise ValueError(f"unknown mixing {mixing!r}; known are {', '.join(MIXINGS)}")
    if not temperature >= 1:
        raise ValueError(f"temperature must be at least 1, found {temperature}")
    exponent = {
        "proportional": 1.0,
        "temperature": 1.0 / temperature,
        "annealed": 1.0 - 0.8 * min(1.0, epoch / max(1, epochs - 1)),
        "round_robin": 0.0,
    }[mixing]
    return quotas(num_batches**exponent, int(num_batches.sum()))


def turns(counts: np.ndarray, mixing: str, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Data set of each micro-batch of the epoch, and how many of its own come before, in a fixed order: (M,) each."""
    positions = np.arange(counts.sum())
    if mixing == "round_robin":
        return positions % len(counts), positions // len(counts)
    slots = shuffled(positions, len(positions), seed, epoch)
    ends = np.cumsum(counts)
    datasets = np.searchsorted(ends, slots, side="right")
    return datasets, slots - (ends - counts)[datasets]


class MixedDataset:
    """Map-style: fetches whole micro-batches, each from one of the data sets."""

    def __init__(self, datasets: Sequence[Any]):
        """datasets: with `__getitems__`, such as MapDataset."""
        self.datasets = datasets

    def __getitems__(self, numbers: list[tuple[int, int]]) -> tuple[int, list[Any]]:
        """[(data set, sample), …] of one data set -> its number and the features."""
        dataset = numbers[0][0]
        return dataset, self.datasets[dataset].__getitems__([number for _, number in numbers])


class MixedCollator:
    """The batch that the data set's own collator makes; it holds the labels of that data set's tasks only."""

    def __init__(self, collates: Sequence[Callable[[list[Any]], Any]]):
        self.collates = collates

    def __call__(self, fetched: tuple[int, list[Any]]) -> Any:
        dataset, features = fetched
        return self.collates[dataset](features)
