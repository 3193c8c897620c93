"""A text from a text: translation, summaries, answers, the next line.

    head = Head(0, labels=[], language="zh", generation={"num_beams": 4, "max_new_tokens": 64})

It belongs to a GenerationModel (generation_model.py), whose language model gives the logits and generates. B texts,
L sub-words of the longest target, V entries of the vocabulary.

Copy: with ../losses.py, ../scores/texts.py; needs torch, rouge-score, sacrebleu.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..losses import kl_divergence


class Head(nn.Module):
    """Cross-entropy of the next sub-word, given the right ones before it; there are no parameters."""

    LABEL_LEVEL = "text"
    MONITOR = "bleu"
    LOWER_IS_BETTER = ()
    EXACT = False
    all_layers = False

    def __init__(
        self,
        hidden_size: int,
        labels: Sequence[str] = (),
        language: str = "en",
        label_smoothing: float = 0.0,
        generation: dict[str, Any] | None = None,
    ):
        """
        Args:
            labels: none.
            language: "en" or "zh", of the generated texts: how they are cut into words for the scores.
            label_smoothing: share of the probability that is spread evenly over the vocabulary.
            generation: options of transformers' `generate`: max_new_tokens, num_beams, do_sample, top_p, …; greedy
                where nothing is said. Others are as in the language model's generation_config.json.
        """
        super().__init__()
        if language not in ("en", "zh"):
            raise ValueError(f"unknown language {language!r}; there are en, zh")
        self.language, self.label_smoothing = language, label_smoothing
        self.generation = {"num_beams": 1, "do_sample": False, "use_cache": True} | (generation or {})
        self.generate: Callable[[Mapping[str, Any]], list[str]] | None = None
        """batch -> texts, set by the model"""

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        raise NotImplementedError("the logits come from the language model, see generation_model.py")

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Sub-words of the targets, their end token included; labels (B, L)."""
        return (labels != -100).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """logits: (B, L, V), each from the target's sub-words before it."""
        return torch.stack([self.text_loss(*text) for text in zip(logits, labels, strict=True)]).sum()

    def record_losses(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        losses = torch.stack([self.text_loss(*text) for text in zip(logits, labels, strict=True)])
        return losses.masked_fill((labels == -100).all(1), float("nan"))

    def divergence(self, logits: torch.Tensor, others: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sub-word by sub-word; one text after the other for the same reason as the loss."""
        texts = zip(logits, others, labels != -100, strict=True)
        return torch.stack([kl_divergence(*text) for text in texts]).sum()

    def text_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of one text: fp32 copies of the whole batch's logits would be the largest tensors of a step."""
        return F.cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=self.label_smoothing)

    def decode(self, logits: torch.Tensor | None, batch: Mapping[str, Any]) -> list[str]:
        """Generated texts; the logits are not looked at, as they know the target."""
        assert self.generate is not None, "only a GenerationModel generates"
        return self.generate(batch)

    def confidences(self, logits: torch.Tensor | None, batch: Mapping[str, Any]) -> list[None]:
        """None: there is no one probability of a text that was searched for."""
        return [None] * len(batch["sample_id"])

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        from ..scores.texts import score_texts

        return score_texts(predictions, references, self.language)
