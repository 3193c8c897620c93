"""data_process/vocabulary_check.py: what a tokenizer with new words may change in old texts, and what it may not."""

import copy
import json
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from data_process.vocabulary import add_words
from data_process.vocabulary_check import compare, longer_word, sample
from tests.test_vocabulary import ids_of, tokenizer_of


def add_plainly(kind: str, words: list[str]) -> tuple[Any, dict[str, int]]:
    """What `tokenizer.add_tokens` alone does."""
    new = copy.deepcopy(tokenizer_of(kind))
    new.add_tokens([AddedToken(word) for word in words])
    return new, {word: new.convert_tokens_to_ids(word) for word in words}


def test_the_check_finds_words_inside_words() -> None:
    old = tokenizer_of("wordpiece")
    report = compare(old, *add_plainly("wordpiece", ["cat"]), ["a cat", "the category, the category", "the dog"])
    assert report["violations"] == ["'cat' is used inside 'category'"] and report["num_violations"] == 1
    assert report["texts_changed"] == 2 and report["neighbours_changed"] == 1
    report = compare(tokenizer_of("unigram"), *add_words(tokenizer_of("unigram"), ["cat"]), ["a cat, cats", "a bobcat"])
    assert report["violations"] == ["'cat' is used inside 'cats'"] and report["texts_changed"] == 1


def test_the_check_finds_lost_and_new_spaces() -> None:
    report = compare(tokenizer_of("unigram"), *add_plainly("unigram", ["牙刷"]), ["我牙刷刷牙"])
    assert report["violations"] == ["decodes to '我牙刷 刷牙', not to '我牙刷刷牙'"]
    old = copy.deepcopy(tokenizer_of("bytes"))
    old.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert compare(old, *add_words(old, ["牙刷"]), ["我牙刷刷牙"])["violations"] == [
        "decodes to ' 我牙刷 刷牙', not to ' 我牙刷刷牙'"
    ]


def test_the_check_finds_other_sub_words_in_old_texts() -> None:
    old = tokenizer_of("bytes")
    state = json.loads(old.backend_tokenizer.to_str())
    state["model"]["merges"] = []
    new = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), pad_token="<pad>")
    [violation] = compare(old, new, {}, ["the dog", "x"])["violations"]
    assert violation == "has no new word, but other sub-words: 'the dog'"


def test_the_check_counts() -> None:
    old = tokenizer_of("wordpiece")
    texts = ["a cat sat", "cat€", "the dog", "ш cat", "ca\u0301t"] * 100  # more than a batch; € is no word character
    new, ids = add_words(old, ["cat"])
    report = compare(old, new, ids, iter(texts))
    before, after = (sum(len(ids_of(tokenizer, text)) for text in texts) for tokenizer in (old, new))
    assert report == {
        "texts": 500, "characters": sum(map(len, texts)), "subwords_before": before, "subwords_after": after,
        "texts_changed": 400, "neighbours_changed": 100, "num_violations": 0, "violations": [],
    }  # fmt: skip


@pytest.mark.parametrize(("text", "part", "expected"), [
    ("a category b", "cat", "category"), ("a category b", " category", ""), ("bobcat", "cat", "bobcat"),
    ("(cat)", "cat", ""), ("cat", "cat", ""), ("_cat2", "cat", ""), ("我cat牙", "cat", ""),
    ("用牙刷刷", "牙刷", ""), ("cat\u0301s", "cat", "cat\u0301s"), ("cat\u0301 s", "cat", ""),
])  # fmt: skip
def test_the_word_around_a_part_of_a_text(text: str, part: str, expected: str) -> None:
    assert longer_word(text, text.index(part), text.index(part) + len(part)) == expected


def test_a_sample_is_all_or_a_fair_part() -> None:
    texts = [str(number) for number in range(100)]
    assert sample(iter(texts), 100) == texts and sample(iter(texts), 7) == sample(iter(texts), 7)
    found = sample(iter(texts), 50)
    assert len(set(found)) == 50 and 15 < sum(int(text) < 50 for text in found) < 35
