"""Several runs side by side: what differs in their configuration, scores, time, curves.

    python -m experiments.compare_runs output/a output/b output/c [--output_dir output]

Prints tables and writes comparison.html, one file that loads nothing, into --output_dir (default: the folder that all
runs are in). Runs whose configurations differ by nothing but the seed are one column, with mean ± sample standard
deviation; the best of each row is marked.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .report.charts import line_chart
from .report.collect import Collected, collect
from .report.markup import Markup, element, joined
from .report.page import page
from .report.parts import bdi, duration
from .report.results import column

ANYWAY = ("seed", "output_dir", "cache_dir", "resume")
"""options in which runs of one column may differ"""
COSTS = ("training time", "samples/s", "memory_GiB", "parameters")
LONGEST = 40
"""characters of a value of the configuration in a table"""


@dataclass
class Group:
    """Runs that differ by their seeds."""

    name: str
    runs: list[Collected]
    config: dict[str, str]
    """name of an option -> value as JSON; of the first run"""


@dataclass
class Row:
    """Of a table: what is measured, a cell per group, and which groups are best."""

    name: str
    cells: list[str]
    best: list[bool]


def read_groups(folders: Sequence[Path]) -> list[Group]:
    """In the order of the folders."""
    base = common_folder(folders)
    found: dict[str, list[Collected]] = {}
    for folder in folders:
        run = collect(folder)
        settings = {name: value for name, value in flat(run.config).items() if name not in ANYWAY}
        found.setdefault(json.dumps(settings, sort_keys=True), []).append(run)
    return [Group(group_name(runs, base), runs, flat(runs[0].config)) for runs in found.values()]


def common_folder(folders: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([folder.resolve().parent for folder in folders]))


def group_name(runs: Sequence[Collected], base: Path) -> str:
    names = [str(run.folder.resolve().relative_to(base)) for run in runs]
    if len(runs) == 1:
        return names[0]
    return f"{os.path.commonpath(names) or names[0]} ({len(runs)} runs)"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"peft": {"r": 8}} -> {"peft.r": "8"}, lists of what has names alike; texts as they are, other values as JSON."""
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, list) and value and all(isinstance(part, dict) and "name" in part for part in value):
            value = {part["name"]: {key: own for key, own in part.items() if key != "name"} for part in value}
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found


def differences(groups: Sequence[Group]) -> list[Row]:
    """Options that are not the same in all groups, and the seeds."""
    names = dict.fromkeys(name for group in groups for name in group.config)
    rows = []
    for name in names:
        values = [group.config.get(name, "–") for group in groups]
        if name not in ANYWAY and len({*values}) > 1:
            rows.append(Row(name, [clipped(value) for value in values], [False] * len(groups)))
    seeds = [", ".join(str(run.config.get("seed", "–")) for run in group.runs) for group in groups]
    return [*rows, Row("seed", seeds, [False] * len(groups))] if len({*seeds}) > 1 else rows


def clipped(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"


def part_of(groups: Sequence[Group]) -> str:
    """"test" if all runs have its scores."""
    runs = [run for group in groups for run in group.runs]
    return "test" if all("test" in run.metrics for run in runs) else "eval"


def scores(groups: Sequence[Group]) -> list[Row]:
    part = part_of(groups)
    runs = [run for group in groups for run in group.runs]
    lower = {name for run in runs for name in run.info.get("lower_is_better", [])}
    names = dict.fromkeys(name for run in runs for name in run.metrics.get(part, {}))
    return [
        row_of(name, [[run.metrics.get(part, {}).get(name) for run in group.runs] for group in groups],
               name in lower or name.endswith("loss"))
        for name in names
    ]  # fmt: skip


def row_of(name: str, values: Sequence[Sequence[float | None]], lower_is_better: bool) -> Row:
    """The groups with the best mean are marked, if there is something to compare."""
    known = [[value for value in own if value is not None] for own in values]
    means = [statistics.mean(own) if own else None for own in known]
    found = [mean for mean in means if mean is not None]
    best = (min if lower_is_better else max)(found, default=None)
    several = len({*found}) > 1
    return Row(name, [cell(own) for own in known], [several and mean == best for mean in means])


def cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean = statistics.mean(values)
    return f"{mean:.4f} ± {statistics.stdev(values):.4f}" if len(values) > 1 else f"{mean:.4f}"


def costs(groups: Sequence[Group]) -> list[Row]:
    """Means over the runs of a group."""
    rows = []
    for name in COSTS:
        means = []
        for group in groups:
            found = [value for run in group.runs if (value := cost(run, name)) is not None]
            means.append(statistics.mean(found) if found else None)
        if any(mean is not None for mean in means):
            shown = ["–" if mean is None else duration(mean) if name == "training time" else f"{mean:,.4g}"
                     if mean < 10_000 else f"{mean:,.0f}" for mean in means]  # fmt: skip
            rows.append(Row(name.replace("_", ", "), shown, [False] * len(groups)))
    return rows


def cost(run: Collected, name: str) -> float | None:
    return run.info.get(name) if name == "parameters" else run.speed.get("seconds" if name == "training time" else name)


# ------------------------------------------------------------------------------------------------------------ output


def tables(groups: Sequence[Group]) -> dict[str, list[Row]]:
    """Title -> rows."""
    found = {"configuration": differences(groups), part_of(groups): scores(groups), "cost": costs(groups)}
    return {title: rows for title, rows in found.items() if rows}


def as_text(groups: Sequence[Group]) -> str:
    """Columns of equal width; * marks the best."""
    lines: list[list[str]] = []
    for title, rows in tables(groups).items():
        lines.append([title, *(group.name for group in groups)])
        lines += [[f"  {row.name}", *(text + " *" * best for text, best in zip(row.cells, row.best, strict=True))]
                  for row in rows]  # fmt: skip
        lines.append([])
    widths = [max(len(line[place]) for line in lines if line) for place in range(len(groups) + 1)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=False)).rstrip()
                     for line in lines).rstrip()  # fmt: skip


def as_page(groups: Sequence[Group], title: str) -> str:
    sections = [(f"table-{number}", name.capitalize(), table(rows, groups))
                for number, (name, rows) in enumerate(tables(groups).items())]  # fmt: skip
    charts = [line_chart(name, series, "step") for name, series in curves(groups).items()]
    drawn = [chart for chart in charts if chart]
    if drawn:
        sections.append(("curves", "Curves", element("div", drawn, class_="charts")))
    runs = sum(len(group.runs) for group in groups)
    head = joined(element("p", "Comparison", class_="kicker"), element("h1", title),
                  element("p", f"{runs} runs; the best of each row is marked. Runs that differ only by their seed are "
                          "one column: mean ± sample standard deviation.", class_="note"))  # fmt: skip
    return page(f"Comparison: {title}", head, sections, Markup())


def table(rows: Sequence[Row], groups: Sequence[Group]) -> Markup:
    heads = [element("th", bdi(group.name), scope="col", class_="number") for group in groups]
    mark = element("span", "best", class_="suspect")
    lines = [
        element("tr", element("th", bdi(row.name), scope="row"), [
            element("td", element("strong", text, " ", mark) if best else bdi(text), class_="number")
            for text, best in zip(row.cells, row.best, strict=True)
        ]) for row in rows
    ]  # fmt: skip
    whole = element("table", element("thead", element("tr", element("th"), heads)), element("tbody", lines))
    return element("div", whole, class_="scroll")


def curves(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """Title -> run -> (steps, values): losses, and the scores that all are chosen by or that stand for a task."""
    runs = {(group.name if len(group.runs) == 1 else f"{group.name.rsplit(' (', 1)[0]}, seed {run.config.get('seed')}"):
            run for group in groups for run in group.runs}  # fmt: skip
    names = dict.fromkeys(
        name for run in runs.values() for name in (run.info.get("monitor"), *run.info.get("main_metrics", [])) if name
    )
    trained = {name: column([line for line in run.steps if line["kind"] == "train"], "loss")
               for name, run in runs.items()}  # fmt: skip
    evaluated = {name: [{"step": entry["step"], **entry.get("eval", {})} for entry in run.history]
                 for name, run in runs.items()}  # fmt: skip
    found = {"training loss": trained}
    for metric in ("loss", *(name for name in names if name != "loss")):
        found[f"evaluation: {metric}"] = {name: column(entries, metric) for name, entries in evaluated.items()}
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="experiments.compare_runs", description="Lay runs side by side.")
    parser.add_argument("folders", nargs="+", type=Path, help="output folders of main.py, at least two")
    help_text = "where comparison.html goes; default: the folder that all runs are in"
    parser.add_argument("--output_dir", type=Path, help=help_text)
    args = parser.parse_args(argv)
    wrong = [folder for folder in args.folders if not (folder / "config.yaml").is_file()]
    if wrong or len({folder.resolve() for folder in args.folders}) < 2:
        why = f"{wrong[0]}: holds no run of main.py: no config.yaml" if wrong else "folders: give at least two"
        print(f"error: {why}", file=sys.stderr)
        return 2
    groups = read_groups(args.folders)
    output = args.output_dir or common_folder(args.folders)
    output.mkdir(parents=True, exist_ok=True)
    path = output / "comparison.html"
    path.write_text(as_page(groups, ", ".join(group.name for group in groups)), encoding="utf-8", newline="\n")
    print(as_text(groups))
    print(f"\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
