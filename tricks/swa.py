"""SWA, stochastic weight averaging: evaluate and keep the equal mean of the weights at several points of training.

Izmailov, Podoprikhin, Garipov, Vetrov, Wilson: Averaging Weights Leads to Wider Optima and Better Generalization, UAI
2018, https://arxiv.org/abs/1803.05407. From update `start` on, every `every` updates:
average <- (n * average + weights) / (n + 1). Until then the weights themselves are evaluated. The paper keeps the
learning rate high while it averages: give a constant or cyclic schedule.

Three ways to use it:

    swa = SWA(model, start=1000, every=100)
    optimizer.step()
    swa.update()                                        # 1. familiar calls, after each optimizer step

    with swa.applied():                                 # 2. a context: the weights come back even if evaluation fails
        evaluate(model)

    sh run.sh --use_swa --swa_start 0.5 --swa_every 50 --lr_scheduler constant_with_warmup        # 3. by flag

By flag `start` is a share of all updates. The Transformers that this project trains have no batch norms, whose
statistics would have to be measured anew for the mean weights.
Cost: one more copy of the trainable weights, a second one while `applied`; next to no time.
Conflicts: EMA (which of both averages should be evaluated?). Build it before weights are frozen for a while: those that
are trainable at that moment are averaged.

Copy: alone; needs torch.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class SWA:
    """Mean of the trainable weights of a model at several points of training."""

    def __init__(self, model: nn.Module, start: int = 0, every: int = 1):
        """start: first update, from 0, whose weights count; every: updates between two of them. Raises ValueError."""
        if start < 0 or every < 1:
            raise ValueError(f"SWA: start must be at least 0 and every at least 1, found {start} and {every}")
        self.start, self.every = start, every
        self.num_updates = self.num_averaged = 0
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.averages = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Call it after each optimizer step."""
        since_start = self.num_updates - self.start
        self.num_updates += 1
        if since_start >= 0 and since_start % self.every == 0:
            self.num_averaged += 1
            torch._foreach_lerp_([*self.averages.values()], [*self.weights.values()], 1 / self.num_averaged)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages, if there are any yet; afterwards its own weights again."""
        weights = [weight.detach() for weight in self.weights.values()]
        own = [weight.clone() for weight in weights]
        if self.num_averaged:
            for weight, value in zip(weights, self.averages.values(), strict=True):
                weight.copy_(value)
        try:
            yield
        finally:
            for weight, value in zip(weights, own, strict=True):
                weight.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        counts = {"num_updates": self.num_updates, "num_averaged": self.num_averaged}
        return {**counts, "averages": self.averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["averages"].keys() != self.averages.keys():
            raise ValueError("SWA: the saved averages are those of other weights")
        self.num_updates, self.num_averaged = state["num_updates"], state["num_averaged"]
        for name, average in self.averages.items():
            average.copy_(state["averages"][name])


if __name__ == "__main__":
    layer = nn.Linear(1, 1, bias=False)
    swa = SWA(layer, start=3, every=2)
    for t in range(8):
        nn.init.constant_(layer.weight, t)
        swa.update()
    with swa.applied():
        assert abs(layer.weight.item() - (3 + 5 + 7) / 3) < 1e-6
    assert layer.weight.item() == 7
