"""L2-SP: the encoder's weights are pulled back to where the sequence of tasks began, all of them alike.

Li, Grandvalet, Davoine: Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML 2018,
https://arxiv.org/abs/1802.01483. The loss gets strength / 2 * sum of (theta - theta_0)^2 more, theta_0 being the
weights before the first task. (The paper's second term, L2 of the new layers, is an optimizer's weight decay.)

    start = {name: weight.detach().clone() for name, weight in model.encoder.named_parameters()}
    loss = loss + strength / 2 * squared_distance(model.encoder, start)      # 1. familiar calls

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[{name: l2_start, strength: 0.1}]'     # 2.

Exact where copies usually are not: theta_0 is that of the whole sequence, also for a run that was broken off and goes
on in a later task; the gradient is strength * (theta - theta_0), which copies without the 1/2 double.
Cost: a copy of the encoder's weights, and one pass over them per micro-batch; of their number, not of the batch's size.
Conflicts: weight decay of the encoder, which pulls to 0 instead.

Copy: alone; needs torch.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def squared_distance(module: nn.Module, start: Mapping[str, Tensor]) -> Tensor:
    """Sum of the squared differences of those weights that `start` has by name; its gradient is twice these."""
    weights = [(name, weight) for name, weight in module.named_parameters() if name in start]
    # one pass forward and one backward; (a - b).square(), also by torch._foreach, takes more
    return torch.stack([F.mse_loss(weight, start[name], reduction="sum") for name, weight in weights]).sum()


class Approach:
    def __init__(self, strength: float = 0.01):
        """strength: factor of half the squared distance; 0 = off. Raises ValueError if it is negative."""
        if not strength >= 0:
            raise ValueError(f"L2: strength must not be negative, found {strength}")
        self.strength = strength
        self.device: Any = "cpu"
        self.start: dict[str, Tensor] = {}
        """theta_0 by the encoder's names"""

    def begin_task(self, model: Any, task: Any) -> None:
        """Raises ValueError if the encoder is not trained."""
        if not self.start:
            weights = model.encoder.named_parameters()
            self.start = {name: weight.detach().clone() for name, weight in weights if weight.requires_grad}
        if not self.start:
            raise ValueError("L2: no weight of the encoder is trained, so that none can be held")
        self.device = next(model.parameters()).device
        self.load_state_dict(self.state_dict())

    def extra_loss(self, model: Any, batch: Any, output: Any) -> Tensor:
        return self.strength / 2 * squared_distance(model.encoder, self.start)

    def state_dict(self) -> dict[str, Any]:
        return {"start": self.start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """On the CPU until `begin_task` knows the device."""
        self.start = {name: weight.to(self.device) for name, weight in state["start"].items()}


if __name__ == "__main__":
    model = nn.Module()
    model.encoder = layer = nn.Linear(3, 2, bias=False)
    approach = Approach(strength=0.5)
    approach.begin_task(model, None)
    layer.weight.data.add_(2.0)
    loss = approach.extra_loss(model, None, None)
    loss.backward()
    torch.testing.assert_close(layer.weight.grad, torch.full((2, 3), 0.5 * 2.0))
    torch.testing.assert_close(loss.item(), 0.5 / 2 * 6 * 2.0**2)
