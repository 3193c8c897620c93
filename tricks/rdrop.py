"""R-Drop: two forward passes with different dropout should not only be right, but also agree.

Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu: R-Drop: Regularized Dropout for Neural Networks, NeurIPS 2021,
https://arxiv.org/abs/2106.14448. The paper's loss of an item is -log p1 - log p2 + alpha / 2 * (KL(P1 || P2) +
KL(P2 || P1)); we take half of it, so that losses, gradients and their clipping stay on the scale of the plain loss.

Three ways to use it:

    first, second = model(**batch).logits, model(**batch).logits
    loss = r_drop(first, second, labels, alpha=4.0)     # 1. familiar calls, for one label per item: (…, C) and (…)

    compute_loss = RDrop(alpha=4.0)                     # 2. around any model(batch, num_items) -> loss, logits by task
    compute_loss(model, batch).loss.backward()

    sh run.sh --use_rdrop --rdrop_alpha 4.0             # 3. by flag

Exact where copies of this trick usually are not: padding (label -100) counts in neither part; the divergence is summed
over items and divided by the same number as the loss, so that accumulating micro-batches gives the gradient of the big
batch; it is computed in fp32 under autocast; both sides of it get a gradient.
Cost: two forward passes and one backward pass through both, with the activations of both. Behind a CRF the tags'
emissions are compared. Conflicts: mixup, whose two passes would mix different texts; models without dropout. Under DDP
with `broadcast_buffers` the second pass overwrites buffers of the first: turn that off.

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


def r_drop(first: Tensor, second: Tensor, labels: Tensor, alpha: float = 4.0) -> Tensor:
    """Half of the paper's loss, as a mean over items; first, second: (…, C); labels: (…), -100 = no item."""
    losses = [F.cross_entropy(s.flatten(0, -2), labels.flatten(), reduction="sum") for s in (first, second)]
    apart = divergence("", first, second, labels) + divergence("", second, first, labels)
    return (sum(losses) / 2 + alpha / 4 * apart) / (labels != -100).sum().clamp(min=1)


class RDrop:
    """A `compute_loss` of two passes."""

    def __init__(
        self,
        alpha: float = 4.0,
        compute_loss: Callable[..., Any] = lambda model, *given: model(*given),
        divergence: Callable[[str, Tensor, Tensor, Tensor], Tensor] = divergence,
        weights: Mapping[str, float] | None = None,
    ):
        """
        Args:
            alpha: weight of the divergence, as in the paper.
            compute_loss: what is called twice; returns `loss`, and `logits` by task.
            divergence: (task, logits, other logits, labels) -> sum over items.
            weights: task -> factor of its divergence, 1 where not given.
        """
        self.alpha, self.compute_loss, self.divergence = alpha, compute_loss, divergence
        self.weights = weights or {}

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], num_items: Mapping[str, Any] | None = None) -> Any:
        """What the first pass returns, with the loss of both.

        Args:
            batch: `labels` by task.
            num_items: task -> what its sum is divided by; None: its labels here that are not -100.
        """
        first, second = (self.compute_loss(model, batch, num_items) for _ in range(2))
        first.loss = (first.loss + second.loss) / 2
        for task, labels in batch["labels"].items():
            one, other = first.logits[task], second.logits[task]
            apart = self.divergence(task, one, other, labels) + self.divergence(task, other, one, labels)
            items = (labels != -100).sum().clamp(min=1) if num_items is None else num_items[task]
            first.loss = first.loss + self.weights.get(task, 1.0) * self.alpha / 4 * apart / items
        return first


if __name__ == "__main__":
    torch.manual_seed(0)
    first, second, labels = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([2, -100])
    p, q = first[0].softmax(0), second[0].softmax(0)
    kl = (p * (p / q).log()).sum() + (q * (q / p).log()).sum()
    paper = -p[2].log() - q[2].log() + 0.7 / 2 * kl
    torch.testing.assert_close(2 * r_drop(first, second, labels, alpha=0.7), paper)
