"""What is in each part of the data of a job, and which data sets can be compared."""

from collections.abc import Sequence
from typing import Any

from data_process.survey import Survey, survey

SAMPLE = 2000  # records of all training data that are encoded whole
SCORED = ("eval", "test")

Surveys = dict[str, dict[str, Survey]]  # name of a data set -> part -> what is in it


def take_surveys(job: Any) -> Surveys:
    return {name: survey(data, max(100, SAMPLE // len(job.data))) for name, data in job.data.items()}


def groups(job: Any) -> dict[str, list[str]]:
    """Data sets whose texts and labels can be compared, those with the same tasks and kind of inputs; by how a finding
    names them, which is "" where there are no others."""
    found: dict[Any, list[str]] = {}
    for name, data in job.data.items():
        schema = data.schema
        tasks = tuple(sorted(label.task for label in schema.labels))
        alike = (tasks, schema.text_pair_column is None, schema.choices_column is None, schema.prompt)
        found.setdefault(alike, []).append(name)
    return {f" of {group_name(names)}" if len(found) > 1 else "": names for names in found.values()}


def group_name(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} others"
