"""Balanced orders, counted over whole runs: the shares of the classes, passes through a class, purity, chance.

    python -m pytest tests/test_class_balance.py
"""

import math
import tracemalloc
from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loader.build import MapDataset, map_loader
from data_loader.class_balance import BalancedOrder
from data_loader.order import shuffled
from data_loader.quotas import quotas
from data_loader.samplers import BatchSampler
from tests.test_order import chi_square, surprise

class_lists = st.lists(st.integers(0, 5), min_size=1, max_size=60)
powers = st.sampled_from([0.0, 0.3, 0.5, 1.0])


def epoch_of(order: BalancedOrder, epoch: int, seed: int = 0) -> np.ndarray:
    n = len(order.samples)
    return order(np.arange(n), n, seed, epoch)


# ---------------------------------------------------------------------- quotas


@settings(deadline=None)
@given(weights=st.lists(st.integers(1, 1000), min_size=1, max_size=8), extra=st.integers(0, 300))
def test_quotas_against_exact_fractions(weights, extra):
    """Nobody below 1: that fixes one scale, found here by trying how many of the smallest are lifted to 1."""
    total = len(weights) + extra
    found = quotas(weights, total).tolist()
    assert sum(found) == total and min(found) >= 1
    ordered = sorted(weights)
    for lifted in range(len(weights)):
        scale = Fraction(total - lifted, sum(ordered[lifted:]))
        if scale * ordered[lifted] >= 1:
            break
    exact = [max(Fraction(1), scale * weight) for weight in weights]
    assert sum(exact) == total
    remainders = [share - math.floor(share) for share in exact]
    extras = [number - math.floor(share) for number, share in zip(found, exact, strict=True)]
    assert set(extras) <= {0, 1}
    with_extra, without = ([r for r, e in zip(remainders, extras, strict=True) if e == each] for each in (1, 0))
    assert min(with_extra, default=1) >= max(without, default=0)


@given(weights=st.lists(st.integers(1, 10**12), min_size=1, max_size=50))
def test_quotas_of_the_weights_themselves(weights):
    assert quotas(weights, sum(weights)).tolist() == weights


def test_quotas_by_hand():
    assert quotas([1000, 100, 1], 100).tolist() == [90, 9, 1]
    assert quotas([1, 1, 1], 8).tolist() == [3, 3, 2]  # the first of equal remainders
    with np.errstate(all="raise"):  # 0.1 * (3 / sum) is a little less than 1
        assert quotas([0.1, 0.1, 0.1], 3).tolist() == [1, 1, 1]
    assert quotas([4700, 1600, 1580, 1200, 610, 310], 10).tolist() == [4, 2, 1, 1, 1, 1]  # 1 of them is lifted to 1


def test_quotas_of_too_little():
    with pytest.raises(ValueError, match="2 cannot be shared among 3 so that each gets at least 1"):
        quotas([5, 5, 5], 2)


# ------------------------------------------------------------------ whole runs


@settings(deadline=None)
@given(classes=class_lists, power=powers, seed=st.integers(0, 2**40), epochs=st.integers(1, 5))
def test_every_class_gets_its_share_and_every_sample_its_turn(classes, power, seed, epochs):
    order, sizes, seen = BalancedOrder(classes, power), Counter(classes), Counter[int]()
    share = {c: size ** (1 - power) / sum(size ** (1 - power) for size in sizes.values()) for c, size in sizes.items()}
    for epoch in range(epochs):
        numbers = epoch_of(order, epoch, seed).tolist()
        drawn = Counter(classes[number] for number in numbers)
        assert drawn.total() == len(classes)
        if min(share.values()) * len(classes) >= 1:
            assert all(abs(drawn[c] - share[c] * len(classes)) < 1 for c in sizes)
        seen.update(numbers)
        for c in sizes:
            turns = [seen[number] for number, each in enumerate(classes) if each == c]
            assert max(turns) - min(turns) <= 1


@settings(deadline=None)
@given(classes=class_lists, seed=st.integers(0, 9), epoch=st.integers(0, 99))
def test_power_0_is_each_sample_once_per_epoch(classes, seed, epoch):
    assert sorted(epoch_of(BalancedOrder(classes, 0.0), epoch, seed).tolist()) == list(range(len(classes)))


def test_the_shares_by_hand():
    classes = ["a"] * 81 + ["b"] * 9 + ["c"] * 9 + ["d"]  # 9 : 3 : 3 : 1 with power 0.5
    expected = {1.0: [25, 25, 25, 25], 0.5: [56, 19, 19, 6], 0.0: [81, 9, 9, 1]}
    for power, counts in expected.items():
        drawn = Counter(classes[number] for number in epoch_of(BalancedOrder(classes, power), 2).tolist())
        assert [drawn[c] for c in "abcd"] == counts


@settings(deadline=None)
@given(classes=class_lists, power=powers, epoch=st.integers(0, 10**6), data=st.data())
def test_positions_by_themselves(classes, power, epoch, data):
    n = len(classes)
    positions = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
    order = BalancedOrder(classes, power)
    found = order(positions, n, 7, epoch)
    assert np.array_equal(found, epoch_of(order, epoch, 7)[positions]) and found.dtype == np.int64
    assert order(positions[:, None], n, 7, epoch).shape == (len(positions), 1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_same_for_any_processes_and_after_a_resume(world_size):
    classes = [0] * 30 + [1] * 7 + [2]
    order = BalancedOrder(classes)
    whole = epoch_of(order, 4, seed=3).tolist()
    for start in range(0, len(whole) + 1, 5):
        samplers = [BatchSampler(38, 5, seed=3, epoch=4, start=start, order=order, rank=rank, world_size=world_size)
                    for rank in range(world_size)]  # fmt: skip
        batches = [batch for step in zip(*samplers, strict=True) for batch in step]
        num_real = -(-(38 - start) // 5)
        assert [number for batch in batches[:num_real] for number in batch] == whole[start:]
        assert all(batch == [~whole[0]] for batch in batches[num_real:])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_through_a_loader(num_workers):
    classes = list("aaaaaaaaab")
    dataset = MapDataset(lambda numbers: [{"sample_id": number} for number in numbers], 10)
    loader = map_loader(dataset, list, batch_size=4, seed=5, order=BalancedOrder(classes), num_workers=num_workers)
    found = [row["sample_id"] for batch in loader(2, 4) for row in batch]
    assert found == epoch_of(BalancedOrder(classes), 2, seed=5).tolist()[4:]


# -------------------------------------------------------------------- by chance


def test_every_class_is_equally_likely_at_every_position():
    classes = np.array([0] * 40 + [1] * 15 + [2] * 5)
    order, draws = BalancedOrder(classes), 450
    found = np.stack([classes[epoch_of(order, seed % 30, seed // 30)] for seed in range(draws)])  # (draws, positions)
    table = np.stack([(found == c).sum(axis=0) for c in range(3)])
    # 20 places of each class in each epoch: both margins are fixed, and a draw without replacement varies less.
    freedom = 59 * 2
    assert surprise(chi_square(table) * 59 / 60, freedom) < 3.5
    pairs = Counter(zip(found[:, 0].tolist(), found[:, 1].tolist(), strict=True))
    expected = {(a, b): draws / 3 * (19 if a == b else 20) / 59 for a in range(3) for b in range(3)}
    assert surprise(sum((pairs[pair] - e) ** 2 / e for pair, e in expected.items()), 8) < 3.5


def test_every_sample_of_a_class_is_equally_likely():
    classes = [0] * 17 + [1] * 3
    order, counts = BalancedOrder(classes), np.zeros(20)
    for seed in range(1000):
        counts[order(np.array([0]), 20, seed, seed % 7)] += 1
    assert surprise(chi_square(counts[:17]), 16) < 3.5
    assert surprise(chi_square(counts[17:]), 2) < 3.5
    assert surprise(chi_square(np.array([counts[:17].sum(), counts[17:].sum()])), 1) < 3.5


def test_classes_epochs_and_passes_have_orders_of_their_own():
    """Three classes of 100 samples, each of which is passed through once per epoch."""
    order = BalancedOrder(np.arange(300) % 3)
    passes = []
    for epoch in range(3):
        slots = shuffled(np.arange(300), 300, 0, epoch)
        by_slot = epoch_of(order, epoch)[np.argsort(slots)].reshape(3, 100)  # (class, draw)
        assert (by_slot % 3 == np.arange(3)[:, None]).all()
        passes += list(by_slot // 3)
    agreeing = [int(np.sum(a == b)) for a, b in combinations(passes, 2)]
    assert max(agreeing) < 8 and 0.4 < np.mean(agreeing) < 1.8  # Poisson with mean 1


# ----------------------------------------------------------------- limits, cost


def test_memory_does_not_grow_with_the_data():
    peaks = []
    for n in (10**3, 10**6):
        order = BalancedOrder(np.arange(n) % 4)
        positions = np.linspace(0, n - 1, 500).astype(np.int64)
        order(positions, n, 0, 1)
        tracemalloc.start()
        order(positions, n, 0, 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("power", [-0.1, 1.1, float("nan")])
def test_power_outside(power):
    with pytest.raises(ValueError, match=f"power must be between 0 .* and 1 .*, found {power}"):
        BalancedOrder(["a"], power)


def test_classes_of_other_data():
    with pytest.raises(ValueError, match="the data set has 9 samples, but classes are known of 2"):
        list(BatchSampler(9, 2, order=BalancedOrder(["a", "b"])))


@pytest.mark.parametrize(("power", "expected"), [
    (1.0, [9, 8, 7, 11, 11, 2, 11, 11, 8, 10, 1, 3]),
    (0.5, [9, 8, 4, 1, 11, 5, 11, 0, 8, 10, 7, 2]),
])  # fmt: skip
def test_pinned(power, expected):
    """A resumed run must go on in the same order after an update: these numbers never change."""
    assert epoch_of(BalancedOrder(["b"] * 8 + ["a"] * 3 + ["c"], power), 1, seed=42).tolist() == expected
