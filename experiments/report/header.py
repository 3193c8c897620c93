"""The head of the page: the scores that matter, and what ran on what."""

from .charts import figure
from .collect import Collected
from .markup import Markup, element, joined
from .parts import duration


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


def device(run: Collected) -> str:
    info = run.info
    processes = f", {info['processes']} processes" if info.get("processes", 1) > 1 else ""
    return f"{info['device']}, {info['precision']}{processes}" if "device" in info else ""


def brief(path: str) -> str:
    """The end of a path; the configuration has all of it."""
    return path if len(parts := path.split("/")) <= 3 else f"…/{'/'.join(parts[-3:])}"
