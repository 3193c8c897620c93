"""The head for sentence embeddings: its three losses against loops in float64, stand-ins, dropout as augmentation.

Letters: B records, H hidden size. The references take records one by one and know nothing of masks.
"""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from data_loader.collate import Collator, blank
from data_process.checks import scan
from data_process.encode import RecordEncoder
from data_process.schema import LabelColumn, Schema
from data_process.tokenizer import train_tokenizer
from model_utils.encoder import ModelError, load_encoder
from model_utils.heads import build_head, gold_optional
from model_utils.heads.sentence_embedding import Head, cosent_loss, in_batch_loss
from model_utils.multitask_model import build_model
from model_utils.optim import build_optimizer
from model_utils.pooling import POOLING, pool
from tests.texts import TEXTS

HIDDEN = 6
NAN, ALIKE = math.nan, math.inf
SCORES = st.lists(st.sampled_from([0.0, 0.4, 0.5, 1.0, ALIKE, NAN]), min_size=1, max_size=7)
UNSCORED = LabelColumn("alike", "score", "pair", optional=True)


def vectors(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """(B, 2, H), of length 1, with a gradient."""
    return F.normalize(torch.randn(size, 2, HIDDEN, dtype=dtype), dim=-1).requires_grad_()


def cosine(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum() / (first.square().sum() * second.square().sum()).sqrt()


def in_batch_by_hand(both: Tensor, scores: list[float], temperature: float, positive_from: float) -> Tensor:
    """Each first text must find its second one among those of all records that are no stand-ins."""
    here = [b for b, score in enumerate(scores) if not math.isnan(score)]
    total = both.sum() * 0
    for b in here:
        if scores[b] >= positive_from:
            each = torch.stack([cosine(both[b, 0], both[other, 1]) / temperature for other in here])
            total = total - (each[here.index(b)] - each.exp().sum().log())
    return total


def cosent_by_hand(both: Tensor, scores: list[float], temperature: float) -> Tensor:
    """All pairs of records of which the first must be less alike than the second."""
    cosines = [cosine(*pair) for pair in both]
    total = both.sum() * 0 + 1
    for i, low in enumerate(scores):
        for j, high in enumerate(scores):
            if low < high:  # not for NaN
                total = total + ((cosines[i] - cosines[j]) / temperature).exp()
    return total.log() * sum(not math.isnan(score) for score in scores)


def cosine_by_hand(both: Tensor, scores: list[float], max_score: float) -> Tensor:
    total = both.sum() * 0
    for pair, score in zip(both, scores, strict=True):
        if not math.isnan(score):
            total = total + (cosine(*pair) - score / max_score) ** 2
    return total


def check_loss(head: Head, both: Tensor, scores: list[float], expected: Tensor, num_items: int) -> None:
    labels = torch.tensor(scores, dtype=torch.float64)
    loss = head.loss(both, labels, {})
    torch.testing.assert_close(loss, expected)
    assert head.num_items(labels).item() == num_items
    ours, theirs = (torch.autograd.grad(value, both, retain_graph=True)[0] for value in (loss, expected))
    torch.testing.assert_close(ours - along(ours, both), theirs - along(theirs, both), rtol=1e-6, atol=1e-9)
    assert not ours[labels.isnan()].any()


def along(gradient: Tensor, both: Tensor) -> Tensor:
    """Its part in the direction of the vectors, which normalisation takes away."""
    return (gradient * both).sum(-1, keepdim=True) * both


@settings(max_examples=40)
@given(scores=SCORES, temperature=st.sampled_from([0.05, 1.0]), positive_from=st.sampled_from([0.5, 0.4]))
def test_in_batch_loss(scores: list[float], temperature: float, positive_from: float) -> None:
    head = Head(HIDDEN, temperature=temperature, positive_from=positive_from)
    both = vectors(len(scores))
    positive = sum(score >= positive_from for score in scores)
    check_loss(head, both, scores, in_batch_by_hand(both, scores, temperature, positive_from), positive)


@settings(max_examples=40)
@given(scores=SCORES, temperature=st.sampled_from([0.05, 1.0]))
def test_cosent_loss(scores: list[float], temperature: float) -> None:
    head = Head(HIDDEN, objective="cosent", temperature=temperature)
    both = vectors(len(scores))
    known = sum(not math.isnan(score) for score in scores)
    check_loss(head, both, scores, cosent_by_hand(both, scores, temperature), known)


@settings(max_examples=40)
@given(scores=SCORES, max_score=st.sampled_from([1.0, 5.0]))
def test_cosine_loss(scores: list[float], max_score: float) -> None:
    scores = [1.0 if score == ALIKE else score for score in scores]  # it needs numbers
    head = Head(HIDDEN, objective="cosine", max_score=max_score)
    both = vectors(len(scores))
    known = sum(not math.isnan(score) for score in scores)
    check_loss(head, both, scores, cosine_by_hand(both, scores, max_score), known)


def test_what_the_losses_say() -> None:
    """Two records whose texts are the axes: right, and the wrong way round."""
    axes = torch.eye(2)
    everyone = torch.tensor([True, True])
    right = in_batch_loss(axes, axes, everyone, everyone, 0.5)
    assert right.item() == pytest.approx(2 * math.log(1 + math.exp(-2)))
    wrong = in_batch_loss(axes, axes.flip(0), everyone, everyone, 0.5)
    assert wrong.item() == pytest.approx(2 * math.log(1 + math.exp(2)))
    assert cosent_loss(torch.tensor([1.0, 0.0]), torch.tensor([5.0, 0.0]), 0.5).item() == pytest.approx(0.126928)
    assert cosent_loss(torch.tensor([0.0, 1.0]), torch.tensor([5.0, 0.0]), 0.5).item() == pytest.approx(2.126928)
    assert cosent_loss(torch.tensor([0.0, 1.0]), torch.tensor([5.0, 5.0]), 0.5).item() == 0


@pytest.mark.parametrize("objective", ["in_batch_negatives", "cosent", "cosine"])
@pytest.mark.parametrize("stand_ins", [1, 2, 5])
def test_stand_ins_add_nothing(objective: str, stand_ins: int) -> None:
    """Also where there is nothing else: no loss, no gradient, no NaN, not even on the way to a zero."""
    head = Head(HIDDEN, objective=objective)
    both = vectors(3 + stand_ins, torch.float32)
    labels = torch.tensor([0.9, 0.2, 0.7] + [NAN] * stand_ins)
    loss, alone = head.loss(both, labels, {}), head.loss(both[:3], labels[:3], {})
    torch.testing.assert_close(loss, alone)
    (gradient,) = torch.autograd.grad(loss, both)
    assert gradient[:3].any() and not gradient[3:].any() and gradient.isfinite().all()
    nothing = head.loss(both, torch.full_like(labels, NAN), {})
    assert nothing.item() == 0 and head.num_items(torch.full_like(labels, NAN)).item() == 0
    with torch.autograd.set_detect_anomaly(True):
        (gradient,) = torch.autograd.grad(head.loss(both, torch.full_like(labels, NAN), {}), both)
    assert not gradient.any()


# the whole way from hidden states


@pytest.mark.parametrize("how", POOLING)
def test_vectors_are_pooled_and_of_length_one_and_predictions_their_cosine(how: str) -> None:
    head = Head(HIDDEN, pooling=how)
    layers = [torch.randn(6, 4, HIDDEN) for _ in range(3)]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]] * 3)
    batch = {"attention_mask": mask, "input_mask": torch.ones(3, 2, dtype=torch.bool)}
    found = head(layers, batch)
    pooled = pool(layers, mask, how)
    expected = [cosine(pooled[2 * b], pooled[2 * b + 1]).item() for b in range(3)]
    assert found.shape == (3, 2, HIDDEN)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3, 2))
    assert head.decode(found, batch) == pytest.approx(expected, abs=1e-6)
    assert head.confidences(found, batch) == [None] * 3
    assert head.all_layers == (how == "first_last_mean") and not list(head.parameters())


def encoded(records: list[dict[str, Any]], label: LabelColumn = UNSCORED) -> tuple[list[dict[str, Any]], Any]:
    tokenizer = train_tokenizer(TEXTS, 120)
    schema = Schema("text", "other", (label,))
    assert scan((("f:1", record) for record in records), schema, "required").num_records == len(records)
    return RecordEncoder(tokenizer, schema, {}, 16)(list(enumerate(records))), tokenizer


def model_of(tokenizer: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    encoder = load_encoder("scratch:tiny", vocab_size=len(tokenizer), max_length=16)
    return build_model(encoder, [{"name": "alike", "kind": "sentence_embedding", "labels": [], **options}])


COLLATE = Collator(0, {"alike": "pair"})


def test_a_text_alone_is_read_twice_with_other_dropout() -> None:
    """SimCSE: both vectors differ in training only, and training pulls them together and others apart."""
    features, tokenizer = encoded([{"text": text} for text in sorted(set(TEXTS))])
    batch = COLLATE(features)
    assert torch.equal(batch["input_ids"][0::2], batch["input_ids"][1::2])
    assert batch["labels"]["alike"].tolist() == [ALIKE] * 4
    model = model_of(tokenizer)
    assert model.num_items(batch["labels"])["alike"].item() == 4
    same = model.eval()(batch).logits["alike"]
    assert torch.equal(same[:, 0], same[:, 1])
    twice = model.train()(batch).logits["alike"]
    assert ((twice[:, 0] * twice[:, 1]).sum(-1) < 0.9999).all()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert torch.equal(model(batch).logits["alike"], same)


def test_it_learns_what_is_alike() -> None:
    """From pairs without scores; the first text finds its second one by the largest cosine."""
    words = [text.split() for text in sorted(set(TEXTS))]
    records = [{"text": " ".join(some[:2]), "other": " ".join(some[2:])} for some in words]
    features, tokenizer = encoded(records)
    batch = COLLATE([*features, blank(features[0])])
    model = model_of(tokenizer)
    optimizer = build_optimizer(model, 1e-3)
    losses = []
    for _ in range(40):
        loss = model.eval()(batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] > 1 and losses[-1] < 0.1
    found = model(batch).logits["alike"].detach()[:4]
    assert (found[:, 0] @ found[:, 1].T).argmax(1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("objective", ["in_batch_negatives", "cosent", "cosine"])
def test_bfloat16_does_not_round_similarities(objective: str) -> None:
    """Vectors that bf16 cannot tell apart: (1, 0.001) and the like differ by less than 0.004."""
    head = Head(2, objective=objective)
    angles = torch.tensor([[0.0, 0.03], [0.06, 0.01], [0.02, 0.05]])
    both = torch.stack([angles.cos(), angles.sin()], -1).requires_grad_()
    labels = torch.tensor([1.0, 0.5, 0.9])
    exact = head.loss(both.double(), labels.double(), {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = both[:, 0] @ both[:, 1].T
        loss = head.loss(both, labels, {})
    assert rounded.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = both.flatten(0, 1)[:, None].bfloat16()
        found = head((hidden,), {"attention_mask": torch.ones(6, 1), "input_mask": torch.ones(3, 2, dtype=torch.bool)})
    assert found.dtype == torch.float32


# options, and gold that may be missing


def test_gold_is_optional_for_one_objective_only() -> None:
    assert gold_optional("sentence_embedding", {}) and gold_optional("sentence_embedding", {"pooling": "cls"})
    assert gold_optional("sentence_embedding", {"objective": "in_batch_negatives"})
    assert not gold_optional("sentence_embedding", {"objective": "cosent"})
    assert not gold_optional("sentence_embedding", {"objective": "cosine", "max_score": 5.0})
    assert not gold_optional("sequence_classification", {"dropout": 0.1})


def test_where_gold_is_needed_a_record_without_is_a_stand_in() -> None:
    """To predict, the records of a head that needs gold may have none: they count nowhere."""
    needed = LabelColumn("alike", "score", "pair")
    features = encoded([{"text": "a", "other": "b", "score": 0.5}], needed)[0]
    without = {**features[0], "labels": {}}
    batch = COLLATE([*features, without])
    assert json.dumps(batch["labels"]["alike"].tolist()) == "[0.5, NaN]"
    assert "alike" not in COLLATE([without])["labels"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "triplet"}, "unknown objective 'triplet'; there are in_batch_negatives, cosent, cosine"),
        ({"pooling": "last"}, "unknown pooling 'last'; there are cls, mean, max, first_last_mean"),
        ({"temperature": 0}, "temperature and max_score must be above 0"),
        ({"max_score": -1.0}, "temperature and max_score must be above 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        build_head("sentence_embedding", HIDDEN, [], options)
    assert str(error.value) == f"sentence_embedding: {message}"


def test_score_is_the_correlation_with_the_gold_scores() -> None:
    pytest.importorskip("model_utils.scores.ranking")
    scores = Head(HIDDEN).score([0.1, 0.4, 0.2, 0.9], [0.0, 2.0, 3.0, 5.0])
    # ranks 1 3 2 4 and 1 2 3 4: 1 - 6 * 2 / (4 * 15)
    assert scores["spearman"] == pytest.approx(0.8)
    predicted, gold = [-0.3, 0.0, -0.2, 0.5], [-2.5, -0.5, 0.5, 2.5]  # less their means
    dot = sum(a * b for a, b in zip(predicted, gold, strict=True))
    assert scores["pearson"] == pytest.approx(dot / math.sqrt(0.38 * 13.0))
    assert {type(value) for value in scores.values()} == {float}
