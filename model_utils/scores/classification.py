"""Where a classifier is right and wrong: figures per class, confusions, calibration, entities per type.

    report = class_report(["a", "b", "b"], ["a", "a", "b"])["classes"]["a"]          # precision 1.0, recall 0.5 ...
    worst = confusions(["a", "b", "b"], ["a", "a", "b"])["largest"][0]     # {"reference": "a", "prediction": "b" ...}
    error = calibration([0.9, 0.8, 0.6], [True, True, False])["ece"]
    class_report(*flatten(predicted_tags, gold_tags))                                  # tags of words, record by record

Everything returned goes into json.dumps as it is.

Copy: alone; needs numpy; can use scikit-learn, seqeval.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

FIGURES = ("precision", "recall", "f1", "support")
AVERAGES = ("micro", "macro", "weighted")


def class_report(
    predictions: Sequence[str], references: Sequence[str], labels: Sequence[str] | None = None
) -> dict[str, Any]:
    """
    Args:
        predictions, references: one label per item.
        labels: their order, if it matters. What is predicted, but neither listed nor a reference, gets no row, as the
            "O" that stands for words lost by truncation in a task without "O"; it still counts as an error.

    Returns: {"classes": {label: {"precision", "recall", "f1", "support"}}, "micro": the same, "macro": …,
        "weighted": …} of the classes that occur. A figure without anything to divide by is 0. Micro recall is accuracy.
    """
    from sklearn.metrics import precision_recall_fscore_support

    check_lengths(predictions, references)
    known = {*references, *(predictions if labels is None else labels)}
    classes = [label for label in occurring(predictions, references, labels) if label in known]

    def figures(average: str | None) -> Any:
        return precision_recall_fscore_support(
            references, predictions, labels=classes, average=average, zero_division=0
        )

    rows = zip(classes, zip(*figures(None), strict=True), strict=True)
    averages = {average: row(*figures(average)[:3], len(references)) for average in AVERAGES}
    return {"classes": {label: row(*values) for label, values in rows}} | averages


def confusions(
    predictions: Sequence[str], references: Sequence[str], labels: Sequence[str] | None = None
) -> dict[str, Any]:
    """
    Returns: {"labels": those that occur, "matrix": counts, a row per reference and a column per prediction,
        "largest": [{"reference", "prediction", "count"}, …] of every mistake that was made, the most frequent first}.
    """
    check_lengths(predictions, references)
    names = occurring(predictions, references, labels)
    counts = Counter(zip(references, predictions, strict=True))
    matrix = [[counts[gold, predicted] for predicted in names] for gold in names]
    mistakes = [
        {"reference": gold, "prediction": predicted, "count": count}
        for (gold, predicted), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if gold != predicted
    ]
    return {"labels": names, "matrix": matrix, "largest": mistakes}


def calibration(confidences: Sequence[float], correct: Sequence[bool], num_bins: int = 15) -> dict[str, Any]:
    """Expected calibration error over bins of equal width (Naeini et al., AAAI 2015; Guo et al., ICML 2017).

    Args:
        confidences: probability of each predicted label, 0 to 1; correct: whether it was right.
        num_bins: 15 as in Guo et al. A bin holds low < confidence <= high; 0 is in the first.

    Returns: {"ece": sum over bins of count / total * |accuracy - confidence|, "bins": the reliability table, rows
        {"low", "high", "count", "confidence", "accuracy"}, the last two means, None in an empty bin}.
    """
    sure, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    check_lengths(sure, right)
    if not ((sure >= 0) & (sure <= 1 + 1e-5)).all():  # a sum of float32 probabilities may end just above 1
        raise ValueError("confidences are probabilities from 0 to 1; one is outside, or not a number")
    edges = np.arange(num_bins + 1) / num_bins
    bins = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, num_bins - 1)
    counts, confidence, accuracy = (
        np.bincount(bins, weights=weights, minlength=num_bins) for weights in (np.ones_like(sure), sure, right)
    )
    rows = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), confidence, accuracy, strict=True)
    table = [
        {"low": low, "high": high, "count": int(count)}
        | {"confidence": float(c / count) if count else None, "accuracy": float(a / count) if count else None}
        for low, high, count, c, a in rows
    ]
    return {"ece": float(np.abs(accuracy - confidence).sum() / len(sure)), "bins": table}


def entity_report(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """As `class_report`, per entity type, from IOB2 tags of words: an entity is right if its type and both ends are.

    seqeval's strict mode: what does not begin with B- is no entity.
    """
    from seqeval.metrics.v1 import classification_report
    from seqeval.scheme import IOB2

    if not any(tag.startswith("B-") for column in flatten(predictions, references) for tag in column):
        return {"classes": {}} | {average: row(0, 0, 0, 0) for average in AVERAGES}  # seqeval returns NaN
    gold, predicted = [list(tags) for tags in references], [list(tags) for tags in predictions]
    report = classification_report(gold, predicted, scheme=IOB2, output_dict=True, zero_division=0)
    rows = {name: row(*figures.values()) for name, figures in report.items()}
    averages = {average: rows.pop(f"{average} avg") for average in AVERAGES}
    return {"classes": rows} | averages


def flatten(*columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Lists of words per record -> one list of words each. The columns must have equal records of equal lengths."""
    check_lengths(*columns)
    for number, record in enumerate(zip(*columns, strict=True), 1):
        if len(lengths := {len(words) for words in record}) > 1:
            raise ValueError(f"record {number}: one value per word, found {' and '.join(map(str, sorted(lengths)))}")
    return [[word for words in column for word in words] for column in columns]


def row(*figures: Any) -> dict[str, Any]:
    values = zip(FIGURES, figures, strict=True)
    return {name: int(value) if name == "support" else float(value) for name, value in values}


def occurring(predictions: Iterable[str], references: Iterable[str], labels: Sequence[str] | None) -> list[str]:
    """Labels that occur: first those listed, in that order, then the others by name."""
    found, listed = {*predictions, *references}, list(labels or [])
    return [label for label in listed if label in found] + sorted(found.difference(listed))


def check_lengths(*columns: Any) -> None:
    lengths = {len(column) for column in columns}
    if len(lengths) > 1 or lengths == {0}:
        found = " and ".join(map(str, sorted(lengths)))
        raise ValueError(f"one prediction per reference and at least one, found {found}")
