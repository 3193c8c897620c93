"""Features -> batch: a flat dict of tensors plus `labels`, one tensor per task.

    collate = Collator(pad_token_id=0, label_levels={"intent": "sequence", "slots": "word"})
    batch = collate(features)

B records, R inputs of the encoder (R = B unless records have several), K most inputs of a record, T sub-words (longest
input of the batch), W words (most of the batch), L labels (most of the batch):

    sample_id       (B,)    int64  number of the record in its file, -1 for a stand-in
    input_ids       (R, T)  int64
    attention_mask  (R, T)  int64  1 = real sub-word
    token_type_ids  (R, T)  int64  only if the features have them
    real_places     (N,)    int64  only if wanted: where the N real sub-words are among all R * T places
    input_mask      (B, K)  bool   only if records may have several inputs, which then are neighbours: windows, choices,
                                   both texts of a pair. True = there is one
    word_starts     (B, W)  int64  place of each word's first sub-word: place t of the record's input k is k * T + t;
                                   padding 0
    word_mask       (B, W)  bool   True = real word
    num_words       (B,)    int64  words before truncation
    char_starts, char_ends  (B, W) int64  where a "word" is in its text, for answers; padding 0
    labels[task]    by level, -100 or NaN = no gold label. A task that no record of the batch has a label for is absent.
        sequence, choice    (B,)       int64    class, number of the choice
        number, pair        (B,)       float32
        word                (B, W)     int64
        answer              (B, 2)     int64    first and last word
        multi_label         (B, L)     int64    -1, then the classes
        entities            (B, L, 3)  int64    (-1, -1, -1), then class, first word, last word
        text                (B, L)     int64    sub-words

Copy: alone; needs torch, numpy.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

IGNORE = -100
LEVELS = ("sequence", "choice", "number", "pair", "word", "answer", "multi_label", "entities", "text")


class Collator:
    """Picklable; holds numbers and names only."""

    def __init__(
        self,
        pad_token_id: int,
        label_levels: Mapping[str, str],
        pad_to_multiple_of: int = 1,
        padding_side: str = "right",
        real_places: bool = False,
    ):
        """
        Args:
            label_levels: task -> level of its labels.
            pad_to_multiple_of: T is rounded up to a multiple of it.
            padding_side: of the inputs; "left" for models that go on with their own input.
            real_places: for an encoder without padding on a GPU, which would have to wait for their number.
        """
        unknown = set(label_levels.values()) - set(LEVELS)
        if unknown:
            raise ValueError(f"unknown label levels {sorted(unknown)}; known are {', '.join(LEVELS)}")
        self.pad_token_id = pad_token_id
        self.label_levels = dict(label_levels)
        self.pad_to_multiple_of = pad_to_multiple_of
        self.padding_side = padding_side
        self.real_places = real_places

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        several = "row_lengths" in features[0]
        lengths = [f["row_lengths"] if several else [len(f["input_ids"])] for f in features]  # of each record's inputs
        longest = -(-max(chain.from_iterable(lengths)) // self.pad_to_multiple_of) * self.pad_to_multiple_of
        input_ids, real = self.inputs(features, "input_ids", lengths, longest, self.pad_token_id)  # (R, T)
        batch: dict[str, Any] = {
            "sample_id": torch.tensor([f["sample_id"] for f in features]),
            "input_ids": input_ids,
            "attention_mask": real.long(),
        }
        if self.real_places:
            batch["real_places"] = real.flatten().nonzero().flatten()
        if "token_type_ids" in features[0]:
            batch["token_type_ids"] = self.inputs(features, "token_type_ids", lengths, longest, 0)[0]
        if several:
            batch["input_mask"] = pad(lengths, max(map(len, lengths)), 0)[1]  # (B, K)
        if "word_starts" in features[0]:
            places = [f["word_starts"] for f in features]
            if several or self.padding_side == "left":
                left = self.padding_side == "left"
                places = [spread(row, some, longest, left) for row, some in zip(places, lengths, strict=True)]
            most = max(map(len, places))
            batch["word_starts"], batch["word_mask"] = pad(places, most, 0)  # (B, W)
        if "num_words" in features[0]:
            batch["num_words"] = torch.tensor([f["num_words"] for f in features])
        if "char_starts" in features[0]:
            for name in ("char_starts", "char_ends"):
                batch[name] = pad([f[name] for f in features], most, 0)[0]
        labels = {task: [f["labels"].get(task) for f in features] for task in self.label_levels}
        batch["labels"] = {
            task: self.label_tensor(task, values, batch)
            for task, values in labels.items()
            if any(value is not None for value in values)
        }
        return batch

    def inputs(
        self, features: Sequence[Mapping[str, Any]], name: str, lengths: list[list[int]], longest: int, value: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [f[name] for f in features]
        if max(map(len, lengths)) > 1 or self.padding_side == "left":
            flat = np.concatenate(rows, dtype=np.int64, casting="unsafe")
            rows = np.split(flat, np.cumsum(list(chain.from_iterable(lengths)))[:-1])
        if self.padding_side == "left":
            padded, real = pad([row[::-1] for row in rows], longest, value)
            return padded.flip(1), real.flip(1)
        return pad(rows, longest, value)

    def label_tensor(self, task: str, values: list[Any], batch: Mapping[str, Any]) -> torch.Tensor:
        level = self.label_levels[task]
        if level in ("sequence", "choice"):
            return torch.tensor([IGNORE if value is None else value for value in values])  # (B,)
        if level in ("number", "pair"):
            return torch.tensor([math.nan if value is None else value for value in values])  # (B,)
        if level == "entities":
            rows = [[n for triple in value or () for n in triple] for value in values]
            return pad(rows, max(map(len, rows)), IGNORE)[0].unflatten(1, (-1, 3))  # (B, L, 3)
        rows = [[] if value is None else value for value in values]
        width = batch["word_starts"].shape[1] if level == "word" else max(map(len, rows))
        return pad(rows, width, IGNORE)[0]


def pad(rows: Sequence[Sequence[int]], length: int, value: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded int64 tensor (B, length), and a bool tensor that is True where the values are real."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    real = np.arange(length) < lengths[:, None]
    padded = np.full(real.shape, value, dtype=np.int64)
    padded[real] = np.concatenate(rows, dtype=np.int64, casting="unsafe")  # an empty list would be one of float64
    return torch.from_numpy(padded), torch.from_numpy(real)


def spread(places: Sequence[int], lengths: Sequence[int], width: int, left: bool = False) -> np.ndarray:
    """Places in inputs of `lengths` that stand behind each other, as places in inputs that are all `width` long.

    left: the inputs are padded on the left.
    """
    ends = np.cumsum(lengths)
    inputs = np.searchsorted(ends, places, side="right")
    firsts = (inputs + 1) * width - np.asarray(lengths)[inputs] if left else inputs * width
    return np.asarray(places, dtype=np.int64) - (ends - lengths)[inputs] + firsts


def blank(feature: Mapping[str, Any]) -> dict[str, Any]:
    """A stand-in: the same text without identity and gold labels, so that it adds nothing to loss or gradient."""
    labels = {task: unknown(value) for task, value in feature["labels"].items() if value is not None}
    return {**feature, "sample_id": -1, "labels": labels}


def unknown(label: Any) -> Any:
    """A label of the same shape that is none."""
    if isinstance(label, np.ndarray):
        return np.full_like(label, IGNORE)
    if isinstance(label, list | tuple):
        return [unknown(part) for part in label]
    return math.nan if isinstance(label, float) else IGNORE
