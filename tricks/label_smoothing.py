"""Label smoothing: ask for a probability a little below 1, so that scores do not grow without end.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision, CVPR 2016,
https://arxiv.org/abs/1512.00567, section 7. The target of C classes becomes (1 - s) * one-hot + s / C; where every
class is a decision of its own, 1 becomes 1 - s / 2 and 0 becomes s / 2.

Three ways to use it:

    criterion = LabelSmoothing(0.1)
    loss = criterion(scores, labels).mean()             # 1. familiar call: scores (…, C), labels (…), a loss per item
    loss = criterion(scores, yes_or_no, weights).mean() # 2. decisions: labels (…, C) of 0 and 1, a loss per decision

    sh run.sh --use_label_smoothing --label_smoothing_amount 0.1        # 3. by flag, for all tasks of classes

A task alone: `criterion: {name: label_smoothing, amount: 0.1}` in `tasks`. Evaluation reports the plain loss.
Exact: items with label -100 have loss 0; fp32 also under autocast; with class weights the part of each class has the
weight of that class, as in torch.
Cost: none. Conflicts: focal, dice and GHM, which are losses of their own; labels of a CRF, which has no probability
per word to smooth.

Copy: alone; needs torch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


class LabelSmoothing:
    """Cross-entropy with smoothed targets."""

    def __init__(self, amount: float = 0.1):
        """amount: s above, at least 0 and below 1. Raises ValueError."""
        if not 0 <= amount < 1:
            raise ValueError(f"label_smoothing: amount must be at least 0 and below 1, found {amount}")
        self.amount = amount

    def __call__(self, scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """
        Args:
            scores: (…, C), before softmax or sigmoid.
            labels: class numbers (…), -100 = none; or (…, C) of 0 and 1, -100 = unknown.
            weights: (C,) of the classes; of decisions they count where the label is 1.

        Returns: losses shaped like `labels`.
        """
        scores = scores.float()
        if labels.shape == scores.shape:
            target = labels.clamp(min=0).float() * (1 - self.amount) + self.amount / 2
            losses = F.binary_cross_entropy_with_logits(scores, target, pos_weight=weights, reduction="none")
            return torch.where(labels < 0, 0.0, losses)
        losses = F.cross_entropy(
            scores.flatten(0, -2), labels.flatten(), weights, reduction="none", label_smoothing=self.amount
        )
        return losses.view(labels.shape)


if __name__ == "__main__":
    scores, labels = torch.tensor([[3.0, 1.0, -2.0, 0.0], [0.0, 0.0, 0.0, 1.0]]), torch.tensor([1, -100])
    target = torch.tensor([0.025, 0.925, 0.025, 0.025])
    expected = torch.stack([-(target * scores[0].log_softmax(0)).sum(), torch.tensor(0.0)])
    torch.testing.assert_close(LabelSmoothing(0.1)(scores, labels), expected)
