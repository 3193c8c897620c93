"""Features -> batch: a flat dict of tensors plus `labels`, one tensor per task.

    collate = Collator(pad_token_id=0, label_levels={"intent": "sequence", "slots": "word"})
    batch = collate(features)

B records, T sub-words (longest of the batch), W words (most of the batch):

    sample_id       (B,)    int64  number of the record in its file, -1 for a stand-in
    input_ids       (B, T)  int64
    attention_mask  (B, T)  int64  1 = real sub-word
    token_type_ids  (B, T)  int64  only if the features have them
    word_starts     (B, W)  int64  position of each word's first sub-word; padding 0
    word_mask       (B, W)  bool   True = real word
    num_words       (B,)    int64  words before truncation
    labels[task]    (B,) for "sequence", (B, W) for "word"; -100 = no gold label. A task that no record of the batch
                    has a label for is absent.

Imports torch and NumPy only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

IGNORE = -100


class Collator:
    """Picklable; holds numbers only."""

    def __init__(self, pad_token_id: int, label_levels: Mapping[str, str], pad_to_multiple_of: int = 1):
        """label_levels: task -> "sequence" or "word"; pad_to_multiple_of: T is rounded up to a multiple of it."""
        unknown = set(label_levels.values()) - {"sequence", "word"}
        if unknown:
            raise ValueError(f"unknown label levels {sorted(unknown)}; known are sequence, word")
        self.pad_token_id = pad_token_id
        self.label_levels = dict(label_levels)
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        ids = [f["input_ids"] for f in features]
        longest = -(-max(map(len, ids)) // self.pad_to_multiple_of) * self.pad_to_multiple_of
        input_ids, real = pad(ids, longest, self.pad_token_id)  # (B, T)
        batch: dict[str, Any] = {
            "sample_id": torch.tensor([f["sample_id"] for f in features]),
            "input_ids": input_ids,
            "attention_mask": real.long(),
        }
        if "token_type_ids" in features[0]:
            batch["token_type_ids"] = pad([f["token_type_ids"] for f in features], longest, 0)[0]
        if "word_starts" in features[0]:
            most = max(len(f["word_starts"]) for f in features)
            batch["word_starts"], batch["word_mask"] = pad([f["word_starts"] for f in features], most, 0)  # (B, W)
            batch["num_words"] = torch.tensor([f["num_words"] for f in features])
        labels = {task: [f["labels"].get(task) for f in features] for task in self.label_levels}
        batch["labels"] = {
            task: self.label_tensor(task, values, batch)
            for task, values in labels.items()
            if any(value is not None for value in values)
        }
        return batch

    def label_tensor(self, task: str, values: list[Any], batch: Mapping[str, Any]) -> torch.Tensor:
        if self.label_levels[task] == "sequence":
            return torch.tensor([IGNORE if value is None else value for value in values])  # (B,)
        words = batch["word_starts"].shape[1]
        return pad([[] if value is None else value for value in values], words, IGNORE)[0]  # (B, W)


def pad(rows: Sequence[Sequence[int]], length: int, value: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded int64 tensor (B, length), and a bool tensor that is True where the values are real."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    real = np.arange(length) < lengths[:, None]
    padded = np.full(real.shape, value, dtype=np.int64)
    padded[real] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return torch.from_numpy(padded), torch.from_numpy(real)


def blank(feature: Mapping[str, Any]) -> dict[str, Any]:
    """A stand-in: the same text without identity and gold labels, so that it adds nothing to loss or gradient."""
    labels = {
        task: [IGNORE] * len(value) if isinstance(value, list) else IGNORE
        for task, value in feature["labels"].items()
        if value is not None
    }
    return {**feature, "sample_id": -1, "labels": labels}
