"""The piece of a context that answers a question, or none.

    head = Head(hidden_size=384, labels=[], max_answer_length=30)

A score for starting and one for ending at each sub-word of the context (Devlin et al. 2019). Place 0 stands for "no
answer". Long contexts come as windows; their scores are normalised together (Clark and Gardner 2018, arXiv 1710.10723),
so they can be compared, and nothing has to be merged afterwards.

B records, W sub-words of the context + 1.

Copy: with ../inputs.py, ../losses.py, ../scores/answers.py; needs torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..inputs import at_places
from ..losses import kl_divergence

LANGUAGES = ("en", "zh")


class Head(nn.Module):
    """Dropout, two scores per sub-word, the mean of two cross-entropies."""

    LABEL_LEVEL = "answer"
    MONITOR = "f1"
    LOWER_IS_BETTER = ()
    EXACT = False

    def __init__(
        self,
        hidden_size: int,
        labels: Sequence[str] = (),
        dropout: float = 0.1,
        max_answer_length: int = 30,
        no_answer_margin: float = 0.0,
        language: str = "en",
    ):
        """
        Args:
            labels: none.
            max_answer_length: of predicted answers, in sub-words.
            no_answer_margin: "no answer" is predicted where its score is above that of the best answer by more than
                this.
            language: "en" or "zh", how answers are compared.
        """
        super().__init__()
        if language not in LANGUAGES:
            raise ValueError(f"unknown language {language!r}; there are {', '.join(LANGUAGES)}")
        if max_answer_length < 1:
            raise ValueError(f"max_answer_length must be above 0, found {max_answer_length}")
        self.all_layers = False
        self.max_answer_length, self.no_answer_margin, self.language = max_answer_length, no_answer_margin, language
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, 2)

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        """Scores of starting and ending (B, W, 2); -inf behind the end of a context."""
        places = at_places(hidden_states[-1], batch["word_starts"], batch)  # (B, W, H)
        scores = self.classifier(self.dropout(places)).float()
        return scores.masked_fill(~batch["word_mask"][:, :, None], float("-inf"))

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Questions whose answer is known and in the input; labels (B, 2)."""
        return (labels[:, 0] != -100).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        return F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum") / 2

    def record_losses(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        losses = F.cross_entropy(logits, labels, ignore_index=-100, reduction="none").sum(1) / 2
        return losses.masked_fill(labels[:, 0] == -100, float("nan"))

    def divergence(self, logits: torch.Tensor, others: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean of those of starts and ends."""
        return kl_divergence(logits.transpose(1, 2), others.transpose(1, 2), labels != -100) / 2

    def decode(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[tuple[int, int]]:
        """First character of the answer in the context and the one behind its last; (0, 0): no answer."""
        first, last, _ = self.best_spans(logits)
        starts, ends = batch["char_starts"].gather(1, first[:, None]), batch["char_ends"].gather(1, last[:, None])
        return list(zip(starts[:, 0].tolist(), ends[:, 0].tolist(), strict=True))

    def best_spans(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """First and last place of the prediction, both 0 for "no answer", and its score; each (B,)."""
        nothing = logits[:, 0].sum(-1)
        starts, ends = logits[:, 1:].unbind(-1)  # (B, W - 1)
        longest = min(self.max_answer_length, starts.shape[1])
        if longest == 0:
            place = torch.zeros_like(nothing, dtype=torch.int64)
            return place, place, nothing
        following = F.pad(ends, (0, longest - 1), value=float("-inf")).unfold(1, longest, 1)  # (B, W - 1, longest)
        scores, best = (starts[:, :, None] + following).flatten(1).max(1)
        answered = (nothing - scores <= self.no_answer_margin) & scores.isfinite()  # -inf: the context is empty
        first = torch.where(answered, best // longest + 1, 0)
        last = torch.where(answered, first + best % longest, 0)
        return first, last, torch.where(answered, scores, nothing)

    def confidences(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[float]:
        """Probability of the prediction: of its start times that of its end."""
        return (self.best_spans(logits)[2] - logits.logsumexp(1).sum(-1)).exp().tolist()

    def score(self, predictions: Sequence[tuple[int, int]], references: Sequence[dict[str, Any]]) -> dict[str, float]:
        """exact_match and f1 as the official scripts of SQuAD and CMRC 2018 count them."""
        from ..scores.answers import score_answers

        texts = [gold["context"][start:end] for (start, end), gold in zip(predictions, references, strict=True)]
        answers = [[gold["context"][start:end] for start, end in gold["spans"]] for gold in references]
        return score_answers(texts, answers, self.language)
