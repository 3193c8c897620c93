"""What data_process/ found in the data of a job, as findings."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from data_process.build import Data
from data_process.survey import illegal_tags

from .copies import duplicates, leaks
from .labels import labels
from .lengths import Figures, lengths
from .surveys import SCORED, Surveys, groups
from .table import Finding


def data_findings(job: Any, surveys: Surveys, figures: Figures) -> list[Finding]:
    """figures: of each part, see DataSets.figures."""
    found = [records(job, surveys), *wrong(job), *missing_parts(job, surveys)]
    for where, names in groups(job).items():
        form = job.data[names[0]].schema.form
        found += duplicates(names, surveys, where, form)
        found += leaks(names, surveys, where, form)
    for task in job.tasks:
        found += labels(job, task["name"], surveys)
    for where, names in groups(job).items():
        found += lengths(job, names, surveys, figures, where)
    return found


def records(job: Any, surveys: Surveys) -> Finding:
    counts = Counter[str]()
    for parts in surveys.values():
        counts.update({part: len(found.texts) for part, found in parts.items()})
    shown = ", ".join(f"{number:,} {part}" for part, number in counts.items())
    sets = f" in {len(surveys)} data sets" if len(surveys) > 1 else ""
    return Finding("ok", "data", "records", f"{shown}{sets}", dict(counts))


def wrong(job: Any, level: str = "warning") -> Iterator[Finding]:
    """Records that are left out, or would end the run; those with illegal tags by themselves."""
    for data in job.data.values():
        for part, scan in data.scans.items():
            if scan.skipped:
                source = data.sources[part]
                message = f"{part}: {len(scan.skipped):,} of {scan.num_records:,} records cannot be used"
                figures = {"part": part, "source": source, "wrong": len(scan.skipped), "records": scan.num_records}
                yield Finding(level, "data", "wrong records", f"{message}; the first: {scan.mistakes[0]}", figures)
                if illegal := illegal_tags(data, part):
                    scheme = data.schema.tag_scheme.upper()
                    message = f"{part}: {len(illegal):,} of them have tags that {scheme} does not allow"
                    figures = {"part": part, "source": source, "records": len(illegal), "first": illegal[0]}
                    yield Finding(level, "data", "illegal tags", f"{message}; the first: {illegal[0]}", figures)


def missing_parts(job: Any, surveys: Surveys) -> Iterator[Finding]:
    """Tasks without gold labels in some part."""
    for task in (task["name"] for task in job.tasks):
        counts = {part: gold_records(surveys, task, part) for part in ("train", *SCORED)}
        absent = [part for part, number in counts.items() if not number]
        figures = {"task": task, "records": counts}
        optional = [n for data in job.data.values() for n in data.schema.labels if n.task == task and n.optional]
        trains = counts["train"] or (optional and any(task in tasks_of(job.data[n]) for n in job.data.having("train")))
        if not trains and job.folder is None:
            message = f"{task}: no training record has a gold label; its head would stay as it was made"
            yield Finding("error", "data", "parts", message, figures)
        elif others := [part for part in absent if part != "train"]:
            means = {"eval": "best/ is then the newest state, and nothing stops early", "test": "no final score"}
            message = f"{task}: nothing to score in {' and '.join(others)}: {'; '.join(means[part] for part in others)}"
            yield Finding("note", "data", "parts", message, figures)


def tasks_of(data: Data) -> list[str]:
    return [label.task for label in data.schema.labels]


def gold_records(surveys: Surveys, task: str, part: str) -> int:
    return sum(parts[part].with_gold[task] for parts in surveys.values() if part in parts)
