"""model_utils/heads/global_pointer.py: every span by itself in float64, its loss by explicit sums, nested entities.

Letters: B texts, W words, H hidden size, C types, D head size.
"""

import cmath
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import BertConfig, BertModel

from data_loader.collate import Collator, blank
from data_process.encode import RecordEncoder
from data_process.labels import LabelVocab
from data_process.levels import entities
from data_process.schema import LabelColumn, Schema
from data_process.tokenizer import train_tokenizer
from model_utils.heads.global_pointer import Head, rotated
from model_utils.multitask_model import build_model

HIDDEN, SIZE = 6, 8
TYPES = ["city", "person", "band"]
Spans = list[tuple[int, int, str]]


def pointer(seed: int = 0) -> Head:
    """With scores as large as trained ones, some of them above 0."""
    torch.manual_seed(seed)
    head = Head(HIDDEN, TYPES, head_size=SIZE).eval()
    torch.nn.init.normal_(head.projection.weight, std=0.7)
    torch.nn.init.normal_(head.projection.bias, std=0.3)
    torch.nn.init.normal_(head.bias)
    return head


def word_batch(lengths: list[int]) -> dict[str, Tensor]:
    """Texts of these numbers of words, of one or two sub-words each, behind a special token."""
    starts = [torch.randint(1, 3, (length,)).cumsum(0).tolist() for length in lengths]
    features = [
        {"sample_id": n, "input_ids": [2] * 30, "word_starts": row, "num_words": len(row), "labels": {}}
        for n, row in enumerate(starts)
    ]
    return Collator(0, {})(features)


def span_score(head: Head, hidden: Tensor, number: int, first: int, last: int) -> complex:
    """q and k of two words (H,), as complex numbers that are turned by their places, in float64."""
    weight = head.projection.weight.double().unflatten(0, (len(TYPES), 2, SIZE))[number]
    bias = head.projection.bias.double().unflatten(0, (len(TYPES), 2, SIZE))[number]
    (q, k) = ((weight[side] @ hidden[place].double() + bias[side]).tolist() for side, place in ((0, first), (1, last)))
    total = 0j
    for i in range(SIZE // 2):
        speed = 10000 ** (-2 * i / SIZE)
        turned_q = complex(q[2 * i], q[2 * i + 1]) * cmath.exp(1j * first * speed)
        turned_k = complex(k[2 * i], k[2 * i + 1]) * cmath.exp(1j * last * speed)
        total += turned_q * turned_k.conjugate()
    return total / math.sqrt(SIZE) + head.bias[number].item()


def test_every_span_has_the_score_of_the_paper_and_others_have_none() -> None:
    head, lengths = pointer(), [5, 1, 3]
    batch = word_batch(lengths)
    hidden = torch.randn(*batch["input_ids"].shape, HIDDEN)
    with torch.no_grad():
        logits = head((torch.zeros_like(hidden), hidden), batch)
        assert logits.shape == (3, 3, 5, 5)
        for b, length in enumerate(lengths):
            words = hidden[b, batch["word_starts"][b]]
            for c in range(3):
                for m in range(5):
                    for n in range(5):
                        found = logits[b, c, m, n].item()
                        if m <= n < length:
                            assert found == pytest.approx(span_score(head, words, c, m, n).real, rel=1e-4, abs=1e-5)
                        else:
                            assert found == -math.inf
    assert not head.all_layers


def test_places_count_relative_to_each_other() -> None:
    """The same two words k places further on have the same score: rotary positions know distances only."""
    head = pointer()
    words = torch.randn(2, HIDDEN)
    rows = torch.stack([words[[0, 1, 1, 1, 1, 1]], words[[1, 1, 1, 0, 1, 1]]])
    batch = {"word_starts": torch.arange(6).expand(2, 6), "word_mask": torch.ones(2, 6, dtype=torch.bool)}
    logits = head((rows,), batch)
    for distance in (0, 1, 2):
        torch.testing.assert_close(logits[0, :, 0, distance], logits[1, :, 3, 3 + distance])
    assert (logits[0, :, 0, 1] - logits[0, :, 0, 2]).abs().min() > 1e-3


def test_rotation_keeps_lengths_and_has_the_right_gradient() -> None:
    vectors = torch.randn(2, 5, 3, SIZE, dtype=torch.float64, requires_grad=True)
    turned = rotated(vectors)
    torch.testing.assert_close(turned[:, 0], vectors[:, 0])
    torch.testing.assert_close(turned.norm(dim=-1), vectors.norm(dim=-1), rtol=1e-6, atol=0)
    assert torch.autograd.gradcheck(rotated, vectors)


# ------------------------------------------------------------------------------------------------------------ loss


def encode(golds: list[Spans | None], num_words: list[int]) -> Tensor:
    """As the data side makes it; None = the gold entities are unknown."""
    vocab = LabelVocab(TYPES)
    features: list[dict[str, Any]] = []
    for number, (gold, words) in enumerate(zip(golds, num_words, strict=True)):
        feature = {"sample_id": number, "input_ids": [2] * words, "word_starts": list(range(words)), "num_words": words}
        labels = {} if gold is None else {"t": entities.encode(gold, vocab, feature)}
        features.append(feature | {"labels": labels})
    return Collator(0, {"t": "entities"})(features)["labels"]["t"]


def scores(lengths: list[int], seed: int = 1) -> Tensor:
    """(B, C, W, W) with -inf where there is no span."""
    torch.manual_seed(seed)
    width = max(lengths)
    real = torch.arange(width) < torch.tensor(lengths)[:, None]
    spans = (real[:, :, None] & real[:, None, :]).triu()[:, None]
    return (torch.randn(len(lengths), 3, width, width) * 4).masked_fill(~spans, -math.inf)


GOLD: list[Spans | None] = [
    [(0, 4, "band"), (1, 3, "city"), (1, 3, "person"), (2, 3, "city")],  # nested, one span of two types
    [(0, 2, "city"), (1, 3, "city")],  # overlapping
    [],
    None,
    [(0, 1, "person"), (0, 1, "unseen in training")],
]
LENGTHS = [4, 3, 2, 4, 1]


def test_the_loss_and_its_gradient_are_explicit_sums_over_the_spans() -> None:
    logits, labels = scores(LENGTHS).requires_grad_(), encode(GOLD, LENGTHS)
    expected, gradient = 0.0, torch.zeros(logits.shape, dtype=torch.float64)
    for b, gold in enumerate(GOLD):
        if gold is None:
            continue
        for c, name in enumerate(TYPES):
            spans = [(m, n) for m in range(LENGTHS[b]) for n in range(m, LENGTHS[b])]
            right = {(m, n) for m, n in spans if (m, n + 1, name) in gold}
            sums = [1.0, 1.0]  # over wrong and over right spans
            for m, n in spans:
                sign = -1 if (m, n) in right else 1
                sums[(m, n) in right] += math.exp(sign * logits[b, c, m, n].item())
            expected += (math.log(sums[0]) + math.log(sums[1])) / 3
            for m, n in spans:
                sign = -1 if (m, n) in right else 1
                gradient[b, c, m, n] = sign * math.exp(sign * logits[b, c, m, n].item()) / sums[(m, n) in right] / 3
    head = Head(HIDDEN, TYPES)
    loss = head.loss(logits, labels, {})
    assert loss.item() == pytest.approx(expected, rel=1e-5) and head.num_items(labels).item() == 4
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0].double(), gradient, rtol=1e-4, atol=1e-6)


def test_gold_spans_are_where_they_belong() -> None:
    gold = Head(HIDDEN, TYPES).gold_spans(encode(GOLD, LENGTHS), 4)
    assert gold.shape == (5, 3, 4, 4) and gold.dtype == torch.bool
    assert gold.nonzero().tolist() == sorted([
        [0, 2, 0, 3], [0, 0, 1, 2], [0, 1, 1, 2], [0, 0, 2, 2], [1, 0, 0, 1], [1, 0, 1, 2], [4, 1, 0, 0],
    ])  # fmt: skip


def test_no_entities_are_gold_and_unknown_ones_are_not() -> None:
    head, logits = Head(HIDDEN, TYPES), scores(LENGTHS).requires_grad_()
    gradient = torch.autograd.grad(head.loss(logits, encode(GOLD, LENGTHS), {}), logits)[0]
    assert (gradient[2] > 0).sum() == 3 * 3 and not gradient[3].any() and gradient.isfinite().all()


def test_a_stand_in_has_no_entities_either() -> None:
    head, logits = Head(HIDDEN, TYPES), scores([1]).requires_grad_()
    feature = {"sample_id": 0, "input_ids": [2], "word_starts": [0], "num_words": 1}
    stand_in = blank(feature | {"labels": {"t": [(-1, -1, -1), (0, 0, 0)]}})
    labels = Collator(0, {"t": "entities"})([stand_in])["labels"]["t"]
    loss = head.loss(logits, labels, {})
    assert head.num_items(labels).item() == 0 and loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_texts_without_words_give_nothing() -> None:
    """All words of a text may be lost, or of all texts of a batch."""
    head = pointer()
    for lengths in ([0, 0], [0, 2]):
        batch = word_batch(lengths)
        hidden = torch.randn(*batch["input_ids"].shape, HIDDEN, requires_grad=True)
        logits = head((hidden,), batch)
        assert logits.shape == (2, 3, max(lengths), max(lengths))
        assert head.decode(logits, batch)[0] == [] == head.confidences(logits, batch)[0]
        empty: Spans = []
        loss = head.loss(logits, encode([empty, empty], lengths), batch)
        loss.backward()
        assert hidden.grad is not None and hidden.grad.isfinite().all() and not hidden.grad[0].any()
        assert bool(loss.item()) == (lengths == [0, 2])


def test_large_scores_stay_finite() -> None:
    logits = (scores(LENGTHS) * 1e3).bfloat16().requires_grad_()
    loss = Head(HIDDEN, TYPES).loss(logits, encode(GOLD, LENGTHS), {})
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


# ---------------------------------------------------------------------------------------------------------- decode


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 1000))
def test_decode_finds_every_span_above_0_in_order(lengths: list[int], seed: int) -> None:
    head = Head(HIDDEN, TYPES)
    logits = scores(lengths, seed)
    decoded, sure = head.decode(logits, {}), head.confidences(logits, {})
    for b, length in enumerate(lengths):
        expected = []
        for c, name in enumerate(TYPES):
            for m in range(length):
                for n in range(m, length):
                    value = logits[b, c, m, n].item()
                    if value > 0:
                        expected.append(((m, n + 1, name), 1 / (1 + math.exp(-value))))
        expected.sort()
        assert decoded[b] == [span for span, _ in expected]
        assert sure[b] == pytest.approx([p for _, p in expected], rel=1e-5)


def test_a_new_head_predicts_few_spans() -> None:
    torch.manual_seed(0)
    head, batch = Head(64, TYPES).eval(), word_batch([14, 14])
    logits = head((torch.randn(*batch["input_ids"].shape, 64),), batch)
    assert sum(map(len, head.decode(logits, batch))) < 0.01 * 2 * 3 * 105


def test_scores_counted_by_hand() -> None:
    head = Head(HIDDEN, TYPES)
    predicted: list[Any] = [[(0, 2, "city"), (0, 2, "band"), (1, 2, "city")], [], [(0, 1, "city")]]
    gold: list[Any] = [[[0, 2, "city"], [0, 3, "band"]], [[4, 5, "person"]], [[0, 1, "city"]]]  # JSON has no tuples
    assert head.score(predicted, gold) == pytest.approx({"precision": 2 / 4, "recall": 2 / 4, "f1": 0.5})
    assert head.score(predicted[:1], gold[:1]) == pytest.approx({"precision": 1 / 3, "recall": 1 / 2, "f1": 0.4})
    nothing: list[Spans] = [[]]
    assert head.score(nothing, nothing) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert head.score(predicted, predicted) == {"precision": 1.0, "recall": 1.0, "f1": 1.0}


@pytest.mark.parametrize("size", [0, -2, 3])
def test_a_head_size_must_be_even(size: int) -> None:
    with pytest.raises(ValueError, match=f"^head_size must be even and above 0, found {size}$"):
        Head(HIDDEN, TYPES, head_size=size)


# -------------------------------------------------------------------------------------------------------- training


def nested_records() -> list[dict[str, Any]]:
    """"the X of Y": Y is a city, the whole a band, and "the X" a person, so entities nest and overlap."""
    records = []
    for number in range(20):
        start = number % 3
        words = [*("hey", "you")[:start], "the", f"singer{number % 5}", "of", f"town{number % 4}"]
        spans = [(start, start + 4, "band"), (start + 3, start + 4, "city"), (start, start + 2, "person"),
                 (start + 1, start + 4, "person")]  # fmt: skip
        if number % 4 == 0:
            words[start + 2], spans = "or", [(start, start + 2, "person")]
        records.append({"words": words, "entities": [{"start": s, "end": e, "label": x} for s, e, x in spans]})
    records[7] = {"words": ["hey", "you"], "entities": []}
    return records


def test_it_learns_nested_and_overlapping_entities() -> None:
    records = nested_records()
    schema = Schema("words", None, (LabelColumn("t", "entities", "entities"),))
    tokenizer = train_tokenizer([" ".join(record["words"]) for record in records], vocab_size=60)
    encoder = RecordEncoder(tokenizer, schema, {"t": LabelVocab(TYPES)}, max_length=20)
    batch = Collator(tokenizer.pad_token_id, {"t": "entities"})(encoder(list(enumerate(records))))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=64, max_position_embeddings=20)  # fmt: skip
    model = build_model(BertModel(config), [{"name": "t", "kind": "global_pointer", "labels": TYPES, "head_size": 16}])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    references = [schema.gold(record)["t"] for record in records]
    assert len({span for gold in references for span in gold}) > 8

    def f1() -> float:
        head = model.eval().heads["t"]
        with torch.no_grad():
            return head.score(head.decode(model(batch).logits["t"], batch), references)["f1"]

    assert f1() < 0.2
    for _ in range(60):
        optimizer.zero_grad()
        model.train()(batch).loss.backward()
        optimizer.step()
    assert f1() == 1.0
