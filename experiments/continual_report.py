"""Tables and pictures of what continual.py has measured: which approach keeps what it learnt, and at what cost.

    python -m experiments.continual_report output/continual/jd21_5
    python -m experiments.continual_report output/continual/jd21_5 --metrics macro_f1 loss

Reads <folder>/<approach>/order-<k>/seed-<s>/results.json. The measures (ACC, BWT …) are those of task_matrix.py, by
default of each task's own metric; metrics that should fall are negated for them. Means and sample standard deviations
are over orders and seeds; runs that are not finished are named and left out. Into the folder come

    continual.md       the tables, and what was run: sizes of the data, orders
    continual.json     all measures of each approach and of each run, and the matrices of all metrics, also unfinished
    continual.csv      approach, order, seed, after (tasks learnt), task, metric, value: of finished runs, as measured
    matrix.png         scores of all tasks after each task; curves.png and tasks.png how they rise and fall;
                       trade.png score against time and memory
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import main

from .continual_runs import (
    Run,
    by_approach,
    costs,
    headlines,
    label,
    matrix,
    measures,
    metric_names,
    read_runs,
    seconds,
    values,
)
from .continual_tables import data_table, scores_are, tables, unit
from .task_matrix import learnt_curve, summary

FIELDS = ("approach", "order", "seed", "after", "task", "metric", "value")


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    """What continual.json has; "own": each task's own metric. NaN is null. Matrices are as measured, not negated."""
    names = metric_names(runs)
    wanted = {"own": None} if headlines(runs) == [None] else {}
    metrics: dict[str, str | None] = wanted | {name: name for name in names}
    approaches = {}
    for name, own in by_approach(runs, headlines(runs)[0]).items():
        every = [run for run in runs if label(run) == name]
        approaches[name] = every[0]["approach"] | {"runs": len(own), "unfinished": len(every) - len(own)}
        if own:
            found = {key: measures(own, metric) for key, metric in metrics.items()}
            approaches[name] |= costs(own, runs) | {"measures": found}
    own_keys = ("order_name", "order", "seed", "finished", "parameters", "bytes_kept")
    single = []
    for run in runs:
        entry = {"approach": label(run)} | {key: run.get(key) for key in own_keys} | {"seconds": seconds(run)}
        if run["finished"]:
            entry["measures"] = {key: summary(matrix(run, metric)) for key, metric in metrics.items()}
            entry["curves"] = {key: plain(learnt_curve(matrix(run, metric))) for key, metric in metrics.items()}
        entry["matrices"] = {name: plain(values(run, name)) for name in names}
        single.append(entry)
    return {"tasks": runs[0]["tasks"], "approaches": approaches, "runs": single}


def plain(found: np.ndarray) -> list[Any]:
    """As lists, with None for NaN."""
    lists = found.astype(object)
    lists[np.isnan(found)] = None
    return lists.tolist()


def as_csv(runs: Sequence[Run]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for run in (run for run in runs if run["finished"]):
        for row in run["rows"]:
            for task, found in row["metrics"].items():
                for metric, value in found.items():
                    writer.writerow([label(run), run["order_name"], run["seed"], row["after"], task, metric, value])
    return text.getvalue()


def write_report(folder: str | Path, metrics: Sequence[str] = ()) -> str:
    """All files; returns the tables. `metrics` have tables of their own beside the tasks' own metrics."""
    from trainer.checkpoint import write_json, write_text  # and torch with it

    runs, folder = read_runs(folder), Path(folder)
    text = tables(runs, metrics)
    write_json(folder / "continual.json", as_json(runs))
    write_text(folder / "continual.csv", as_csv(runs))
    write_text(folder / "continual.md", f"{text}\n\n## What was run\n\n{data_table(runs)}\n")
    draw(runs, folder)
    return text


def draw(runs: Sequence[Run], folder: Path) -> None:
    """The pictures, of the first headline; none if no run is finished."""
    try:
        from . import continual_pictures as pictures
    except ImportError:
        print("no pictures: pip install matplotlib", file=sys.stderr)
        return
    metric = headlines(runs)[0]
    finished = {name: own for name, own in by_approach(runs, metric).items() if own}
    if not finished:
        return
    factor = unit(runs, metric)[0]
    what = scores_are(runs, metric)
    found = {name: [factor * matrix(run, metric) for run in own] for name, own in finished.items()}
    orders = {tuple(run["order"]) for own in finished.values() for run in own}
    names = orders.pop() if len(orders) == 1 else None
    pictures.heat_maps(found, names, what, folder / "matrix.png")
    pictures.curves(found, what, folder / "curves.png")
    every = [(run["order"], run["seed"]) for own in finished.values() for run in own]
    order, seed = max(every, key=every.count)  # a run that most approaches have
    single = {name: [factor * matrix(run, metric) for run in own if (run["order"], run["seed"]) == (order, seed)]
              for name, own in finished.items()}  # fmt: skip
    pictures.task_curves(single, order, f"{what}, seed {seed}", folder / "tasks.png")
    spent = {name: costs(own, runs) for name, own in finished.items()}
    pictures.trade(found, spent, what, folder / "trade.png")


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output_dir of continual.py")
    parser.add_argument("--metrics", nargs="+", default=[], help="further ones, with tables of their own")
    given = parser.parse_args(argv)
    print(write_report(given.folder, given.metrics))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
