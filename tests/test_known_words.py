"""Texts put together from the sub-words of their words are what the tokenizer makes of them whole."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers

from data_process import known_words
from data_process.known_words import KnownWords, bert_words, cut_as_bert
from data_process.tokenizer import train_tokenizer
from tests.test_encode import PIECES, TEXTS, tokenizer_of

BETWEEN = ["", " ", "  ", "\t", "\r\n", "\u3000", "\xa0", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\u2028", "\u200b"]
NORMALIZERS = {
    "BERT": {}, "cased": {"lowercase": False}, "with accents": {"strip_accents": False},
    "not cleaned": {"clean_text": False},
}  # fmt: skip
STRIPPED = AddedToken("<x>", lstrip=True, rstrip=True)
ADDED = ["covid", "[OLD]", "émigré", "龘", STRIPPED, AddedToken("Ab", normalized=True)]
PARTS = [*PIECES, *BETWEEN, "covid19", "[OLD]x", "émigrés", "中龘a", " <x> b", "xab"]
TEXT = st.lists(st.sampled_from(PARTS) | st.text(max_size=4), max_size=15).map("".join)
ONE_WORD = AddedToken("ab", single_word=True, normalized=False)


def bert(added: list[Any], **options: Any) -> Any:
    tokenizer = train_tokenizer(TEXTS, 120)
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.add_tokens(added)
    return tokenizer


def whole(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def from_words(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    known = KnownWords(lambda words: [whole(tokenizer, word) for word in words])
    return [[number for piece in pieces for number in piece] for pieces in known([bert_words(text) for text in texts])]


@pytest.mark.parametrize("kind", NORMALIZERS)
def test_texts_of_bert(kind: str) -> None:
    tokenizer = bert(ADDED, **NORMALIZERS[kind])
    assert cut_as_bert(tokenizer)

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(texts=st.lists(TEXT, min_size=1, max_size=4))
    def same(texts: list[str]) -> None:
        assert from_words(tokenizer, texts) == [whole(tokenizer, text) for text in texts]

    same()


@pytest.mark.parametrize(
    ("added", "text"), [("new york", "a new york b"), ("周杰", "播周杰伦"), (ONE_WORD, "中ab"), ("a\tb", "中a\tb")]
)
def test_tokens_that_stretch_over_words_forbid_it(added: Any, text: str) -> None:
    tokenizer = bert([added])
    assert not cut_as_bert(tokenizer)
    assert from_words(tokenizer, [text]) != [whole(tokenizer, text)]


def test_other_tokenizers_do_not_cut_so() -> None:
    assert not cut_as_bert(tokenizer_of("bytes")) and not cut_as_bert(tokenizer_of("unigram"))
    assert not cut_as_bert(bert([], handle_chinese_chars=False))
    other = bert([])
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace()])
    assert not cut_as_bert(other)


def test_a_word_is_encoded_once_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()

    def encode(words: list[str]) -> list[list[int]]:
        asked.update(words)
        return [[len(word)] for word in words]

    known = KnownWords(encode)
    assert known([["a", "bcd", "a"], [], ["bcd"]]) == [[[1], [3], [1]], [], [[3]]]
    assert known([["a", "ef"]]) == [[[1], [2]]]
    assert asked == {"a": 1, "bcd": 1, "ef": 1}
    monkeypatch.setattr(known_words, "MOST_CHARS", 50)
    for number in range(1000):
        assert known([[f"{number:03}", "a"]]) == [[[3], [1]]]
        assert sum(map(len, known.known)) <= 50 + 4
    assert 50 < asked["a"] < 100 and set(asked.values()) == {1, asked["a"]}
