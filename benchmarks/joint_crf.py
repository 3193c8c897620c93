"""Joint intents and slots with a CRF beside other loops with pytorch-crf: real sub-words per second.

    python -m benchmarks.joint_crf --config configs/sample_joint.yaml
    python -m benchmarks.joint_crf --config configs/snips.yaml --steps 4 [any option of main.py]

The model, batches, optimizer, schedule and clipping of the job; in the other loops (peers.py) its CRF is
pytorch-crf's, its encoder is as transformers has it. Before, the losses of several steps are compared, with a CRF that
forbids nothing.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torchcrf
from torch import Tensor

import main
from config import ConfigError, get_args
from model_utils.crf import CRF

from .finetune import FP32, PLAIN, work
from .peers import LOOPS, Work, check_losses, ours
from .rounds import Comparison, Go, compare, options, show

RUN = ("--do_train", "true", "--do_eval", "false", "--resume", "never")


class TheirCRF(torchcrf.CRF):
    """What everyone writes around pytorch-crf: tags and masks as it takes them."""

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor, reduction: str = "sum") -> Tensor:
        known = tags != -100
        return super().forward(emissions.float(), tags.where(known, 0), mask & known, reduction)


def with_crf(own: Work, make: Callable[[Any], Any]) -> Work:
    """The same with another CRF that has the same weights."""
    crfs = [head for head in own.model.heads.values() if getattr(head, "crf", None) is not None]
    if not crfs:
        raise ConfigError("arguments: tasks: one of kind word_tagging with decoder: crf is needed")
    for head in crfs:
        crf = make(head.crf.num_tags)
        crf.load_state_dict(head.crf.state_dict())
        head.crf = crf.to(own.job.device)
    return Work(own.job, own.model, own.batches)  # whose optimizer knows it


def theirs(argv: Sequence[str]) -> Work:
    return with_crf(work([*argv, *PLAIN]), lambda tags: TheirCRF(tags, batch_first=True))


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=8, help="of each in a round")
    given, rest = parser.parse_known_args(argv)
    job, steps = [*rest, *RUN], given.steps
    get_args(job)  # mistakes first
    torch.set_num_threads(1)
    fp32 = [*job, *FP32]
    check_losses({"ours": (with_crf(work(fp32, for_cpu=True), CRF), ours)}
                 | {name: (theirs(fp32), loop) for name, loop in LOOPS.items()})  # fmt: skip
    runs: dict[str, Callable[[], Go]] = {"ours": lambda: ours(work(job, for_cpu=True), steps)}
    for name, loop in LOOPS.items():
        runs[f"{name}, pytorch-crf"] = lambda loop=loop: loop(theirs(job), steps)  # type: ignore[misc]
    yield compare("joint training", "sub-word", runs, given)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
