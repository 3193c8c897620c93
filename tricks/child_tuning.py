"""Child-tuning: each update changes a part of the weights only, the child network.

Xu, Luo, Zhang, Tan, Chang, Huang, Huang: Raise a Child in Large Language Model: Towards Effective and Generalizable
Fine-tuning, EMNLP 2021, https://arxiv.org/abs/2109.05687. Task-free (F): in each update every gradient element stays
with probability p, divided by p. Task-driven (D): those elements stay always whose Fisher information, the mean
square of their gradient over the batches of the training data, is among the share p of the largest.

Three ways to use it:

    child = ChildTuning(optimizer, share=0.3)           # 1. from now on in every optimizer.step()

    child.choose(model(**b).loss.backward() for b in batches)   # 2. before the first update: task-driven

    sh run.sh --use_child_tuning --child_tuning_batches 100     # 3. by flag, of the encoder's weights; 0 = task-free

Exact where copies of this trick usually are not: it hooks into any optimizer of torch instead of replacing it, after
clipping, as in the paper; the masks come from a generator of their own, the same on every process, so that copies of
the model in data parallelism stay alike; `state_dict` resumes it bit for bit. As in the paper momentum and weight
decay go on for elements whose gradient is masked.
Cost: F a random number per weight and update; D a backward pass over the training data before the first update, and
one byte per weight. Conflicts: none known.

Copy: alone; needs torch.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


class ChildTuning:
    """Masks the gradients of an optimizer's weights right before its step."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        share: float = 0.3,
        weights: Iterable[Tensor] | None = None,
        seed: int = 0,
    ):
        """
        Args:
            share: p above, above 0 and at most 1.
            weights: those that are masked, for example the encoder's; None: all that the optimizer has.
            seed: of the masks.

        Raises: ValueError for an impossible share.
        """
        if not 0 < share <= 1:
            raise ValueError(f"ChildTuning: share must be above 0 and at most 1, found {share}")
        self.share = share
        every = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.weights = every if weights is None else list(weights)
        self.generator = torch.Generator(self.weights[0].device).manual_seed(seed)
        self.chosen: list[Tensor] = []  # masks of D; empty: F
        optimizer.register_step_pre_hook(self.mask)

    @torch.no_grad()
    def mask(self, *_: Any) -> None:
        for number, weight in enumerate(self.weights):
            if weight.grad is None:
                continue
            if self.chosen:
                weight.grad.mul_(self.chosen[number])
            else:
                kept = torch.empty_like(weight.grad).bernoulli_(self.share, generator=self.generator)
                weight.grad.mul_(kept).div_(self.share)

    def choose(self, backwards: Iterable[Any]) -> None:
        """Settle the child network of D; each item of `backwards` is made by a backward pass over one batch.

        A gradient element that is not finite counts as 0. Without any item everything stays as it is.
        """
        fisher = [torch.zeros_like(weight, requires_grad=False) for weight in self.weights]
        found = False
        for _ in backwards:
            found = True
            for sum_of_squares, weight in zip(fisher, self.weights, strict=True):
                if weight.grad is not None:
                    sum_of_squares.add_(weight.grad.nan_to_num(0.0, 0.0, 0.0).square())
                    weight.grad = None
        if not found:
            return
        every = torch.cat([values.flatten() for values in fisher])
        least = every.kthvalue(len(every) - max(1, round(self.share * len(every))) + 1).values
        self.chosen = [values >= least for values in fisher]

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state(), "chosen": self.chosen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        self.chosen = [mask.to(weight.device) for mask, weight in zip(state["chosen"], self.weights, strict=False)]


if __name__ == "__main__":
    weight = torch.nn.Parameter(torch.zeros(1000))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    child = ChildTuning(optimizer, share=0.25)
    weight.sum().backward()
    optimizer.step()
    assert set(weight.tolist()) == {0.0, -4.0} and abs(weight.mean() + 1) < 0.25
    child.choose((torch.arange(1000.0) * weight).sum().backward() for _ in range(2))
    assert child.chosen[0].tolist() == [False] * 750 + [True] * 250
