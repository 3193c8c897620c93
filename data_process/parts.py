"""Which records of a training file are trained on, and which are held out: shares, folds, groups, a few records.

    plan = SplitPlan(shares={"eval": 0.1}, seed=42, few_shot=8)
    parts = plan.parts(labels)                 # {"train": [...], "eval": [...]}

Copy: with few_shot.py, folds.py, grouped_splits.py, multilabel_splits.py, splits.py; needs numpy, scikit-learn.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .few_shot import few_shot
from .folds import folds, held_out
from .grouped_splits import grouped_split
from .multilabel_splits import multilabel_split
from .splits import stratified_split

Labels = Sequence[str | Collection[str]]


@dataclass(frozen=True)
class SplitPlan:
    """A pure function of the labels and groups of all records."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """part -> share that is split off"""
    seed: int = 42
    num_folds: int = 0
    """0 = none; else "eval" is one of so many folds"""
    fold: int = 0
    """which one, counted from 0"""
    few_shot: int = 0
    """records of each label that stay in "train"; 0 = all"""
    train_samples: int = 0
    """records that stay in "train"; 0 = all. A larger number contains the records of a smaller one"""

    def parts(self, labels: Labels, groups: Sequence[Hashable] | None = None) -> dict[str, list[int]]:
        """
        Args:
            labels: one label per record, or a collection of them; every part gets its share of each.
            groups: the group of each record; records of a group stay in one part.

        Returns: part -> sorted record numbers; {} if nothing is split off and nothing left out.
        Raises: ValueError if a part would be empty.
        """
        parts = self.held_out(labels, groups)
        if self.few_shot:
            train = parts.get("train", range(len(labels)))
            parts["train"] = [train[n] for n in few_shot([labels[n] for n in train], self.few_shot, self.seed)]
        train = parts.get("train", range(len(labels)))
        if 0 < self.train_samples < len(train):
            drawn = np.random.RandomState(self.seed % 2**32).permutation(len(train))[: self.train_samples]
            parts["train"] = sorted(train[n] for n in drawn.tolist())
        return parts

    def held_out(self, labels: Labels, groups: Sequence[Hashable] | None) -> dict[str, list[int]]:
        if self.num_folds:
            return held_out(folds(labels, self.num_folds, self.seed, groups), self.fold)
        if not self.shares:
            return {}
        if groups is not None:
            return grouped_split(groups, self.shares, self.seed, labels)
        single = [label for label in labels if isinstance(label, str)]
        if len(single) == len(labels):
            return stratified_split(single, self.shares, self.seed)
        return multilabel_split(labels, self.shares, self.seed)
