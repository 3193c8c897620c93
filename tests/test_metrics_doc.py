"""docs/metrics.md: its tables are complete, and its examples come out as they are told."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from data_process import levels
from data_process.levels import level_of
from data_process.schema import LabelColumn, Schema
from model_utils.heads import build_head, head_class, head_kinds
from model_utils.scores.answers import score_answers
from model_utils.scores.classification import calibration
from model_utils.scores.texts import score_texts
from trainer.metrics import joint_metrics, load_metric

TEXT = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
PLAIN = {"text_column": "text", "text_pair_column": None}
WORDS = ["to", "new", "york", "city"]
CITY = {"start": 1, "end": 4, "label": "city"}
CITY_TAGS = ["O", "B-city", "I-city", "I-city"]

# level -> form and two records, with what the table "What is compared" says of them: reference, best prediction
COMPARED: dict[str, tuple[dict[str, Any], list[tuple[dict[str, Any], Any, Any]]]] = {
    "sequence": ({}, [({"label": 3}, "3", "3"), ({"label": "a"}, "a", "a")]),
    "multi_label": ({}, [({"label": ["b", "a"]}, ["a", "b"], ["a", "b"]), ({"label": "b|a"}, ["a", "b"], ["a", "b"])]),
    "number": ({}, [({"label": 3}, 3.0, 3.0), ({"label": 0.5}, 0.5, 0.5)]),
    "word": ({}, [({"text": WORDS, "label": CITY_TAGS}, CITY_TAGS, CITY_TAGS)]),
    "entities": (
        {},
        [({"text": WORDS, "label": value}, [(1, 4, "city")], [(1, 4, "city")]) for value in ([CITY], CITY_TAGS)],
    ),
    "answer": (
        {"text_pair_column": "context"},
        [
            ({"context": "in May", "label": {"text": ["May"], "answer_start": [3]}},
             {"context": "in May", "spans": [(3, 6)]}, (3, 6)),
            ({"context": "in May", "label": {"text": [], "answer_start": []}},
             {"context": "in May", "spans": []}, (0, 0)),
        ],
    ),
    "choice": ({"choices_column": "c"}, [({"c": ["x", "y"], "label": value}, 1, 1) for value in (1, "y")]),
    "pair": ({"text_pair_column": "b"}, [({"b": "y", "label": 1}, 1.0, 1.0)]),
    "text": ({}, [({"label": "ja"}, "ja", "ja")]),
}  # fmt: skip

# kind in the table -> head, options, labels; references, a perfect and a wrong prediction
SCORED: dict[str, tuple[str, dict[str, Any], list[str], list[Any], list[Any], list[Any]]] = {
    "sequence_classification": ("sequence_classification", {}, ["a", "b"], ["a", "b"], ["a", "b"], ["b", "a"]),
    "multi_label_classification": (
        "multi_label_classification", {}, ["a", "b"], [["a"], ["b"]], [["a"], ["b"]], [["b"], ["a"]],
    ),
    "sequence_regression": ("sequence_regression", {}, [], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [4.0, 2.0, 1.0]),
    "word_tagging, entities": (
        "word_tagging", {}, ["O", "B-city", "I-city"], [CITY_TAGS] * 2, [CITY_TAGS] * 2, [["O"] * 4, ["B-city"] * 4],
    ),
    "word_tagging, plain tags": ("word_tagging", {}, ["N", "V"], [["N", "V"]], [["N", "V"]], [["V", "N"]]),
    "global_pointer": ("global_pointer", {}, ["city"], [[(1, 4, "city")]], [[(1, 4, "city")]], [[(1, 3, "city")]]),
    "span_selection": (
        "span_selection", {}, [], [{"context": "in May", "spans": [(3, 6)]}], [(3, 6)], [(0, 2)],
    ),
    "multiple_choice": ("multiple_choice", {}, [], [0, 1], [0, 1], [1, 0]),
    "sentence_embedding": ("sentence_embedding", {}, [], [1.0, 3.0, 5.0], [0.1, 0.3, 0.5], [0.5, 0.3, 0.1]),
    "text_generation": ("text_generation", {}, [], ["a b c d e"], ["a b c d e"], ["v w x y z"]),
}  # fmt: skip


def head_of(kind: str, labels: list[str], options: dict[str, Any]) -> Any:
    return build_head(kind, 8, labels, options)


def section(title: str) -> str:
    return re.split(r"^## ", TEXT.split(f"## {title}\n")[1], flags=re.MULTILINE)[0]


def rows(title: str) -> list[list[str]]:
    lines = [line.strip("|\n ") for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines[2:]]


def test_every_level_is_in_the_table() -> None:
    named = [row[0] for row in rows("What is compared")]
    assert sorted(named) == sorted(p.stem for p in Path(levels.__path__[0]).glob("*.py") if p.stem != "__init__")
    assert set(named) == set(COMPARED) and {head_class(kind).LABEL_LEVEL for kind in head_kinds()} == set(named)


@pytest.mark.parametrize("name", COMPARED)
def test_references_and_predictions_look_as_in_the_table(name: str) -> None:
    options, examples = COMPARED[name]
    schema = Schema(labels=(LabelColumn("t", "label", name),), **{**PLAIN, **options})
    for record, reference, best in examples:
        level = level_of(name)
        record = {"text": "x"} | record
        level.check("here:1", schema.labels[0], record["label"], record, schema)
        gold = schema.gold(record)["t"]
        assert gold == reference and type(gold) is type(reference)
        assert level.right(gold) == best
        assert level.is_right(best, gold) == (name not in ("number", "pair"))  # of numbers, all count as errors


def test_every_kind_is_in_the_table() -> None:
    assert [row[0] for row in rows("Metrics of each kind of task")] == list(SCORED)
    assert {head for head, *_ in SCORED.values()} == set(head_kinds())


@pytest.mark.parametrize("row", rows("Metrics of each kind of task"), ids=lambda row: row[0])
def test_names_direction_and_default_monitor(row: list[str]) -> None:
    kind, options, labels, references, best, worst = SCORED[row[0]]
    head = head_of(kind, labels, options)
    good, bad = head.score(best, references), head.score(worst, references)
    told = row[1].replace("**", "").split(", ")
    assert sorted(name.removesuffix(" ↓") for name in told) == sorted(good) == sorted(bad)
    falling = [name.removesuffix(" ↓") for name in told if name.endswith("↓")]
    assert sorted(falling) == sorted(head.LOWER_IS_BETTER)
    assert re.findall(r"\*\*(\w+)\*\*", row[1]) == [head.MONITOR]
    for name, value in good.items():
        assert value == pytest.approx(0.0 if name in falling else 1.0), name
        assert bad[name] > value if name in falling else bad[name] < value, name
        if name not in ("mse", "mae"):  # the others have a range
            assert (-1 if name in ("spearman", "pearson") else 0) <= bad[name] <= 1


def test_sentence_accuracy_where_equality_says_something() -> None:
    """Not for numbers, answers and texts."""
    for kind, options, labels, references, best, _ in SCORED.values():
        metrics = joint_metrics({"t": head_of(kind, labels, options)}, {"t": best}, {"t": references})
        numbers_answers_texts = {"sequence_regression", "span_selection", "sentence_embedding", "text_generation"}
        assert ("sentence_accuracy" in metrics) == (kind not in numbers_answers_texts), kind


def test_quirks() -> None:
    told = section("Quirks that are kept on purpose")
    [prediction, gold] = re.findall(r'"(\w+)"', told)
    assert "gets 3 of 7, not 5" in told and (prediction, gold) == ("我爱北京天安门", "北京上海天安门")
    three = 2 * (3 / 7) * (3 / 7) / (3 / 7 + 3 / 7)
    assert score_answers([prediction], [[gold]], "zh")["f1"] == pytest.approx(three)
    assert score_answers(["The Cat!"], [["a cat", "dog"]], "en") == {"exact_match": 1.0, "f1": 1.0}
    assert score_answers(["b c b"], [["c b x"]], "en")["f1"] == pytest.approx(2 / 3)  # words as a bag
    assert score_answers(["", "x"], [[], []], "en")["exact_match"] == 0.5
    tagging = head_of("word_tagging", ["O", "B-city", "I-city"], {})
    assert tagging.score([["O", "I-city"]], [["O", "B-city"]])["f1"] == 0
    assert score_texts(["a b c"], ["a b c"], "en")["bleu"] == 0
    chinese = ["我爱北京天安门"], ["我爱上海天安门"]
    assert score_texts(*chinese, "en")["rouge1"] == 0 < score_texts(*chinese, "zh")["rouge1"]
    assert head_of("sequence_regression", [], {}).score([2.0, 2.0], [1.0, 2.0])["spearman"] == 0


def test_calibration_has_as_many_bins_as_told() -> None:
    assert "over 15 bins of equal width" in TEXT
    assert len(calibration([0.5, 0.9], [True, False])["bins"]) <= 15
    chance = torch.rand(4000, generator=torch.Generator().manual_seed(0)).tolist()
    assert len(calibration(chance, [True] * len(chance))["bins"]) == 15


def test_threshold_from_which_a_class_is_predicted() -> None:
    assert "from a probability of 0.5 on" in TEXT
    head = head_of("multi_label_classification", ["a", "b"], {})
    assert head.decide([0.5, 0.4999]) == ["a"]


def test_own_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = re.findall(r"```python\n(# my_metrics.py\n.*?)```", TEXT, re.DOTALL)
    (tmp_path / "my_metrics.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    [name] = re.findall(r"--metrics '\[([\w:]+)\]'", TEXT)
    gold = [CITY_TAGS, CITY_TAGS, ["B-city", "I-city", "O", "O"], None]
    predicted = [CITY_TAGS, ["O"] * 4, ["O"] * 4, ["O"] * 4]
    assert load_metric(name)({"slots": predicted}, {"slots": gold}) == {name.split(":")[1]: 0.5}
