"""Mixup of hidden vectors: train the classifier on means of two texts' vectors, and on the means of their losses.

Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization, ICLR 2018,
https://arxiv.org/abs/1710.09412; of sentence vectors: Guo, Mao, Zhang: Augmenting Data with Mixup for Sentence
Classification: An Empirical Study, 2019, https://arxiv.org/abs/1905.08941 (senMixup). What goes into the classifier
becomes m * x + (1 - m) * x', x' being the vector of another text of the batch, and the loss m * loss(y) + (1 - m) *
loss(y'); m is from Beta(alpha, alpha), one for the batch.

Three ways to use it:

    mixed, other, share = mix(vectors, alpha=0.2)       # 1. familiar calls, vectors (B, H)
    loss = share * cross_entropy(classifier(mixed), y) + (1 - share) * cross_entropy(classifier(mixed), y[other])

    compute_loss = Mixup({"topic": classifier}, again)  # 2. around any model(batch, num_items) -> loss; see `Mixup`
    compute_loss(model, batch).loss.backward()

    sh run.sh --use_mixup --mixup_alpha 0.2             # 3. by flag: tasks of kind sequence_classification

Exact where copies of this trick usually are not: texts without a label lend their vectors and lose nothing else;
tasks that cannot be mixed (tags) are trained as before; class weights and the weights of the tasks are kept.
Cost: the heads once more. Conflicts: R-Drop, VAT and distillation, which compare predictions for unmixed texts. Texts
are mixed within a micro-batch.

Copy: alone; needs torch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mix(vectors: Tensor, alpha: float = 0.2) -> tuple[Tensor, Tensor, float]:
    """Mixed vectors (B, H), the number of each one's other text (B,), and the share m of its own vector and loss."""
    other = torch.randperm(len(vectors), device=vectors.device)
    share = float(torch.distributions.Beta(alpha, alpha).sample())  # drawn on the CPU: nobody waits for a device
    return share * vectors + (1 - share) * vectors[other], other, share


class Mixup:
    """A `compute_loss` that mixes what goes into the classifiers of some tasks."""

    def __init__(
        self,
        classifiers: Mapping[str, nn.Module],
        again: Callable[[Any, Mapping[str, Any], Any], Any],
        alpha: float = 0.2,
        compute_loss: Callable[..., Any] = lambda model, *given: model(*given),
    ):
        """
        Args:
            classifiers: task -> the module whose input (B, H) is mixed; its labels are (B, …), one row per text.
            again: (output, batch, num_items) -> an output with `loss`, from the hidden states of an earlier output and
                with the labels of this batch; it runs the classifiers once more.
            alpha: of the Beta distribution, above 0; small: most texts are hardly mixed.
            compute_loss: (model, batch, num_items) -> output with `loss`.
        """
        if not alpha > 0:
            raise ValueError(f"Mixup: alpha must be above 0, found {alpha}")
        self.alpha, self.compute_loss, self.again = alpha, compute_loss, again
        self.tasks = set(classifiers)
        self.active = False
        self.pairs: tuple[Tensor, float] | None = None  # other (B,) and share, the same for all classifiers
        for classifier in classifiers.values():
            classifier.register_forward_pre_hook(self.mix_input)

    def mix_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        if not self.active:
            return None
        vectors = inputs[0]
        if self.pairs is None:
            mixed, other, share = mix(vectors, self.alpha)
            self.pairs = (other, share)
            return mixed
        other, share = self.pairs
        return share * vectors + (1 - share) * vectors[other]

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], num_items: Mapping[str, Any] | None = None) -> Any:
        """What `compute_loss` returns, with the mixed loss; batch: `labels` by task."""
        self.active, self.pairs = True, None
        try:
            output = self.compute_loss(model, batch, num_items)
            if self.pairs is None:
                return output
            other, share = self.pairs
            labels = {task: gold[other] if task in self.tasks else gold for task, gold in batch["labels"].items()}
            second = self.again(output, {**batch, "labels": labels}, num_items)
            output.loss = share * output.loss + (1 - share) * second.loss
            return output
        finally:
            self.active = False


if __name__ == "__main__":
    torch.manual_seed(0)
    vectors, labels, classifier = torch.randn(4, 3), torch.tensor([0, 1, 1, 0]), nn.Linear(3, 2)
    mixed, other, share = mix(vectors, alpha=1.0)
    torch.testing.assert_close(mixed[0], share * vectors[0] + (1 - share) * vectors[other[0]])
    soft = share * F.one_hot(labels, 2) + (1 - share) * F.one_hot(labels[other], 2)
    loss = share * F.cross_entropy(classifier(mixed), labels)
    loss += (1 - share) * F.cross_entropy(classifier(mixed), labels[other])
    torch.testing.assert_close(loss, F.cross_entropy(classifier(mixed), soft))
