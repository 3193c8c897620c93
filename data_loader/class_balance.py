"""A training order in which rare classes come more often: every class equally often, or anything between.

    order = BalancedOrder(classes, power=1.0)                # the class of each sample, e.g. the labels of one task
    BatchSampler(len(classes), 32, seed=42, epoch=3, order=order)

Each sample has the weight (size of its class) ** -power. Instead of drawing by chance, an epoch, as long as the data
set, has a fixed number of places for each class, shuffled over the epoch. On its places a class makes one shuffled pass
through its samples after the other, and the next epoch goes on where this one ended. The sample at a position is found
in O(1) time, without those before it.

Copy: with order.py, quotas.py; needs numpy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .order import half_bits_of, permuted, round_keys, shuffled
from .quotas import quotas


class BalancedOrder:
    """For the argument `order` of BatchSampler. A pure function of (seed, epoch, position), as `shuffled` is.

    After any number of epochs the samples of a class have come equally often, or some of them once more. The passes of
    one epoch are shuffled together, so a sample may come again before the last one of its class has come.
    """

    def __init__(
        self, classes: Sequence[Any] | np.ndarray, power: float = 1.0, shares: Sequence[float] | None = None
    ):
        """
        Args:
            classes: name or number of each sample's class, (N,).
            power: 1 = all classes equally often, 0 = as often as they are (each sample once per epoch).
            shares: instead, how often each class comes, in proportion to each other; in the order of their names.

        Raises: ValueError for another power.
        """
        if not 0 <= power <= 1:
            raise ValueError(f"power must be between 0 (as it is) and 1 (balanced), found {power}")
        _, of_sample, counts = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
        self.samples = np.argsort(of_sample, kind="stable")  # (N,), class after class
        self.starts, self.counts = np.cumsum(counts) - counts, counts
        self.half_bits = np.array([half_bits_of(count) for count in counts.tolist()])
        weights = counts ** (1.0 - power) if shares is None else shares
        self.places = quotas(weights, len(self.samples))  # of each class in an epoch
        self.ends = np.cumsum(self.places)

    def __call__(self, positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
        """Sample number at each position (at least one), int64 of the same shape. Raises: ValueError if n is not N."""
        if n != len(self.samples):
            raise ValueError(f"the data set has {n} samples, but classes are known of {len(self.samples)}")
        slots = shuffled(positions.ravel(), n, seed, epoch)
        classes = np.searchsorted(self.ends, slots, side="right")
        draws = slots - self.ends[classes] + (epoch + 1) * self.places[classes]  # of the class, before this one
        passes, within = np.divmod(draws, self.counts[classes])
        orders, which = np.unique(passes * len(self.counts) + classes, return_inverse=True)
        keys = np.stack([round_keys(seed, *divmod(each, len(self.counts))) for each in orders.tolist()])[which]
        members = permuted(within, self.counts.astype(np.uint64)[classes], self.half_bits[classes], keys)
        return self.samples[self.starts[classes] + members].reshape(positions.shape)
