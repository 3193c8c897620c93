"""One tag per word: entities or slots (IOB2), or plain tags such as parts of speech.

    head = Head(hidden_size=384, labels=["O", "B-city", "I-city"], decoder="crf")

A word is represented by its first sub-word. Words lost by truncation are predicted "O" and so count as missed.
Copy together with: model_utils/crf.py. B texts, T sub-words, W words, H hidden size, C tags.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..crf import CRF

DECODERS = ("linear", "crf")


class Head(nn.Module):
    """Dropout and a linear layer over the words, then softmax per word or a linear-chain CRF."""

    LABEL_LEVEL = "word"
    MONITOR = "f1"
    LOWER_IS_BETTER = ()

    def __init__(self, hidden_size: int, labels: Sequence[str], dropout: float = 0.1, decoder: str = "linear"):
        """labels: tag names in the order of the class numbers; decoder: "linear" or "crf"."""
        super().__init__()
        if decoder not in DECODERS:
            raise ValueError(f"unknown decoder {decoder!r}; there are {', '.join(DECODERS)}")
        self.labels = list(labels)
        self.all_layers = False
        self.entities = any(label.startswith("B-") for label in self.labels)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, len(self.labels))
        self.crf = CRF(len(self.labels), labels=self.labels if self.entities else None) if decoder == "crf" else None

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        hidden = hidden_states[-1]  # (B, T, H)
        index = batch["word_starts"][:, :, None].expand(-1, -1, hidden.shape[-1])
        words = hidden.gather(1, index)  # (B, W, H)
        return self.classifier(self.dropout(words))  # (B, W, C)

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Words with a gold tag, with or without CRF, so that the losses of both are on one scale; labels (B, W)."""
        return (labels != -100).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        if self.crf is None:
            return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
        return -self.crf(logits, labels, batch["word_mask"], reduction="sum")

    def decode(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[list[str]]:
        if self.crf is None:
            kept = batch["word_mask"].sum(1).tolist()
            paths = [row[:n] for row, n in zip(logits.argmax(-1).tolist(), kept, strict=True)]
        else:
            paths = self.crf.decode(logits, batch["word_mask"])
        lost = [n - len(path) for n, path in zip(batch["num_words"].tolist(), paths, strict=True)]
        return [[self.labels[i] for i in path] + ["O"] * n for path, n in zip(paths, lost, strict=True)]

    def confidences(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[list[float]]:
        """Probability of each word's most probable tag (with a CRF: its marginal); 0 for words lost by truncation."""
        if self.crf is None:
            best = logits.float().softmax(-1).amax(-1)  # (B, W)
        else:
            best = self.crf.marginals(logits, batch["word_mask"]).amax(-1)
        rows = zip(best.tolist(), batch["word_mask"].sum(1).tolist(), batch["num_words"].tolist(), strict=True)
        return [row[:kept] + [0.0] * (total - kept) for row, kept, total in rows]

    def score(self, predictions: Sequence[list[str]], references: Sequence[list[str]]) -> dict[str, float]:
        """Accuracy over words; for entities also strict IOB2 precision, recall, F1 as conlleval/seqeval define them."""
        from sklearn.metrics import accuracy_score, f1_score

        flat = [tag for tags in references for tag in tags], [tag for tags in predictions for tag in tags]
        accuracy = float(accuracy_score(*flat))
        if not self.entities:
            return {"f1": float(f1_score(*flat, average="macro", zero_division=0)), "accuracy": accuracy}
        from seqeval.metrics.v1 import precision_recall_fscore_support  # v1 is what mode="strict" calls, once for all three
        from seqeval.scheme import IOB2

        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, average="micro", scheme=IOB2, zero_division=0
        )
        return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "accuracy": accuracy}
