"""Dark experience replay (DER, DER++): samples in a memory keep the logits that the model gave them, and should go on
having them.

Buzzega, Boschini, Porrello, Abati, Calderara: Dark Experience for General Continual Learning: a Strong, Simple
Baseline, NeurIPS 2020, https://arxiv.org/abs/2004.07211. The loss of a batch is its mean loss + alpha * the mean of
(z - h)^2 over one draw from the memory, z being the logits from when a sample came into it and h those of now, + beta *
the mean loss of another draw, with gold labels. beta = 0 is DER.

    approach = Approach(Buffer(size=500), collate, batch_size=32, alpha=0.1, beta=0.5)       # buffer.py
    loss = model(batch).loss + approach.extra_loss(model, batch, output)

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[{name: der, size: 500, beta: 0}]'

Exact where copies usually are not: logits of words, spans and choices are compared where both have some, however wide
the batches are that a sample comes in, never on padding; in fp32; what was not finite when it was stored is left out,
what is NaN now is not hidden; samples of several heads in one draw count alike. The memory holds no sample twice, also
where epochs repeat them (buffer.py); the logits stay those of its first time. As in the paper draws are from all of it,
also from the task that is trained, and also in the first one.
Cost: a forward and backward pass of `batch_size` samples per micro-batch for each of alpha and beta that is not 0; the
logits of every sample in the memory, which for spans (global pointer) are types * words^2 numbers.
Conflicts: mixup, whose logits are those of mixed texts.

Copy: alone; needs torch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Approach:
    """Draws from the memory, and fills it."""

    def __init__(
        self,
        buffer: Any,
        collate: Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]],
        batch_size: int = 32,
        alpha: float = 0.1,
        beta: float = 0.5,
    ):
        """
        Args:
            buffer: the memory, a Buffer.
            collate: samples -> batches of one head, each with its `samples` and its `share` of them all;
                model(batch).loss is its mean loss.
            batch_size: samples in each of the two draws for a micro-batch.
            alpha: factor of the logits' mean squared error; 0: none.
            beta: factor of the loss with gold labels; 0: none.

        Raises: ValueError for an impossible one.
        """
        if batch_size < 1 or alpha < 0 or beta < 0:
            raise ValueError(f"DER++: batch_size must be at least 1, alpha and beta not negative, "
                             f"found {batch_size}, {alpha} and {beta}")  # fmt: skip
        self.buffer, self.collate, self.batch_size = buffer, collate, batch_size
        self.alpha, self.beta = alpha, beta
        self.device: Any = None

    def begin_task(self, model: Any, task: Any) -> None:
        self.device = next(model.parameters()).device
        self.move()

    def move(self) -> None:
        """The logits in the memory, to where the model is."""
        for sample in self.buffer.samples.values() if self.device is not None else ():
            sample["extra"] = sample["extra"].to(self.device)

    def extra_loss(self, model: Any, batch: Mapping[str, Any], output: Any) -> Tensor:
        """0 while the memory is empty. batch: has `samples`, and `labels` of one head."""
        (head,) = batch["labels"]
        loss = output.loss.new_zeros(())
        if self.alpha and len(self.buffer):
            loss = loss + self.alpha * sum(some["share"] * error(model, some) for some in self.drawn())
        if self.beta and len(self.buffer):
            loss = loss + self.beta * sum(some["share"] * model(some).loss for some in self.drawn())
        self.buffer.add(batch["samples"], output.logits[head])
        return loss

    def drawn(self) -> Sequence[Mapping[str, Any]]:
        return self.collate(self.buffer.draw(self.batch_size))

    def state_dict(self) -> dict[str, Any]:
        return {"buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.buffer.load_state_dict(state["buffer"])
        self.move()


def error(model: Any, batch: Mapping[str, Any]) -> Tensor:
    """Of the logits against those that the samples of the batch keep."""
    (head,) = batch["labels"]
    stored = [sample["extra"] for sample in batch["samples"]]
    return logit_error(model(batch).logits[head], stored, batch.get("word_mask"))


def logit_error(logits: Tensor, stored: Sequence[Tensor], word_mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of the numbers that both have.

    Args:
        logits: (B, …); -inf where there is nothing, such as a choice that a record does not have.
        stored: B rows of it, which may be wider or less wide.
        word_mask: (B, W), True for real words; of logits (B, W, C) only these count.
    """
    logits, others = logits.float(), aligned(stored, logits)
    known = others.isfinite() & (logits != -torch.inf)
    if word_mask is not None and logits.ndim == 3 and logits.shape[:2] == word_mask.shape:
        known = known & word_mask[:, :, None]
    difference = torch.where(known, logits, 0.0) - torch.where(known, others, 0.0)
    return difference.square().sum() / known.sum().clamp(min=1)


@torch.no_grad()
def aligned(rows: Sequence[Tensor], like: Tensor) -> Tensor:
    """One tensor (B, …), shaped like another; NaN where a row has nothing."""
    found = torch.full_like(like, torch.nan, dtype=torch.float32)
    for place, row in zip(found.unbind(), rows, strict=True):
        both = tuple(slice(min(sizes)) for sizes in zip(place.shape, row.shape, strict=True))
        place[both] = row[both]
    return found


if __name__ == "__main__":
    logits = torch.tensor([[1.0, 2.0, -torch.inf], [0.0, 3.0, 5.0]], requires_grad=True)
    stored = [torch.tensor([0.0, 4.0]), torch.tensor([0.0, 0.0, -torch.inf, 7.0])]
    apart = logit_error(logits, stored)
    (gradient,) = torch.autograd.grad(apart, logits)
    assert apart == (1 + 4 + 0 + 9) / 4 and gradient.tolist() == [[0.5, -1.0, 0.0], [0.0, 1.5, 0.0]]
