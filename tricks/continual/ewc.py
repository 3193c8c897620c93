"""EWC, elastic weight consolidation: weights that mattered for earlier tasks are held, the more the more they mattered.

Kirkpatrick et al.: Overcoming catastrophic forgetting in neural networks, PNAS 2017, https://arxiv.org/abs/1612.00796.
The loss gets strength / 2 * sum over earlier tasks t and weights i of F_ti (theta_i - theta*_ti)^2 more, theta*_t being
the weights after task t and F_t the diagonal of its Fisher information. `online`: Schwarz et al.: Progress & Compress,
ICML 2018, https://arxiv.org/abs/1805.06370: F = decay * F_old + F_new around the newest weights alone.

F is the mean square of the gradient of one sample's loss, over some samples of the task with their gold labels: the
empirical Fisher, as nearly everywhere. It is the Fisher information only where the model is as (un)sure as the labels
are, and small where the task is learned by heart: Kunstner, Balles, Hennig: Limitations of the empirical Fisher
approximation, NeurIPS 2019, https://arxiv.org/abs/1905.12558. A text of many words has the sum of their losses.

    fisher = diagonal_fisher(weights, (loss_of(sample).backward() for sample in samples))     # 1. familiar calls
    loss = loss + strength / 2 * sum((fisher[n] * (w - kept[n]).square()).sum() for n, w in weights.items())

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[{name: ewc, strength: 300}]'      # 2.

Exact where copies usually are not: squares of the gradients of single samples, not of a batch's mean gradient; the sum
over any number of tasks in the memory of one, see `merged`, value and gradient; a head is held only by the tasks after
which it was there, and one that a batch is not for gets no gradient, so that no optimizer moves it or lets it decay.
Cost: after each task a backward pass for each of `samples` samples; two copies of the weights; three passes over them
per micro-batch. Conflicts: losses that compare the records of a batch (in-batch negatives, CoSENT), which have no
gradient from one sample: an error after the first task.

Copy: alone; needs torch.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def diagonal_fisher(weights: Mapping[str, Tensor], gradients: Iterable[Any]) -> dict[str, Tensor]:
    """Mean square of each weight's gradient; each item of `gradients` is made by a backward pass for one sample.

    An element whose square is not finite counts as 0. `.grad` is None before each pass and afterwards.
    """
    fisher = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
    number = 0
    for weight in weights.values():
        weight.grad = None
    for _ in gradients:
        number += 1
        for name, weight in weights.items():
            if weight.grad is not None:
                fisher[name].add_(weight.grad.square().nan_to_num(0.0, 0.0, 0.0))
                weight.grad = None
    return {name: total / max(number, 1) for name, total in fisher.items()}


def merged(held: Tensor, center: Tensor, fisher: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two parabolas as one: A (x - m)^2 + F (x - a)^2 = (A + F) (x - m')^2 + c for every x, where with s = F / (A + F)

        m' = m + s (a - m),     c = s A (a - m)^2.

    By comparing powers of x: (A + F) m' = A m + F a is the first, A m^2 + F a^2 = (A + F) m'^2 + c gives the second.

    Args: A, m, F, a, of one shape. Returns: A + F, m', and the sum of c.
    """
    total, apart = held + fisher, weight - center
    share = torch.where(total > 0, fisher / total, 0.0)
    return total, center + share * apart, (share * held * apart.square()).sum()


class Approach:
    """Holds all trained weights, the heads' too, by name."""

    NEEDS_SINGLE_LOSSES = True

    def __init__(self, strength: float = 1000.0, samples: int = 200, online: bool = False, decay: float = 1.0):
        """
        Args:
            strength: factor of half the penalty; 0 = off.
            samples: of each task, for its Fisher information.
            online: as in Progress & Compress.
            decay: of earlier tasks when one is over, above 0 and at most 1; online only.

        Raises: ValueError for impossible ones.
        """
        if not strength >= 0:
            raise ValueError(f"EWC: strength must not be negative, found {strength}")
        if samples < 1:
            raise ValueError(f"EWC: samples must be above 0, found {samples}")
        if not 0 < decay <= 1 or (decay != 1 and not online):
            raise ValueError(f"EWC: decay must be above 0 and at most 1, and 1 if not online, found {decay}")
        self.strength, self.samples, self.online, self.decay = strength, samples, online, decay
        self.device: Any = "cpu"
        self.fisher: dict[str, Tensor] = {}  # summed over the tasks
        self.center: dict[str, Tensor] = {}  # m of `merged`
        self.constant = torch.zeros(())  # summed c of `merged`

    def begin_task(self, model: Any, task: Any) -> None:
        self.device = next(model.parameters()).device
        self.load_state_dict(self.state_dict())

    def extra_loss(self, model: Any, batch: Mapping[str, Any], output: Any) -> Tensor:
        idle = tuple(f"heads.{head}." for head in model.heads if head not in batch["labels"])
        penalty = self.constant
        for name, weight in model.named_parameters():
            if name in self.fisher:
                apart = (weight.detach() if name.startswith(idle) else weight) - self.center[name]
                penalty = penalty + (self.fisher[name] * apart.square()).sum()
        return self.strength / 2 * penalty

    def end_task(self, model: Any, task: Any, gradients: Callable[[int], Iterable[Any]]) -> None:
        """Raises ValueError if no sample has a gradient: the task would be without protection."""
        weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        fisher = diagonal_fisher(weights, gradients(self.samples))
        if not any(values.any() for values in fisher.values()):
            raise ValueError(f"EWC: no single sample of task {task.name!r} has a gradient that is finite and not 0; a "
                             "loss that compares the records of a batch has none")  # fmt: skip
        with torch.no_grad():
            if self.online:
                self.fisher = {name: self.decay * old for name, old in self.fisher.items()}
            for name, weight in weights.items():
                self.add(name, fisher[name], weight.detach().clone())

    def add(self, name: str, fisher: Tensor, weight: Tensor) -> None:
        old, center = self.fisher.get(name, torch.zeros_like(fisher)), self.center.get(name, weight)
        if self.online:
            self.fisher[name], self.center[name] = old + fisher, weight
        else:
            self.fisher[name], self.center[name], constant = merged(old, center, fisher, weight)
            self.constant = self.constant + constant

    def state_dict(self) -> dict[str, Any]:
        return {"fisher": self.fisher, "center": self.center, "constant": self.constant}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """On the CPU until `begin_task` knows the device."""
        self.fisher, self.center = (
            {name: values.to(self.device) for name, values in state[part].items()} for part in ("fisher", "center")
        )
        self.constant = state["constant"].to(self.device)


if __name__ == "__main__":
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    gradients = ((weight * x).sum().backward() for x in torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    found = diagonal_fisher({"w": weight}, gradients)
    assert found["w"].tolist() == [5.0, 8.0] and weight.grad is None
    x, (a, m, f, w) = torch.randn(4), torch.rand(4, 4)
    total, center, constant = merged(a, m, f, w)
    both = (a * (x - m) ** 2 + f * (x - w) ** 2).sum()
    torch.testing.assert_close((total * (x - center) ** 2).sum() + constant, both)
