"""model_utils/scores/classification.py against counting by hand, scikit-learn and seqeval."""

import json
import random
import warnings
from collections import Counter

import pytest
import seqeval.metrics
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import IOB2

from model_utils.scores.classification import calibration, class_report, confusions, entity_report, flatten

PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abc")), min_size=1, max_size=30)


def divide(part, whole):
    return part / whole if whole else 0.0


def figures_by_hand(pairs, label):
    """pairs: (reference, prediction)."""
    hit, predicted = pairs.count((label, label)), sum(p == label for _, p in pairs)
    support = sum(r == label for r, _ in pairs)
    f1 = divide(2 * hit, predicted + support)
    return {"precision": divide(hit, predicted), "recall": divide(hit, support), "f1": f1, "support": support}


@given(PAIRS)
def test_class_report_is_what_counting_gives(pairs):
    references, predictions = map(list, zip(*pairs, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = class_report(predictions, references)
    expected = {label: figures_by_hand(pairs, label) for label in sorted({*references, *predictions})}
    assert list(report["classes"]) == list(expected)
    for label, figures in expected.items():
        assert report["classes"][label] == pytest.approx(figures)
    accuracy = sum(r == p for r, p in pairs) / len(pairs)
    assert report["micro"] == pytest.approx(
        {"precision": accuracy, "recall": accuracy, "f1": accuracy, "support": len(pairs)}
    )
    for average, weights in (("macro", {}), ("weighted", Counter(references))):
        for name in ("precision", "recall", "f1"):
            total = sum(figures[name] * (weights[label] if weights else 1) for label, figures in expected.items())
            assert report[average][name] == pytest.approx(total / (len(pairs) if weights else len(expected)))
        assert report[average]["support"] == len(pairs)
    assert json.loads(json.dumps(report)) == report


def test_labels_give_the_order_and_leave_out_what_only_stands_for_lost_words():
    predictions, references = ["O", "c", "b", "b"], ["a", "c", "b", "new"]
    assert list(class_report(predictions, references)["classes"]) == ["O", "a", "b", "c", "new"]
    report = class_report(predictions, references, labels=["c", "b", "a", "unused"])
    assert list(report["classes"]) == ["c", "b", "a", "new"]
    # 4 references, 3 predictions with a row, of which 2 are right; F1 of c, b, a, new: 1, 2/3, 0, 0
    assert report["micro"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 4, "f1": 4 / 7, "support": 4})
    assert report["macro"]["f1"] == pytest.approx((1 + 2 / 3) / 4)
    assert confusions(predictions, references, labels=["c", "b"])["labels"] == ["c", "b", "O", "a", "new"]


@given(PAIRS)
def test_confusions_are_those_of_sklearn(pairs):
    pairs = [*pairs, ("a", "b")]
    references, predictions = map(list, zip(*pairs, strict=True))
    found = confusions(predictions, references)
    assert found["labels"] == sorted({*references, *predictions})
    assert found["matrix"] == sklearn.metrics.confusion_matrix(references, predictions).tolist()
    mistakes = [(entry["reference"], entry["prediction"], entry["count"]) for entry in found["largest"]]
    assert sorted(mistakes) == sorted({(*pair, pairs.count(pair)) for pair in pairs if pair[0] != pair[1]})
    sizes = [count for *_, count in mistakes]
    assert sizes == sorted(sizes, reverse=True)
    assert json.loads(json.dumps(found)) == found


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40), st.sampled_from([1, 4, 5, 10]))
def test_calibration_is_the_sum_over_bins(items, num_bins):
    """Confidences are twentieths: which bin they are in is decided in integers, many lie on a border."""
    found = calibration([sure / 20 for sure, _ in items], [right for _, right in items], num_bins)
    ece = 0.0
    for number, line in enumerate(found["bins"]):
        low, high = 20 * number, 20 * (number + 1)
        inside = [item for item in items if low < item[0] * num_bins <= high or (number == item[0] == 0)]
        assert (line["low"], line["high"], line["count"]) == (number / num_bins, (number + 1) / num_bins, len(inside))
        if not inside:
            assert line["confidence"] is line["accuracy"] is None
            continue
        confidence = sum(sure for sure, _ in inside) / 20 / len(inside)
        accuracy = sum(right for _, right in inside) / len(inside)
        assert (line["confidence"], line["accuracy"]) == pytest.approx((confidence, accuracy))
        ece += len(inside) / len(items) * abs(accuracy - confidence)
    assert found["ece"] == pytest.approx(ece, abs=1e-12)
    assert len(found["bins"]) == num_bins and json.loads(json.dumps(found)) == found


def test_calibration_by_hand():
    """0.95 and 0.85 right, 0.55 and 0.45 wrong, in two halves: |1/3 - 2.35/3| * 3/4 ..., and 0.45 alone."""
    found = calibration([0.95, 0.85, 0.55, 0.45], [True, True, False, False], num_bins=2)
    assert found["ece"] == pytest.approx(abs(2 - 2.35) / 4 + 0.45 / 4)
    assert calibration([1.0 + 1e-7, 0.0], [True, False])["ece"] == pytest.approx(0, abs=1e-6)
    assert len(calibration([0.5], [True])["bins"]) == 15


TAGS = ["O", "O", "B-x", "I-x", "B-y", "I-y"]


@pytest.mark.parametrize("seed", range(5))
def test_entity_report_is_that_of_seqeval_strict(seed):
    chance = random.Random(seed)
    references = [chance.choices(TAGS, k=chance.randint(0, 9)) for _ in range(30)]
    predictions = [[tag if chance.random() < 0.8 else chance.choice(TAGS) for tag in tags] for tags in references]
    report = entity_report(predictions, references)
    for average in ("micro", "macro", "weighted"):
        for name in ("precision", "recall", "f1"):
            score = getattr(seqeval.metrics, f"{name}_score")
            options = {"average": average, "mode": "strict", "scheme": IOB2, "zero_division": 0}
            assert report[average][name] == pytest.approx(float(score(references, predictions, **options)))
    assert set(report["classes"]) == {"x", "y"} and json.loads(json.dumps(report)) == report


def test_entity_report_by_hand():
    references = [["B-x", "I-x", "O", "B-y"], ["I-x", "O", "B-x"]]
    predictions = [["B-x", "I-x", "O", "B-x"], ["O", "O", "B-x"]]
    # gold: x 0-1, y 3, x 2 (I-x after nothing is none); found: x 0-1, x 3, x 2
    report = entity_report(predictions, references)
    assert report["classes"] == {
        "x": pytest.approx({"precision": 2 / 3, "recall": 1, "f1": 0.8, "support": 2}),
        "y": {"precision": 0, "recall": 0, "f1": 0, "support": 1},
    }
    assert report["micro"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3})
    assert report["macro"]["f1"] == pytest.approx(0.4) and report["weighted"]["f1"] == pytest.approx(0.8 * 2 / 3)
    assert entity_report([["B-x"]], [["O"]])["classes"]["x"]["support"] == 0
    zero = {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    nothing = {"classes": {}, "micro": zero, "macro": zero, "weighted": zero}
    assert entity_report([["O", "I-x"], []], [["O", "O"], []]) == nothing


def test_words_are_flattened_record_by_record():
    predictions, references = [["a", "b"], [], ["c"]], [["a", "c"], [], ["c"]]
    assert flatten(predictions, references) == [["a", "b", "c"], ["a", "c", "c"]]
    accuracy = sklearn.metrics.accuracy_score(*flatten(references, predictions))
    assert class_report(*flatten(predictions, references))["micro"]["f1"] == pytest.approx(accuracy) == 2 / 3


@pytest.mark.parametrize(("function", "arguments", "message"), [
    (class_report, (["a"], ["a", "b"]), "found 1 and 2"), (confusions, ([], []), "found 0"),
    (calibration, ([0.5], [True, False]), "found 1 and 2"), (calibration, ([1.5], [True]), "from 0 to 1"),
    (calibration, ([float("nan")], [True]), "not a number"), (calibration, ([-0.1], [True]), "from 0 to 1"),
    (entity_report, ([["O"], ["O", "O"]], [["O"], ["O"]]), "record 2: one value per word, found 1 and 2"),
])  # fmt: skip
def test_what_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
