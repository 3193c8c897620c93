"""The sampler against a slow reference: each position once, the same global steps for any number of processes.

    python -m pytest tests/test_samplers.py
"""

from itertools import chain
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loader import samplers
from data_loader.order import file_order, shuffled
from data_loader.samplers import BatchSampler, DataChanged, Order

sizes = st.integers(0, 200)
batch_sizes = st.integers(1, 20)
world_sizes = st.integers(1, 5)


def thirds(positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """The first sample of each three comes three times, as where some samples are drawn more often."""
    return shuffled(positions, n, seed, epoch) // 3 * 3


orders = st.sampled_from([shuffled, file_order, thirds])


def reference(size: int, batch_size: int, *, seed: int = 0, epoch: int = 0, start: int = 0, order: Order = shuffled,
              rank: int = 0, world_size: int = 1) -> list[list[int]]:  # fmt: skip
    """The whole epoch as a list, cut into pieces and dealt out like cards."""
    numbers = order(np.arange(size), size, seed, epoch).tolist()
    batches = [numbers[i : min(i + batch_size, size)] for i in range(start, size, batch_size)]
    while len(batches) % world_size:  # stand-ins
        batches.append([~numbers[0]])
    return batches[rank::world_size]


def ranks(world_size: int, *args: Any, **options: Any) -> list[list[list[int]]]:
    """The micro-batches of each rank."""
    return [list(BatchSampler(*args, rank=rank, world_size=world_size, **options)) for rank in range(world_size)]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


@settings(deadline=None)
@given(
    size=sizes,
    batch_size=batch_sizes,
    start=st.integers(0, 200),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 100),
    world=world_sizes.flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))),
    order=orders,
    block=st.sampled_from([1, 7, 64, samplers.BLOCK]),
)
def test_against_the_reference(size, batch_size, start, seed, epoch, world, order, block):
    options = {"seed": seed, "epoch": epoch, "start": min(start, size), "order": order,
               "rank": world[0], "world_size": world[1]}  # fmt: skip
    with mock.patch.object(samplers, "BLOCK", block):
        sampler = BatchSampler(size, batch_size, **options)
        batches = list(sampler)
        assert batches == reference(size, batch_size, **options)
        assert len(sampler) == len(batches)
        assert list(sampler) == batches  # it can be iterated again
    assert all(type(number) is int for number in flat(batches))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 7, 31, 101, 128])
@pytest.mark.parametrize("order", [shuffled, file_order])
def test_each_sample_once_per_epoch(size, world_size, order):
    per_rank = ranks(world_size, size, 3, seed=5, epoch=2, order=order)
    real = [number for batches in per_rank for number in flat(batches) if number >= 0]
    assert sorted(real) == list(range(size))


@settings(deadline=None)
@given(size=sizes, batch_size=batch_sizes, start=st.integers(0, 200), seed=st.integers(0, 9))
def test_global_steps_do_not_depend_on_the_processes(size, batch_size, start, seed):
    """4 micro-batches of an optimizer step: 1 process x 4 accumulated = 2 x 2 = 4 x 1 = 1 x 1 four times as large."""
    start = min(start, size)

    def global_steps(world_size: int, accumulate: int, batch_size: int) -> list[list[int]]:
        per_rank = ranks(world_size, size, batch_size, seed=seed, start=start)
        steps = range(0, len(per_rank[0]), accumulate)
        groups = [[batch for batches in per_rank for batch in batches[i : i + accumulate]] for i in steps]
        return [sorted(number for number in flat(group) if number >= 0) for group in groups]

    expected = global_steps(1, 4, batch_size)
    assert global_steps(2, 2, batch_size) == expected
    assert global_steps(4, 1, batch_size) == expected
    assert global_steps(1, 1, 4 * batch_size) == expected


@settings(deadline=None)
@given(size=sizes, batch_size=batch_sizes, world_size=world_sizes, done=st.integers(0, 50), order=orders)
def test_start_equals_skipping(size, batch_size, world_size, done, order):
    """After `done` rounds of all ranks, with the samples they had; stand-ins too are the same."""
    options = {"seed": 3, "order": order}
    whole = ranks(world_size, size, batch_size, **options)
    start = sum(number >= 0 for batches in whole for number in flat(batches[:done]))
    rest = ranks(world_size, size, batch_size, start=start, **options)
    assert rest == [batches[done:] for batches in whole]


@settings(deadline=None)
@given(size=sizes, batch_size=batch_sizes, world_size=world_sizes, change=world_sizes, done=st.integers(0, 10))
def test_going_on_with_another_number_of_processes(size, batch_size, world_size, change, done):
    first = [batches[:done] for batches in ranks(world_size, size, batch_size)]
    seen = [n for batches in first for n in flat(batches) if n >= 0]
    rest = [n for batches in ranks(change, size, batch_size, start=len(seen)) for n in flat(batches) if n >= 0]
    assert sorted(seen + rest) == list(range(size))


@settings(deadline=None)
@given(size=sizes, batch_size=batch_sizes, world_size=world_sizes)
def test_equal_steps(size, batch_size, world_size):
    per_rank = ranks(world_size, size, batch_size)
    assert len({len(batches) for batches in per_rank}) == 1
    for batches in per_rank:
        assert all(batches)
        stand_ins = [batch for batch in batches if min(batch) < 0]
        assert stand_ins in ([], batches[-1:])  # at most one, the last
        assert all(len(batch) == 1 and 0 <= ~batch[0] < size for batch in stand_ins)
    assert any(min(batches[-1]) >= 0 for batches in per_rank if batches) or size == 0  # no step of stand-ins only


@settings(deadline=None)
@given(size=sizes, batch_size=batch_sizes, world_size=world_sizes)
def test_evaluation(size, batch_size, world_size):
    per_rank = ranks(world_size, size, batch_size, order=file_order)
    real = [[number for number in flat(batches) if number >= 0] for batches in per_rank]
    assert sorted(chain(*real)) == list(range(size))
    assert all(numbers == sorted(numbers) for numbers in real)


@pytest.mark.parametrize("start", [-1, 11])
def test_start_outside(start):
    with pytest.raises(DataChanged, match=f"{start} samples of epoch 3 are done, but the data set has 10"):
        BatchSampler(10, 4, epoch=3, start=start)


def test_at_the_end():
    sampler = BatchSampler(10, 4, start=10, world_size=3)
    assert len(sampler) == 0 and list(sampler) == []


def test_pinned():
    assert ranks(3, 10, 4, seed=42, epoch=1, start=2) == [[[7, 9, 5, 6]], [[4, 8, 1, 0]], [[-3]]]
