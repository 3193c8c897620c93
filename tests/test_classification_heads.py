"""The heads for one decision per record: options of sequence classification, many labels, a number, a choice.

Losses are held against torch's own, scores against scikit-learn and counts by hand. Letters: B records, R inputs,
T sub-words, H hidden size, C classes, K choices.
"""

import math
from typing import Any

import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer
from torch import Tensor
from torch.nn import functional as F

from data_loader.collate import Collator, blank
from data_process.labels import LabelVocab
from data_process.levels import multi_label
from model_utils.heads.multi_label_classification import Head as MultiLabelHead
from model_utils.heads.multiple_choice import Head as ChoiceHead
from model_utils.heads.sequence_classification import Head as SequenceHead
from model_utils.heads.sequence_regression import Head as RegressionHead
from model_utils.pooling import POOLING, pool
from trainer.metrics import tune
from trainer.prediction import Predictions
from tricks.focal import Focal
from tricks.label_smoothing import LabelSmoothing

HIDDEN = 6
LABELS = ["a", "b", "c"]


# --------------------------------------------------------------------------------------- sequence classification


def test_sequence_options_change_the_loss_as_torchs_do() -> None:
    logits, labels = torch.randn(6, 3) * 2, torch.tensor([0, 1, 2, -100, 1, 0])
    head = SequenceHead(HIDDEN, LABELS, class_weights={"c": 4.0, "a": 0.5})
    head.criterion = LabelSmoothing(0.1)
    for smoothing, mode in ((0.1, True), (0.0, False)):  # evaluation has the plain loss
        expected = F.cross_entropy(
            logits, labels, torch.tensor([0.5, 1.0, 4.0]), reduction="sum", label_smoothing=smoothing
        )
        torch.testing.assert_close(head.train(mode).loss(logits, labels, {}), expected)
    assert head.num_items(labels).item() == 5  # records, not their weights: micro-batches must add up

    head = SequenceHead(HIDDEN, LABELS, class_weights="balanced")
    head.criterion = Focal(2.0)
    head.class_weights.balance({"a": 6, "b": 3, "c": 1}, 10)
    p = logits.double().softmax(1)
    known = [(b, gold) for b, gold in enumerate(labels.tolist()) if gold != -100]
    weight = [10 / 18, 10 / 9, 10 / 3]
    focal = -sum(weight[gold] * (1 - p[b, gold]) ** 2 * p[b, gold].log() for b, gold in known)
    assert head.loss(logits, labels, {}).item() == pytest.approx(float(focal), rel=1e-5)


# ---------------------------------------------------------------------------------- multi-label classification


def multi_labels(golds: list[list[str] | None]) -> Tensor:
    """(B, L) as the data side makes it; None = the gold labels are unknown."""
    vocab = LabelVocab(LABELS)
    labels = [{} if gold is None else {"t": multi_label.encode(gold, vocab, {})} for gold in golds]
    features = [{"sample_id": n, "input_ids": [2, 3], "labels": each} for n, each in enumerate(labels)]
    return Collator(0, {"t": "multi_label"})(features)["labels"]["t"]


def test_no_labels_are_gold_and_unknown_ones_are_not() -> None:
    head = MultiLabelHead(HIDDEN, LABELS)
    labels = multi_labels([["c", "a"], [], None, ["b", "unseen in training"]])
    assert labels.tolist() == [[-1, 2, 0], [-1, -100, -100], [-100, -100, -100], [-1, 1, -100]]
    assert head.multi_hot(labels).tolist() == [[1, 0, 1], [0, 0, 0], [-100] * 3, [0, 1, 0]]
    assert head.num_items(labels).item() == 3
    logits = torch.randn(4, 3, requires_grad=True)
    loss = head.loss(logits, labels, {})
    known, gold = [0, 1, 3], torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])
    expected = F.binary_cross_entropy_with_logits(logits[known], gold, reduction="sum") / 3
    torch.testing.assert_close(loss, expected)
    gradient = torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
    assert not gradient[2].any() and gradient[1].all()


def test_a_stand_in_of_many_labels_has_none() -> None:
    feature = {"sample_id": 0, "input_ids": [2, 3], "labels": {"t": [-1, 0, 2]}}
    labels = Collator(0, {"t": "multi_label"})([blank(feature)])["labels"]["t"]
    head = MultiLabelHead(HIDDEN, LABELS)
    logits = torch.randn(1, 3, requires_grad=True)
    loss = head.loss(logits, labels, {})
    assert head.num_items(labels).item() == 0 and loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_multi_label_options_change_the_loss_as_torchs_do() -> None:
    logits, labels = torch.randn(3, 3) * 2, multi_labels([["c"], None, ["a", "b"]])
    gold = torch.tensor([[0.0, 0, 1], [1, 1, 0]])
    known = logits[[0, 2]]
    head = MultiLabelHead(HIDDEN, LABELS, class_weights={"b": 3.0})
    expected = F.binary_cross_entropy_with_logits(known, gold, pos_weight=torch.tensor([1.0, 3, 1]), reduction="sum")
    torch.testing.assert_close(head.loss(logits, labels, {}), expected / 3)

    head = MultiLabelHead(HIDDEN, LABELS, class_weights="balanced")
    head.criterion = LabelSmoothing(0.2)
    head.class_weights.balance({"a": 5, "b": 10, "c": 2}, 10)
    positive = torch.tensor([1.0, 1.0, 4.0])  # b is everywhere
    expected = F.binary_cross_entropy_with_logits(known, 0.8 * gold + 0.1, pos_weight=positive, reduction="sum")
    torch.testing.assert_close(head.loss(logits, labels, {}), expected / 3)

    head = MultiLabelHead(HIDDEN, LABELS)
    head.criterion = Focal(2.0)
    p = torch.where(gold > 0, known.double().sigmoid(), 1 - known.double().sigmoid())
    expected = -((1 - p) ** 2 * p.log()).sum() / 3
    torch.testing.assert_close(head.loss(logits, labels, {}).double(), expected, rtol=1e-5, atol=0)


def test_multi_label_decodes_what_reaches_its_threshold() -> None:
    head = MultiLabelHead(HIDDEN, ["b", "c", "a"], threshold=0.5)
    logits = torch.tensor([[0.0, -0.1, 2.0], [-3.0, -3.0, -3.0]])
    assert head.decode(logits, {}) == [["a", "b"], []]  # sorted, as gold labels are
    expected = [[1 / (1 + math.exp(-x)) for x in row] for row in logits.tolist()]
    for found, row in zip(head.confidences(logits, {}), expected, strict=True):
        assert found == pytest.approx(row, rel=1e-5)
    head.thresholds.copy_(torch.tensor([0.6, 0.4, 0.9]))
    assert head.decode(logits, {}) == [["c"], []]
    assert MultiLabelHead(HIDDEN, LABELS, threshold=0.04).decode(logits[1:], {}) == [["a", "b", "c"]]


@pytest.mark.parametrize("threshold", [-0.1, 1.5, math.nan])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(ValueError, match=f"^threshold must be a probability, found {threshold}$"):
        MultiLabelHead(HIDDEN, LABELS, threshold=threshold)


def test_multi_label_scores_counted_by_hand() -> None:
    head = MultiLabelHead(HIDDEN, LABELS)
    predicted = [["a"], ["a", "b"], [], ["b"]]
    gold = [["a"], ["a", "new"], [], ["a"]]
    # right: a 2; predicted: a 2, b 2; gold: a 3, new 1, which can only be missed. Classes: a, b, c, new
    assert head.score(predicted, gold) == pytest.approx({
        "micro_f1": 2 * 2 / (4 + 4), "macro_f1": (4 / 5 + 0 + 0) / 3, "exact_match": 2 / 4, "hamming_loss": 4 / (4 * 4),
    })  # fmt: skip
    assert {type(value) for value in head.score(predicted, gold).values()} == {float}
    nothing: list[list[str]] = [[], []]
    assert head.score(nothing, nothing) == {"micro_f1": 0.0, "macro_f1": 0.0, "exact_match": 1.0, "hamming_loss": 0.0}


SETS = st.lists(st.sampled_from([*LABELS, "new"]), unique=True)


@settings(max_examples=40)
@given(st.lists(st.tuples(SETS.map(lambda x: sorted({*x} - {"new"})), SETS.map(sorted)), min_size=1, max_size=12))
def test_multi_label_scores_equal_scikit_learns(pairs: list[tuple[list[str], list[str]]]) -> None:
    predicted, gold = [p for p, _ in pairs], [g for _, g in pairs]
    found = MultiLabelHead(HIDDEN, LABELS).score(predicted, gold)
    classes = sorted({*LABELS, *(label for labels in gold for label in labels)})
    binarizer = MultiLabelBinarizer(classes=classes).fit(gold)
    ones, twos = binarizer.transform(gold), binarizer.transform(predicted)
    occurring = [n for n in range(ones.shape[1]) if ones[:, n].any() or twos[:, n].any()]
    options = {"zero_division": 0, "labels": occurring}
    macro = sklearn.metrics.f1_score(ones, twos, average="macro", **options) if occurring else 0.0
    assert found == pytest.approx({
        "micro_f1": sklearn.metrics.f1_score(ones, twos, average="micro", zero_division=0), "macro_f1": macro,
        "exact_match": sklearn.metrics.accuracy_score(ones, twos),
        "hamming_loss": sklearn.metrics.hamming_loss(ones, twos),
    })  # fmt: skip


def test_a_single_label_scores_its_presence() -> None:
    """scikit-learn takes one column for a choice of 0 and 1, and its micro F1 is then the accuracy."""
    head = MultiLabelHead(HIDDEN, ["toxic"])
    nothing: list[list[str]] = [[], [], [], []]
    gold = [["toxic"], *nothing[1:]]
    expected = {"micro_f1": 0.0, "macro_f1": 0.0, "exact_match": 0.75, "hamming_loss": 0.25}
    assert head.score(nothing, gold) == expected
    assert head.score(gold, gold) == {"micro_f1": 1.0, "macro_f1": 1.0, "exact_match": 1.0, "hamming_loss": 0.0}


def test_tuned_thresholds_decide_better_and_a_class_without_positives_keeps_its_own() -> None:
    head = MultiLabelHead(HIDDEN, LABELS, search_thresholds="per_class")
    logits = torch.tensor([[-2.0, 1.0, 3.0], [-1.0, 2.0, -3.0], [-3.0, 0.5, -3.0], [-1.5, -1.0, -3.0]])
    gold = [["a", "b"], ["a", "b"], [], ["a"]]
    sure = head.confidences(logits, {})
    before = head.score(head.decode(logits, {}), gold)
    assert before["micro_f1"] == pytest.approx(2 * 2 / (4 + 5))
    head.tune(sure, gold)
    after = head.decode(logits, {})
    assert after == [head.decide(row) for row in sure] == [["a", "b", "c"], ["a", "b"], [], ["a"]]
    a, b, c = head.thresholds.tolist()
    assert sure[2][0] < a < sure[0][0] and sure[2][1] < b < sure[0][1] and c == 0.5
    assert head.score(after, gold)["micro_f1"] == pytest.approx(2 * 5 / (6 + 5))
    assert head.tunes and not MultiLabelHead(HIDDEN, LABELS).tunes


def test_a_data_set_without_gold_tunes_nothing() -> None:
    head = MultiLabelHead(HIDDEN, LABELS, search_thresholds="global")
    result = Predictions([0, 1], {"t": [["c"], None]}, {"t": [[0.9, 0.5, 0.1], None]})
    tune({"t": head}, result, {"t": [None, None]})
    assert head.thresholds.tolist() == [0.5] * 3 and result.labels == {"t": [["a", "b"], None]}


def test_a_report_of_many_labels_has_a_row_for_each() -> None:
    head = MultiLabelHead(HIDDEN, LABELS, threshold=0.25)
    predicted, gold = [["a"], ["a", "b"], []], [["a"], ["new"], ["a"]]
    report = head.report(predicted, gold, [[0.9, 0.2, 0.1], [0.6, 0.8, 0.1], [0.1, 0.1, 0.1]])
    assert report["classes"] == {
        "a": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2, "threshold": 0.25},
        "b": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0, "threshold": 0.25},
        "c": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0, "threshold": 0.25},
    }
    # bins of a fifteenth: (0.1, 5 times, 1 gold), (0.2, none), (0.6, none), (0.8, none), (0.9, gold)
    assert report["calibration"]["ece"] == pytest.approx((abs(1 - 0.5) + 0.2 + 0.6 + 0.8 + 0.1) / 9)


# ------------------------------------------------------------------------------------------- sequence regression


@pytest.mark.parametrize(
    ("name", "reference"), [("mse", F.mse_loss), ("l1", F.l1_loss), ("smooth_l1", F.smooth_l1_loss)]
)
def test_regression_loss_is_torchs_over_the_known_numbers(name: str, reference: Any) -> None:
    head = RegressionHead(HIDDEN, loss=name)
    numbers = (torch.randn(5) * 2).requires_grad_()
    labels = torch.tensor([0.5, math.nan, -3.0, 2.0, math.nan])
    known = [0, 2, 3]
    loss, expected = head.loss(numbers, labels, {}), reference(numbers[known], labels[known], reduction="sum")
    torch.testing.assert_close(loss, expected)
    assert head.num_items(labels).item() == 3
    ours, theirs = (torch.autograd.grad(x, numbers)[0] for x in (loss, expected))
    torch.testing.assert_close(ours, theirs)
    assert not ours[[1, 4]].any()
    nothing = head.loss(numbers, torch.full((5,), math.nan), {})
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, numbers)[0].any()


@pytest.mark.parametrize("how", POOLING)
@pytest.mark.parametrize("limits", [None, (-1.0, 3.0)])
def test_regression_is_linear_or_a_sigmoid_between_its_limits(how: str, limits: tuple[float, float] | None) -> None:
    head = RegressionHead(HIDDEN, pooling=how, limits=limits).eval()
    layers = [torch.randn(2, 4, HIDDEN) * 5 for _ in range(3)]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    expected = pool(layers, mask, how) @ head.regressor.weight[0] + head.regressor.bias
    if limits:
        expected = -1.0 + 4.0 / (1 + (-expected).exp())
    numbers = head(layers, {"attention_mask": mask})
    torch.testing.assert_close(numbers, expected)
    assert head.decode(numbers, {}) == numbers.tolist() and head.confidences(numbers, {}) == [None, None]
    assert head.all_layers == (how == "first_last_mean")


def test_regression_keeps_its_digits_under_autocast() -> None:
    head = RegressionHead(HIDDEN, pooling="mean").eval()
    with torch.no_grad():
        head.regressor.bias.fill_(1000.0)  # a price; bf16 knows 1000 and 1004
    layers, batch = [torch.randn(4, 3, HIDDEN)], {"attention_mask": torch.ones(4, 3)}
    exact = head(layers, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        numbers = head(layers, batch)
    assert numbers.dtype == torch.float32 and len(set(numbers.tolist())) == 4
    torch.testing.assert_close(numbers, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("options", "message"), [
    ({"loss": "huber"}, "unknown loss 'huber'; there are mse, l1, smooth_l1"),
    ({"limits": [5, 0]}, r"limits must be the lowest and the highest number, found \[5, 0\]"),
    ({"limits": [0, 0]}, r"limits must be the lowest and the highest number, found \[0, 0\]"),
    ({"limits": [0, math.nan]}, r"limits must be the lowest and the highest number, found \[0, nan\]"),
    ({"limits": [0, 1, 2]}, r"limits must be the lowest and the highest number, found \[0, 1, 2\]"),
    ({"limits": [1]}, r"limits must be the lowest and the highest number, found \[1\]"),
    ({"limits": [0, math.inf]}, r"limits must be the lowest and the highest number, found \[0, inf\]"),
])  # fmt: skip
def test_wrong_regressions(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        RegressionHead(HIDDEN, **options)


def test_regression_scores() -> None:
    head = RegressionHead(HIDDEN)
    predicted, gold = [1.0, 2.0, 4.0], [1.0, 3.0, 2.0]
    # ranks 1 2 3 and 1 3 2: rho = 1 - 6 * 2 / (3 * 8); deviations (-4/3, -1/3, 5/3) and (-1, 1, 0)
    assert head.score(predicted, gold) == pytest.approx({
        "spearman": 0.5, "pearson": 1 / math.sqrt(42 / 9 * 2), "mse": 5 / 3, "mae": 1.0,
    })  # fmt: skip
    assert {type(value) for value in head.score(predicted, gold).values()} == {float}


# ----------------------------------------------------------------------------------------------- multiple choice


def choice_batch(counts: list[int], labels: list[int | None]) -> dict[str, Any]:
    """Records of so many choices, of 3 to 7 sub-words each."""
    features: list[dict[str, Any]] = []
    for number, (count, label) in enumerate(zip(counts, labels, strict=True)):
        lengths = torch.randint(3, 8, (count,)).tolist()
        gold = {} if label is None else {"t": label}
        features.append({"sample_id": number, "input_ids": [5] * sum(lengths), "row_lengths": lengths, "labels": gold})
    return Collator(0, {"t": "choice"})(features)


@pytest.mark.parametrize("how", POOLING)
def test_choices_are_scored_as_each_one_alone(how: str) -> None:
    head = ChoiceHead(HIDDEN, pooling=how).eval()
    counts = [2, 4, 3]
    batch = choice_batch(counts, [0, 1, 2])
    layers = [torch.randn(*batch["input_ids"].shape, HIDDEN) for _ in range(2)]
    logits = head(layers, batch)
    assert logits.shape == (3, 4)
    row = 0
    for b, count in enumerate(counts):
        for k in range(4):
            if k >= count:
                assert logits[b, k] == -math.inf
                continue
            alone = {"attention_mask": batch["attention_mask"][row : row + 1], "input_mask": torch.tensor([[True]])}
            expected = head([layer[row : row + 1] for layer in layers], alone)
            torch.testing.assert_close(logits[b, k], expected[0, 0])
            row += 1
    assert row == len(batch["input_ids"]) and head.all_layers == (how == "first_last_mean")


def test_choice_loss_is_a_cross_entropy_over_the_choices_that_there_are() -> None:
    head = ChoiceHead(HIDDEN).eval()
    counts, labels = [2, 4, 3, 2], [1, 3, None, 0]
    batch = choice_batch(counts, labels)
    hidden = torch.randn(*batch["input_ids"].shape, HIDDEN, requires_grad=True)
    loss = head.loss(head([hidden], batch), batch["labels"]["t"], batch)
    first = [0, 2, 6, 9]
    expected = torch.zeros(())
    for b, gold in enumerate(labels):
        if gold is not None:
            scores = hidden[first[b] : first[b] + counts[b], 0] @ head.scorer.weight[0] + head.scorer.bias
            expected = expected - (scores[gold].exp() / scores.exp().sum()).log()
    torch.testing.assert_close(loss, expected)
    assert head.num_items(batch["labels"]["t"]).item() == 3
    ours, theirs = (torch.autograd.grad(x, hidden)[0] for x in (loss, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    assert not ours[6:9].any() and ours[:6, 0].all()


def test_choices_decode_to_a_choice_that_there_is() -> None:
    head = ChoiceHead(HIDDEN).eval()
    counts = [2, 4, 3] * 10
    batch = choice_batch(counts, [0] * 30)
    hidden = torch.randn(*batch["input_ids"].shape, HIDDEN)
    logits = head([hidden], batch)
    decoded, sure = head.decode(logits, batch), head.confidences(logits, batch)
    for b, count in enumerate(counts):
        p = (logits[b, :count].double().exp() / logits[b, :count].double().exp().sum()).tolist()
        assert decoded[b] == max(range(count), key=p.__getitem__)
        assert sure[b] == pytest.approx(max(p), rel=1e-5)
    assert {*decoded} == {0, 1, 2, 3}
    assert head.score([0, 1, 2, 2], [0, 1, 1, 3]) == {"accuracy": 0.5}


def test_scores_of_choices_are_fp32_under_autocast() -> None:
    head = ChoiceHead(HIDDEN).eval()
    batch = choice_batch([2, 3], [1, 2])
    hidden: Tensor = torch.randn(*batch["input_ids"].shape, HIDDEN, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head([hidden], batch)
        loss = head.loss(logits, batch["labels"]["t"], batch)
    assert logits.dtype == loss.dtype == torch.float32
    assert torch.autograd.grad(loss, hidden)[0].isfinite().all()
