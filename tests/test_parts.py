"""What is trained on and what is held out, through main.py: groups, folds, few-shot, several labels per record."""

import json
import runpy
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import main
from data_process.few_shot import few_shot
from data_process.folds import folds
from data_process.grouped_splits import grouped_split
from data_process.multilabel_splits import multilabel_split
from data_process.parts import SplitPlan
from data_process.splits import stratified_split
from experiments.folds import run_folds
from tests.sample_job import arguments, in_this_process, read

ROOT = Path(__file__).parents[1]
SINGLE = [{"name": "intent", "kind": "sequence_classification", "label_column": "intent"}]
LABELS = ["a", "b", "a", "c", "b", "a", "c", "b"] * 6
GROUPS = [n // 3 for n in range(len(LABELS))]
SETS = [[label, "x"] if n % 3 else [label] for n, label in enumerate(LABELS)]


def test_the_plan_takes_the_splitter_that_fits():
    shares = {"eval": 0.25}
    assert SplitPlan().parts(LABELS) == {}
    assert SplitPlan(shares, 1).parts(LABELS) == stratified_split(LABELS, shares, 1)
    assert SplitPlan(shares, 1).parts(SETS) == multilabel_split(SETS, shares, 1)
    assert SplitPlan(shares, 1).parts(LABELS, GROUPS) == grouped_split(GROUPS, shares, 1, LABELS)
    parts = folds(LABELS, 4, 1)
    assert SplitPlan(shares, 1, num_folds=4, fold=2).parts(LABELS) == {
        "train": sorted(parts[0] + parts[1] + parts[3]), "eval": parts[2]}  # fmt: skip
    assert SplitPlan({}, 1, few_shot=2).parts(LABELS) == {"train": few_shot(LABELS, 2, 1)}
    some = SplitPlan(shares, 1, few_shot=2).parts(LABELS)
    whole = SplitPlan(shares, 1).parts(LABELS)
    assert some["eval"] == whole["eval"] and set(some["train"]) < set(whole["train"])
    assert Counter(LABELS[n] for n in some["train"]) == {"a": 2, "b": 2, "c": 2}


def test_a_number_of_training_samples():
    shares = {"eval": 0.25}
    whole, *some = (SplitPlan(shares, 1, train_samples=n).parts(LABELS) for n in (0, 20, 10))
    assert [len(parts["train"]) for parts in some] == [20, 10] and all(parts["eval"] == whole["eval"] for parts in some)
    assert set(some[1]["train"]) < set(some[0]["train"]) < set(whole["train"])
    assert SplitPlan(train_samples=len(LABELS)).parts(LABELS) == {}
    found = Counter(n for seed in range(400) for n in SplitPlan(seed=seed, train_samples=12).parts(LABELS)["train"])
    chi_square = sum((found[n] - 100) ** 2 / (100 * 0.75) for n in range(len(LABELS)))
    assert chi_square < 82, "each record is as likely as the others: 47 degrees of freedom, p = 0.001"


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    """With a speaker for each record, who has four of them."""
    lines = [json.loads(line) for line in (data / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    path = tmp_path_factory.mktemp("parts") / "all.jsonl"
    records = [record | {"speaker": n // 4} for n, record in enumerate(lines)]
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records), encoding="utf-8")
    return path


def job(file, output, **options):
    given = {"tasks": json.dumps(SINGLE), "train_file": file, "eval_file": None, "test_file": None, "epochs": 1,
             "cache_dir": file.parent / "cache", "do_eval": None}  # fmt: skip
    return arguments(file.parent, output, **given | options)


def test_a_speaker_is_trained_or_evaluated_never_both(file, tmp_path):
    assert main.run(job(file, tmp_path / "out", group_column="speaker", eval_ratio=0.2)) == 0
    parts = read(tmp_path / "out" / "splits.json")
    speakers = {part: {n // 4 for n in numbers} for part, numbers in parts.items()}
    assert not speakers["train"] & speakers["eval"] and sorted(parts["train"] + parts["eval"]) == list(range(400))
    assert 60 <= len(parts["eval"]) <= 100, "the shares of labels count too"


def test_a_record_without_its_group_is_a_mistake(file, tmp_path, capsys):
    assert main.run(job(file, tmp_path / "out", group_column="user", eval_ratio=0.2)) == 2
    assert "all.jsonl:1: user: must be a string or an integer, found null" in capsys.readouterr().err


def test_few_shot_trains_on_a_few_and_evaluates_on_all(file, tmp_path):
    assert main.run(job(file, tmp_path / "out", few_shot=2, eval_ratio=0.25)) == 0
    info = read(tmp_path / "out" / "dataset_info.json")
    assert set(info["train"]["labels"]["intent"].values()) == {2} and info["eval"]["records"] == 100


def test_records_of_some_classes(file, tmp_path):
    """They are those that a file of these records alone gives; the head knows all labels."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    labels = sorted({record["intent"] for record in records})
    chosen = [n for n, record in enumerate(records) if record["intent"] in labels[:2]]
    options = {"classes": json.dumps(labels[:2]), "eval_ratio": 0.2, "test_file": file, "train_samples": 30}
    assert main.run(job(file, tmp_path / "out", **options)) == 0
    parts = read(tmp_path / "out" / "splits.json")
    shares = stratified_split([records[n]["intent"] for n in chosen], {"eval": 0.2}, 42)
    assert parts["eval"] == [chosen[n] for n in shares["eval"]] and parts["test"] == chosen
    assert len(parts["train"]) == 30 and set(parts["train"]) < {chosen[n] for n in shares["train"]}
    assert read(tmp_path / "out" / "best" / "labels.json")["intent"] == labels
    info = read(tmp_path / "out" / "dataset_info.json")
    assert info["test"]["labels"]["intent"].keys() == set(labels[:2])


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "one fold": ({"folds": 1}, "folds: must be at least 2, or 0 for none"),
    "fold too many": ({"folds": 3, "fold": 3}, "fold: is counted from 0; of 3 the last is 2"),
    "fold without folds": ({"fold": 1}, "fold: is counted from 0"),
    "two ways": ({"folds": 3, "test_ratio": 0.1}, "folds: cuts train_file by itself; leave test_ratio out"),
    "negative": ({"few_shot": -1}, "few_shot: must not be negative"),
    "two numbers": ({"few_shot": 1, "train_samples": 1}, "few_shot: give this or train_samples, not both"),
    "no class": ({"classes": '["nothing"]'}, "all.jsonl: classes: no record has the class 'nothing'; they are labels"),
    "too many": ({"folds": 500}, "all.jsonl: 500 folds are too many for 400 records"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, file, tmp_path, capsys):
    options, message = MISTAKES[name]
    assert main.run(job(file, tmp_path / "out", **options)) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_cross_validation(file, tmp_path, monkeypatch, capsys):
    """Every record is held out once; the summary is that of the folds' own files; again, nothing is trained."""
    options = {"do_train": None, "folds": 2, "max_steps": 8}
    argv = job(file, tmp_path / "cv", **options)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("experiments.runs.subprocess.run", in_this_process)
    monkeypatch.setattr(sys, "argv", ["folds.py", *argv])
    runpy.run_module("experiments.folds", run_name="__main__")
    held_out = [read(tmp_path / "cv" / f"fold-{n}" / "splits.json")["eval"] for n in range(2)]
    assert sorted(n for numbers in held_out for n in numbers) == list(range(400))
    scores = [read(tmp_path / "cv" / f"fold-{n}" / "eval_metrics.json")["intent/accuracy"] for n in range(2)]
    summary = read(tmp_path / "cv" / "folds.json")["summary"]["intent/accuracy"]
    assert summary == {"mean": pytest.approx(statistics.mean(scores)), "std": pytest.approx(statistics.stdev(scores))}
    shown = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("intent/accuracy "))
    assert shown.split()[1:] == [f"{summary['mean']:.4f}", "±", f"{summary['std']:.4f}"]
    weights = tmp_path / "cv" / "fold-1" / "best" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert run_folds(argv)["summary"]["intent/accuracy"] == summary and weights.stat().st_mtime_ns == before
    with pytest.raises(SystemExit) as left:
        run_folds([*argv, "--folds", "0"])
    assert left.value.code == 2
    assert capsys.readouterr().err.endswith("error: arguments: folds: give the number of folds, at least 2\n")
