"""EMA: evaluate and keep an exponential moving average of the weights; training itself goes on with the weights.

Polyak and Juditsky: Acceleration of Stochastic Approximation by Averaging, 1992, https://doi.org/10.1137/0330046. After
update t (from 1) the average becomes d * average + (1 - d) * weights with d = min(decay, t / (t + 9)): at the beginning
it forgets fast, so that the random initial weights do not stay in it (the ramp of TensorFlow's
ExponentialMovingAverage, counted so that the first update makes the average 9/10 weights).

Three ways to use it:

    ema = EMA(model, decay=0.999)
    optimizer.step()
    ema.update()                                # 1. familiar calls; with ema.applied(): evaluate and save

    with ema.applied():                         # 2. a context: the weights come back even if evaluation fails
        evaluate(model)

    sh run.sh --use_ema --ema_decay 0.999       # 3. by flag: evaluation, early stopping and best/ see the average

Exact where copies of this trick usually are not: the weights come back bit for bit; tied weights are averaged once;
buffers are left alone; an update that was masked for a non-finite gradient adds the old weights; `state_dict` lets it
go on bit for bit.
Cost: one more copy of the trainable weights, a second one while `applied`, and one multiply-add per weight and update.
Conflicts: SWA (which of both averages should be evaluated?). Build it before weights are frozen for a while: those that
are trainable at that moment are averaged.

Copy: alone; needs torch.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class EMA:
    """Average of the trainable weights of a model."""

    def __init__(self, model: nn.Module, decay: float = 0.999):
        """decay: at least 0 and below 1; about 1 / (1 - decay) updates are averaged. Raises ValueError."""
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay must be at least 0 and below 1, found {decay}")
        self.decay, self.num_updates = decay, 0
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.averages = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Call it after each optimizer step."""
        self.num_updates += 1
        decay = min(self.decay, self.num_updates / (self.num_updates + 9))
        torch._foreach_lerp_([*self.averages.values()], [*self.weights.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages; afterwards its own weights again."""
        weights = [weight.detach() for weight in self.weights.values()]
        own = [weight.clone() for weight in weights]
        for weight, value in zip(weights, self.averages.values(), strict=True):
            weight.copy_(value)
        try:
            yield
        finally:
            for weight, value in zip(weights, own, strict=True):
                weight.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates, "averages": self.averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["averages"].keys() != self.averages.keys():
            raise ValueError("EMA: the saved averages are those of other weights")
        self.num_updates = state["num_updates"]
        for name, average in self.averages.items():
            average.copy_(state["averages"][name])


if __name__ == "__main__":
    layer = nn.Linear(1, 1, bias=False)
    ema, expected = EMA(layer, decay=0.5), layer.weight.item()
    for t in range(1, 20):
        nn.init.constant_(layer.weight, t)
        ema.update()
        d = min(0.5, t / (t + 9))
        expected = d * expected + (1 - d) * t
    with ema.applied():
        torch.testing.assert_close(layer.weight, torch.full((1, 1), expected))
    assert layer.weight.item() == 19
