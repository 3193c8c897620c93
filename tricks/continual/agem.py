"""A-GEM, averaged gradient episodic memory: an update may not go against the mean gradient of earlier tasks' samples.

Chaudhry, Ranzato, Rohrbach, Elhoseiny: Efficient Lifelong Learning with A-GEM, ICLR 2019,
https://arxiv.org/abs/1812.00420. r is the gradient of a batch of samples of earlier tasks, drawn from a memory anew for
each update; where g . r < 0, g becomes g - (g . r / r . r) r, the nearest vector whose product with r is not negative.

    approach = Approach(Buffer(size=500), collate, batch_size=32)       # buffer.py
    loss = model(batch).loss + approach.extra_loss(model, batch, output)        # 0: it fills the memory
    loss.backward()
    approach.before_step(model)                                         # changes the gradients, then step

    gradients = project(gradients, references)                          # the formula alone

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[{name: agem, size: 500}]'

Exact where copies usually are not: nothing is read back to the host; r is scaled before it is squared, which changes
nothing but that no square overflows or vanishes; an r that is zero, NaN or infinite changes no gradient; gradients
that need no change stay bit for bit; the loss is not scaled in fp16, so that very small parts of r are 0 there.
g and r are vectors over all trainable weights, as in the formula: the heads of earlier tasks, which the batch has no
gradient for, are 0 in g, and get what the projection puts there, 0 where it does nothing. So an optimizer with weight
decay decays them as well, from the second task on. To clip g before is the same as to clip what it became, or less.
Cost: a forward and backward pass of `batch_size` samples per update, from the second task on; two more copies of the
gradients. Conflicts: none known.

Copy: alone; needs torch.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


class Approach:
    """Fills the memory in `extra_loss`, draws from it in `before_step`."""

    def __init__(
        self,
        buffer: Any,
        collate: Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]],
        batch_size: int = 32,
    ):
        """
        Args:
            buffer: the memory, a Buffer.
            collate: samples -> batches, each with its `share` of the samples; model(batch).loss is its mean loss.
            batch_size: samples drawn for each update.

        Raises: ValueError for an impossible one.
        """
        if batch_size < 1:
            raise ValueError(f"A-GEM: batch_size must be at least 1, found {batch_size}")
        self.buffer, self.collate, self.batch_size = buffer, collate, batch_size
        self.task = ""  # that of the batches before the update

    def extra_loss(self, model: Any, batch: Mapping[str, Any], output: Any) -> Tensor:
        """0. batch: has `task` and `samples`."""
        self.task = batch["task"]
        self.buffer.add(batch["samples"])
        return output.loss.new_zeros(())

    @torch.enable_grad()
    def before_step(self, model: Any, autocast: Callable[[], Any] = nullcontext) -> None:
        """Project the gradients, which must be unscaled; nothing in the first task."""
        earlier = self.buffer.draw(self.batch_size, but=self.task)
        if not earlier:
            return
        with autocast():
            loss = sum(some["share"] * model(some).loss for some in self.collate(earlier))
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        references = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, gradient in zip(weights, project([w.grad for w in weights], references), strict=True):
            weight.grad = gradient

    def state_dict(self) -> dict[str, Any]:
        return {"buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.buffer.load_state_dict(state["buffer"])


@torch.no_grad()
def project(gradients: Sequence[Tensor | None], references: Sequence[Tensor | None]) -> list[Tensor | None]:
    """g, or the nearest to it that does not go against r.

    Args:
        gradients, references: the parts of g and r, None for zeros; r has at least one that is not None.

    Returns: the parts of the new g, None where both are.
    """
    known = [r for r in references if r is not None]
    largest = torch.stack(torch._foreach_norm(known, torch.inf)).amax()
    scaled = [None if r is None else r / largest for r in references]
    pairs = list(zip(gradients, scaled, strict=True))
    products = [(g * r).sum() for g, r in pairs if g is not None and r is not None]
    squares = [r.square().sum() for r in scaled if r is not None]
    share = torch.stack([largest.new_zeros(()), *products]).sum() / torch.stack(squares).sum()
    against = (share < 0) & share.isfinite()  # share is NaN where r is zero or not finite
    found = []
    for gradient, r in pairs:
        if r is not None:
            gradient = torch.zeros_like(r) if gradient is None else gradient
            gradient = torch.where(against, gradient - share * r, gradient)
        found.append(gradient)
    return found


if __name__ == "__main__":
    g, r = torch.tensor([1.0, -2.0]), torch.tensor([0.0, 3.0])
    for reference, expected in ((r, [1.0, 0.0]), (-r, [1.0, -2.0]), (0 * r, [1.0, -2.0]), (torch.nan * r, [1.0, -2.0])):
        (found,) = project([g], [reference])
        assert found is not None and found.tolist() == expected
