"""Gold labels: are there any, does evaluation ask for others than training shows, how uneven are they."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from data_process.labels import is_entity_tag
from data_process.survey import Survey

from .surveys import SCORED, Surveys
from .table import Finding, clean, percent, some

FEW = 5  # examples: hardly enough to learn a label from


def labels(job: Any, task: str, surveys: Surveys) -> Iterator[Finding]:
    """Coverage and balance."""
    counts = {part: label_counts(surveys, task, part) for part in ("train", *SCORED)}
    alike = [parts["train"].alike.get(task) for parts in surveys.values() if has_gold(parts, task)]
    if alike and all(value is not None and value == alike[0] for value in alike):
        message = f"{task}: all training records have the same gold label, {clean(str(alike[0]))[:40]}"
        yield Finding("error", "data", "labels", f"{message}: there is nothing to learn", {"task": task})
        return
    train = counts["train"]
    if not train:
        return
    yield balance(task, train, level_of_task(job, task))
    for part in SCORED:
        new = {label: number for label, number in counts[part].items() if label not in known_labels(job, task, train)}
        if new:
            share = sum(new.values()) / counts[part].total()
            level = "error" if share == 1 else "warning"
            message = f"{task}: {part} has {len(new)} labels that train lacks, {percent(share)} of its labels; they "
            message += f"can only be missed: {some([*new])}"
            yield Finding(level, "data", "new labels", message, {"task": task, "part": part, "counts": new})
    if unused := [label for label in given(job, task) if label not in train]:
        message = f"{task}: no training example of {len(unused)} of the labels: {some(unused)}"
        yield Finding("warning", "data", "labels", message, {"task": task, "labels": unused})


def has_gold(parts: Mapping[str, Survey], task: str) -> bool:
    return "train" in parts and parts["train"].with_gold[task] > 0


def label_counts(surveys: Surveys, task: str, part: str) -> Counter[str]:
    found = Counter[str]()
    for parts in surveys.values():
        if part in parts:
            found.update(parts[part].counts.get(task, {}))
    return found


def given(job: Any, task: str) -> list[str]:
    """The labels of a task; of tags their entities."""
    names = next(entry["labels"] for entry in job.tasks if entry["name"] == task)
    begun = [name[2:] for name in names if name.startswith("B-")]
    return begun or [name for name in names if not is_entity_tag(name)]


def known_labels(job: Any, task: str, train: Counter[str]) -> set[str]:
    """Of a saved model also those that it was trained with."""
    return {*train, *(given(job, task) if job.folder is not None else ())}


def level_of_task(job: Any, task: str) -> str:
    return next(label.level for data in job.data.values() for label in data.schema.labels if label.task == task)


def balance(task: str, train: Counter[str], level: str) -> Finding:
    ordered = train.most_common()
    (most, highest), (least, lowest) = ordered[0], ordered[-1]
    rare = [label for label, number in ordered if number < FEW]
    share = highest / train.total()
    message = f"{task}: {len(train)} labels; most frequent {clean(most)} ({highest:,}, {percent(share)}), rarest "
    message += f"{clean(least)} ({lowest:,})"
    if rare:
        message += f"; fewer than {FEW} examples of {len(rare)}: {some(rare[::-1])}"
    uneven = len(train) > 1 and highest >= 20 * lowest
    if uneven and level == "sequence":
        message += "; look at macro F1, try class_weights: balanced or --balanced_sampling"
    figures = {"task": task, "labels": len(train), "most": highest, "least": lowest, "rare": rare}
    return Finding("note" if rare or uneven else "ok", "data", "labels", message, figures)
