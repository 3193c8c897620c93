"""model_utils/scores/thresholds.py against trying every candidate."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_utils.scores.thresholds import search_thresholds


@st.composite
def problems(draw):
    """Probabilities with many ties, also exactly 0, 0.5 and 1, and gold labels, some classes without any."""
    records, classes = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    step = draw(st.sampled_from([2, 4, 10, 1000]))
    cells = st.integers(0, step).map(lambda n: n / step)
    rows = st.lists(st.lists(cells, min_size=classes, max_size=classes), min_size=records, max_size=records)
    seed = draw(st.integers(0, 999))
    gold = np.random.default_rng(seed).random((records, classes)) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    return np.array(draw(rows)), gold


def candidates(scores):
    values = [0.0, *sorted(set(scores.ravel().tolist()))]
    return {0.5, *((low + high) / 2 for low, high in pairwise(values))}


def f1(scores, gold, threshold, average):
    axis = {"micro": None, "macro": 0}[average]
    predicted = scores >= threshold
    hits, decisions = (predicted & gold).sum(axis), predicted.sum(axis) + gold.sum(axis)
    return np.mean(2 * hits / np.maximum(decisions, 1))


def brute_force(scores, gold, average):
    values = {threshold: f1(scores, gold, threshold, average) for threshold in candidates(scores)}
    highest = max(values.values())
    tied = [threshold for threshold, value in values.items() if value > highest - 1e-9]
    return min(tied, key=lambda threshold: (abs(threshold - 0.5), threshold))


@given(problems(), st.sampled_from(["micro", "macro"]))
def test_global_threshold_is_that_of_brute_force(problem, average):
    scores, gold = problem
    found = search_thresholds(scores, gold, how="global", average=average)
    assert found == [brute_force(scores, gold, average)] * scores.shape[1]
    assert {type(threshold) for threshold in found} == {float}


@given(problems())
def test_thresholds_per_class_are_those_of_brute_force(problem):
    scores, gold = problem
    columns = range(scores.shape[1])
    found = search_thresholds(scores, gold)
    assert found == [brute_force(scores[:, [c]], gold[:, [c]], "macro") for c in columns]


def test_by_hand():
    scores = np.array([[0.9, 0.2], [0.8, 0.6], [0.3, 0.7], [0.1, 0.8]])
    gold = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=bool)
    assert search_thresholds(scores, gold) == [pytest.approx(0.2), pytest.approx(0.75)]
    # in order: .9+ .8+ .8+ .7- .6- .3+ .2- .1-, four positives: F1 6/7 after .8, 2*4/(6+4) after .3, 8/12 with all
    assert search_thresholds(scores, gold, how="global") == [pytest.approx(0.75)] * 2


def test_half_stays_unless_another_is_better():
    scores = np.array([[0.9, 0.9, 0.6], [0.2, 0.8, 0.1]])
    gold = np.array([[1, 0, 1], [0, 0, 1]], dtype=bool)
    assert search_thresholds(scores, gold) == [0.5, 0.5, 0.05]  # the second class has no positive
    assert search_thresholds([[0.4], [0.4]], [[True], [True]]) == [0.2]
    assert search_thresholds([[0.0]], [[True]]) == [0.0]


def test_ties():
    # F1 is 2/3 above 0.6 (one right of two) and above 0.1 (both, of four), less between
    column = [[0.9], [0.6], [0.4], [0.4], [0.1]]
    assert search_thresholds(column, [[True], [False], [True], [False], [False]]) == [0.25]
    # F1s of the classes: 1, 4/5, 1 at 0.1 and 1, 1, 4/5 at 0.25; only their sums in floating point differ
    scores = [[0.6, 0.9, 0.9], [0.9, 0.2, 0.6], [0.5, 0.3, 0.2]]
    gold = [[True, True, True], [True, False, True], [True, True, True]]
    assert search_thresholds(scores, gold, how="global", average="macro") == [0.25] * 3


def test_neighbouring_floats_are_told_apart():
    low = 0.7
    high = np.nextafter(low, 1)
    for order in ([low, high], [np.nextafter(high, 1), np.nextafter(np.nextafter(high, 1), 1)]):
        (threshold,) = search_thresholds([[order[0]], [order[1]]], [[False], [True]])
        assert order[0] < threshold <= order[1]


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_many_records_and_classes(average):
    """100,000 different probabilities: nothing on a fine grid is better."""
    generator = np.random.default_rng(0)
    gold = generator.random((5_000, 20)) < np.linspace(0.01, 0.4, 20)
    scores = generator.beta(1 + gold, 2)
    threshold, *others = search_thresholds(scores, gold, how="global", average=average)
    assert others == [threshold] * 19
    highest = max(f1(scores, gold, other, average) for other in np.linspace(0, 1, 500))
    assert 0 < highest <= f1(scores, gold, threshold, average) + 1e-9


@pytest.mark.parametrize(("arguments", "message"), [
    (([[0.5]], [[True], [False]]), r"\(N, C\), found \(1, 1\) and \(2, 1\)"), (([0.5], [True]), r"found \(1,\)"),
    ((np.zeros((0, 2)), np.zeros((0, 2))), r"found \(0, 2\)"), (([[1.5]], [[True]]), "from 0 to 1"),
    (([[-0.1]], [[True]]), "from 0 to 1"),
    (([[float("nan")]], [[True]]), "not a number"), (([[0.5]], [[True]], "all"), "per_class or global"),
    (([[0.5]], [[True]], "global", "weighted"), "micro or macro"),
])  # fmt: skip
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        search_thresholds(*arguments)
