"""The head that selects answers in a context: loss, best spans and probabilities by hand, answers there and back.

Letters: B records, W sub-words of a context and one place for "no answer" in front of them.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from data_loader.collate import Collator, blank
from data_process.encode import RecordEncoder
from data_process.schema import LabelColumn, Schema
from data_process.tokenizer import train_tokenizer
from model_utils.encoder import ModelError, load_encoder
from model_utils.heads import build_head
from model_utils.heads.span_selection import Head
from model_utils.multitask_model import build_model
from model_utils.optim import build_optimizer
from tests.texts import TEXTS

HIDDEN = 6
SCHEMA = Schema("question", "context", (LabelColumn("answer", "answers", "answer"),))
INFINITY = float("inf")


def batch_of(sizes: list[int]) -> dict[str, Any]:
    """Contexts of so many sub-words, of which the n-th has the characters 3n - 3 … 3n - 2, with a space behind."""
    mask = torch.arange(max(sizes) + 1) < torch.tensor(sizes)[:, None] + 1
    starts = (3 * torch.arange(max(sizes) + 1) - 3).clamp(min=0).expand(len(sizes), -1)
    ends = torch.where(torch.arange(max(sizes) + 1) > 0, starts + 2, 0)
    return {"word_mask": mask, "char_starts": starts * mask, "char_ends": ends * mask}


def logits_of(batch: dict[str, Any], scale: float = 3.0) -> Tensor:
    mask = batch["word_mask"][:, :, None]
    return (scale * torch.randn(*batch["word_mask"].shape, 2)).masked_fill(~mask, -INFINITY)


def best_by_hand(scores: list[list[float]], size: int, longest: int) -> tuple[float, int, int]:
    """Of all spans first <= last; the first of equal ones."""
    spans = [
        (scores[first][0] + scores[last][1], -first, -last)
        for first in range(1, size + 1)
        for last in range(first, min(first + longest, size + 1))
    ]
    value, first, last = max(spans, default=(-INFINITY, 0, 0))
    return value, -first, -last


def test_scores_are_a_linear_layer_on_each_place_and_none_behind_the_end() -> None:
    head = Head(HIDDEN).eval()
    hidden = torch.randn(3, 5, HIDDEN)
    places = torch.tensor([[0, 2, 9], [0, 4, 0]])  # the first record has two inputs
    batch = {"word_starts": places, "word_mask": torch.tensor([[True] * 3, [True, True, False]]),
             "input_mask": torch.tensor([[True, True], [True, False]])}  # fmt: skip
    scores = head((hidden,), batch)
    expected = head.classifier(torch.stack([hidden[0, 0], hidden[0, 2], hidden[1, 4], hidden[2, 0], hidden[2, 4]]))
    torch.testing.assert_close(scores[batch["word_mask"]], expected)
    assert torch.equal(scores[1, 2], torch.full((2,), -INFINITY))


def test_loss_is_half_the_negative_log_likelihood_of_start_and_end() -> None:
    head = Head(HIDDEN)
    batch = batch_of([4, 2, 3, 0, 1])
    logits = logits_of(batch).double().requires_grad_()
    labels = torch.tensor([[1, 4], [2, 2], [-100, -100], [0, 0], [0, 0]])
    expected = 0.0
    for b, size in ((0, 4), (1, 2), (3, 0), (4, 1)):
        for side in (0, 1):
            scores = logits[b, : size + 1, side].tolist()
            expected += (math.log(sum(map(math.exp, scores))) - scores[int(labels[b, side])]) / 2
    loss = head.loss(logits, labels, batch)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert head.num_items(labels).item() == 4
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all() and not gradient[2].any() and not gradient[~batch["word_mask"]].any()
    nothing = head.loss(logits, torch.full_like(labels, -100), batch)
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, logits)[0].any()


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    longest=st.integers(1, 12),
    margin=st.sampled_from([0.0, -2.0, 1.5, INFINITY, -INFINITY]),
    seed=st.integers(0, 99),
    ties=st.booleans(),
)
@example(sizes=[0, 3], longest=2, margin=INFINITY, seed=0, ties=False)  # there is always an answer, but not in nothing
def test_predictions_are_the_best_of_all_spans(
    sizes: list[int], longest: int, margin: float, seed: int, ties: bool
) -> None:
    head = Head(HIDDEN, max_answer_length=longest, no_answer_margin=margin)
    batch = batch_of(sizes)
    torch.manual_seed(seed)
    logits = logits_of(batch)
    if ties:
        logits = logits.round(decimals=-1) / 8  # few values: exact in binary
    decoded, sure = head.decode(logits, batch), head.confidences(logits, batch)
    for b, size in enumerate(sizes):
        scores = logits[b].tolist()
        answer, first, last = best_by_hand(scores, size, longest)
        nothing = sum(scores[0])
        is_answered = size > 0 and nothing - answer <= margin
        assert decoded[b] == ((3 * first - 3, 3 * last - 1) if is_answered else (0, 0))
        probability = 1.0
        for side, chosen in enumerate((first, last) if is_answered else (0, 0)):
            probability *= math.exp(scores[chosen][side]) / sum(math.exp(row[side]) for row in scores)
        assert sure[b] == pytest.approx(probability, rel=1e-4)


def test_a_longer_answer_is_never_predicted() -> None:
    batch = batch_of([5])
    logits = torch.zeros(1, 6, 2)
    logits[0, 1, 0] = logits[0, 5, 1] = 5.0
    assert Head(HIDDEN, max_answer_length=5).decode(logits, batch) == [(0, 14)]
    [(start, end)] = Head(HIDDEN, max_answer_length=4).decode(logits, batch)
    assert (start, end) != (0, 14) and end - start <= 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "de"}, "span_selection: unknown language 'de'; there are en, zh"),
        ({"max_answer_length": 0}, "span_selection: max_answer_length must be above 0, found 0"),
        ({"margin": 1}, "span_selection has no option 'margin'; it takes dropout, max_answer_length, "
         "no_answer_margin, language"),
    ],
)  # fmt: skip
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        build_head("span_selection", HIDDEN, [], options)
    assert str(error.value) == message


# from records to answers


def record(question: str, context: str, *answers: str) -> dict[str, Any]:
    starts = [context.index(answer) for answer in answers]
    return {"question": question, "context": context, "answers": {"text": list(answers), "answer_start": starts}}


def encoded(records: list[dict[str, Any]], tokenizer: Any, max_length: int, stride: int) -> list[dict[str, Any]]:
    return RecordEncoder(tokenizer, SCHEMA, {}, max_length, stride)(list(enumerate(records)))


def perfect(batch: dict[str, Any]) -> Tensor:
    """Logits of a model that is sure of the gold labels."""
    logits = torch.zeros(*batch["word_mask"].shape, 2)
    labels = batch["labels"]["answer"]
    logits.scatter_(1, labels.clamp(min=0)[:, None], 50.0)
    return logits.masked_fill(~batch["word_mask"][:, :, None], -INFINITY)


def test_an_answer_across_the_border_of_windows() -> None:
    """Wherever it stands: the windows are one context again."""
    tokenizer = train_tokenizer(TEXTS, 120)
    context = "play yesterday by the beatles what is the weather in paris wake me at seven"
    words = context.split()
    records, answers = [], []
    for first in range(len(words)):
        for last in range(first + 1, min(first + 4, len(words)) + 1):
            before = len(" ".join(words[:first])) + (first > 0)
            answers.append(" ".join(words[first:last]))
            records.append({"question": "what", "context": context,
                            "answers": {"text": answers[-1:], "answer_start": [before]}})  # fmt: skip
    features = encoded(records, tokenizer, max_length=12, stride=2)
    assert len(features[0]["row_lengths"]) > 2
    batch = Collator(0, {"answer": "answer"})(features)
    decoded = Head(HIDDEN).decode(perfect(batch), batch)
    assert [context[start:end] for start, end in decoded] == answers
    gold: list[dict[str, list[int]]] = [each["answers"] for each in records]  # type: ignore[misc]
    assert [start for start, _ in decoded] == [each["answer_start"][0] for each in gold]
    width = batch["input_ids"].shape[1]
    windows = batch["word_starts"].gather(1, batch["labels"]["answer"]) // width
    assert (windows[:, 0] < windows[:, 1]).any()  # some begin in one window and end in the next


def test_an_answer_that_was_cut_off_is_not_trained() -> None:
    tokenizer = train_tokenizer(TEXTS, 120)
    some = record("what", "play yesterday by the beatles in paris", "in paris")
    [whole], [cut] = (encoded([some], tokenizer, length, 0) for length in (30, 9))
    assert whole["labels"]["answer"] != [-100, -100] and cut["labels"]["answer"] == [-100, -100]
    [windowed] = encoded([some], tokenizer, 9, 1)
    assert windowed["labels"] == whole["labels"]


def test_the_real_answers_of_cmrc_2018_come_back() -> None:
    """Gold -> labels -> sure logits -> text. What does not come back begins or ends inside a sub-word."""
    path = Path(os.environ.get("DATA_DIR") or "/nowhere", "cmrc2018_small", "dev.jsonl")
    if not path.is_file():
        pytest.skip("needs cmrc2018_small in the folder that DATA_DIR names")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    tokenizer = train_tokenizer((text for each in records for text in (each["context"], each["question"])), 8000)
    features = encoded(records, tokenizer, 128, 32)
    collate, head = Collator(0, {"answer": "answer"}), Head(HIDDEN, max_answer_length=200, language="zh")
    predictions = []
    for first in range(0, len(records), 50):
        batch = collate(features[first : first + 50])
        predictions += head.decode(perfect(batch), batch)
    references = [SCHEMA.gold(each)["answer"] for each in records]
    others = [n for n, gold in enumerate(references) if predictions[n] != gold["spans"][0]]
    for number in others:
        (start, end), (first, last) = predictions[number], references[number]["spans"][0]
        inside = [
            (begins, ends)
            for begins, ends in zip(features[number]["char_starts"], features[number]["char_ends"], strict=True)
            if begins < first < ends or begins < last < ends
        ]
        assert start <= first < last <= end and inside
    assert (len(records) - len(others), len(records)) == (402, 403)
    assert [records[n]["answers"]["text"][0] for n in others] == ["格利泽581"]  # of 格利泽581b
    pytest.importorskip("model_utils.scores.answers")
    assert head.score(predictions, references)["exact_match"] == pytest.approx(402 / 403)


def test_it_learns_a_few_answers_also_in_windows() -> None:
    """Some questions have no answer; stand-ins and a record without gold change nothing."""
    tokenizer = train_tokenizer(TEXTS, 120)
    sentences = sorted(set(TEXTS))
    contexts = [" ".join(sentences[n:] + sentences[:n]) for n in range(2)]
    asked = {"play": "beatles", "weather": "paris", "wake": "seven", "放": "周 杰 伦", "it": ""}
    records = [record(word, text, *[found] * bool(found)) for text in contexts for word, found in asked.items()]
    features = encoded(records, tokenizer, max_length=16, stride=4)
    assert min(len(feature["row_lengths"]) for feature in features) > 1
    collate = Collator(tokenizer.pad_token_id, {"answer": "answer"})
    batch = collate([*features, blank(features[3]), {**features[4], "labels": {}}])
    torch.manual_seed(0)
    encoder = load_encoder("scratch:tiny", vocab_size=len(tokenizer), max_length=16)
    model = build_model(encoder, [{"name": "answer", "kind": "span_selection", "labels": [], "dropout": 0.0}])
    optimizer = build_optimizer(model, 2e-3)
    assert model.num_items(batch["labels"])["answer"].item() == len(records)
    losses = []
    for _ in range(90):
        loss = model.eval()(batch).loss  # eval: without dropout it learns faster
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] > 1 and losses[-1] < 0.1, losses
    head, references = model.heads["answer"], [SCHEMA.gold(each)["answer"] for each in records]
    decoded = head.decode(model(batch).logits["answer"], batch)[: len(records)]
    texts = [each["context"][start:end] for (start, end), each in zip(decoded, records, strict=True)]
    assert texts == [(each["answers"]["text"] or [""])[0] for each in records]
    pytest.importorskip("model_utils.scores.answers")
    assert head.score(decoded, references) == {"exact_match": 1.0, "f1": 1.0}
