"""Scores of the best state, and the curves that led there."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .charts import line_chart
from .collect import Collected
from .markup import Markup, Section, element
from .parts import bdi, number

FAR = 20
"""how many times the least value of a loss its greatest one is where it is drawn by factors"""


def results(run: Collected) -> Section | None:
    """Scores of the best state beside the curves that led there."""
    charts = [curves(title, series, mark(run)) for title, series in curve_groups(run).items()]
    drawn = [chart for chart in charts if chart]
    content = [scores(run), element("div", drawn, class_="charts") if drawn else None]
    known = [part for part in content if part]
    return ("results", "Results", element("div", known, class_="beside" if len(known) > 1 else None)) if known else None


def curves(title: str, series: Mapping[str, Any], marked: tuple[float, str] | None) -> Markup | None:
    """A loss that falls far is drawn by factors: its end is what matters."""
    values = [value for _, ys in series.values() for value in ys if math.isfinite(value)]
    far = title.endswith("loss") and bool(values) and min(values) > 0 and max(values) > FAR * min(values)
    return line_chart(f"{title}, logarithmic" * far or title, series, "step", marked=marked, logarithmic=far)


def scores(run: Collected) -> Markup | None:
    parts = list(run.metrics)
    names = list(dict.fromkeys(name for found in run.metrics.values() for name in found))
    if not names:
        return None
    rows = [element("tr", element("th", bdi(name), scope="row"),
                    [number(run.metrics[part].get(name)) for part in parts]) for name in names]  # fmt: skip
    heads = [element("th", part, scope="col", class_="number") for part in parts]
    table = element("table", element("thead", element("tr", element("th", "best state", scope="col"), heads)),
                    element("tbody", rows))  # fmt: skip
    return element("div", table, class_="scroll")


def mark(run: Collected) -> tuple[float, str] | None:
    return (run.best["step"], "best") if run.best and len(run.history) > 1 else None


def curve_groups(run: Collected) -> dict[str, dict[str, Any]]:
    """Title -> name -> (steps, values): losses, scores of each task, learning rates."""
    trained = [line for line in run.steps if line["kind"] == "train"]
    evaluated = [{"step": entry["step"], **entry.get("eval", {})} for entry in run.history]
    tasks = [task["name"] for task in run.tasks]
    losses = ["loss", *(f"{task}/loss" for task in tasks if len(tasks) > 1)]
    groups = {name: some(training=column(trained, name), evaluation=column(evaluated, name)) for name in losses}
    names = list(dict.fromkeys(name for entry in evaluated for name in entry if name != "step"))
    names = [name for name in names if not name.endswith("loss")]
    own = [name for name in names if "/" not in name]
    for task in tasks:
        prefix = f"{task}/"
        mine = {name.removeprefix(prefix): column(evaluated, name) for name in names if name.startswith(prefix)}
        if len(own) == 1 and len(tasks) == 1:
            mine |= {name: column(evaluated, name) for name in own}
            own = []
        groups[f"{task}, evaluation"] = mine
    groups["all tasks, evaluation"] = {name: column(evaluated, name) for name in own}
    return groups | {"learning rate": rates(trained)}


def rates(trained: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Equal ones as one curve."""
    found: dict[Any, list[str]] = {}
    for name in dict.fromkeys(name for line in trained for name in line if name.startswith("lr/")):
        xs, ys = column(trained, name)
        found.setdefault((tuple(xs), tuple(ys)), []).append(name.removeprefix("lr/"))
    return {"all weights" if len(found) == 1 else " = ".join(names): values for values, names in found.items()}


def column(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    known = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return [step for step, _ in known], [value for _, value in known]


def some(**series: Any) -> dict[str, Any]:
    return {name: points for name, points in series.items() if points[0]}
