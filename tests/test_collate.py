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

import data_loader.collate
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


# several inputs per record, the left side, every level


@st.composite
def rows(draw: Any) -> list[dict[str, Any]]:
    """Records with several inputs each, and places of words in them."""
    batch = []
    for number in range(draw(st.integers(1, 5))):
        lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
        total = sum(lengths)
        starts = sorted(draw(st.sets(st.integers(0, total - 1), max_size=total)))
        ids = list(range(100 * number + 1, 100 * number + total + 1))
        batch.append({"sample_id": number, "input_ids": ids, "token_type_ids": [n % 2 for n in ids],
                      "row_lengths": lengths, "word_starts": starts, "char_starts": [7 * n for n in starts],
                      "char_ends": [7 * n + 3 for n in starts], "labels": {}})  # fmt: skip
    return batch


@UNHURRIED
@given(features=rows(), multiple=st.sampled_from([1, 4, 8]), side=st.sampled_from(["right", "left"]))
def test_several_inputs_against_a_loop(features, multiple, side):
    """Number by number: each input of each record is a row, and a place is counted over the rows of its record."""
    batch = Collator(9, {}, multiple, side)(features)
    width = batch["input_ids"].shape[1]
    longest = max(length for feature in features for length in feature["row_lengths"])
    assert width % multiple == 0 and width - multiple < longest <= width
    row = 0
    for number, feature in enumerate(features):
        ids, types = iter(feature["input_ids"]), iter(feature["token_type_ids"])
        places: dict[int, int] = {}  # number of the sub-word in the record -> place in its rows
        for length in feature["row_lengths"]:
            first = width - length if side == "left" else 0
            for column in range(width):
                real = first <= column < first + length
                found = [int(batch[name][row, column]) for name in ("input_ids", "token_type_ids", "attention_mask")]
                assert found == ([next(ids), next(types), 1] if real else [9, 0, 0])
                if real:
                    places[len(places)] = (row - sum(map(num_inputs, features[:number]))) * width + column
            row += 1
        kept = batch["word_mask"][number]
        assert batch["word_starts"][number][kept].tolist() == [places[start] for start in feature["word_starts"]]
        assert not batch["word_starts"][number][~kept].any()
        for name in ("char_starts", "char_ends"):
            assert batch[name][number][kept].tolist() == feature[name]
            assert not batch[name][number][~kept].any()
        real_inputs = [n < num_inputs(feature) for n in range(max(map(num_inputs, features)))]
        assert batch["input_mask"][number].tolist() == real_inputs
    assert row == len(batch["input_ids"])


def num_inputs(feature):
    return len(feature["row_lengths"])


@UNHURRIED
@given(features=features())
def test_left_padding_is_the_mirror_of_right_padding(features):
    """For records of one input each, where it is turned round and the places with it."""
    turned = [{**f, "input_ids": f["input_ids"][::-1]} for f in features]
    if "token_type_ids" in features[0]:
        turned = [{**t, "token_type_ids": f["token_type_ids"][::-1]} for t, f in zip(turned, features, strict=True)]
    right, left = Collator(3, LEVELS, 4)(features), Collator(3, LEVELS, 4, "left")(turned)
    width = right["input_ids"].shape[1]
    for name in {"input_ids", "attention_mask", "token_type_ids"} & right.keys():
        assert torch.equal(left[name], right[name].flip(1))
    if "word_starts" in right:
        lengths = torch.tensor([len(f["input_ids"]) for f in features])[:, None]
        shifted = (right["word_starts"] + width - lengths).masked_fill(~right["word_mask"], 0)
        assert torch.equal(left["word_starts"], shifted)
    assert_same(left["labels"], right["labels"])


ABSENT, NAN = -100, float("nan")
EXAMPLES: dict[str, tuple[list[Any], Any, torch.dtype]] = {
    "sequence": ([2, None, 0], [2, ABSENT, 0], torch.int64),
    "choice": ([3, 1, None], [3, 1, ABSENT], torch.int64),
    "number": ([0.5, None, -3.0], [0.5, NAN, -3.0], torch.float32),
    "pair": ([float("inf"), None, 0.0], [float("inf"), NAN, 0.0], torch.float32),
    "word": ([[4], None, [1, 0]], [[4, ABSENT, ABSENT], [ABSENT] * 3, [1, 0, ABSENT]], torch.int64),
    "answer": ([[1, 2], None, [0, 0]], [[1, 2], [ABSENT, ABSENT], [0, 0]], torch.int64),
    "multi_label": ([[-1], [-1, 4, 2], None], [[-1, ABSENT, ABSENT], [-1, 4, 2], [ABSENT] * 3], torch.int64),
    "text": ([[7, 8, 1], None, [1]], [[7, 8, 1], [ABSENT] * 3, [1, ABSENT, ABSENT]], torch.int64),
    "entities": (
        [[[-1, -1, -1], [5, 0, 1]], [(-1, -1, -1)], None],
        [[[-1] * 3, [5, 0, 1]], [[-1] * 3, [ABSENT] * 3], [[ABSENT] * 3] * 2],
        torch.int64,
    ),
}


def labelled(values: list[Any]) -> list[dict[str, Any]]:
    words = {"word_starts": [0, 1, 2], "num_words": 3}
    return [{"sample_id": n, "input_ids": [1] * 4, **words, "labels": {"task": v}} for n, v in enumerate(values)]


@pytest.mark.parametrize("level", data_loader.collate.LEVELS)
def test_labels_of_each_level(level):
    values, expected, dtype = EXAMPLES[level]
    for number, value in enumerate(values):  # in any order
        rows, wanted = values[number:] + values[:number], torch.tensor(expected[number:] + expected[:number])
        found = Collator(0, {"task": level})(labelled(rows))["labels"]["task"]
        assert found.dtype == dtype
        torch.testing.assert_close(found, wanted.to(dtype), rtol=0, atol=0, equal_nan=True)
        alone = Collator(0, {"task": level})(labelled([value]))["labels"]
        assert ("task" in alone) == (value is not None)


@pytest.mark.parametrize("level", data_loader.collate.LEVELS)
def test_the_gold_of_a_stand_in_is_unknown_but_has_its_shape(level):
    values, expected, dtype = EXAMPLES[level]
    blanks = [blank(feature) for feature in labelled(values)]
    found = Collator(0, {"task": level})(blanks)["labels"]["task"]
    assert found.shape == torch.tensor(expected).shape
    nothing = torch.full_like(found, NAN if dtype == torch.float32 else ABSENT)
    torch.testing.assert_close(found, nothing, equal_nan=True)
    assert blanks[0]["input_ids"] == [1] * 4 and blanks[0]["sample_id"] == -1
