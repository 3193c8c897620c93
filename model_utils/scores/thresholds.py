"""Thresholds of a multi-label classifier that maximise F1 on held-out data.

    thresholds = search_thresholds(probabilities, gold)                                 # one per class
    thresholds = search_thresholds(probabilities, gold, how="global", average="micro")  # the same for all
    predicted = probabilities >= np.array(thresholds)

Between two neighbouring probabilities F1 does not change, so one threshold in each gap is all there is to try
(Lipton et al. 2014, https://arxiv.org/abs/1402.1892). Search on other data than you report: with few positives the
best threshold of a class is mostly chance, that of all classes together less so.
N records, C classes.

Copy: alone; needs numpy.
"""

from typing import Any

import numpy as np

TIE = 1e-9  # far above what rounding does to a sum of F1s, far below what one record does


def search_thresholds(probabilities: Any, gold: Any, how: str = "per_class", average: str = "micro") -> list[float]:
    """
    Args:
        probabilities: (N, C), 0 to 1; gold: (N, C), true where the record has the class.
        how: "per_class", each with the highest F1 of that class (and so with the highest macro F1), or "global".
        average: F1 of a global threshold, "micro" or "macro"; "per_class" has no use for it.

    Returns: C thresholds; a class is predicted where its probability >= threshold, compared in double precision.
        Tried are 0.5 and the middles between neighbouring probabilities, and between the lowest and 0. Among equally
        good ones the nearest to 0.5 is taken, and the lower of two as near. So 0.5 stays unless another is better,
        also for a class without a positive, whose F1 counts as 0. Time O(N C log(N C)).
    """
    scores, right = np.asarray(probabilities, dtype=np.float64), np.asarray(gold, dtype=bool)
    if scores.ndim != 2 or scores.shape != right.shape or scores.size == 0:
        raise ValueError(f"probabilities and gold are both (N, C), found {scores.shape} and {right.shape}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("probabilities are from 0 to 1; one is outside, or not a number")
    if how == "per_class":
        return [best_threshold(scores[:, [c]], right[:, [c]]) for c in range(scores.shape[1])]
    if how != "global" or average not in ("micro", "macro"):
        raise ValueError(f"how is per_class or global, average micro or macro; found {how!r} and {average!r}")
    if average == "micro":  # the F1 of all decisions as one class
        return [best_threshold(scores.reshape(-1, 1), right.reshape(-1, 1))] * scores.shape[1]
    return [best_threshold(scores, right)] * scores.shape[1]


def best_threshold(scores: np.ndarray, right: np.ndarray) -> float:
    """One threshold for all columns of (N, C), with the highest mean of their F1."""
    # A threshold that falls lets one decision after the other in: F1 of each column after each of its own ...
    order = np.argsort(-scores, axis=0)
    falling, hits = (np.take_along_axis(table, order, axis=0) for table in (scores, right))
    predicted = np.arange(1, len(scores) + 1)[:, None]
    f1 = 2 * hits.cumsum(axis=0) / (predicted + right.sum(axis=0))  # (N, C)
    # ... and their mean after each decision of any column.
    changes = np.diff(f1, axis=0, prepend=0).ravel()
    order = np.argsort(-falling, axis=None)
    falling, mean = falling.ravel()[order], changes[order].cumsum() / scores.shape[1]  # (N C,)

    lower = np.append(falling[1:], 0.0)
    gaps = np.append(falling[:-1] > lower[:-1], True)
    middle = (falling + lower) / 2
    middle = np.where(middle > lower, middle, falling)[gaps]  # neighbouring floats have nothing between them
    above_half = (falling >= 0.5).sum()
    thresholds = np.append(middle, 0.5)
    values = np.append(mean[gaps], mean[above_half - 1] if above_half else 0.0)

    tied = thresholds[values >= values.max() - TIE]
    return float(min(tied, key=lambda threshold: (abs(threshold - 0.5), threshold)))
