"""Runs of continual.py as they lie on the disk, their matrices of scores, and what an approach's runs say together.

    runs = read_runs("output/continual/jd21_5")
    for name, own in by_approach(runs).items():
        measures(own)["ACC"]["mean"], costs(own, runs)["bytes_kept"]

A run is what its results.json says:

    approach     {name, label, trains, options}
    order        names of the tasks as they were trained; order_name, seed
    tasks        name -> {head, kind, metric, lower_is_better, language, records: {train, eval, test}}
    rows         [{after: tasks learnt, task: the last of them, seconds, metrics: task -> metric -> value}]; row 0 is
                 before the first task. "together" has only the first and the last row, "apart" only a row's own task
    parameters   {model, trained, kept}; bytes_kept: what the approach keeps between tasks
    finished
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from config import ConfigError

from .task_matrix import average_accuracy, mean, summary

Run = dict[str, Any]
Stats = dict[str, float | None]  # mean, and std where there are several runs


def read_runs(folder: str | Path) -> list[Run]:
    """By approach, order and seed. Raises ConfigError if there are none, or of different tasks."""
    found: list[tuple[Path, Run]] = []
    for path in sorted(Path(folder).glob("*/order-*/seed-*/results.json")):
        try:
            found.append((path, json.loads(path.read_text(encoding="utf-8"))))
        except ValueError as error:
            raise ConfigError(f"{path}: is no JSON: {error}") from error
    if not found:
        raise ConfigError(f"{folder}: no runs here; there should be <approach>/order-<k>/seed-<s>/results.json")
    first, settled = found[0]
    for path, run in found:
        if run["tasks"] != settled["tasks"] or sorted(run["order"]) != sorted(settled["order"]):
            raise ConfigError(f"{path}: its tasks are not those of {first}; give them folders of their own")
    return sorted((run for _, run in found), key=lambda run: (label(run), run["order_name"], run["seed"]))


def label(run: Run) -> str:
    return run["approach"]["label"]


def values(run: Run, metric: str | None = None) -> np.ndarray:
    """(T + 1, T) as measured, NaN where it was not: of each task's own metric, or of `metric` where a task has it."""
    found = np.full((len(run["order"]) + 1, len(run["order"])), np.nan)
    for row in run["rows"]:
        for number, task in enumerate(run["order"]):
            value = row["metrics"].get(task, {}).get(metric or run["tasks"][task]["metric"])
            if value is not None:
                found[row["after"], number] = value
    return found


def matrix(run: Run, metric: str | None = None) -> np.ndarray:
    """The same with what should fall negated: R of task_matrix.py."""
    signs = [-1.0 if falls(run["tasks"][task], metric) else 1.0 for task in run["order"]]
    return values(run, metric) * np.array(signs)


def falls(task: Mapping[str, Any], metric: str | None = None) -> bool:
    """Whether lower is better."""
    if metric in (None, task["metric"]):
        return task["lower_is_better"]
    from model_utils.heads import head_class  # and torch with it

    return metric == "loss" or metric in head_class(task["kind"]).LOWER_IS_BETTER


def metric_names(runs: Sequence[Run]) -> list[str]:
    return sorted({name for run in runs for row in run["rows"] for found in row["metrics"].values() for name in found})


def headlines(runs: Sequence[Run]) -> list[str | None]:
    """What to report: each task's own metric (None), but each of them alone if some rise and others fall."""
    tasks = runs[0]["tasks"].values()
    if len({falls(task) for task in tasks}) == 1:
        return [None]
    return sorted({task["metric"] for task in tasks})


def by_approach(runs: Sequence[Run], metric: str | None = None) -> dict[str, list[Run]]:
    """Label -> its finished runs; the highest ACC first, those without one last."""
    found: dict[str, list[Run]] = {label(run): [] for run in runs}
    for run in runs:
        found[label(run)] += [run] * run["finished"]

    def rank(name: str) -> float:
        accuracy = mean(np.array([average_accuracy(matrix(run, metric)) for run in found[name]]))
        return math.inf if math.isnan(accuracy) else -accuracy

    return {name: found[name] for name in sorted(found, key=rank)}


def stats(found: Sequence[float | None]) -> Stats:
    """Mean and sample standard deviation; None where a run lacks the value, or where there is no spread to see."""
    known = [value for value in found if value is not None]
    if not known or len(known) < len(found):
        return {"mean": None, "std": None}
    return {"mean": statistics.mean(known), "std": statistics.stdev(known) if len(known) > 1 else None}


def measures(runs: Sequence[Run], metric: str | None = None) -> dict[str, Stats]:
    """Measure -> its statistics; a measure that a run lacks is absent."""
    found = [summary(matrix(run, metric)) for run in runs]
    names = [name for name in found[0] if all(name in own for own in found)] if found else []
    return {name: stats([own[name] for own in found]) for name in names}


def seconds(run: Run) -> float:
    return sum(row["seconds"] for row in run["rows"])


def relative_time(own: Sequence[Run], runs: Sequence[Run]) -> float | None:
    """Median over orders and seeds of the seconds as a multiple of sequential's; None if none of them has both."""
    plain = {(*run["order"], run["seed"]): seconds(run)
             for run in runs if run["approach"]["name"] == "sequential" and run["finished"]}  # fmt: skip
    ratios = [seconds(run) / base for run in own if (base := plain.get((*run["order"], run["seed"])))]
    return statistics.median(ratios) if ratios else None


def costs(own: Sequence[Run], runs: Sequence[Run]) -> dict[str, Any]:
    """Of an approach's finished runs: parameters and bytes are the most of any run."""
    return {
        "seconds": stats([seconds(run) for run in own]),
        "relative_time": relative_time(own, runs),
        "parameters": {name: max(run["parameters"][name] for run in own) for name in ("model", "trained", "kept")},
        "bytes_kept": max(run["bytes_kept"] for run in own),
    }
