"""Inputs of every form against the tokenizer's own, windows against brute force, and places in collated batches.

For three kinds of tokenizers. What is special about words in one input is in test_encode.py, about sources of
generated texts in test_generation_data.py.
"""

import pickle
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from data_loader.collate import Collator
from data_process.errors import DataError
from data_process.inputs import FORMS, Inputs
from data_process.schema import LabelColumn, Schema
from data_process.templates import owners, windows
from model_utils.inputs import at_places, per_record, record_mean
from tests.test_encode import KINDS, PIECES, alone, split_lengths, tokenizer_of

EXAMPLES = settings(max_examples=40, derandomize=True)
SHORT = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), min_size=1, max_size=12)
LONG = st.lists(st.sampled_from(PIECES), min_size=1, max_size=25)
TEXT = Schema("text", None, ())
PAIR = Schema("text", "other", ())
WORDS = Schema("text", None, (LabelColumn("slots", "tags", "word"),))
CONTEXT = Schema("text", "other", (LabelColumn("answer", "answers", "answer"),))
CHOICES = Schema("text", None, (LabelColumn("choice", "choice", "choice"),), choices_column="choices")
QUESTIONS = Schema("text", "other", CHOICES.labels, choices_column="choices")
SEPARATE = Schema("text", "other", (LabelColumn("alike", "score", "pair"),))
SOURCE = Schema("text", None, (LabelColumn("answer", "target", "text"),))
EVERY = (TEXT, PAIR, WORDS, CONTEXT, CHOICES, QUESTIONS, SEPARATE, SOURCE)


def inputs_of(kind: str, schema: Schema, max_length: int = 5000, stride: int = 0) -> Inputs:
    return FORMS[schema.form](tokenizer_of(kind), schema, max_length, stride)


def ids_of(kind: str, text: str) -> list[int]:
    return tokenizer_of(kind)(text, add_special_tokens=False)["input_ids"]


def special(kind: str) -> tuple[list[int], list[int], list[int]]:
    """Before, between and behind two texts."""
    tokens = (["[CLS]"], ["[SEP]"], ["[SEP]"]) if kind == "wordpiece" else (["<s>"], ["</s>"] * 2, ["</s>"])
    before, between, behind = (tokenizer_of(kind).convert_tokens_to_ids(some) for some in tokens)
    return before, between, behind


def rows_of(feature: dict[str, Any], name: str = "input_ids") -> list[list[int]]:
    """The inputs of a record one by one."""
    ends = list(accumulate(feature["row_lengths"], initial=0))
    assert ends[-1] == len(feature[name])
    return [feature[name][start:end] for start, end in pairwise(ends)]


def best_window(place: int, spans: list[tuple[int, int]]) -> int:
    """The first one with most context to the poorer side, as Devlin et al. score it: full windows are a bit better."""
    scores = {
        number: min(place - start, end - 1 - place) + 0.01 * (end - start)
        for number, (start, end) in enumerate(spans)
        if start <= place < end
    }
    return max(scores, key=lambda number: (scores[number], -number))


def places_of(feature: dict[str, Any], numbers: list[int], spans: list[tuple[int, int]], first: int) -> list[int]:
    """Where these sub-words of a text stand, each in the best of the windows that hold it."""
    offsets = list(accumulate(feature["row_lengths"], initial=0))
    best = {number: best_window(number, spans) for number in numbers}
    return [offsets[window] + first + number - spans[window][0] for number, window in best.items()]


# windows


@EXAMPLES
@given(length=st.integers(0, 200), room=st.integers(1, 30), share=st.floats(0, 1, exclude_max=True))
@example(length=502, room=500, share=0.002)  # the last window is short, and the one before does not reach so far
def test_windows_cover_everything_and_share_what_they_should(length: int, room: int, share: float) -> None:
    overlap = int(share * room)
    spans = windows(length, room, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert all(end - start == room for start, end in spans[:-1]) and spans[-1][1] - spans[-1][0] <= room
    assert all(before[1] - start == overlap for before, (start, _) in pairwise(spans))
    assert all(end < length for _, end in spans[:-1])  # none is needless
    assert owners(spans).tolist() == [best_window(place, spans) for place in range(length)]


def test_windows_of_a_very_long_text_fit_in_memory() -> None:
    """Two windows are looked at for each place: 80,000 windows x 500,000 places would be 300 GB."""
    spans = windows(500_000, 126, 120)
    found = owners(spans)
    assert len(found) == 500_000
    assert [best_window(place, spans[n - 30 : n + 30]) + n - 30 for place, n in ((3000, 490), (6007, 990))] == [
        found[3000], found[6007]
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(text=LONG.map(" ".join), max_length=st.integers(5, 12), data=st.data())
def test_windows_of_a_text_are_the_tokenizers(kind: str, text: str, max_length: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, max_length - 3))
    [feature] = inputs_of(kind, TEXT, max_length, stride)([{"text": text}])
    found = tokenizer_of(kind)(text, truncation=True, max_length=max_length, stride=stride,
                               return_overflowing_tokens=True)  # fmt: skip
    assert rows_of(feature) == found["input_ids"]
    assert feature["truncated"] is False
    if kind == "wordpiece":
        assert rows_of(feature, "token_type_ids") == found["token_type_ids"]


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(words=LONG, max_length=st.integers(4, 20), data=st.data())
def test_no_word_is_lost_in_windows(kind: str, words: list[str], max_length: int, data: st.DataObject) -> None:
    room = max_length - 2
    stride = data.draw(st.integers(1, room - 1))
    pieces = [alone(kind, word) for word in words]
    ids = [number for piece in pieces for number in piece]
    [feature] = inputs_of(kind, WORDS, max_length, stride)([{"text": words}])
    assert (feature["num_words"], feature["truncated"]) == (len(words), False)
    start, _, end = special(kind)
    spans = windows(len(ids), room, stride)
    assert rows_of(feature) == [[*start, *ids[first:behind], *end] for first, behind in spans]
    starts = list(accumulate(map(len, pieces), initial=0))[:-1]
    assert feature["word_starts"] == places_of(feature, starts, spans, first=1)
    assert [feature["input_ids"][place] for place in feature["word_starts"]] == [piece[0] for piece in pieces]


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(text=SHORT, other=SHORT.map(" ".join))
def test_with_a_stride_short_texts_are_as_without(kind: str, text: list[str], other: str) -> None:
    for schema in (TEXT, WORDS, CONTEXT):
        record = {"text": text if schema is WORDS else " ".join(text), "other": other}
        [plain], [one] = (inputs_of(kind, schema, 5000, stride)([record]) for stride in (0, 16))
        assert one == plain | {"row_lengths": [len(plain["input_ids"])]}


# a question and its context


def own_rows(kind: str, question: str, context: str, max_length: int, stride: int | None) -> Any:
    """As transformers makes them, and the places of the context in its characters."""
    overflow = {} if stride is None else {"stride": stride, "return_overflowing_tokens": True}
    found = tokenizer_of(kind)([question], [context], truncation="only_second", max_length=max_length, verbose=False,
                               return_offsets_mapping=True, **overflow)  # fmt: skip
    places = []
    for number, offsets in enumerate(found["offset_mapping"]):
        of = found.sequence_ids(number)
        places.append([offset for offset, text in zip(offsets, of, strict=True) if text == 1])
    return found, places


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(question=SHORT.map(" ".join), context=LONG.map(" ".join), data=st.data())
def test_windows_of_a_context_are_the_tokenizers(
    kind: str, question: str, context: str, data: st.DataObject
) -> None:
    asked, ids = ids_of(kind, question), ids_of(kind, context)
    assume(asked and ids)
    num_special = sum(map(len, special(kind)))
    room = data.draw(st.integers(2 * max(2, len(asked)), 2 * len(asked) + 20))
    max_length = room + num_special
    stride = data.draw(st.integers(0, room - room // 2 - 1))
    [feature] = inputs_of(kind, CONTEXT, max_length, stride)([{"text": question, "other": context}])
    found, offsets = own_rows(kind, question, context, max_length, stride or None)
    rows = rows_of(feature) if stride else [feature["input_ids"]]
    assert rows == found["input_ids"]
    if kind == "wordpiece":
        assert feature["token_type_ids"] == [number for row in found["token_type_ids"] for number in row]
    assert feature["truncated"] == (stride == 0 and len(asked) + len(ids) > room)

    kept = room - len(asked)
    spans = windows(len(ids), kept, stride) if stride else [(0, min(kept, len(ids)))]
    characters: dict[int, tuple[int, int]] = {}
    for (start, _), some in zip(spans, offsets, strict=True):
        characters |= {start + number: tuple(offset) for number, offset in enumerate(some)}
    assert [len(feature[name]) for name in ("word_starts", "char_starts", "char_ends")] == [len(characters) + 1] * 3
    assert (feature["word_starts"][0], feature["char_starts"][0], feature["char_ends"][0]) == (0, 0, 0)
    for number, (start, end) in characters.items():
        begins, ends = feature["char_starts"][number + 1], feature["char_ends"][number + 1]
        assert context[begins:ends] == context[start:end].lstrip()
        assert begins == ends or (start <= begins and ends == end)  # where a lone space stands is not defined
    first = num_special - 1 + len(asked)
    if stride:
        assert feature["word_starts"][1:] == places_of(feature, list(range(len(ids))), spans, first)
        assert [feature["input_ids"][place] for place in feature["word_starts"][1:]] == ids
    else:
        assert feature["word_starts"][1:] == list(range(first, first + spans[0][1]))


@pytest.mark.parametrize(("max_length", "kept"), [(5, 1), (6, 1), (7, 2), (13, 5), (14, 5), (23, 10), (24, 10)])
def test_a_long_question_leaves_half_of_the_room(max_length: int, kept: int) -> None:
    record = {"text": "what " * 10, "other": "play " * 30}
    what, play = ids_of("wordpiece", "what"), ids_of("wordpiece", "play")
    assert len(what) == len(play) == 1
    for stride in range(max_length - 3 - (max_length - 3) // 2):
        [feature] = inputs_of("wordpiece", CONTEXT, max_length, stride)([record])
        assert feature["truncated"] is (stride == 0 or kept < 10)
        for row in rows_of(feature) if stride else [feature["input_ids"]]:
            assert row[1 : kept + 1] == what * kept and row[kept + 2 : -1] == play * (len(row) - kept - 3)
            assert len(row) <= max_length
        assert len(feature["word_starts"]) == (31 if stride else max_length - 3 - kept + 1)


def test_a_context_without_sub_words() -> None:
    [feature] = inputs_of("wordpiece", CONTEXT, 8, 1)([{"text": "what", "other": "\u200b"}])
    assert (feature["word_starts"], feature["char_starts"], feature["row_lengths"]) == ([0], [0], [4])


# choices


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(
    text=SHORT.map(" ".join),
    question=st.none() | SHORT.map(" ".join),
    choices=st.lists(SHORT.map(" ".join), min_size=2, max_size=4),
    max_length=st.integers(6, 40),
)
def test_choices(kind: str, text: str, question: str | None, choices: list[str], max_length: int) -> None:
    tokenizer = tokenizer_of(kind)
    schema = CHOICES if question is None else QUESTIONS
    record = {"text": text, "other": question, "choices": choices}
    [feature] = inputs_of(kind, schema, max_length)([record])
    start, between, end = special(kind)
    room = max_length - len(start + between + end)
    first = ids_of(kind, text)
    rows, types, lost = [], [], False
    for choice in choices:
        second = ids_of(kind, question or "") + ids_of(kind, choice)
        kept, kept_second = split_lengths(len(first), len(second), room)
        lost |= kept < len(first) or kept_second < len(second)
        rows.append(start + first[:kept] + between + second[:kept_second] + end)
        types.append([0] * (kept + 2) + [1] * (kept_second + 1))
        if question is None and choice:
            assert rows[-1] == tokenizer(text, choice, truncation=True, max_length=max_length)["input_ids"]
    assert rows_of(feature) == rows
    assert feature["truncated"] == lost
    if kind == "wordpiece":
        assert rows_of(feature, "token_type_ids") == types


# two texts, each by itself


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(text=SHORT.map(" ".join), other=st.none() | SHORT.map(" ".join), max_length=st.integers(3, 20))
def test_separate_texts(kind: str, text: str, other: str | None, max_length: int) -> None:
    tokenizer = tokenizer_of(kind)
    [feature] = inputs_of(kind, SEPARATE, max_length)([{"text": text, "other": other}])
    both = [text, text if other is None else other]
    expected = tokenizer(both, truncation=True, max_length=max_length)["input_ids"]
    assert rows_of(feature) == expected
    assert feature["truncated"] == any(len(tokenizer(each)["input_ids"]) > max_length for each in both)
    alone = Schema("text", None, SEPARATE.labels)
    if other is None:
        assert inputs_of(kind, alone, max_length)([{"text": text}]) == [feature]


# all forms


def record_of(number: int) -> dict[str, Any]:
    some = [PIECES[(number * 7 + step) % len(PIECES)] or "it" for step in range(number % 5 + 2)]
    return {"text": " ".join(some), "other": " ".join(some[::-1]), "choices": some[: 2 + number % 3]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schema", EVERY, ids=lambda schema: schema.form)
def test_a_batch_is_its_records_also_in_another_process(kind: str, schema: Schema) -> None:
    records = [record_of(number) for number in range(20)]
    for stride in (0, 2) if schema in (TEXT, WORDS, CONTEXT) else (0,):
        inputs = inputs_of(kind, schema, 12, stride)
        features = inputs(records)
        assert features == [inputs([record])[0] for record in records]
        assert pickle.loads(pickle.dumps(inputs))(records) == features


WINDOWS_OF = "arguments: stride: must be 0: only single texts and contexts of questions become windows"


@pytest.mark.parametrize(
    ("schema", "stride", "message"),
    [
        (TEXT, 10, "arguments: stride: must be below 10, the room that max_length leaves"),
        (WORDS, 99, "arguments: stride: must be below 10, the room that max_length leaves"),
        (CONTEXT, 5, "arguments: stride: must be below 5, the room that max_length leaves"),
        (PAIR, 1, WINDOWS_OF),
        (Schema("text", "other", WORDS.labels), 1, WINDOWS_OF),
        (QUESTIONS, 1, WINDOWS_OF),
        (SEPARATE, 1, WINDOWS_OF),
        (SOURCE, 1, WINDOWS_OF),
    ],
)
def test_a_stride_that_leaves_no_room(schema: Schema, stride: int, message: str) -> None:
    with pytest.raises(DataError) as error:
        inputs_of("wordpiece", schema, 12, stride)
    assert str(error.value) == message
    largest = {TEXT: 9, WORDS: 9, CONTEXT: 4}.get(schema, 0)
    assert inputs_of("wordpiece", schema, 12, largest).stride == largest


# collated


@st.composite
def batches(draw: Any) -> tuple[list[dict[str, Any]], list[list[int]], dict[str, Any]]:
    """Features of several records, their sub-words at the places of words, and a batch of them."""
    kind, schema = draw(st.sampled_from(KINDS)), draw(st.sampled_from([WORDS, CONTEXT]))
    stride = draw(st.sampled_from([0, 1, 3]))
    texts = draw(st.lists(LONG, min_size=1, max_size=4))
    records = [{"text": text if schema is WORDS else "播 放", "other": " ".join(text)} for text in texts]
    features = inputs_of(kind, schema, 13, stride)(records)
    expected = [[feature["input_ids"][place] for place in feature["word_starts"]] for feature in features]
    for number, feature in enumerate(features):
        feature |= {"sample_id": number, "labels": {}}
    collate = Collator(0, {}, draw(st.sampled_from([1, 8])), draw(st.sampled_from(["right", "left"])))
    return features, expected, collate(features)


@EXAMPLES
@given(batches())
def test_places_are_the_same_sub_words_in_a_padded_batch(drawn: Any) -> None:
    features, expected, batch = drawn
    found = at_places(batch["input_ids"][:, :, None], batch["word_starts"], batch)[:, :, 0]
    assert batch["word_mask"].sum(1).tolist() == [len(row) for row in expected]
    assert [row[mask].tolist() for row, mask in zip(found, batch["word_mask"], strict=True)] == expected
    real = at_places(batch["attention_mask"][:, :, None], batch["word_starts"], batch)[:, :, 0]
    assert real[batch["word_mask"]].all()
    if "char_starts" in batch:
        for name in ("char_starts", "char_ends"):
            rows = [row[mask].tolist() for row, mask in zip(batch[name], batch["word_mask"], strict=True)]
            assert rows == [feature[name] for feature in features]


@EXAMPLES
@given(batches())
def test_inputs_of_each_record_by_hand(drawn: Any) -> None:
    """per_record and record_mean against slicing the list of all inputs."""
    features, _, batch = drawn
    counts = [len(feature.get("row_lengths", [0])) for feature in features]
    vectors = torch.arange(3.0 * sum(counts)).reshape(-1, 3).square()
    assert len(batch["input_ids"]) == sum(counts)
    parts = vectors.split(counts)
    torch.testing.assert_close(record_mean(vectors, batch), torch.stack([part.mean(0) for part in parts]))
    for found, part in zip(per_record(vectors, batch), parts, strict=True):
        assert torch.equal(found[: len(part)], part)
    if "input_mask" in batch:
        assert batch["input_mask"].sum(1).tolist() == counts
        assert batch["input_mask"].shape[1] == max(counts)
