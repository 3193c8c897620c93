"""Records -> features: sub-word ids, the position of each word's first sub-word, label numbers.

    encoder = RecordEncoder(tokenizer, schema, vocabs, max_length=128)
    features = encoder([(0, record), (1, record)])

Feature of one record:
    sample_id    number of the record in its file
    input_ids    sub-words with special tokens, cut at max_length
    token_type_ids  only if the tokenizer makes them
    word_starts  (word-level data) position of each kept word's first sub-word
    num_words    (word-level data) number of words before cutting: what is missing was lost by truncation
    labels       task -> class number, or one per kept word; a task without gold is left out
    truncated    whether anything was cut
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .labels import LabelVocab
from .schema import Schema


class RecordEncoder:
    """Encodes batches of records with a fast tokenizer. Picklable, without state that changes."""

    def __init__(self, tokenizer: Any, schema: Schema, vocabs: Mapping[str, LabelVocab], max_length: int):
        """max_length: in sub-words, special tokens included."""
        self.tokenizer = tokenizer
        self.schema = schema
        self.vocabs = dict(vocabs)
        self.max_length = max_length

    def __call__(self, records: Sequence[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
        texts = [self.schema.text(record) for _, record in records]
        pairs = [self.schema.text_pair(record) for _, record in records] if self.schema.text_pair_column else None
        in_words = self.schema.word_level or isinstance(texts[0], list)
        encodings = self.tokenize(texts, pairs, in_words)
        features = []
        for (sample_id, record), text, encoding in zip(records, texts, encodings, strict=True):
            feature: dict[str, Any] = {"sample_id": sample_id, "input_ids": encoding.ids}
            if "token_type_ids" in self.tokenizer.model_input_names:
                feature["token_type_ids"] = encoding.type_ids
            if self.schema.word_level:
                feature["word_starts"] = word_starts(encoding)
                feature["num_words"] = len(text)
            feature["labels"] = self.labels(record, len(feature.get("word_starts", ())))
            feature["truncated"] = bool(encoding.overflowing)
            features.append(feature)
        return features

    def labels(self, record: dict[str, Any], num_kept: int) -> dict[str, Any]:
        gold = self.schema.gold(record)
        return {
            task: self.vocabs[task].encode(value if isinstance(value, str) else value[:num_kept])
            for task, value in gold.items()
        }

    def tokenize(self, texts: list[Any], pairs: list[Any] | None, in_words: bool) -> list[Any]:
        """`tokenizers.Encoding` of each text. In word-level data every word keeps at least one sub-word."""
        encodings = self._encode(texts, pairs, in_words)
        if self.schema.word_level:
            for i, encoding in enumerate(encodings):
                dropped = dropped_words(encoding, len(texts[i]))
                if dropped:  # the tokenizer swallowed a word (a space, a zero-width mark): it gets [UNK] to carry its tag
                    words = [self.tokenizer.unk_token if w in dropped else word for w, word in enumerate(texts[i])]
                    encodings[i] = self._encode([words], pairs and [pairs[i]], in_words)[0]
        return encodings

    def _encode(self, texts: list[Any], pairs: list[Any] | None, in_words: bool) -> list[Any]:
        return self.tokenizer(
            texts, pairs, is_split_into_words=in_words, truncation=True, max_length=self.max_length
        ).encodings


def word_starts(encoding: Any) -> list[int]:
    """Position of the first sub-word of each kept word of the first text."""
    starts: list[int] = []
    for position, (word, sequence) in enumerate(zip(encoding.word_ids, encoding.sequence_ids, strict=True)):
        if word is not None and sequence == 0 and word == len(starts):
            starts.append(position)
    return starts


def dropped_words(encoding: Any, num_words: int) -> set[int]:
    """Words without any sub-word although a later word has one, or although nothing was cut."""
    kept = {w for w, s in zip(encoding.word_ids, encoding.sequence_ids, strict=True) if w is not None and s == 0}
    end = num_words if not encoding.overflowing else max(kept, default=-1) + 1
    return set(range(end)) - kept
