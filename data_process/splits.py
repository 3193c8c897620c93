"""Seeded, stratified splits, kept as index lists so that a split can be repeated and inspected.

    parts = stratified_split(labels, {"eval": 0.1, "test": 0.1}, seed=42)      # {"train": [...], "eval": [...], ...}
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.model_selection import train_test_split


def stratified_split(labels: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, list[int]]:
    """Cut off one part after the other, each with the label distribution of the whole.

    Args:
        labels: one label per record. Labels with a single record left, or more labels than places, are not stratified.
        shares: part name -> share of the whole; a share of 0 gives an empty part. The rest is "train".
        seed: the split is a pure function of labels, shares and seed.

    Returns: part name -> sorted record numbers; every record is in exactly one part.
    Raises: ValueError if a part, or what is left for "train", would be empty although its share is above 0.
    """
    rest = np.arange(len(labels))
    names = np.asarray(labels)
    parts: dict[str, list[int]] = {}
    for offset, (part, share) in enumerate(shares.items()):
        size = round(share * len(labels))
        if share > 0 and not 0 < size < len(rest):
            raise ValueError(f"a share of {share} of {len(labels)} records leaves {part} or train empty")
        if not size:
            parts[part] = []
            continue
        counts = Counter(names[rest].tolist())
        common = counts.most_common(1)[0][0]  # a label that occurs once cannot be on both sides: drawn with the commonest
        strata = np.array([name if counts[name] > 1 else common for name in names[rest].tolist()])
        feasible = len(set(strata.tolist())) <= min(size, len(rest) - size)
        rest, cut = train_test_split(rest, test_size=size, random_state=seed + offset, stratify=strata if feasible else None)
        parts[part] = sorted(cut.tolist())
    return {"train": sorted(rest.tolist()), **parts}
