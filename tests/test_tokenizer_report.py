"""data_process/tokenizer_report.py against figures made by hand and by counting without shortcuts."""

import random
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from tokenizers import models, normalizers
from transformers import PreTrainedTokenizerFast

from data_process import tokenizer_report
from data_process.tokenizer import load_tokenizer
from data_process.tokenizer_pipelines import normalizer_of, pipeline
from data_process.tokenizer_report import as_table, report
from data_process.train_tokenizer import learn_tokenizer

HAND = ["我爱Paris, 2024", "我爱  paris!", "狗狗", "Paris"]
VOCAB = ["[UNK]", "[PAD]", "我", "爱", "Paris", ",", "!", "never"]


@pytest.fixture
def two_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chinese words of two characters, instead of jieba's, which take a second to load."""
    monkeypatch.setattr(tokenizer_report, "chinese_words", lambda: lambda run: re.findall("..?", run))


def of_words(**saved: Any) -> PreTrainedTokenizerFast:
    vocab = {word: number for number, word in enumerate(VOCAB)}
    model = models.WordLevel(vocab, unk_token="[UNK]")
    normalizer = normalizer_of("wordlevel", "nfc", lowercase=False, strip_accents=False)
    backend = pipeline("wordlevel", model, normalizer)
    if saved:
        backend.enable_truncation(**saved)
        backend.enable_padding(length=50)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")


def test_an_example_by_hand(two_words: None) -> None:
    """我 爱 Paris , [2024] / 我 爱 [paris] ! / [狗] [狗] / Paris: 12 tokens, of which 4 are unknown."""
    figures = report(of_words(), iter(HAND))
    speed = figures.pop("speed")
    assert figures == {
        "texts": 4, "characters": 30, "bytes": 30 + 2 * 6, "tokens": 12, "vocab_size": 8,
        # 6 Chinese characters in 我爱 我爱 狗狗; other words: Paris , 2024 / paris ! / Paris
        "fertility": {"chinese_character": 1.0, "chinese_word": 2.0, "other_word": 1.0},
        "per_token": {"characters": 30 / 12, "bytes": 42 / 12},
        # p is known nowhere, but aris are; 狗 twice, 2 twice
        "unknown": {"tokens": 4 / 12, "characters": [["2", 2], ["狗", 2], ["0", 1], ["4", 1], ["p", 1]]},
        # 我爱Paris,!  of  我爱Paris,2 0 4p!狗; 27 are visible, of which 4 + 5 + 2 are in unknown tokens
        "coverage": {"distinct_characters": 9 / 14, "running_characters": 16 / 27, "vocabulary": 6 / 8},
        "round_trip": {"exact": 1 / 4, "normalized": 1 / 4},
        "lengths": {"mean": 3.0, "p50": 2, "p95": 5, "p99": 5, "max": 5},
        "longest_tokens": ["Paris", "never", "!", ",", "我", "爱"],
        "most_frequent_tokens": [["[UNK]", 4], ["我", 2], ["爱", 2], ["Paris", 2], [",", 1], ["!", 1]],
    }  # fmt: skip
    assert speed["texts_per_second"] > 0 and speed["megabytes_per_second"] > 0


def test_the_table(two_words: None) -> None:
    figures = report(of_words(), HAND)
    figures["speed"] = {"megabytes_per_second": 1.234, "texts_per_second": 12345.6}
    assert as_table(figures).splitlines() == [
        "texts             4: 30 characters, 42 bytes, 12 tokens",
        "fertility         1.00 tokens per Chinese character, 2.00 per word of jieba, 1.00 per word of the rest",
        "per token         2.50 characters, 3.50 bytes",
        "unknown           33.33 % of the tokens; never known: '2' 2, '狗' 2, '0' 1, '4' 1, 'p' 1",
        "coverage          64.29 % of the distinct characters, 59.26 % of the running ones, "
        "75.00 % of a vocabulary of 8",
        "round trip        25.00 % of the texts exactly, 25.00 % but for normalization and spaces",
        "tokens of a text  mean 3.00, p50 2, p95 5, p99 5, max 5",
        "longest tokens    'Paris' 'never' '!' ',' '我' '爱'",
        "most frequent     '[UNK]' 4, '我' 2, '爱' 2, 'Paris' 2, ',' 1, '!' 1",
        "speed             1.23 MB/s, 12,346 texts/s",
    ]
    assert "- tokens per Chinese character, - per word of jieba, 1.00" in as_table(report(of_words(), ["Paris"]))


def test_saved_cutting_and_padding_count_for_nothing_and_stay(two_words: None) -> None:
    tokenizer = of_words(max_length=2)
    figures, plain = report(tokenizer, HAND), report(of_words(), HAND)
    assert figures | {"speed": 0} == plain | {"speed": 0}
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 2


def random_texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    words = ["the", " cats", " sat", "我们", "世界", "，", "!", " don't", "  ", "\n", "naïve", "🤗", "x2", "々", "é"]
    return ["".join(rng.choices(words, k=rng.randint(1, 30))) for _ in range(count)]


@pytest.mark.parametrize("name", ["wordpiece", "bpe", "byte_level_bpe", "unigram"])
def test_figures_are_those_of_counting_text_by_text(name: Any, two_words: None) -> None:
    """By transformers' own calls; 300 texts are more than one batch; some characters are unknown."""
    tokenizer = learn_tokenizer(random_texts(1, 3), name, 400)
    texts = random_texts(2, 300)
    found = report(tokenizer, texts)
    ids, spans = [], []
    for text in texts:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids.append(encoded["input_ids"])
        spans.append(encoded["offset_mapping"])
    tokens = Counter(i for row in ids for i in row)
    chinese = [c for text in texts for c in text if "一" <= c <= "鿿" or c == "々"]
    chinese_tokens = sum(any("一" <= c <= "鿿" or c == "々" for c in text[a:b])
                         for text, row in zip(texts, spans, strict=True) for a, b in row)  # fmt: skip
    assert found["tokens"] == tokens.total() and found["bytes"] == len("".join(texts).encode())
    assert found["fertility"]["chinese_character"] == chinese_tokens / len(chinese)
    others = sum(len(re.findall(r"[a-zA-Z0-9ïé]+|[^\s\w]", text)) for text in texts)
    assert found["fertility"]["other_word"] == (tokens.total() - chinese_tokens) / others
    assert found["unknown"]["tokens"] == tokens[tokenizer.unk_token_id] / tokens.total()
    lengths = [len(row) for row in ids]
    ranks = {f"p{n}": int(np.percentile(lengths, n, method="inverted_cdf")) for n in (50, 95, 99)}
    assert found["lengths"] == {"mean": pytest.approx(np.mean(lengths)), **ranks, "max": max(lengths)}
    backend = tokenizer.backend_tokenizer
    decoded = [tokenizer.decode(row) for row in ids]
    exact = sum(text == again for text, again in zip(texts, decoded, strict=True))
    assert found["round_trip"]["exact"] == exact / 300
    squeezed = [["".join(backend.normalizer.normalize_str(t).split()) for t in part] for part in (texts, decoded)]
    assert found["round_trip"]["normalized"] == sum(a == b for a, b in zip(*squeezed, strict=True)) / 300
    if name.endswith("bpe"):
        assert found["round_trip"]["exact"] == 1 and found["unknown"]["tokens"] == 0
    assert found["coverage"]["vocabulary"] == len(tokens) / len(tokenizer)
    covered: set[str] = set()
    hidden: Counter[str] = Counter()
    for text, row, places in zip(texts, ids, spans, strict=True):
        unknown = {p for i, (a, b) in zip(row, places, strict=True) if i == tokenizer.unk_token_id for p in range(a, b)}
        covered |= {c for p, c in enumerate(text) if p not in unknown}
        hidden.update(text[p] for p in unknown)
    visible = Counter(c for text in texts for c in text if not c.isspace())
    assert found["coverage"]["distinct_characters"] == len(visible.keys() & covered) / len(visible)
    expected = (visible.total() - sum(hidden[c] for c in visible)) / visible.total()
    assert found["coverage"]["running_characters"] == expected
    assert dict(found["unknown"]["characters"]) == {c: n for c, n in visible.items() if c not in covered}


def test_composed_characters_count_as_equal_behind_the_normalizer(two_words: None) -> None:
    tokenizer = learn_tokenizer(["abc é"], "bpe", 400)
    assert isinstance(tokenizer.backend_tokenizer.normalizer, normalizers.Sequence)
    assert report(tokenizer, ["e\u0301"])["round_trip"] == {"exact": 0.0, "normalized": 1.0}


def test_words_of_jieba() -> None:
    pytest.importorskip("jieba")
    figures = report(of_words(), ["我爱北京天安门, 北京。"])  # 我 爱 北京 天安门 北京
    assert figures["fertility"]["chinese_word"] == 9 / 5


def test_without_jieba_there_are_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_report, "find_spec", lambda name: None)
    assert report(of_words(), HAND)["fertility"]["chinese_word"] is None


def test_a_tokenizer_without_unknown_token(tmp_path: Any, two_words: None) -> None:
    learned = learn_tokenizer(random_texts(1, 50), "byte_level_bpe", 400)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learned.backend_tokenizer, pad_token="[PAD]")
    tokenizer.save_pretrained(tmp_path)
    figures = report(load_tokenizer(str(tmp_path)), [*HAND, "，，，，，，，，，"])
    assert figures["most_frequent_tokens"][0][0] == "，"  # not "ï¼Į", which is how it is spelled
    assert figures["unknown"] == {"tokens": 0.0, "characters": []} and figures["round_trip"]["exact"] == 1
