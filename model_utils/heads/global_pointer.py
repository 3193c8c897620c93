"""Entities as spans of words, which may nest or overlap: every span gets a score for every type.

    head = Head(hidden_size=384, labels=["city", "person"])

GlobalPointer (Su et al. 2022, arXiv 2208.03054): query and key of the first and the last word of a span, turned by
rotary positions (Su et al. 2021, arXiv 2104.09864), and a loss that needs no class balance (Su et al. 2022, arXiv
2208.02955): log(1 + sum of e^score over wrong spans) + log(1 + sum of e^-score over right ones), for each type.

B texts, W words, H hidden size, C types, D head size, L entities.

Copy: with ../inputs.py; needs torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..inputs import at_places

Span = tuple[int, int, str]  # first word, word behind the last, label


class Head(nn.Module):
    """Dropout, queries and keys of words, scores of all spans; those above 0 are predicted."""

    LABEL_LEVEL = "entities"
    MONITOR = "f1"
    LOWER_IS_BETTER = ()

    def __init__(self, hidden_size: int, labels: Sequence[str], dropout: float = 0.1, head_size: int = 64):
        """labels: types in the order of the class numbers; head_size: even, dimensions of queries and keys."""
        super().__init__()
        if head_size < 2 or head_size % 2:
            raise ValueError(f"head_size must be even and above 0, found {head_size}")
        self.labels, self.head_size = list(labels), head_size
        self.all_layers = False
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(hidden_size, len(self.labels) * 2 * head_size)
        # spans are rare: without this half of all would be predicted at first, which is many
        self.bias = nn.Parameter(torch.full((len(self.labels), 1, 1), -4.0))

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        """Scores (B, C, W, W) of spans from one word to another; -inf where there is no such span."""
        words = at_places(hidden_states[-1], batch["word_starts"], batch)  # (B, W, H)
        projected = self.projection(self.dropout(words))
        query, key = projected.unflatten(-1, (len(self.labels), 2, self.head_size)).unbind(3)  # (B, W, C, D)
        scores = torch.einsum("bmcd,bncd->bcmn", rotated(query), rotated(key)) / self.head_size**0.5 + self.bias
        real = batch["word_mask"]
        spans = (real[:, :, None] & real[:, None, :]).triu()[:, None]  # (B, 1, W, W)
        return scores.masked_fill(~spans, float("-inf"))

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Texts with gold entities, also if these are none; labels (B, L, 3)."""
        return (labels[:, 0, 0] != -100).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Each text's loss is the mean over the types."""
        return torch.where(labels[:, 0, 0] != -100, self.text_losses(logits, labels), 0.0).sum()

    def record_losses(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        return self.text_losses(logits, labels).masked_fill(labels[:, 0, 0] == -100, float("nan"))

    def text_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,); without gold that of a text without entities."""
        logits = logits.float()
        gold = self.gold_spans(labels, logits.shape[-1])  # (B, C, W, W)
        zero = logits.new_zeros(*logits.shape[:2], 1)
        wrong = torch.where(gold, float("-inf"), logits).flatten(2)
        right = torch.where(gold, -logits, float("-inf")).flatten(2)
        return (torch.cat([zero, wrong], 2).logsumexp(2) + torch.cat([zero, right], 2).logsumexp(2)).mean(1)

    def gold_spans(self, labels: torch.Tensor, num_words: int) -> torch.Tensor:
        """(B, L, 3) of class, first, last word, negative ones being none -> True at each of them: (B, C, W, W)."""
        shape = (len(self.labels), num_words, num_words)
        last = shape[0] * shape[1] * shape[2]  # one place more than there are spans, for those that are none
        classes, first, end = labels.unbind(-1)  # (B, L)
        places = torch.where(classes < 0, last, (classes * num_words + first) * num_words + end)
        gold = torch.zeros(len(labels), last + 1, dtype=torch.bool, device=labels.device)
        return gold.scatter(1, places, True)[:, :-1].unflatten(1, shape)

    def decode(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[list[Span]]:
        """Sorted by place, then label."""
        found: list[list[Span]] = [[] for _ in logits]
        for text, number, first, last in (logits > 0).nonzero().tolist():
            found[text].append((first, last + 1, self.labels[number]))
        return [sorted(spans) for spans in found]

    def confidences(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[list[float]]:
        """Sigmoid of the score of each predicted span, in the order of `decode`."""
        sure = logits.float().sigmoid()
        found: list[list[tuple[Span, float]]] = [[] for _ in logits]
        chosen = (logits > 0).nonzero()
        for (text, number, first, last), value in zip(chosen.tolist(), sure[chosen.unbind(1)].tolist(), strict=True):
            found[text].append(((first, last + 1, self.labels[number]), value))
        return [[value for _, value in sorted(spans)] for spans in found]

    def score(self, predictions: Sequence[list[Span]], references: Sequence[list[Span]]) -> dict[str, float]:
        """Micro precision, recall and F1 of spans with their labels; 0 where there are none to count."""
        figures = span_figures(predictions, references)
        del figures["support"]
        return figures

    def report(
        self, predictions: Sequence[list[Span]], references: Sequence[list[Span]], confidences: Sequence[list[float]]
    ) -> dict[str, Any]:
        """Figures per type."""
        types = sorted({label for spans in [*predictions, *references] for _, _, label in spans})

        def only(label: str, texts: Sequence[list[Span]]) -> list[list[Span]]:
            return [[span for span in spans if span[2] == label] for spans in texts]

        classes = {label: span_figures(only(label, predictions), only(label, references)) for label in types}
        return {"classes": classes, "micro": span_figures(predictions, references)}


def span_figures(predictions: Sequence[list[Span]], references: Sequence[list[Span]]) -> dict[str, float]:
    """Precision, recall and F1 of spans that agree in place and label; support: gold spans."""
    pairs = zip(predictions, references, strict=True)
    right = sum(len({*map(tuple, predicted)} & {*map(tuple, gold)}) for predicted, gold in pairs)
    found, gold = sum(map(len, predictions)), sum(map(len, references))
    f1 = 2 * right / max(found + gold, 1)
    return {"precision": right / max(found, 1), "recall": right / max(gold, 1), "f1": f1, "support": gold}


def rotated(vectors: torch.Tensor) -> torch.Tensor:
    """Rotary positions: each pair of dimensions of word n is turned by n * 10000^(-2i/D). (B, W, C, D)."""
    words, size = vectors.shape[1], vectors.shape[3]
    speeds = 10000 ** (-torch.arange(0, size, 2, device=vectors.device, dtype=torch.float32) / size)  # (D/2,)
    angles = (torch.arange(words, device=vectors.device)[:, None] * speeds)[None, :, None]  # (1, W, 1, D/2)
    even, odd = vectors[..., 0::2], vectors[..., 1::2]
    turned = torch.stack([even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos()], -1)
    return turned.flatten(-2)
