"""model_utils/losses.py, the criteria of tricks/ and class_weights.py: the definitions in float64, derivatives from the
papers, torch and scikit-learn.

Letters: B items, C classes.
"""

import math
from collections import Counter
from collections.abc import Callable
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
from model_utils.losses import cross_entropy, kl_divergence
from tricks.dice import Dice
from tricks.focal import Focal
from tricks.ghm import GHM
from tricks.label_smoothing import LabelSmoothing

CLASSES = ["a", "b", "c", "d"]
WEIGHTS = torch.tensor([0.5, 3.0, 0.0, 1.25])
LABELS = torch.tensor([0, 1, 2, 3, -100, 1, -100, 0, 3])
CRITERIA: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {  # and what its reference is called with
    "cross_entropy": (cross_entropy, {}),
    "smoothing 0.1": (LabelSmoothing(0.1), {"smoothing": 0.1}),
    "smoothing 0.7": (LabelSmoothing(0.7), {"smoothing": 0.7}),
    "focal 0.5": (Focal(0.5), {"gamma": 0.5}),
    "focal 2": (Focal(2.0), {"gamma": 2.0}),
    "dice 0.6": (Dice(0.6), {"dice": (0.6, 1.0)}),
    "dice 2": (Dice(2.0, 0.3), {"dice": (2.0, 0.3)}),
}
every_criterion = pytest.mark.parametrize("name", CRITERIA)
every_weight = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])


def dice(p: Tensor, y: float, alpha: float, gamma: float) -> Tensor:
    sure = (1 - p) ** alpha * p
    return 1 - (2 * sure * y + gamma) / (sure + y + gamma)


def reference_softmax(
    scores: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float = 0.0, gamma: float = 0.0, **other: Any
) -> Tensor:
    """By the definitions, item by item and class by class, in float64."""
    losses = []
    num_classes = scores.shape[1]
    for row, gold in zip(scores.double(), labels.tolist(), strict=True):
        loss = torch.zeros((), dtype=torch.float64)
        p = row.exp() / row.exp().sum()
        for c in range(num_classes if gold != -100 else 0):
            if "dice" in other:
                weight = 1.0 if weights is None else weights[gold].double()
                loss = loss + weight * dice(p[c], float(c == gold), *other["dice"]) / num_classes
            else:
                weight = 1.0 if weights is None else weights[c].double()
                target = (1 - smoothing) * (c == gold) + smoothing / num_classes
                loss = loss - target * weight * (1 - p[gold]) ** gamma * p[c].log()
        losses.append(loss)
    return torch.stack(losses)


def reference_binary(
    scores: Tensor, gold: Tensor, weights: Tensor | None, smoothing: float = 0.0, gamma: float = 0.0, **other: Any
) -> Tensor:
    losses = []
    for row, has in zip(scores.double(), gold.tolist(), strict=True):
        for c, one in enumerate(has):
            p = 1 / (1 + (-row[c]).exp())
            weight = 1.0 if weights is None else weights[c].double()
            if one < 0:
                losses.append(torch.zeros((), dtype=torch.float64))
            elif "dice" in other:
                losses.append((weight if one else 1.0) * dice(p, one, *other["dice"]))
            else:
                target = one * (1 - smoothing) + smoothing / 2
                hard = 1 - p if one else p
                losses.append(-(hard**gamma) * (weight * target * p.log() + (1 - target) * (1 - p).log()))
    return torch.stack(losses).view(gold.shape)


@every_criterion
@every_weight
def test_losses_of_class_numbers_and_their_gradient_are_the_definition(name: str, weights: Tensor | None) -> None:
    criterion, options = CRITERIA[name]
    scores = (torch.randn(9, 4) * 3).requires_grad_()
    ours, theirs = criterion(scores, LABELS, weights), reference_softmax(scores, LABELS, weights, **options)
    assert ours.dtype == torch.float32 and ours.shape == (9,)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    found, expected = (torch.autograd.grad(loss.sum(), scores)[0] for loss in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not found[LABELS == -100].any()
    shaped = criterion(scores.view(3, 3, 4), LABELS.view(3, 3), weights)  # words in texts
    torch.testing.assert_close(shaped, ours.view(3, 3), rtol=1e-6, atol=1e-7)


@every_criterion
@every_weight
def test_losses_of_decisions_and_their_gradient_are_the_definition(name: str, weights: Tensor | None) -> None:
    criterion, options = CRITERIA[name]
    scores = (torch.randn(9, 4) * 3).requires_grad_()
    gold = torch.randint(2, (9, 4)).float()
    gold[3] = -100
    ours, theirs = criterion(scores, gold, weights), reference_binary(scores, gold, weights, **options)
    assert ours.dtype == torch.float32 and ours.shape == (9, 4)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    found, expected = (torch.autograd.grad(loss.sum(), scores)[0] for loss in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not found[3].any()


def test_smoothing_and_weights_mean_what_they_mean_in_torch() -> None:
    scores, labels = torch.randn(6, 4), torch.tensor([3, 0, -100, 1, 1, 2])
    for smoothing, criterion in ((0.0, cross_entropy), (0.2, LabelSmoothing(0.2))):
        expected = F.cross_entropy(scores, labels, WEIGHTS, reduction="sum", label_smoothing=smoothing)
        torch.testing.assert_close(criterion(scores, labels, WEIGHTS).sum(), expected)
    gold = torch.randint(2, (6, 4)).float()
    expected = F.binary_cross_entropy_with_logits(scores, gold, pos_weight=WEIGHTS, reduction="none")
    torch.testing.assert_close(cross_entropy(scores, gold, WEIGHTS), expected)


def test_a_smoothed_loss_is_least_at_the_smoothed_target() -> None:
    """Closed form: p = q, so scores = log q, where the loss is the entropy of q."""
    q = torch.tensor([[0.1 / 4, 0.9 + 0.1 / 4, 0.1 / 4, 0.1 / 4]])
    scores = q.log().requires_grad_()
    loss = LabelSmoothing(0.1)(scores, torch.tensor([1]))
    assert loss.item() == pytest.approx(-(q * q.log()).sum().item(), rel=1e-5)
    assert torch.autograd.grad(loss, scores)[0].abs().max() < 1e-6

    scores = torch.tensor([[math.log(0.95 / 0.05), -math.log(0.95 / 0.05)]], requires_grad=True)
    loss = LabelSmoothing(0.1)(scores, torch.tensor([[1, 0]]))
    assert torch.autograd.grad(loss.sum(), scores)[0].abs().max() < 1e-6


@given(x=st.floats(-8, 8), gamma=st.sampled_from([0.5, 1.0, 2.0, 5.0]), gold=st.integers(0, 1))
def test_the_derivative_of_the_focal_loss_is_the_papers(x: float, gamma: float, gold: int) -> None:
    """Lin et al. 2017, appendix B: y (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1) with y = 1 or -1."""
    scores = torch.tensor([[x]], requires_grad=True)
    loss = Focal(gamma)(scores, torch.tensor([[gold]])).sum()
    y = 2 * gold - 1
    p = 1 / (1 + math.exp(-y * x))
    expected = y * (1 - p) ** gamma * (gamma * p * math.log(p) + p - 1)
    assert torch.autograd.grad(loss, scores)[0].item() == pytest.approx(expected, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("criterion", [Focal(0.0), Focal(0.3), Focal(2.0), Dice(0.3), Dice(1.0), GHM()])
@pytest.mark.parametrize("size", [1.0, 20.0, 100.0, 1e4])
def test_sure_items_have_finite_gradients(criterion: Any, size: float) -> None:
    """fp32 rounds their probability to 1, where (1 - p)^0.3 has no derivative."""
    scores = torch.tensor([[size, 0.0], [size, 0.0], [-size, size]], requires_grad=True)
    loss = criterion(scores, torch.tensor([0, 1, -100])).sum()
    loss = loss + criterion(scores, torch.tensor([[1, 0], [0, 0], [0, 1]])).sum()
    assert loss.isfinite() and torch.autograd.grad(loss, scores)[0].isfinite().all()


@every_criterion
def test_half_precision_scores_give_fp32_losses(name: str) -> None:
    criterion, scores = CRITERIA[name][0], torch.randn(5, 4).bfloat16()
    for gold in (torch.arange(5) % 4, torch.randint(2, (5, 4))):
        exact = criterion(scores.float(), gold, WEIGHTS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(criterion(scores, gold, WEIGHTS), exact, rtol=0, atol=0)


@pytest.mark.parametrize("momentum", [0.0, 0.75])
@pytest.mark.parametrize("decisions", [False, True])
def test_ghm_is_the_papers_count_of_gradients_bin_by_bin(momentum: float, decisions: bool) -> None:
    """Li et al. 2019 with unit regions as bins: the weight of an item is N / (R * M)."""
    ghm, bins, running = GHM(5, momentum), 5, [0.0] * 5
    for batch in range(3):
        scores = torch.randn(7, 4) * 2
        gold = torch.randint(2, (7, 4)) if decisions else torch.tensor([0, 1, 2, 3, -100, 1, 0])
        plain = cross_entropy(scores, gold).flatten().tolist()
        right = (scores.sigmoid() - (1 - gold)).abs() if decisions else scores.softmax(1)[range(7), gold.clamp(min=0)]
        lengths = [1 - p for p in right.flatten().tolist()]
        known = [g >= 0 for g in gold.flatten().tolist()]
        counts = [sum(k and int(g * bins) == b for g, k in zip(lengths, known, strict=True)) for b in range(bins)]
        running = [momentum * old + (1 - momentum) * new if batch else new
                   for old, new in zip(running, counts, strict=True)]  # fmt: skip
        total = sum(running)
        expected = [
            total / (running[int(g * bins)] * bins) * loss if k else 0.0
            for g, k, loss in zip(lengths, known, plain, strict=True)
        ]
        torch.testing.assert_close(ghm(scores, gold).flatten(), torch.tensor(expected), rtol=1e-4, atol=1e-6)
    again = GHM(5, momentum)
    again.load_state_dict(ghm.state_dict())
    torch.testing.assert_close(again(scores, gold), ghm(scores, gold), rtol=0, atol=0)


@pytest.mark.parametrize(("build", "options"), [
    (LabelSmoothing, {"amount": 1.0}), (LabelSmoothing, {"amount": -0.1}), (LabelSmoothing, {"amount": math.nan}),
    (Focal, {"gamma": -1.0}), (Focal, {"gamma": math.nan}), (Dice, {"alpha": -1.0}), (Dice, {"gamma": 0.0}),
    (GHM, {"bins": 0}), (GHM, {"momentum": 1.0}),
])  # fmt: skip
def test_wrong_amounts(build: Any, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        build(**options)


def test_divergence_is_torchs_and_minus_infinity_stays_out() -> None:
    scores, others = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    known = torch.tensor([[True, True, False], [True, False, False]])
    p, q = scores.log_softmax(-1)[known], others.log_softmax(-1)[known]
    expected = F.kl_div(q, p, reduction="sum", log_target=True)
    torch.testing.assert_close(kl_divergence(scores, others, known), expected)
    both = [torch.cat([s, torch.full((2, 3, 1), -math.inf)], -1).requires_grad_() for s in (scores, others)]
    apart = kl_divergence(both[0], both[1], known)
    torch.testing.assert_close(apart, expected)
    for gradient in torch.autograd.grad(apart, both):
        assert gradient.isfinite().all() and not gradient[..., -1].any()


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
