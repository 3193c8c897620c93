"""model_utils/vocabulary_loss.py against torch's cross-entropy."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from model_utils import vocabulary_loss
from model_utils.vocabulary_loss import summed_cross_entropy
from tests.test_pretraining_model import Largest


@pytest.mark.parametrize("at_once", [1, 250, 2**19], ids=["a row", "some rows", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_torchs(dtype: torch.dtype, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vocabulary_loss.AT_ONCE, "cpu", at_once)
    torch.manual_seed(0)
    scores = (5 * torch.randn(31, 100)).to(dtype).requires_grad_()
    labels = torch.randint(0, 100, (31,))
    labels[::7] = -100
    found = 0.3 * summed_cross_entropy(scores, labels)
    expected = 0.3 * F.cross_entropy(scores.float(), labels, ignore_index=-100, reduction="sum")
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(loss, scores)[0] for loss in (found, expected))
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs)
    assert not ours[::7].any()


def test_nothing_known_or_nothing_there() -> None:
    scores = torch.randn(4, 9, requires_grad=True)
    summed_cross_entropy(scores, torch.full((4,), -100)).backward()
    assert scores.grad is not None and not scores.grad.any()
    assert summed_cross_entropy(torch.randn(0, 9), torch.zeros(0, dtype=torch.int64)) == 0


def test_an_infinite_score_is_not_hidden() -> None:
    scores = torch.zeros(2, 5)
    scores[1, 2] = float("inf")
    assert summed_cross_entropy(scores, torch.tensor([0, 1])).isnan()


def test_no_array_of_fp32_is_as_large_as_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vocabulary_loss.AT_ONCE, "cpu", 1000)
    scores = torch.randn(64, 500).bfloat16().requires_grad_()
    labels = torch.randint(0, 500, (64,))

    class LargestFP32(Largest):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
                self.size = max(self.size, result.numel())
            return result

    with LargestFP32() as largest:
        summed_cross_entropy(scores, labels).backward()
    assert largest.size == 1000
