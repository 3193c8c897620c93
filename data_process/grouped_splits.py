"""Splits of records that belong together, such as the sentences of a document or a person: no group is torn apart.

    parts = grouped_split(documents, {"eval": 0.1, "test": 0.1}, seed=42, labels=labels)

Groups are dealt out from large to small, in a random order among those of about the same size (the same power of two),
each to the part that is then least full for its share.

Copy: with splits.py; needs numpy; can use scikit-learn.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np

from .splits import all_shares, named_parts, names_of


def grouped_split(
    groups: Sequence[Hashable],
    shares: Mapping[str, float],
    seed: int,
    labels: Sequence[str | Collection[str]] | None = None,
) -> dict[str, list[int]]:
    """Parts as large as their shares, as far as the groups allow.

    Args:
        groups: the group of each record.
        shares: part name -> share of the whole; a share of 0 gives an empty part. The rest is "train".
        seed: the split is a pure function of all arguments.
        labels: one label or several labels per record; the parts then get their shares of each, too.

    Returns: part name -> sorted record numbers. Of k parts without labels, none is larger than its share s by more than
        2 s (k - 1) times the size of its smallest group, unless that is the only one: no part stays empty while there
        are groups for it.
    Raises: ValueError if there are fewer groups than parts.
    """
    return named_parts(deal_groups(groups, all_shares(shares), seed, labels), shares)


def deal_groups(
    groups: Sequence[Hashable],
    shares: Sequence[float],
    seed: int,
    labels: Sequence[str | Collection[str]] | None = None,
) -> np.ndarray:
    """The part of each record, (N,), a number of a share."""
    numbers: dict[Hashable, int] = {}
    group_of = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
    kinds: dict[str | None, int] = {None: 0}  # all records, and those of each label
    contents: list[Counter[int]] = [Counter() for _ in numbers]  # kind -> records, of each group
    for record, group in enumerate(group_of.tolist()):
        names = names_of(labels[record]) if labels is not None else []
        contents[group].update(kinds.setdefault(kind, len(kinds)) for kind in [None, *names])
    totals = np.zeros(len(kinds))
    for content in contents:
        totals[list(content)] += list(content.values())

    positive = np.flatnonzero(shares)
    wanted = np.outer(np.asarray(shares)[positive], totals)  # (parts, kinds)
    filled = np.zeros_like(wanted)
    places = np.empty(len(numbers), dtype=np.int64)
    order = np.random.RandomState(seed % 2**32).permutation(len(numbers)).tolist()
    order.sort(key=lambda group: -contents[group][0].bit_length())
    for num_left, group in zip(range(len(order), 0, -1), order, strict=True):
        own, counts = list(contents[group]), np.array(list(contents[group].values()))
        fullness = ((filled[:, own] + counts) / wanted[:, own]) @ (counts / totals[own])
        empty = filled[:, 0] == 0
        if num_left <= empty.sum():
            fullness[~empty] = np.inf
        part = fullness.argmin()
        filled[part, own] += counts
        places[group] = positive[part]
    return places[group_of]
