"""How much longer a training step takes with other options: interleaved in one process, as a median of ratios.

    python -m experiments.cost --config configs/sst2.yaml --toggle use_fgm,use_rdrop,use_ema [any option of main.py]

Every variant takes the same batches; in each round all of them take one step, in rotated order. On a CPU the seconds
are those of the process on one thread, which other jobs hardly disturb.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch

import main
from config import get_args

from .variants import split_toggles


def step_seconds(
    argv: Sequence[str], variants: Mapping[str, Sequence[str]], rounds: int = 20, warmup: int = 3
) -> dict[str, list[float]]:
    """Seconds of each round by variant, those of the first `warmup` rounds left out."""
    torch.set_num_threads(1)
    trainings = {name: training([*argv, *options]) for name, options in variants.items()}
    base = next(iter(trainings.values()))
    batches = iter(base["train_loader"](0, 0))
    groups = [group for _ in range(rounds + warmup) if (group := list(islice(batches, base["accumulate"])))]
    steps = {name: options["train_step"] for name, options in trainings.items()}
    return interleaved(steps, groups, rounds, warmup)


def interleaved(
    steps: Mapping[str, Callable[[Any], Any]], groups: Sequence[Any], rounds: int = 20, warmup: int = 3
) -> dict[str, list[float]]:
    """Seconds of each call in turn, with the same groups of micro-batches for all."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(rounds + warmup):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            began = now()
            steps[name](groups[number % len(groups)])
            if number >= warmup:
                found[name].append(now() - began)
    return found


def training(argv: Sequence[str]) -> dict[str, Any]:
    """What main.py gives the trainer of a job; nothing is written."""
    job = main.build_job(get_args([*argv, "--do_train", "true", "--resume", "never"]))
    main.build_data(job)
    main.seed_everything(job.args.seed)
    model = main.build_model(job)
    options = main.build_training(job, model)
    model.train()
    return options


def now() -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
        return time.perf_counter()
    return time.process_time()


def ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median over the rounds of the time of each variant over that of the first one in the same round."""
    base = next(iter(seconds.values()))
    return {
        name: statistics.median(own / plain for own, plain in zip(found, base, strict=True))
        for name, found in seconds.items()
    }


def table(seconds: Mapping[str, Sequence[float]]) -> str:
    lines = []
    for name, ratio in ratios(seconds).items():
        low, high = (1000 * value for value in statistics.quantiles(seconds[name], n=10)[::8])
        middle = 1000 * statistics.median(seconds[name])
        lines.append(f"{name:40} {ratio:5.2f} x   {middle:8.1f} ms a step, 80 % within {low:.1f} to {high:.1f}")
    return "\n".join(lines)


def report(argv: list[str] | None) -> None:
    rest, variants = split_toggles(argv or [])
    print(table(step_seconds(rest, variants)))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
