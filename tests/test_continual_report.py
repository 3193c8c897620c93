"""experiments/: measures of continual learning against loops and by hand, and what a report makes of runs."""

import csv
import json
import math
import statistics
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import main
from config import ConfigError
from experiments import continual_report
from experiments.continual_report import as_csv, as_json, report, write_report
from experiments.continual_runs import by_approach, costs, headlines, matrix, measures, read_runs, values
from experiments.continual_tables import language_table, table, tables
from experiments.task_matrix import MEASURES, learnt_curve, summary

NAN = math.nan

# ------------------------------------------------------------------------------------------------------------ measures


def by_loops(R: np.ndarray) -> dict[str, float]:
    """The formulas of the papers as they are written there: tasks and rows are counted from 1, without any NaN."""
    T = R.shape[1]

    def a(after: int, task: int) -> float:
        return float(R[after, task - 1])

    forgotten = []
    for j in range(1, T):
        best = -math.inf
        for after in range(1, T):
            if after >= j:
                best = max(best, a(after, j))
        forgotten.append(best - a(T, j))
    curve = [sum(a(i, j) for j in range(1, i + 1)) / i for i in range(1, T + 1)]
    return {
        "ACC": sum(a(T, j) for j in range(1, T + 1)) / T,
        "BWT": sum(a(T, j) - a(j, j) for j in range(1, T)) / (T - 1),
        "FWT": sum(a(j - 1, j) - a(0, j) for j in range(2, T + 1)) / (T - 1),
        "forgetting": sum(forgotten) / (T - 1),
        "LA": sum(a(j, j) for j in range(1, T + 1)) / T,
        "AIA": sum(curve) / T,
    }


@pytest.mark.parametrize("num_tasks", [2, 3, 5, 21])
def test_measures_are_those_of_loops(num_tasks: int) -> None:
    R = np.random.default_rng(num_tasks).random((num_tasks + 1, num_tasks))
    assert summary(R) == pytest.approx(by_loops(R), abs=1e-12) and list(summary(R)) == list(MEASURES)


def test_a_worked_example() -> None:
    """Task 1 is best after task 2, so it is forgotten by more than BWT sees."""
    R = np.array([[0.4, 0.5, 0.3],
                  [0.8, 0.6, 0.3],
                  [0.9, 0.7, 0.5],
                  [0.6, 0.5, 1.0]])  # fmt: skip
    assert summary(R) == pytest.approx({
        "ACC": (0.6 + 0.5 + 1.0) / 3,
        "BWT": (-0.2 - 0.2) / 2,
        "FWT": (0.1 + 0.2) / 2,
        "forgetting": (0.3 + 0.2) / 2,
        "LA": (0.8 + 0.7 + 1.0) / 3,
        "AIA": (0.8 + 0.8 + 0.7) / 3,
    })  # fmt: skip
    assert learnt_curve(R) == pytest.approx([0.8, 0.8, 0.7])


def test_a_score_that_is_missing_leaves_its_measures_undefined() -> None:
    R = np.random.default_rng(0).random((4, 3))
    without = {(0, 0): set(), (0, 1): {"FWT"}, (1, 1): {"FWT"}, (1, 2): set(),
               (1, 0): {"BWT", "forgetting", "LA", "AIA"}, (2, 0): {"forgetting", "AIA"},
               (2, 1): {"BWT", "forgetting", "LA", "AIA"}, (2, 2): {"FWT"},
               (3, 0): {"ACC", "BWT", "forgetting", "AIA"}, (3, 2): {"ACC", "LA", "AIA"}}  # fmt: skip
    for place, undefined in without.items():
        holed = R.copy()
        holed[place] = NAN
        found = summary(holed)
        assert MEASURES.keys() - found == undefined, place
        assert found == pytest.approx({name: by_loops(R)[name] for name in found})
    assert summary(np.full((4, 3), NAN)) == {}


def test_tasks_without_the_metric_do_not_count() -> None:
    """The measures of three tasks, as if the second one were not there; its row is: task 3 is learnt third."""
    R = np.random.default_rng(1).random((4, 3))
    R[:, 1] = NAN
    assert summary(R) == pytest.approx({
        "ACC": (R[3, 0] + R[3, 2]) / 2, "BWT": R[3, 0] - R[1, 0], "FWT": R[2, 2] - R[0, 2],
        "forgetting": max(R[1, 0], R[2, 0]) - R[3, 0], "LA": (R[1, 0] + R[3, 2]) / 2,
        "AIA": (R[1, 0] + R[2, 0] + (R[3, 0] + R[3, 2]) / 2) / 3,
    })  # fmt: skip


def test_tasks_together_and_apart() -> None:
    together = np.array([[0.5, 0.4, 0.3], [NAN] * 3, [NAN] * 3, [0.9, 0.6, 0.9]])
    assert summary(together) == pytest.approx({"ACC": 0.8})
    assert learnt_curve(together).tolist() == pytest.approx([NAN, NAN, 0.8], nan_ok=True)
    for first_row in ([0.5, 0.4, 0.3], [NAN] * 3):
        apart = np.array([first_row, [0.9, NAN, NAN], [NAN, 0.7, NAN], [NAN, NAN, 0.5]])
        assert summary(apart) == pytest.approx({"ACC": 0.7, "LA": 0.7, "AIA": (0.9 + 0.8 + 0.7) / 3})
    apart[2, 1] = NAN  # a task that does not have the metric
    assert summary(apart)["ACC"] == pytest.approx(0.7)


def test_one_task_and_no_matrix() -> None:
    assert summary(np.array([[0.5], [0.9]])) == {"ACC": 0.9, "LA": 0.9, "AIA": 0.9}
    for shape in ((3, 3), (2,), (1, 0)):
        with pytest.raises(ValueError, match="shape"):
            summary(np.zeros(shape))


# ---------------------------------------------------------------------------------------------------------------- runs

TASKS = ["wine", "fish", "tea"]


def task_of(name: str, **changed: Any) -> dict[str, Any]:
    found = {"head": "sentiment", "kind": "sequence_classification", "metric": "accuracy", "lower_is_better": False,
             "language": "zh", "records": {"train": 1000, "eval": 200, "test": 400}}  # fmt: skip
    return found | changed


def score(approach: str, after: int, place: int, seed: int) -> float:
    """Of the task at this place of the order: sequential forgets what others keep."""
    if after < place:
        return 0.5 + 0.02 * after
    return 0.9 - {"sequential": 0.2, "ewc": 0.1}.get(approach, 0.0) * (after - place) + 0.01 * seed


def run_of(approach: str = "ewc", seed: int = 1, order: list[str] = TASKS, trains: str = "in turn", **changed: Any
           ) -> dict[str, Any]:  # fmt: skip
    rows = []
    for after in range(len(order) + 1):
        if trains == "together" and 0 < after < len(order):
            continue
        metrics = {}
        for place, task in enumerate(order, 1):
            if trains != "apart" or place == after:
                value = score(approach, after, place, seed)
                metrics[task] = {"accuracy": value, "macro_f1": value / 2, "loss": 1 - value}
        rows.append({"after": after, "task": order[after - 1] if after else None, "metrics": metrics,
                     "seconds": {"sequential": 2.0, "ewc": 3.0}.get(approach, 1.0) * seed * (after > 0)})  # fmt: skip
    name = "listed" if order == TASKS else "given-1"
    found = {
        "approach": {"name": approach, "label": approach, "trains": trains, "options": {}}, "order": order,
        "order_name": name, "seed": seed, "tasks": {task: task_of(task) for task in TASKS}, "rows": rows,
        "parameters": {"model": 5_000_000, "trained": 50_000, "kept": 300_000}, "bytes_kept": 1_200_000,
        "finished": True,
    }  # fmt: skip
    return found | changed


def put(folder: Path, runs: list[dict[str, Any]]) -> Path:
    for run in runs:
        order = 0 if run["order_name"] == "listed" else 1
        place = folder / run["approach"]["label"] / f"order-{order}" / f"seed-{run['seed']}"
        place.mkdir(parents=True)
        (place / "results.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


def cells(text: str) -> dict[str, list[str]]:
    """Of the first table: the first cell of each row -> the others."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n\n")[0].splitlines()]
    return {first: others for first, *others in rows if not first.startswith("---")}


def several() -> list[dict[str, Any]]:
    """Two approaches with two orders and two seeds, one of which is not finished, and both bounds."""
    other = ["tea", "wine", "fish"]
    runs = [run_of(name, seed, order) for name in ("sequential", "ewc") for order in (TASKS, other) for seed in (1, 2)]
    runs[-1] |= {"rows": runs[-1]["rows"][:2], "finished": False}
    del runs[-1]["parameters"], runs[-1]["bytes_kept"]
    return [*runs, run_of("together", trains="together"), run_of("apart", 2, trains="apart")]


def test_a_table_has_the_means_of_finished_runs() -> None:
    runs = several()
    found = cells(table(runs))
    assert list(found) == ["", "apart", "together", "ewc", "sequential"], "the highest ACC first"
    accuracies = [100 * (0.9 - 0.1 + 0.01 * seed) for seed in (1, 2, 1)]
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
    forgotten = 100 * (0.2 + 0.1) / 2
    assert dict(zip(found[""], found["ewc"], strict=True)) == {
        "ACC": f"{mean:.1f} ± {spread:.1f}",
        "BWT": f"-{forgotten:.1f} ± 0.0",
        "FWT": f"{100 * (0.02 + 0.04) / 2:+.1f} ± 0.0",
        "forgetting": f"{forgotten:.1f} ± 0.0",
        "LA": f"{mean + 10:.1f} ± {spread:.1f}",
        "time": "1.50 x",
        "M parameters": "5.00",
        "M trained": "0.05",
        "kept MB": "1.20",
        "runs": "3 (+ 1 unfinished)",
    }
    assert found["together"] == ["91.0", "–", "–", "–", "–", "0.17 x", "5.00", "0.05", "1.20", "1"]
    assert found["apart"][:5] == ["92.0", "–", "–", "–", "92.0"]
    notes = table(runs).split("\n\n")[1:]
    assert notes[1] == "One run only, so no spread is known: apart, together."
    assert notes[2] == "Unfinished, left out: ewc, order given-1, seed 2 (1 of 3 tasks learnt)."


def test_only_unfinished_runs() -> None:
    runs = [run_of(), run_of("lwf", finished=False)]
    assert cells(table(runs))["lwf"] == ["–"] * 9 + ["0 (+ 1 unfinished)"]
    assert as_json(runs)["approaches"]["lwf"].keys() & {"measures", "seconds"} == set()


def test_time_is_that_of_sequential_with_the_same_order_and_seed() -> None:
    """Orders of the same name that differ are no pair; the median is of the ratios."""
    other = ["fish", "tea", "wine"]
    runs = [run_of("sequential", seed) for seed in (1, 2, 3)]
    own = [run_of("ewc", seed) for seed in (1, 2, 3)]
    own[1]["rows"][1]["seconds"] *= 9
    assert costs(own, runs)["relative_time"] == 1.5
    assert costs([run_of("ewc", 1, other)], runs)["relative_time"] is None
    assert cells(table([*runs, run_of("ewc", 1, other)]))["ewc"][5] == "9.0 s"
    assert costs(own, [{**run, "finished": False} for run in runs])["relative_time"] is None


def test_a_matrix_is_by_place_and_not_by_name() -> None:
    """JSON and `tasks` list the tasks otherwise than they were trained."""
    order = ["tea", "fish", "wine"]
    run = run_of("sequential", order=order)
    for row in run["rows"]:
        row["metrics"] = {task: row["metrics"][task] for task in sorted(row["metrics"])}
    expected = [[score("sequential", after, place, 1) for place in (1, 2, 3)] for after in range(4)]
    assert matrix(run).tolist() == expected
    assert all(before > after for before, after in pairwise(matrix(run)[1:, 0])), "tea came first"
    run["rows"][2]["metrics"]["fish"]["accuracy"] = None
    assert np.isnan(matrix(run)).sum() == 1 and "LA" not in measures([run, run_of("sequential")])


def test_what_should_fall_is_negated() -> None:
    run = run_of("sequential")
    assert (matrix(run, "loss") == -values(run, "loss")).all() and (values(run, "loss") > 0).all()
    assert summary(matrix(run, "loss"))["BWT"] == pytest.approx(summary(matrix(run))["BWT"])
    regression = {"kind": "sequence_regression", "metric": "mse", "lower_is_better": True}
    run["tasks"] = {task: task_of(task, **regression) for task in TASKS}
    for row in run["rows"]:
        row["metrics"] = {task: {"mse": 4.0, "mae": 2.0, "pearson": 0.5} for task in row["metrics"]}
    assert (matrix(run) == -4).all() and (matrix(run, "mae") == -2).all() and (matrix(run, "pearson") == 0.5).all()
    assert cells(table([run]))["sequential"][:2] == ["-4.000", "+0.000"]
    assert "mse, negated where lower is better" in table([run])
    assert cells(table([run], "pearson"))["sequential"][0] == "50.0"


def mixed(**of_tea: Any) -> dict[str, Any]:
    """`tea` has another metric, and others lack it."""
    run = run_of()
    run["tasks"]["tea"] |= of_tea
    for row in run["rows"]:
        row["metrics"]["tea"] = {of_tea["metric"]: 0.25}
    return run


def test_tasks_with_different_metrics() -> None:
    run = mixed(kind="word_tagging", metric="f1")
    assert headlines([run]) == [None]
    assert summary(matrix(run))["ACC"] == pytest.approx((matrix(run)[-1, 0] + matrix(run)[-1, 1] + 0.25) / 3)
    assert "accuracy, f1 (each task's own) in percent" in table([run])
    assert summary(matrix(run, "f1"))["ACC"] == 0.25
    assert "f1 of tea in percent" in table([run], "f1")


def test_no_mean_of_what_rises_and_what_falls(tmp_path: Path) -> None:
    run = mixed(kind="sequence_regression", metric="mse", lower_is_better=True)
    assert headlines([run]) == ["accuracy", "mse"]
    parts = tables([run]).split("## ")
    assert parts[1].startswith("accuracy") and parts[2].startswith("mse")
    assert cells(parts[1].split("\n\n", 1)[1])["ewc"][0] == f"{100 * summary(matrix(run, 'accuracy'))['ACC']:.1f}"
    assert cells(parts[2].split("\n\n", 1)[1])["ewc"][0] == "-0.250"
    assert "own" not in as_json([run])["approaches"]["ewc"]["measures"]
    pytest.importorskip("matplotlib")
    write_report(put(tmp_path, [run]))


def test_languages_have_a_table_of_their_own() -> None:
    runs = several()
    assert language_table(runs) == ""
    for run in runs:
        run["tasks"] = run["tasks"] | {"tea": task_of("tea", language="en")}
    found = cells(language_table(runs))
    assert found["ACC"] == ["en", "zh"]
    english = [100 * matrix(run)[-1, run["order"].index("tea")] for run in runs[4:7]]
    assert found["ewc"][0] == f"{statistics.mean(english):.1f} ± {statistics.stdev(english):.1f}"
    assert found["apart"] == ["92.0", "92.0"] and len(set(english)) == 3, "tea is last in one order, first in the other"


# --------------------------------------------------------------------------------------------------------------- files


def test_all_is_read_back(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = several()
    text = write_report(put(tmp_path, runs), ["macro_f1"])
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "continual.json", "continual.csv", "continual.md", "matrix.png", "curves.png", "tasks.png", "trade.png",
    }  # fmt: skip
    found = json.loads((tmp_path / "continual.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    read = read_runs(tmp_path)
    assert [(run["approach"]["label"], run["order_name"], run["seed"]) for run in read] == sorted(
        (run["approach"]["label"], run["order_name"], run["seed"]) for run in runs)  # fmt: skip
    for run, entry in zip(read, found["runs"], strict=True):
        for metric in ("accuracy", "macro_f1", "loss"):
            back = np.array(entry["matrices"][metric], dtype=float)
            np.testing.assert_array_equal(back, values(run, metric))
            if run["finished"]:
                assert entry["measures"][metric] == summary(matrix(run, metric))
        assert run["finished"] == ("measures" in entry)
    ewc = found["approaches"]["ewc"]
    assert (ewc["runs"], ewc["unfinished"], ewc["relative_time"], ewc["bytes_kept"]) == (3, 1, 1.5, 1_200_000)
    own = by_approach(read)["ewc"]
    assert ewc["measures"]["own"] == ewc["measures"]["accuracy"] == measures(own)
    accuracies = [summary(matrix(run))["ACC"] for run in own]
    assert ewc["measures"]["own"]["ACC"]["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert found["approaches"]["apart"]["measures"]["own"]["ACC"]["std"] is None

    with (tmp_path / "continual.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    finished = [run for run in read if run["finished"]]
    assert len(lines) == sum(len(m) for run in finished for row in run["rows"] for m in row["metrics"].values())
    for run in finished:
        back = np.full((4, 3), NAN)
        for line in lines:
            same = (run["approach"]["label"], run["order_name"], str(run["seed"]), "loss")
            if same == (line["approach"], line["order"], line["seed"], line["metric"]):
                back[int(line["after"]), run["order"].index(line["task"])] = float(line["value"])
        np.testing.assert_array_equal(back, values(run, "loss"))

    page = (tmp_path / "continual.md").read_text(encoding="utf-8")
    assert page.startswith(text) and "## macro_f1" in text
    assert "| tea | sentiment | sequence_classification | accuracy | zh | 1,000 | 200 | 400 |" in page
    assert "- listed: wine, fish, tea; seeds 1, 2\n" in page and "- given-1: tea, wine, fish; seeds 1, 2" in page


def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name where there is one order, by place where orders differ; unfinished runs are in none."""
    pictures = pytest.importorskip("experiments.continual_pictures")
    seen: dict[str, Any] = {}
    heat_maps, task_curves = pictures.heat_maps, pictures.task_curves

    def watched(found: Any, names: Any, *given: Any) -> None:
        seen.update(found=found, names=names)
        heat_maps(found, names, *given)

    def watched_tasks(found: Any, order: Any, *given: Any) -> None:
        seen.update(single=found, order=order)
        task_curves(found, order, *given)

    monkeypatch.setattr(pictures, "heat_maps", watched)
    monkeypatch.setattr(pictures, "task_curves", watched_tasks)
    put(tmp_path / "a", several())
    write_report(tmp_path / "a")
    assert seen["names"] is None and [len(own) for own in seen["found"].values()] == [1, 1, 3, 4]
    np.testing.assert_allclose(seen["found"]["sequential"][0], 100 * matrix(run_of("sequential", 1)))
    assert [len(own) for own in seen["single"].values()] == [1, 0, 1, 1], "together has another seed"
    assert seen["order"] == TASKS
    np.testing.assert_allclose(seen["single"]["ewc"][0], 100 * matrix(run_of("ewc", 2)))
    write_report(put(tmp_path / "b", [run_of(), run_of("sequential")]))
    assert seen["names"] == tuple(TASKS)
    for name in ("matrix", "curves", "tasks", "trade"):
        for folder in ("a", "b"):
            content = (tmp_path / folder / f"{name}.png").read_bytes()
            width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
            assert content[:4] == b"\x89PNG" and 300 < width < 2500 and 200 < height < 2500, name


def test_no_finished_run_and_one_task(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_report(put(tmp_path / "a", [run_of(finished=False, rows=[])]))
    assert not list((tmp_path / "a").glob("*.png"))
    one = run_of(order=["wine"], tasks={"wine": task_of("wine")})
    assert cells(write_report(put(tmp_path / "b", [one])))["ewc"][:5] == ["91.0", "–", "–", "–", "91.0"]
    assert len(list((tmp_path / "b").glob("*.png"))) == 4


def test_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "experiments.continual_pictures", None)
    monkeypatch.delattr("experiments.continual_pictures", raising=False)
    write_report(put(tmp_path, [run_of()]))
    assert capsys.readouterr().err == "no pictures: pip install matplotlib\n"
    assert (tmp_path / "continual.md").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    put(tmp_path, [run_of(), run_of("sequential")])
    assert main.run([str(tmp_path)], report) == 0
    assert capsys.readouterr().out.rstrip("\n") == tables(read_runs(tmp_path))
    assert as_csv(read_runs(tmp_path)).splitlines()[0] == ",".join(continual_report.FIELDS)


@pytest.mark.parametrize(("content", "given", "message"), [
    (None, [], "no runs here"), ("{", [], "results.json: is no JSON"),
    (json.dumps(run_of("lwf", tasks={"wine": task_of("wine", language="en")})), [], "its tasks are not those of"),
    (json.dumps(run_of("lwf")), ["--metrics", "f1"], "unknown metric 'f1'; there are accuracy, loss, macro_f1"),
])  # fmt: skip
def test_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, given: list[str], message: str
) -> None:
    if content is not None:
        put(tmp_path, [run_of()])
        place = tmp_path / "lwf/order-0/seed-1"
        place.mkdir(parents=True)
        (place / "results.json").write_text(content, encoding="utf-8")
    assert main.run([str(tmp_path), *given], report) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "continual.json").exists()
    with pytest.raises(ConfigError):
        write_report(tmp_path, given[1:])
