"""Several data sets in one order, counted over whole runs: shares, passes, processes, resuming, batches.

    python -m pytest tests/test_mixing.py
"""

import math
from collections import Counter
from functools import partial
from itertools import combinations, islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loader.build import MapDataset, map_loader, mixed_loader
from data_loader.class_balance import BalancedOrder
from data_loader.collate import Collator
from data_loader.mixing import MIXINGS, MixedBatchSampler, batch_counts
from data_loader.order import file_order, shuffled, subseed
from data_loader.samplers import BatchSampler, DataChanged, Order
from tests.test_order import chi_square, surprise

Batch = list[tuple[int, int]]

pairs = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 7)), min_size=1, max_size=4)  # size, batch size
mixings = st.sampled_from(MIXINGS)
SIZES, BATCH_SIZES = [37, 9, 4, 1], [4, 2, 4, 3]  # 10, 5, 1, 1 micro-batches of a pass


def mixed(sizes: Any = SIZES, batch_sizes: Any = BATCH_SIZES, **options: Any) -> list[Batch]:
    return list(MixedBatchSampler(sizes, batch_sizes, **options))


def passes_of(
    sizes: list[int], batch_sizes: list[int], dataset: int, seed: int, count: int, order: Order = shuffled
) -> list[Batch]:
    """The first micro-batches of a data set's own: BatchSampler's, one pass after the other."""
    options: dict[str, Any] = {"seed": subseed(seed, dataset), "order": order}

    def endless():
        for number in range(count):
            yield from BatchSampler(sizes[dataset], batch_sizes[dataset], epoch=number, **options)

    return [[(dataset, number) for number in numbers] for numbers in islice(endless(), count)]


# ------------------------------------------------------------------ whole runs


@settings(max_examples=30, deadline=None)
@given(pairs=pairs, mixing=mixings, seed=st.integers(0, 2**40), epochs=st.integers(1, 4))
def test_whole_runs(pairs, mixing, seed, epochs):
    """In each epoch the counts hold; over the epochs, each data set's micro-batches are its own, pass by pass."""
    sizes, batch_sizes = map(list, zip(*pairs, strict=True))
    num_batches = np.array([math.ceil(size / batch_size) for size, batch_size in pairs])
    seen: list[list[Batch]] = [[] for _ in pairs]
    for epoch in range(epochs):
        batches = mixed(sizes, batch_sizes, mixing=mixing, epochs=epochs, seed=seed, epoch=epoch)
        assert len(batches) == num_batches.sum()
        assert all(len({dataset for dataset, _ in batch}) == 1 for batch in batches)
        counts = Counter(batch[0][0] for batch in batches)
        assert [counts[d] for d in range(len(pairs))] == batch_counts(num_batches, mixing, 5.0, epoch, epochs).tolist()
        for batch in batches:
            seen[batch[0][0]].append(batch)
        for dataset, found in enumerate(seen):
            expected = passes_of(sizes, batch_sizes, dataset, seed, len(found))
            assert sorted(found) == sorted(expected)
            if mixing == "round_robin":
                assert found == expected


@settings(max_examples=30, deadline=None)
@given(pairs=pairs, mixing=mixings, epochs=st.integers(1, 4))
def test_every_sample_of_a_data_set_comes_equally_often(pairs, mixing, epochs):
    """Or some once more, in the pass that has begun; with proportional mixing exactly once per epoch."""
    sizes, batch_sizes = zip(*pairs, strict=True)
    turns = [np.zeros(size, dtype=int) for size in sizes]
    for epoch in range(epochs):
        for dataset, number in (sample for batch in mixed(sizes, batch_sizes, mixing=mixing, epochs=epochs, epoch=epoch)
                                for sample in batch):  # fmt: skip
            turns[dataset][number] += 1
        assert all(each.max() - each.min() <= 1 for each in turns)
        if mixing == "proportional":
            assert all((each == epoch + 1).all() for each in turns)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_each_data_set_in_an_order_of_its_own_kind(mixing):
    """The second one balanced, the third in the order of its file."""
    sizes, batch_sizes = [20, 12, 7], [3, 4, 2]
    orders: list[Order] = [shuffled, BalancedOrder([0] * 9 + [1] * 3), file_order]
    options = {"mixing": mixing, "epochs": 3, "orders": orders, "seed": 5}
    run = [batch for epoch in range(3) for batch in mixed(sizes, batch_sizes, epoch=epoch, **options)]
    for dataset, order in enumerate(orders):
        found = [batch for batch in run if batch[0][0] == dataset]
        assert sorted(found) == sorted(passes_of(sizes, batch_sizes, dataset, 5, len(found), order))
    if mixing == "proportional":
        drawn = Counter(number >= 9 for batch in run for dataset, number in batch if dataset == 1)
        assert drawn == {True: 18, False: 18}


def test_round_robin_takes_strict_turns():
    assert [batch[0][0] for batch in mixed(mixing="round_robin", epoch=3)] == [0, 1, 2, 3] * 4 + [0]


# --------------------------------------------------------------------- the shares


@pytest.mark.parametrize(("num_batches", "mixing", "temperature", "counts"), [
    ([90, 10], "proportional", 5.0, [90, 10]),
    ([90, 10], "temperature", 1.0, [90, 10]),
    ([90, 10], "temperature", 2.0, [75, 25]),  # 9 ** 0.5 : 1
    ([128, 4], "temperature", 5.0, [88, 44]),  # 32 ** 0.2 : 1
    ([90, 10], "temperature", math.inf, [50, 50]),
    ([90, 10], "round_robin", 5.0, [50, 50]),
    ([90, 10, 2], "round_robin", 5.0, [34, 34, 34]),
    ([5, 2, 1], "round_robin", 5.0, [3, 3, 2]),
])  # fmt: skip
def test_counts_by_hand(num_batches, mixing, temperature, counts):
    assert batch_counts(np.array(num_batches), mixing, temperature, 0, 1).tolist() == counts


def test_annealing_goes_from_proportional_to_an_exponent_of_a_fifth():
    counts = [batch_counts(np.array([972, 4]), "annealed", 5.0, epoch, 5)[1] for epoch in (0, 1, 2, 3, 4, 5, 99)]
    share = [4**a / (972**a + 4**a) for a in (1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2)]
    assert counts[0] == 4 and counts[4] == round(976 / (1 + 3)) == 244  # 243 ** 0.2 = 3
    assert counts == [round(976 * each) for each in share]
    assert batch_counts(np.array([972, 4]), "annealed", 5.0, 0, 1).tolist() == [972, 4]


def test_annealed_epochs_go_on_where_the_one_before_ended():
    """Its counts differ from epoch to epoch, and so does the number of micro-batches that came before."""
    run = [batch for epoch in range(6) for batch in mixed([30, 7], [2, 2], mixing="annealed", epochs=6, epoch=epoch)]
    small = [batch for batch in run if batch[0][0] == 1]
    assert len(small) != 6 * 4
    assert sorted(small) == sorted(passes_of([30, 7], [2, 2], 1, 0, len(small)))


# ------------------------------------------------------ the same, whoever asks


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_any_number_of_processes_from_any_micro_batch_on(mixing, world_size):
    options = {"mixing": mixing, "epochs": 3, "seed": 8, "epoch": 2}
    whole = mixed(**options)
    start = 0
    for done in range(len(whole) + 1):
        samplers = [MixedBatchSampler(SIZES, BATCH_SIZES, start=start, rank=rank, world_size=world_size, **options)
                    for rank in range(world_size)]  # fmt: skip
        found = [batch for step in zip(*samplers, strict=True) for batch in step]
        num_real = len(whole) - done
        assert found[:num_real] == whole[done:]
        if stand_ins := found[num_real:]:
            dataset, first = found[-world_size][0]  # of the first of that turn
            assert stand_ins == [[(dataset, ~first)]] * (-num_real % world_size)
        assert all(len(sampler) == len(found) // world_size for sampler in samplers)
        start += len(whole[done]) if num_real else 0


@pytest.mark.parametrize("mixing", MIXINGS)
def test_no_micro_batch_begins_there(mixing):
    lengths = [len(batch) for batch in mixed(mixing=mixing)]
    begins = {sum(lengths[:i]) for i in range(len(lengths) + 1)}
    for start in {*range(-1, sum(lengths) + 2)} - begins:
        with pytest.raises(DataChanged, match=f"{start} samples of epoch 0 are done, but no micro-batch begins there"):
            mixed(mixing=mixing, start=start)


def test_no_two_orders_are_the_same():
    runs = [mixed(seed=seed, epoch=epoch) for seed in (0, 1, 2**33) for epoch in (0, 1, 2)]
    assert all(a != b for a, b in combinations(runs, 2))
    places = [[batch[0][0] for batch in run] for run in runs]
    assert all(a != b for a, b in combinations(places, 2))


def test_data_sets_of_one_size_have_orders_of_their_own():
    batches = mixed([100, 100], [1, 1], mixing="round_robin")
    first, second = ([batch[0][1] for batch in batches[d::2]] for d in (0, 1))
    assert sorted(first) == sorted(second) == list(range(100))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 8  # Poisson with mean 1


def test_data_sets_are_spread_over_the_epoch():
    """In 200 epochs, each position belongs to each data set as often as its share says."""
    draws, counts = 200, np.array([8, 4, 2])
    table = np.zeros((3, 14))
    for seed in range(draws):
        for position, batch in enumerate(mixed([8, 4, 2], [1, 1, 1], seed=seed // 20, epoch=seed % 20)):
            table[batch[0][0], position] += 1
    assert (table.sum(axis=1) == draws * counts).all()
    # Both margins are fixed; a draw without replacement varies 13 / 14 times as much as one with it.
    statistic = sum(chi_square(row) for row in table) * 13 / 14
    assert surprise(statistic, 13 * 2) < 3.5


# --------------------------------------------------------------------- batches


def features_of(dataset: int, size: int) -> list[dict[str, Any]]:
    """Data set 0 has one label per text, 1 one per word, 2 both."""
    rows: list[dict[str, Any]] = []
    for i in range(size):
        ids = list(range(100 * dataset + 1, 100 * dataset + 3 + i % 4))
        row: dict[str, Any] = {"sample_id": i, "input_ids": ids, "labels": {}}
        if dataset != 1:
            row["labels"][f"text{dataset}"] = i % 3
        if dataset != 0:
            row |= {"word_starts": list(range(len(ids))), "num_words": len(ids)}
            row["labels"][f"words{dataset}"] = [i % 2] * len(ids)
        rows.append(row)
    return rows


def fetch(rows: list[dict[str, Any]], numbers: list[int]) -> list[dict[str, Any]]:
    return [rows[number] for number in numbers]


LEVELS = [{"text0": "sequence"}, {"words1": "word"}, {"text2": "sequence", "words2": "word"}]
ROWS = [features_of(dataset, size) for dataset, size in enumerate((13, 6, 5))]
DATASETS = [MapDataset(partial(fetch, rows), len(rows)) for rows in ROWS]
COLLATES = [Collator(0, levels) for levels in LEVELS]


def loader(**options: Any) -> Any:
    return mixed_loader(DATASETS, COLLATES, batch_sizes=[4, 3, 2], seed=6, **options)


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys() and found["labels"].keys() == expected["labels"].keys()
    for a, b in ((found, expected), (found["labels"], expected["labels"])):
        assert all(torch.equal(a[name], b[name]) for name in a if name != "labels")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("mixing", MIXINGS)
def test_batches_are_those_of_their_own_collator(mixing, num_workers):
    order = mixed([13, 6, 5], [4, 3, 2], mixing=mixing, epochs=3, seed=6, epoch=1)
    start = sum(map(len, order[:3]))
    batches = loader(mixing=mixing, epochs=3, num_workers=num_workers)(1, start)
    assert len(batches) == len(order) - 3
    for batch, samples in zip(batches, order[3:], strict=True):
        dataset = samples[0][0]
        numbers = [number for _, number in samples]
        assert batch["labels"].keys() == LEVELS[dataset].keys()
        assert_equal(batch, COLLATES[dataset](DATASETS[dataset].__getitems__(numbers)))


def test_a_stand_in_adds_nothing():
    ranks = [list(loader(rank=rank, world_size=3)(0, 0)) for rank in range(3)]
    assert [len(batches) for batches in ranks] == [3, 3, 3]  # of 9
    ranks = [list(loader(rank=rank, world_size=2)(0, 0)) for rank in range(2)]
    first, stand_in = ranks[0][-1], ranks[1][-1]  # of one turn
    assert stand_in["sample_id"].tolist() == [-1]
    length = int(stand_in["attention_mask"].sum())
    assert stand_in["input_ids"].tolist() == first["input_ids"][:1, :length].tolist()
    assert stand_in["labels"].keys() == first["labels"].keys()
    assert all(bool((gold == -100).all()) for gold in stand_in["labels"].values())


def test_one_data_set_alone_is_that_of_the_usual_loader_in_another_order():
    alone = mixed_loader(DATASETS[:1], COLLATES[:1], batch_sizes=[4], seed=6)(2, 0)
    usual = map_loader(DATASETS[0], COLLATES[0], batch_size=4, seed=subseed(6, 0))(2, 0)
    expected = {tuple(batch["sample_id"].tolist()): batch for batch in usual}
    found = list(alone)
    assert len(found) == len(expected) == 4
    for batch in found:
        assert_equal(batch, expected[tuple(batch["sample_id"].tolist())])


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    list(loader()(0, 0))
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------------- limits


@pytest.mark.parametrize(("sizes", "batch_sizes"), [([4, 0], [1, 1]), ([4], [1, 1]), ([4], [0]), ([], [])])
def test_sizes_that_cannot_be(sizes, batch_sizes):
    with pytest.raises(ValueError, match="one batch size per data set, and none empty, found sizes"):
        mixed(sizes, batch_sizes)


@pytest.mark.parametrize(("options", "message"), [
    ({"mixing": "equal"}, "unknown mixing 'equal'; known are proportional, temperature, annealed, round_robin"),
    ({"temperature": 0.5}, "temperature must be at least 1, found 0.5"),
    ({"temperature": math.nan}, "temperature must be at least 1, found nan"),
])  # fmt: skip
def test_ways_of_mixing_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        mixed(**options)


def test_a_collate_for_each_data_set():
    with pytest.raises(ValueError, match="one collate per data set, found 1 for 3"):
        mixed_loader(DATASETS, COLLATES[:1], batch_sizes=[1, 1, 1], seed=0)


def test_pinned():
    """A resumed run must go on in the same order after an update: these numbers never change."""
    a, b, c = [(0, 1)], [(0, 3), (0, 2)], [(0, 4), (0, 0)]
    d, e = [(1, 1), (1, 2)], [(1, 0)]
    assert mixed([5, 3], [2, 2], mixing="temperature", seed=42, epoch=1) == [a, d, b, c, e]
    assert mixed([5, 3], [2, 2], mixing="round_robin", seed=42, epoch=1) == [c, d, b, e, a]
