"""Whether a tokenizer that got new words leaves all else alone: both encode the same texts, and are compared.

    report = compare(old, new, ids, texts)      # {"texts", "subwords_before", …, "violations": ["…", …]}

A text without a new word must have the ids that it had; one with new words must decode to the same text, and the new
words must be whole words in it.

Copy: with domain_words.py, errors.py, tokenizer.py, vocabulary.py, word_segments.py; needs transformers, numpy,
tokenizers; can use jieba.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from random import Random
from typing import Any

from .domain_words import is_chinese, is_letter
from .vocabulary import kind_of, pieces_of

BATCH = 256
SHOWN = 20


def compare(old: Any, new: Any, ids: Mapping[str, int], texts: Iterable[str]) -> dict[str, Any]:
    """Counts over the texts, and what should not be.

    Args:
        ids: the new words and their ids, as `add_words` returns them.

    Returns:
        texts, characters, subwords_before, subwords_after (without special tokens), texts_changed (their ids);
        neighbours_changed: texts in which other pieces than those of the new words changed, such as "##€" behind one;
        num_violations, and the first of them in words.
    """
    words = {number: word for word, number in ids.items()}
    pieces = dict(zip(words, pieces_of(old, list(ids)), strict=True))
    counts = dict.fromkeys(
        ("texts", "characters", "subwords_before", "subwords_after", "texts_changed", "neighbours_changed"), 0
    )
    violations = []
    for text, before, after in encoded(old, new, texts):
        counts["texts"] += 1
        counts["characters"] += len(text)
        counts["subwords_before"] += len(before.ids)
        counts["subwords_after"] += len(after.ids)
        if before.ids != after.ids:
            counts["texts_changed"] += 1
            counts["neighbours_changed"] += before.ids != [old_id for i in after.ids for old_id in pieces.get(i, [i])]
            violations += violations_of(old, new, words, text, before, after)
    return counts | {"num_violations": len(violations), "violations": violations[:SHOWN]}


def encoded(old: Any, new: Any, texts: Iterable[str]) -> Iterator[tuple[str, Any, Any]]:
    """(text, its encoding by the old tokenizer, and by the new one)"""
    remaining = iter(texts)
    while batch := list(islice(remaining, BATCH)):
        both = (tokenizer(batch, add_special_tokens=False, verbose=False).encodings for tokenizer in (old, new))
        yield from zip(batch, *both, strict=True)


def violations_of(old: Any, new: Any, words: Mapping[int, str], text: str, before: Any, after: Any) -> list[str]:
    """What is wrong with a text that is encoded in another way than before; [] if nothing is."""
    used = [(words[number], span) for number, span in zip(after.ids, after.offsets, strict=True) if number in words]
    inside = [f"{word!r} is used inside {longer!r}" for word, span in used if (longer := longer_word(text, *span))]
    if not used or inside:
        return list(dict.fromkeys(inside)) or [f"has no new word, but other sub-words: {text[:60]!r}"]
    if old.unk_token_id in before.ids:  # the old text is lost
        return []
    texts = [tokenizer.decode(ids) for tokenizer, ids in ((old, before.ids), (new, after.ids))]
    if kind_of(old) == "WordPiece":  # which decodes to a space between any two whole sub-words
        texts = ["".join(text.split()) for text in texts]
    return [] if texts[0] == texts[1] else [f"decodes to {texts[1][:60]!r}, not to {texts[0][:60]!r}"]


def longer_word(text: str, start: int, end: int) -> str:
    """The word of which text[start:end] is only a part; "" if it is whole. Chinese has no borders: always whole."""
    start += len(text[start:end]) - len(text[start:end].lstrip())
    while end < len(text) and unicodedata.category(text[end])[0] == "M":  # accents that the normalizer took away
        end += 1
    left, right = start, end
    while left > 0 and joined(text[left - 1], text[left]):
        left -= 1
    while right < len(text) and joined(text[right - 1], text[right]):
        right += 1
    return "" if (left, right) == (start, end) else text[left:right]


def joined(a: str, b: str) -> bool:
    """Whether two neighbours belong to one word."""
    return all(is_letter(character) and not is_chinese(character) for character in (a, b))


def sample(texts: Iterable[str], size: int) -> list[str]:
    """Some of them, each with the same chance, the same ones every time; all if there are no more."""
    chosen, random = [], Random(0)
    for number, text in enumerate(texts):
        if number < size:
            chosen.append(text)
        elif (place := random.randrange(number + 1)) < size:
            chosen[place] = text
    return chosen
