"""data_process/vocabulary.py: new words are found where they should be, and nowhere else."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertConfig, GPT2Config, PreTrainedTokenizerFast

from data_process.errors import DataError
from data_process.lossless_tokenizer import train_lossless_tokenizer
from data_process.tokenizer import load_tokenizer, train_tokenizer
from data_process.vocabulary import add_words, normalized, pieces_of, save
from data_process.vocabulary_check import compare

KINDS = ["wordpiece", "bytes", "lossless", "unigram"]
CHINESE = ["牙刷", "电动牙刷", "研究", "研究生", "生命"]
WORDS = ["cat", "melaton", "hyper", *CHINESE]
LONGER = ["category", "bobcat", "cats", "melatonin", "hyperbole", "scatter"]
OTHERS = ["the", "dog", "sat", "on", "a", "mat", "with", "bore"]
TEXTS = [
    "the dog sat on a mat, with a bore; the dog sat.", "The other gate: dogs go to the store (all of them)!",
    "quick zebras jump over vexed wolves by five", "我 用 电 动 牙 刷 刷 牙 。", "研 究 生 命 起 源 很 好",
] * 3  # fmt: skip


@cache
def tokenizer_of(kind: str) -> Any:
    """Trained on TEXTS, in which no word of WORDS stands; to be read only."""
    if kind == "wordpiece":
        return train_tokenizer(TEXTS, 110)
    if kind == "lossless":
        return train_lossless_tokenizer(TEXTS, 360)
    options: Any = {"special_tokens": ["<pad>", "</s>", "<unk>"], "show_progress": False}
    trainer: Any
    if kind == "bytes":
        options |= {"vocab_size": 320, "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
        tokenizer, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(**options)
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    else:
        options |= {"vocab_size": 100, "unk_token": "<unk>"}
        tokenizer, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer(**options)
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        tokenizer.normalizer = normalizers.NFKC()
    tokenizer.train_from_iterator(TEXTS, trainer)
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def tokens_of(tokenizer: Any, text: str) -> list[str]:
    return [token.strip("Ġ▁") for token in tokenizer.convert_ids_to_tokens(ids_of(tokenizer, text))]


def random_texts(words: list[str], count: int = 100) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [list(rng.choice(words, rng.integers(1, 9))) for _ in range(count)]


# ------------------------------------------------------------------------------------------------------- guarantees


@pytest.mark.parametrize("kind", KINDS)
def test_old_ids_stay_and_new_ones_follow(kind: str) -> None:
    old = tokenizer_of(kind)
    new, ids = add_words(old, WORDS)
    assert sorted(ids.values()) == [*range(len(old), len(old) + len(WORDS))] and set(ids) == set(WORDS)
    assert len(new) == len(old) + len(WORDS)
    assert old.get_vocab().items() <= new.get_vocab().items()
    assert "cat" not in old.get_vocab(), "the old one is not changed"


@pytest.mark.parametrize("kind", KINDS)
def test_texts_without_the_words_keep_their_ids(kind: str) -> None:
    old = tokenizer_of(kind)
    new, _ = add_words(old, WORDS)
    for words in random_texts([*OTHERS, "bobcat", "scatter", "(", "!", "我", "刷 牙", "研 究"]):
        for text in (" ".join(words), ",".join(words), "  ".join(words).title()):
            assert ids_of(new, text) == ids_of(old, text)
    assert compare(old, new, add_words(old, WORDS)[1], TEXTS)["texts_changed"] == 0


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "lossless"])
def test_a_word_is_one_sub_word_and_the_longer_ones_stay(kind: str) -> None:
    old = tokenizer_of(kind)
    new, ids = add_words(old, WORDS)
    for words in random_texts([*WORDS[:3], *LONGER, *OTHERS]):
        text = "".join(f" {word}" for word in words)
        each = ([ids[word]] if word in ids else ids_of(old, f" {word}") for word in words)
        assert ids_of(new, text) == [number for numbers in each for number in numbers]
        assert new.decode(ids_of(new, text)).strip() == text.strip()
    assert tokens_of(new, "the (cat), cat-mat cat's category") == tokens_of(old, "the (") + (
        ["cat"] if kind == "wordpiece" else tokens_of(old, "cat")
    ) + tokens_of(old, "),") + ["cat"] + tokens_of(old, "-mat") + ["cat"] + tokens_of(old, "'s category")


def test_a_unigram_text_has_the_same_pieces_some_of_them_as_one() -> None:
    """Also where a longer word begins with a new one and had a border there."""
    old = tokenizer_of("unigram")
    new, ids = add_words(old, WORDS)
    pieces = dict(zip(ids.values(), pieces_of(old, list(ids)), strict=True))
    for words in random_texts([*WORDS, *LONGER, *OTHERS]):
        text = " ".join(words)
        found = ids_of(new, text)
        assert [piece for number in found for piece in pieces.get(number, [number])] == ids_of(old, text)
        assert new.decode(found) == old.decode(ids_of(old, text)) == text
        assert all(found.count(ids[word]) >= words.count(word) for word in WORDS[:3])


@pytest.mark.parametrize("kind", KINDS)
def test_chinese_words_between_chinese_neighbours(kind: str) -> None:
    new, _ = add_words(tokenizer_of(kind), WORDS)
    for text, expected in {
        "我用牙刷刷牙。": ["牙刷"], "用电动牙刷": ["电动牙刷"], "牙刷牙刷电动": ["牙刷", "牙刷"], "动牙 刷": [],
        "研究生命": ["研究生"], "很研究很生命": ["研究", "生命"], "cat牙刷cat": ["牙刷"],
    }.items():  # fmt: skip
        assert [token for token in tokens_of(new, text) if token in CHINESE] == expected, text
        assert new.decode(ids_of(new, text)).replace(" ", "") == text.replace(" ", "")


def test_capitals_and_accents_follow_the_normalizer() -> None:
    old = tokenizer_of("wordpiece")
    assert normalized(old, "Caт\u0301 ") == "caт" and normalized(old, "牙刷") == "牙刷"
    new, ids = add_words(old, ["cat"])
    assert ids_of(new, "CAT Cat cát 我cat牙") == [ids["cat"]] * 3 + [*ids_of(old, "我"), ids["cat"], *ids_of(old, "牙")]
    new, ids = add_words(tokenizer_of("bytes"), ["cat"])
    assert ids_of(new, " cat Cat") == [ids["cat"], *ids_of(tokenizer_of("bytes"), " Cat")]
    new, ids = add_words(tokenizer_of("unigram"), ["cat"])
    assert ids["cat"] in ids_of(new, "the ｃat")


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_those_that_the_word_had_in_a_text(kind: str) -> None:
    old = tokenizer_of(kind)
    for word, pieces in zip(WORDS, pieces_of(old, WORDS), strict=True):
        found = ids_of(old, f"我{word}我" if word in CHINESE else f"the {word} dog")
        assert len(pieces) > 1 and pieces in [found[n : n + len(pieces)] for n in range(len(found))], word
    assert pieces_of(old, []) == [] and pieces_of(old, ["two words"]) == [[]]


# ------------------------------------------------------------------------------------------------- saving and refusing


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(kind: str, tmp_path: Path) -> None:
    new, _ = add_words(tokenizer_of(kind), WORDS)
    config = BertConfig if kind == "wordpiece" else GPT2Config
    config(vocab_size=len(new), bos_token_id=1, eos_token_id=1).save_pretrained(tmp_path)
    texts = [" ".join(words) for words in random_texts([*WORDS, *LONGER, *OTHERS])]
    save(new, tmp_path, texts)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(str(tmp_path))):
        assert loaded.get_vocab() == new.get_vocab() and loaded(texts)["input_ids"] == new(texts)["input_ids"]
        assert loaded.model_input_names == new.model_input_names
    again, more = add_words(loaded, ["bobcat"])
    assert more == {"bobcat": len(new)} and ids_of(again, " cat bobcat") == [*ids_of(new, " cat"), len(new)]


@pytest.mark.parametrize(("kind", "name", "model_type"), [
    ("wordpiece", "BertTokenizer", "bert"), ("wordpiece", "DistilBertTokenizer", "distilbert"),
    ("bytes", "GPT2Tokenizer", "gpt2"), ("bytes", "RobertaTokenizer", "roberta"),
    ("unigram", "T5Tokenizer", "t5"), ("unigram", "XLMRobertaTokenizer", "xlm-roberta"),
])  # fmt: skip
def test_classes_that_make_their_own_tokenizer_of_the_file(
    kind: str, name: str, model_type: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer_of(kind).save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": name}))
    old = load_tokenizer(str(tmp_path))
    assert type(old).__name__ == name
    new, ids = add_words(old, ["cat", "牙刷"])
    texts = ["the cat sat", "我用牙刷", "a bobcat"]
    save(new, tmp_path, texts)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    found = loaded(texts)["input_ids"]
    assert found == new(texts)["input_ids"] and found[2] == old(texts)["input_ids"][2]
    assert ids["cat"] in found[0] and ids["牙刷"] in found[1]
    assert compare(old, loaded, ids, texts)["num_violations"] == 0


def test_why_bpe_needs_more_than_save_pretrained(tmp_path: Path) -> None:
    """GPT2Tokenizer takes over vocabulary and merges of tokenizer.json, and nothing else of the model."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    new, ids = add_words(tokenizer_of("bytes"), ["cat"])
    new.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "GPT2Tokenizer"}))
    assert ids["cat"] not in ids_of(AutoTokenizer.from_pretrained(tmp_path), "a cat")


def test_tokens_added_before_keep_their_ids_when_loaded(tmp_path: Path) -> None:
    GPT2Config(bos_token_id=1, eos_token_id=1).save_pretrained(tmp_path)
    for kind in ("bytes", "unigram"):
        old = copy.deepcopy(tokenizer_of(kind))
        old.add_tokens(["<user>", "<bot>"])
        new, ids = add_words(old, ["cat", "牙刷"])
        save(new, tmp_path, ["<user> cat 牙刷 <bot>"])
        assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == old.get_vocab() | {
            token: number for token, number in new.get_vocab().items() if number in ids.values()}  # fmt: skip


def test_what_cannot_be_added_is_named() -> None:
    for kind, word in (("wordpiece", "dog"), ("wordpiece", "Cat"), ("bytes", "cat-mat"), ("unigram", "cat ш")):
        with pytest.raises(DataError, match=f"words: '{word}' cannot become a sub-word of this tokenizer"):
            add_words(tokenizer_of(kind), ["hyper", word])
    assert pieces_of(tokenizer_of("unigram"), ["шш"]) == [[]], "its pieces are unknown"
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, "a")))
    with pytest.raises(DataError, match="its tokenizer is WordLevel"):
        add_words(words, ["cat"])
    whole = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    with pytest.raises(DataError, match="its tokenizer is BPE without a pre-tokenizer"):
        add_words(PreTrainedTokenizerFast(tokenizer_object=whole), ["cat"])
    whole.pre_tokenizer = pre_tokenizers.Metaspace(split=False)  # texts are not cut into words
    assert pieces_of(PreTrainedTokenizerFast(tokenizer_object=whole), ["ab"]) == [[]]


def test_another_tokenizer_after_loading_is_an_error(tmp_path: Path) -> None:
    """For a few kinds of models AutoTokenizer makes a class of its own whatever the files say: Chinese words only."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    new, _ = add_words(tokenizer_of("bytes"), ["cat", "牙刷"])
    save(new, tmp_path, ["the dog", "我用牙刷"])
    with pytest.raises(DataError, match="its tokenizer is another one when saved and loaded: 'a cat'"):
        save(new, tmp_path, ["the dog", "a cat"])
