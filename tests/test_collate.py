"""Every tensor of a batch against a reference that fills it number by number.

    python -m pytest tests/test_collate.py
"""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_loader.collate import Collator, blank, pad

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
LEVELS = {"intent": "sequence", "topic": "sequence", "slots": "word"}


@st.composite
def features(draw: Any, words: bool | None = None) -> list[dict[str, Any]]:
    """A batch as an encoder makes it; every label may be None or left out."""
    in_words = draw(st.booleans()) if words is None else words
    with_types = draw(st.booleans())
    batch = []
    for _ in range(draw(st.integers(1, 6))):
        length = draw(st.integers(0 if in_words else 1, 8))
        ids = st.lists(st.integers(0, 30_000), min_size=length, max_size=length)
        feature: dict[str, Any] = {"sample_id": draw(st.integers(-1, 2**40)), "input_ids": draw(ids)}
        if with_types:
            feature["token_type_ids"] = draw(st.lists(st.integers(0, 1), min_size=length, max_size=length))
        if in_words:
            feature["word_starts"] = sorted(draw(st.sets(st.integers(0, max(length - 1, 0)), max_size=length)))
            feature["num_words"] = len(feature["word_starts"]) + draw(st.integers(0, 3))
        labels = {"intent": draw(st.none() | st.integers(0, 5)), "topic": draw(st.none() | st.just(-100))}
        if in_words:
            num_kept = len(feature["word_starts"])
            tags = st.lists(st.integers(-100, 9), min_size=num_kept, max_size=num_kept)
            labels["slots"] = draw(st.none() | tags)
        feature["labels"] = {task: value for task, value in labels.items() if value is not None or draw(st.booleans())}
        batch.append(feature)
    return batch


def reference(features: list[dict[str, Any]], pad_token_id: int, multiple: int) -> dict[str, Any]:
    rows = range(len(features))
    length = max(len(f["input_ids"]) for f in features)
    while length % multiple:
        length += 1

    def fill(name: str, width: int, padding: int) -> torch.Tensor:
        return fill_rows([f[name] for f in features], width, padding)

    def fill_rows(values: list[list[int]], width: int, padding: int) -> torch.Tensor:
        filled = torch.empty(len(values), width, dtype=torch.int64)
        for i, row in enumerate(values):
            for j in range(width):
                filled[i, j] = row[j] if j < len(row) else padding
        return filled

    batch: dict[str, Any] = {
        "sample_id": torch.tensor([f["sample_id"] for f in features], dtype=torch.int64),
        "input_ids": fill("input_ids", length, pad_token_id),
        "attention_mask": torch.tensor([[int(j < len(features[i]["input_ids"])) for j in range(length)] for i in rows]),
    }
    if "token_type_ids" in features[0]:
        batch["token_type_ids"] = fill("token_type_ids", length, 0)
    width = 0
    if "word_starts" in features[0]:
        width = max(len(f["word_starts"]) for f in features)
        batch["word_starts"] = fill("word_starts", width, 0)
        real = [[j < len(f["word_starts"]) for j in range(width)] for f in features]
        batch["word_mask"] = torch.tensor(real, dtype=torch.bool).reshape(len(features), width)
        batch["num_words"] = torch.tensor([f["num_words"] for f in features])
    batch["attention_mask"] = batch["attention_mask"].reshape(len(features), length).long()
    batch["labels"] = {}
    for task, level in LEVELS.items():
        values = [f["labels"].get(task) for f in features]
        if any(value is not None for value in values):
            if level == "sequence":
                batch["labels"][task] = torch.tensor([-100 if value is None else value for value in values])
            else:
                batch["labels"][task] = fill_rows([[] if value is None else value for value in values], width, -100)
    return batch


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_same(found[name], value)
        else:
            assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
            assert torch.equal(found[name], value), name


@UNHURRIED
@given(features=features(), pad_token_id=st.integers(0, 9), multiple=st.sampled_from([1, 2, 8, 64]))
def test_against_the_reference(features, pad_token_id, multiple):
    before = copy.deepcopy(features)
    found = Collator(pad_token_id, LEVELS, multiple)(features)
    assert_same(found, reference(features, pad_token_id, multiple))
    assert features == before


def test_documented_example():
    first = {"sample_id": 7, "input_ids": [1, 2, 3], "word_starts": [1], "num_words": 4}
    second = {"sample_id": 3, "input_ids": [1, 4, 5, 6, 3], "word_starts": [1, 3], "num_words": 2}
    labels: list[dict[str, Any]] = [{"slots": [5]}, {"intent": 1, "slots": [0, 6]}]
    features = [first | {"labels": labels[0]}, second | {"labels": labels[1]}]
    batch = Collator(9, {"intent": "sequence", "slots": "word"})(features)
    assert {name: value.tolist() for name, value in batch.items() if name != "labels"} == {
        "sample_id": [7, 3],
        "input_ids": [[1, 2, 3, 9, 9], [1, 4, 5, 6, 3]],
        "attention_mask": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]],
        "word_starts": [[1, 0], [1, 3]],
        "word_mask": [[True, False], [True, True]],
        "num_words": [4, 2],
    }
    assert {task: value.tolist() for task, value in batch["labels"].items()} == {
        "intent": [-100, 1],
        "slots": [[5, -100], [0, 6]],
    }


def test_no_words_at_all():
    feature = {"sample_id": 0, "input_ids": [1, 2], "word_starts": [], "num_words": 3, "labels": {"slots": []}}
    batch = Collator(0, LEVELS)([feature, feature])
    assert batch["word_starts"].shape == batch["word_mask"].shape == batch["labels"]["slots"].shape == (2, 0)
    assert batch["labels"]["slots"].dtype == torch.int64 and batch["word_mask"].dtype == torch.bool


def test_a_task_without_labels_is_absent_and_a_stand_in_keeps_it():
    feature = {"sample_id": 0, "input_ids": [1], "labels": {"intent": 2, "topic": None, "another": 1}}
    assert list(Collator(0, LEVELS)([feature])["labels"]) == ["intent"]
    assert Collator(0, LEVELS)([blank(feature)])["labels"]["intent"].tolist() == [-100]


@UNHURRIED
@given(features=features())
def test_blank(features):
    """The same inputs; no identity, no gold label, but the same tasks."""
    before = copy.deepcopy(features)
    batch, blanked = Collator(0, LEVELS)(features), Collator(0, LEVELS)([blank(f) for f in features])
    assert features == before
    for name in set(batch) - {"sample_id", "labels"}:
        assert torch.equal(batch[name], blanked[name])
    assert blanked["sample_id"].tolist() == [-1] * len(features)
    assert blanked["labels"].keys() == batch["labels"].keys()
    for task, gold in blanked["labels"].items():
        assert torch.equal(gold, torch.full_like(batch["labels"][task], -100))


@UNHURRIED
@given(features=features(words=True))
def test_numpy_rows(features):
    """`datasets` with numpy format gives arrays instead of lists."""
    arrays = [f | {"input_ids": np.array(f["input_ids"], dtype=np.int32)} for f in features]
    assert_same(Collator(0, LEVELS)(arrays), Collator(0, LEVELS)(features))


def test_it_goes_to_a_worker():
    collate = Collator(3, LEVELS, 8)
    assert vars(pickle.loads(pickle.dumps(collate))) == vars(collate)


def test_unknown_level():
    with pytest.raises(ValueError, match=r"unknown label levels \['document'\]; known are sequence, choice, "):
        Collator(0, {"a": "document", "b": "word"})


@pytest.mark.parametrize("labels", [[1, 2, 3], [1, 2, 3, 4]])
def test_more_labels_than_words_is_an_error(labels):
    feature = {"sample_id": 0, "input_ids": [1, 2], "word_starts": [0, 1], "num_words": 2, "labels": {"slots": labels}}
    with pytest.raises(ValueError):
        Collator(0, LEVELS)([feature])


def test_pad():
    padded, real = pad([[1, 2], [], [3]], 3, -1)
    assert padded.tolist() == [[1, 2, -1], [-1, -1, -1], [3, -1, -1]]
    assert real.tolist() == [[True, True, False], [False, False, False], [True, False, False]]
    with pytest.raises(ValueError):
        pad([[1, 2, 3]], 2, 0)
