"""All metrics of a multi-task model from decoded predictions.

metrics = joint_metrics(model.heads, predictions, references)
# {"intent/accuracy": …, "slots/f1": …, "sentence_accuracy": …}

Copy: with early_stopping.py; needs only Python.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .early_stopping import MonitorError

Labels = Mapping[str, Sequence[Any]]


def joint_metrics(
    heads: Mapping[str, Any],
    predictions: Labels,
    references: Labels,
    own_metrics: Sequence[Callable[[Labels, Labels], Mapping[str, float]]] = (),
) -> dict[str, float]:
    """
    Args:
        heads: task -> object with `score(predictions, references) -> dict`.
        predictions: task -> one decoded, unpadded prediction per record, None for records of other tasks.
        references: task -> gold label per record, None where there is none; such records do not count.
        own_metrics: functions (predictions, references) -> dict, called with all records.

    Returns: `<task>/<metric>` of every task that has gold labels, and `sentence_accuracy`: the share of records with
        all tasks right, among those with gold for all tasks; not where a head's EXACT is False.
    """
    metrics: dict[str, float] = {}
    for task, head in heads.items():
        pairs = [(p, r) for p, r in zip(predictions[task], references[task], strict=True) if r is not None]
        if pairs:
            scores = head.score([p for p, _ in pairs], [r for _, r in pairs])
            metrics |= {f"{task}/{name}": float(value) for name, value in scores.items()}
    records = list(zip(*(zip(predictions[t], references[t], strict=True) for t in heads), strict=True))
    complete = [record for record in records if all(gold is not None for _, gold in record)]
    if complete and all(getattr(head, "EXACT", True) for head in heads.values()):
        right = sum(all(predicted == gold for predicted, gold in record) for record in complete)
        metrics["sentence_accuracy"] = right / len(complete)
    for function in own_metrics:
        metrics |= {name: float(value) for name, value in function(predictions, references).items()}
    return metrics


def loss_metrics(
    heads: Mapping[str, Any], losses: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
    """`<task>/loss`, what a head says follows from it (`score_loss(loss) -> dict`), and the weighted sum `loss`."""
    metrics: dict[str, float] = {}
    for task, loss in losses.items():
        metrics[f"{task}/loss"] = loss
        if hasattr(heads[task], "score_loss"):
            metrics |= {f"{task}/{name}": value for name, value in heads[task].score_loss(loss).items()}
    return metrics | ({"loss": sum(weights[task] * loss for task, loss in losses.items())} if losses else {})


def task_reports(
    heads: Mapping[str, Any], predictions: Labels, references: Labels, confidences: Labels
) -> dict[str, dict[str, Any]]:
    """What heads with `report(predictions, references, confidences)` say beyond their scores; by task with gold."""
    reports = {}
    for task, head in heads.items():
        columns = zip(predictions[task], references[task], confidences[task], strict=True)
        known = [column for column in columns if column[1] is not None]
        if known and hasattr(head, "report"):
            reports[task] = head.report(*map(list, zip(*known, strict=True)))
    return reports


def tune(heads: Mapping[str, Any], result: Any, references: Labels) -> None:
    """Let heads whose `tunes` is True settle how they decide from probabilities, and decide again.

    Args:
        result: Predictions with confidences; its labels are replaced.
        references: of its records.
    """
    for task, head in heads.items():
        if getattr(head, "tunes", False):
            columns = zip(result.confidences[task], references[task], strict=True)
            known = [column for column in columns if column[1] is not None]
            if known:
                head.tune(*map(list, zip(*known, strict=True)))
            result.labels[task] = [None if sure is None else head.decide(sure) for sure in result.confidences[task]]


def load_metric(name: str) -> Callable[[Labels, Labels], Mapping[str, float]]:
    """The function named as package.module:function. Raises MonitorError."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise MonitorError(f"metrics: {name}: {error}; give package.module:function") from error
