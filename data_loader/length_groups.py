"""A training order in which the samples of a step are of about the same length, so that batches hold little padding.

    order = GroupedByLength(lengths, group=32)          # the samples of one optimizer step, of all ranks together
    BatchSampler(len(lengths), 32, seed=42, epoch=3, order=order)

In each epoch every length is multiplied by a random factor near 1, the samples are ranked by these products and cut
into groups, and the groups are shuffled: AllenNLP's BucketBatchSampler. Still a pure function of (seed, epoch,
position), but a whole epoch is ordered at once, and kept.

Copy: with order.py; needs numpy.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .order import shuffled, subseed


class GroupedByLength:
    """For the argument `order` of BatchSampler. Each sample comes as often as in the order that it is made from."""

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        group: int,
        noise: float = 0.05,
        order: Callable[[np.ndarray, int, int, int], np.ndarray] = shuffled,
    ):
        """
        Args:
            lengths: of the samples, (N,).
            group: samples that stand together. The same on any number of ranks if it is what all of them take together.
            noise: the random factors are between 1 - noise and 1 + noise; more of it changes more from epoch to epoch
                which samples meet, and leaves more padding.
            order: what decides which samples an epoch has: `shuffled`, or a BalancedOrder.
        """
        if group < 1:
            raise ValueError(f"a group has at least 1 sample, found {group}")
        self.lengths, self.group, self.noise, self.order = np.asarray(lengths), group, noise, order
        self.ordered: tuple[tuple[int, int], np.ndarray] | None = None  # (seed, epoch), sample numbers

    def __call__(self, positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
        """Sample number at each position, int64 of the same shape. Raises: ValueError if n is not N."""
        if n != len(self.lengths):
            raise ValueError(f"the data set has {n} samples, but lengths are known of {len(self.lengths)}")
        if self.ordered is None or self.ordered[0] != (seed, epoch):
            self.ordered = (seed, epoch), self.epoch(seed, epoch)
        return self.ordered[1][positions]

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        """All sample numbers of an epoch; the group that is smaller, if there is one, comes last."""
        n = len(self.lengths)
        places = np.arange(n)
        samples = self.order(places, n, seed, epoch)  # who is where is random, so the place is a random number
        factors = 1.0 + self.noise * (2.0 * places / n - 1.0)
        ranked = samples[np.argsort(self.lengths[samples] * factors, kind="stable")]
        full, rest = divmod(n, self.group)
        own = subseed(seed, 0)
        shorter = int(shuffled(np.zeros(1, np.int64), full + 1, own, epoch)[0])  # of any length, not always the longest
        firsts = self.group * shuffled(np.arange(full), full, own, epoch) if full else np.zeros(0, np.int64)
        firsts += rest * (firsts >= shorter * self.group)
        whole = ranked[firsts[:, None] + np.arange(self.group)].ravel()
        return np.concatenate([whole, ranked[shorter * self.group :][:rest]])
