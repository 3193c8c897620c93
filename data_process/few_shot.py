"""A few examples of each label, for few-shot experiments.

    numbers = few_shot(labels, per_class=8, seed=42)      # contains those of per_class=7

Copy: with splits.py; needs numpy; can use scikit-learn.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from .splits import names_of


def few_shot(labels: Sequence[str | Collection[str]], per_class: int, seed: int) -> list[int]:
    """`per_class` records of each label, or all where there are fewer.

    Args:
        labels: one label per record, or a collection of labels. In the latter case records are added label by label,
            the rarest first, until each label has enough, so frequent ones may have more; records without are left out.
        per_class: at least 1. With the same seed, the subset of a smaller number is contained in that of a larger one.
        seed: the subset is a pure function of labels (as sets), per_class and seed.

    Returns: sorted record numbers.
    Raises: ValueError for a per_class below 1.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, found {per_class}")
    names = [names_of(each) for each in labels]
    records: dict[str, list[int]] = {}
    for record in np.random.RandomState(seed % 2**32).permutation(len(names)).tolist():
        for name in names[record]:
            records.setdefault(name, []).append(record)
    chosen: set[int] = set()
    found: Counter[str] = Counter()
    for enough in range(1, per_class + 1):
        for name in sorted(records, key=lambda name: len(records[name])):
            if found[name] < min(enough, len(records[name])):
                record = next(record for record in records[name] if record not in chosen)
                chosen.add(record)
                found.update(names[record])
    return sorted(chosen)
