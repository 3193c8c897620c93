"""Label numbers, schema values and splits, held against values worked out by hand or counted independently."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_process.labels import LabelVocab, close_tags, is_entity_tag
from data_process.levels.word import split
from data_process.schema import LabelColumn, Schema
from data_process.splits import stratified_split

JOINT = Schema("text", "other", (LabelColumn("intent", "label", "sequence"), LabelColumn("slots", "tags", "word")))
SINGLE = Schema("text", "other", (LabelColumn("intent", "label", "sequence"),))


# labels


@pytest.mark.parametrize(
    ("tags", "closed"),
    [
        ([], []),
        (["O"], ["O"]),
        (["B-b", "I-a"], ["O", "B-a", "I-a", "B-b", "I-b"]),
        (["I-b", "O", "B-a-b"], ["O", "B-a-b", "I-a-b", "B-b", "I-b"]),
        (["VERB", "NOUN", "PRP$"], ["NOUN", "PRP$", "VERB"]),
        (["B", "I", "B-", "I-"], ["B", "B-", "I", "I-"]),  # no entity has an empty name
    ],
)
def test_close_tags(tags: list[str], closed: list[str]) -> None:
    assert close_tags(tags) == closed
    assert close_tags(closed) == closed


def test_vocabulary_numbers_do_not_depend_on_order() -> None:
    counts = Counter({"b": 1, "a": 5, "10": 2, "9": 2})
    for order in (counts, list(counts), reversed(list(counts)), sorted(counts)):
        vocab = LabelVocab.from_counts(order, "sequence")
        assert vocab.names == ["10", "9", "a", "b"]
    assert len(vocab) == 4
    assert [vocab.encode(name) for name in vocab.names] == [0, 1, 2, 3]
    assert vocab.encode(["b", "10", "new"]) == [3, 0, -100]
    assert (vocab.encode("new"), vocab.encode([])) == (-100, [])
    assert vocab.unknown(["new", "a", "even newer", "new"]) == ["even newer", "new"]


def test_the_word_vocabulary_is_closed() -> None:
    assert LabelVocab.from_counts({"I-x": 3}, "word").names == ["O", "B-x", "I-x"]


def test_equal_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"label names must differ: \['a', 'b', 'a'\]"):
        LabelVocab(["a", "b", "a"])


@pytest.mark.parametrize(
    ("tag", "entity"), [("B-x", True), ("I-x-y", True), ("B-", False), ("E-x", False), ("", False)]
)
def test_entity_tags(tag: str, entity: bool) -> None:
    assert is_entity_tag(tag) is entity


# schema


def test_texts_are_words_exactly_where_a_task_needs_words() -> None:
    record = {"text": "play  it\tnow", "other": ["a b", "c"]}
    assert (JOINT.form, SINGLE.form) == ("words", "text")
    assert (JOINT.text(record), JOINT.text_pair(record)) == (["play", "it", "now"], ["a b", "c"])
    assert (SINGLE.text(record), SINGLE.text_pair(record)) == ("play  it\tnow", "a b c")
    assert Schema("text", None, ()).text_pair(record) is None


@pytest.mark.parametrize(
    ("record", "gold"),
    [
        ({"label": "x", "tags": ["O", "B-a"]}, {"intent": "x", "slots": ["O", "B-a"]}),
        ({"label": 7, "tags": "O  B-a"}, {"intent": "7", "slots": ["O", "B-a"]}),
        ({"label": 0, "tags": None}, {"intent": "0"}),
        ({"tags": []}, {"slots": []}),
        ({}, {}),
    ],
)
def test_gold(record: dict, gold: dict) -> None:
    assert JOINT.gold(record) == gold


def test_names_of_words_are_a_list_of_their_own() -> None:
    tags = ["O", "B-x"]
    assert split(tags) == tags
    assert split(tags) is not tags


# splits


def shares_strategy() -> st.SearchStrategy[dict[str, float]]:
    share = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.35])
    return st.fixed_dictionaries({"eval": share, "test": share})


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    counts=st.dictionaries(st.text(max_size=3), st.integers(1, 40), min_size=1, max_size=6),
    shares=shares_strategy(),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_is_a_stratified_partition(counts: dict[str, int], shares: dict[str, float], seed: int) -> None:
    labels = [label for label, count in counts.items() for _ in range(count)]
    sizes = {part: round(share * len(labels)) for part, share in shares.items()}
    try:
        parts = stratified_split(labels, shares, seed)
    except ValueError:
        assert any(share and not sizes[part] for part, share in shares.items())
        return
    assert sorted(parts) == ["eval", "test", "train"]
    assert sorted(number for part in parts.values() for number in part) == list(range(len(labels)))
    assert all(part == sorted(part) for part in parts.values())
    assert {part: len(parts[part]) for part in shares} == sizes
    assert stratified_split(labels, shares, seed) == parts

    left = Counter(labels)  # before each cut
    for part in shares:
        found = Counter(labels[number] for number in parts[part])
        most = min(len(parts[part]), left.total() - len(parts[part]))
        single = sum(count == 1 for count in left.values())
        if len(left) - single + bool(single) <= most and single != 1:
            for label, count in left.items():
                if count > 1:
                    assert abs(found[label] - count * len(parts[part]) / left.total()) <= 1
        left -= found


def test_a_share_of_a_label_is_exact_where_it_is_a_whole_number() -> None:
    labels = ["a"] * 700 + ["b"] * 200 + ["c"] * 100
    parts = stratified_split(labels, {"eval": 0.1, "test": 0.2}, seed=3)
    counts = {part: Counter(labels[number] for number in numbers) for part, numbers in parts.items()}
    assert counts == {
        "train": {"a": 490, "b": 140, "c": 70},
        "eval": {"a": 70, "b": 20, "c": 10},
        "test": {"a": 140, "b": 40, "c": 20},
    }


def test_single_labels_share_a_stratum() -> None:
    labels = [str(i) for i in range(50)] + ["common"] * 50
    for seed in range(5):
        parts = stratified_split(labels, {"eval": 0.2}, seed)
        assert Counter(labels[number] for number in parts["eval"])["common"] == 10


def test_one_single_label_goes_with_the_commonest() -> None:
    labels = ["a"] * 60 + ["b"] * 39 + ["lone"]
    for seed in range(20):
        found = Counter(labels[number] for number in stratified_split(labels, {"eval": 0.1}, seed)["eval"])
        assert found["a"] + found["lone"] == 6
        assert found["b"] == 4


def test_data_without_labels_and_with_too_many_labels_is_split_by_chance() -> None:
    for labels in ([""] * 20, [str(i // 2) for i in range(20)]):
        parts = stratified_split(labels, {"eval": 0.1, "test": 0.1}, seed=1)
        assert [len(parts[part]) for part in ("train", "eval", "test")] == [16, 2, 2]


def test_seed_and_share_decide() -> None:
    labels = ["a", "b"] * 50
    first = stratified_split(labels, {"eval": 0.2}, seed=1)
    assert first != stratified_split(labels, {"eval": 0.2}, seed=2)
    assert first["eval"] == stratified_split(labels, {"eval": 0.2, "test": 0.2}, seed=1)["eval"]
    assert stratified_split(labels, {"eval": 0.0}, seed=1) == {"train": list(range(100)), "eval": []}
    assert stratified_split(labels, {}, seed=1) == {"train": list(range(100))}


@pytest.mark.parametrize(
    ("size", "shares", "part"),
    [
        (4, {"eval": 0.1}, "eval"),  # rounds to no record
        (4, {"eval": 1.0}, "eval"),
        (1, {"eval": 0.5}, "eval"),
        (0, {"eval": 0.1}, "eval"),
        (10, {"eval": 0.5, "test": 0.5}, "test"),
        (10, {"eval": 0.6, "test": 0.6}, "test"),
        (10, {"eval": -0.1}, "eval"),
    ],
)
def test_impossible_shares(size: int, shares: dict[str, float], part: str) -> None:
    message = rf"a share of {shares[part]} of {size} records leaves {part} or train empty"
    with pytest.raises(ValueError, match=message):
        stratified_split(["a"] * size, shares, seed=0)
