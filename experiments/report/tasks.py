"""A section for each task: its classes, calibration, most frequent mistakes and confusions."""

from collections.abc import Mapping, Sequence
from typing import Any

from .charts import points_chart, reliability
from .collect import Collected
from .errors import Table
from .markup import Markup, Section, element, joined
from .parts import bdi, number

MOST_CLASSES = 20
"""of a confusion matrix; of more only those that are confused most often"""
FIGURES = ("precision", "recall", "f1")


def tasks(run: Collected, tables: Sequence[Table]) -> list[Section]:
    part = "test" if "test" in run.reports else "eval"
    reports = run.reports.get(part, {})
    found = []
    for count, task in enumerate(run.tasks):
        name, report = task["name"], reports.get(task["name"], {})
        beside = [part for part in (calibration(report), numbers(name, tables), largest(name, report)) if part]
        content = [*classes(name, report, run), *[element("div", beside)] * bool(beside), *confusions(name, report)]
        if content:
            note = element("p", f"{task['kind']}, {part}", class_="note")
            found.append((f"task-{count}", name, joined(note, element("div", content, class_="split"))))
    return found


def classes(task: str, report: Mapping[str, Any], run: Collected) -> list[Markup]:
    if not report.get("classes"):
        return []
    counted = trained_labels(task, run)
    thresholds = any("threshold" in figures for figures in report["classes"].values())
    names = ["class", *["training"] * bool(counted), *FIGURES, "support", *["threshold"] * thresholds]
    heads = [element("th", element("button", name, type_="button"), scope="col", class_="number" if place else None)
             for place, name in enumerate(names)]  # fmt: skip
    rows = []
    for label, figures in report["classes"].items():
        missed = figures["recall"] < 1
        name = jump(task, label, None, bdi(label), title="show those that were missed") if missed else bdi(label)
        cells = [element("th", name, scope="row")]
        if counted:
            cells.append(element("td", f"{counted.get(label, 0):,}", class_="number"))
        cells += [share(figures[name]) for name in FIGURES]
        cells.append(element("td", f"{figures['support']:,}", class_="number"))
        if thresholds:
            cells.append(number(figures["threshold"], 2))
        rows.append(element("tr", cells))
    averages = [
        element("tr", element("th", f"{average} average", scope="row"), [element("td")] * bool(counted),
                [share(report[average][name]) for name in FIGURES],
                element("td", f"{report[average]['support']:,}", class_="number"), [element("td")] * thresholds)
        for average in ("micro", "macro", "weighted") if average in report
    ]  # fmt: skip
    kind = "type of entity" if "confusions" in report and not set(report["classes"]) & set(
        report["confusions"]["labels"]) else "class"  # fmt: skip
    table = element("table", element("thead", element("tr", heads)), element("tbody", rows),
                    element("tfoot", averages), class_="sortable")  # fmt: skip
    return [element("div", element("h3", f"By {kind}"), element("div", table, class_="scroll tall"), class_="wide")]


def trained_labels(task: str, run: Collected) -> dict[str, int]:
    """Label -> how often it is in the training data; entities by their first word's tag."""
    found: dict[str, int] = {}
    for part, figures in run.data.items():
        if part.split("-")[0] == "train":
            for label, count in figures.get("labels", {}).get(task, {}).items():
                for name in {label, label.removeprefix("B-")}:
                    found[name] = found.get(name, 0) + count
    return found


def calibration(report: Mapping[str, Any]) -> Markup | None:
    found = report.get("calibration")
    if not found:
        return None
    total = sum(row["count"] for row in found["bins"])
    mean = {name: sum(row["count"] * row[name] for row in found["bins"] if row["count"]) / max(total, 1)
            for name in ("confidence", "accuracy")}  # fmt: skip
    excess = mean["confidence"] - mean["accuracy"]
    so = "too sure" if excess > 0.01 else "less sure than it is right" if excess < -0.01 else "as sure as it is right"
    said = element("p", "ECE ", element("b", f"{found['ece']:.4f}"), f" over {total:,} decisions: mean confidence "
                   f"{mean['confidence']:.3f}, accuracy {mean['accuracy']:.3f}; {so}.", class_="note")  # fmt: skip
    return joined(element("h3", "Calibration"), reliability(found), said)


def numbers(task: str, tables: Sequence[Table]) -> Markup | None:
    """Gold numbers and predicted ones; files of errors have all records of such a task."""
    rows = [row for table in tables[:1] for row in table.rows if row.task == task and row.shape == "number"]
    return points_chart("predicted by gold", [(row.gold, row.predicted) for row in rows], "gold", "predicted")


def largest(task: str, report: Mapping[str, Any]) -> Markup | None:
    mistakes = report.get("confusions", {}).get("largest")
    if not mistakes:
        return None
    rows = [
        element("li", jump(task, mistake["reference"], mistake["prediction"],
                           bdi(mistake["reference"]), " → ", bdi(mistake["prediction"])),
                " ", element("b", f"{mistake['count']:,}"))
        for mistake in mistakes[:12]
    ]  # fmt: skip
    return joined(element("h3", "Most frequent mistakes"), element("ol", rows, class_="largest"))


def confusions(task: str, report: Mapping[str, Any]) -> list[Markup]:
    found = report.get("confusions")
    if not found or not found["largest"]:
        return []
    names, matrix = found["labels"], found["matrix"]
    shown = most_confused(found)
    left_out = f", the {len(shown)} of {len(names)} most often confused" if len(shown) < len(names) else ""
    heads = [element("th", element("span", bdi(names[column])), scope="col") for column in shown]
    rows = []
    for row in shown:
        total = sum(matrix[row])
        cells = [confusion(task, names[row], names[column], matrix[row][column], total) for column in shown]
        rows.append(element("tr", element("th", bdi(names[row]), scope="row"), cells))
    corner = element("td", "gold \\ predicted", class_="corner")
    table = element("table", element("thead", element("tr", corner, heads)), element("tbody", rows), class_="matrix")
    return [element("div", element("h3", "Confusions", element("small", left_out)),
                    element("div", table, class_="scroll"), class_="whole")]  # fmt: skip


def most_confused(found: Mapping[str, Any]) -> list[int]:
    """Places of the labels with the most mistakes, in their order."""
    names = found["labels"]
    if len(names) <= MOST_CLASSES:
        return list(range(len(names)))
    mistakes = dict.fromkeys(names, 0)
    for mistake in found["largest"]:
        mistakes[mistake["reference"]] += mistake["count"]
        mistakes[mistake["prediction"]] += mistake["count"]
    worst = sorted(range(len(names)), key=lambda place: -mistakes[names[place]])[:MOST_CLASSES]
    return sorted(place for place in worst if mistakes[names[place]])


def confusion(task: str, gold: str, predicted: str, count: int, total: int) -> Markup:
    """A cell, as dark as its share of the gold label."""
    if not count:
        return element("td")
    level = -(-9 * count // total)
    said = f"{gold} → {predicted}: {count:,} of {total:,}"
    if gold == predicted:
        return element("td", f"{count:,}", class_=f"right h{level}", title=said)
    return element("td", jump(task, gold, predicted, f"{count:,}", title=said), class_=f"wrong h{level}")


def share(value: float) -> Markup:
    """A number and a bar as long as it is large."""
    bar = element("svg", element("rect", width=round(40 * value, 1), height=4, class_="bar"), viewBox="0 0 40 4",
                  class_="bar", aria_hidden="true")  # fmt: skip
    return element("td", f"{value:.3f}", bar, class_="number")


def jump(task: str, gold: str, predicted: str | None, *children: Any, **attributes: Any) -> Markup:
    """A button that shows the records with this mistake."""
    return element("button", *children, type_="button", data_task=task, data_gold=gold, data_predicted=predicted,
                   **attributes)  # fmt: skip
