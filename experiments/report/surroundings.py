"""What the run took and what it ran on: time, machine, the check before it, data, environment, configuration."""

from collections.abc import Sequence
from typing import Any

from .charts import line_chart, share_bar
from .collect import Collected
from .markup import Markup, Section, element, joined
from .parts import bdi, duration

LEVELS = ("ok", "note", "warning", "error")
UNITS = {"percent": "use, %", "disk": "free disk, GiB", "memory": "memory, GiB", "watts": "power, W",
         "celsius": "temperature, °C"}  # fmt: skip
"""part of a name in machine.json -> title of the chart"""


def time(run: Collected) -> Section | None:
    if not run.speed:
        return None
    shares = {name.removeprefix("time/"): value for name, value in run.speed.items() if name.startswith("time/")}
    shares["other"] = max(0.0, 1 - sum(shares.values()))
    figures = [
        element("div", element("dt", name), element("dd", duration(value) if name == "seconds" else
                f"{value:.1%}" if name in ("padding", "MFU") else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"))
        for name, value in run.speed.items() if not name.startswith("time/")
    ]  # fmt: skip
    return "time", "Where the time went", joined(share_bar(shares, "share of the training's time"),
                                                 element("dl", figures, class_="facts"))  # fmt: skip


def machine(run: Collected) -> Section | None:
    """Columns of machine.json, those of one unit in one chart."""
    columns = dict(run.machine.get("columns", {}))
    minutes = [None if second is None else second / 60 for second in columns.pop("seconds", [])]
    groups: dict[str, dict[str, Any]] = {}
    for name, values in columns.items():
        known = [(x, y) for x, y in zip(minutes, values, strict=False) if x is not None and y is not None]
        title = next((title for part, title in UNITS.items() if part in name), name)
        groups.setdefault(title, {})[name] = ([x for x, _ in known], [y for _, y in known])
    charts = [line_chart(title, series, "minutes", limits=(0, 100) if "%" in title else (0, 0))
              for title, series in groups.items()]  # fmt: skip
    drawn = [chart for chart in charts if chart]
    return ("machine", "Machine", element("div", drawn, class_="charts")) if drawn else None


def check(run: Collected) -> Section | None:
    """Findings of check.json: {"level": "warning", "area": "data", "what": "lengths", "message": …}, worst first."""
    findings = sorted(run.check.get("findings", []), key=lambda finding: LEVELS.index(finding["level"]), reverse=True)
    rows = [
        element("tr", element("td", element("span", found["level"], class_=f"level {found['level']}")),
                element("th", f"{found['area']}: {found['what']}", scope="row"),
                element("td", found["message"], class_="lines"))
        for found in findings
    ]  # fmt: skip
    table = element("table", element("tbody", rows), class_="findings")
    return ("check", "Check before the run", element("div", table, class_="scroll")) if rows else None


def about(run: Collected) -> Section | None:
    folded = [data_tables(run), versions(run),
              fold("Configuration", element("pre", run.config_text)) if run.config_text else None]  # fmt: skip
    known = [part for part in folded if part]
    return ("about", "Data, environment, configuration", joined(known)) if known else None


def fold(title: str, content: Markup) -> Markup:
    return element("details", element("summary", title), content)


def data_tables(run: Collected) -> Markup | None:
    if not run.data:
        return None
    names = list(dict.fromkeys(name for figures in run.data.values() for name in figures if name != "labels"))
    rows = [element("tr", element("th", name.replace("_", " "), scope="row"),
                    [element("td", plain(figures.get(name)), class_="number") for figures in run.data.values()])
            for name in names]  # fmt: skip
    content = [grid(["", *run.data], rows)]
    tasks = dict.fromkeys(task for figures in run.data.values() for task in figures.get("labels", {}))
    for task in tasks:
        counts = {part: figures.get("labels", {}).get(task, {}) for part, figures in run.data.items()}
        labels = dict.fromkeys(label for found in counts.values() for label in found)
        rows = [element("tr", element("th", bdi(label), scope="row"),
                        [element("td", f"{found.get(label, 0):,}", class_="number") for found in counts.values()])
                for label in labels]  # fmt: skip
        content += [element("h3", f"Labels of {task}"), grid(["", *counts], rows)]
    return fold("Data", joined(content))


def grid(names: Sequence[str], rows: Sequence[Markup]) -> Markup:
    heads = [element("th", name, scope="col", class_="number") for name in names]
    return element("div", element("table", element("thead", element("tr", heads)), element("tbody", *rows)),
                   class_="scroll tall")  # fmt: skip


def versions(run: Collected) -> Markup | None:
    rows = [element("div", element("dt", name.replace("_", " ")), element("dd", plain(value)))
            for name, value in run.info.items()]  # fmt: skip
    return fold("Environment", element("dl", rows, class_="facts")) if rows else None


def plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int | float):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
