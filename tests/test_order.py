"""The order of the data: a bijection for every n, O(1), uniform, and the same in every version.

    python -m pytest tests/test_order.py
"""

import math
import time
import tracemalloc
from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loader.order import file_order, half_bits_of, permuted, round_keys, shuffled, subseed

seeds = st.integers(0, 2**64)
epochs = st.integers(0, 10**6)


def order(n: int, seed: int = 0, epoch: int = 0) -> np.ndarray:
    return shuffled(np.arange(n), n, seed, epoch)


def chi_square(observed: np.ndarray) -> float:
    expected = observed.mean()
    return float(((observed - expected) ** 2).sum() / expected)


def surprise(chi_square: float, freedom: int) -> float:
    """In standard deviations of the chi-square distribution."""
    return abs(chi_square - freedom) / math.sqrt(2 * freedom)


# ------------------------------------------------------------------ a bijection


@settings(deadline=None)
@given(n=st.integers(1, 3000), seed=seeds, epoch=epochs)
def test_every_sample_once(n, seed, epoch):
    assert np.array_equal(np.sort(order(n, seed, epoch)), np.arange(n))


@pytest.mark.parametrize("n", [2**14 - 1, 2**14, 2**14 + 1, 2**16 + 1, 999_983, 10**6])
def test_every_sample_once_in_large_sets(n):
    assert np.array_equal(np.bincount(order(n, seed=n), minlength=n), np.ones(n))


@settings(deadline=None)
@given(n=st.integers(1, 2000), seed=seeds, epoch=epochs, data=st.data())
def test_positions_by_themselves(n, seed, epoch, data):
    positions = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20)), dtype=np.int64)
    found = shuffled(positions, n, seed, epoch)
    assert np.array_equal(found, order(n, seed, epoch)[positions])
    assert found.dtype == np.int64


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 3), (0, 4), (2, 1, 2)])
def test_any_shape(shape):
    positions = np.arange(math.prod(shape)).reshape(shape)
    assert np.array_equal(shuffled(positions, 9, 1, 2), order(9, 1, 2)[positions])


@settings(deadline=None)
@given(seed=seeds, data=st.data())
def test_each_position_of_an_order_of_its_own(seed, data):
    """permuted() at once for positions of data sets and epochs of any kind."""
    sizes = st.integers(1, 2000) | st.integers(1, 2**62)
    drawn = data.draw(st.lists(st.tuples(sizes, st.integers(0, 2**62), epochs), min_size=1, max_size=10))
    rows = [(n, position % n, epoch) for n, position, epoch in drawn]
    expected = [int(shuffled(np.array(position), n, seed, epoch)) for n, position, epoch in rows]
    half_bits = np.array([half_bits_of(n) for n, _, _ in rows])
    keys = np.stack([round_keys(seed, epoch) for _, _, epoch in rows])
    n, positions, _ = np.array(rows).T
    assert permuted(positions, n.astype(np.uint64), half_bits, keys).tolist() == expected


def test_the_order_of_the_file():
    for epoch in (0, 3):
        assert file_order(np.array([[3, 0], [7, 7]]), 9, 42, epoch).tolist() == [[3, 0], [7, 7]]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64])
def test_the_positions_are_left_alone(dtype):
    positions = np.arange(100, dtype=dtype)
    shuffled(positions, 100, 0, 0)
    assert np.array_equal(positions, np.arange(100))


@pytest.mark.parametrize(("positions", "n"), [([-1], 5), ([5], 5), ([0], 0), ([0, 4, 99], 5)])
def test_positions_outside(positions, n):
    with pytest.raises(ValueError, match=rf"positions must be in 0 … {n - 1}"):
        shuffled(np.array(positions), n, 0, 0)


def test_negative_seed():
    with pytest.raises(ValueError, match="non-negative"):
        order(5, seed=-1)


# --------------------------------------------------------- seed and epoch decide


def test_each_seed_and_epoch_has_its_own_order():
    pairs = [(seed, epoch) for seed in (0, 1, 2, 42, 2**31, 2**32, 2**32 + 1, 2**64, 2**64 + 1) for epoch in range(20)]
    orders = [order(100, seed, epoch) for seed, epoch in pairs]
    assert len({tuple(found) for found in orders}) == len(pairs)
    # As between random orders, one position in 100 agrees on average.
    agreeing = [np.sum(a == b) for a, b in pairwise(orders)]
    assert 0.7 < np.mean(agreeing) < 1.3


def test_each_number_has_a_seed_of_its_own():
    places = [(seed, number) for seed in (0, 1, 42, 2**32, 2**64) for number in (*range(300), 2**32, 2**40)]
    found = [subseed(*place) for place in places]
    assert len(set(found)) == len(places)
    assert all(0 <= each < 2**64 for each in found)
    assert subseed(42, 7) == 740160154799646529  # never changes, as below
    for seed in (0, 42):  # and is no key of an order
        keys = [round_keys(seed, *path) for number in range(300) for path in ((number,), (number, 0))]
        assert not set(found) & set(np.stack(keys).ravel().tolist())


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(1)
    before = order(50)
    np.random.seed(2)
    state = np.random.get_state(legacy=False)["state"]
    assert np.array_equal(order(50), before)
    after = np.random.get_state(legacy=False)["state"]
    assert np.array_equal(after["key"], state["key"]) and after["pos"] == state["pos"]


@pytest.mark.parametrize(("positions", "n", "seed", "epoch", "expected"), [
    (range(10), 10, 0, 0, [8, 6, 5, 2, 3, 7, 1, 0, 9, 4]),
    (range(16), 16, 42, 1, [2, 12, 7, 9, 10, 13, 11, 8, 1, 15, 14, 4, 3, 6, 5, 0]),
    (range(500, 506), 1000, 42, 3, [242, 139, 619, 567, 665, 552]),
    ((0, 1, 10**12 - 1), 10**12, 7, 2**20, [402463258969, 479435583357, 72350437370]),
    ((0, 2**61), 2**62, 2**70, 5, [3550056590563038563, 170859596900689221]),
])  # fmt: skip
def test_pinned(positions, n, seed, epoch, expected):
    """A resumed run must go on in the same order after an update: these numbers never change."""
    assert shuffled(np.array(positions), n, seed, epoch).tolist() == expected


# ---------------------------------------------------------------------- uniform


@pytest.mark.parametrize(("n", "draws"), [(3, 1200), (4, 4800), (5, 2400)])
def test_all_orders_are_equally_likely(n, draws):
    counts = Counter(tuple(order(n, seed, epoch).tolist()) for seed in range(draws // 40) for epoch in range(40))
    observed = np.array([counts[each] for each in permutations(range(n))])
    assert surprise(chi_square(observed), len(observed) - 1) < 3.5


@pytest.mark.parametrize("n", [7, 16, 64])
def test_even_and_odd_orders_are_equally_likely(n):
    """A Feistel network alone would give even permutations of 16 or 64 numbers only."""
    odd = sum((n - num_cycles(order(n, seed))) % 2 for seed in range(1000))
    assert abs(odd - 500) < 3.5 * math.sqrt(250)


def num_cycles(found: np.ndarray) -> int:
    left, cycles = set(range(len(found))), 0
    while left:
        cycles += 1
        at = left.pop()
        while (at := int(found[at])) in left:
            left.remove(at)
    return cycles


@pytest.mark.parametrize("n", [10, 16, 50])
def test_every_sample_comes_equally_often_at_every_position(n):
    draws = 1000
    table = np.zeros((n, n))
    for seed in range(draws):
        table[np.arange(n), order(n, seed // 50, seed % 50)] += 1
    # Rows and columns have fixed sums: (n-1)^2 degrees of freedom, while the mean is n (n-1).
    assert surprise(chi_square(table) * (n - 1) / n, (n - 1) ** 2) < 3.5


def test_neighbours_are_independent():
    n = 100_000
    found = order(n, seed=5)
    for lag in (1, 2, 3, 7, 32, 256, 4096):
        assert abs(np.corrcoef(found[:-lag], found[lag:])[0, 1]) < 4 / math.sqrt(n), lag
    assert abs(np.corrcoef(found, np.arange(n))[0, 1]) < 4 / math.sqrt(n)
    assert abs(np.corrcoef(found, order(n, seed=5, epoch=1))[0, 1]) < 4 / math.sqrt(n)
    assert abs(np.corrcoef(found, order(n, seed=6))[0, 1]) < 4 / math.sqrt(n)
    assert np.sum(np.diff(found) == 1) <= 6  # Poisson with mean 1


def test_every_batch_is_spread_over_the_whole_set():
    """Of 1000 batches of 100, each tenth of the data gets its share."""
    tenths = order(100_000, seed=3).reshape(1000, 100) // 10_000
    counts = np.stack([(tenths == tenth).sum(axis=1) for tenth in range(10)])
    assert surprise(chi_square(counts), 999 * 9) < 3.5


# ------------------------------------------------------------------------- O(1)


def cost(n: int) -> tuple[float, int]:
    """Seconds and bytes (peak) for 1000 positions."""
    positions = np.linspace(0, n - 1, 1000).astype(np.int64)
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        shuffled(positions, n, 0, 0)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    shuffled(positions, n, 0, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return min(seconds), peak


def test_time_and_memory_do_not_grow_with_n():
    # Both are half as large as their domain, so about as many numbers fall outside of it.
    small, large = cost(2**11), cost(2**41)
    assert large[0] < 3 * small[0]
    assert large[1] < 1.1 * small[1]


@settings(deadline=None, max_examples=20)
@given(n=st.integers(10**12, 2**63 - 1), seed=seeds)
def test_huge_sets(n, seed):
    positions = np.append(np.arange(500), np.arange(n - 500, n))
    found = shuffled(positions, n, seed, 0)
    assert len(set(found.tolist())) == 1000
    assert found.min() >= 0 and found.max() < n
    assert abs(found.mean() / n - 0.5) < 6 * math.sqrt(1 / 12 / 1000)
