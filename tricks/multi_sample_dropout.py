"""Multi-sample dropout: several dropout masks before the heads, and the mean of their losses.

Inoue: Multi-Sample Dropout for Accelerated Training and Better Generalization, 2019, https://arxiv.org/abs/1905.09788.
Everything before the last dropout runs once.

Three ways to use it:

    loss = mean_loss(lambda: cross_entropy(classifier(dropout(vectors)), labels), samples=4)    # 1. familiar calls

    compute_loss = MultiSampleDropout(again, samples=4)     # 2. around any model(batch, num_items) -> loss; see there
    compute_loss(model, batch).loss.backward()

    sh run.sh --use_multi_sample_dropout --multi_sample_dropout_samples 4                       # 3. by flag

Cost: the heads as many times. Conflicts: heads without dropout, text generation (its head has no layers of its own).

Copy: alone; needs torch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def mean_loss(loss: Callable[[], Tensor], samples: int = 4) -> Tensor:
    """The mean of `samples` calls, each of which draws its own dropout masks."""
    return torch.stack([loss() for _ in range(samples)]).mean()


class MultiSampleDropout:
    """A `compute_loss` that runs the heads several times."""

    def __init__(
        self,
        again: Callable[[Any, Mapping[str, Any], Any], Any],
        samples: int = 4,
        compute_loss: Callable[..., Any] = lambda model, *given: model(*given),
    ):
        """
        Args:
            again: (output, batch, num_items) -> an output with `loss`, from the hidden states of an earlier output.
            samples: dropout masks in all, at least 1.
            compute_loss: (model, batch, num_items) -> output with `loss`.
        """
        if samples < 1:
            raise ValueError(f"MultiSampleDropout: samples must be at least 1, found {samples}")
        self.again, self.samples, self.compute_loss = again, samples, compute_loss

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], num_items: Mapping[str, Any] | None = None) -> Any:
        """What `compute_loss` returns, with the mean loss."""
        output = self.compute_loss(model, batch, num_items)
        others = [self.again(output, batch, num_items).loss for _ in range(self.samples - 1)]
        output.loss = torch.stack([output.loss, *others]).mean()
        return output


if __name__ == "__main__":
    torch.manual_seed(0)
    vectors, dropout = torch.ones(1000), nn.Dropout(0.5)
    one, many = (mean_loss(lambda: dropout(vectors).mean(), samples) for samples in (1, 400))
    assert abs(many - 1) < 0.01 and one != many
