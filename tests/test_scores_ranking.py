"""model_utils/scores/ranking.py against scipy, scikit-learn and definitions written out."""

import random

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from model_utils.scores.ranking import ndcg, pearson, recall, reciprocal_rank, score_rankings, spearman


def mean_ranks(values):
    return [sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values]


def cosine(first, second):
    """Of the deviations from the means."""
    first, second = (np.array(values) - np.mean(values) for values in (first, second))
    return (first @ second) / np.sqrt((first @ first) * (second @ second))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 5)), min_size=2, max_size=20))
def test_correlations(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert pearson(first, second) == spearman(first, second) == 0
        return
    assert pearson(first, second) == pytest.approx(cosine(first, second), abs=1e-12)
    assert spearman(first, second) == pytest.approx(cosine(mean_ranks(first), mean_ranks(second)), abs=1e-12)
    assert spearman(first, second) == float(scipy.stats.spearmanr(first, second).statistic)


@st.composite
def queries(draw):
    """(ranking of all documents, gain of each relevant one, k)"""
    documents = draw(st.permutations(list("abcdefg")))
    gains = draw(st.dictionaries(st.sampled_from("abcdefg"), st.sampled_from([1.0, 2.0, 0.5]), min_size=1))
    return documents, gains, draw(st.integers(1, 9))


@given(queries())
def test_ndcg_is_that_of_sklearn(query):
    ranking, gains, k = query
    true = [gains.get(document, 0.0) for document in ranking]
    expected = sklearn.metrics.ndcg_score([true], [list(range(len(ranking), 0, -1))], k=k)
    assert ndcg(ranking, gains, k) == pytest.approx(expected, rel=1e-12)
    ones = sklearn.metrics.ndcg_score([[float(gain > 0) for gain in true]], [list(range(len(ranking), 0, -1))], k=k)
    assert ndcg(ranking, set(gains), k) == pytest.approx(ones, rel=1e-12)


@given(queries())
def test_recall_and_reciprocal_rank_are_their_definitions(query):
    ranking, gains, k = query
    first = min(ranking.index(document) + 1 for document in gains)
    assert reciprocal_rank(ranking, gains, k) == (1 / first if first <= k else 0)
    assert recall(ranking, gains, k) == len(set(ranking[:k]) & set(gains)) / len(gains)


def test_reciprocal_rank_of_one_relevant_document_is_sklearns_label_ranking_precision():
    chance = random.Random(0)
    scores = [[chance.random() for _ in range(8)] for _ in range(50)]
    relevant = [chance.randrange(8) for _ in scores]
    rankings = [sorted(range(8), key=lambda i: -row[i]) for row in scores]
    expected = sklearn.metrics.label_ranking_average_precision_score(np.eye(8)[relevant], scores)
    found = score_rankings(rankings, [{document} for document in relevant], k=8)
    assert found["mrr@8"] == pytest.approx(expected) and found["recall@8"] == 1


def test_by_hand():
    rankings = [["b", "a", "c"], ["x", "y"], ["p", "q", "r"]]
    relevant = [{"a"}, {"z", "x"}, {"r": 3.0}]
    second = 1 / (1 + 1 / np.log2(3))  # one of two, in front
    assert score_rankings(rankings, relevant, k=2) == pytest.approx(
        {"mrr@2": (1 / 2 + 1 + 0) / 3, "recall@2": (1 + 1 / 2 + 0) / 3, "ndcg@2": (1 / np.log2(3) + second + 0) / 3}
    )
    assert spearman([0.1, 0.8, 0.5], [0, 5, 3]) == pytest.approx(1) and pearson([1, 2], [5, 3]) == pytest.approx(-1)
    assert spearman([1], [1]) == pearson([], []) == 0, "no correlation of fewer than two pairs"
    assert {type(value) for value in score_rankings(rankings, relevant).values()} == {float}


@pytest.mark.parametrize(("function", "arguments", "message"), [
    (spearman, ([1], []), "found 1 predictions for 0"), (pearson, ([1, 2], [1]), "found 2 predictions for 1"),
    (spearman, ([1, float("nan")], [1, 2]), "finite"), (pearson, ([1, 2], [1, float("inf")]), "finite"),
    (score_rankings, ([["a"]], []), "found 1 for 0 queries"), (score_rankings, ([], []), "at least one"),
    (score_rankings, ([["a"], ["a", "a"]], [{"a"}, {"a"}]), "query 2: an id is ranked twice"),
    (score_rankings, ([["a"]], [set()]), "query 1: needs a relevant id"),
    (score_rankings, ([["a"]], [{"a": 0.0}]), "gains above 0"),
])  # fmt: skip
def test_what_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
