"""The model card in best/: what the hub reads in it, that data cannot break it, and that it knows no paths or dates."""

import json
from typing import Any

import pytest
from huggingface_hub import ModelCard

import main
from data_process.languages import languages_of
from model_utils.heads import head_kinds
from model_utils.model_card import KINDS, code, model_card
from tests.sample_job import arguments, files, read
from trainer.checkpoint import damaged

HARD = ["a|b", "`tick`", "``", "<script>alert(1)</script>", "*b* _i_ [x](y)", "---", "你好：是", "- a: {b", "#1", "\\"]
ABOUT: dict[str, Any] = {
    "base": "org/bert-base", "tasks": [{"name": "topic", "kind": "sequence_classification", "labels": HARD}],
    "data": [{"part": part, "source": "a|b/---.jsonl", "records": 7, "tasks": ["topic"]} for part in ("train", "eval")],
    "languages": ["en"], "example": {"text: |": "a text"}, "settings": {"lr": 1e-4, "peft": {"r": 8}},
    "max_length": 64,
}  # fmt: skip
ENTRY = {"epoch": 1, "step": 9, "eval": {"topic/accuracy": 0.876543, "topic/loss": 0.3, "topic/spearman": float("nan")}}


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("card") / "out"
    assert main.run(arguments(data, output, max_steps=8, do_eval=None, warmup_ratio=0.1)) == 0
    return output


def read_card(text: str) -> Any:
    """As huggingface_hub reads it."""
    return ModelCard(text).data


def test_the_hub_reads_what_the_run_was(run, data):
    text = (run / "best/README.md").read_text(encoding="utf-8")
    assert "README.md" in read(run / "best/manifest.json") and not damaged(run / "best")
    about = read_card(text)
    assert (about.language, about.library_name, about.base_model) == (["en", "zh"], "pytorch", None)
    assert (about.pipeline_tag, about.model_name) == ("text-classification", "scratch-tiny-intent-slots")
    assert {"sequence-classification", "word-tagging", "multi-task"} <= {*about.tags}
    metrics = read(run / "best/metrics.json")["eval"]
    found = {result.metric_name: result.metric_value for result in about.eval_results}
    assert found == {name: round(metrics[name], 4) for name in found}
    assert {*found} == {name for name in metrics if "/" in name and not name.endswith("/loss")}
    kinds = {result.task_name: result.task_type for result in about.eval_results}
    assert kinds == {"intent": "text-classification", "slots": "token-classification"}
    assert {result.dataset_name for result in about.eval_results} == {"dev.jsonl"}
    for row in ("| train | `train.jsonl` | 400 |", "| eval | `dev.jsonl` | 100 |", "| `lr` | `0.003` |",
                "| `warmup_ratio` | `0.1` |", f"| `intent/accuracy` | {metrics['intent/accuracy']:.4f} |",
                'predictor([{"tokens": ["the", "words", "of", "a", "text"]}])'):  # fmt: skip
        assert row in text, row
    for label in read(run / "best/labels.json")["slots"]:
        assert f"`{label}`" in text
    assert str(data) not in text and str(run) not in text and "README.md" not in files(run / "last")


def test_the_same_run_elsewhere_has_the_same_card(run, data, tmp_path, monkeypatch):
    """DATA_DIR stands where it did not, folders have other names, and it stops in between."""
    monkeypatch.setenv("DATA_DIR", str(data))
    given = {"max_steps": 8, "do_eval": None, "warmup_ratio": 0.1, "cache_dir": tmp_path / "cache"}
    argv = arguments(data, tmp_path / "other", save_steps=3, **given)
    stopped = main.get_args(argv)

    def stop(job, event, step, values):
        if step == 6 and event == "log":
            raise KeyboardInterrupt

    stopped.logging_steps = 1
    with pytest.raises(KeyboardInterrupt):
        main.run_args(stopped, stop)
    assert not (tmp_path / "other/best").exists()
    assert main.run(argv) == 0
    for name in ("README.md", "manifest.json"):
        assert (tmp_path / "other/best" / name).read_bytes() == (run / "best" / name).read_bytes()


def test_text_of_the_data_breaks_neither_yaml_nor_markdown():
    about = read_card(text := model_card(ENTRY, **ABOUT))
    [result] = about.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("accuracy", 0.8765, "a|b/---.jsonl")
    assert about.base_model == "org/bert-base"
    row = next(line for line in text.splitlines() if line.startswith("| topic |"))
    assert row.replace("\\|", "").count("|") == 5, "four cells, whatever stands in them"
    assert row.count("<script>") == 1 and "`<script>alert(1)</script>`" in row
    assert [code(label) for label in HARD[:3]] == [r"`a\|b`", "`` `tick` ``", "``` `` ```"]
    assert json.dumps(ABOUT["example"]) in text


def test_paths_become_names():
    for base, shown, on_hub in (
        ("/srv/models/bert", "`bert`", None),
        ("../mine/best", "`mine/best`", None),
        ("~/models/bert", "`bert`", None),
        ("package:name/model", "`package:name/model`", None),
        ("org/bert", "`org/bert`", "org/bert"),
    ):
        about = read_card(text := model_card(ENTRY, **{**ABOUT, "base": base}))
        assert f"Fine-tuned from {shown} on 7 records" in text and about.base_model == on_hub
    about = read_card(text := model_card({"epoch": 0, "step": 1}, **{**ABOUT, "base": "scratch:small", "data": []}))
    assert "Trained from random weights" in text and "It was not evaluated" in text and about.eval_results is None


def test_every_kind_of_task_has_its_pipeline():
    assert sorted(KINDS) == head_kinds()


def test_languages():
    assert languages_of(["今天天气怎么样", "what is the weather like"]) == ["en", "zh"]
    assert languages_of(["das ist ein Haus"] * 9) == []
    assert languages_of(["東京へ行きます", "これは本です"]) == ["ja"]
    assert languages_of(["the cat"] * 99 + ["猫"]) == ["en"], "a foreign word makes no language"
