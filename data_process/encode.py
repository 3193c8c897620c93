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
from typing import Any

from .errors import DataError
from .labels import LabelVocab
from .schema import Schema


class RecordEncoder:
    """Encodes batches of records with a fast tokenizer. Picklable; keeps nothing between calls."""

    def __init__(self, tokenizer: Any, schema: Schema, vocabs: Mapping[str, LabelVocab], max_length: int):
        """
        Args:
            tokenizer: a fast one that cuts at the right, as `tokenizer.py` makes it.
            vocabs: task -> its labels.
            max_length: in sub-words, special tokens included.

        Raises: DataError if max_length leaves no room for the text.
        """
        self.tokenizer = tokenizer
        self.schema = schema
        self.vocabs = dict(vocabs)
        self.max_length = max_length
        self.filler = tokenizer.unk_token or tokenizer.pad_token
        num_texts = 2 if schema.text_pair_column else 1
        special = tokenizer.num_special_tokens_to_add(pair=num_texts == 2)
        if max_length < special + num_texts:
            room = f"{special} special tokens and a sub-word of each text"
            raise DataError("arguments", f"must be at least {special + num_texts}: {room}", "max_length")

    def __call__(self, records: Sequence[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Features of numbered records; at least one."""
        texts = [self.schema.text(record) for _, record in records]
        pairs = [self.schema.text_pair(record) for _, record in records] if self.schema.text_pair_column else None
        encodings = self.tokenize(texts, pairs)
        starts = self.align(texts, pairs, encodings) if self.schema.word_level else []
        features = []
        for i, ((sample_id, record), encoding) in enumerate(zip(records, encodings, strict=True)):
            feature: dict[str, Any] = {"sample_id": sample_id, "input_ids": encoding.ids}
            if "token_type_ids" in self.tokenizer.model_input_names:
                feature["token_type_ids"] = encoding.type_ids
            if self.schema.word_level:
                feature["word_starts"] = starts[i]
                feature["num_words"] = len(texts[i])
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

    def tokenize(self, texts: list[Any], pairs: list[Any] | None) -> list[Any]:
        """A `tokenizers.Encoding` of each text, or pair of texts, cut at max_length."""
        batch = self.tokenizer(
            texts,
            pairs,
            is_split_into_words=self.schema.word_level,
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,  # two lists per text that nobody would read
            return_token_type_ids=False,
        )
        return batch.encodings

    def align(self, texts: list[Any], pairs: list[Any] | None, encodings: list[Any]) -> list[list[int]]:
        """`word_starts` of each text. Where a word was swallowed, its encoding is replaced, so that no tag is lost.

        Tokenizers give a space or a zero-width mark no sub-word; it becomes [UNK], which carries its tag.
        """
        starts = [word_starts(encoding) for encoding in encodings]
        for i, words in enumerate(texts):
            lost = swallowed(encodings[i], len(words)) if len(starts[i]) < len(words) else set()
            if lost:
                filled = [self.filler if w in lost else word for w, word in enumerate(words)]
                encodings[i] = self.tokenize([filled], pairs and [pairs[i]])[0]
                starts[i] = word_starts(encodings[i])
        return starts


def word_starts(encoding: Any) -> list[int]:
    """Position of the first sub-word of each kept word of the first text, up to the first word that has none."""
    starts: list[int] = []
    for position, (word, sequence) in enumerate(zip(encoding.word_ids, encoding.sequence_ids, strict=True)):
        if sequence == 0 and word == len(starts):
            starts.append(position)
    return starts


def swallowed(encoding: Any, num_words: int) -> set[int]:
    """Words of the first text without a sub-word, neither before nor behind the cut."""
    found = {
        word
        for piece in (encoding, *encoding.overflowing)
        for word, sequence in zip(piece.word_ids, piece.sequence_ids, strict=True)
        if sequence == 0
    }
    return set(range(num_words)) - found
