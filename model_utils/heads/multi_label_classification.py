"""Any number of labels per text (or pair of texts), each a decision of its own.

    head = Head(hidden_size=384, labels=["sports", "money"], class_weights="balanced")

B texts, H hidden size, C classes.

Copy: with ../class_weights.py, ../inputs.py, ../losses.py, ../pooling.py, ../scores/classification.py,
../scores/thresholds.py; needs torch, numpy; can use scikit-learn, seqeval.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

from ..class_weights import ClassWeights
from ..inputs import record_mean
from ..losses import Criterion, cross_entropy, kl_divergence
from ..pooling import check_pooling, pool

NOTHING = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}  # of a class that is neither predicted nor gold


class Head(nn.Module):
    """Pooling, dropout, linear layer, binary cross-entropy of each class."""

    LABEL_LEVEL = "multi_label"
    MONITOR = "micro_f1"
    LOWER_IS_BETTER = ("hamming_loss",)

    thresholds: torch.Tensor

    def __init__(
        self,
        hidden_size: int,
        labels: Sequence[str],
        dropout: float = 0.1,
        pooling: str = "cls",
        threshold: float = 0.5,
        search_thresholds: str | None = None,
        class_weights: str | dict[str, float] | None = None,
    ):
        """
        Args:
            labels: class names in the order of the class numbers.
            pooling: one of pooling.POOLING.
            threshold: probability from which on a class is predicted.
            search_thresholds: evaluations in training settle it anew: "per_class" for the best F1 of each class,
                "global" for the best micro F1 of one for all; None: it stays.
            class_weights: "balanced", or label -> weight of its presence (1 where not given).
        """
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be a probability, found {threshold}")
        if search_thresholds not in (None, "per_class", "global"):
            raise ValueError(f"search_thresholds must be per_class, global or null, found {search_thresholds!r}")
        self.search_thresholds, self.tunes = search_thresholds, search_thresholds is not None
        self.labels, self.pooling = list(labels), check_pooling(pooling)
        self.all_layers = pooling == "first_last_mean"
        self.class_weights = ClassWeights(labels, class_weights, binary=True)
        self.criterion: Criterion = cross_entropy
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, len(self.labels))
        self.register_buffer("thresholds", torch.full((len(self.labels),), float(threshold)))

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        pooled = record_mean(pool(hidden_states, batch["attention_mask"], self.pooling), batch)  # (B, H)
        return self.classifier(self.dropout(pooled))  # (B, C)

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Texts with gold labels, also if these are none; labels (B, L)."""
        return (labels[:, 0] != -100).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Each text's loss is the mean over the classes."""
        criterion = self.criterion if self.training else cross_entropy
        return criterion(logits, self.multi_hot(labels), self.class_weights()).sum() / len(self.labels)

    def record_losses(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        losses = cross_entropy(logits, self.multi_hot(labels), self.class_weights()).sum(1) / len(self.labels)
        return losses.masked_fill(labels[:, 0] == -100, float("nan"))

    def multi_hot(self, labels: torch.Tensor) -> torch.Tensor:
        """(B, L) class numbers, negative ones being none -> (B, C) of 0 and 1; -100 for a text without gold labels."""
        gold = torch.zeros(len(labels), len(self.labels) + 1, device=labels.device)
        gold = gold.scatter(1, torch.where(labels < 0, len(self.labels), labels), 1.0)[:, :-1]
        return torch.where(labels[:, :1] != -100, gold, -100.0)

    def divergence(self, logits: torch.Tensor, others: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of yes and no in each class; each text's is the mean over the classes."""
        known = (labels[:, :1] != -100).expand(-1, len(self.labels))
        one, other = (torch.stack([scores, torch.zeros_like(scores)], -1) for scores in (logits, others))  # (B, C, 2)
        return kl_divergence(one, other, known) / len(self.labels)

    def decode(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[list[str]]:
        return [self.decide(row) for row in self.confidences(logits, batch)]

    def decide(self, confidences: Sequence[float]) -> list[str]:
        """The labels of one text, sorted."""
        rows = zip(self.labels, confidences, self.thresholds.tolist(), strict=True)
        return sorted(label for label, probability, threshold in rows if probability >= threshold)

    def tune(self, confidences: Sequence[Sequence[float]], references: Sequence[Sequence[str]]) -> None:
        """Set the thresholds to what would have been best for these texts."""
        from ..scores.thresholds import search_thresholds

        gold = [[label in found for label in self.labels] for found in map(set, references)]
        self.thresholds.copy_(torch.tensor(search_thresholds(confidences, gold, self.search_thresholds or "per_class")))

    def confidences(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[list[float]]:
        """Probability of every class, in the order of the labels."""
        return logits.float().sigmoid().tolist()

    def score(self, predictions: Sequence[list[str]], references: Sequence[list[str]]) -> dict[str, float]:
        """micro_f1 and macro_f1 over the labels that are predicted or gold, so also gold ones that were never trained;
        exact_match: all labels of a text right; hamming_loss: share of wrong decisions.
        """
        pairs = [(set(p), set(r)) for p, r in zip(predictions, references, strict=True)]
        right = Counter(chain.from_iterable(predicted & gold for predicted, gold in pairs))
        found = Counter(chain(*chain.from_iterable(pairs)))  # predicted plus gold
        wrong = sum(len(predicted ^ gold) for predicted, gold in pairs)
        return {
            "micro_f1": 2 * right.total() / max(found.total(), 1),
            "macro_f1": sum(2 * right[label] / found[label] for label in sorted(found)) / max(len(found), 1),
            "exact_match": sum(predicted == gold for predicted, gold in pairs) / len(pairs),
            "hamming_loss": wrong / (len(pairs) * len({*self.labels, *found})),
        }

    def report(
        self, predictions: Sequence[list[str]], references: Sequence[list[str]], confidences: Sequence[list[float]]
    ) -> dict[str, Any]:
        """Figures and threshold of each class; calibration of all decisions as one."""
        from ..scores.classification import calibration, class_report, flatten

        gold = [[label in found for label in self.labels] for found in map(set, references)]
        classes = {}
        for number, label in enumerate(self.labels):
            chosen = [str(label in labels) for labels in predictions]
            figures = class_report(chosen, [str(row[number]) for row in gold])["classes"].get("True", NOTHING)
            classes[label] = figures | {"threshold": self.thresholds[number].item()}
        sure, right = flatten(confidences, gold)
        return {"classes": classes, "calibration": calibration(sure, right)}
