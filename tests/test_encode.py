"""Every word keeps its place: features against each word encoded alone, for three kinds of tokenizers."""

import json
import os
import pickle
import time
from collections.abc import Iterator
from functools import cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from data_process.checks import scan
from data_process.encode import RecordEncoder
from data_process.errors import DataError
from data_process.labels import LabelVocab
from data_process.readers import read_records
from data_process.schema import LabelColumn, Schema
from data_process.tokenizer import train_tokenizer

TEXTS = [
    "play yesterday by the beatles",
    "what's the weather in café münchen",
    "播 放 周 杰 伦 的 歌",
    "wake me at 7:30",
] * 4
INTENT = LabelColumn("intent", "label", "sequence")
SLOTS = LabelColumn("slots", "tags", "word")
VOCABS = {"intent": LabelVocab(["a", "b"]), "slots": LabelVocab(["O", "B-x", "I-x"])}
KINDS = ["wordpiece", "bytes", "unigram"]
TOKENS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


@cache
def tokenizer_of(kind: str) -> Any:
    """As BERT's, RoBERTa's and XLM-R's."""
    if kind == "wordpiece":
        return train_tokenizer(TEXTS, 120)
    special = list(TOKENS.values())
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    numbers: dict[str, int] = tokenizer.get_vocab()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", numbers["</s>"]), ("<s>", numbers["<s>"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **TOKENS
    )


def encoder_of(kind: str, max_length: int = 512, pair: str | None = None, labels: Any = (SLOTS,)) -> RecordEncoder:
    return RecordEncoder(tokenizer_of(kind), Schema("text", pair, tuple(labels)), VOCABS, max_length)


@cache
def alone(kind: str, word: str) -> list[int]:
    """The sub-words of one word; a word that the tokenizer swallows has [UNK] instead."""
    tokenizer = tokenizer_of(kind)
    ids = tokenizer([word], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    if kind == "wordpiece":  # here it is the same without knowing of words
        assert ids == tokenizer(word, add_special_tokens=False)["input_ids"]
    return ids or [tokenizer.unk_token_id]


PIECES = [
    "play", "Yesterday", "café", "cafe\u0301", "ÆØÅ", "7", "2024", "７", "3.5%", "don't", "...", "a b", "İ", "ß", "ﷺ",
    "播", "周杰伦", "杰", "长" * 30, "long" * 40, "Supercalifragilistic" * 3, "▁", "Ġ", "##play",
    "😀", "👩\u200d👩\u200d👧", "🇩🇪", "\u0301", "\u0301\u0308", "\ue000", "\U000e0001",
    "", " ", "\t", "\u3000", "\xa0", "  \n", "\x85", "\x01", "\x7f",
    "\u200b", "\ufeff", "\u200d", "\u00ad", "\u202e", "\ufe0f", "a\u200bb",
    "[UNK]", "[CLS]", "[SEP]", "[PAD]", "a[MASK]b", "<s>", "<unk>",
]  # fmt: skip
WORDS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), min_size=1, max_size=12)
PROPERTY = settings(max_examples=120, deadline=None, derandomize=True)


def split_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """What is kept of two texts: the longer one is cut until both are equally long, then both in turn."""
    first_was_longer = first > second
    while first + second > room:
        if first > second or (first == second and not first_was_longer):
            first -= 1
        else:
            second -= 1
    return first, second


# one text of words


@pytest.mark.parametrize("kind", KINDS)
@PROPERTY
@given(words=WORDS)
def test_every_word_starts_once(kind: str, words: list[str]) -> None:
    pieces = [alone(kind, word) for word in words]
    tags = [["O", "B-x", "I-x"][number % 3] for number in range(len(words))]
    feature = encoder_of(kind, max_length=5000)([(3, {"text": words, "tags": tags})])[0]
    starts = feature["word_starts"]
    assert starts == list(accumulate((len(p) for p in pieces[:-1]), initial=1))
    assert feature["input_ids"][1:-1] == [number for piece in pieces for number in piece]
    assert (feature["sample_id"], feature["num_words"], feature["truncated"]) == (3, len(words), False)
    assert feature["labels"] == {"slots": [number % 3 for number in range(len(words))]}
    assert ("token_type_ids" in feature) == (kind == "wordpiece")


@pytest.mark.parametrize("kind", KINDS)
@PROPERTY
@given(words=WORDS, max_length=st.integers(3, 40))
def test_truncation_keeps_a_prefix_of_the_words(kind: str, words: list[str], max_length: int) -> None:
    pieces = [alone(kind, word) for word in words]
    whole = [number for piece in pieces for number in piece]
    starts = [s for s in accumulate((len(p) for p in pieces[:-1]), initial=1) if s < max_length - 1]
    feature = encoder_of(kind, max_length)([(0, {"text": words, "tags": ["B-x"] * len(words)})])[0]
    assert feature["word_starts"] == starts
    assert feature["input_ids"][1:-1] == whole[: max_length - 2]
    assert feature["truncated"] == (len(whole) > max_length - 2)
    assert feature["num_words"] == len(words)
    assert feature["labels"] == {"slots": [1] * len(starts)}


@pytest.mark.parametrize("kind", KINDS)
def test_starts_are_where_the_tokenizer_says(kind: str) -> None:
    """Against `word_ids()`; words without a sub-word of their own are left out of this one."""
    tokenizer = tokenizer_of(kind)
    words = [word for word in PIECES if len(tokenizer([word], is_split_into_words=True)["input_ids"]) > 2]
    assert len(words) > 30
    word_ids = tokenizer(words, is_split_into_words=True).word_ids()
    feature = encoder_of(kind, 5000)([(0, {"text": words})])[0]
    assert feature["word_starts"] == [word_ids.index(number) for number in range(len(words))]


def test_a_batch_is_its_records() -> None:
    records = [(i, {"text": PIECES[i : i + 5], "tags": ["O"] * 5}) for i in range(len(PIECES) - 5)]
    for kind in KINDS:
        encoder = encoder_of(kind, 12)
        assert encoder(records) == [encoder([record])[0] for record in records]


def test_a_swallowed_word_without_unknown_token() -> None:
    """Decoders' tokenizers have none; the padding token stands in."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer_of("bytes").backend_tokenizer, pad_token="<pad>")
    assert tokenizer.unk_token is None
    encoder = RecordEncoder(tokenizer, Schema("text", None, (SLOTS,)), VOCABS, 20)
    feature = encoder([(0, {"text": ["7", "", "7"], "tags": "O O O"})])[0]
    ids = alone("bytes", "7")
    assert feature["input_ids"][1:-1] == [*ids, tokenizer.pad_token_id, *ids]
    assert len(feature["word_starts"]) == 3


# plain texts


@pytest.mark.parametrize("kind", KINDS)
@PROPERTY
@given(text=WORDS.map(" ".join), other=st.none() | WORDS.map(" ".join), max_length=st.integers(6, 40))
def test_plain_texts_are_what_the_tokenizer_makes(kind: str, text: str, other: str | None, max_length: int) -> None:
    feature = encoder_of(kind, max_length, other and "other", [INTENT])([(0, {"text": text, "other": other})])[0]
    pair = other or None  # an empty text is none
    expected = dict(tokenizer_of(kind)(text, pair, truncation=True, max_length=max_length, return_attention_mask=False))
    whole = tokenizer_of(kind)(text, pair)["input_ids"]
    assert feature == {"sample_id": 0, **expected, "labels": {}, "truncated": len(whole) > max_length}


# pairs of texts


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
@PROPERTY
@given(words=WORDS, others=WORDS, max_length=st.integers(6, 60))
def test_pairs_of_words(kind: str, words: list[str], others: list[str], max_length: int) -> None:
    """Word starts are in the first text only; in the second, swallowed words may stay away."""
    pieces = [alone(kind, word) for word in words]
    first = [number for piece in pieces for number in piece]
    second = tokenizer_of(kind)(others, is_split_into_words=True, add_special_tokens=False)["input_ids"]
    special = 3 if kind == "wordpiece" else 4
    kept, kept_second = split_lengths(len(first), len(second), max_length - special)
    record = {"text": words, "other": others, "tags": ["O"] * len(words)}
    feature = encoder_of(kind, max_length, "other")([(0, record)])[0]
    ids = feature["input_ids"]
    assert ids[1 : kept + 1] == first[:kept]
    assert ids[-1 - kept_second : -1] == second[:kept_second]
    assert len(ids) == special + kept + kept_second
    starts = accumulate((len(piece) for piece in pieces[:-1]), initial=1)
    assert feature["word_starts"] == [start for start in starts if start <= kept]
    assert feature["labels"] == {"slots": [0] * len(feature["word_starts"])}
    assert feature["truncated"] == (kept < len(first) or kept_second < len(second))
    if kind == "wordpiece":
        assert feature["token_type_ids"] == [0] * (kept + 2) + [1] * (kept_second + 1)


def test_a_swallowed_last_word_survives_a_cut_of_the_second_text() -> None:
    record = {"text": ["play", "\u200b"], "other": ["weather"] * 20, "tags": ["O", "B-x"]}
    feature = encoder_of("wordpiece", 12, "other")([(0, record)])[0]
    assert feature["truncated"]
    assert len(feature["word_starts"]) == 2
    assert feature["labels"]["slots"] == [0, 1]


@pytest.mark.parametrize(
    ("text", "other"), [("play the", "wake me"), (["play", "the"], "wake me"), ("play the", ["wake", "me"])]
)
def test_pairs_without_words(text: Any, other: Any) -> None:
    """Strings and lists of words, also mixed, are one string each where no task needs words."""
    tokenizer = tokenizer_of("wordpiece")
    records = [(0, {"text": "a", "other": "b"}), (1, {"text": text, "other": other, "label": "b"})]
    first, second = encoder_of("wordpiece", 64, "other", [INTENT])(records)
    assert tokenizer.convert_ids_to_tokens(first["input_ids"]) == ["[CLS]", "a", "[SEP]", "b", "[SEP]"]
    expected = tokenizer("play the", "wake me")
    assert second == {
        "sample_id": 1,
        "input_ids": expected["input_ids"],
        "token_type_ids": expected["token_type_ids"],
        "labels": {"intent": 1},
        "truncated": False,
    }
    assert expected["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]


def test_the_time_for_long_pairs_grows_with_their_length() -> None:
    """The tokenizer's own truncation would take minutes: it pairs all windows of one text with all of the other."""
    begin = time.process_time()
    records = [(i, {"text": "play " * 3000, "other": "yesterday " * 3000}) for i in range(20)]
    assert {len(f["input_ids"]) for f in encoder_of("wordpiece", 32, "other", [INTENT])(records)} == {32}
    assert time.process_time() - begin < 10


# labels


@pytest.mark.parametrize(
    ("gold", "labels"),
    [
        ({"label": "b", "tags": ["O", "B-x", "I-x"]}, {"intent": 1, "slots": [0, 1, 2]}),
        ({"label": "new", "tags": "O B-new I-x"}, {"intent": -100, "slots": [0, -100, 2]}),
        ({"label": "a", "tags": None}, {"intent": 0}),
        ({"label": None}, {}),
        ({"tags": ["O", "O", "O"]}, {"slots": [0, 0, 0]}),
    ],
)
def test_labels(gold: dict[str, Any], labels: dict[str, Any]) -> None:
    encoder = encoder_of("wordpiece", labels=[INTENT, SLOTS])
    assert encoder([(0, {"text": "play it now", **gold})])[0]["labels"] == labels


def test_truncated_gold_is_shorter_than_num_words() -> None:
    feature = encoder_of("wordpiece", 5)([(0, {"text": ["the"] * 9, "tags": ["B-x", *["I-x"] * 8]})])[0]
    assert (feature["num_words"], feature["word_starts"]) == (9, [1, 2, 3])
    assert feature["labels"] == {"slots": [1, 2, 2]}


# the encoder itself


def test_earlier_calls_of_the_tokenizer_change_nothing() -> None:
    tokenizer = train_tokenizer(TEXTS, 120)
    encoder = RecordEncoder(tokenizer, Schema("text", None, (SLOTS,)), VOCABS, 6)
    records = [(0, {"text": ["play"] * 9}), (1, {"text": ["the"]})]
    before = encoder(records)
    tokenizer(TEXTS, padding="max_length", truncation=True, max_length=30, return_tensors="np")
    assert encoder(records) == before
    tokenizer(TEXTS)
    tokenizer.truncation_side = "left"
    assert encoder(records) == before
    assert [len(feature["input_ids"]) for feature in before] == [6, 3]


def test_a_copy_in_another_process_encodes_the_same() -> None:
    records = [(0, {"text": PIECES, "tags": ["O"] * len(PIECES)})]
    for kind in KINDS:
        encoder = encoder_of(kind, 30)
        assert pickle.loads(pickle.dumps(encoder))(records) == encoder(records)


@pytest.mark.parametrize(
    ("kind", "pair", "least"), [("wordpiece", None, 3), ("wordpiece", "other", 5), ("bytes", "other", 6)]
)
def test_max_length_must_leave_room(kind: str, pair: str | None, least: int) -> None:
    special = least - (2 if pair else 1)
    with pytest.raises(DataError, match=rf"^arguments: max_length: must be at least {least}: {special} special tokens"):
        encoder_of(kind, least - 1, pair)
    feature = encoder_of(kind, least, pair)([(0, {"text": ["7"] * 5, "other": ["7"] * 5})])[0]
    assert feature["word_starts"] == [1]
    assert len(feature["input_ids"]) == least


# real data, of which nothing is known but the columns


def real_files() -> Iterator[Path]:
    """Files with tokens and tags below DATA_DIR."""
    for path in sorted(Path(os.environ.get("DATA_DIR") or "/nowhere").glob("*/*.jsonl")):
        with open(path, encoding="utf-8") as file:
            if {"tokens", "tags"} <= json.loads(file.readline() or "{}").keys():
                yield path


@pytest.mark.skipif(not os.environ.get("DATA_DIR"), reason="needs real data: DATA_DIR is not set")
def test_real_data() -> None:
    files = list(real_files())
    if not files:
        pytest.skip("no *.jsonl with tokens and tags in DATA_DIR/*/")
    schema = Schema("tokens", None, (LabelColumn("slots", "tags", "word"),))
    for path in files:
        info = scan(read_records(str(path)), schema, "optional")
        records = [record for _, record in islice(read_records(str(path)), 150)]
        tokenizer = train_tokenizer((" ".join(record["tokens"]) for record in records), 2000)
        vocab = LabelVocab.from_counts(info.label_counts["slots"], "word")
        features = RecordEncoder(tokenizer, schema, {"slots": vocab}, 512)(list(enumerate(records)))
        for record, feature in zip(records, features, strict=True):
            pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] or [1] for word in record["tokens"]]
            assert feature["input_ids"][1:-1] == [number for piece in pieces for number in piece][:510]
            if not feature["truncated"]:
                assert feature["word_starts"] == list(accumulate((len(p) for p in pieces[:-1]), initial=1))
                assert [vocab.names[number] for number in feature["labels"]["slots"]] == record["tags"]
