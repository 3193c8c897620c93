"""Whole numbers in given proportions: largest remainders (Hamilton's method), at least 1 each.

    quotas([1000, 100, 1], total=100)     # [90, 9, 1]

Copy: alone; needs numpy.
"""

from collections.abc import Sequence

import numpy as np


def quotas(weights: Sequence[float] | np.ndarray, total: int) -> np.ndarray:
    """Who would get less than 1 gets 1; the others share what is left. Among equal remainders the first one gets more.

    Args:
        weights: positive, (N,).
        total: what is shared out, at least N.

    Returns: int64 (N,), whose sum is the total.
    Raises: ValueError if the total is too small.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if total < len(weights):
        raise ValueError(f"{total} cannot be shared among {len(weights)} so that each gets at least 1")
    small = np.zeros(len(weights), dtype=bool)
    while True:
        exact = np.where(small, 1.0, weights * ((total - small.sum()) / weights[~small].sum()))
        less = exact < 1 - 1e-9  # not what rounding alone makes less than 1
        if not less.any():
            break
        small |= less
    found = np.floor(exact).astype(np.int64)
    most = np.argsort(found - exact, kind="stable")[: total - found.sum()]
    found[most] += 1
    return found
