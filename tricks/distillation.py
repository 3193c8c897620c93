"""Distillation: learn also from the softened class probabilities of a trained teacher.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531. The loss
of an item is (1 - alpha) * plain loss + alpha * T^2 * KL(teacher || student), both distributions at temperature T;
T^2 keeps the gradient's size when T changes.

Three ways to use it:

    with torch.no_grad(): taught = teacher(**batch).logits
    loss = distillation(model(**batch).logits, taught, labels, alpha=0.5, temperature=2.0)      # 1. familiar calls

    compute_loss = Distillation(teacher, alpha=0.5)     # 2. around any model(batch, num_items) -> loss, logits by task
    compute_loss(model, batch).loss.backward()

    sh run.sh --use_distillation --distillation_teacher output/large/best --distillation_alpha 0.5      # 3. by flag

Exact where copies of this trick usually are not: the teacher stays in eval mode without gradients; padding (label
-100) counts in neither part; the divergence is summed over items and divided by the same number as the loss, so that
accumulating micro-batches gives the gradient of the big batch; it is computed in fp32 under autocast.
Cost: a forward pass of the teacher, and its weights. Behind a CRF the tags' emissions are compared. The teacher reads
the same sub-words, so it needs the same tokenizer, and the same classes in the same order. Conflicts: mixup, whose
mixed texts the teacher does not see.

Copy: alone; needs torch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def divergence(task: str, scores: Tensor, others: Tensor, labels: Tensor) -> Tensor:
    """KL(P || Q), summed over items; scores (…, C) before the softmax; labels (…), -100 = no item."""
    p, q = (s.float().clamp(min=-1e4).log_softmax(-1) for s in (scores, others))  # -inf - -inf would be NaN
    return torch.where(labels != -100, (p.exp() * (p - q)).sum(-1), 0.0).sum()


def distillation(
    scores: Tensor, taught: Tensor, labels: Tensor, alpha: float = 0.5, temperature: float = 2.0
) -> Tensor:
    """The mean over items; scores of the student, taught by the teacher: (…, C); labels: (…), -100 = no item."""
    plain = F.cross_entropy(scores.flatten(0, -2), labels.flatten(), reduction="sum")
    apart = temperature**2 * divergence("", taught / temperature, scores / temperature, labels)
    return ((1 - alpha) * plain + alpha * apart) / (labels != -100).sum().clamp(min=1)


class Distillation:
    """A `compute_loss` with a teacher."""

    def __init__(
        self,
        teacher: nn.Module,
        alpha: float = 0.5,
        temperature: float = 2.0,
        compute_loss: Callable[..., Any] = lambda model, *given: model(*given),
        divergence: Callable[[str, Tensor, Tensor, Tensor], Tensor] = divergence,
        weights: Mapping[str, float] | None = None,
    ):
        """
        Args:
            teacher: teacher(batch) returns `logits` by task, of the names in its entry `tasks` at least.
            alpha: share of the teacher, between 0 and 1.
            compute_loss: (model, batch, num_items) -> `loss`, and `logits` by task.
            divergence: (task, logits, other logits, labels) -> sum over items.
            weights: task -> factor of its loss, 1 where not given.
        """
        if not 0 <= alpha <= 1 or not temperature > 0:
            raise ValueError(f"Distillation: alpha must be between 0 and 1, temperature above 0, "
                             f"found {alpha} and {temperature}")  # fmt: skip
        self.teacher = teacher.eval().requires_grad_(False)
        self.alpha, self.temperature = alpha, temperature
        self.compute_loss, self.divergence, self.weights = compute_loss, divergence, weights or {}

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], num_items: Mapping[str, Any] | None = None) -> Any:
        """What the student returns, with both losses.

        Args:
            batch: `labels` by task.
            num_items: task -> what its sum is divided by; None: its labels here that are not -100.
        """
        output = self.compute_loss(model, batch, num_items)
        with torch.no_grad():
            taught = self.teacher({**batch, "tasks": tuple(batch["labels"])}).logits
        output.loss = (1 - self.alpha) * output.loss
        for task, labels in batch["labels"].items():
            soft, hard = (scores / self.temperature for scores in (taught[task], output.logits[task]))
            items = (labels != -100).sum().clamp(min=1) if num_items is None else num_items[task]
            apart = self.temperature**2 * self.divergence(task, soft, hard, labels) / items
            output.loss = output.loss + self.alpha * self.weights.get(task, 1.0) * apart
        return output


if __name__ == "__main__":
    torch.manual_seed(0)
    scores, taught, labels = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([2, -100])
    p, q = (taught[0] / 5).softmax(0), (scores[0] / 5).softmax(0)
    expected = -0.3 * scores[0].log_softmax(0)[2] + 0.7 * 25 * (p * (p / q).log()).sum()
    torch.testing.assert_close(distillation(scores, taught, labels, alpha=0.7, temperature=5.0), expected)
