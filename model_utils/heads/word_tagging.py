"""One tag per word: entities or slots (IOB2), or plain tags such as parts of speech.

    head = Head(hidden_size=384, labels=["O", "B-city", "I-city"], decoder="crf")

A word is represented by its first sub-word. Words lost by truncation are predicted "O": entities in them
count as missed. B texts, T sub-words, W words, H hidden size, C tags.

Copy: with ../crf.py, ../inputs.py, ../losses.py, ../scores/classification.py; needs torch, numpy, pytorch-crf; can use
scikit-learn, seqeval.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..crf import CRF
from ..inputs import at_places
from ..losses import Criterion, cross_entropy, kl_divergence

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
        odd = [label for label in self.labels if label != "O" and not label.startswith(("B-", "I-"))]
        if self.entities and odd:
            raise ValueError(f"tags of entities must be O, B-x or I-x (IOB2), found {', '.join(odd)}")
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, len(self.labels))
        scheme = self.labels if self.entities else None
        self.crf = CRF(len(self.labels), labels=scheme) if decoder == "crf" else None
        if self.crf is None:
            self.criterion: Criterion = cross_entropy

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        words = at_places(hidden_states[-1], batch["word_starts"], batch)  # (B, W, H)
        return self.classifier(self.dropout(words))  # (B, W, C)

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Words with a gold tag; also with a CRF, so that both losses are on one scale. labels: (B, W)."""
        return (labels != -100).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        if self.crf is None:
            criterion = self.criterion if self.training else cross_entropy
            return criterion(logits, labels).sum()
        return -self.crf(logits, labels, batch["word_mask"], reduction="sum")

    def record_losses(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Sums over the words; with a CRF, of the sequence of tags."""
        if self.crf is None:
            losses = cross_entropy(logits, labels).sum(1)
        else:
            losses = -self.crf(logits, labels, batch["word_mask"], reduction="none")
        return losses.masked_fill((labels == -100).all(1), float("nan"))

    def divergence(self, logits: torch.Tensor, others: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Word by word, also in front of a CRF."""
        return kl_divergence(logits, others, labels != -100)

    def decode(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[list[str]]:
        paths = zip(self.best_paths(logits, batch), batch["num_words"].tolist(), strict=True)
        return [[self.labels[i] for i in path] + ["O"] * (total - len(path)) for path, total in paths]

    def confidences(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[list[float]]:
        """Probability of each decoded tag (with a CRF: its marginal); 0 for words lost by truncation."""
        mask = batch["word_mask"]
        sure = logits.float().softmax(-1) if self.crf is None else self.crf.marginals(logits, mask)  # (B, W, C)
        rows = zip(sure.tolist(), self.best_paths(logits, batch), batch["num_words"].tolist(), strict=True)
        return [
            [word[i] for word, i in zip(words, path, strict=False)] + [0.0] * (total - len(path))
            for words, path, total in rows
        ]

    def best_paths(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[list[int]]:
        """Tag numbers of the words that were not lost."""
        if self.crf is not None:
            return self.crf.decode(logits, batch["word_mask"])
        rows = zip(logits.argmax(-1).tolist(), batch["word_mask"].sum(1).tolist(), strict=True)
        return [row[:kept] for row, kept in rows]

    def score(self, predictions: Sequence[list[str]], references: Sequence[list[str]]) -> dict[str, float]:
        """Accuracy over words; for entities strict IOB2 precision, recall and F1 of seqeval, else macro F1."""
        from sklearn.metrics import accuracy_score, f1_score

        gold, predicted = [t for tags in references for t in tags], [t for tags in predictions for t in tags]
        accuracy = float(accuracy_score(gold, predicted))
        if not self.entities:
            classes = sorted({*gold, *predicted} & {*gold, *self.labels})  # the "O" of lost words is none
            macro_f1 = f1_score(gold, predicted, labels=classes, average="macro", zero_division=0)
            return {"f1": float(macro_f1), "accuracy": accuracy}
        from seqeval.metrics.v1 import precision_recall_fscore_support  # all three at once, strict
        from seqeval.scheme import IOB2

        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, average="micro", scheme=IOB2, zero_division=0
        )
        return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "accuracy": accuracy}

    def report(
        self,
        predictions: Sequence[list[str]],
        references: Sequence[list[str]],
        confidences: Sequence[list[float]],
    ) -> dict[str, Any]:
        """Figures per type of entity, or per tag with confusions; calibration of the tags."""
        from ..scores.classification import calibration, class_report, confusions, entity_report, flatten

        predicted, gold, sure = flatten(predictions, references, confidences)
        right = [one == other for one, other in zip(predicted, gold, strict=True)]
        tags = entity_report(predictions, references) if self.entities else class_report(predicted, gold, self.labels)
        return {
            **tags,
            "confusions": confusions(predicted, gold, self.labels),
            "calibration": calibration(sure, right),
        }
