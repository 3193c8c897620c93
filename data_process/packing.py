"""Texts of any length -> blocks of one length, filled with sub-words instead of padding.

    encode = BlockEncoder(tokenizer, length=128, segment=load_segmenter("jieba"))
    for ids, flags in pack(encode(["a text", "another"]), 128, tokenizer.pad_token_id): ...       # (N, 128) each

A block holds one or several pieces. A piece is a text with its special tokens, or a part of one that is too long; it
says for itself where it begins, so that a model can keep its attention inside. Two ways of packing:

    documents   no piece goes on in another block: best fit decreasing (Johnson 1974) over a few thousand pieces at a
                time. Each part of a long text has special tokens of its own (of causal models: only the whole text).
    crossing    texts one behind the other, cut wherever a block ends; no padding at all.

flags (uint8) are sums of: WORD a word begins, PIECE a piece begins, SECOND second text of a pair, TEXT a sub-word of a
text, not a special token, PAD.

Copy: with errors.py, templates.py, word_segments.py; needs numpy; can use jieba.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from .templates import Template, cut
from .word_segments import Segmenter, word_starts

WORD, PIECE, SECOND, TEXT, PAD = 1, 2, 4, 8, 16
Piece = tuple[np.ndarray, np.ndarray]  # ids and flags, (n,) each
AT_ONCE = 8192  # pieces that are fitted together


class BlockEncoder:
    """Texts, or pairs of them -> pieces. Picklable, for worker processes."""

    def __init__(
        self,
        tokenizer: Any,
        length: int,
        *,
        segment: Segmenter | None = None,
        causal: bool = False,
        crossing: bool = False,
    ):
        """
        Args:
            tokenizer: a fast one of transformers.
            length: of a block, in sub-words.
            segment: joins words, see word_segments.py.
            causal: texts end with the tokenizer's end token, and parts of a text have no special tokens of their own.
            crossing: texts stay whole for `pack` to cut them.
        """
        self.tokenizer, self.length, self.segment = tokenizer, length, segment
        self.causal, self.crossing = causal, crossing
        self.kinds = np.full(len(tokenizer), TEXT)
        self.kinds[tokenizer.all_special_ids] = 0  # a "[MASK]" that somebody wrote is no sub-word of a text
        self.templates = [Template(tokenizer, num_texts) for num_texts in (1, 2)]
        if causal:
            last = self.templates[0].special[1]
            last += [] if last[-1:] == [tokenizer.eos_token_id] else [tokenizer.eos_token_id]

    def __call__(self, texts: Sequence[str] | Sequence[Sequence[str]]) -> list[Piece]:
        """Pieces of some texts, or of pairs, which are one piece each and cut if they are too long."""
        if not texts or isinstance(texts[0], str):
            return [piece for text in self.tokenize(texts) for piece in self.pieces(*text)]
        firsts, seconds = (self.tokenize([pair[number] for pair in texts]) for number in (0, 1))
        return [self.pair(*both) for both in zip(firsts, seconds, strict=True)]

    def tokenize(self, texts: Sequence[Any]) -> list[Piece]:
        """Without special tokens."""
        backend = self.tokenizer.backend_tokenizer  # the outer one would also make lists of all that is in an encoding
        backend.no_truncation()
        backend.no_padding()
        encodings = backend.encode_batch(list(texts), add_special_tokens=False)
        return [self.flagged(encoding, text) for encoding, text in zip(encodings, texts, strict=True)]

    def flagged(self, encoding: Any, text: str) -> Piece:
        ids = np.array(encoding.ids, dtype=np.int64)
        kinds = self.kinds[ids] + WORD * word_starts(encoding, text, self.segment)
        return ids, kinds.astype(np.uint8)

    def pieces(self, ids: np.ndarray, flags: np.ndarray) -> Iterator[Piece]:
        """Of one text."""
        template = self.templates[0]
        if self.causal or self.crossing:
            whole = self.filled(template, [(ids, flags)])
            for part_ids, part_flags in parts(*whole, len(whole[0]) if self.crossing else self.length):
                part_flags[0] |= PIECE
                yield part_ids, part_flags
        else:
            yield from (self.filled(template, [part]) for part in parts(ids, flags, self.length - template.num_special))

    def pair(self, first: Piece, second: Piece) -> Piece:
        template = self.templates[1]
        kept = cut([len(first[0]), len(second[0])], self.length - template.num_special)
        texts = zip((first, second), kept, strict=True)
        return self.filled(template, [(ids[:length], flags[:length]) for (ids, flags), length in texts])

    def filled(self, template: Template, texts: Sequence[Piece]) -> Piece:
        """With special tokens."""
        ids, types = template.fill([ids.tolist() for ids, _ in texts])
        flags = np.where(np.array(types) > 0, SECOND, 0).astype(np.uint8)
        place = len(template.special[0])
        for number, (_, own) in enumerate(texts, 1):
            flags[place : place + len(own)] |= own
            place += len(own) + len(template.special[number])
        flags[0] |= PIECE
        return np.array(ids), flags


def word_numbers(flags: np.ndarray) -> np.ndarray:
    """Of each sub-word of a text the number of its word, 0, 1 …; flags: of any number of blocks."""
    words = np.cumsum(flags.ravel() & WORD > 0)  # also those that begin with an unknown character, which is no text
    return np.unique(words[flags.ravel() & TEXT > 0], return_inverse=True)[1]


def parts(ids: np.ndarray, flags: np.ndarray, room: int) -> Iterator[Piece]:
    """At most `room` sub-words each; one that goes on in a word begins one, too, as it cannot be masked whole."""
    for first in range(0, len(ids), room):
        part = flags[first : first + room].copy()
        part[0] |= (part[0] & TEXT > 0) * WORD
        yield ids[first : first + room], part


def pack(pieces: Iterable[Piece], length: int, pad_id: int, crossing: bool = False) -> Iterator[Piece]:
    """Yield ids (N, length) and flags (N, length) of some blocks at a time, in constant memory."""
    remaining = iter(pieces)
    rest: list[Piece] = []
    while some := list(islice(remaining, AT_ONCE)):
        if crossing:
            ids, flags = (np.concatenate(column) for column in zip(*rest, *some, strict=True))
            full = len(ids) // length * length
            rest = [(ids[full:], flags[full:])]
            if full:
                yield begun(ids[:full].reshape(-1, length), flags[:full].reshape(-1, length))
        else:
            yield laid_out(fit([len(ids) for ids, _ in some], length), some, length, pad_id)
    if rest and len(rest[0][0]):
        yield begun(*laid_out([[0]], rest, length, pad_id))


def begun(ids: np.ndarray, flags: np.ndarray) -> Piece:
    """Blocks that were cut out of a row of texts: where a block begins, a piece and a word do."""
    flags[:, 0] |= PIECE
    flags[:, 0] |= (flags[:, 0] & TEXT > 0) * np.uint8(WORD)
    return ids, flags


def fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Numbers of the pieces in each block, the longest ones first, each into the fullest block with room for it."""
    by_space: list[list[list[int]]] = [[] for _ in range(room + 1)]  # free places -> blocks
    for number in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = lengths[number]
        space = next((space for space in range(length, room + 1) if by_space[space]), room)
        block = by_space[space].pop() if by_space[space] else []
        block.append(number)
        by_space[space - length].append(block)
    return [block for blocks in by_space for block in blocks]


def laid_out(blocks: Sequence[Sequence[int]], pieces: Sequence[Piece], length: int, pad_id: int) -> Piece:
    """Padding is a piece by itself."""
    ids = np.full((len(blocks), length), pad_id, dtype=np.int64)
    flags = np.full((len(blocks), length), PAD, dtype=np.uint8)
    for row, block in enumerate(blocks):
        place = 0
        for number in block:
            own_ids, own_flags = pieces[number]
            ids[row, place : place + len(own_ids)], flags[row, place : place + len(own_ids)] = own_ids, own_flags
            place += len(own_ids)
        if place < length:
            flags[row, place] |= PIECE
    return ids, flags
