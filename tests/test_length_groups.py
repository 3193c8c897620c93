"""data_loader/length_groups.py: what padding it saves, and that it stays a fair and pure order."""

from collections import Counter

import numpy as np
import pytest

from data_loader.class_balance import BalancedOrder
from data_loader.length_groups import GroupedByLength
from data_loader.order import shuffled
from data_loader.samplers import BatchSampler

LENGTHS = np.random.default_rng(0).lognormal(np.log(34), 0.6, 5003).astype(np.int64).clip(3, 128)


def batches(order, size: int = 32, epoch: int = 0, n: int = len(LENGTHS), **options) -> list[list[int]]:
    return list(BatchSampler(n, size, seed=7, epoch=epoch, order=order, **options))


def padding(some: list[list[int]]) -> float:
    """Share of the places of padded batches."""
    places = sum(len(batch) * LENGTHS[batch].max() for batch in some)
    return 1 - sum(LENGTHS[batch].sum() for batch in some) / places


def test_every_sample_once_in_batches_of_hardly_any_padding() -> None:
    order = GroupedByLength(LENGTHS, 32)
    for epoch in range(3):
        some = batches(order, epoch=epoch)
        assert sorted(number for batch in some for number in batch) == list(range(len(LENGTHS)))
        assert [len(batch) for batch in some] == [32] * (5003 // 32) + [5003 % 32]
    assert padding(batches(shuffled)) > 0.5
    assert padding(batches(GroupedByLength(LENGTHS, 32, noise=0.0))) < 0.02
    assert padding(batches(order)) < 0.05


def test_neither_steps_nor_neighbours_are_the_same_in_each_epoch() -> None:
    order = GroupedByLength(LENGTHS, 32)
    means = np.array([[LENGTHS[batch].mean() for batch in batches(order, epoch=epoch)[:-1]] for epoch in range(30)])
    for epoch in range(30):  # short and long batches come in no order
        assert abs(np.corrcoef(means[epoch], np.arange(means.shape[1]))[0, 1]) < 0.35
    own = [batch for epoch in range(30) for batch in batches(order, epoch=epoch) if 0 in batch]
    met = Counter(other for batch in own for other in batch)
    assert met.pop(0) == 30 and max(met.values()) < 15
    lasts = [LENGTHS[batches(order, epoch=epoch)[-1]].mean() for epoch in range(30)]
    assert np.std(lasts) > 5, "the group that is smaller is of any length"


@pytest.mark.parametrize("done", [0, 64, 4000])
def test_pure_and_the_same_for_any_number_of_ranks(done: int) -> None:
    whole = [number for batch in batches(GroupedByLength(LENGTHS, 32), epoch=2) for number in batch]
    resumed = batches(GroupedByLength(LENGTHS, 32), 16, epoch=2, start=done)
    assert [number for batch in resumed for number in batch] == whole[done:]
    ranks = [batches(GroupedByLength(LENGTHS, 32), 8, epoch=2, start=done, rank=r, world_size=4) for r in range(4)]
    steps = [sorted(n for batch in step for n in batch if n >= 0) for step in zip(*ranks, strict=True)]
    assert steps == [sorted(whole[first : first + 32]) for first in range(done, len(whole), 32)]


def test_samples_come_as_often_as_in_the_order_that_it_is_made_from() -> None:
    classes = LENGTHS % 7 == 0
    base = BalancedOrder(classes)
    found = GroupedByLength(LENGTHS, 32, order=base)(np.arange(len(LENGTHS)), len(LENGTHS), 7, 1)
    assert Counter(found.tolist()) == Counter(base(np.arange(len(LENGTHS)), len(LENGTHS), 7, 1).tolist())
    assert abs(classes[found].mean() - 0.5) < 0.01


@pytest.mark.parametrize(("n", "group"), [(1, 1), (1, 8), (5, 8), (8, 8), (9, 8), (3, 1)])
def test_small_data(n: int, group: int) -> None:
    order = GroupedByLength(LENGTHS[:n], group)
    assert sorted(order(np.arange(n), n, 0, 0).tolist()) == list(range(n))


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="at least 1 sample"):
        GroupedByLength(LENGTHS, 0)
    with pytest.raises(ValueError, match="lengths are known of 5003"):
        GroupedByLength(LENGTHS, 2)(np.arange(3), 3, 0, 0)
