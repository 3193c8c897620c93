"""Every level from files to rows, references and files of predictions; labels and references of several data sets."""

import json
import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data_process.build import Data, build_tokenizer, read_data, settle_labels
from data_process.data_sets import DataSets
from data_process.errors import DataError
from data_process.levels import level_of
from data_process.predictions import write_predictions
from data_process.schema import LabelColumn
from data_process.tokenizer import train_tokenizer
from tests.test_data_build import write
from tests.texts import TEXTS

CONTEXT = "play yesterday by the beatles"


def answers(*texts: str) -> dict[str, Any]:
    return {"text": list(texts), "answer_start": [CONTEXT.index(text) for text in texts]}


# level -> options, three records, references, a wrong prediction for the first and how it is written
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[Any], Any, Any]] = {
    "sequence": ({}, [{"text": "a", "gold": 1}, {"text": "b", "gold": 2}, {"text": "c", "gold": 1}],
                 ["1", "2", "1"], "2", "2"),
    "multi_label": ({}, [{"text": "a", "gold": "x|y"}, {"text": "b", "gold": []}, {"text": "c", "gold": ["y"]}],
                    [["x", "y"], [], ["y"]], ["y"], ["y"]),
    "number": ({}, [{"text": "a", "gold": "0.25"}, {"text": "b", "gold": 3}, {"text": "c", "gold": -1}],
               [0.25, 3.0, -1.0], 0.123456, 0.1235),
    "word": ({}, [{"text": "play it", "gold": "O B-x"}, {"text": ["me"], "gold": ["O"]}, {"text": "at", "gold": "B-x"}],
             [["O", "B-x"], ["O"], ["B-x"]], ["B-x", "O"], ["B-x", "O"]),
    "entities": ({}, [{"text": "play it", "gold": [{"start": 0, "end": 2, "label": "x"}]}, {"text": "me", "gold": []},
                      {"text": ["wake", "me"], "gold": ["O", "B-y"]}],
                 [[(0, 2, "x")], [], [(1, 2, "y")]], [(1, 2, "y")],
                 [{"start": 1, "end": 2, "label": "y", "words": ["it"]}]),
    "answer": ({"text_pair_column": "other"},
               [{"text": "who", "other": CONTEXT, "gold": answers("the beatles", "beatles")},
                {"text": "where", "other": CONTEXT, "gold": answers()},
                {"text": "what", "other": CONTEXT, "gold": answers("yesterday")}],
               [{"context": CONTEXT, "spans": [(18, 29), (22, 29)]}, {"context": CONTEXT, "spans": []},
                {"context": CONTEXT, "spans": [(5, 14)]}],
               (18, 21), {"text": ["the"], "answer_start": [18]}),
    "choice": ({"choices_column": "choices"},
               [{"text": "a", "choices": ["me", "it"], "gold": "it"}, {"text": "b", "choices": ["x", "y"], "gold": 0},
                {"text": "c", "choices": ["x", "x", "y"], "gold": 2}],
               [1, 0, 2], 0, {"number": 0, "text": "me"}),
    "pair": ({"text_pair_column": "other"},
             [{"text": "a", "other": "b", "gold": 0}, {"text": "b", "other": "c", "gold": "1"},
              {"text": "c", "other": "d", "gold": 0.5}], [0.0, 1.0, 0.5], 0.98765, 0.9877),
    "text": ({"prompt": "say {text}"}, [{"text": "a", "gold": "play it"}, {"text": "b", "gold": "wake me"},
                                        {"text": "c", "gold": "it"}],
             ["play it", "wake me", "it"], "play", "play"),
}  # fmt: skip
NAMES = {
    "sequence": ["1", "2"], "multi_label": ["x", "y"], "word": ["O", "B-x", "I-x"], "entities": ["x", "y"],
}  # fmt: skip


def read(file: str, level: str, folder: Path, **options: Any) -> Data:
    labels = [LabelColumn("task", "gold", level, options.pop("optional", False))]
    part = options.pop("part", "train")
    return read_data({part: file}, labels, cache_dir=folder / "cache", **options)


@pytest.mark.parametrize("level", CASES)
def test_from_a_file_to_predictions(level: str, tmp_path: Path) -> None:
    options, records, references, wrong, shown = CASES[level]
    file = write(tmp_path / "train.jsonl", records)
    data, task = read(file, level, tmp_path, **options), {"name": "task"}
    settle_labels([data], [task])
    assert task == {"name": "task", "labels": NAMES.get(level, [])}
    data.set_encoder(build_tokenizer([data], None, 100), 32)
    rows, expected = data.rows("train"), data.encode(list(enumerate(records)))
    for row, feature, record in zip(rows, expected, records, strict=True):
        assert json.loads(row.pop("record")) == record
        assert row == json.loads(json.dumps(feature))  # tuples have become lists
    again = read(file, level, tmp_path, **options)
    settle_labels([again], [task])
    again.set_encoder(data.tokenizer, 32)
    assert list(again.rows("train")) == list(rows)
    assert len(list((tmp_path / "cache").iterdir())) == 1

    gold = data.references(rows)([2, 0, 1])
    assert gold == {"task": [references[2], references[0], references[1]]}
    best = DataSets(data=data).perfect(gold)["task"]

    path = tmp_path / "predictions.jsonl"
    never_right = level in ("number", "pair")
    confidences: dict[str, list[Any]] = {"task": [0.5, None, [0.25, None]]}
    for predictions, num_wrong in ((best, 0), ([best[0], wrong, best[2]], 1)):
        to_file = partial(write_predictions, path, rows, data.schema, [2, 0, 1], {"task": predictions}, confidences)
        assert to_file(only_wrong=True) == (3 if never_right else num_wrong)
        assert to_file() == 3
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["sample_id"] for line in lines] == [2, 0, 1]
    texts = {name: records[0][name] for name in ("text", "other", "choices") if name in records[0]}
    assert lines[1] == texts | {
        "sample_id": 0,
        "predictions": {"task": shown},
        "confidences": {"task": None},
        "gold": {"task": level_of(level).shown(references[0], records[0], data.schema)},
        "losses": {},
        "wrong": ["task"],
    }
    assert lines[0]["predictions"] == lines[0]["gold"] and lines[0]["confidences"] == {"task": 0.5}
    assert lines[2]["confidences"] == {"task": [0.25, None]}


def test_predictions_without_gold(tmp_path: Path) -> None:
    """A record of a file to predict may lack gold, and then its context may be a list of words."""
    some: list[Any] = [{"other": ["play", "yesterday"]}, {"other": CONTEXT, "gold": None}]
    records = [{"text": "who", **record} for record in some]
    data = read(write(tmp_path / "new.jsonl", records), "answer", tmp_path, part="predict", text_pair_column="other")
    data.set_encoder(train_tokenizer(TEXTS, 120), 32)
    path = tmp_path / "predictions.jsonl"
    labels = {"task": [(5, 14), (0, 0)]}
    assert write_predictions(path, data.rows("predict"), data.schema, [0, 1], labels, {}, only_wrong=True) == 0
    assert write_predictions(path, data.rows("predict"), data.schema, [0, 1], labels, {}) == 2
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["predictions"]["task"] for line in lines] == [
        {"text": ["yesterday"], "answer_start": [5]}, {"text": [], "answer_start": []},
    ]  # fmt: skip
    assert "gold" not in lines[0] and "confidences" in lines[0]


def test_pairs_that_need_no_gold(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{"text": "a"}, {"text": "b", "other": "c"}, {"text": "d", "other": "e", "gold": 0}]
    file = write(tmp_path / "train.jsonl", records)
    data = read(file, "pair", tmp_path, optional=True, text_pair_column="other")
    data.set_encoder(build_tokenizer([data], None, 100), 32)
    assert [row["labels"]["task"] for row in data.rows("train")] == [math.inf, math.inf, 0.0]
    assert data.references(data.rows("train"))([0, 1, 2]) == {"task": [None, None, 0.0]}
    assert DataSets(data=data).perfect({"task": [None, 0.5]}) == {"task": [None, 0.5]}
    with pytest.raises(DataError, match=r"train.jsonl:1: other: no such column; this record has 'text'$"):
        read(file, "sequence", tmp_path, text_pair_column="other")


# several data sets


@pytest.fixture
def two(tmp_path: Path) -> list[Data]:
    """Texts with intents and topics; words with intents and slots."""
    texts: list[dict[str, Any]] = [{"text": word, "what": label, "topics": topics} for word, label, topics in (
        ("play", "x", ["b"]), ("wake", "y", []), ("it", "x", ["c", "a"]))]  # fmt: skip
    words: list[dict[str, Any]] = [
        {"text": ["me"], "intent": "z", "tags": ["B-s"]}, {"text": "it at", "intent": "x", "tags": "O O"},
    ]  # fmt: skip
    first = [LabelColumn("intent", "what", "sequence"), LabelColumn("topics", "topics", "multi_label")]
    second = [LabelColumn("intent", "intent", "sequence"), LabelColumn("slots", "tags", "word")]
    both = [
        read_data({"train": write(tmp_path / f"{name}.jsonl", records)}, labels, cache_dir=tmp_path / "cache")
        for name, records, labels in (("texts", texts, first), ("words", words, second))
    ]
    settle_labels(both, [{"name": "intent"}, {"name": "topics"}, {"name": "slots"}])
    for data in both:
        data.set_encoder(train_tokenizer(TEXTS, 120), 32)
    return both


def test_labels_are_learned_from_all_data_sets(two: list[Data]) -> None:
    names = [{task: vocab.names for task, vocab in data.vocabs.items()} for data in two]
    intents, tags = ["x", "y", "z"], ["O", "B-s", "I-s"]
    assert names == [{"intent": intents, "topics": ["a", "b", "c"]}, {"intent": intents, "slots": tags}]
    assert [row["labels"] for row in two[0].rows("train")] == [
        {"intent": 0, "topics": [-1, 1]}, {"intent": 1, "topics": [-1]}, {"intent": 0, "topics": [-1, 0, 2]},
    ]  # fmt: skip
    assert [row["labels"] for row in two[1].rows("train")] == [
        {"intent": 2, "slots": [1]}, {"intent": 0, "slots": [0, 0]},
    ]  # fmt: skip


def test_given_labels_hold_for_all_data_sets(two: list[Data], caplog: pytest.LogCaptureFixture) -> None:
    tasks: list[dict[str, Any]] = [{"name": "intent", "labels": ["z", "x"]}, {"name": "other", "labels": ["kept"]}]
    with caplog.at_level(logging.WARNING):
        settle_labels(two, tasks)
    assert tasks == [{"name": "intent", "labels": ["z", "x"]}, {"name": "other", "labels": ["kept"]}]
    assert [data.vocabs["intent"].names for data in two] == [["z", "x"]] * 2
    messages = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert messages == ["intent: not among the trained labels, so they count as missed: y"]


def test_references_of_several_data_sets(two: list[Data]) -> None:
    """Records are numbered on; a task that a data set does not have has no references there."""
    data = DataSets(first=two[0], second=two[1])
    references = data.references("train", ["intent", "slots", "topics"])
    everything: dict[str, list[Any]] = {
        "intent": ["x", "y", "x", "z", "x"],
        "slots": [None, None, None, ["B-s"], ["O", "O"]],
        "topics": [["b"], [], ["a", "c"], None, None],
    }
    for ids in ([0, 1, 2, 3, 4], [4, 0, 3], [2, 1], [3, 3], [4], []):
        expected = {task: [values[number] for number in ids] for task, values in everything.items()}
        assert references(ids) == expected
        assert data.perfect(references(ids)) == expected


# texts to be generated


def test_targets_of_a_causal_model_begin_at_once_and_other_settings_are_other_files(tmp_path: Path) -> None:
    options, records, _, _, _ = CASES["text"]
    data = read(write(tmp_path / "t.jsonl", records), "text", tmp_path, **options)
    tokenizer = train_tokenizer(TEXTS, 120)
    found = {}
    for length, causal in ((32, False), (32, True), (3, False)):
        data.set_encoder(tokenizer, 32, max_target_length=length, causal=causal)
        data._rows.clear()
        found[length, causal] = data.rows("train")[0]["labels"]["task"]
        assert data.vocabs == {}
    whole, end = tokenizer("play it")["input_ids"], tokenizer.sep_token_id
    assert found == {(32, False): whole, (32, True): whole[1:], (3, False): [*whole[:2], end]}
    assert whole[-1] == end and len(whole) > 3
    assert len(list((tmp_path / "cache").iterdir())) == 3
