"""The order of the data: a pure function of (seed, epoch, position).

    shuffled(np.arange(0, 32), n=1_000_000, seed=42, epoch=3)     # the first 32 sample numbers of epoch 3

A keyed bijection of 0 … n-1, computed for any position by itself in O(1) time and memory, so nothing has to be stored
or replayed: after a resume in the middle of an epoch, in any worker and on any rank the order is the same. It is a
balanced Feistel network with the murmur3 finaliser as round function; numbers that fall outside 0 … n-1 walk on along
their cycle (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). With 12 rounds a chi-square test of all
n! orders finds no bias in 2 million draws for n = 4, 5, 6; with 8 rounds their shares vary by 2 %.

Copy: alone; needs numpy.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

ROUNDS = 12


def shuffled(positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """Sample number at each position.

    Args:
        positions: integers in 0 … n-1, any shape.
        n: size of the data set.
        seed, epoch: not negative; each pair gives another permutation.

    Returns: int64 array of the same shape.

    Raises: ValueError for a position outside 0 … n-1.
    """
    if positions.size and not 0 <= positions.min() <= positions.max() < n:
        raise ValueError(f"positions must be in 0 … {n - 1}, found {positions.min()} … {positions.max()}")
    numbers = permuted(positions.ravel(), np.array(n, np.uint64), half_bits_of(n), round_keys(seed, epoch))
    return numbers.reshape(positions.shape)


def file_order(positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """Position p is sample p, in every epoch."""
    return positions


def longest_first(lengths: Sequence[int]) -> Callable[..., np.ndarray]:
    """An order for evaluation: samples of about the same length stand together, so that batches need less padding, and
    a batch that does not fit into memory comes first."""
    return partial(listed, np.argsort(-np.asarray(lengths), kind="stable"))


def listed(numbers: np.ndarray, positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """Position p is sample numbers[p], in every epoch."""
    return numbers[positions]


def subseed(seed: int, number: int) -> int:
    """A seed for one of several data sets that are mixed under the same seed."""
    # A path of three; that of an epoch has one step, that of a pass through a class two.
    return int(np.random.SeedSequence(seed, spawn_key=(number, 0, 0)).generate_state(1, np.uint64)[0])


def round_keys(seed: int, *path: int) -> np.ndarray:
    # Not SeedSequence([seed, epoch]): it joins the 32-bit words of both, so (2**32, 0) would be (0, 1).
    return np.random.SeedSequence(seed, spawn_key=path).generate_state(1 + ROUNDS, np.uint64)


def half_bits_of(n: int) -> np.ndarray:
    """0 … 4**half_bits - 1 is the domain of the network; it is at most 4 n wide."""
    return np.array(max(1, (max(n - 1, 1).bit_length() + 1) // 2), np.uint64)


def permuted(positions: np.ndarray, n: np.ndarray, half_bits: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Numbers (N,) at positions (N,) of one permutation, or each of its own: then n, half_bits and keys have N rows."""
    values = feistel(positions.astype(np.uint64), keys, half_bits)
    while (outside := values >= n).any():  # the domain is narrow, so this ends after a few rounds
        own = outside if keys.ndim == 2 else ...
        values[outside] = feistel(values[outside], keys[own], half_bits[own])
    return values.astype(np.int64)


def feistel(values: np.ndarray, keys: np.ndarray, half_bits: np.ndarray) -> np.ndarray:
    low = (np.uint64(1) << half_bits) - np.uint64(1)
    # The rounds alone permute 16, 64, … numbers evenly: half of the orders would never occur. An odd key mends that.
    values = (values + keys.T[0]) & ((low << half_bits) | low)
    left, right = values >> half_bits, values & low
    for key in keys.T[1:]:
        left, right = right, left ^ (mix(right + key) & low)
    return (left << half_bits) | right


def mix(x: np.ndarray) -> np.ndarray:
    """murmur3's 64-bit finaliser (Appleby, public domain): every input bit changes every output bit."""
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))
