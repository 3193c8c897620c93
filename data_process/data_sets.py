"""Several data sets as one: the records of a part are numbered on from one data set to the next.

    data = DataSets(news=read_data(…), reviews=read_data(…))
    data.ranges("eval")                     # {"news": range(0, 1000), "reviews": range(1000, 1500)}
    data.references("eval", ["topic", "sentiment"])([3, 1200])

One data set alone keeps its own numbers.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from .build import Data, checksum
from .levels import level_of

References = Callable[[Sequence[int]], dict[str, list[Any]]]  # sample ids -> task -> gold, None where there is none


class DataSets(dict[str, Data]):
    """Name of a data set -> its Data. Parts are "train", "eval", "test" and "predict"."""

    def having(self, part: str) -> list[str]:
        """Names of the data sets that have a part."""
        return [name for name, data in self.items() if part in data.sources]

    def ranges(self, part: str) -> dict[str, range]:
        """Sample ids of each data set that has a part; they count all rows of its source."""
        names = self.having(part)
        firsts = accumulate((len(self[name].rows(part)) for name in names), initial=0)
        return {name: range(*ends) for name, ends in zip(names, pairwise(firsts), strict=True)}

    def references(self, part: str, tasks: Iterable[str]) -> References:
        """The function sample ids -> gold labels of all `tasks`."""
        ranges, tasks = self.ranges(part), list(tasks)
        own = {name: self[name].references(self[name].rows(part)) for name in ranges}

        def references(sample_ids: Sequence[int]) -> dict[str, list[Any]]:
            found: dict[str, list[Any]] = {task: [None] * len(sample_ids) for task in tasks}
            for name, ids in ranges.items():
                places = [place for place, number in enumerate(sample_ids) if number in ids]
                for task, values in own[name]([sample_ids[place] - ids.start for place in places]).items():
                    for place, value in zip(places, values, strict=True):
                        found[task][place] = value
            return found

        return references

    def first_ids(self, part: str, most: int) -> list[int]:
        """Sample ids of the first `most` records of each data set."""
        return [ids[n] for name, ids in self.ranges(part).items() for n in self[name].numbers(part)[:most]]

    def perfect(self, references: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Predictions that could not be better; None where there is no reference."""
        levels = {label.task: level_of(label.level) for data in self.values() for label in data.schema.labels}
        return {
            task: [None if gold is None else levels[task].right(gold) for gold in found]
            for task, found in references.items()
        }

    def label_counts(self, part: str, tasks: Collection[str]) -> dict[str, tuple[Counter[str], int]]:
        """How often each label of some tasks occurs in a part, and in how many records."""
        found = {task: (Counter[str](), 0) for task in tasks}
        for name in self.having(part) if tasks else ():
            for task, counts in self[name].label_counts(part).items():
                if task in found:
                    found[task] = found[task][0] + counts, found[task][1] + len(self[name].numbers(part))
        return found

    def checksums(self, part: str) -> str:
        """What decides the records of a part, of all data sets; "" where none has it."""
        return ",".join(checksum(self[name].sources[part]) for name in self.having(part))

    def part_name(self, name: str, part: str) -> str:
        """How files call a part of a data set: "eval", or where there are several "eval-NAME"."""
        return part if len(self) == 1 else f"{part}-{name}"

    def output_name(self, name: str, part: str) -> str:
        """The same for files of predictions, which are called as the file that was read."""
        return self.part_name(name, Path(self[name].sources[part]).stem if part == "predict" else part)

    def figures(self, streamed: Collection[str] = ()) -> dict[str, Any]:
        """What is in each part, for dataset_info.json; streamed parts are not encoded for it."""
        return {self.part_name(name, part): data.figures(part, part in streamed)
                for name, data in self.items() for part in data.sources}  # fmt: skip

    def splits(self) -> dict[str, list[int]]:
        """Record numbers of the parts that are not all of their source."""
        return {self.part_name(name, part): numbers for name, data in self.items()
                for part, numbers in data.indices.items()}  # fmt: skip
