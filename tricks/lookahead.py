"""Lookahead: every k updates the weights go only part of the way that the optimizer took, k steps forward, 1 step back.

Zhang, Lucas, Hinton, Ba: Lookahead Optimizer: k steps forward, 1 step back, NeurIPS 2019,
https://arxiv.org/abs/1907.08610. Around any optimizer, whose own state goes on untouched:
slow <- slow + alpha * (fast - slow), then fast <- slow. Between two of these points the slow weights are evaluated.

Three ways to use it:

    lookahead = Lookahead(model, k=5, alpha=0.5)
    optimizer.step()
    lookahead.update()                                  # 1. familiar calls, after each optimizer step

    with lookahead.applied():                           # 2. a context: the fast weights come back even if it fails
        evaluate(model)

    sh run.sh --use_lookahead --lookahead_k 5           # 3. by flag

Cost: one more copy of the trainable weights, a second one while `applied`; two passes over the weights every k updates.
Conflicts: none known; EMA and SWA then average what Lookahead leaves. Build it before weights are frozen for a while:
those that are trainable at that moment have slow weights.

Copy: alone; needs torch.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Lookahead:
    """Slow weights beside the trainable weights of a model, which are the fast ones."""

    def __init__(self, model: nn.Module, k: int = 5, alpha: float = 0.5):
        """k: updates between two steps of the slow weights; alpha: share of the way they go. Raises ValueError."""
        if k < 1 or not 0 < alpha <= 1:
            raise ValueError(f"Lookahead: k must be at least 1, alpha above 0 and at most 1, found {k} and {alpha}")
        self.k, self.alpha, self.num_updates = k, alpha, 0
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.slow = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Call it after each optimizer step."""
        self.num_updates += 1
        if self.num_updates % self.k == 0:
            fast: list[Tensor] = [*self.weights.values()]
            slow = [*self.slow.values()]
            torch._foreach_lerp_(slow, fast, self.alpha)
            for weight, value in zip(fast, slow, strict=True):
                weight.copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the slow weights; afterwards the fast ones again."""
        fast = [weight.detach() for weight in self.weights.values()]
        own = [weight.clone() for weight in fast]
        for weight, value in zip(fast, self.slow.values(), strict=True):
            weight.copy_(value)
        try:
            yield
        finally:
            for weight, value in zip(fast, own, strict=True):
                weight.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates, "slow": self.slow}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["slow"].keys() != self.slow.keys():
            raise ValueError("Lookahead: the saved slow weights are those of other weights")
        self.num_updates = state["num_updates"]
        for name, slow in self.slow.items():
            slow.copy_(state["slow"][name])


if __name__ == "__main__":
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    lookahead = Lookahead(layer, k=3, alpha=0.5)
    for _ in range(4):
        layer.weight.data -= 1  # 0, -1, -2 -> half way from 1 to -2, then one more
        lookahead.update()
    assert layer.weight.item() == -1.5
    with lookahead.applied():
        assert layer.weight.item() == -0.5
