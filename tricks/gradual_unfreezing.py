"""Gradual unfreezing: at first only the heads are trained, then one layer of the encoder after the other, from the top.

Howard, Ruder: Universal Language Model Fine-tuning for Text Classification, ACL 2018,
https://arxiv.org/abs/1801.06146. Stage s, from 0, lasts `every` updates and trains the parameters that are in no
layer and the top s layers; the one behind the last layer trains everything, embeddings too.

Three ways to use it:

    unfreezing = GradualUnfreezing(model.encoder, every=100)
    optimizer.step()
    unfreezing.update()                                 # 1. familiar calls, after each optimizer step

    unfreezing.stage(3)                                 # 2. by hand: the top three layers

    sh run.sh --use_gradual_unfreezing --gradual_unfreezing_every 100           # 3. by flag

Exact where copies of this trick usually are not: frozen layers cost no backward pass; they are neither decayed nor
moved by old momentum, as they have no gradient; what was frozen before stays frozen; `state_dict` resumes it.
Cost: none; the first stages are faster. The optimizer must know all parameters from the beginning. Under DDP the
layers that are frozen now are parameters without a gradient (`find_unused_parameters=True`; by flag that is done).
Conflicts: FGM, PGD and FreeLB, which need the gradient of the embeddings.

Copy: alone; needs torch.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


class NoLayers(ValueError):
    """There is nothing to unfreeze: a wrong setting, not a bug."""

    exit_code = 2


class GradualUnfreezing:
    """Stages of an encoder, whose layers are its longest nn.ModuleList."""

    def __init__(self, encoder: nn.Module, every: int = 100):
        """every: updates of a stage. Raises ValueError if the encoder has no list of layers."""
        lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
        if not lists or every < 1:
            what = f"every must be at least 1, found {every}" if lists else "the encoder has no nn.ModuleList of layers"
            raise NoLayers(f"GradualUnfreezing: {what}")
        layers = max(lists, key=len)
        self.every, self.num_updates = every, 0
        self.layers = [[p for p in layer.parameters() if p.requires_grad] for layer in reversed(layers)]
        in_layers = {id(p) for layer in self.layers for p in layer}
        self.rest = [p for p in encoder.parameters() if p.requires_grad and id(p) not in in_layers]
        self.stage(0)

    def stage(self, number: int) -> None:
        """Train the top `number` layers; more than there are: everything."""
        for depth, parameters in enumerate([*self.layers, self.rest]):
            for parameter in parameters:
                parameter.requires_grad_(depth < number)
                if depth >= number:
                    parameter.grad = None

    def update(self) -> None:
        """Call it after each optimizer step."""
        self.num_updates += 1
        if self.num_updates % self.every == 0:
            self.stage(self.num_updates // self.every)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Evaluation is not concerned."""
        yield

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.num_updates = state["num_updates"]
        self.stage(self.num_updates // self.every)


if __name__ == "__main__":
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in "ab")
    encoder = nn.ModuleDict({"embeddings": nn.Embedding(3, 2), "layer": layers})
    unfreezing = GradualUnfreezing(encoder, every=2)
    found = []
    for _ in range(8):
        found.append(sum(p.requires_grad for p in encoder.parameters()))
        unfreezing.update()
    assert found == [0, 0, 2, 2, 4, 4, 5, 5]
