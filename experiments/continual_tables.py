"""Tables of continual learning: approaches and their measures and costs, languages, and what was run.

    print(tables(read_runs("output/continual/jd21_5"), metrics=["macro_f1"]))
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from config import ConfigError

from .continual_runs import (
    Run,
    Stats,
    by_approach,
    costs,
    falls,
    headlines,
    label,
    matrix,
    measures,
    metric_names,
    stats,
)
from .plan_gpus import markdown
from .task_matrix import counted, final_scores, mean

COLUMNS = ("ACC", "BWT", "FWT", "forgetting", "LA")
LEGEND = """ACC: mean score of the tasks at the end. BWT: its difference to that right after each was learnt. FWT: of
tasks not yet learnt, difference to the model before the first task. Forgetting: how far below the best since it was
learnt. LA: mean right after learning. Formulas and sources: experiments/task_matrix.py."""


def unit(runs: Sequence[Run], metric: str | None = None) -> tuple[float, int]:
    """Factor and decimals: percent, but what should fall as it is (negated)."""
    return (1, 3) if any(falls(task, metric) for task in runs[0]["tasks"].values()) else (100, 1)


def cell(found: Stats | None, factor: float, decimals: int, sign: str = "") -> str:
    if not found or found["mean"] is None:
        return "–"
    text = f"{factor * found['mean']:{sign}.{decimals}f}"
    return text if found["std"] is None else f"{text} ± {factor * found['std']:.{decimals}f}"


def table(runs: Sequence[Run], metric: str | None = None) -> str:
    """A row per approach, mean ± sample standard deviation, the highest ACC first; below what is to be known of it."""
    rows = [["", *COLUMNS, "time", "M parameters", "M trained", "kept MB", "runs"]]
    for name, own in by_approach(runs, metric).items():
        found = measures(own, metric)
        scores = [cell(found.get(column), *unit(runs, metric), "+" * (column in ("BWT", "FWT"))) for column in COLUMNS]
        spent = cost_cells(costs(own, runs)) if own else ["–"] * 4
        missing = sum(label(run) == name for run in runs) - len(own)
        rows.append([name, *scores, *spent, f"{len(own)}{f' (+ {missing} unfinished)' * (missing > 0)}"])
    return "\n\n".join([markdown(rows), *notes(runs, metric)])


def cost_cells(found: Mapping[str, Any]) -> list[str]:
    relative, sizes = found["relative_time"], found["parameters"]
    time = cell(found["seconds"], 1, 1) + " s" if relative is None else f"{relative:.2f} x"
    return [time, f"{sizes['model'] / 1e6:.2f}", f"{sizes['trained'] / 1e6:.2f}", f"{found['bytes_kept'] / 1e6:.2f}"]


def notes(runs: Sequence[Run], metric: str | None = None) -> list[str]:
    """What the scores are, and which runs do not count."""
    times = "Time: of training, as a multiple of sequential with the same order and seed (median), else in seconds."
    found = [f"Scores: {scores_are(runs, metric)}. {times}"]
    if single := [name for name, own in by_approach(runs).items() if len(own) == 1]:
        found.append(f"One run only, so no spread is known: {', '.join(single)}.")
    if missing := [run for run in runs if not run["finished"]]:
        found.append("Unfinished, left out: " + "; ".join(map(stopped, missing)) + ".")
    return found


def scores_are(runs: Sequence[Run], metric: str | None = None) -> str:
    tasks = runs[0]["tasks"]
    names = [metric] if metric else sorted({task["metric"] for task in tasks.values()})
    having = [task for task in tasks if metric is None or any(
        metric in row["metrics"].get(task, {}) for run in runs for row in run["rows"])]  # fmt: skip
    what = ", ".join(names) + " (each task's own)" * (len(names) > 1)
    what += f" of {', '.join(having)}" * (len(having) < len(tasks))
    return what + (" in percent" if unit(runs, metric)[0] == 100 else ", negated where lower is better")


def stopped(run: Run) -> str:
    done = max((row["after"] for row in run["rows"]), default=0)
    return f"{label(run)}, order {run['order_name']}, seed {run['seed']} ({done} of {len(run['order'])} tasks learnt)"


def language_table(runs: Sequence[Run], metric: str | None = None) -> str:
    """ACC of the tasks of each language; empty if there is only one."""
    tasks = runs[0]["tasks"]
    languages = sorted({task["language"] or "unknown" for task in tasks.values()})
    if len(languages) < 2:
        return ""
    rows = [["ACC", *languages]]
    for name, own in by_approach(runs, metric).items():
        cells = [cell(stats([language_accuracy(run, language, metric) for run in own]), *unit(runs, metric))
                 for language in languages]  # fmt: skip
        rows.append([name, *cells])
    return markdown(rows)


def language_accuracy(run: Run, language: str, metric: str | None) -> float | None:
    R = matrix(run, metric)
    wanted = [(run["tasks"][task]["language"] or "unknown") == language for task in run["order"]]
    found = mean(final_scores(R)[counted(R) & wanted])
    return None if math.isnan(found) else found


def data_table(runs: Sequence[Run]) -> str:
    """The tasks with their sizes, and the orders with their seeds."""
    parts = ("train", "eval", "test")
    rows = [["task", "head", "kind", "metric", "language", *parts]]
    for name, task in runs[0]["tasks"].items():
        sizes = [f"{task['records'].get(part, 0):,}" for part in parts]
        rows.append([name, task["head"], task["kind"], task["metric"], task["language"] or "–", *sizes])
    seeds: dict[tuple[str, ...], set[int]] = {}
    for run in runs:
        seeds.setdefault((run["order_name"], *run["order"]), set()).add(run["seed"])
    orders = [f"- {name}: {', '.join(order)}; seeds {', '.join(map(str, sorted(own)))}"
              for (name, *order), own in sorted(seeds.items())]  # fmt: skip
    return "\n".join([markdown(rows), "", "Orders:", "", *orders])


def tables(runs: Sequence[Run], metrics: Sequence[str] = ()) -> str:
    """One of each headline, and of each of these metrics. Raises ConfigError if there is no such metric."""
    if unknown := sorted(set(metrics) - set(metric_names(runs))):
        raise ConfigError(f"metrics: unknown metric {unknown[0]!r}; there are {', '.join(metric_names(runs))}")
    parts = []
    for metric in dict.fromkeys([*headlines(runs), *metrics]):
        parts += [f"## {metric}"] * (metric is not None) + [table(runs, metric), language_table(runs, metric)]
    return "\n\n".join(filter(None, [*parts, LEGEND]))
