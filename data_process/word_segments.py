"""Which sub-words begin a word, so that whole words can be masked, in English, Chinese and mixed texts.

    segment = load_segmenter("jieba")                                   # or from a word list, or None
    word_starts(tokenizer.backend_tokenizer.encode("使用语言模型"), "使用语言模型", segment)    # [1, 0, 1, 0, 1, 0]

What the tokenizer's own pre-tokenizer takes for a word is one (in English words and punctuation marks, for BERT's kind
each Chinese character); a segmenter joins some of them to longer ones: Chinese words (whole word masking as in Cui et
al. 2021, https://arxiv.org/abs/1906.08101), or phrases of a list, such as entities (Sun et al. 2019,
https://arxiv.org/abs/1904.09223).

Copy: with errors.py; needs numpy; can use jieba.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .errors import DataError

# Han characters and kana: scripts that put no spaces between words
UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
Segmenter = Callable[[str], Iterable[tuple[int, int]]]  # text -> first character, and the one behind, of each long word


def word_starts(encoding: Any, text: str, segment: Segmenter | None = None) -> np.ndarray:
    """(T,) bool, True where a sub-word begins a word.

    Args:
        encoding: of the `tokenizers` library, of this text without special tokens.
        segment: joins what begins inside one of its words.
    """
    words = np.array(encoding.word_ids, dtype=np.int64)
    starts = np.diff(words, prepend=-1) != 0
    if segment is not None and len(words):
        long_word = np.full(len(text) + 1, -1)
        for number, (first, end) in enumerate(segment(text)):
            long_word[first:end] = number
        of_piece = long_word[[max(0, end - 1) for _, end in encoding.offsets]]  # a piece may begin with a space
        starts[1:] &= (of_piece[1:] != of_piece[:-1]) | (of_piece[1:] < 0)
    return starts


def load_segmenter(name: str | None, lexicon: str | None = None) -> Segmenter | None:
    """
    Args:
        name: "jieba", or None.
        lexicon: file with a word or phrase per line; they win over jieba's words.

    Raises: DataError if jieba is not installed, or for a lexicon that cannot be read.
    """
    by_jieba = jieba_words if name == "jieba" else None
    if by_jieba:
        jieba_tokenizer()
    by_list = Lexicon(read_lexicon(lexicon)) if lexicon else None
    return Joined(by_jieba, by_list) if by_jieba and by_list else by_jieba or by_list


def jieba_words(text: str) -> Iterator[tuple[int, int]]:
    """Words of two characters or more, without white space: jieba takes a row of spaces for one."""
    for word, first, end in jieba_tokenizer().tokenize(text):
        if end - first > 1 and not word.isspace():
            yield first, end


@cache
def jieba_tokenizer() -> Any:
    """Raises DataError if jieba is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its source has escapes that Python warns about
        try:
            import jieba
        except ImportError:
            message = "Chinese texts are cut into words by jieba, or by a list of words (lexicon): pip install jieba"
            raise DataError("arguments", message) from None
    jieba.setLogLevel("WARNING")
    tokenizer = jieba.Tokenizer()
    with TemporaryDirectory() as folder:  # else it reads and leaves a file where everybody may write
        tokenizer.tmp_dir = folder
        tokenizer.initialize()
    return tokenizer


def read_lexicon(path: str) -> list[str]:
    try:
        words = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read: {error}", "lexicon") from None
    if not any(words):
        raise DataError(path, "no words in it; expected one per line", "lexicon")
    return [word for word in words if word]


class Lexicon:
    """The longest word of a list at each place, from left to right. An English word is never begun or ended inside."""

    def __init__(self, words: Iterable[str]):
        self.words = frozenset(words)
        self.lengths: dict[str, list[int]] = {}  # first character -> lengths of the words, longest first
        for word in self.words:
            self.lengths.setdefault(word[0], []).append(len(word))
        for character, lengths in self.lengths.items():
            self.lengths[character] = sorted(set(lengths), reverse=True)

    def __call__(self, text: str) -> Iterable[tuple[int, int]]:
        place = 0
        while place < len(text):
            end = self.longest(text, place)
            if end:
                yield place, end
            place = end or place + 1

    def longest(self, text: str, place: int) -> int:
        """End of the longest word that stands here, 0 if there is none."""
        if glued(text, place):
            return 0
        ends = (place + n for n in self.lengths.get(text[place], ()) if place + n <= len(text))
        return next((end for end in ends if text[place:end] in self.words and not glued(text, end)), 0)


def glued(text: str, place: int) -> bool:
    """Whether the characters before and at this place belong to one word of an alphabet."""
    return 0 < place < len(text) and all(c.isalnum() and not is_unspaced(c) for c in text[place - 1 : place + 1])


def is_unspaced(character: str) -> bool:
    return re.match(f"[{UNSPACED}]", character) is not None


def unspaced_share(texts: Iterable[str]) -> float:
    """Of all characters."""
    joined = "".join(texts)
    return sum(map(is_unspaced, joined)) / max(1, len(joined))


class Joined:
    """The words of `second`, and those of `first` that do not overlap with them."""

    def __init__(self, first: Segmenter, second: Segmenter):
        self.first, self.second = first, second

    def __call__(self, text: str) -> Iterable[tuple[int, int]]:
        taken = np.zeros(len(text), bool)
        for place, end in self.second(text):
            taken[place:end] = True
            yield place, end
        yield from ((place, end) for place, end in self.first(text) if not taken[place:end].any())
