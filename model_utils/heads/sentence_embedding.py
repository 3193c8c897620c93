"""One vector per text, trained so that alike texts have alike vectors.

    head = Head(hidden_size=384, labels=[], objective="cosent", pooling="mean")

Objectives, by what the training records have:
    in_batch_negatives   pairs that are alike; every other second text of the micro-batch is a negative (Henderson et
                         al. 2017, arXiv 1705.00652). A record with a single text is a pair of it with itself, told
                         apart by dropout alone: SimCSE (Gao et al. 2021, arXiv 2104.08821)
    cosent               pairs with scores; a higher score must mean a higher cosine (Su 2022, kexue.fm/archives/8847)
    cosine               pairs with scores; the cosine is regressed on the score, scaled to 0 … 1 (Reimers and Gurevych
                         2019, arXiv 1908.10084)

In-batch negatives and CoSENT compare records of a micro-batch: there 2 x 16 records are not 1 x 32.

B records, R inputs (texts), H hidden size.

Copy: with ../inputs.py, ../pooling.py, ../scores/ranking.py; needs torch; can use scipy.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..inputs import per_record
from ..pooling import check_pooling, pool

OBJECTIVES = ("in_batch_negatives", "cosent", "cosine")


class Head(nn.Module):
    """Pooling and the loss; there are no parameters."""

    LABEL_LEVEL = "pair"
    MONITOR = "spearman"
    LOWER_IS_BETTER = ()
    EXACT = False

    def __init__(
        self,
        hidden_size: int,
        labels: Sequence[str] = (),
        pooling: str = "mean",
        objective: str = "in_batch_negatives",
        temperature: float = 0.05,
        positive_from: float = 0.5,
        max_score: float = 1.0,
    ):
        """
        Args:
            labels: none.
            pooling: one of pooling.POOLING.
            objective: one of OBJECTIVES.
            temperature: cosines are divided by it (in_batch_negatives, cosent).
            positive_from: least gold score of a pair that counts as alike (in_batch_negatives); the second text of
                another pair is only a negative. A pair without gold is alike.
            max_score: highest gold score (cosine).
        """
        super().__init__()
        if objective not in OBJECTIVES:
            raise ValueError(f"unknown objective {objective!r}; there are {', '.join(OBJECTIVES)}")
        if temperature <= 0 or max_score <= 0:
            raise ValueError("temperature and max_score must be above 0")
        self.pooling, self.objective = check_pooling(pooling), objective
        self.all_layers = pooling == "first_last_mean"
        self.temperature, self.positive_from, self.max_score = temperature, positive_from, max_score

    @staticmethod
    def gold_optional(objective: str = "in_batch_negatives", **_: Any) -> bool:
        """Whether training records may do without gold scores."""
        return objective == "in_batch_negatives"

    @staticmethod
    def compares_records(objective: str = "in_batch_negatives", **_: Any) -> bool:
        return objective != "cosine"

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        """Vectors (B, 2, H) of length 1."""
        vectors = pool(hidden_states, batch["attention_mask"], self.pooling).float()  # (R, H)
        return per_record(F.normalize(vectors, dim=-1), batch)

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Pairs that are alike (in_batch_negatives) or have a score; labels (B,), NaN = no gold, inf = surely alike."""
        return ((labels >= self.positive_from) if self.objective == "in_batch_negatives" else ~labels.isnan()).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        first, second = logits.unbind(1)  # (B, H)
        if self.objective == "in_batch_negatives":
            return in_batch_loss(first, second, labels >= self.positive_from, ~labels.isnan(), self.temperature)
        cosines = (first * second).sum(-1)
        known = ~labels.isnan()
        if self.objective == "cosine":
            errors = torch.where(known, cosines - labels / self.max_score, 0.0)
            return errors.square().sum()
        return cosent_loss(cosines, labels, self.temperature) * known.sum()

    def decode(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[float]:
        """Cosine of the two texts."""
        return (logits[:, 0] * logits[:, 1]).sum(-1).tolist()

    def confidences(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[None]:
        """None: a cosine is no probability."""
        return [None] * len(logits)

    def score(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        from ..scores.ranking import pearson, spearman

        return {"spearman": spearman(predictions, references), "pearson": pearson(predictions, references)}


def in_batch_loss(
    first: torch.Tensor, second: torch.Tensor, positive: torch.Tensor, real: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Sum over the positive pairs of the cross-entropy of a first text over all second texts.

    Args:
        first, second: (B, H), of length 1.
        positive: (B,), pairs that are alike.
        real: (B,), records that are no stand-ins; only their second texts count.
    """
    own = torch.arange(len(first), device=first.device)
    with torch.autocast(first.device.type, enabled=False):  # bf16 rounds cosines to 0.004, which t makes 0.08
        similarities = first @ second.T / temperature  # (B, B)
    candidates = real | (own[:, None] == own)  # its own for every record: without any, NaN would come up on the way
    similarities = similarities.masked_fill(~candidates, float("-inf"))
    return F.cross_entropy(similarities, torch.where(positive, own, -100), ignore_index=-100, reduction="sum")


def cosent_loss(cosines: torch.Tensor, scores: torch.Tensor, temperature: float) -> torch.Tensor:
    """log(1 + sum of e^((cos_i - cos_j) / t) over all i, j with score_i < score_j); (B,) each, NaN = no score."""
    differences = (cosines[:, None] - cosines[None, :]) / temperature  # (B, B)
    ordered = scores[:, None] < scores[None, :]  # False for NaN
    terms = differences.masked_fill(~ordered, float("-inf")).flatten()
    return torch.cat([terms.new_zeros(1), terms]).logsumexp(0)
