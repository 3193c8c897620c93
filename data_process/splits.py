"""Seeded, stratified splits, kept as index lists so that a split can be repeated and inspected.

    parts = stratified_split(labels, {"eval": 0.1, "test": 0.1}, seed=42)      # {"train": [...], "eval": [...], ...}

For several labels per record there is multilabel_splits.py, for records that belong together grouped_splits.py.

Copy: alone; needs numpy, scikit-learn.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np


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
    from sklearn.model_selection import train_test_split  # a second that a job without a split does not need

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


def all_shares(shares: Mapping[str, float]) -> list[float]:
    """That of "train" comes first; ValueError unless something is left for it."""
    rest = 1 - sum(shares.values())
    if min(shares.values(), default=0) < 0 or rest < 1e-9:
        raise ValueError(f"shares must not be negative and must leave something for train, found {dict(shares)}")
    return [rest, *shares.values()]


def named_parts(places: np.ndarray, shares: Mapping[str, float]) -> dict[str, list[int]]:
    """places (N,): which of `all_shares` each record belongs to. ValueError if none belongs to a share above 0."""
    parts = {part: np.flatnonzero(places == place).tolist() for place, part in enumerate(["train", *shares])}
    empty = [part for part, share in zip(parts, all_shares(shares), strict=True) if share and not parts[part]]
    if empty:
        raise ValueError(f"shares {dict(shares)} of {len(places)} records leave {', '.join(empty)} empty")
    return parts


def names_of(labels: str | Collection[str]) -> list[str]:
    """The labels of a record, sorted: the order of a set of strings differs from process to process."""
    return [labels] if isinstance(labels, str) else sorted(set(labels))
