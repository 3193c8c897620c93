"""Texts of a record -> inputs of the encoder, for each form of records one class.

    text       one text, or two that are read together
    words      the same, and the text is a list of words
    context    a question and a context in which the answer stands
    choices    a text, maybe a question, and each of several choices
    separate   two texts, each by itself; a single one twice
    source     a text that another one is generated from

Features of one record, whose inputs stand behind each other if it has several:
    input_ids       sub-words with special tokens
    token_type_ids  only if the tokenizer makes them
    row_lengths     (choices, separate, with an overlap also text, words and context) lengths of the inputs
    word_starts     (words) place of each kept word's first sub-word; (context) 0, which stands for "no answer", then
                    the place of each kept sub-word of the context
    num_words       (words) number of words before cutting: what is missing was lost by truncation
    char_starts, char_ends    (context) where each of these places is in the context
    truncated       whether anything was cut

With an overlap (`stride`) nothing is cut: a long text becomes several windows, and each place of it is taken from the
window in which it has most context, so that everything behind sees one long text.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

from .errors import DataError
from .known_words import KnownWords, bert_words, cut_as_bert
from .schema import Schema
from .templates import Template, cut, owners, windows


class Inputs:
    """What the forms share. Picklable."""

    NUM_TEXTS: int | None = None
    """texts of an input; None: as many as text columns"""
    SEVERAL = False
    """whether a record has several inputs, also without windows"""

    def __init__(self, tokenizer: Any, schema: Schema, max_length: int, stride: int = 0):
        """
        Args:
            tokenizer: a fast one, as `tokenizer.py` makes it; no tokens may be added to it from now on.
            max_length: of an input, in sub-words, special tokens included.
            stride: sub-words that two windows share; 0: no windows, long texts are cut.

        Raises: DataError if max_length leaves no room for the text, or stride none for the next window.
        """
        self.tokenizer, self.schema, self.stride = tokenizer, schema, stride
        num_texts = self.NUM_TEXTS or (2 if schema.text_pair_column else 1)
        self.template = Template(tokenizer, num_texts)
        self.room = max_length - self.template.num_special
        self.several = self.SEVERAL or stride > 0
        self.filler = tokenizer.convert_tokens_to_ids(tokenizer.unk_token or tokenizer.pad_token)
        self.known = KnownWords(self.words_alone)
        self.as_bert = cut_as_bert(tokenizer)
        if self.room < num_texts:
            needed = f"{self.template.num_special} special tokens and a sub-word of each text"
            least = self.template.num_special + num_texts
            raise DataError("arguments", f"must be at least {least}: {needed}", "max_length")
        if stride and stride >= self.least_window():
            below = f"below {self.least_window()}, the room that max_length leaves"
            right = below if self.least_window() else "0: only single texts and contexts of questions become windows"
            raise DataError("arguments", f"must be {right}", "stride")

    def least_window(self) -> int:
        """The shortest piece of a text that fills an input; 0: these inputs are never windows."""
        return 0

    def __call__(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Features of records; at least one."""
        raise NotImplementedError

    def tokenize(self, texts: list[Any], in_words: bool = False) -> list[Any]:
        """A `tokenizers.Encoding` of each text, whole and without special tokens.

        The tokenizer's own truncation is left alone: it makes windows of what it cuts off, for pairs all with all.
        """
        batch = self.tokenizer(
            texts,
            is_split_into_words=in_words,
            add_special_tokens=False,
            return_attention_mask=False,  # lists that nobody would read
            return_token_type_ids=False,
            verbose=False,  # it would warn of long texts, which are cut here
        )
        return batch.encodings

    def words_alone(self, words: list[str]) -> list[list[int]]:
        """Sub-words of each word."""
        [encoding] = self.tokenize([words], in_words=True)
        pieces: list[list[int]] = [[] for _ in words]
        for number, word in zip(encoding.ids, encoding.word_ids, strict=True):
            pieces[word].append(number)
        return pieces

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Sub-words of each text, whole and without special tokens."""
        if not self.as_bert:
            return [encoding.ids for encoding in self.tokenize(texts)]
        return [[*chain.from_iterable(pieces)] for pieces in self.known([bert_words(text) for text in texts])]

    def feature(self, rows: Sequence[Sequence[list[int]]], cut_off: bool) -> dict[str, Any]:
        """rows: the texts of each input, cut."""
        input_ids: list[int] = []
        token_type_ids: list[int] = []
        row_lengths = []
        for texts in rows:
            ids, types = self.template.fill(texts)
            input_ids += ids
            token_type_ids += types
            row_lengths.append(len(ids))
        feature: dict[str, Any] = {"input_ids": input_ids, "truncated": cut_off}
        if "token_type_ids" in self.tokenizer.model_input_names:
            feature["token_type_ids"] = token_type_ids
        if self.several:
            feature["row_lengths"] = row_lengths
        return feature


class Text(Inputs):
    """One text or two that are read together; two are never windows."""

    def least_window(self) -> int:
        return 0 if self.schema.text_pair_column else self.room

    def __call__(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        sides = [self.ids([self.schema.text(record) for record in records])]
        if self.schema.text_pair_column:
            sides.append(self.ids([self.schema.text_pair(record) for record in records]))
        return [self.joined(each)[0] for each in zip(*sides, strict=True)]

    def joined(self, ids: Sequence[list[int]]) -> tuple[dict[str, Any], Sequence[int]]:
        """The feature, and the place in it of each kept sub-word of the first text."""
        lengths = [len(part) for part in ids]
        if self.stride:
            spans = windows(lengths[0], self.room, self.stride)
            feature = self.feature([[ids[0][start:end]] for start, end in spans], False)
            return feature, places(spans, feature["row_lengths"], len(self.template.special[0]))
        kept = cut(lengths, self.room)
        feature = self.feature([[part[:n] for part, n in zip(ids, kept, strict=True)]], kept != lengths)
        first = len(self.template.special[0])
        return feature, range(first, first + kept[0])


class Words(Text):
    """The same, and the text is a list of words."""

    def __call__(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        sides = [self.known([self.schema.text(record) for record in records])]
        if self.schema.text_pair_column:
            sides.append(self.known([self.schema.text_pair(record) for record in records]))
        return [self.tagged(*each) for each in zip(*sides, strict=True)]

    def tagged(self, pieces: list[list[int]], *pair: list[list[int]]) -> dict[str, Any]:
        """pieces: sub-words of each word; tokenizers swallow some words, as a space or a zero-width mark."""
        pieces = [piece or [self.filler] for piece in pieces]  # so that no tag is lost
        feature, kept = self.joined([[*chain.from_iterable(some)] for some in (pieces, *pair)])
        starts = accumulate(map(len, pieces), initial=0)
        feature["word_starts"] = [kept[start] for start in starts if start < len(kept)]
        feature["num_words"] = len(pieces)
        return feature


class Context(Inputs):
    """A question and a context in which the answer stands; of the question at most half an input is kept."""

    def least_window(self) -> int:
        return self.room - self.room // 2

    def __call__(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        questions = self.ids([self.schema.text(record) for record in records])
        texts = [self.schema.text_pair(record) for record in records]
        return [self.windowed(*each) for each in zip(questions, self.tokenize(texts), texts, strict=True)]

    def windowed(self, question: list[int], context: Any, text: str) -> dict[str, Any]:
        asked, room = question[: self.room // 2], self.room
        room -= len(asked)
        spans = windows(len(context.ids), room, self.stride) if self.stride else [(0, min(len(context.ids), room))]
        cut_off = len(asked) < len(question) or spans[-1][1] < len(context.ids)
        rows = [[asked, context.ids[start:end]] for start, end in spans]
        feature = self.feature(rows, cut_off)
        lengths = feature.get("row_lengths", [len(feature["input_ids"])])
        first = len(self.template.special[0]) + len(asked) + len(self.template.special[1])
        kept = [without_space(text, *offset) for offset in context.offsets[: spans[-1][1]]]
        feature["word_starts"] = [0, *places(spans, lengths, first)]
        feature["char_starts"] = [0, *(start for start, _ in kept)]
        feature["char_ends"] = [0, *(end for _, end in kept)]
        return feature


class Choices(Inputs):
    """One input for each choice: the text, then the question, if there is one, with the choice."""

    NUM_TEXTS, SEVERAL = 2, True

    def __call__(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        texts = self.ids([self.schema.text(record) for record in records])
        asked = [self.schema.text_pair(record) for record in records]
        questions = self.ids(asked) if self.schema.text_pair_column else [[] for _ in records]
        choices = [self.schema.choices(record) for record in records]
        ids = iter(self.ids([*chain.from_iterable(choices)]))
        features = []
        for text, question, some in zip(texts, questions, choices, strict=True):
            sides = [(text, question + next(ids)) for _ in some]
            kept = [cut([len(side) for side in each], self.room) for each in sides]
            rows = [[side[:n] for side, n in zip(*each, strict=True)] for each in zip(sides, kept, strict=True)]
            cut_off = any(sum(map(len, each)) > self.room for each in sides)
            features.append(self.feature(rows, cut_off))
        return features


class Separate(Inputs):
    """Two texts, each by itself; a single one twice."""

    NUM_TEXTS, SEVERAL = 1, True

    def __call__(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        schema = self.schema
        texts = [[text for text in (schema.text(r), schema.text_pair(r)) if text is not None] for r in records]
        ids = iter(self.ids([*chain.from_iterable(texts)]))
        features = []
        for some in texts:
            own = [next(ids) for _ in some]
            rows = [[part[: self.room]] for part in (own[0], own[-1])]
            features.append(self.feature(rows, max(map(len, own)) > self.room))
        return features


class Source(Inputs):
    """A text that another one is generated from, inside the prompt, which is never cut."""

    NUM_TEXTS = 1

    def __init__(self, tokenizer: Any, schema: Schema, max_length: int, stride: int = 0):
        super().__init__(tokenizer, schema, max_length, stride)
        [prompt] = self.tokenize([schema.prompt.replace("{text}", "")])
        if len(prompt.ids) >= self.room:
            raise DataError("arguments", f"must be at least {max_length - self.room + len(prompt.ids) + 1}: special "
                            "tokens, those of the prompt, and a sub-word of the text", "max_length")  # fmt: skip

    def __call__(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        texts = [self.schema.text(record) for record in records]
        encodings = self.tokenize([self.schema.prompt.replace("{text}", text) for text in texts])
        first = self.schema.prompt.index("{text}")
        return [self.shortened(e, first + len(text)) for e, text in zip(encodings, texts, strict=True)]

    def shortened(self, encoding: Any, end: int) -> dict[str, Any]:
        """end: the character of the prompt behind the text, which loses its last sub-words."""
        over = max(0, len(encoding.ids) - self.room)
        behind = bisect_left(encoding.offsets, (end, 0))
        return self.feature([[encoding.ids[: behind - over] + encoding.ids[behind:]]], over > 0)


FORMS = {"text": Text, "words": Words, "context": Context, "choices": Choices, "separate": Separate, "source": Source}


def places(spans: Sequence[tuple[int, int]], row_lengths: Sequence[int], first: int) -> list[int]:
    """Where each sub-word of a text stands among its windows behind each other.

    first: places before the text in every window.
    """
    offsets = list(accumulate(row_lengths, initial=0))
    return [offsets[w] + first + n - spans[w][0] for n, w in enumerate(owners(spans).tolist())]


def without_space(text: str, start: int, end: int) -> tuple[int, int]:
    """The part text[start:end] without the space that byte-level tokenizers and their kind put before a word."""
    while start < end and text[start].isspace():
        start += 1
    return start, end
