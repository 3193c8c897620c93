"""Seeded, stratified splits, kept as index lists so that a split can be repeated and inspected.

    parts = stratified_split(labels, {"eval": 0.1, "test": 0.1}, seed=42)      # {"train": [...], "eval": [...], ...}
"""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.model_selection import train_test_split


def stratified_split(labels: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, list[int]]:
    """Cut off one part after the other, each with the label distribution of what is there to cut from.

    Args:
        labels: one label per record. Labels with a single record left are dealt out as if they were one label; if
            there are more labels than places in a part, that part is drawn without regard to them.
        shares: part name -> share of the whole; a share of 0 gives an empty part. The rest is "train".
        seed: the split is a pure function of labels, shares and seed.

    Returns: part name -> sorted record numbers; every record is in exactly one part.
    Raises: ValueError if a part, or what is left for "train", would be empty although its share is above 0.
    """
    rest = np.arange(len(labels))
    _, classes = np.unique(np.asarray(labels), return_inverse=True)
    parts: dict[str, list[int]] = {}
    for offset, (part, share) in enumerate(shares.items()):
        size = round(share * len(labels))
        if share and not 0 < size < len(rest):
            raise ValueError(f"a share of {share} of {len(labels)} records leaves {part} or train empty")
        if not size:
            parts[part] = []
            continue
        strata = strata_of(classes[rest])
        feasible = len(np.unique(strata)) <= min(size, len(rest) - size)
        random_state = (seed + offset) % 2**32
        rest, cut = train_test_split(
            rest, test_size=size, random_state=random_state, stratify=strata if feasible else None
        )
        parts[part] = sorted(cut.tolist())
    return {"train": sorted(rest.tolist()), **parts}


def strata_of(classes: np.ndarray) -> np.ndarray:
    """The classes (N,), but a class that occurs once cannot be on both sides of a cut.

    Such classes are one stratum; a lone one goes with the commonest class.
    """
    _, strata, counts = np.unique(classes, return_inverse=True, return_counts=True)
    single = counts[strata] == 1
    return np.where(single, -1 if single.sum() > 1 else counts.argmax(), strata)
