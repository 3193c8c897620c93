"""The words of BERT, counted in one pass over the texts, and the two vocabularies learnt from them.

    words = count_words(texts, normalizer, pre_tokenizer)           # {"play": 3, "歌": 1}
    vocab = wordpiece_vocab(words, ["[PAD]", "[UNK]"], min_frequency=2, vocab_size=30000)

WordPiece as in tokenizers, whose trainer has two traps: it numbers the ##characters in an order that is another in
every process and breaks ties by these numbers; and it normalises and cuts every occurrence of a word anew. Here each
distinct word is cut once, its ##characters are known and sorted before the trainer starts, and the trainer gets
the words ready.

Copy: alone; needs tokenizers.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

# BERT cuts at white space and around each Chinese character, whatever stands beside them. These are not all of them:
# a place that is left out makes longer pieces, but no other words.
PIECE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[^ \t\r\n\u3000\u3400-\u4dbf\u4e00-\u9fff]+")


def count_words(texts: Iterable[str], normalizer: Any, pre_tokenizer: Any) -> Counter[str]:
    """How often each word occurs; memory grows with distinct words, not with texts.

    Args:
        normalizer: of tokenizers; one that treats Chinese characters as BERT's does.
        pre_tokenizer: of tokenizers; one that cuts at white space.
    """
    pieces: Counter[str] = Counter()
    for text in texts:
        pieces.update(PIECE.findall(text))
    words: Counter[str] = Counter()
    for piece, count in pieces.items():
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(piece)):
            words[word] += count
    return words


def wordlevel_vocab(
    words: Mapping[str, int], special: Sequence[str], min_frequency: int, vocab_size: int
) -> dict[str, int]:
    """Word -> number: the special tokens, then the most frequent words; of equally frequent ones the first in order."""
    common = [word for word, count in words.items() if count >= min_frequency and word not in special]
    common.sort(key=lambda word: (-words[word], word))
    room = max(0, vocab_size - len(special))
    return {token: number for number, token in enumerate([*special, *common[:room]])}


def wordpiece_vocab(
    words: Mapping[str, int], special: Sequence[str], min_frequency: int, vocab_size: int, show_progress: bool = False
) -> dict[str, int]:
    """Sub-word -> number: special tokens, ##characters, characters, then merges in the order in which they were made.

    It is larger than vocab_size only if special tokens and characters alone are.
    """
    inner = sorted({f"##{character}" for word in words for character in word[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=[*special, *inner],
        show_progress=show_progress,
    )  # fmt: skip
    tokenizer = Tokenizer(models.WordPiece())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(repeated(words), trainer)
    return tokenizer.get_vocab()


def repeated(words: Mapping[str, int], length: int = 10_000) -> Iterator[str]:
    """Each word as often as it was counted, with spaces between, in strings of about `length` characters."""
    for word, count in words.items():
        most = length // (len(word) + 1) + 1
        for done in range(0, count, most):
            yield f"{word} " * min(most, count - done)
