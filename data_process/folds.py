"""Folds for cross-validation: each record is held out exactly once.

    parts = folds(labels, num_folds=5, seed=42)
    for number in range(5):
        indices = held_out(parts, number)      # {"train": [...], "eval": [...]}

Copy: with grouped_splits.py, multilabel_splits.py, splits.py; needs numpy; can use scikit-learn.
"""

from collections.abc import Collection, Hashable, Sequence

import numpy as np

from .grouped_splits import deal_groups
from .multilabel_splits import deal_labels


def folds(
    labels: Sequence[str | Collection[str]], num_folds: int, seed: int, groups: Sequence[Hashable] | None = None
) -> list[list[int]]:
    """Folds of about the same size and the same label distribution.

    Args:
        labels: one label per record: then the sizes of the folds, and the counts of each label in them, differ by at
            most 1; or a collection of labels per record, see multilabel_splits.py.
        num_folds: at least 2.
        seed: the folds are a pure function of all arguments.
        groups: the group of each record; records of a group stay together, see grouped_splits.py.

    Returns: sorted record numbers of each fold.
    Raises: ValueError if a fold would be empty.
    """
    if num_folds < 2:
        raise ValueError(f"at least 2 folds are needed, found {num_folds}")
    shares = [1 / num_folds] * num_folds
    if groups is not None:
        places = deal_groups(groups, shares, seed, labels)
    elif all(isinstance(label, str) for label in labels):
        _, classes = np.unique(np.asarray(labels), return_inverse=True)
        random = np.random.RandomState(seed % 2**32)
        by_class = random.permutation(len(labels))[classes]  # labels one after the other, in a random order
        places = np.empty(len(labels), dtype=np.int64)
        places[np.lexsort((random.permutation(len(labels)), by_class))] = np.arange(len(labels)) % num_folds
    else:
        places = deal_labels(labels, shares, seed)
    parts = [np.flatnonzero(places == number).tolist() for number in range(num_folds)]
    if not all(parts):
        grouped = " in groups" * (groups is not None)
        raise ValueError(f"{num_folds} folds are too many for {len(labels)} records{grouped}")
    return parts


def held_out(parts: Sequence[Sequence[int]], number: int) -> dict[str, list[int]]:
    """Fold `number` for evaluation, the others for training; sorted."""
    others = (record for fold in (*parts[:number], *parts[number + 1 :]) for record in fold)
    return {"train": sorted(others), "eval": list(parts[number])}
