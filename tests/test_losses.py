"""model_utils/losses.py and class_weights.py: sums in float64, derivatives from the papers, torch and scikit-learn.

Letters: B items, C classes.
"""

import math
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional as F

from model_utils.class_weights import ClassWeights
from model_utils.losses import binary_cross_entropy, cross_entropy, refuse_both

CLASSES = ["a", "b", "c", "d"]
WEIGHTS = torch.tensor([0.5, 3.0, 0.0, 1.25])
EASE: list[dict[str, float]] = [
    {}, {"label_smoothing": 0.1}, {"label_smoothing": 0.7}, {"focal_gamma": 0.5}, {"focal_gamma": 2.0},
]  # fmt: skip


def reference_softmax(
    logits: Tensor, labels: Tensor, weights: Tensor | None, label_smoothing: float = 0.0, focal_gamma: float = 0.0
) -> Tensor:
    """By the definitions, item by item and class by class, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    num_classes = logits.shape[1]
    for row, gold in zip(logits.double(), labels.tolist(), strict=True):
        if gold == -100:
            continue
        p = row.exp() / row.exp().sum()
        for c in range(num_classes):
            target = (1 - label_smoothing) * (c == gold) + label_smoothing / num_classes
            weight = 1.0 if weights is None else weights[c].double()
            total = total - target * weight * (1 - p[gold]) ** focal_gamma * p[c].log()
    return total


def reference_binary(
    logits: Tensor, gold: Tensor, weights: Tensor | None, label_smoothing: float = 0.0, focal_gamma: float = 0.0
) -> Tensor:
    rows = []
    for row, has in zip(logits.double(), gold.tolist(), strict=True):
        loss = torch.zeros((), dtype=torch.float64)
        for c, one in enumerate(has):
            p = 1 / (1 + (-row[c]).exp())
            target = one * (1 - label_smoothing) + label_smoothing / 2
            weight = 1.0 if weights is None else weights[c].double()
            hard = 1 - p if one else p
            loss = loss - hard**focal_gamma * (weight * target * p.log() + (1 - target) * (1 - p).log())
        rows.append(loss)
    return torch.stack(rows)


@pytest.mark.parametrize("options", EASE, ids=str)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_cross_entropy_and_its_gradient_are_the_definition(weights: Tensor | None, options: dict[str, float]) -> None:
    logits = (torch.randn(9, 4) * 3).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, -100, 1, -100, 0, 3])
    ours, theirs = (function(logits, labels, weights, **options) for function in (cross_entropy, reference_softmax))
    assert ours.dtype == torch.float32 and ours.ndim == 0
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    found, expected = (torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not found[labels == -100].any()


@pytest.mark.parametrize("options", EASE, ids=str)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_binary_cross_entropy_and_its_gradient_are_the_definition(
    weights: Tensor | None, options: dict[str, float]
) -> None:
    logits = (torch.randn(9, 4) * 3).requires_grad_()
    gold = torch.randint(2, (9, 4))
    ours, theirs = (function(logits, gold, weights, **options) for function in (binary_cross_entropy, reference_binary))
    assert ours.dtype == torch.float32 and ours.shape == (9,)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    found, expected = (torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_smoothing_and_weights_mean_what_they_mean_in_torch() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([3, 0, -100, 1, 1, 2])
    for smoothing in (0.0, 0.2):
        expected = F.cross_entropy(logits, labels, WEIGHTS, reduction="sum", label_smoothing=smoothing)
        torch.testing.assert_close(cross_entropy(logits, labels, WEIGHTS, smoothing), expected)
    gold = torch.randint(2, (6, 4)).float()
    expected = F.binary_cross_entropy_with_logits(logits, gold, pos_weight=WEIGHTS, reduction="none").sum(1)
    torch.testing.assert_close(binary_cross_entropy(logits, gold, WEIGHTS), expected)


def test_a_smoothed_loss_is_least_at_the_smoothed_target() -> None:
    """Closed form: p = q, so logits = log q, where the loss is the entropy of q."""
    q = torch.tensor([[0.1 / 4, 0.9 + 0.1 / 4, 0.1 / 4, 0.1 / 4]])
    logits = q.log().requires_grad_()
    loss = cross_entropy(logits, torch.tensor([1]), label_smoothing=0.1)
    assert loss.item() == pytest.approx(-(q * q.log()).sum().item(), rel=1e-5)
    assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-6

    logits = torch.tensor([[math.log(0.95 / 0.05), -math.log(0.95 / 0.05)]], requires_grad=True)
    loss = binary_cross_entropy(logits, torch.tensor([[1, 0]]), label_smoothing=0.1)
    assert torch.autograd.grad(loss.sum(), logits)[0].abs().max() < 1e-6


@given(x=st.floats(-8, 8), gamma=st.sampled_from([0.5, 1.0, 2.0, 5.0]), gold=st.integers(0, 1))
def test_the_derivative_of_the_focal_loss_is_the_papers(x: float, gamma: float, gold: int) -> None:
    """Lin et al. 2017, appendix B: y (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1) with y = 1 or -1."""
    logits = torch.tensor([[x]], requires_grad=True)
    loss = binary_cross_entropy(logits, torch.tensor([[gold]]), focal_gamma=gamma).sum()
    y = 2 * gold - 1
    p = 1 / (1 + math.exp(-y * x))
    expected = y * (1 - p) ** gamma * (gamma * p * math.log(p) + p - 1)
    assert torch.autograd.grad(loss, logits)[0].item() == pytest.approx(expected, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("size", [1.0, 20.0, 100.0, 1e4])
def test_sure_items_have_finite_gradients(gamma: float, size: float) -> None:
    """fp32 rounds their probability to 1, where (1 - p)^0.3 has no derivative."""
    logits = torch.tensor([[size, 0.0], [size, 0.0], [-size, size]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0, 1, -100]), focal_gamma=gamma)
    loss = loss + binary_cross_entropy(logits, torch.tensor([[1, 0], [0, 0], [0, 1]]), focal_gamma=gamma).sum()
    assert loss.isfinite() and torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"focal_gamma": 2.0}], ids=str)
def test_half_precision_logits_give_fp32_losses(options: dict[str, float]) -> None:
    logits = torch.randn(5, 4).bfloat16()
    for function, gold in ((cross_entropy, torch.arange(5) % 4), (binary_cross_entropy, torch.randint(2, (5, 4)))):
        exact = function(logits.float(), gold, WEIGHTS, **options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(function(logits, gold, WEIGHTS, **options), exact, rtol=0, atol=0)


@pytest.mark.parametrize(("smoothing", "gamma", "message"), [
    (0.1, 2.0, "give label_smoothing or focal_gamma, not both"),
    (1.0, 0.0, "label_smoothing must be at least 0 and below 1, focal_gamma not negative"),
    (-0.1, 0.0, "label_smoothing must be at least 0 and below 1, focal_gamma not negative"),
    (0.0, -1.0, "label_smoothing must be at least 0 and below 1, focal_gamma not negative"),
    (math.nan, 0.0, "label_smoothing must be at least 0 and below 1, focal_gamma not negative"),
    (0.0, math.nan, "label_smoothing must be at least 0 and below 1, focal_gamma not negative"),
])  # fmt: skip
def test_wrong_amounts(smoothing: float, gamma: float, message: str) -> None:
    zeros = torch.zeros(1, 2)
    in_cross_entropy = partial(cross_entropy, zeros, torch.tensor([0]), None)
    for call in (refuse_both, in_cross_entropy, partial(binary_cross_entropy, zeros, zeros, None)):
        with pytest.raises(ValueError) as error:
            call(smoothing, gamma)
        assert str(error.value) == message


# ------------------------------------------------------------------------------------------------- class weights


def values(weights: ClassWeights) -> list[float]:
    found = weights()
    assert found is not None and found.shape == (len(weights.labels),)
    return found.tolist()


def balanced(gold: list[str], binary: bool = False, num_records: int = 0) -> list[float]:
    weights = ClassWeights(CLASSES, "balanced", binary)
    weights.balance(Counter(gold), num_records or len(gold))
    return values(weights)


@given(gold=st.lists(st.sampled_from(CLASSES), min_size=1, max_size=40))
def test_balanced_is_scikit_learns_and_the_mean_weight_of_a_record_is_1(gold: list[str]) -> None:
    present = sorted(set(gold))
    theirs = dict(zip(present, compute_class_weight("balanced", classes=np.array(present), y=gold), strict=True))
    found = balanced(gold)
    assert found == pytest.approx([theirs.get(label, 1.0) for label in CLASSES], rel=1e-6)
    assert sum(found[CLASSES.index(label)] for label in gold) == pytest.approx(len(gold), rel=1e-6)


@given(st.lists(st.sets(st.sampled_from(CLASSES)), min_size=1, max_size=40))
def test_balanced_binary_classes_weigh_yes_as_much_as_no(records: list[set[str]]) -> None:
    found = balanced([label for labels in records for label in labels], binary=True, num_records=len(records))
    for label, weight in zip(CLASSES, found, strict=True):
        yes = sum(label in labels for labels in records)
        if 0 < yes < len(records):
            assert yes * weight == pytest.approx(len(records) - yes, rel=1e-6)
        else:  # with 0 a class that all records have would never be learned
            assert weight == 1


def test_balanced_counts_can_come_again_and_are_those_of_the_labels() -> None:
    weights = ClassWeights(CLASSES, "balanced")
    assert values(weights) == [1, 1, 1, 1]  # nothing counted so far
    weights.balance({"a": 1, "not a label": 7}, 1)
    weights.balance({"b": 1, "c": 3}, 4)
    assert values(weights) == pytest.approx([1, 2, 2 / 3, 1])


def test_given_weights_are_ordered_by_label_and_counts_do_not_change_them() -> None:
    weights = ClassWeights(CLASSES, {"d": 2, "b": 0.0})
    weights.balance({"a": 1, "b": 2}, 3)
    assert values(weights) == [1, 0, 1, 2]
    none = ClassWeights(CLASSES, None)
    none.balance({"a": 1}, 1)
    assert none() is None and none.state_dict() == {}


def test_a_saved_buffer_comes_back() -> None:
    weights, again = (ClassWeights(CLASSES, "balanced") for _ in range(2))
    weights.balance({"a": 3, "b": 1}, 4)
    again.load_state_dict(weights.state_dict())
    assert values(weights) == values(again) != [1, 1, 1, 1] and list(weights.state_dict()) == ["values"]


@pytest.mark.parametrize(("weights", "message"), [
    ("even", "class_weights must be balanced, or weights by label, found 'even'"),
    ([1.0, 2.0], "class_weights must be balanced, or weights by label, found [1.0, 2.0]"),
    ({"a": 1, "e": 2}, "class_weights: no label 'e'; there are 'a', 'b', 'c', '1'"),
    ({"a": 1, 1: 2}, "class_weights: no label 1; there are 'a', 'b', 'c', '1'"),  # as YAML reads it without quotes
    ({"a": -1}, "class_weights: -1 is no weight; give numbers, not negative"),
    ({"a": "2"}, "class_weights: '2' is no weight; give numbers, not negative"),
    ({"a": math.nan}, "class_weights: nan is no weight; give numbers, not negative"),
    ({"a": math.inf}, "class_weights: inf is no weight; give numbers, not negative"),
])  # fmt: skip
def test_wrong_weights(weights: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        ClassWeights(["a", "b", "c", "1"], weights)
    assert str(error.value) == message
