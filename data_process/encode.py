"""Records -> features: sub-word ids, the position of each word's first sub-word, label numbers.

    encoder = RecordEncoder(tokenizer, schema, vocabs, max_length=128)
    features = encoder([(0, record), (1, record)])

Features of one record:
    sample_id       number of the record in its file
    input_ids       sub-words with special tokens, cut at max_length
    token_type_ids  only if the tokenizer makes them
    word_starts     (word-level data) position of each kept word's first sub-word
    num_words       (word-level data) number of words before cutting: what is missing was lost by truncation
    labels          task -> class number, or one per kept word; a task without gold is left out
    truncated       whether anything was cut
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

from .errors import DataError
from .labels import LabelVocab
from .schema import Schema


class RecordEncoder:
    """Encodes batches of records with a fast tokenizer. Picklable; keeps nothing between calls."""

    def __init__(self, tokenizer: Any, schema: Schema, vocabs: Mapping[str, LabelVocab], max_length: int):
        """
        Args:
            tokenizer: a fast one, as `tokenizer.py` makes it.
            vocabs: task -> its labels.
            max_length: in sub-words, special tokens included.

        Raises: DataError if max_length leaves no room for the text.
        """
        self.tokenizer = tokenizer
        self.schema = schema
        self.vocabs = dict(vocabs)
        self.max_length = max_length
        num_texts = 2 if schema.text_pair_column else 1
        self.filler = tokenizer.convert_tokens_to_ids(tokenizer.unk_token or tokenizer.pad_token)
        self.template = Template(tokenizer, num_texts)
        self.room = max_length - self.template.num_special
        if self.room < num_texts:
            needed = f"{self.template.num_special} special tokens and a sub-word of each text"
            least = self.template.num_special + num_texts
            raise DataError("arguments", f"must be at least {least}: {needed}", "max_length")

    def __call__(self, records: Sequence[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Features of numbered records; at least one."""
        texts = [self.schema.text(record) for _, record in records]
        sides = [self.tokenize(texts)]
        if self.schema.text_pair_column:
            sides.append(self.tokenize([self.schema.text_pair(record) for _, record in records]))
        encodings = zip(*sides, strict=True)
        return [self.feature(*each) for each in zip(records, texts, encodings, strict=True)]

    def tokenize(self, texts: list[Any]) -> list[Any]:
        """A `tokenizers.Encoding` of each text, whole and without special tokens.

        The tokenizer's own truncation is left alone: it makes windows of what it cuts off, for pairs all with all.
        """
        batch = self.tokenizer(
            texts,
            is_split_into_words=self.schema.word_level,
            add_special_tokens=False,
            return_attention_mask=False,  # lists that nobody would read
            return_token_type_ids=False,
            verbose=False,  # it would warn of long texts, which are cut here
        )
        return batch.encodings

    def feature(self, numbered: tuple[int, dict[str, Any]], text: Any, encodings: Sequence[Any]) -> dict[str, Any]:
        sample_id, record = numbered
        ids = [encoding.ids for encoding in encodings]
        starts: list[int] = []
        if self.schema.word_level:
            ids[0], starts = words_of(encodings[0], len(text), self.filler)
        lengths = [len(part) for part in ids]
        kept = cut(lengths, self.room)
        input_ids, token_type_ids = self.template.fill([part[:n] for part, n in zip(ids, kept, strict=True)])
        feature: dict[str, Any] = {"sample_id": sample_id, "input_ids": input_ids}
        if "token_type_ids" in self.tokenizer.model_input_names:
            feature["token_type_ids"] = token_type_ids
        if self.schema.word_level:
            feature["word_starts"] = [len(self.template.special[0]) + start for start in starts if start < kept[0]]
            feature["num_words"] = len(text)
        feature["labels"] = self.labels(record, len(feature.get("word_starts", ())))
        feature["truncated"] = kept != lengths
        return feature

    def labels(self, record: dict[str, Any], num_kept: int) -> dict[str, Any]:
        gold = self.schema.gold(record)
        return {
            task: self.vocabs[task].encode(value if isinstance(value, str) else value[:num_kept])
            for task, value in gold.items()
        }


class Template:
    """The special tokens before, between and behind the texts, taken from an example."""

    def __init__(self, tokenizer: Any, num_texts: int):
        example = [tokenizer.unk_token or tokenizer.pad_token] * num_texts  # whatever it knows
        encoding = tokenizer(*example, truncation=False, padding=False).encodings[0]
        self.special: list[list[int]] = [[] for _ in range(num_texts + 1)]
        self.special_types: list[list[int]] = [[] for _ in range(num_texts + 1)]
        self.text_types = [0] * num_texts
        part = 0  # number of texts so far
        for number, type_id, text in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
            if text is None:
                self.special[part].append(number)
                self.special_types[part].append(type_id)
            else:
                self.text_types[text] = type_id
                part = text + 1
        self.num_special = sum(map(len, self.special))

    def fill(self, texts: Sequence[list[int]]) -> tuple[list[int], list[int]]:
        """Ids and type ids of the texts with special tokens."""
        ids, type_ids = list(self.special[0]), list(self.special_types[0])
        for number, text in enumerate(texts):
            ids += text + self.special[number + 1]
            type_ids += [self.text_types[number]] * len(text) + self.special_types[number + 1]
        return ids, type_ids


def words_of(encoding: Any, num_words: int, filler: int) -> tuple[list[int], list[int]]:
    """Sub-words of a text, and where each word starts.

    Tokenizers swallow some words, as a space or a zero-width mark; `filler` stands in, so that no tag is lost.
    """
    pieces: list[list[int]] = [[] for _ in range(num_words)]
    for number, word in zip(encoding.ids, encoding.word_ids, strict=True):
        pieces[word].append(number)
    pieces = [piece or [filler] for piece in pieces]
    starts = accumulate(map(len, pieces), initial=0)
    return list(chain.from_iterable(pieces)), list(starts)[:-1]


def cut(lengths: list[int], room: int) -> list[int]:
    """How much is kept of one text or two; of two the longer one is cut first, as `longest_first` of transformers."""
    if sum(lengths) <= room:
        return lengths
    if len(lengths) == 1:
        return [room]
    first, second = lengths
    shorter = min(first, second, room // 2)
    return [room - shorter, shorter] if first > second else [shorter, room - shorter]
