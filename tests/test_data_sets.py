"""Several data sets for one encoder, through main.py: what comes out, resuming, two ranks, predicting, mistakes."""

import json
import shutil
from typing import Any

import pytest

import main
from tests.processes import torchrun
from tests.sample_job import arguments, read

TASKS = [
    {"name": "intent", "kind": "sequence_classification", "label_column": "intent"},
    {"name": "slots", "kind": "word_tagging", "label_column": "tags"},
    {"name": "length", "kind": "sequence_regression", "label_column": "length"},
]


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    """Texts with intents, words with slots, and words with both and a number: three forms of records."""
    folder = tmp_path_factory.mktemp("data_sets")
    for part, count in (("train", 120), ("dev", 30)):
        lines = [json.loads(line) for line in (data / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
        texts = [{"query": " ".join(r["tokens"]), "what": r["intent"]} for r in lines[:count]]
        words = [{"tokens": r["tokens"], "tags": r["tags"]} for r in lines[count : 2 * count : 2]]
        numbers = [r | {"length": len(r["tokens"])} for r in lines[-count // 3 :]]
        for name, records in (("texts", texts), ("words", words), ("numbers", numbers)):
            content = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
            (folder / f"{name}-{part}.jsonl").write_text(content, encoding="utf-8")
    return folder


def data_sets(files):
    entries: list[dict[str, Any]] = [
        {"name": "texts", "tasks": ["intent"], "text_column": "query", "label_columns": {"intent": "what"}},
        {"name": "words", "tasks": ["slots"], "text_column": "tokens", "batch_size": 8},
        {"name": "numbers", "tasks": ["intent", "length"], "text_column": "tokens"},
    ]
    for entry in entries:
        entry |= {"train_file": str(files / f"{entry['name']}-train.jsonl")}
        entry |= {"eval_file": str(files / f"{entry['name']}-dev.jsonl")}
    return json.dumps(entries)


def job(files, output, **given):
    options = {"tasks": json.dumps(TASKS), "datasets": data_sets(files), "train_file": None, "eval_file": None,
               "test_file": None, "cache_dir": files / "cache", "monitor": "loss", "text_column": None}  # fmt: skip
    options |= given
    return arguments(files, output, **options)


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    assert main.run(job(files, out)) == 0
    return out


def test_each_data_set_is_scored_by_itself_and_all_together(run):
    metrics = read(run / "eval_metrics.json")
    assert {"texts/intent/accuracy", "words/slots/f1", "numbers/length/spearman", "intent/accuracy"} <= metrics.keys()
    assert "texts/slots/f1" not in metrics and "sentence_accuracy" not in metrics
    both = (30 * metrics["texts/intent/accuracy"] + 10 * metrics["numbers/intent/accuracy"]) / 40
    assert metrics["intent/accuracy"] == pytest.approx(both)
    assert metrics["slots/f1"] == metrics["words/slots/f1"]
    info = read(run / "dataset_info.json")
    assert {name: found["records"] for name, found in info.items()} == {
        "train-texts": 120, "eval-texts": 30, "train-words": 60, "eval-words": 15, "train-numbers": 40,
        "eval-numbers": 10}  # fmt: skip
    log = read(run / "log.json")
    assert [entry["step"] for entry in log] == [19, 38], "8 + 8 + 3 micro-batches are an epoch"
    assert metrics["loss"] == pytest.approx(log[-1]["eval"]["loss"])
    errors = [json.loads(line) for line in (run / "errors" / "eval-texts.jsonl").read_text("utf-8").splitlines()]
    assert len(errors) == round(30 * (1 - metrics["texts/intent/accuracy"]))
    assert {tuple(error["predictions"]) for error in errors} == {("intent",)}


OTHER_MIXINGS = [pytest.param(n, marks=pytest.mark.slow) for n in ("proportional", "round_robin", "annealed")]


@pytest.mark.parametrize("mixing", ["temperature", *OTHER_MIXINGS])
def test_a_resumed_run_is_the_unbroken_one(mixing, files, tmp_path):
    options = {"mixing": mixing, "lr_scheduler": "constant", "do_eval": None, "save_steps": 1, "epochs": 2}
    assert main.run(job(files, tmp_path / "whole", **options)) == 0
    assert main.run(job(files, tmp_path / "broken", **options, max_steps=13)) == 0
    assert main.run(job(files, tmp_path / "broken", **options)) == 0
    for name in ("last/model.safetensors", "last/encoder/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name
    whole, broken = (read(tmp_path / name / "log.json") for name in ("whole", "broken"))
    assert [entry["step"] for entry in broken] == [13, 19, 38], "the first part ended with an evaluation"
    assert whole[-1]["eval"] == broken[-1]["eval"]


@pytest.mark.slow
def test_two_ranks_with_other_tasks_at_once_are_one_with_two_micro_batches(files, tmp_path):
    """A rank may lack tasks that the other one has; dropout is off, as it differs between ranks."""
    tasks = json.dumps([task | {"dropout": 0.0} for task in TASKS])
    first = tmp_path / "first"
    options = {"tasks": tasks, "do_eval": None, "epochs": 1, "mixing": "round_robin", "lr_scheduler": "constant"}
    assert main.run(job(files, first, **options, max_steps=1)) == 0
    encoder = shutil.copytree(first / "best" / "encoder", tmp_path / "encoder")
    config = read(encoder / "config.json") | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (encoder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    options |= {"model_name_or_path": encoder, "logging_steps": 1, "epochs": 2}
    assert main.run(job(files, tmp_path / "one", **options, accumulate=2)) == 0
    done = torchrun(2, "--", "main.py", *job(files, tmp_path / "two", **options))
    assert done.returncode == 0, done.stderr[-3000:]
    logs = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    losses = [[line["loss"] for line in lines if line["kind"] == "train"] for lines in logs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3) and len(losses[0]) == 20


def test_predicting_names_the_data_set(files, run, tmp_path, capsys):
    base = {"tasks": None, "datasets": None, "do_train": None, "do_eval": None, "do_predict": True,
            "model_name_or_path": run / "best", "epochs": None}  # fmt: skip
    plain = base | {"predict_file": files / "texts-dev.jsonl"}
    assert main.run(job(files, tmp_path / "a", **plain)) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: arguments: datasets: {run / 'best'} has texts, words, numbers; give --datasets")
    wrong = base | {"datasets": '[{"name": "news", "predict_file": "x"}]'}
    assert main.run(job(files, tmp_path / "a", **wrong)) == 2
    assert "there is no file x" in capsys.readouterr().err
    named = base | {"datasets": json.dumps([{"name": "texts", "predict_file": str(files / "texts-dev.jsonl")}])}
    assert main.run(job(files, tmp_path / "a", **named)) == 0
    lines = [json.loads(line) for line in (tmp_path / "a/predictions/texts-dev.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 30 and all(set(line["predictions"]) == {"intent"} for line in lines)
    scores = read(tmp_path / "a" / "predictions" / "texts-dev_metrics.json")
    known = read(run / "eval_metrics.json")
    assert scores["intent/accuracy"] == known["texts/intent/accuracy"]
    both = [{"name": name, "predict_file": str(files / f"{name}-dev.jsonl")} for name in ("texts", "numbers")]
    assert main.run(job(files, tmp_path / "b", **base | {"datasets": json.dumps(both)})) == 0
    scores = read(tmp_path / "b" / "predict_metrics.json")
    assert scores["intent/accuracy"] == known["intent/accuracy"], "no other data set has intents"
    written = {path.name for path in (tmp_path / "b" / "predictions").iterdir()}
    assert written == {"texts-dev-texts.jsonl", "numbers-dev-numbers.jsonl"}


MISTAKES = {
    "no name": ([{"tasks": ["intent"]}], "datasets[0]: needs name: letters, digits and _ only"),
    "twice": ([{"name": "a"}, {"name": "a"}], "datasets: names must differ, found ['a', 'a']"),
    "no such task": ([{"name": "a", "tasks": ["x"]}], "datasets[0]: no task 'x'; there are intent, slots, length"),
    "typo": ([{"name": "a", "text_colum": "x"}], "datasets[0]: text_colum: unknown option; did you mean text_column?"),
    "wrong type": ([{"name": "a", "batch_size": "x"}], "datasets[0]: batch_size: 'x' is no value of --batch_size"),
    "no such scheme": ([{"name": "a", "tag_scheme": "x"}], "datasets[0]: tag_scheme: 'x' is no value of --tag_scheme"),
    "no file": ([{"name": "a", "train_file": "x.jsonl"}], "datasets[0]: train_file: there is no file x.jsonl"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(name, files, tmp_path, capsys):
    entries, message = MISTAKES[name]
    assert main.run(job(files, tmp_path / "out", datasets=json.dumps(entries))) == 2
    assert f"error: arguments: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_records_of_one_form_only_are_read_together(files, tmp_path, capsys):
    tasks = [*TASKS[:2], {"name": "alike", "kind": "sentence_embedding", "label_column": "length"}]
    options = {"tasks": json.dumps(tasks), "datasets": None, "train_file": files / "numbers-train.jsonl"}
    assert main.run(job(files, tmp_path / "out", **options)) == 2
    assert "alike needs inputs of the form 'separate', slots 'words'" in capsys.readouterr().err
