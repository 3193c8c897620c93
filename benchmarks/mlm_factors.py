"""What each part brings to the pretraining of a masked language model: ours, and ours without one of them.

    python -m benchmarks.mlm_factors --corpus data/corpus_en_fiction/train.jsonl --model bert-base-uncased

The job of benchmarks/mlm.py, interleaved in one process, the median of the ratios within a round.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

import main
from trainer.device import pick_device, pick_precision

from .mlm import dense_labels, job_on, ours, prepared
from .rounds import Comparison, compare, options, show

Prepared = tuple[Any, Any, dict[str, Any]]


def scores_everywhere(argv: Sequence[str]) -> Prepared:
    job, model, options = prepared(argv)
    load = options["train_loader"]

    def batches(epoch: int, samples: int) -> Iterator[dict[str, Any]]:
        for batch in load(epoch, samples):
            places = torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])
            yield batch | {"masked_places": places, "labels": {"mlm": dense_labels(batch)}}

    return job, model, options | {"train_loader": batches}


def torchs_cross_entropy(argv: Sequence[str]) -> Prepared:
    job, model, options = prepared(argv)

    def loss(logits: Tensor, labels: Tensor, _: Any) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum")

    model.heads["mlm"].loss = loss
    return job, model, options


def torchs_dropout(argv: Sequence[str]) -> Prepared:
    """In attention, too; on a GPU ours is the same."""
    with patch("model_utils.cpu_attention.use_cpu_attention"), patch("model_utils.cpu_dropout.use_cpu_dropout"):
        return prepared(argv)


def in_fp32(argv: Sequence[str]) -> Prepared:
    return prepared([*argv, "--precision", "fp32"])


VARIANTS: dict[str, Callable[[Sequence[str]], Prepared]] = {
    "ours": prepared,
    "scores at all places": scores_everywhere,
    "torch's cross-entropy": torchs_cross_entropy,
    "torch's dropout and attention": torchs_dropout,
    "fp32": in_fp32,
}


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.add_argument("--corpus", required=True, help="a file of texts")
    parser.add_argument("--model", required=True, help="a masked language model, or an encoder")
    parser.add_argument("--steps", type=int, default=4, help="of each in a round")
    given, rest = parser.parse_known_args(argv)
    precision = pick_precision("auto", pick_device())
    with tempfile.TemporaryDirectory() as folder:
        job = [*job_on(given.corpus, given.model, folder), *rest]
        runs = {name: lambda make=make: ours(make(job), given.steps)
                for name, make in VARIANTS.items() if name != precision}  # fmt: skip
        yield compare("masked language model", "sub-word", runs, given)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
