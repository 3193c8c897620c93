"""Multi-label and grouped splits, folds, few-shot subsets: counted, and beside scikit-learn where it has the same.

    python -m pytest tests/test_splits.py
"""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from data_process.few_shot import few_shot
from data_process.folds import folds, held_out
from data_process.grouped_splits import grouped_split
from data_process.multilabel_splits import multilabel_split

NAMES = ["a", "b", "c", "d"]
SHARES = {"eval": 0.1, "test": 0.2}

single = st.lists(st.sampled_from(NAMES), min_size=1, max_size=80)
several = st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=80)
seeds = st.integers(0, 2**40)
some_shares = st.fixed_dictionaries({part: st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.4]) for part in ("eval", "test")})


def assert_partition(parts: Sequence[list[int]], size: int) -> None:
    assert sorted(number for part in parts for number in part) == list(range(size))
    assert all(part == sorted(part) for part in parts)


def unlike(labels: Sequence[set[str]], parts: Sequence[list[int]]) -> float:
    """How far the share of a label in a part is from its share of the whole, relative to it; mean over both."""
    names = sorted(set().union(*labels))
    has = np.array([[name in each for name in names] for each in labels])
    whole = has.mean(axis=0)
    return float(np.mean([np.abs(has[part].mean(axis=0) / whole - 1) for part in parts]))


def documents(seed: int, num_records: int = 1200, num_groups: int = 150) -> tuple[list[int], list[str]]:
    """Groups of very different sizes and preferences."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(num_groups, num_records, p=rng.dirichlet(np.ones(num_groups)))
    preferences = rng.dirichlet(np.full(5, 0.5), num_groups)
    return groups.tolist(), [str(rng.choice(5, p=preferences[group])) for group in groups]


def topics(seed: int, num_records: int = 800) -> list[set[str]]:
    """Labels from frequent to rare, 1 with another now and then, many records without."""
    rng = np.random.default_rng(seed)
    chances = 0.5 / np.arange(1, 21)
    return [{f"topic {i}" for i in np.flatnonzero(rng.random(20) < chances)} for _ in range(num_records)]


# ------------------------------------------------------------------ multi-label


@settings(deadline=None)
@given(labels=several, shares=some_shares, seed=seeds)
def test_multilabel_partition(labels, shares, seed):
    try:
        parts = multilabel_split(labels, shares, seed)
    except ValueError as error:
        assert "empty" in str(error)
        assert len(labels) * min(share for share in shares.values() if share) < 4  # too few records
        return
    assert list(parts) == ["train", *shares]
    assert_partition(list(parts.values()), len(labels))
    assert all(bool(parts[part]) == (share > 0) for part, share in shares.items())
    assert multilabel_split([sorted(each)[:1] + sorted(each, reverse=True) for each in labels], shares, seed) == parts


@settings(deadline=None)
@given(labels=single, shares=some_shares, seed=seeds)
def test_with_one_label_each_no_count_is_1_away_from_its_share(labels, shares, seed):
    try:
        parts = multilabel_split([[label] for label in labels], shares, seed)
    except ValueError:
        return
    shares = {"train": 1 - sum(shares.values())} | shares
    for part, numbers in parts.items():
        found = Counter(labels[number] for number in numbers)
        assert all(abs(found[label] - shares[part] * count) < 1 - 1e-9 for label, count in Counter(labels).items())


def test_multilabel_parts_are_more_alike_than_any_random_ones():
    for seed in range(4):
        labels = topics(seed)
        parts = list(multilabel_split(labels, SHARES, seed).values())
        cuts = np.cumsum([len(part) for part in parts])[:-1]
        assert np.abs(cuts - [560, 640]).max() <= 4
        rng = np.random.default_rng(seed)
        by_chance = [[part.tolist() for part in np.split(rng.permutation(800), cuts)] for _ in range(50)]
        assert unlike(labels, parts) < 0.5 * min(unlike(labels, each) for each in by_chance)


def test_rare_labels_come_first():
    """Two records have the rare label; in what order others are dealt must not bring both into one part."""
    labels = [{"common"}] * 46 + [{"common", "rare"}] * 2 + [{"other", "rare too"}] * 2
    for seed in range(20):
        parts = multilabel_split(labels, {"eval": 0.5}, seed)
        for pair in ({46, 47}, {48, 49}):
            assert len(pair & set(parts["eval"])) == 1
        assert len(parts["eval"]) == 25


def test_what_is_rare_changes_while_labels_are_dealt():
    """Of b, more records have the label than of c, but after those of a fewer are left."""
    labels = [{"a", "b"}] * 2 + [{"b", "c"}] * 2 + [{"c"}]
    for seed in range(30):
        for part in multilabel_split(labels, {"eval": 0.5}, seed).values():
            assert sum("b" in labels[number] for number in part) == 2


def test_seeds_make_other_splits():
    labels, (groups, one_label_each) = topics(0), documents(0)
    splits: list[Callable[[int], Any]] = [
        lambda seed: multilabel_split(labels, SHARES, seed),
        lambda seed: grouped_split(groups, SHARES, seed),
        lambda seed: folds(one_label_each, 3, seed),
        lambda seed: few_shot(labels, 3, seed),
    ]
    for split in splits:
        assert all(split(a) != split(b) for a, b in ((0, 1), (0, 2), (0, 2**32 - 1)))


# ---------------------------------------------------------------------- groups


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=25), shares=some_shares, seed=seeds, labelled=st.booleans()
)
def test_groups_stay_together_and_sizes_are_close(sizes, shares, seed, labelled):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)).tolist()
    labels = [NAMES[i % 3] for i in range(len(groups))] if labelled else None
    whole = {"train": 1 - sum(shares.values())} | {part: share for part, share in shares.items() if share}
    if len(sizes) < len(whole):
        with pytest.raises(ValueError, match=rf"shares .* of {len(groups)} records leave .* empty"):
            grouped_split(groups, shares, seed, labels)
        return
    parts = grouped_split(groups, shares, seed, labels)
    assert list(parts) == ["train", *shares]
    assert_partition(list(parts.values()), len(groups))
    of_part = {part: {groups[number] for number in numbers} for part, numbers in parts.items()}
    assert sum(map(len, of_part.values())) == len(sizes)
    assert {part for part, found in of_part.items() if found} == set(whole)
    if not labelled:
        for part, share in whole.items():
            smallest = min(sizes[group] for group in of_part[part])
            excess = len(parts[part]) - share * len(groups)
            assert excess <= 2 * share * (len(whole) - 1) * smallest + 1e-9 or len(of_part[part]) == 1
    assert grouped_split([f"group {group}" for group in groups], shares, seed, labels) == parts


def test_a_giant_goes_where_there_is_room():
    groups = ["giant"] * 60 + [f"small {i}" for i in range(40)]
    parts = grouped_split(groups, SHARES, seed=0)
    assert {part: len(numbers) for part, numbers in parts.items()} == {"train": 70, "eval": 10, "test": 20}
    assert set(range(60)) < set(parts["train"])


def test_groups_of_all_sizes_come_into_each_part():
    """Dealing the largest ones to the largest part would leave evaluation with crumbs."""
    sizes = np.arange(1, 201)
    groups = np.repeat(np.arange(200), sizes).tolist()
    for seed in range(5):
        parts = grouped_split(groups, SHARES, seed)
        for part, share in {"train": 0.7, **SHARES}.items():
            found = np.unique(np.array(groups)[parts[part]])
            assert abs(len(parts[part]) / len(groups) - share) < 0.0002
            assert abs(sizes[found].mean() / sizes.mean() - 1) < 0.25


def test_stratified_groups_beside_scikit_learn():
    ours, theirs, without_labels = [], [], []
    for seed in range(6):
        groups, labels = documents(seed)
        sets = [{label} for label in labels]
        found = folds(labels, 5, seed, groups)
        ours.append(unlike(sets, found))
        without_labels.append(unlike(sets, list(grouped_split(groups, {"b": 0.2, "c": 0.2}, seed).values())))
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs.append(unlike(sets, [part.tolist() for _, part in splitter.split(labels, labels, groups)]))
        assert all(abs(len(part) - 240) <= 4 for part in found)
        parts = grouped_split(groups, SHARES, seed, labels)
        assert [abs(len(parts[part]) - size) <= 5 for part, size in (("eval", 120), ("test", 240))] == [True, True]
        assert unlike(sets, list(parts.values())) < 0.03
    assert np.mean(ours) < 1.3 * np.mean(theirs) < 0.02 < 0.1 < min(without_labels)


# ----------------------------------------------------------------------- folds


@settings(deadline=None)
@given(labels=single, num_folds=st.integers(2, 6), seed=seeds)
def test_folds_with_one_label_each(labels, num_folds, seed):
    if len(labels) < num_folds:
        with pytest.raises(ValueError, match=f"{num_folds} folds are too many for {len(labels)} records$"):
            folds(labels, num_folds, seed)
        return
    found = folds(labels, num_folds, seed)
    assert len(found) == num_folds
    assert_partition(found, len(labels))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    totals = Counter(labels)
    counts = {label: sorted(sum(labels[n] == label for n in part) for part in found) for label in totals}
    assert all(each[-1] - each[0] <= 1 for each in counts.values())
    if max(totals.values()) >= num_folds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of labels with fewer records than folds
            theirs = list(StratifiedKFold(num_folds, shuffle=True, random_state=0).split(labels, labels))
        assert counts == {each: sorted(sum(labels[n] == each for n in part) for _, part in theirs) for each in totals}


def test_folds_where_every_label_is_another():
    found = [folds([f"label {number}" for number in range(60)], 3, seed) for seed in range(3)]
    assert all(list(map(len, parts)) == [20, 20, 20] for parts in found)
    assert found[0] != found[1] != found[2] != found[0]


@settings(deadline=None)
@given(labels=several, num_folds=st.integers(2, 5), seed=seeds, num_groups=st.integers(0, 20))
def test_folds_of_any_kind(labels, num_folds, seed, num_groups):
    groups = [number % num_groups for number in range(len(labels))] if num_groups else None
    try:
        found = folds(labels, num_folds, seed, groups)
    except ValueError as error:
        assert len(set(groups or range(len(labels)))) < num_folds
        assert str(error).startswith(f"{num_folds} folds are too many for {len(labels)} records")
        return
    assert_partition(found, len(labels))
    assert len(found) == num_folds and all(found)
    if groups is not None:
        assert sum(len({groups[number] for number in part}) for part in found) == len(set(groups))
    for number in range(num_folds):
        indices = held_out(found, number)
        assert indices["eval"] == found[number]
        assert_partition(list(indices.values()), len(labels))


def test_multilabel_folds_are_alike():
    for seed in range(4):
        labels, rng = topics(seed), np.random.default_rng(seed)
        by_chance = [part.tolist() for part in np.split(rng.permutation(800), 5)]
        found = folds(labels, 5, seed)
        assert max(map(len, found)) - min(map(len, found)) <= 4
        assert unlike(labels, found) < 0.4 * unlike(labels, by_chance)


# -------------------------------------------------------------------- few shot


@settings(deadline=None)
@given(labels=single | several, seed=seeds, most=st.integers(1, 8))
def test_few_shot(labels, seed, most):
    sets = [{each} if isinstance(each, str) else each for each in labels]
    totals = Counter(name for each in sets for name in each)
    before: list[int] = []
    for per_class in range(1, most + 1):
        chosen = few_shot(labels, per_class, seed)
        assert chosen == sorted(set(chosen)) and set(before) <= set(chosen) <= set(range(len(labels)))
        before = chosen
        found = Counter(name for number in chosen for name in sets[number])
        needed = {name: min(per_class, total) for name, total in totals.items()}
        assert all(found[name] >= count for name, count in needed.items())
        assert len(chosen) <= sum(needed.values())
        if all(len(each) == 1 for each in sets):
            assert found == needed


def test_few_shot_of_several_labels_saves_records():
    """Those chosen for a rare label count for the frequent ones that they have, too."""
    labels = [{"frequent"}] * 50 + [{"frequent", "rare"}] * 4
    for seed in range(10):
        assert len(few_shot(labels, 3, seed)) == 3
        assert few_shot(labels, 4, seed) == [50, 51, 52, 53]


def test_few_shot_draws_every_record_equally_often():
    counts = np.zeros(12)
    for seed in range(1200):
        counts[few_shot(["a"] * 12, 3, seed)] += 1
    # 3 of 12 without replacement: the variance is 300 * 9 / 11 in place of 300
    statistic = float(((counts - 300) ** 2).sum() / 300) * 12 / 9 * 11 / 12
    assert 1.5 < statistic < 30  # chi-square with 11 degrees of freedom: 0.1 % below and above


# ---------------------------------------------------------------------- limits


@pytest.mark.parametrize("values", [(-0.1, 0.2), (1.0, 0.0), (0.5, 0.5), (0.7, 0.7)])
def test_shares_that_cannot_be(values):
    shares = dict(zip(("eval", "test"), values, strict=True))
    for split in (multilabel_split, grouped_split):
        with pytest.raises(ValueError, match="shares must not be negative and must leave something for train, found"):
            split(["a", "b", "c"] * 10, shares, 0)


def test_no_records():
    for split in (multilabel_split, grouped_split):
        with pytest.raises(ValueError, match="of 0 records leave train, eval empty"):
            split([], {"eval": 0.1}, 0)
    assert few_shot([], 1, 0) == []


def test_numbers_that_cannot_be():
    with pytest.raises(ValueError, match="at least 2 folds are needed, found 1"):
        folds(["a", "b"], 1, 0)
    with pytest.raises(ValueError, match="per_class must be at least 1, found 0"):
        few_shot(["a"], 0, 0)
    with pytest.raises(ValueError, match="3 folds are too many for 9 records in groups"):
        folds(["a"] * 9, 3, 0, groups=[0] * 5 + [1] * 4)


class Salted(str):
    """Its place in a set depends on the salt, as that of a string depends on the process."""

    salt = 0

    def __hash__(self) -> int:
        return hash((str(self), self.salt))


def test_the_order_of_sets_does_not_matter(monkeypatch):
    groups, found, orders = [number // 4 for number in range(256)], set(), set()
    for salt in range(4):
        monkeypatch.setattr(Salted, "salt", salt)
        labels = [{Salted(name) for i, name in enumerate("abcdefgh") if number >> i & 1} for number in range(256)]
        orders.add(tuple(labels[255]))
        splits = multilabel_split(labels, SHARES, 0), grouped_split(groups, SHARES, 0, labels)
        found.add(repr((splits, folds(labels, 3, 0), folds(labels, 3, 0, groups), few_shot(labels, 5, 0))))
    assert len(orders) > 1 and len(found) == 1


def test_pinned():
    """A split that is made again later must be the same: these numbers never change."""
    labels = [["a"], ["a", "b"], ["b"], [], ["c"], ["a", "c"], ["a"], ["b"], [], ["a"]]
    assert multilabel_split(labels, {"eval": 0.3}, 42)["eval"] == [2, 4, 6]
    assert grouped_split([0, 0, 1, 2, 2, 2, 3, 4, 4, 5], {"eval": 0.3}, 42)["eval"] == [6, 7, 8]
    assert folds(list("aabbbcccca"), 3, 42) == [[4, 5, 7, 9], [0, 3, 8], [1, 2, 6]]
    assert few_shot(labels, 2, 42) == [1, 4, 5, 7]
