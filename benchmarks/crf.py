"""model_utils/crf.py beside pytorch-crf: a forward and backward pass, and decoding.

    python -m benchmarks.crf
    python -m benchmarks.crf --scale 8           # scores as far apart as those of a confident model: sums in fp64

Interleaved in one process, on one thread of a CPU: the same parameters, random scores, rows of T/3 to T words, tags as
in BIO, whose forbidden transitions ours leaves out. Before, both give the same likelihoods where nothing is forbidden.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
import torchcrf

import main
from experiments.cost import interleaved, table
from model_utils.crf import CRF

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

    def train(self, crf: Any) -> Any:
        def step(_: Any) -> None:
            scores = self.scores.clone().requires_grad_()
            (-crf(scores, self.tags, self.mask, reduction="sum")).backward()

        return step

    def decode(self, crf: Any) -> Any:
        return lambda _: crf.decode(self.scores, self.mask)


def compare(
    shape: tuple[int, int, int], scale: float = 1.0, rounds: int = 20
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of training, and of decoding."""
    pair = Pair(*shape, scale)
    pair.check()
    crfs = {"ours": pair.ours, "pytorch-crf": pair.theirs}
    trained, decoded = ({name: make(crf) for name, crf in crfs.items()} for make in (pair.train, pair.decode))
    return interleaved(trained, [None], rounds), interleaved(decoded, [None], rounds)


def report(argv: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="standard deviation of the scores")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    for shape in SHAPES:
        trained, decoded = compare(shape, given.scale, given.rounds)
        print("{} rows, {} words, {} tags".format(*shape))
        print(f"forward and backward\n{table(trained)}\ndecode\n{table(decoded)}", flush=True)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
