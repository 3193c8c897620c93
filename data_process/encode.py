"""Records -> features: sub-word ids, places of words, label numbers.

    encoder = RecordEncoder(tokenizer, schema, vocabs, max_length=128)
    features = encoder([(0, record), (1, record)])

Features of one record: those of inputs.py, and
    sample_id       number of the record in its file
    labels          task -> what its level in levels/ makes of the gold label; a task without gold is left out
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import DataError
from .inputs import FORMS
from .levels import level_of
from .schema import Schema


class RecordEncoder:
    """Encodes batches of records with a fast tokenizer, and remembers words. Picklable."""

    def __init__(
        self, tokenizer: Any, schema: Schema, vocabs: Mapping[str, Any], max_length: int, stride: int = 0
    ):
        """
        Args:
            tokenizer: a fast one, as `tokenizer.py` makes it.
            vocabs: task -> its LabelVocab, or TargetEncoder for texts; none where labels have no names.
            max_length: of an input, in sub-words, special tokens included.
            stride: sub-words that two windows of a long text share; 0: it is cut.

        Raises: DataError if max_length leaves no room for the text, or stride none for the next window.
        """
        self.tokenizer, self.schema, self.vocabs = tokenizer, schema, dict(vocabs)
        self.max_length, self.stride = max_length, stride
        self.inputs = FORMS[schema.form](tokenizer, schema, max_length, stride)

    def __call__(self, records: Sequence[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Features of numbered records; at least one."""
        features = self.inputs([record for _, record in records])
        for feature, (number, record) in zip(features, records, strict=True):
            feature["sample_id"] = number
            feature["labels"] = self.labels(record, feature)
        return features

    def labels(self, record: dict[str, Any], feature: dict[str, Any]) -> dict[str, Any]:
        gold = self.schema.gold(record)
        return {
            label.task: level_of(label.level).encode(gold.get(label.task), self.vocabs.get(label.task), feature)
            for label in self.schema.labels
            if label.task in gold or label.optional
        }


class TargetEncoder:
    """Texts to be generated -> sub-words with the end token; a longer one is cut."""

    def __init__(self, tokenizer: Any, max_length: int, with_special: bool):
        """
        Args:
            max_length: in sub-words, special tokens included.
            with_special: with the special tokens that the tokenizer puts around a target, as encoder-decoder models
                are trained; models that go on with their own input have the end token only.

        Raises: DataError if there is no end token, or max_length leaves no room for the text.
        """
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        if end is None:
            message = "the tokenizer has neither eos_token nor sep_token, so that no text would end; name one"
            raise DataError("arguments", message, "model_name_or_path")
        example = tokenizer.unk_token or tokenizer.pad_token  # whatever it knows
        encoding = tokenizer(text_target=example, add_special_tokens=with_special).encodings[0]
        inside = [place for place, text in enumerate(encoding.sequence_ids) if text is not None]
        self.before, self.behind = encoding.ids[: inside[0]], encoding.ids[inside[-1] + 1 :]
        self.behind += [end] * (end not in self.behind)
        self.tokenizer = tokenizer
        self.room = max_length - len(self.before) - len(self.behind)
        if self.room < 1:
            message = f"must be at least {max_length - self.room + 1}: special tokens and a sub-word"
            raise DataError("arguments", message, "max_target_length")

    @property
    def settings(self) -> list[Any]:
        """What decides the encoding, beside the tokenizer."""
        return [self.before, self.room, self.behind]

    def encode(self, text: str) -> list[int]:
        ids = self.tokenizer(text_target=text, add_special_tokens=False, verbose=False)["input_ids"]
        return [*self.before, *ids[: self.room], *self.behind]
