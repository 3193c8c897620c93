"""Kinds of tasks that need more than a head: searched thresholds, class weights, drawing by class; through main.py."""

import json
from collections import Counter

import pytest
from safetensors.torch import load_file

import main
from config import get_args
from model_utils.scores.thresholds import search_thresholds
from tests.sample_job import arguments, read

KINDS = {"play", "song", "artist", "rare"}


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    """Each text has the types of its slots as labels; some have none."""
    folder = tmp_path_factory.mktemp("multi")
    for part in ("train", "dev"):
        lines = [json.loads(line) for line in (data / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
        records = [
            {"text": " ".join(r["tokens"]), "types": sorted({t[2:] for t in r["tags"] if t != "O"}),
             "intent": r["intent"]}
            for r in lines
        ]  # fmt: skip
        content = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
        (folder / f"{part}.jsonl").write_text(content, encoding="utf-8")
    return folder


def job(files, output, task, **options):
    given = {"tasks": json.dumps([{"name": "t", "label_column": "types"} | task]), "text_column": "text",
             "train_file": files / "train.jsonl", "eval_file": files / "dev.jsonl", "test_file": None,
             "cache_dir": files / "cache", "epochs": 2}  # fmt: skip
    return arguments(files, output, **given | options)


@pytest.mark.parametrize("how", ["per_class", "global"])
def test_thresholds_are_those_of_the_best_evaluation(how, files, tmp_path):
    task = {"kind": "multi_label_classification", "search_thresholds": how}
    out = tmp_path / "out"
    assert main.run(job(files, out, task)) == 0
    thresholds = load_file(out / "best" / "model.safetensors")["heads.t.thresholds"]
    made = main.build_job(get_args(job(files, out, task, do_train=None)))
    main.build_data(made)
    model = main.build_model(made)
    loader, references = main.build_eval(made, "eval")
    result = main.build_trainer(made, model).predict(loader, with_confidences=True)
    labels = read(out / "best" / "labels.json")["t"]
    gold = [[label in types for label in labels] for types in references(result.sample_ids)["t"]]
    expected = search_thresholds(result.confidences["t"], gold, how)
    assert thresholds.tolist() == pytest.approx(expected) and (thresholds != 0.5).any()
    best = read(out / "best" / "metrics.json")["eval"]
    assert read(out / "eval_metrics.json") == best, "scored with the thresholds that were saved"
    plain = tmp_path / "plain"
    assert main.run(job(files, plain, task | {"search_thresholds": None})) == 0
    name = "t/macro_f1" if how == "per_class" else "t/micro_f1"
    step = best_step(out)
    fixed = next(entry["eval"] for entry in read(plain / "log.json") if entry["step"] == step)
    assert best[name] >= fixed[name], "the same weights, decided better"
    report = read(out / "eval_report.json")["t"]["classes"]
    assert {label: round(report[label]["threshold"], 6) for label in labels} == {
        label: round(value, 6) for label, value in zip(labels, thresholds.tolist(), strict=True)
    }


def best_step(out):
    return read(out / "best" / "metrics.json")["step"]


def test_balanced_class_weights_come_from_the_training_part(files, tmp_path):
    """Of a file that is split, from what is trained on only."""
    task = {"kind": "sequence_classification", "label_column": "intent", "class_weights": "balanced"}
    out = tmp_path / "out"
    assert main.run(job(files, out, task, eval_file=None, eval_ratio=0.25, epochs=1, do_eval=None)) == 0
    lines = (files / "train.jsonl").read_text(encoding="utf-8").splitlines()
    counts = Counter(json.loads(lines[n])["intent"] for n in read(out / "splits.json")["train"])
    weights = load_file(out / "best" / "model.safetensors")["heads.t.class_weights.values"]
    labels = read(out / "best" / "labels.json")["t"]
    expected = [counts.total() / (len(counts) * counts[label]) if counts[label] else 1.0 for label in labels]
    assert weights.tolist() == pytest.approx(expected)


def test_balanced_sampling_draws_every_class_equally_often(files, tmp_path):
    task = {"kind": "sequence_classification", "label_column": "intent"}
    drawn = {}
    for power in (0.0, 1.0):
        made = main.build_job(get_args(job(files, tmp_path / "out", task, balanced_sampling=power)))
        main.build_data(made)
        loader = main.build_train_loader(made)
        drawn[power] = Counter(i for batch in loader(0, 0) for i in batch["labels"]["t"].tolist())
    assert drawn[0.0].total() == drawn[1.0].total() == 400
    assert max(drawn[1.0].values()) - min(drawn[1.0].values()) <= 1
    assert max(drawn[0.0].values()) > 2 * min(drawn[0.0].values())
