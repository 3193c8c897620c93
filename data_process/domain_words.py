"""Words of a corpus, and which of them a tokenizer would gain most by knowing whole.

    counts = count_words(texts, cut_chinese=jieba_words, normalize=str.lower)
    best = rank_words(counts, count_pieces, num_words=2000)     # [{"word", "count", "pieces", "saved"}, …]

A word is a run of letters between other characters; Chinese runs are cut by jieba or by a lexicon.

Copy: with errors.py, word_segments.py; needs numpy, tokenizers; can use jieba.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tokenizers import pre_tokenizers

from .word_segments import Lexicon, jieba_tokenizer

CHINESE = re.compile("([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)")

Cut = Callable[[str], Sequence[str]]


def is_chinese(word: str) -> bool:
    """Whether all of it is Chinese characters."""
    return CHINESE.fullmatch(word) is not None


def is_letter(character: str) -> bool:
    """Whether it is a letter, a Chinese character, or a mark such as an accent that stands behind one."""
    return unicodedata.category(character)[0] in "LM"


def count_words(texts: Iterable[str], cut_chinese: Cut, normalize: Callable[[str], str]) -> Counter[str]:
    """How often each word occurs; in memory are the different words, not the texts.

    Args:
        cut_chinese: a run of Chinese characters -> its words.
        normalize: a word -> how the tokenizer sees it, such as in lower case; "" leaves it out.
    """
    runs = pre_tokenizers.Whitespace()  # \w+ as the tokenizers understand it: with combining marks, unlike re's
    counts: Counter[str] = Counter()
    for text in texts:
        for run, _ in runs.pre_tokenize_str(text):
            if CHINESE.search(run):
                for part in filter(None, CHINESE.split(run)):
                    counts.update(cut_chinese(part) if is_chinese(part) else [part])
            else:
                counts[run] += 1
    normalized: Counter[str] = Counter()
    for word, count in counts.items():
        if all(map(is_letter, word)):
            normalized[normalize(word)] += count
    del normalized[""]
    return normalized


def rank_words(
    counts: Counter[str],
    count_pieces: Callable[[list[str]], Sequence[int]],
    num_words: int,
    min_count: int = 5,
    min_length: int = 2,
) -> list[dict[str, Any]]:
    """The words that save most sub-words, `count * (pieces - 1)`; equal ones in the order of their letters.

    Args:
        count_pieces: words -> the number of sub-words that each is now; 0 leaves a word out.
        num_words: longest result.
        min_count, min_length: rarer words, and those of fewer characters, are left out.
    """
    words = [word for word, count in counts.items() if count >= min_count and len(word) >= min_length]
    rows: list[dict[str, Any]] = [
        {"word": word, "count": counts[word], "pieces": pieces, "saved": counts[word] * (pieces - 1)}
        for word, pieces in zip(words, count_pieces(words), strict=True)
        if pieces > 1
    ]
    rows.sort(key=lambda row: (-row["saved"], row["word"]))
    return rows[:num_words]


def lexicon_cut(lexicon: Iterable[str]) -> Cut:
    """Cut by the longest words of a lexicon from the left; characters that begin none of them stand alone."""
    segment = Lexicon(lexicon)

    def cut(run: str) -> list[str]:
        words, place = [], 0
        for first, end in segment(run):
            words += [*run[place:first], run[first:end]]
            place = end
        return [*words, *run[place:]]

    return cut


def jieba_words(run: str) -> list[str]:
    """Raises DataError if jieba is not installed."""
    return jieba_tokenizer().lcut(run)
