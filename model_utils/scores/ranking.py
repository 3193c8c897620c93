"""Scores of numbers and of ranked lists: Pearson and Spearman correlation, MRR, recall and nDCG at k.

    spearman([0.1, 0.8, 0.5], [0, 5, 3])                                                   # 1.0
    score_rankings([["b", "a", "c"]], [{"a"}], k=2)      # {"mrr@2": 0.5, "recall@2": 1.0, "ndcg@2": 0.63}

nDCG: Järvelin and Kekäläinen 2002, with linear gains and log2(1 + rank), as trec_eval and scikit-learn.

Copy: alone; needs only Python; can use scipy.
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from math import isfinite, log2
from typing import Any


def pearson(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Linear correlation, -1 to 1; 0 where it is undefined: one side is constant, or there are fewer than two pairs."""
    from scipy.stats import pearsonr

    return correlation(pearsonr, predictions, references)


def spearman(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Correlation of the ranks, equal values sharing their mean rank; otherwise as `pearson`."""
    from scipy.stats import spearmanr

    return correlation(spearmanr, predictions, references)


def correlation(function: Callable[..., Any], predictions: Sequence[float], references: Sequence[float]) -> float:
    if len(predictions) != len(references):
        raise ValueError(f"found {len(predictions)} predictions for {len(references)} references")
    if not all(map(isfinite, (*predictions, *references))):
        raise ValueError("predictions and references are finite numbers; one is NaN or infinite")
    if len(set(predictions)) < 2 or len(set(references)) < 2:
        return 0.0
    return float(function(predictions, references).statistic)


Relevant = Collection[Hashable] | Mapping[Hashable, float]


def score_rankings(
    rankings: Sequence[Sequence[Hashable]], relevant: Sequence[Relevant], k: int = 10
) -> dict[str, float]:
    """
    Args:
        rankings: per query the ids found, the best first, each once; k of them are enough.
        relevant: per query the ids to be found, at least one; a mapping gives each a gain above 0, otherwise it is 1.

    Returns: {"mrr@k", "recall@k", "ndcg@k"}, means over the queries, 0 to 1.
    """
    if len(rankings) != len(relevant) or not rankings:
        raise ValueError(f"one ranking per query and at least one, found {len(rankings)} for {len(relevant)} queries")
    for number, (ranking, wanted) in enumerate(zip(rankings, relevant, strict=True), 1):
        if len(set(ranking)) < len(ranking):
            raise ValueError(f"query {number}: an id is ranked twice")
        if not wanted or (isinstance(wanted, Mapping) and min(wanted.values()) <= 0):
            raise ValueError(f"query {number}: needs a relevant id, and gains above 0")
    functions = {"mrr": reciprocal_rank, "recall": recall, "ndcg": ndcg}
    return {
        f"{name}@{k}": sum(map(function, rankings, relevant, [k] * len(rankings))) / len(rankings)
        for name, function in functions.items()
    }


def reciprocal_rank(ranking: Sequence[Hashable], relevant: Relevant, k: int) -> float:
    """1 / rank of the first relevant id, 0 if it is not among the first k."""
    return next((1 / rank for rank, found in enumerate(ranking[:k], 1) if found in relevant), 0.0)


def recall(ranking: Sequence[Hashable], relevant: Relevant, k: int) -> float:
    """Share of the relevant ids among the first k; below 1 for any ranking if there are more than k."""
    return sum(found in relevant for found in ranking[:k]) / len(relevant)


def ndcg(ranking: Sequence[Hashable], relevant: Relevant, k: int) -> float:
    """Discounted sum of the gains of the first k, divided by that of the best ranking there could be."""
    gains = relevant if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1.0)
    best = sorted(gains.values(), reverse=True)
    return discounted([gains.get(found, 0.0) for found in ranking[:k]]) / discounted(best[:k])


def discounted(gains: Sequence[float]) -> float:
    return sum(gain / log2(1 + rank) for rank, gain in enumerate(gains, 1))
