"""Dice loss: a smooth F1 per item, for data in which most items are of one class.

Li, Sun, Meng, Liang, Wu, Li: Dice Loss for Data-imbalanced NLP Tasks, ACL 2020, https://arxiv.org/abs/1911.02855, the
self-adjusting form: for each class 1 - (2 * (1 - p)^alpha * p * y + gamma) / ((1 - p)^alpha * p + y + gamma), p being
its probability and y 1 or 0; the loss of an item is the mean over its classes.

Three ways to use it:

    criterion = Dice(alpha=0.6, gamma=1.0)
    loss = criterion(scores, labels).mean()             # 1. familiar call: scores (…, C), labels (…), a loss per item
    loss = criterion(scores, yes_or_no, weights).mean() # 2. decisions: labels (…, C) of 0 and 1, a loss per decision

    sh run.sh --use_dice --dice_alpha 0.6               # 3. by flag, for all tasks of classes

A task alone: `criterion: {name: dice, alpha: 0.6}` in `tasks`. Evaluation reports the plain loss.
Exact: every item has a loss of its own, so that batches may be cut anywhere; items with label -100 have loss 0; fp32
also under autocast. Its gradient vanishes where p is near 0 for the right class: it is slow to start from random
weights.
Cost: none to speak of. Conflicts: label smoothing, focal and GHM; labels of a CRF.

Copy: alone; needs torch.
"""

import torch
from torch import Tensor


class Dice:
    """Self-adjusting dice loss over probabilities."""

    def __init__(self, alpha: float = 0.6, gamma: float = 1.0):
        """alpha: not negative, larger = easy items count less; gamma: above 0, smooths. Raises ValueError."""
        if alpha < 0 or gamma <= 0:
            raise ValueError(f"dice: alpha must not be negative, gamma above 0, found {alpha} and {gamma}")
        self.alpha, self.gamma = alpha, gamma

    def __call__(self, scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """
        Args:
            scores: (…, C), before softmax or sigmoid.
            labels: class numbers (…), -100 = none; or (…, C) of 0 and 1, -100 = unknown.
            weights: (C,): of an item, that of its label; of decisions they count where the label is 1.

        Returns: losses shaped like `labels`.
        """
        scores = scores.float()
        if labels.shape == scores.shape:
            losses = self.each(scores.sigmoid(), labels.clamp(min=0).float())
            losses = losses if weights is None else torch.where(labels > 0, weights, 1.0) * losses
            return torch.where(labels < 0, 0.0, losses)
        gold = labels.clamp(min=0)
        one_hot = torch.zeros_like(scores).scatter(-1, gold[..., None], 1.0)  # F.one_hot reads its input on the host
        losses = self.each(scores.softmax(-1), one_hot).mean(-1)
        return torch.where(labels != -100, losses if weights is None else weights[gold] * losses, 0.0)

    def each(self, p: Tensor, y: Tensor) -> Tensor:
        """Of every class of every item, (…, C)."""
        sure = (1 - p).clamp(min=1e-7) ** self.alpha * p  # the derivative of 0^alpha would be infinite
        return 1 - (2 * sure * y + self.gamma) / (sure + y + self.gamma)


if __name__ == "__main__":
    p, labels = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]]), torch.tensor([0, -100])
    a, b, c = 0.3**0.5 * 0.7, 0.8**0.5 * 0.2, 0.9**0.5 * 0.1
    expected = torch.tensor([(1 - (2 * a + 1) / (a + 2) + 1 - 1 / (b + 1) + 1 - 1 / (c + 1)) / 3, 0.0])
    torch.testing.assert_close(Dice(alpha=0.5)(p.log(), labels), expected)
