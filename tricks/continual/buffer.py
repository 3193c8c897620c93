"""A memory of samples of earlier tasks, of fixed size: a uniform random choice of all that it was ever offered.

Vitter: Random Sampling with a Reservoir, ACM TOMS 1985, https://doi.org/10.1145/3147.3165, in the form with random
priorities of Efraimidis, Spirakis: Weighted random sampling with a reservoir, IPL 2006,
https://doi.org/10.1016/j.ipl.2005.11.003. Every sample has a random priority, a hash of the seed and its key; the
`size` smallest stay. class_balanced: classes share the places as in Prabhu, Torr, Dokania: GDumb, ECCV 2020,
https://doi.org/10.1007/978-3-030-58536-5_31: what is too much goes out of the largest class; of each class the smallest
priorities stay.

    buffer = Buffer(size=500, seed=1)
    buffer.add(batch["samples"])                    # dicts with "key", "task", "class" and whatever they are made of
    samples = buffer.draw(32, but="reviews")        # of tasks other than this

Exact where copies usually are not: which samples stay depends on nothing but the set of those that were offered, not on
their order, nor on how often each came, as it does in every epoch but the first. That holds with classes, too: their
quotas only fall, so that no sample is missed that went out before; where places cannot be shared equally, the odd ones
go to the classes whose names have the smallest hashes. A draw depends on seed, number of draws and content alone;
`state_dict` resumes it bit for bit.
Cost: a hash per sample offered; a list of all entries per draw. A sample is copied when it stays, not before.

Copy: alone; needs torch.
"""

import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain, repeat
from typing import Any

import torch

Entry = tuple[bytes, str]  # priority and key of a sample


class Buffer:
    """Holds at most `size` samples."""

    def __init__(self, size: int, class_balanced: bool = False, seed: int = 0):
        """
        Args:
            size: in samples.
            class_balanced: all classes have equally many places; what one cannot fill goes to the others.
            seed: of what stays, and of draws.

        Raises: ValueError for a size below 1.
        """
        if size < 1:
            raise ValueError(f"Buffer: size must be at least 1, found {size}")
        self.size, self.class_balanced, self.seed = size, class_balanced, seed
        self.draws = 0
        self.samples: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, list[Entry]] = {}  # in the order of priorities
        self.groups: dict[str, list[Entry]] = {}  # too, by class, or all in one
        self.ranks: dict[str, bytes] = {}  # of groups that are equally large the one with the highest loses a place
        self.limits: dict[str, Entry] = {}  # of each group the smallest that went out

    def add(self, samples: Sequence[Mapping[str, Any]], extras: Iterable[Any] | None = None) -> None:
        """Offer samples; one whose key is there stays as it is.

        Args:
            samples: with "key", the same whenever this sample comes, "task" and "class", which are texts.
            extras: one thing for each, kept as its "extra"; None: nothing.
        """
        pairs = zip(samples, repeat(None, len(samples)) if extras is None else extras, strict=True)
        new = [sample["key"] for sample, extra in pairs if self.enter(sample, extra)]
        for key in new:
            if key in self.samples:
                self.samples[key] = copied(self.samples[key])

    def enter(self, sample: Mapping[str, Any], extra: Any) -> bool:
        """Take a sample in, and another one, or this, out; False if it is there or cannot stay."""
        key, task, group = sample["key"], sample["task"], sample["class"] if self.class_balanced else ""
        entry = (self.priority(key), key)
        if key in self.samples or (group in self.limits and entry >= self.limits[group]):
            return False
        if group not in self.groups:
            self.groups[group], self.ranks[group] = [], self.priority(group)
        insort(self.groups[group], entry)
        insort(self.tasks.setdefault(task, []), entry)
        self.samples[key] = {**sample, "extra": extra}
        if len(self.samples) > self.size:
            self.drop_one()
        return True

    def drop_one(self) -> None:
        group = max(self.groups, key=lambda name: (len(self.groups[name]), self.ranks[name]))
        entry = self.limits[group] = self.groups[group].pop()
        of_task = self.tasks[self.samples.pop(entry[1])["task"]]
        del of_task[bisect_left(of_task, entry)]

    def priority(self, text: str) -> bytes:
        return blake2b(f"{self.seed} {text}".encode(), digest_size=8).digest()

    def draw(self, number: int, but: str | None = None) -> list[dict[str, Any]]:
        """`number` different samples, or all where there are fewer; but: of other tasks than this one."""
        entries = self.entries(but)
        generator = random.Random(f"{self.seed} {self.draws}")
        self.draws += 1
        return [given(self.samples[key]) for _, key in generator.sample(entries, min(number, len(entries)))]

    def entries(self, but: str | None = None) -> list[Entry]:
        """In an order that follows from the content."""
        return list(chain.from_iterable(self.tasks[task] for task in sorted(self.tasks) if task != but))

    def __len__(self) -> int:
        return len(self.samples)

    def state_dict(self) -> dict[str, Any]:
        return {"draws": self.draws, "samples": [self.samples[key] for _, key in self.entries()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of a buffer with the same options."""
        self.samples, self.tasks, self.groups, self.ranks, self.limits = {}, {}, {}, {}, {}
        for sample in state["samples"]:
            self.enter(sample, sample["extra"])
        self.draws = state["draws"]


def copied(value: Any) -> Any:
    """What is kept: a copy that needs neither a file nor a graph; arrays are tensors, which a checkpoint can hold."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if hasattr(value, "__array__"):
        return torch.tensor(value)
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    return [copied(part) for part in value] if isinstance(value, list | tuple) else value


def given(value: Any) -> Any:
    """What was kept, with NumPy arrays again, as collators have them; an "extra" stays what it is."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {name: part if name == "extra" else given(part) for name, part in value.items()}
    return [given(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    offered = [{"key": f"{task} {n}", "task": task, "class": task, "x": n} for task in "ab" for n in range(1000)]
    one, other = Buffer(100, seed=1), Buffer(100, seed=1)
    one.add(offered)
    other.add([*offered[::-1], *offered])
    assert one.draw(50, but="a") == other.draw(50, but="a") and len(one) == 100
    assert 30 < sum(sample["task"] == "a" for sample in one.draw(100)) < 70
    balanced = Buffer(100, class_balanced=True)
    balanced.add(offered[:10] + offered[1000:])
    assert sum(sample["task"] == "a" for sample in balanced.draw(100)) == 10
