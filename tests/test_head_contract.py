"""What model_utils/heads/__init__.py promises of every kind of head, in a small model and on collated batches.

A new kind gets its lines in CASES. Letters: B records, R inputs, T sub-words, W words.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from data_loader.collate import LEVELS, Collator, blank
from data_process.levels import level_of
from model_utils import heads
from model_utils.heads import gold_optional, head_class, head_kinds
from model_utils.multitask_model import MultiTaskModel, build_model
from trainer.prediction import record_losses

TAGS = ["O", "B-x", "I-x", "B-y", "I-y"]
NAMES = ["a", "b", "c"]
LABELS = {"sequence": NAMES, "multi_label": NAMES, "entities": NAMES, "word": TAGS}  # other levels have no names
VOCABULARY = 40


class Case(NamedTuple):
    kind: str
    options: Mapping[str, Any] = MappingProxyType({})
    windows: bool = False

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.kind}({options}){' windows' * self.windows}"


CASES = [
    Case("sequence_classification"),
    Case("sequence_classification", {"pooling": "mean", "class_weights": {"a": 3.0}}, True),
    Case("sequence_classification", {"pooling": "first_last_mean", "class_weights": "balanced", "criterion": "focal"}),
    Case("multi_label_classification", {"search_thresholds": "global"}),
    Case("multi_label_classification", {"pooling": "max", "class_weights": "balanced"}, True),
    Case("multi_label_classification", {"class_weights": {"b": 2.0}, "threshold": 0.3}),
    Case("sequence_regression", {"pooling": "mean"}),
    Case("sequence_regression", {"loss": "smooth_l1", "limits": [0, 5]}, True),
    Case("multiple_choice"),
    Case("multiple_choice", {"pooling": "mean"}),
    Case("word_tagging"),
    Case("word_tagging", {"decoder": "crf"}, True),
    Case("global_pointer", {"head_size": 8}),
    Case("global_pointer", {"head_size": 8}, True),
    Case("span_selection", {"max_answer_length": 3}),
    Case("span_selection", {"no_answer_margin": 0.5}, True),
    Case("sentence_embedding"),
    Case("sentence_embedding", {"objective": "cosent", "pooling": "cls"}),
    Case("sentence_embedding", {"objective": "cosine"}),
]
LANGUAGE_MODELS = {"text_generation"}  # its logits come from another model, see generation_model.py
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_kind = pytest.mark.parametrize("kind", head_kinds())


def test_every_kind_has_a_case() -> None:
    assert {case.kind for case in CASES} | LANGUAGE_MODELS == set(head_kinds())


def level(case: Case) -> str:
    return head_class(case.kind).LABEL_LEVEL


def compares_records(case: Case) -> bool:
    """Whether the loss of a record depends on the other ones, as that of in-batch negatives."""
    return heads.compares_records(case.kind, dict(case.options))


def features(case: Case, size: int = 6, seed: int = 0) -> list[dict[str, Any]]:
    """What an encoder makes of records; the gold label of the second one is unknown."""
    rng = np.random.default_rng(seed)
    kind_of_label, found = level(case), []
    for number in range(size):
        num_inputs = 1
        if kind_of_label == "choice" or case.windows:
            num_inputs = int(rng.integers(2, 5) if kind_of_label == "choice" else rng.integers(1, 4))
        elif kind_of_label == "pair":
            num_inputs = 2
        lengths = rng.integers(4, 9, num_inputs).tolist()
        rows = [[2, *rng.integers(5, VOCABULARY, length - 2).tolist(), 3] for length in lengths]
        feature: dict[str, Any] = {"sample_id": number, "input_ids": [token for row in rows for token in row]}
        feature["token_type_ids"] = [0] * len(feature["input_ids"])
        if kind_of_label in ("choice", "pair") or case.windows:
            feature["row_lengths"] = lengths
        if kind_of_label in ("word", "entities", "answer"):
            inside = [place for place, token in enumerate(feature["input_ids"]) if token >= 5]
            starts = sorted(rng.choice(inside, rng.integers(2, len(inside) + 1), replace=False).tolist())
            feature["word_starts"] = [0, *starts] if kind_of_label == "answer" else starts
        if kind_of_label in ("word", "entities"):
            feature["num_words"] = len(starts) + number % 2  # the last one of some was lost
        if kind_of_label == "answer":
            feature["char_starts"] = [0, *(3 * n for n in range(len(starts)))]
            feature["char_ends"] = [0, *(3 * n + 2 for n in range(len(starts)))]
        gold = gold_label(kind_of_label, rng, len(feature.get("word_starts", ())), num_inputs)
        found.append(feature | {"labels": {} if number == 1 else {"task": gold}})
    return found


def gold_label(kind_of_label: str, rng: np.random.Generator, num_places: int, num_inputs: int) -> Any:
    if kind_of_label in ("number", "pair"):
        return float(rng.random())
    if kind_of_label == "word":
        return rng.integers(0, 2, num_places).tolist()
    if kind_of_label == "answer":
        return sorted(rng.integers(1, num_places, 2).tolist()) if rng.random() < 0.7 else [0, 0]
    if kind_of_label == "multi_label":
        return [-1, *rng.choice(3, rng.integers(0, 4), replace=False).tolist()]
    if kind_of_label == "entities":
        spans = [sorted(rng.integers(0, num_places, 2).tolist()) for _ in range(rng.integers(0, 4))]
        return [(-1, -1, -1), *((int(rng.integers(3)), first, last) for first, last in spans)]
    return int(rng.integers(num_inputs if kind_of_label == "choice" else 3))


def collate(case: Case, rows: list[dict[str, Any]], pad_to_multiple_of: int = 1) -> dict[str, Any]:
    return Collator(0, {"task": level(case)}, pad_to_multiple_of)(rows)


def model_of(case: Case) -> MultiTaskModel:
    """In eval mode, so without dropout; with weights as large as trained ones."""
    torch.manual_seed(1)
    config = BertConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=64, initializer_range=0.3)  # fmt: skip
    task = {"name": "task", "kind": case.kind, "labels": LABELS.get(level(case), [])}
    model = build_model(BertModel(config), [task | dict(case.options)])
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if case.options.get("class_weights") == "balanced":
        model.heads["task"].class_weights.balance({"a": 5, "b": 2, "c": 1}, 8)
    return model.eval()


def summed(model: MultiTaskModel, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss as a sum, and its gradient."""
    model.zero_grad()
    loss = model(batch, {"task": 1}).loss
    assert loss is not None
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_alike(found: Any, expected: Any) -> None:
    """Equal but for the rounding of numbers."""
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    else:
        assert found == (pytest.approx(expected, rel=1e-3, abs=1e-5) if isinstance(expected, float) else expected)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Gradients that differ by rounding only, measured by the largest."""
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert found.keys() == expected.keys() and largest > 1e-3
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) < 1e-5 * largest, name


# -------------------------------------------------------------------------------------------------------- members

MEMBERS = {"MONITOR", "LOWER_IS_BETTER", "LABEL_LEVEL", "all_layers", "forward", "num_items", "loss", "decode",
           "confidences", "score"}  # fmt: skip
REFERENCES: dict[str, list[Any]] = {
    "sequence": ["a", "b", "a", "c"],
    "multi_label": [["a"], ["b", "c"], [], ["a", "b"]],
    "number": [1.0, 2.5, -3.0, 0.0],
    "pair": [0.0, 0.5, 1.0, 0.2],
    "choice": [0, 2, 1, 1],
    "word": [["O", "B-x", "I-x"], ["B-y", "O", "O"], ["O", "O", "B-x"], ["B-x", "I-x", "I-x"]],
    "entities": [[(0, 2, "a"), (1, 2, "b")], [], [(0, 1, "c")], [(0, 1, "b")]],
    "answer": [{"context": "the cat sat on it", "spans": [span]} for span in ((4, 7), (8, 11), (12, 17))]
    + [{"context": "no answer here", "spans": []}],
    "text": ["the cat sat on the mat", "a dog lay under it today", "he went home very late", "all of it was gone"],
}


@every_kind
def test_every_head_has_every_member(kind: str) -> None:
    cls = head_class(kind)
    head = cls(8, LABELS.get(cls.LABEL_LEVEL, []))
    assert {name for name in MEMBERS if not hasattr(head, name)} == set()
    assert cls.LABEL_LEVEL in LEVELS and level_of(cls.LABEL_LEVEL).__doc__
    assert isinstance(head.all_layers, bool) and isinstance(getattr(head, "EXACT", True), bool)
    assert isinstance(gold_optional(kind, {}), bool)
    documented = head_class.__globals__["__doc__"]
    optional = ("EXACT", "gold_optional", "compares_records", "divergence", "record_losses", "criterion", "report")
    for name in (*MEMBERS, *optional, "tunes"):
        assert f"\n    {name}" in documented


@every_kind
def test_perfect_predictions_have_perfect_scores(kind: str) -> None:
    cls = head_class(kind)
    if cls.LABEL_LEVEL == "text":
        pytest.importorskip("sacrebleu"), pytest.importorskip("rouge_score")
    head, references = cls(8, LABELS.get(cls.LABEL_LEVEL, [])), REFERENCES[cls.LABEL_LEVEL]
    perfect = [level_of(cls.LABEL_LEVEL).right(gold) for gold in references]
    scores = head.score(perfect, references)
    assert {type(value) for value in scores.values()} == {float}
    assert {cls.MONITOR, *cls.LOWER_IS_BETTER} <= set(scores)
    assert scores == pytest.approx({name: float(name not in cls.LOWER_IS_BETTER) for name in scores})
    others = head.score(perfect[1:] + perfect[:1], references)
    assert cls.MONITOR not in cls.LOWER_IS_BETTER and others[cls.MONITOR] < scores[cls.MONITOR] - 0.1
    assert all(others[name] > scores[name] for name in cls.LOWER_IS_BETTER)


@pytest.mark.parametrize("kind", [kind for kind in head_kinds() if hasattr(head_class(kind), "report")])
def test_a_report_agrees_with_the_scores(kind: str) -> None:
    cls = head_class(kind)
    head, references = cls(8, LABELS.get(cls.LABEL_LEVEL, [])), REFERENCES[cls.LABEL_LEVEL]
    perfect = [level_of(cls.LABEL_LEVEL).right(gold) for gold in references]
    for predictions in (perfect, [*perfect[:2], perfect[3], perfect[2]]):
        scores = head.score(predictions, references)
        report = head.report(predictions, references, confidences(head, predictions))
        json.dumps(report, allow_nan=False)
        if "micro" in report:
            name = "accuracy" if kind == "sequence_classification" else "f1"
            assert report["micro"]["f1"] == pytest.approx(scores[name])
        if "macro_f1" in scores:
            rows = report["classes"].values()
            assert sum(row["f1"] for row in rows) / len(rows) == pytest.approx(scores["macro_f1"])
        if "confusions" in report:
            matrix = report["confusions"]["matrix"]
            right = sum(matrix[n][n] for n in range(len(matrix)))
            assert right / sum(map(sum, matrix)) == pytest.approx(scores["accuracy"])
        if "accuracy" in scores:
            assert report["calibration"]["ece"] == pytest.approx(abs(scores["accuracy"] - 0.75))


def confidences(head: Any, predictions: list[Any]) -> list[Any]:
    """0.75 for every decision, in the form that the head's own have."""
    if head.LABEL_LEVEL == "multi_label":
        return [[0.75] * len(head.labels) for _ in predictions]
    if head.LABEL_LEVEL in ("word", "entities"):
        return [[0.75] * len(parts) for parts in predictions]
    return [0.75] * len(predictions)


# ----------------------------------------------------------------------------------------------------------- loss


@every_case
def test_the_loss_is_a_sum_over_the_records(case: Case) -> None:
    """Also however wide the batch is that a record is padded to."""
    model, rows = model_of(case), features(case)
    head = model.heads["task"]
    batch = collate(case, rows, pad_to_multiple_of=16)
    loss, gradient = summed(model, batch)
    assert loss.dtype == torch.float32 and loss.ndim == 0 and loss > 0
    items = head.num_items(batch["labels"]["task"])
    assert items.ndim == 0 and items > 0
    singles = [collate(case, [row]) for row in rows if row["labels"]]
    assert sum(head.num_items(single["labels"]["task"]) for single in singles) == items
    if compares_records(case):
        return
    parts = [summed(model, single) for single in singles]
    torch.testing.assert_close(loss, torch.stack([part for part, _ in parts]).sum(), rtol=1e-5, atol=0)
    assert_close({name: torch.stack([part[name] for _, part in parts]).sum(0) for name in gradient}, gradient)


@pytest.mark.parametrize("case", [case for case in CASES if hasattr(head_class(case.kind), "record_losses")], ids=str)
def test_record_losses_are_the_losses_of_each_record_alone(case: Case) -> None:
    """Also in a batch with others; NaN, and so None in predictions, where the gold label is unknown."""
    model, rows = model_of(case), features(case)
    batch = collate(case, [*rows, blank(rows[0])], pad_to_multiple_of=16)
    alone = [summed(model, collate(case, [row]))[0].item() if row["labels"] else None for row in rows]
    with torch.no_grad():
        found = record_losses(model.heads, model(batch), batch)["task"]
    assert found == [None if loss is None else pytest.approx(loss, rel=1e-5) for loss in [*alone, None]]
    assert len({*alone}) > 3


@every_case
def test_stand_ins_and_unknown_gold_add_nothing(case: Case) -> None:
    model, rows = model_of(case), features(case)
    head = model.heads["task"]
    more = [*rows, *(blank(row) for row in features(case, seed=3))]
    loss, gradient = summed(model, collate(case, rows))
    padded, padded_gradient = summed(model, collate(case, more))
    torch.testing.assert_close(padded, loss, rtol=1e-5, atol=0)
    assert_close(padded_gradient, gradient)

    batch = collate(case, more)
    counted = (head.num_items(collate(case, part)["labels"]["task"]) for part in (rows, more))
    assert len({int(number) for number in counted}) == 1
    output = model(batch, {"task": 1})
    (of_logits,) = torch.autograd.grad(output.loss, output.logits["task"])
    assert of_logits.isfinite().all() and not of_logits[len(rows) :].any() and not of_logits[1].any()

    nothing, gradient = summed(model, collate(case, [blank(row) for row in rows]))
    assert nothing.item() == 0 and not any(value.any() for value in gradient.values())


@every_case
def test_bf16_autocast_gives_a_finite_fp32_loss_near_that_of_fp32(case: Case) -> None:
    model, batch = model_of(case), collate(case, features(case))
    exact, _ = summed(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradient = summed(model, batch)
        decoded = model.heads["task"].decode(model(batch).logits["task"], batch)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(value.isfinite().all() for value in gradient.values())
    assert len(decoded) == len(batch["sample_id"])


@pytest.mark.parametrize("case", [case for case in CASES if hasattr(head_class(case.kind), "divergence")], ids=str)
def test_a_divergence_is_a_sum_over_the_records_with_gold_labels(case: Case) -> None:
    """0 from itself, above that from others, a gradient on both sides, and none of stand-ins and unknown gold."""
    model, rows = model_of(case), features(case)
    head, batch = model.heads["task"], collate(case, [*rows, blank(rows[0])])
    other = model_of(case)
    for parameter in other.parameters():
        parameter.data.mul_(1.1)

    def both(batch: dict[str, Any]) -> list[Tensor]:
        return [model_(batch).logits["task"].detach().requires_grad_() for model_ in (model, other)]

    logits = both(batch)
    labels = batch["labels"]["task"]
    assert head.divergence(logits[0], logits[0], labels).item() == pytest.approx(0.0, abs=1e-6)
    apart = head.divergence(*logits, labels)
    assert apart.ndim == 0 and apart.dtype == torch.float32 and apart > 1e-4
    for gradient in torch.autograd.grad(apart, logits):
        assert gradient.isfinite().all() and gradient.any()
        assert not gradient[len(rows) :].any() and not gradient[1].any()
    singles = [collate(case, [row]) for row in rows if row["labels"]]
    parts = [head.divergence(*both(single), single["labels"]["task"]) for single in singles]
    torch.testing.assert_close(apart.detach(), torch.stack(parts).sum().detach(), rtol=1e-4, atol=1e-6)


@every_case
def test_the_heads_run_again_on_the_same_hidden_states(case: Case) -> None:
    model, batch = model_of(case), collate(case, features(case))
    output = model(batch, {"task": 2})
    again = model.apply_heads(output.hidden_states, batch, {"task": 2})
    assert again.loss is not None and output.loss is not None and again.loss.item() == output.loss.item()
    assert torch.equal(again.logits["task"], output.logits["task"])


# ---------------------------------------------------------------------------------------------------- predictions


@every_case
def test_predictions_are_one_per_record_whatever_else_is_in_the_batch(case: Case) -> None:
    model, rows = model_of(case), features(case, size=8)
    head = model.heads["task"]

    def predicted(some: list[dict[str, Any]], multiple: int = 1) -> tuple[list[Any], list[Any]]:
        batch = collate(case, some, multiple)
        del batch["labels"]
        with torch.inference_mode():
            logits = model(batch).logits["task"]
            return head.decode(logits, batch), head.confidences(logits, batch)

    decoded, sure = predicted(rows, multiple=16)
    assert len(decoded) == len(sure) == 8 and len({str(prediction) for prediction in decoded}) > 1
    for number, row in enumerate(rows):
        assert_alike([decoded[number : number + 1], sure[number : number + 1]], list(predicted([row])))
    json.dumps([decoded, sure], allow_nan=False)
    for value in flat(sure):
        assert value is None or (type(value) is float and 0 <= value <= 1)


def flat(values: Any) -> list[Any]:
    return [leaf for value in values for leaf in flat(value)] if isinstance(values, list) else [values]


# --------------------------------------------------------------------------------------------------------- saving


@every_case
def test_saved_and_loaded_it_is_the_same_bit_for_bit(case: Case, tmp_path: Path) -> None:
    model, batch = model_of(case), collate(case, features(case))
    head = model.heads["task"]
    if hasattr(head, "thresholds"):
        head.thresholds.copy_(torch.tensor([0.2, 0.5, 0.7]))  # as searched
    model.save_pretrained(tmp_path)
    again = MultiTaskModel.from_pretrained(tmp_path)
    assert vars(again.heads["task"])["spec"] == head.spec
    copied = pickle.loads(pickle.dumps(head))
    for other in (again.heads["task"], copied):
        state = other.state_dict()
        assert state.keys() == head.state_dict().keys()
        assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())
    with torch.no_grad():
        ours, theirs = model(batch), again(batch)
    assert torch.equal(ours.loss, theirs.loss) and torch.equal(ours.logits["task"], theirs.logits["task"])
    for other in (again.heads["task"], copied):
        logits, gold = ours.logits["task"], batch["labels"]["task"]
        assert torch.equal(other.loss(logits, gold, batch), head.loss(logits, gold, batch))
        assert other.decode(logits, batch) == head.decode(logits, batch)
