"""Sequence classification and word tagging against independent references; how heads are found, built and listed.

Letters: B texts, T sub-words, W words, H hidden size, C classes or tags.
"""

import importlib
import inspect
import itertools
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import seqeval.metrics
import sklearn.metrics
import torch
import torchcrf
from seqeval.scheme import IOB2
from torch import Tensor
from torch.nn import functional as F

from data_loader.collate import Collator
from model_utils.crf import FORBIDDEN, allowed_transitions
from model_utils.encoder import ModelError
from model_utils.heads import build_head, head_class, head_kinds
from model_utils.heads.sequence_classification import Head as SequenceHead
from model_utils.heads.word_tagging import Head as WordHead
from model_utils.pooling import POOLING, pool

NAMED = ("sequence", "multi_label", "word", "entities")  # levels whose gold labels have names
TAGS = ["O", "B-x", "I-x", "B-y", "I-y"]
PARTS_OF_SPEECH = ["ADJ", "NOUN", "VERB"]
HIDDEN = 6
ROOM = Path(__file__).resolve().parents[1] / "model_utils"


def word_batch(lengths: list[int], lost: int = 0) -> dict[str, Tensor]:
    """Texts of these numbers of words, of which the first has `lost` more that truncation took."""
    lengths_ = torch.tensor(lengths)
    mask = torch.arange(max(lengths)) < lengths_[:, None]
    return {"word_mask": mask, "num_words": lengths_ + torch.tensor([lost] + [0] * (len(lengths) - 1))}


def random_labels(batch: dict[str, Tensor], num_labels: int, ignored: float = 0.3) -> Tensor:
    """(B, W) with -100 on padding and on some real words."""
    mask = batch["word_mask"]
    labels = torch.randint(num_labels, mask.shape)
    return labels.masked_fill(~mask | (torch.rand(mask.shape) < ignored), -100)


def crf_head(labels: list[str]) -> WordHead:
    """With transitions as large as trained ones."""
    head = WordHead(HIDDEN, labels, decoder="crf")
    assert head.crf is not None
    for parameter in head.crf.parameters():
        torch.nn.init.normal_(parameter)
    return head


def reference_crf(head: WordHead) -> torchcrf.CRF:
    """pytorch-crf with the same scores; what BIO forbids is lowered by hand."""
    crf = torchcrf.CRF(len(head.labels), batch_first=True)
    crf.load_state_dict(head.crf.state_dict())  # type: ignore[union-attr]
    if head.entities:
        start, end, pairs = allowed_transitions(head.labels)
        with torch.no_grad():
            crf.start_transitions += torch.where(start, 0.0, FORBIDDEN)
            crf.end_transitions += torch.where(end, 0.0, FORBIDDEN)
            crf.transitions += torch.where(pairs, 0.0, FORBIDDEN)
    return crf


# ------------------------------------------------------------------------------------ sequence classification


@pytest.mark.parametrize("how", POOLING)
def test_sequence_logits_are_a_linear_layer_on_the_pooled_vector(how: str) -> None:
    head = SequenceHead(HIDDEN, ["a", "b", "c"], pooling=how).eval()
    layers = [torch.randn(2, 4, HIDDEN) for _ in range(3)]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    logits = head(layers, {"attention_mask": mask})
    torch.testing.assert_close(logits, pool(layers, mask, how) @ head.classifier.weight.T + head.classifier.bias)
    assert head.all_layers == (how == "first_last_mean")


def test_sequence_loss_is_the_sum_over_the_texts_with_a_label() -> None:
    head = SequenceHead(HIDDEN, ["a", "b", "c"])
    logits = torch.randn(5, 3, requires_grad=True)
    labels = torch.tensor([2, -100, 0, 0, -100])
    expected = -sum(torch.log(logits[b].exp()[labels[b]] / logits[b].exp().sum()) for b in (0, 2, 3))
    loss = head.loss(logits, labels, {})
    torch.testing.assert_close(loss, expected)
    assert head.num_items(labels).item() == 3
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[[1, 4]].any() and gradient[[0, 2, 3]].any(1).all()
    nothing = head.loss(logits, torch.full((5,), -100), {})
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, logits)[0].any()
    assert head.loss(logits.bfloat16(), labels, {}).dtype == torch.float32


def test_sequence_decode_and_confidences_equal_loops() -> None:
    head = SequenceHead(HIDDEN, ["a", "b", "c"])
    logits = torch.randn(20, 3) * 3
    probabilities = [[x / sum(row) for x in row] for row in logits.double().exp().tolist()]
    names = [head.labels[max(range(3), key=row.__getitem__)] for row in probabilities]
    assert head.decode(logits, {}) == names and len(set(names)) == 3
    assert head.confidences(logits, {}) == pytest.approx([max(row) for row in probabilities], rel=1e-5)


def test_sequence_scores() -> None:
    head = SequenceHead(HIDDEN, ["a", "b", "c"])
    gold = ["a", "a", "a", "b"]
    predicted = ["a", "a", "b", "b"]
    # a: precision 2/2, recall 2/3, F1 0.8; b: precision 1/2, recall 1, F1 2/3; c does not occur
    assert head.score(predicted, gold) == pytest.approx({"accuracy": 0.75, "macro_f1": (0.8 + 2 / 3) / 2})
    assert {type(value) for value in head.score(predicted, gold).values()} == {float}
    generator = torch.Generator().manual_seed(1)
    for size in (1, 10, 100):
        gold, predicted = (["abc"[i] for i in torch.randint(3, (size,), generator=generator)] for _ in range(2))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scores = head.score(predicted, gold)
        assert scores == {
            "accuracy": sklearn.metrics.accuracy_score(gold, predicted),
            "macro_f1": sklearn.metrics.f1_score(gold, predicted, average="macro", zero_division=0),
        }
    assert head.score(["a"], ["unseen in training"]) == {"accuracy": 0.0, "macro_f1": 0.0}


# ------------------------------------------------------------------------------------------------ word tagging


def test_words_are_represented_by_their_first_sub_word() -> None:
    head = WordHead(HIDDEN, TAGS).eval()
    hidden = torch.randn(2, 7, HIDDEN)
    starts = torch.tensor([[1, 2, 5], [4, 0, 0]])  # padding 0
    logits = head((torch.zeros(2, 7, HIDDEN), hidden), {"word_starts": starts})
    for b, w in itertools.product(range(2), range(3)):
        expected = head.classifier.weight @ hidden[b, int(starts[b, w])] + head.classifier.bias
        torch.testing.assert_close(logits[b, w], expected)
    assert not head.all_layers


@pytest.mark.filterwarnings("ignore:where received a uint8 condition:UserWarning")  # pytorch-crf's own mask
@pytest.mark.parametrize("decoder", ["linear", "crf"])
@pytest.mark.parametrize("labels", [TAGS, PARTS_OF_SPEECH])
def test_word_loss(decoder: str, labels: list[str]) -> None:
    head = crf_head(labels) if decoder == "crf" else WordHead(HIDDEN, labels)
    batch = word_batch([5, 3, 1, 4])
    logits = torch.randn(4, 5, len(labels), requires_grad=True)
    gold = random_labels(batch, len(labels))
    gold[2] = -100  # a text without any gold tag
    expected = torch.zeros(())
    for b in range(4):
        kept = [w for w in range(5) if gold[b, w] != -100]
        if decoder == "linear":
            expected = expected + F.cross_entropy(logits[b, kept], gold[b, kept], reduction="sum")
        elif kept:
            expected = expected - reference_crf(head)(logits[b : b + 1, kept], gold[b : b + 1, kept])
    loss = head.loss(logits, gold, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-3 if expected > 1000 else 1e-5)
    assert head.num_items(gold).item() == sum(tag != -100 for row in gold.tolist() for tag in row)
    ours, theirs = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not ours[gold == -100].any()
    nothing = head.loss(logits, torch.full_like(gold, -100), batch)
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, logits)[0].any()
    assert head.loss(logits.bfloat16(), gold, batch).dtype == torch.float32


@pytest.mark.parametrize("labels", [TAGS, PARTS_OF_SPEECH])
def test_linear_decode_and_confidences_equal_loops_and_lost_words_are_outside(labels: list[str]) -> None:
    head = WordHead(HIDDEN, labels)
    batch = word_batch([5, 2, 1], lost=2)
    logits = torch.randn(3, 5, len(labels))
    names, sure = [], []
    for b, length in enumerate([5, 2, 1]):
        rows = [logits[b, w].double().exp() / logits[b, w].double().exp().sum() for w in range(length)]
        names.append([labels[int(row.argmax())] for row in rows] + ["O", "O"] * (b == 0))
        sure.append([row.max().item() for row in rows] + [0.0, 0.0] * (b == 0))
    assert head.decode(logits, batch) == names
    for ours, theirs in zip(head.confidences(logits, batch), sure, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("labels", [TAGS, PARTS_OF_SPEECH])
def test_crf_decode_equals_pytorch_crf_and_confidences_are_the_decoded_tags_marginals(labels: list[str]) -> None:
    head = crf_head(labels)
    reference = reference_crf(head)
    other_than_most_probable = 0
    for seed in range(8):
        torch.manual_seed(seed)
        lengths = [4, 2, 1]
        batch = word_batch(lengths, lost=3)
        logits = torch.randn(3, 4, len(labels))
        decoded, sure = head.decode(logits, batch), head.confidences(logits, batch)
        for b, length in enumerate(lengths):
            row = logits[b : b + 1, :length]
            (path,) = reference.decode(row)
            lost = 3 * (b == 0)
            assert decoded[b] == [labels[i] for i in path] + ["O"] * lost
            paths = torch.tensor(list(itertools.product(range(len(labels)), repeat=length)))
            scores = reference(row.expand(len(paths), -1, -1), paths, reduction="none").double().exp()
            marginal = [[scores[paths[:, w] == c].sum().item() for c in range(len(labels))] for w in range(length)]
            expected = [marginal[w][tag] for w, tag in enumerate(path)] + [0.0] * lost
            assert sure[b] == pytest.approx(expected, abs=1e-4)
            other_than_most_probable += sum(max(m) > m[tag] + 1e-3 for m, tag in zip(marginal, path, strict=False))
    assert other_than_most_probable  # the cases can tell the marginal of the decoded tag from the largest one


def test_decoding_needs_no_gradient_and_leaves_none() -> None:
    head = crf_head(TAGS)
    with torch.inference_mode():
        logits = torch.randn(2, 3, 5)
        head.decode(logits, word_batch([3, 1])), head.confidences(logits, word_batch([3, 1]))
    loss = head.loss(torch.randn(2, 3, 5, requires_grad=True), torch.zeros(2, 3, dtype=torch.int64), word_batch([3, 1]))
    loss.backward()
    assert head.crf is not None and head.crf.transitions.grad is not None


HAND_MADE: list[Any] = [  # predicted, gold, (precision, recall, F1, accuracy)
    (
        [["B-x", "I-x", "O", "B-x"], ["B-y", "B-x"]],
        [["B-x", "I-x", "O", "B-y"], ["O", "B-x"]],
        (2 / 4, 2 / 3, 4 / 7, 4 / 6),
    ),
    ([["B-x", "I-x", "O"]], [["B-x", "I-x", "O"]], (1, 1, 1, 1)),
    ([["I-x", "I-x", "O"]], [["B-x", "I-x", "O"]], (0, 0, 0, 2 / 3)),  # strict: I-x begins nothing
    ([["B-x", "I-y", "O"]], [["B-x", "I-x", "O"]], (0, 0, 0, 2 / 3)),  # half an entity is none
    ([["B-x", "B-x"]], [["B-x", "I-x"]], (0, 0, 0, 1 / 2)),
    ([["B-x", "O"], ["O"]], [["B-x", "B-y"], ["O"]], (1, 1 / 2, 2 / 3, 2 / 3)),
    ([["O", "O"]], [["B-x", "O"]], (0, 0, 0, 1 / 2)),
    ([["B-x", "O"]], [["O", "O"]], (0, 0, 0, 1 / 2)),
    ([["O"]], [["O"]], (0, 0, 0, 1)),  # nothing to find
    ([["B-x"], ["B-x"]], [["B-x"], ["I-y"]], (1 / 2, 1, 2 / 3, 1 / 2)),
]


@pytest.mark.parametrize(("predicted", "gold", "expected"), HAND_MADE)
def test_word_scores_of_hand_made_cases(predicted: Any, gold: Any, expected: tuple[float, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = WordHead(HIDDEN, TAGS).score(predicted, gold)
    names = ("precision", "recall", "f1", "accuracy")
    assert scores == pytest.approx(dict(zip(names, expected, strict=True)))
    assert {type(value) for value in scores.values()} == {float}


def test_word_scores_equal_seqeval() -> None:
    labels = ["O", "B-date-time", "I-date-time", "B-x", "I-x"]
    head = WordHead(HIDDEN, labels)
    generator = torch.Generator().manual_seed(2)

    def texts() -> list[list[str]]:
        return [[labels[i] for i in torch.randint(5, (6,), generator=generator)] for _ in range(30)]

    predicted, gold = texts(), texts()
    predicted[:10] = gold[:10]
    strict = {"mode": "strict", "scheme": IOB2}
    assert head.score(predicted, gold) == {
        "precision": seqeval.metrics.precision_score(gold, predicted, **strict),
        "recall": seqeval.metrics.recall_score(gold, predicted, **strict),
        "f1": seqeval.metrics.f1_score(gold, predicted, **strict),
        "accuracy": seqeval.metrics.accuracy_score(gold, predicted),
    }
    assert 0 < head.score(predicted, gold)["f1"] < 1


def test_plain_tags_score_macro_f1_and_lost_words_are_no_class() -> None:
    head = WordHead(HIDDEN, PARTS_OF_SPEECH)
    assert not head.entities
    gold = [["NOUN", "VERB"], ["NOUN", "NOUN"]]
    predicted = [["NOUN", "VERB"], ["VERB", "NOUN"]]
    # NOUN: precision 1, recall 2/3, F1 0.8; VERB: precision 1/2, recall 1, F1 2/3
    assert head.score(predicted, gold) == pytest.approx({"f1": (0.8 + 2 / 3) / 2, "accuracy": 0.75})
    predicted[1][0] = "O"  # lost: NOUN is missed there, and VERB is right
    assert head.score(predicted, gold) == pytest.approx({"f1": (0.8 + 1) / 2, "accuracy": 0.75})
    with_o = WordHead(HIDDEN, ["NOUN", "O"])  # here it is one
    assert with_o.score([["NOUN", "O"]], [["NOUN", "NOUN"]])["f1"] == pytest.approx((2 / 3 + 0) / 2)


# ----------------------------------------------------------------------------------------- building and finding


def test_build_head_gives_the_head_as_asked_for_and_remembers_how() -> None:
    torch.manual_seed(3)
    head = build_head("word_tagging", HIDDEN, TAGS, {"decoder": "crf", "dropout": 0.3})
    assert head.spec == {"kind": "word_tagging", "labels": TAGS, "options": {"decoder": "crf", "dropout": 0.3}}
    assert isinstance(head, WordHead) and head.crf is not None and head.dropout.p == 0.3
    assert (head.classifier.in_features, head.classifier.out_features) == (HIDDEN, 5)
    assert {"sequence_classification", "word_tagging"} <= set(head_kinds()) and head_kinds() == sorted(head_kinds())


@pytest.mark.parametrize(
    ("kind", "labels", "options", "message"),
    [
        ("no_such", TAGS, {}, f"unknown kind of task 'no_such'; there are {', '.join(head_kinds())}"),
        ("__init__", TAGS, {}, "unknown kind of task '__init__'"),
        ("word_tagging", TAGS, {"decodr": "crf"}, "word_tagging has no option 'decodr'; it takes dropout, decoder"),
        ("word_tagging", TAGS, {"decoder": "CRF"}, "word_tagging: unknown decoder 'CRF'; there are linear, crf"),
        ("word_tagging", TAGS, {"hidden_size": 3}, "word_tagging has no option 'hidden_size'"),
        ("sequence_classification", ["a"], {"pooling": "avg"}, "sequence_classification: unknown pooling 'avg'; "),
        ("sequence_classification", ["a"], {"dropout": 2}, "sequence_classification: dropout"),
        ("sequence_classification", ["a"], {"dropout": "high"}, "sequence_classification: "),
        ("sequence_classification", ["a"], {"class_weights": "even"}, "sequence_classification: class_weights must "),
        ("multi_label_classification", ["a"], {"threshold": 50}, "multi_label_classification: threshold must be "),
        ("sequence_regression", [], {"limits": 5}, "sequence_regression: "),
        ("multiple_choice", [], {"pooling": "avg"}, "multiple_choice: unknown pooling 'avg'; "),
        ("global_pointer", ["a"], {"head_size": 7}, "global_pointer: head_size must be even and above 0, found 7"),
        # seqeval would only stop at the first evaluation
        ("word_tagging", [*TAGS, "E-x", "S-x"], {}, "word_tagging: tags of entities must be O, B-x or I-x (IOB2)"),
    ],
)
def test_wrong_tasks_are_refused(kind: str, labels: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        build_head(kind, HIDDEN, labels, options)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("kind", head_kinds())
def test_a_wrong_option_is_answered_with_those_there_are(kind: str) -> None:
    known = [name for name in inspect.signature(head_class(kind)).parameters if name not in ("hidden_size", "labels")]
    with pytest.raises(ModelError) as error:
        build_head(kind, HIDDEN, TAGS, {"no_such": 1})
    assert str(error.value) == f"{kind} has no option 'no_such'; it takes {', '.join(known)}"


@pytest.mark.parametrize("kind", [kind for kind in head_kinds() if head_class(kind).LABEL_LEVEL in NAMED])
def test_without_labels_there_is_nothing_to_learn(kind: str) -> None:
    """Also where each record has a list of them: all lists of a file may be empty."""
    with pytest.raises(ModelError, match=f"^{kind} needs labels, and the training data has none$"):
        build_head(kind, HIDDEN, [], {})


def code_blocks(readme: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_new_head_of_the_readme_trains_in_a_copied_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another package name: nothing is registered, and the imports inside the room are relative."""
    shutil.copytree(ROOM, tmp_path / "copied")
    (tmp_path / "copied/heads/ordinal.py").write_text(code_blocks(ROOM / "README.md")[1])
    monkeypatch.syspath_prepend(tmp_path)
    heads = importlib.import_module("copied.heads")
    assert heads.head_kinds() == sorted([*head_kinds(), "ordinal"])
    with pytest.raises(ValueError, match="ordinal has no option 'pooling'; it takes dropout"):
        heads.build_head("ordinal", HIDDEN, [], {"pooling": "mean"})

    copied = importlib.import_module("copied.multitask_model")
    encoder = importlib.import_module("copied.encoder").load_encoder("scratch:tiny", vocab_size=30)
    stars = ["1", "2", "3", "4"]
    model = copied.build_model(encoder, [{"name": "stars", "kind": "ordinal", "labels": stars, "dropout": 0.0}])
    assert type(model.heads["stars"]).__module__ == "copied.heads.ordinal"
    gold = torch.arange(12) % 4
    input_ids = torch.stack([torch.full((12,), 2), 5 + gold, torch.randint(10, 30, (12,))], dim=1)
    batch = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "labels": {"stars": gold}}
    optimizer = importlib.import_module("copied.optim").build_optimizer(model, 3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        output = model.train()(batch)
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < 0.2 * losses[0]
    model.save_pretrained(tmp_path / "saved")
    again = copied.MultiTaskModel.from_pretrained(tmp_path / "saved")
    head, logits = again.heads["stars"], again(batch).logits["stars"]
    assert torch.equal(logits, model.eval()(batch).logits["stars"])
    decoded = head.decode(logits, batch)
    assert decoded == [stars[i] for i in gold.tolist()]
    assert head.score(decoded, decoded) == {"distance": 0.0} and head.score(["1", "4"], ["2", "2"]) == {"distance": 1.5}
    assert min(head.confidences(logits, batch)) > 0.5


def test_the_use_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    features = [
        {"sample_id": i, "input_ids": [2, 5 + i, 6, 3], "word_starts": [1, 2], "num_words": 2,
         "labels": {"intent": i % 2, "slots": [1, 2]}}
        for i in range(4)
    ]  # fmt: skip
    names: dict[str, Any] = {"batch": Collator(0, {"intent": "sequence", "slots": "word"})(features)}
    exec(code_blocks(ROOM / "README.md")[0], names)
    assert len(names["labels"]) == 4 and set(names["labels"]) <= {"play", "stop"}
    assert names["optimizer"].param_groups[0]["lr"] == pytest.approx(5e-5 * 2 / 10)  # the second update's
    assert sorted(path.name for path in tmp_path.glob("folder/*")) == [
        "config.json", "encoder", "labels.json", "model.safetensors",
    ]  # fmt: skip


def test_every_file_has_one_row_in_the_readme() -> None:
    readme = (ROOM / "README.md").read_text(encoding="utf-8")
    files = [path.relative_to(ROOM).as_posix() for path in ROOM.rglob("*.py") if path.read_text(encoding="utf-8")]
    assert sorted(re.findall(r"^\| `([^`]+)` \| .+ \|$", readme, re.MULTILINE)) == sorted(files)
