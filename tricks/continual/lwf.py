"""LwF, learning without forgetting: on the new task's texts, the earlier tasks' heads should still say what they said.

Li, Hoiem: Learning without Forgetting, ECCV 2016, https://arxiv.org/abs/1606.09282. The teacher is the model as it was
before the task. The loss gets strength * T^2 * KL(teacher || student) more, both at temperature T, for each head that
was trained before and can read the batch, its own included: the mean over the batch's items. (The paper's cross-entropy
differs from the KL by the teacher's entropy, which has no gradient; T^2, by Hinton, keeps its size when T changes.)

    apart = divergence("", taught / temperature, scores / temperature, labels)      # 1. familiar calls
    loss = loss + strength * temperature**2 * apart / (labels != -100).sum()

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[{name: lwf, temperature: 2}]'     # 2.

Exact where copies usually are not: the teacher is in eval mode and reads a batch once for all heads; a head that is
trained further is compared over the classes of earlier tasks only, others have no part in the softmax; words and texts
without a label (-100, NaN) do not count; accumulated micro-batches give the gradient of the big batch; a run that was
broken off goes on with the teacher that it had.
Cost: a forward pass of the teacher, its weights, also in each saved state; the earlier heads. A head reads the batches
of tasks whose labels are of its level; in front of a CRF the tags' emissions are compared; numbers by their squared
difference; each label of several by its yes and no, the mean over all of the head's labels. Conflicts: kinds of heads
without a divergence (global_pointer, sentence_embedding).

Copy: alone; needs torch.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

NONE = -1e4  # a logit whose softmax is 0, also in fp16


def divergence(head: str, scores: Tensor, others: Tensor, labels: Tensor) -> Tensor:
    """KL(P || Q), summed over items; scores (…, C) before the softmax; labels (…), -100 = no item."""
    p, q = (s.float().clamp(min=NONE).log_softmax(-1) for s in (scores, others))  # -inf - -inf would be NaN
    return torch.where(labels != -100, (p.exp() * (p - q)).sum(-1), 0.0).sum()


def only(scores: Tensor, classes: Tensor | None) -> Tensor:
    """Scores (…, C) with NONE for all but these class numbers; None: as they are."""
    if classes is None:
        return scores
    return torch.full_like(scores, NONE).index_copy(-1, classes, scores.index_select(-1, classes))


class Approach:
    NEEDS = "divergence"

    def __init__(
        self,
        strength: float = 0.3,
        temperature: float = 2.0,
        divergence: Callable[[str, Tensor, Tensor, Tensor], Tensor] = divergence,
    ):
        """
        Args:
            strength: factor of the divergence, of each head; 0 = off.
            temperature: T, above 0.
            divergence: (head, logits, other logits, labels) -> sum over items.

        Raises: ValueError for impossible ones.
        """
        if not strength >= 0:
            raise ValueError(f"LwF: strength must not be negative, found {strength}")
        if not temperature > 0:
            raise ValueError(f"LwF: temperature must be above 0, found {temperature}")
        self.strength, self.temperature, self.divergence = strength, temperature, divergence
        self.model: Any = None
        self.teacher: Any = None
        self.trained: dict[str, list[int] | None] = {}
        """heads of earlier tasks -> the classes that these brought, or None = all"""
        self.classes: dict[str, Tensor | None] = {}  # the same on the device

    def begin_task(self, model: Any, task: Any) -> None:
        self.model = model
        self.copy_teacher()

    def copy_teacher(self) -> None:
        """The model as it is, with the heads of earlier tasks only; nothing before the first."""
        if not self.trained or self.model is None:
            return
        self.teacher = deepcopy(self.model).eval().requires_grad_(False)
        for head in self.model.heads:
            if head not in self.trained:
                del self.teacher.heads[head]
        device = next(self.model.parameters()).device
        for head, numbers in self.trained.items():
            self.classes[head] = None if numbers is None else torch.tensor(numbers, device=device)

    def extra_loss(self, model: Any, batch: Mapping[str, Any], output: Any) -> Tensor:
        total = output.hidden_states[-1].new_zeros((), dtype=torch.float32)
        ((own, labels),) = batch["labels"].items()
        level = model.heads[own].LABEL_LEVEL
        heads = tuple(head for head in self.trained if level == model.heads[head].LABEL_LEVEL)
        if not heads:
            return total
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        with torch.no_grad():
            taught = self.teacher({**inputs, "tasks": heads}).logits
        for head in heads:
            scores = output.logits[own] if head == own else model.heads[head](output.hidden_states, batch)
            soft, hard = (only(s / self.temperature, self.classes[head]) for s in (taught[head], scores))
            total = total + self.divergence(head, soft, hard, labels)
        items = model.heads[own].num_items(labels).clamp(min=1)
        return self.strength * self.temperature**2 * total / items

    def end_task(self, model: Any, task: Any, gradients: Any) -> None:
        before, brought = self.trained.get(task.head, []), task.classes
        self.trained[task.head] = None if before is None or brought is None else sorted({*before, *brought})
        self.teacher = None

    def state_dict(self) -> dict[str, Any]:
        return {"trained": self.trained, "teacher": None if self.teacher is None else self.teacher.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """A state from between two tasks has no teacher: it is the model, as `begin_task` finds it."""
        self.trained = dict(state["trained"])
        self.copy_teacher()
        if state["teacher"] is not None:
            self.teacher.load_state_dict(state["teacher"])


if __name__ == "__main__":
    torch.manual_seed(0)
    taught, scores = torch.randn(2, 2, 4)
    labels, classes = torch.tensor([1, -100]), torch.tensor([0, 3])
    p, q = (s[0, classes].softmax(0) for s in (taught, scores))
    found = divergence("", only(taught, classes), only(scores, classes), labels)
    torch.testing.assert_close(found, (p * (p / q).log()).sum())
