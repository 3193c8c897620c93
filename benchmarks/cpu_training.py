"""What training on a CPU gains by dropout, attention and cross-entropy of ours, beside torch's own.

    python -m benchmarks.cpu_training
    python -m benchmarks.cpu_training --precision fp32

Interleaved in one process on one thread, forward and backward: each of the three by itself, and whole training steps of
a BERT of MiniLM's shape with and without them. Whether they compute the same is tested where they are (tests/).
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import main
from model_utils.cpu_attention import TiledAttention, additive, use_cpu_attention
from model_utils.cpu_dropout import dropout, use_cpu_dropout
from model_utils.vocabulary_loss import summed_cross_entropy
from trainer.device import pick_device, pick_precision

from .fgm import random_batch, train_step
from .rounds import Comparison, compare, once, options, show

TEXTS = ((32, 128), (32, 40), (8, 512))  # B, T
HEADS, SIZE, RATE = 12, 32, 0.1


def passes(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], Any]:
    """Forward and backward: the gradients of the inputs."""
    own = [x.clone().requires_grad_() for x in inputs]
    weight = torch.linspace(-1, 1, (out := function(*own)).numel(), dtype=out.dtype).view(out.shape)
    return lambda: torch.autograd.grad(function(*own), own, weight)


def dropouts(texts: int, length: int, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    x = torch.randn(texts, length, HEADS * SIZE, dtype=dtype)
    return {"ours": passes(lambda x: dropout(x, RATE), x), "torch": passes(lambda x: F.dropout(x, RATE), x)}


def attentions(texts: int, length: int, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """Two texts in each row."""
    inputs = [torch.randn(texts, length, HEADS, SIZE, dtype=dtype).transpose(1, 2) for _ in range(3)]
    pieces = (torch.arange(length) > length // 3).expand(texts, -1)
    mask = pieces[:, None, :, None] == pieces[:, None, None, :]
    ours: Any = TiledAttention.apply
    return {
        "ours": passes(lambda q, k, v: ours(q, k, v, additive(mask), RATE, SIZE**-0.5).transpose(1, 2), *inputs),
        "torch": passes(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask, RATE), *inputs),
    }


def losses(items: int, vocabulary: int, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    scores, labels = torch.randn(items, vocabulary, dtype=dtype), torch.randint(vocabulary, (items,))
    return {
        "ours": passes(lambda x: summed_cross_entropy(x, labels), scores),
        "torch": passes(lambda x: F.cross_entropy(x.float(), labels, reduction="sum"), scores),
    }


def steps(texts: int, length: int, precision: str) -> dict[str, Callable[[], Any]]:
    found: dict[str, Any] = {}
    for name in ("ours", "torch"):
        step = train_step(30522, None, 6, HEADS * SIZE, precision)
        if name == "ours":
            use_cpu_attention(step.module.encoder)
            use_cpu_dropout(step.module)
        found[name] = lambda step=step: step([random_batch(30522, texts, length, 0)])
    return found


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.set_defaults(rounds=10)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    given = parser.parse_args(argv)
    precision = pick_precision(given.precision, pick_device("cpu"))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    cases: dict[str, dict[str, Callable[[], Any]]] = {}
    for texts, length in TEXTS:
        cases[f"dropout, {texts} x {length} x {HEADS * SIZE}"] = dropouts(texts, length, dtype)
        cases[f"attention, {texts} x {length}, {HEADS} heads of {SIZE}"] = attentions(texts, length, dtype)
    cases["cross-entropy, 640 x 30,522"] = losses(640, 30522, dtype)
    for texts, length in TEXTS:
        cases[f"a step of classification, {texts} x {length}"] = steps(texts, length, precision)
    for name, functions in cases.items():
        runs = {own: lambda function=function: once(function) for own, function in functions.items()}
        yield compare(f"{name}, {precision}", "step", runs, given)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
