"""SAM, sharpness-aware minimization: the gradient is taken where a small step uphill leads, not where the weights are.

Foret, Kleiner, Mobahi, Neyshabur: Sharpness-Aware Minimization for Efficiently Improving Generalization, ICLR 2021,
https://arxiv.org/abs/2010.01412. The weights move by rho * g / ||g||, g being the loss gradient
with respect to all of them; the gradient there takes the place of g; the weights move back.

Three ways to use it:

    sam = SAM(model, rho=0.05)
    loss.backward()
    sam.attack()                                        # 1. familiar calls: uphill along .grad, which is emptied
    model(**batch).loss.backward()
    sam.restore()

    sam(lambda: model(**batch).loss.backward())         # 2. closure: both passes; restores even if one fails

    sh run.sh --use_sam --sam_rho 0.05                  # 3. by flag

Exact where copies of this trick usually are not: the closure goes along this micro-batch's own gradient, gradients
accumulated before neither bend it nor get lost, also when a pass fails; the weights come back bit for bit instead of by
subtraction; a loss scale does not change the step; no value is read back to the host; a gradient that is zero, NaN or
infinite moves nothing. With several processes or micro-batches each goes its own way uphill (what the paper calls
m-sharpness).
Cost: two forward and backward passes instead of one, one more copy of the weights, and of the gradients while they are
accumulated.
Conflicts: AWP and FreeLB, which take the main pass themselves. In DDP only the second pass may average gradients
(`no_sync` around the first; our trainer reads `passes`).

Copy: alone; needs torch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class SAM:
    """Moves all trainable weights that have a gradient."""

    passes = 2

    def __init__(self, model: nn.Module, rho: float = 0.05):
        """rho: length of the step, over all weights together."""
        self.rho, self.weights = rho, list(model.parameters())
        self.saved: list[tuple[Tensor, Tensor]] = []  # (weight, its value) while they are moved

    @torch.no_grad()
    def attack(self) -> None:
        """Move the weights along their gradients, which are emptied; call `restore` afterwards."""
        if self.saved:
            raise RuntimeError("SAM.attack: called again before SAM.restore")
        moving = [weight for weight in self.weights if weight.grad is not None]
        if not moving:
            raise RuntimeError("SAM.attack: no weight has a gradient; a backward pass must come first")
        gradients = [weight.grad.detach() for weight in moving if weight.grad is not None]
        largest = torch.stack(torch._foreach_norm(gradients, torch.inf)).amax()
        scaled = torch._foreach_div(gradients, largest)  # first by this: no square may overflow or vanish
        length = torch.stack(torch._foreach_norm(scaled)).norm()  # NaN for a gradient that is zero or not finite
        self.saved = [(weight, weight.detach().clone()) for weight in moving]
        for weight, direction in zip(moving, scaled, strict=True):
            weight.add_(torch.where(length.isfinite(), self.rho * direction / length, 0.0))
            weight.grad = None

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back, bit for bit."""
        for weight, value in self.saved:
            weight.copy_(value)
        self.saved = []

    def __call__(self, backward: Callable[[], Any]) -> Any:
        """Run `backward` (forward and backward of the same batch) here and uphill; returns what the first one does."""
        accumulated = [weight.grad for weight in self.weights]
        done = False
        try:
            for weight in self.weights:
                weight.grad = None
            output = backward()
            self.attack()
            for weight, gradient in zip(self.weights, accumulated, strict=True):
                weight.grad = None if gradient is None else gradient.clone()
            backward()
            done = True
            return output
        finally:
            self.restore()
            if not done:
                for weight, gradient in zip(self.weights, accumulated, strict=True):
                    weight.grad = gradient


if __name__ == "__main__":
    layer = nn.Linear(2, 1, bias=False)
    before, sam = layer.weight.detach().clone(), SAM(layer, rho=0.5)
    sam(lambda: layer(torch.eye(2)).pow(2).sum().backward())  # the gradient of w^2 is 2 w
    uphill = before + 0.5 * before / before.norm()
    torch.testing.assert_close(layer.weight.grad, 2 * uphill)
    assert torch.equal(layer.weight, before)
