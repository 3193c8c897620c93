"""Micro-batches of as many samples of about the same length as fit into a number of places, padding included.

    lengths = [12, 80, 33, …]                              # of each sample's longest input, in sub-words
    TokenBatchSampler(lengths, batch_tokens=4096, seed=42, epoch=3, start=640, rank=0, world_size=2)

The places of a micro-batch are its inputs x the longest of them: what a device computes and holds. Samples are put into
cells of about the same length, lined up from the longest cell to the shortest, at random within a cell, and cut where
the places are used up; then the micro-batches are shuffled. The cuts depend on the cells alone, so that every epoch has
as many micro-batches of the same sizes, although each mixes the samples anew. A pure function of (seed, epoch), as in
`samplers.py`: micro-batch k of the epoch goes to rank k % world_size.

Copy: with order.py, samplers.py; needs numpy.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from .order import shuffled, subseed
from .samplers import DataChanged

MIXED = 4  # micro-batches of a cell at least: in one of a single micro-batch the same samples would meet in every epoch


class BatchTooSmall(ValueError):
    """A sample does not fit into a micro-batch."""

    exit_code = 2  # for the wiring script: no bug of ours


class TokenBatchSampler:
    """Yields lists of sample numbers, each sample once per epoch. Meant for `DataLoader(batch_sampler=…)`."""

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        num_inputs: Sequence[int] | np.ndarray | None = None,
        *,
        batch_tokens: int,
        step: float = 0.05,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        """
        Args:
            lengths: of the longest input of each sample, (N,).
            num_inputs: of each sample, (N,); None = 1.
            batch_tokens: most places of a micro-batch.
            step: by what share the lengths of a cell may differ where samples are many; more of it changes more from
                epoch to epoch which samples meet, and leaves more padding.
            seed, epoch: decide which samples meet and in which order their micro-batches come.
            start: samples already consumed in this epoch, by all ranks together.
            rank, world_size: this process among all. Every rank yields the same number of micro-batches; one that
                would run out gets a stand-in, as in BatchSampler.

        Raises: BatchTooSmall; DataChanged for a start at which no micro-batch begins; ValueError for wrong arguments.
        """
        lengths = np.asarray(lengths, dtype=np.int64)
        num_inputs = np.ones_like(lengths) if num_inputs is None else np.asarray(num_inputs, dtype=np.int64)
        check_sizes(lengths, num_inputs, batch_tokens)
        self.seed, self.epoch, self.rank, self.world_size = seed, epoch, rank, world_size
        longest = cell_lengths(lengths, num_inputs, batch_tokens, step)
        kind_base = num_inputs.max(initial=0) + 1
        # Samples of one kind cost the same: which of them is where in the line does not change the cuts.
        self.kinds = np.searchsorted(longest, lengths) * kind_base + num_inputs
        cells, inputs = np.divmod(np.sort(self.kinds)[::-1], kind_base)
        borders = cut(longest[cells], inputs, batch_tokens)
        places = np.arange(len(borders) - 1)
        batches = shuffled(places, len(places), subseed(seed, 0), epoch)
        self.firsts, self.lasts = borders[batches], borders[batches + 1]  # in the line; of each micro-batch in turn
        samples_before = np.cumsum(np.append(0, self.lasts - self.firsts))
        self.start = int(np.searchsorted(samples_before, start))
        if start not in samples_before:
            raise DataChanged(
                f"{start} samples of epoch {epoch} are done, but no micro-batch begins there; is the data set another?"
            )

    def __len__(self) -> int:
        return math.ceil((len(self.firsts) - self.start) / self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        line = self.line()
        for position in range(self.start + self.rank, self.start + len(self) * self.world_size, self.world_size):
            if position < len(self.firsts):
                yield line[self.firsts[position] : self.lasts[position]].tolist()
            else:  # the epoch's first sample, also after a resume: its length decides what dropout draws
                yield [~int(line[self.firsts[0]])]

    def line(self) -> np.ndarray:
        """All sample numbers of the epoch, from the longest cell to the shortest, (N,)."""
        n = len(self.kinds)
        samples = shuffled(np.arange(n), n, self.seed, self.epoch)
        return samples[np.argsort(-self.kinds[samples], kind="stable")]


def check_sizes(lengths: np.ndarray, num_inputs: np.ndarray, batch_tokens: int) -> None:
    """Raises ValueError for arrays that do not belong together, BatchTooSmall for a sample with too many places."""
    if len(lengths) != len(num_inputs) or min(lengths.min(initial=1), num_inputs.min(initial=1)) < 1:
        raise ValueError("one length and one number of inputs per sample, each at least 1")
    places = lengths * num_inputs
    if places.max(initial=0) > batch_tokens:
        largest = places.argmax()
        raise BatchTooSmall(
            f"batch_tokens: must be at least {places[largest]}, found {batch_tokens}: a record has "
            f"{num_inputs[largest]} inputs, the longest of {lengths[largest]} sub-words"
        )


def cell_lengths(lengths: np.ndarray, num_inputs: np.ndarray, batch_tokens: int, step: float) -> np.ndarray:
    """Greatest length of each cell, rising. From the longest down each cell is as wide as `step` and MIXED say."""
    inputs = np.bincount(lengths, num_inputs)  # of each length
    found: list[int] = []
    held = 0.0
    for length in np.flatnonzero(inputs)[::-1].tolist():
        if not found or (length < (1 - step) * found[-1] and held * found[-1] >= MIXED * batch_tokens):
            found.append(length)
            held = 0.0
        held += inputs[length]
    if len(found) > 1 and held * found[-1] < MIXED * batch_tokens:
        found.pop()  # too few are left for a cell of their own
    return np.array(found[::-1], dtype=np.int64)


def cut(longest: np.ndarray, num_inputs: np.ndarray, batch_tokens: int) -> np.ndarray:
    """Where in the line the micro-batches begin, and its end, (M + 1,).

    Args:
        longest: greatest length in each sample's cell, falling, (N,).
        num_inputs: of each sample, (N,).
    """
    inputs_before = np.cumsum(np.append(0, num_inputs))
    borders = [0]
    while (first := borders[-1]) < len(longest):
        room = inputs_before[first] + batch_tokens // longest[first]
        last = int(np.searchsorted(inputs_before, room, side="right")) - 1
        borders.append(max(last, first + 1))  # alone if it fits only because others of its cell are longer
    return np.array(borders)
