"""Sizes, and forecasts of time and memory, from a few steps of the run itself; nothing is kept.

    print(forecast(job, model, blocks, options))
"""

import statistics
import sys
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch

STEPS = 5


def forecast(job: Any, model: Any, blocks: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """Lines for people; the model has taken some steps afterwards.

    Args:
        job: see main.py.
        blocks: part -> name -> Blocks.
        options: of the Trainer.
    """
    from trainer.speed import peak_memory

    args = job.args
    lines = ["corpus                      texts   sub-words      blocks  padding  unknown"]
    for some in blocks.values():
        for name, own in some.items():
            info = own.info
            padding, unknown = info["padding"] / own.ids.size, info["unknown"] / info["tokens"]
            lines.append(f"{name:20} {info['texts']:12,} {info['tokens']:11,} {info['blocks']:11,} {padding:8.1%} "
                         f"{unknown:8.2%}")  # fmt: skip
            if info["too_short"] or info["duplicates"]:
                lines.append(f"    left out: {info['too_short']:,} too short, {info['duplicates']:,} duplicates")
    step = options["train_step"]
    steps = min(args.epochs * options["steps_per_epoch"] or sys.maxsize, args.max_steps or sys.maxsize)
    seconds = statistics.median(timed_steps(model, step, options)[1:])
    in_a_step = args.batch_size * args.accumulate * job.world_size * args.block_length
    evaluations = 0.0
    if "eval_loader" in options:
        times = steps // args.eval_steps if args.eval_steps else -(-steps // options["steps_per_epoch"])
        evaluations = times * timed_evaluation(model, options["eval_loader"], job.device, step.autocast)
    lines += [
        f"parameters: {sum(p.numel() for p in model.parameters()):,}",
        f"a step: {in_a_step:,} places, {seconds:.3g} s, {in_a_step / seconds:,.0f} places/s",
        f"training: {steps:,} steps, {duration(steps * seconds)}; evaluations: {duration(evaluations)}",
        f"memory: {peak_memory(job.device) / 2**30:.2f} GiB at most so far",
        f"a saved state: {state_bytes(model, step) / 2**20:,.0f} MiB; up to three are kept in {args.output_dir}",
    ]
    return "\n".join(lines)


def timed_steps(model: Any, step: Any, options: Mapping[str, Any]) -> list[float]:
    """Seconds of each; the first one also makes what the optimizer remembers."""
    model.train()
    batches = iter(options["train_loader"](0, 0))
    seconds = []
    for group in islice(iter(lambda: list(islice(batches, options["accumulate"])), []), STEPS):
        start = time.perf_counter()
        losses, _ = step(group)
        losses["loss"].item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return seconds * 2 if len(seconds) == 1 else seconds


@torch.no_grad()
def timed_evaluation(model: Any, loader: Any, device: torch.device, autocast: Any) -> float:
    """Seconds that a whole evaluation will take, from a few batches."""
    from trainer.device import to_device

    model.eval()
    start, number = time.perf_counter(), 0
    for number, batch in enumerate(islice(loader, STEPS), 1):  # noqa: B007
        with autocast():
            model(to_device(batch, device)).loss.item()
    return (time.perf_counter() - start) / max(1, number) * len(loader)


def state_bytes(model: Any, step: Any) -> int:
    """Of last/: weights and what the optimizer remembers."""
    kept = [t for state in step.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *kept])


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
