"""report.html of a run folder.

    write_report("output/run")

The parts of the page, from top to bottom; what a run does not have is left out.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from .charts import figure, line_chart, points_chart, reliability, share_bar
from .collect import Collected, collect
from .errors import MOST_ROWS, SUSPECT_SHARE, Table, page_data, read_errors, write_csv
from .markup import Markup, element, joined, json_block, text

HERE = Path(__file__).parent
MOST_CLASSES = 20
"""of a confusion matrix; of more only those that are confused most often"""
LEVELS = ("ok", "note", "warning", "error")
UNITS = {"percent": "use, %", "disk": "free disk, GiB", "memory": "memory, GiB", "watts": "power, W",
         "celsius": "temperature, °C"}  # fmt: skip
"""part of a name in machine.json -> title of the chart"""
FIGURES = ("precision", "recall", "f1")

Section = tuple[str, str, Markup]  # id, title, content


def write_report(folder: str | Path) -> Path:
    """report.html in a run folder, and a CSV file beside each file of wrong records."""
    run = collect(folder)
    tables = []
    for path in run.errors:
        tables.append(read_errors(path, run.reports.get(path.stem.split("-")[0], {})))
        write_csv(path.with_suffix(".csv"), tables[-1])
    sections = [section for section in (results(run), *tasks(run, tables), errors(tables), time(run),
                                        machine(run), check(run), about(run)) if section]  # fmt: skip
    path = run.folder / "report.html"
    content = page(run.name, header(run), sections, json_block(page_data(tables), "data"))
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.write_text(content, encoding="utf-8", newline="\n")
        unfinished.replace(path)
    return path


def page(title: str, head: Markup, sections: Sequence[Section], data: Markup) -> str:
    """A whole document, without anything outside of it. Only its own style and script may have an effect."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; img-src data:; style-src {hashed(style)}; script-src {hashed(script)}; "
    links = [element("a", name, href=f"#{identity}") for identity, name, _ in sections]
    body = [element("section", element("h2", name), content, id=identity) for identity, name, content in sections]
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=text(title), policy=f"{policy}base-uri 'none'; form-action 'none'", style=style,
        header=head, links=joined(links), body=joined(body), data=data, script=script,
        footer=element("p", "One file; it loads nothing. Written by ", element("code", "experiments.report"), "."),
    )  # fmt: skip


def hashed(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode()}'"


# ------------------------------------------------------------------------------------------------------------ header


def header(run: Collected) -> Markup:
    kinds = [[element("b", task["name"]), f" {task['kind']}", f", {task['decoder']}" if "decoder" in task else "",
              element("br")] for task in run.tasks]  # fmt: skip
    best = run.best
    facts = [
        ("Tasks", joined(*kinds)), ("Model", model(run)), ("Data", data_line(run)), ("Ran", times(run)),
        ("On", device(run)), ("Best state", f"epoch {best['epoch']}, step {best['step']:,}" if best else ""),
    ]  # fmt: skip
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in facts if value]
    return joined(element("p", "Run report", class_="kicker"), element("h1", run.name), tiles(run),
                  element("dl", rows, class_="facts"))  # fmt: skip


def tiles(run: Collected) -> Markup:
    part = "test" if "test" in run.metrics else "eval"
    found, other = run.metrics.get(part, {}), run.metrics.get("eval", {}) if part == "test" else {}
    names = [run.info.get("monitor"), *run.info.get("main_metrics", [])]
    known = [name for name in dict.fromkeys(names) if name in found]
    known = known or [name for name in found if not name.endswith("loss")][:4]
    return element("div", [
        element("div", element("span", name, class_="name"), element("strong", score(found[name])),
                element("span", part, f", eval {score(other[name])}" if name in other else "", class_="note"),
                class_="tile")
        for name in known
    ], class_="tiles")  # fmt: skip


def score(value: float) -> str:
    """Shares in percent are read more easily, but names and files have them from 0 to 1."""
    return f"{value:.4f}" if abs(value) < 10 else figure(value)


def model(run: Collected) -> str:
    name = brief(str(run.config.get("model_name_or_path") or ""))
    count = run.info.get("parameters")
    return f"{name}, {count / 1e6:,.1f} M parameters" if name and count else name


def brief(path: str) -> str:
    """The end of a path; the configuration has all of it."""
    return path if len(parts := path.split("/")) <= 3 else f"…/{'/'.join(parts[-3:])}"


def data_line(run: Collected) -> Markup:
    parts = [[element("b", part), f" {figures['records']:,} records of {brief(figures['source'])}", element("br")]
             for part, figures in run.data.items()]  # fmt: skip
    return joined(parts)


def times(run: Collected) -> Markup | None:
    if not run.times:
        return None
    begin, end = run.times
    trained = f", training {duration(run.speed['seconds'])}" if run.speed else ""
    return joined(element("time", begin.strftime("%Y-%m-%d %H:%M"), datetime=begin.isoformat()),
                  f", {duration((end - begin).total_seconds())}{trained}")  # fmt: skip


def duration(seconds: float) -> str:
    """1 d 2:03:04, 2:03:04, 3:04 min, 4.2 s"""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    clock = f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours or whole.days else f"{rest // 60}:{rest % 60:02} min"
    return f"{whole.days} d {clock}" if whole.days else clock


def device(run: Collected) -> str:
    info = run.info
    processes = f", {info['processes']} processes" if info.get("processes", 1) > 1 else ""
    return f"{info['device']}, {info['precision']}{processes}" if "device" in info else ""


# ---------------------------------------------------------------------------------------------------- scores, curves


def results(run: Collected) -> Section | None:
    """Scores of the best state beside the curves that led there."""
    charts = [line_chart(title, series, "step", marked=mark(run)) for title, series in curve_groups(run).items()]
    drawn = [chart for chart in charts if chart]
    content = [scores(run), element("div", drawn, class_="charts") if drawn else None]
    known = [part for part in content if part]
    return ("results", "Results", element("div", known, class_="beside" if len(known) > 1 else None)) if known else None


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


def number(value: float | None, digits: int = 4) -> Markup:
    return element("td", "–" if value is None else f"{value:.{digits}f}", class_="number")


def bdi(value: str) -> Markup:
    """Text from data, whose direction does not change what stands around it."""
    return element("bdi", value)


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


# ------------------------------------------------------------------------------------------------------------- tasks


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


def share(value: float) -> Markup:
    """A number and a bar as long as it is large."""
    bar = element("svg", element("rect", width=round(40 * value, 1), height=4, class_="bar"), viewBox="0 0 40 4",
                  class_="bar", aria_hidden="true")  # fmt: skip
    return element("td", f"{value:.3f}", bar, class_="number")


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


def jump(task: str, gold: str, predicted: str | None, *children: Any, **attributes: Any) -> Markup:
    """A button that shows the records with this mistake."""
    return element("button", *children, type_="button", data_task=task, data_gold=gold, data_predicted=predicted,
                   **attributes)  # fmt: skip


# ------------------------------------------------------------------------------------------------------ wrong records


def errors(tables: Sequence[Table]) -> Section | None:
    if not tables:
        return None
    total = sum(len(table.rows) for table in tables)
    if not total:
        return "errors", "Wrong records", element("p", "None.")
    files = [[element("a", f"{table.name}.{kind}", href=quote(f"errors/{table.name}.{kind}")), " "]
             for table in tables for kind in ("csv", "jsonl")]  # fmt: skip
    shown = f" The first {MOST_ROWS:,} are here, the files have all." if total > MOST_ROWS else ""
    note = element(
        "p", "A row per record and task that was wrong. Confidence: of its surest wrong decision. Loss: of the record; "
        f"the highest {SUSPECT_SHARE:.0%} of a task are marked ", element("span", "label?", class_="suspect"),
        f", because wrong gold labels gather there.{shown} As files: ", files, class_="note",
    )  # fmt: skip
    controls = element(
        "form",
        choice("part", "Part"), choice("task", "Task"), choice("gold", "Gold"), choice("predicted", "Predicted"),
        field("search", "Text contains", type_="search", autocomplete="off"),
        field("confidence", "Confidence from", type_="number", min="0", max="1", step="0.05"),
        field("loss", "Loss from", type_="number", min="0", step="any"),
        field("shortest", "Length from", type_="number", min="0"),
        field("longest", "Length to", type_="number", min="0"),
        choice("order", "Order"),
        element("label", element("input", type_="checkbox", id="suspects"), " only probable label errors",
                class_="check"),
        element("button", "Reset", type_="button", id="clear"), id="filters",
    )  # fmt: skip
    heads = [("gold", "gold"), ("predicted", "predicted"), ("text", "text"), ("confidence", "conf."), ("loss", "loss"),
             ("length", "length")]  # fmt: skip
    row = [element("th", element("button", name, type_="button", data_order=key) if key != "text" else name,
                   scope="col", class_=f"of-{key}") for key, name in heads]  # fmt: skip
    table = element("table", element("caption", "Wrong records", class_="unseen"), element("thead", element("tr", row)),
                    element("tbody", id="rows"), id="wrong")  # fmt: skip
    place = element("label", "page ", element("input", type_="number", id="page", min="1", value="1"), " of ",
                    element("span", id="pages"))  # fmt: skip
    pages = element(
        "div", element("output", id="count", aria_live="polite"),
        element("span", turn("first", "«", "first page"), turn("back", "‹", "page before"), place,
                turn("forth", "›", "next page"), turn("last", "»", "last page")),
        class_="pages",
    )  # fmt: skip
    hint = element("noscript", element("p", "The table needs JavaScript; the files above have the same."))
    return "errors", "Wrong records", joined(note, hint, controls, pages, table)


def turn(identity: str, sign: str, label: str) -> Markup:
    return element("button", sign, type_="button", id=identity, aria_label=label)


def choice(identity: str, label: str) -> Markup:
    return element("label", label, element("select", id=identity))


def field(identity: str, label: str, **attributes: str) -> Markup:
    return element("label", label, element("input", id=identity, **attributes))


# ----------------------------------------------------------------------------------------------------- time, machine


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
