"""model_utils/crf.py beside pytorch-crf: a forward and backward pass, and decoding.

    python -m benchmarks.crf
    python -m benchmarks.crf --scale 8           # scores as far apart as those of a confident model: sums in fp64

The same parameters, random scores, rows of T/3 to T words, tags as
in BIO, whose forbidden transitions ours leaves out. Before, both give the same likelihoods where nothing is forbidden.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torchcrf

import main
from model_utils.crf import CRF

from .rounds import Comparison, Go, compare, once, options, show

SHAPES = ((32, 64, 20), (32, 128, 20), (32, 128, 70))


class Pair:
    """The same CRF twice, and what to feed it with: B rows, T words, C tags."""

    def __init__(self, rows: int, words: int, tags: int, scale: float):
        torch.manual_seed(0)
        labels = ["O", *(f"{part}-{kind}" for kind in range((tags - 1) // 2) for part in "BI")]
        labels += ["S-x"] * (tags - len(labels))
        self.ours, self.theirs = CRF(tags, labels=labels), torchcrf.CRF(tags, batch_first=True)
        self.theirs.load_state_dict(self.ours.state_dict())
        self.scores = scale * torch.randn(rows, words, tags)
        lengths = torch.randint(words // 3, words + 1, (rows,))
        lengths[0] = words
        self.mask = torch.arange(words) < lengths[:, None]
        self.tags = torch.randint(tags, (rows, words))

    def check(self) -> None:
        free = CRF(self.ours.num_tags)
        free.load_state_dict(self.ours.state_dict())
        both = (crf(self.scores, self.tags, self.mask, reduction="sum") for crf in (free, self.theirs))
        torch.testing.assert_close(*both, rtol=1e-5, atol=1e-2)
        assert free.decode(self.scores, self.mask) == self.theirs.decode(self.scores, self.mask)

    def train(self, crf: Any) -> None:
        scores = self.scores.clone().requires_grad_()
        (-crf(scores, self.tags, self.mask, reduction="sum")).backward()

    def runs(self, work: Callable[[Any], Any]) -> dict[str, Callable[[], Go]]:
        return {"ours": lambda: once(lambda: work(self.ours)), "pytorch-crf": lambda: once(lambda: work(self.theirs))}


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.set_defaults(rounds=20)
    parser.add_argument("--scale", type=float, default=1.0, help="standard deviation of the scores")
    given = parser.parse_args(argv)
    for shape in SHAPES:
        pair = Pair(*shape, given.scale)
        pair.check()
        name = "{} rows, {} words, {} tags".format(*shape)
        yield compare(f"forward and backward, {name}", "batch", pair.runs(pair.train), given)
        decode = pair.runs(lambda crf, pair=pair: crf.decode(pair.scores, pair.mask))  # type: ignore[misc]
        yield compare(f"decoding, {name}", "batch", decode, given)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
