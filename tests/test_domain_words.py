"""data_process/domain_words.py: what a word is, how often it occurs, and which are worth most."""

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_process import word_segments
from data_process.domain_words import count_words, is_chinese, jieba_words, lexicon_cut, rank_words
from data_process.errors import DataError

WORDS = ["melatonin", "sleep", "a", "Xu", "naïve", "b12", "3", "don't", "x_y", "well-known", "(dose)"]


def unused(run: str) -> list[str]:
    raise AssertionError(run)


def test_words_are_runs_of_letters_counted_as_often_as_they_occur() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 9)) for _ in range(200)]
    expected = Counter(w.lower() for text in texts for w in re.findall(r"\w+", text) if w.isalpha())
    assert count_words(iter(texts), unused, str.lower) == expected
    assert {"b12", "3", "x_y"}.isdisjoint(expected) and {"well", "xu", "naïve", "don"} <= expected.keys()


def test_marks_belong_to_their_letters() -> None:
    assert count_words(["हिन्दी, हिन्दी cafe\u0301"], unused, str) == {"हिन्दी": 2, "cafe\u0301": 1}


def test_chinese_is_cut_and_what_stands_beside_it_is_a_word() -> None:
    cut = lexicon_cut(["牙刷", "电动牙刷"])
    found = count_words(["买了Oral牌电动牙刷，旧牙刷 sleep2次"], cut, str)
    assert found == Counter(["买", "了", "Oral", "牌", "电动牙刷", "旧", "牙刷", "次"])
    assert is_chinese("牙刷") and not is_chinese("T恤") and not is_chinese("") and not is_chinese("ひら")


def test_a_word_that_is_normalized_to_nothing_is_left_out() -> None:
    assert count_words(["a b"], unused, lambda word: "" if word == "a" else word) == {"b": 1}


def test_a_lexicon_takes_the_longest_word_from_the_left() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        lexicon = {"".join(rng.choice([*"研究生命"], rng.integers(1, 5))) for _ in range(6)}
        run = "".join(rng.choice([*"研究生命"], 12))
        longest_first = sorted(lexicon, key=len, reverse=True)
        assert lexicon_cut(lexicon)(run) == re.findall("|".join([*longest_first, "."]), run)
    assert lexicon_cut([])("牙刷") == ["牙", "刷"]


def test_ranks_are_those_of_all_words_compared() -> None:
    rng = np.random.default_rng(1)
    counts = Counter({f"w{n:03}": int(rng.integers(1, 30)) for n in range(300)} | {"x": 99})
    pieces = {word: int(rng.integers(0, 6)) for word in counts} | {"x": 5}
    found = rank_words(counts, lambda words: [pieces[word] for word in words], 50, min_count=5, min_length=2)
    able = [w for w in counts if counts[w] >= 5 and len(w) >= 2 and pieces[w] >= 2]
    best = sorted(able, key=lambda w: (counts[w] - counts[w] * pieces[w], w))[:50]
    assert [row["word"] for row in found] == best
    for row in found:
        count, number = counts[row["word"]], pieces[row["word"]]
        assert (row["count"], row["pieces"], row["saved"]) == (count, number, count * (number - 1))


def test_jieba_says_nothing_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    pytest.importorskip("jieba")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    word_segments.jieba_tokenizer.cache_clear()
    assert count_words(["我来到北京清华大学"], jieba_words, str) == Counter(["我", "来到", "北京", "清华大学"])
    assert capfd.readouterr() == ("", "") and list(tmp_path.iterdir()) == []


def test_chinese_without_jieba_and_lexicon_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    word_segments.jieba_tokenizer.cache_clear()
    assert count_words(["no Chinese"], jieba_words, str) == {"no": 1, "Chinese": 1}
    with pytest.raises(DataError, match=r"Chinese texts are cut .* pip install jieba"):
        count_words(["牙刷"], jieba_words, str)
