"""Adapters per task: every task trains adapters and a head of its own, which are put in whenever the task comes again.

Houlsby, Giurgiu, Jastrzębski, Morrone, de Laroussilhe, Gesmundo, Attariyan, Gelly: Parameter-Efficient Transfer
Learning for NLP, ICML 2019, https://arxiv.org/abs/1902.00751: new tasks are added without those before being touched;
Pfeiffer, Kamath, Rücklé, Cho, Gurevych: AdapterFusion, EACL 2021, https://arxiv.org/abs/2005.00247, whose first stage
this is. The adapters here are LoRA, Hu et al. 2022, https://arxiv.org/abs/2106.09685, W + alpha / r * B A with W as it
is, or whatever the option `peft` says. A task of its own are thus all weights outside the heads that are trained, and
what is in its head; each new task starts from what these were before any training.

    approach.begin_task(model, task); …train…; approach.end_task(model, task, None)     # 1. familiar calls
    approach.select(model, task)                        # whichever task is to be evaluated

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[adapters]'          # 2. by name

    --approaches '[{name: adapters, peft: {peft_type: LORA, r: 16, target_modules: [query, key, value, dense]}}]'

Exact where copies usually are not: nothing is forgotten, so that a task's outputs stay the same bit for bit; a head
that tasks share is kept for each of them, with its buffers (thresholds, weights of classes); a look at another task in
the middle of a training loses nothing, and a resumed training goes on bit for bit.

It must be told the task also in evaluation. Where tasks are domains that have the same classes, the others do without,
and a comparison with them is not fair: this is what could be reached at most without anything shared.
Cost: the adapters and a head, once for each task and once more as they were in the beginning; a copy of them where
tasks change. Without adapters (peft: {}) that is everything that is trained, so a whole model for each task. A folder
that the model is saved to has one task's weights, those that are in. peft knows where to put LoRA into BERT, RoBERTa,
ELECTRA, DeBERTa; others, as ERNIE, need target_modules.

Copy: alone; needs torch.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def own_weights(model: Any, head: str) -> dict[str, Tensor]:
    """What a task with this head trains, as it is in the model: weights outside the heads, and what is in the head."""
    shared = {n: p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("heads.")}
    return {**shared, **model.heads[head].state_dict(prefix=f"heads.{head}.", keep_vars=True)}


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


class Approach:
    """Keeps weights by task, and puts them in."""

    PEFT: Mapping[str, Any] = {"peft_type": "LORA", "r": 8, "lora_alpha": 16}

    def __init__(self, peft: Mapping[str, Any] | None = None):
        """peft: peft_type and the options of peft's class for it, in place of PEFT. Raises ValueError."""
        if peft is not None:
            if not isinstance(peft, Mapping):
                raise ValueError(f"adapters: peft must be options by name, as {dict(self.PEFT)}, found {peft!r}")
            self.PEFT = dict(peft)
        self.initial: dict[str, Tensor] = {}  # by name, of all heads
        self.kept: dict[str, dict[str, Tensor]] = {}  # task -> by name
        self.inside: str | None = None  # the task whose weights are in the model
        self.begun: tuple[Any, Any] | None = None  # model and task that is in training

    def begin_task(self, model: nn.Module, task: Any) -> None:
        self.select(model, task)
        self.begun = model, task

    def end_task(self, model: nn.Module, task: Any, gradients: Any) -> None:
        self.kept[task.name] = copied(own_weights(model, task.head))
        self.begun = None

    @torch.no_grad()
    def select(self, model: nn.Module, task: Any) -> None:
        """Put in what the task has learnt, or what the model began with."""
        self.remember(model)
        if self.inside == task.name:
            return
        begun = None if self.begun is None else self.begun[1]
        if begun is not None and self.inside == begun.name:  # only looks at another task
            self.kept[begun.name] = copied(own_weights(model, begun.head))
        weights = self.kept.get(task.name, self.initial)
        for name, value in own_weights(model, task.head).items():
            value.copy_(weights[name])
        self.inside = task.name

    def remember(self, model: Any) -> None:
        """A head is trained only in tasks that began with it: one that is seen for the first time is untrained."""
        every = {name: value for head in model.heads for name, value in own_weights(model, head).items()}
        self.initial |= copied({name: value for name, value in every.items() if name not in self.initial})

    def state_dict(self) -> dict[str, Any]:
        """Beside the model, which has the weights of the task `inside`."""
        return {"initial": self.initial, "kept": self.kept, "inside": self.inside}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The first `begin_task` of a new Approach changes nothing in the model, so those weights are still there."""
        self.initial, self.kept, self.inside = dict(state["initial"]), dict(state["kept"]), state["inside"]
        if self.begun is not None:  # the state may be of a moment in which another task was in
            self.begin_task(*self.begun)


if __name__ == "__main__":
    from types import SimpleNamespace

    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "heads": nn.ModuleDict({"h": nn.Linear(2, 2)})})
    tasks, approach = [SimpleNamespace(name=name, head="h") for name in "abc"], Approach()
    for number, task in enumerate(tasks):
        approach.begin_task(model, task)
        _ = [nn.init.constant_(parameter, number) for parameter in model.parameters()]
        approach.end_task(model, task, None)
    found = [(approach.select(model, task), {int(p.mean()) for p in model.parameters()})[1] for task in tasks]
    assert found == [{0}, {1}, {2}]
