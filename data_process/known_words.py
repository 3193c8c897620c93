"""Sub-words of texts from those of their words, each of which is tokenised once: most of a text came up before.

    known = KnownWords(encode)                       # encode: words -> sub-words of each
    known([["play", "it"], ["it"]])                  # [[[2377], [2009]], [[2009]]]
    known([bert_words(text) for text in texts])      # if cut_as_bert(tokenizer)

Exact for lists of words, of which every tokenizer takes each by itself, and for texts if the tokenizer cuts them as
BERT's does.

Copy: with bert_words.py; needs tokenizers.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from tokenizers import normalizers, pre_tokenizers

from .bert_words import PIECE

MOST_CHARS = 1 << 20  # of the words that are remembered: some 30 MB

Ids = list[int]


class KnownWords:
    """Picklable if `encode` is."""

    def __init__(self, encode: Callable[[list[str]], list[Ids]]):
        self.encode = encode
        self.known: dict[str, Ids] = {}
        self.num_chars = 0

    def __call__(self, texts: Sequence[Sequence[str]]) -> list[list[Ids]]:
        """Sub-words of each word of each text; not to be changed."""
        if self.num_chars > MOST_CHARS:
            self.known, self.num_chars = {}, 0
        if new := [*set(chain.from_iterable(texts)).difference(self.known)]:
            self.known.update(zip(new, self.encode(new), strict=True))
            self.num_chars += sum(map(len, new))
        return [[*map(self.known.__getitem__, words)] for words in texts]


def cut_as_bert(tokenizer: Any) -> bool:
    """Whether a fast tokenizer takes each of `bert_words` by itself, whatever its model is."""
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer):
        return False
    if not isinstance(backend.normalizer, normalizers.BertNormalizer) or not backend.normalizer.handle_chinese_chars:
        return False
    # added tokens are looked for before a text is cut, and some of them ask what stands beside
    added = tokenizer.added_tokens_decoder.values()
    return not any(token.single_word or not PIECE.fullmatch(token.content) for token in added)


def bert_words(text: str) -> list[str]:
    """Pieces of a text, each one word of BERT or several; one in ASCII is cut at spaces only, which is quicker."""
    return text.split(" ") if text.isascii() else PIECE.findall(text)
