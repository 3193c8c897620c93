"""Runs side by side: what differs, mean and spread over seeds, what is best."""

import json
import statistics

import pytest

from experiments.compare_runs import differences, main, read_groups, scores
from tests.report_run import write_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two seeds of one job, and one of another, which is better."""
    base = tmp_path_factory.mktemp("runs")
    write_run(base / "a/1", seed=1)
    write_run(base / "a/2", seed=2)
    write_run(base / "b<i>", seed=1, wrong=0.01, lr=0.1)
    return [base / name for name in ("a/1", "a/2", "b<i>")]


def test_only_what_differs_is_shown_and_seeds_become_one_column(folders):
    groups = read_groups(folders)
    assert [group.name for group in groups] == ["a (2 runs)", "b<i>"]
    assert [(row.name, row.cells) for row in differences(groups)] == [("lr", ["–", "0.1"]), ("seed", ["1, 2", "1"])]


def test_options_of_tasks_differ_by_name(folders, tmp_path):
    write_run(tmp_path / "c", tasks=[{"name": "intent", "kind": "sequence_classification", "label_column": "intent"},
                                     {"name": "slots", "kind": "word_tagging", "label_column": "tags"}])  # fmt: skip
    rows = differences(read_groups([folders[0], tmp_path / "c"]))
    assert ("tasks.slots.decoder", ["crf", "–"]) in [(row.name, row.cells) for row in rows]


def test_means_spreads_and_the_best(folders):
    groups = read_groups(folders)
    found = {row.name: row for row in scores(groups)}
    values = [json.loads((folder / "test_metrics.json").read_text())["slots/f1"] for folder in folders]
    mean, spread = statistics.mean(values[:2]), statistics.stdev(values[:2])
    assert found["slots/f1"].cells == [f"{mean:.4f} ± {spread:.4f}", f"{values[2]:.4f}"]
    assert found["slots/f1"].best == [False, True]
    for group in groups:
        for run in group.runs:
            run.metrics["test"]["intent/mse"] = run.metrics["test"]["slots/f1"]
            run.info["lower_is_better"] = ["intent/mse"]
    assert {row.name: row.best for row in scores(groups)}["intent/mse"] == [True, False]


def test_a_table_and_a_page(folders, tmp_path, capsys):
    assert main([*map(str, folders), "--output_dir", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("  slots/f1"))
    assert line.endswith(" *") and "±" in line
    page = (tmp_path / "out/comparison.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 4 and "b&lt;i&gt;" in page and "b<i>" not in page
    assert "a, seed 1" in page and "a, seed 2" in page
    assert main([str(folders[0])]) == 2 and main([str(tmp_path), str(folders[0])]) == 2
