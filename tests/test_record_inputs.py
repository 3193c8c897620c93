"""model_utils/inputs.py: records of several inputs against loops, and heads over windows against gathering by hand.

Letters: B records, R inputs, K most inputs of a record, T sub-words, W words, H hidden size.
"""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from data_loader.collate import Collator
from model_utils.heads import build_head
from model_utils.inputs import at_places, first_inputs, per_record, record_mean
from model_utils.pooling import POOLING, pool

HIDDEN = 4
COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=6)  # inputs of each record


def mask_of(counts: list[int]) -> Tensor:
    return torch.arange(max(counts)) < torch.tensor(counts)[:, None]


def rows_of(counts: list[int]) -> list[list[int]]:
    """Numbers of each record's inputs."""
    rows = iter(range(sum(counts)))
    return [[next(rows) for _ in range(count)] for count in counts]


@given(COUNTS)
def test_each_record_gets_its_own_inputs(counts: list[int]) -> None:
    values, batch = torch.randn(sum(counts), 2, 3), {"input_mask": mask_of(counts)}
    found = per_record(values, batch)
    assert found.shape == (len(counts), max(counts), 2, 3)
    for b, rows in enumerate(rows_of(counts)):
        assert torch.equal(found[b, : len(rows)], values[rows])
    assert first_inputs(batch["input_mask"]).tolist() == [rows[0] for rows in rows_of(counts)]


@given(COUNTS)
def test_the_mean_is_over_each_records_own_inputs(counts: list[int]) -> None:
    vectors = torch.randn(sum(counts), HIDDEN, requires_grad=True)
    found = record_mean(vectors, {"input_mask": mask_of(counts)})
    expected = torch.stack([vectors[rows].sum(0) / len(rows) for rows in rows_of(counts)])
    torch.testing.assert_close(found, expected)
    factors = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad((x * factors).sum(), vectors)[0] for x in (found, expected))
    torch.testing.assert_close(ours, theirs)


@given(COUNTS, st.integers(0, 7), st.data())
def test_places_count_over_the_inputs_of_a_record(counts: list[int], num_words: int, data: Any) -> None:
    length = 5
    hidden = torch.randn(sum(counts), length, HIDDEN)
    places = [[data.draw(st.integers(0, count * length - 1)) for _ in range(num_words)] for count in counts]
    batch = {"input_mask": mask_of(counts)}
    found = at_places(hidden, torch.tensor(places, dtype=torch.int64).view(len(counts), num_words), batch)
    assert found.shape == (len(counts), num_words, HIDDEN)
    for b, rows in enumerate(rows_of(counts)):
        for w, place in enumerate(places[b]):
            assert torch.equal(found[b, w], hidden[rows[place // length], place % length])


def test_records_of_one_input_need_no_mask() -> None:
    hidden, places = torch.randn(3, 5, HIDDEN), torch.randint(5, (3, 4))
    ones: dict[str, Tensor] = {"input_mask": torch.ones(3, 1, dtype=torch.bool)}
    for function in (lambda batch: at_places(hidden, places, batch), lambda batch: per_record(hidden, batch),
                     lambda batch: record_mean(hidden[:, 0], batch)):  # fmt: skip
        assert torch.equal(function({}), function(ones))
    assert torch.equal(at_places(hidden, places, {}), torch.stack([hidden[b, places[b]] for b in range(3)]))


# ------------------------------------------------------------------------------------------- heads over windows

# Two windows of 6 and 4 sub-words whose texts overlap, one of 4, and three of 5, 5 and 3; specials at both ends of
# each. Words by (window, place), so that those in an overlap are taken from either side.
WINDOWS = [[6, 4], [4], [5, 5, 3]]
WORDS = [[(0, 1), (0, 3), (0, 4), (1, 2)], [(0, 1), (0, 2)], [(0, 1), (0, 3), (1, 2), (1, 3), (2, 1)]]


def window_batch(labels: dict[str, str] | None = None, golds: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    features = []
    for number, (lengths, words) in enumerate(zip(WINDOWS, WORDS, strict=True)):
        features.append({
            "sample_id": number, "input_ids": list(range(2, 2 + sum(lengths))), "row_lengths": lengths,
            "word_starts": [sum(lengths[:window]) + place for window, place in words], "num_words": len(words),
            "labels": golds[number] if golds else {},
        })  # fmt: skip
    return Collator(0, labels or {})(features)


def words_by_hand(hidden: Tensor) -> list[Tensor]:
    rows = rows_of([len(lengths) for lengths in WINDOWS])
    return [torch.stack([hidden[rows[b][window], place] for window, place in WORDS[b]]) for b in range(3)]


@pytest.mark.parametrize("decoder", ["linear", "crf"])
def test_words_of_windows_are_tagged_as_those_of_one_long_text(decoder: str) -> None:
    head: Any = build_head("word_tagging", HIDDEN, ["O", "B-x", "I-x"], {"decoder": decoder}).eval()
    golds = [[0, 1, 2, 0], [1, 2], [0, 0, 1, 2, 1]]
    batch = window_batch({"t": "word"}, [{"t": gold} for gold in golds])
    hidden = torch.randn(*batch["input_ids"].shape, HIDDEN, requires_grad=True)
    logits = head((hidden,), batch)
    loss, expected = head.loss(logits, batch["labels"]["t"], batch), torch.zeros(())
    decoded = head.decode(logits, batch)
    for b, words in enumerate(words_by_hand(hidden)):
        size = len(words)
        alone = {"word_starts": torch.arange(size)[None], "word_mask": torch.ones(1, size, dtype=torch.bool),
                 "num_words": torch.tensor([size])}  # fmt: skip
        own = head((words[None],), alone)
        torch.testing.assert_close(logits[b, :size], own[0])
        expected = expected + head.loss(own, torch.tensor(golds[b])[None], alone)
        assert decoded[b] == head.decode(own, alone)[0]
    torch.testing.assert_close(loss, expected)
    ours, theirs = (torch.autograd.grad(x, hidden)[0] for x in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_entities_may_span_windows() -> None:
    head: Any = build_head("global_pointer", HIDDEN, ["a", "b"], {"head_size": 4}).eval()
    batch = window_batch()
    hidden = torch.randn(*batch["input_ids"].shape, HIDDEN)
    logits = head((hidden,), batch)
    for b, words in enumerate(words_by_hand(hidden)):
        size = len(words)
        alone = {"word_starts": torch.arange(size)[None], "word_mask": torch.ones(1, size, dtype=torch.bool)}
        torch.testing.assert_close(logits[b, :, :size, :size], head((words[None],), alone)[0])


@pytest.mark.parametrize("how", POOLING)
@pytest.mark.parametrize(
    ("kind", "labels", "layer"),
    [
        ("sequence_classification", ["a", "b", "c"], "classifier"),
        ("multi_label_classification", ["a", "b", "c"], "classifier"),
        ("sequence_regression", [], "regressor"),
    ],
)
def test_a_long_text_is_the_mean_of_its_windows(kind: str, labels: list[str], layer: str, how: str) -> None:
    head: Any = build_head(kind, HIDDEN, labels, {"pooling": how}).eval()
    batch = window_batch()
    layers = [torch.randn(*batch["input_ids"].shape, HIDDEN) for _ in range(3)]
    logits = head(layers, batch)
    pooled = pool(layers, batch["attention_mask"], how)
    means = torch.stack([pooled[rows].mean(0) for rows in rows_of([len(lengths) for lengths in WINDOWS])])
    torch.testing.assert_close(logits, getattr(head, layer)(means).squeeze(-1))
