"""Batches that say which task of a sequence they are of, and hold the samples that they were made from.

    collate = TaskCollator(Collator(…), task="reviews", head="sentiment")
    batch = collate(features)
    batch["task"], batch["samples"][0]["key"], batch["samples"][0]["class"]

`samples` are the features as they were, which a memory of earlier tasks may keep, each with

    task     name of the task
    key      "<task> <sample id>", the same whenever this sample comes
    class    "<head> <class number>" where there is one label per record, else the name of the task

Copy: alone; needs only Python.
"""

from collections.abc import Callable, Sequence
from typing import Any


class TaskCollator:
    """Picklable as far as `collate` is."""

    def __init__(self, collate: Callable[[Sequence[dict[str, Any]]], dict[str, Any]], task: str, head: str):
        self.collate, self.task, self.head = collate, task, head

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return self.collate(features) | {"task": self.task, "samples": [self.sample(each) for each in features]}

    def sample(self, feature: dict[str, Any]) -> dict[str, Any]:
        label = feature["labels"].get(self.head)
        kind = f"{self.head} {label}" if isinstance(label, int) else self.task
        return {**feature, "task": self.task, "key": f"{self.task} {feature['sample_id']}", "class": kind}
