"""AWP, adversarial weight perturbation: train also at the worst small change of each weight matrix.

Wu, Xia, Wang: Adversarial Weight Perturbation Helps Robust Generalization, NeurIPS 2020,
https://arxiv.org/abs/2004.05884, with one step: every weight matrix w moves by gamma * ||w|| * g / ||g||, g being its
loss gradient, each norm that of this matrix alone; the gradient of the loss there is added; the weights move back. In
the paper the gradient at the moved weights takes the place of the plain one; its copies in NLP add it, and so do we.

Three ways to use it:

    awp = AWP(model, gamma=0.005)
    loss.backward()
    awp.attack()                                        # 1. familiar calls: along .grad
    model(**batch).loss.backward()
    awp.restore()

    awp(lambda: model(**batch).loss.backward())         # 2. closure: both passes; restores even if one fails

    sh run.sh --use_awp --awp_gamma 0.005               # 3. by flag

Exact where copies of this trick usually are not: the closure goes along this micro-batch's own gradient, gradients
accumulated before neither bend it nor get lost, also when a pass fails; the weights come back bit for bit; a loss scale
does not change the step; no value is read back to the host; a gradient that is zero, NaN or infinite moves nothing.
Cost: two forward and backward passes instead of one, one more copy of the weight matrices, and of the gradients while
they are accumulated.
Conflicts: SAM and FreeLB, which take the main pass themselves. In DDP only the second pass may average gradients
(`no_sync` around the first; our trainer reads `passes`).

Copy: alone; needs torch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class NoMatrix(ValueError):
    """There is nothing to attack: a wrong setting, not a bug."""

    exit_code = 2


class AWP:
    """Moves the trainable weight matrices: parameters of two or more dimensions whose name ends with "weight"."""

    passes = 2

    def __init__(self, model: nn.Module, gamma: float = 0.005):
        """gamma: length of the step of a matrix, as a share of its norm. Raises ValueError if there is no matrix."""
        self.gamma, self.weights = gamma, list(model.parameters())
        self.matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and name.endswith("weight")]
        if not any(matrix.requires_grad for matrix in self.matrices):
            raise NoMatrix("AWP: the model has no trainable weight matrix")
        self.saved: list[tuple[Tensor, Tensor]] = []  # (matrix, its value) while they are moved

    @torch.no_grad()
    def attack(self) -> None:
        """Move the matrices along their gradients; call `restore` afterwards."""
        if self.saved:
            raise RuntimeError("AWP.attack: called again before AWP.restore")
        moving: list[Tensor] = [matrix for matrix in self.matrices if matrix.grad is not None]
        if not moving:
            raise RuntimeError("AWP.attack: no weight matrix has a gradient; a backward pass must come first")
        gradients = [matrix.grad.detach() for matrix in moving if matrix.grad is not None]
        scaled = torch._foreach_div(gradients, torch._foreach_norm(gradients, torch.inf))  # no square may overflow
        lengths = torch._foreach_norm(scaled)  # NaN for a gradient that is zero or not finite
        sizes = torch._foreach_norm(moving)
        self.saved = [(matrix, matrix.detach().clone()) for matrix in moving]
        for matrix, direction, length, size in zip(moving, scaled, lengths, sizes, strict=True):
            matrix.add_(torch.where(length.isfinite(), direction * (self.gamma * size / length), 0.0))

    @torch.no_grad()
    def restore(self) -> None:
        """Put the matrices back, bit for bit."""
        for matrix, value in self.saved:
            matrix.copy_(value)
        self.saved = []

    def __call__(self, backward: Callable[[], Any]) -> Any:
        """Run `backward` (forward and backward of the same batch) at both points; returns what the first one does."""
        accumulated = [weight.grad for weight in self.weights]
        done = False
        try:
            for weight in self.weights:
                weight.grad = None
            output = backward()
            self.attack()
            for weight, gradient in zip(self.weights, accumulated, strict=True):
                if gradient is not None:  # before the second pass, so that DDP averages it too
                    weight.grad = gradient.clone() if weight.grad is None else weight.grad + gradient
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
    before, awp = layer.weight.detach().clone(), AWP(layer, gamma=0.5)
    awp(lambda: layer(torch.eye(2)).pow(2).sum().backward())  # the gradient of w^2 is 2 w: w moves by w / 2
    torch.testing.assert_close(layer.weight.grad, 2 * before + 2 * 1.5 * before)
    assert torch.equal(layer.weight, before)
