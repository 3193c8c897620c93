"""Masks of masked language modelling: a pure function of (seed, epoch, sample id), for a whole batch at once.

    masking = Masking(mask_token_id=103, random_ids=np.arange(999, 30522), rate=0.15, seed=42)
    units = number_units(starts_word, maskable)                   # whole words; or of sub-words, or of spans of words
    masked_ids, places, labels = masking(input_ids, units, sample_ids, epoch=3)

Devlin et al. 2019, https://arxiv.org/abs/1810.04805: of the chosen sub-words 80 % become [MASK], 10 % become a random
one, 10 % stay. Units (sub-words; words, as in Cui et al. 2021, https://arxiv.org/abs/1906.08101; spans of words, as in
SpanBERT, Joshi et al. 2020, https://arxiv.org/abs/1907.10529) are chosen in random order, always whole, until `rate` of
the row's sub-words is reached: exactly that share on average, whatever the lengths of the units, and off by less than
one unit in each row. The same sample has the same mask in any batch, worker, rank, or resumed run, and another one in
another epoch.

B rows, T sub-words, U units of a row, M chosen sub-words of a row.

Copy: with order.py; needs numpy.
"""

import numpy as np

from .order import mix, round_keys

IGNORE = -100


class Masking:
    """Picklable; holds numbers only."""

    def __init__(
        self,
        mask_token_id: int,
        random_ids: np.ndarray,
        rate: float = 0.15,
        seed: int = 0,
        masked: float = 0.8,
        randomized: float = 0.1,
    ):
        """
        Args:
            random_ids: sub-words that may stand in for a chosen one, without special tokens.
            rate: share of the maskable sub-words that is chosen.
            masked, randomized: shares of the chosen ones that become [MASK] or a random sub-word; the rest stays.

        Raises: ValueError for impossible shares.
        """
        if not (0 < rate <= 1 and masked >= 0 and randomized >= 0 and masked + randomized <= 1):
            raise ValueError(f"no shares: rate {rate}, masked {masked}, randomized {randomized}")
        self.mask_token_id, self.random_ids = mask_token_id, np.asarray(random_ids, dtype=np.int64)
        self.rate, self.seed, self.masked, self.randomized = rate, seed, masked, randomized

    def __call__(
        self, input_ids: np.ndarray, units: np.ndarray, sample_ids: np.ndarray, epoch: int, rate: float | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Args:
            input_ids: (B, T).
            units: (B, T), see `number_units`.
            sample_ids: (B,).
            rate: instead of that of the constructor, for schedules.

        Returns: the ids with masks (B, T); the places of the chosen sub-words (B, M), 0 where a row has fewer; what
            stood there (B, M), -100 where a row has fewer.
        """
        chosen = self.choose(units, sample_ids, epoch, self.rate if rate is None else rate)  # (B, T)
        draw = uniform(self.seed, epoch, 1, sample_ids, units.shape[1])
        which = (uniform(self.seed, epoch, 2, sample_ids, units.shape[1]) * len(self.random_ids)).astype(np.int64)
        new_ids = np.where(draw < self.masked, self.mask_token_id, self.random_ids[which])
        masked_ids = np.where(chosen & (draw < self.masked + self.randomized), new_ids, input_ids)
        counts = chosen.sum(1)
        real = np.arange(counts.max(initial=0)) < counts[:, None]  # (B, M)
        places, labels = np.zeros(real.shape, np.int64), np.full(real.shape, IGNORE, np.int64)
        places[real], labels[real] = chosen.nonzero()[1], input_ids[chosen]
        return masked_ids, places, labels

    def choose(self, units: np.ndarray, sample_ids: np.ndarray, epoch: int, rate: float) -> np.ndarray:
        """(B, T) bool. Units in random order, as long as they begin within the budget; which of them crosses it,
        counts with the probability that makes the expected number of sub-words rate * maskable."""
        rows, width = np.arange(len(units))[:, None], units.max(initial=0) + 2  # the last column: not maskable
        lengths = np.zeros((len(units), width), np.int64)  # (B, U + 1)
        np.add.at(lengths, (np.broadcast_to(rows, units.shape), units), 1)  # -1 is the last column
        budget = rate * lengths[:, :-1].sum(1, keepdims=True)
        draw = uniform(self.seed, epoch, 0, sample_ids, width)  # the first: where in the crossing unit the budget ends
        order = draw[:, 1:].argsort(1)  # (B, U)
        ordered = lengths[rows, order]
        taken = np.zeros((len(units), width), bool)
        taken[rows, order] = ordered.cumsum(1) - ordered * draw[:, :1] <= budget
        taken[:, -1] = False
        return taken[rows, units]


def number_units(starts: np.ndarray, maskable: np.ndarray) -> np.ndarray:
    """Number of the unit that each sub-word belongs to, -1 for what is never masked.

    Args:
        starts: (B, T) bool, True where a unit begins: everywhere for single sub-words, else at the first one of a word.
        maskable: (B, T) bool, False for special tokens and padding.
    """
    return np.where(maskable, starts.cumsum(1), -1)


def join_words(starts: np.ndarray, sample_ids: np.ndarray, epoch: int, seed: int, mean: float) -> np.ndarray:
    """Where spans of words begin: their numbers of words are geometric with this mean, drawn anew in each epoch."""
    return starts & (uniform(seed, epoch, 3, sample_ids, starts.shape[1]) < 1 / mean)


def uniform(seed: int, epoch: int, stream: int, sample_ids: np.ndarray, size: int) -> np.ndarray:
    """(B, size) float64 in [0, 1), of each sample its own, the same whatever it is batched with.

    stream: of independent numbers for the same samples.
    """
    keys = round_keys(seed, epoch, stream, 0, 0)  # a path of four: no order of the data has such a one
    of_samples = mix(sample_ids.astype(np.uint64) + keys[0])  # (B,)
    of_places = mix(np.arange(size, dtype=np.uint64) + keys[1])  # (size,)
    return (mix(of_samples[:, None] + of_places) >> np.uint64(11)) * 2.0**-53
