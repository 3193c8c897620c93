"""Splits of records that have any number of labels each: iterative stratification.

    parts = multilabel_split([{"rock", "live"}, {"jazz"}, set(), ...], {"eval": 0.1, "test": 0.1}, seed=42)

Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011. The label with the fewest
records left is dealt out first, each record to the part that lacks that label most: what is rare cannot be made good
later.

Copy: with splits.py; needs numpy; can use scikit-learn.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from .splits import all_shares, named_parts, names_of


def multilabel_split(labels: Sequence[Collection[str]], shares: Mapping[str, float], seed: int) -> dict[str, list[int]]:
    """Each part has its share of each label as far as the combinations of labels allow.

    Args:
        labels: the labels of each record, none included. With one label each, the number of records of each label in
            each part is less than 1 away from its share.
        shares: part name -> share of the whole; a share of 0 gives an empty part. The rest is "train".
        seed: the split is a pure function of labels (as sets), shares and seed.

    Returns: part name -> sorted record numbers; every record is in exactly one part. The sizes follow from the labels
        and may be a few records away from the shares.
    Raises: ValueError if a part would be empty although its share is above 0.
    """
    return named_parts(deal_labels(labels, all_shares(shares), seed), shares)


def deal_labels(labels: Sequence[str | Collection[str]], shares: Sequence[float], seed: int) -> np.ndarray:
    """The part of each record, (N,), a number of a share."""
    random = np.random.RandomState(seed % 2**32)  # unlike a Generator's, its numbers never change
    names = [names_of(each) for each in labels]
    ties = random.random_sample((len(names), len(shares))).tolist()
    places = np.full(len(names), -1)
    records: dict[str, list[int]] = {}
    shuffled = random.permutation(len(names)).tolist()
    for record in shuffled:
        for name in names[record]:
            records.setdefault(name, []).append(record)
    left = {name: len(records[name]) for name in records}
    lacking = {name: [share * count for share in shares] for name, count in left.items()}  # records of each part
    room = [share * len(names) for share in shares]

    def place(record: int, lack: list[float]) -> None:
        part = max(range(len(shares)), key=lambda part: (lack[part], room[part], ties[record][part]))
        places[record] = part
        room[part] -= 1
        for name in names[record]:
            lacking[name][part] -= 1
            left[name] -= 1

    while left:
        rarest = min(left, key=lambda name: left[name])
        for record in records[rarest]:
            if places[record] < 0:
                place(record, lacking[rarest])
        del left[rarest]
    for record in shuffled:
        if places[record] < 0:
            place(record, room)
    return places
