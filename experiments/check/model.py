"""Can the model of a job learn at all? Gradients of every head, and one small batch learnt by heart.

    batches = small_batches(job, surveys)
    findings = [*gradients(job, model, batches), *overfit(job, model, batches)]

The model is left as it was: its gradients are cleared, what learns is a copy, and torch's generators are put back.
"""

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

import main

from .surveys import Surveys
from .table import Finding

RECORDS, STEPS, SECONDS = 8, 60, 15.0  # of the batch that is learnt by heart
LEARNT, SLOW, NEARLY = 0.5, 0.9, 0.05  # of the loss at the start that is left; a loss that is nearly 0 anyway


def small_batches(job: Any, surveys: Surveys) -> list[dict[str, Any]]:
    """Of as few data sets as have all tasks; records from all over the training part, whose texts differ."""
    found: list[dict[str, Any]] = []
    covered: set[str] = set()
    for name in job.data.having("train"):
        if {*job.options[name]["tasks"]} <= covered:
            continue
        batch = main.build_collator(job, name)(features(job, name, surveys[name]["train"].sample))
        found.append(batch)
        covered |= batch["labels"].keys()
    return found


def features(job: Any, name: str, sample: Sequence[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    encoded, seen = [], set()
    step = max(1, len(sample) // RECORDS)
    for number, record in [*sample[::step], *sample]:
        [feature] = job.data[name].encode([(number, record)])
        if tuple(feature["input_ids"]) not in seen:
            seen.add(tuple(feature["input_ids"]))
            encoded.append(feature)
        if len(encoded) == RECORDS:
            break
    return encoded


def gradients(job: Any, model: Any, batches: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """One backward pass for each task by itself, as in training."""
    from trainer.device import make_autocast, to_device

    model.to(job.device).train()
    for task, head in model.heads.items():
        batch = next((batch for batch in batches if task in batch["labels"]), None)
        if batch is None:
            continue
        own = to_device({**batch, "labels": {task: batch["labels"][task]}}, job.device)
        model.zero_grad()
        with torch.random.fork_rng(), make_autocast(job.precision, job.device)():
            loss = model(own).loss
        if loss.requires_grad:
            loss.backward()
        yield reached(task, loss.item(), [*head.parameters()], [*model.encoder.parameters()])
    model.zero_grad()


def reached(task: str, loss: float, head: Sequence[Any], encoder: Sequence[Any]) -> Finding:
    """What the gradient of a task says."""
    of_head, of_encoder = share_reached(head), share_reached(encoder)
    figures = {"task": task, "loss": loss, "head": of_head, "encoder": of_encoder}
    if not math.isfinite(loss):
        return Finding("error", "model", "gradients", f"{task}: the loss of the first batch is {loss}", figures)
    cut = [name for name, share in (("its head", of_head), ("the encoder", of_encoder)) if share == 0]
    if cut:
        message = f"{task}: no gradient reaches {' and '.join(cut)}; is its loss_weight 0, or something detached?"
        return Finding("error", "model", "gradients", message, figures)
    message = "its head and the encoder have a gradient"
    if of_encoder is None:
        message = "its head has a gradient; the encoder is frozen"
    elif of_head is None:
        message = "the encoder has a gradient; its head has nothing to train"
    level = "note" if of_encoder is None else "ok"
    return Finding(level, "model", "gradients", f"{task}: {message}", figures)


def share_reached(parameters: Sequence[Any]) -> float | None:
    """Of the numbers that are trained those in weights that have a gradient; None if none are trained."""
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        return None
    with_gradient = [p.numel() for p in trained if p.grad is not None and bool(p.grad.any())]
    return sum(with_gradient) / sum(p.numel() for p in trained)


def overfit(job: Any, model: Any, batches: Sequence[Mapping[str, Any]], seconds: float = SECONDS) -> Iterator[Finding]:
    """A copy of the model learns the batches by heart: without dropout, with the run's kind of optimizer, its learning
    rates fitting the width of the model and not the run."""
    losses, took = learn(job, copy.deepcopy(model).to(job.device).eval(), batches, seconds)
    sizes = [(p.numel(), p.requires_grad) for p in model.encoder.parameters()]
    partly = sum(number for number, trained in sizes if trained) < 0.5 * sum(number for number, _ in sizes)
    for task in losses[0]:
        yield judged(task, [each[task] for each in losses], took, partly)


def learn(
    job: Any, model: Any, small: Sequence[Mapping[str, Any]], seconds: float
) -> tuple[list[dict[str, float]], float]:
    """The loss of each task before every step and after the last, and the seconds that it took."""
    from model_utils.optim import build_optimizer, build_scheduler
    from trainer.device import to_device
    from trainer.step import TrainStep

    batches = [to_device({**batch, "tasks": [*batch["labels"]]}, job.device) for batch in small]
    tasks = {task for batch in batches for task in batch["labels"]}
    rate = min(2e-3, 0.1 / getattr(model.encoder.config, "hidden_size", 768))
    optimizer = build_optimizer(model, rate, min(1e-2, 10 * rate), 0.0, name=job.args.optimizer)
    scheduler = build_scheduler("constant_with_warmup", optimizer, 5, STEPS)
    step = TrainStep(model, optimizer, scheduler, device=job.device, precision=job.precision)
    found: list[dict[str, float]] = []
    began = time.monotonic()
    for _ in range(STEPS + 1):
        losses, _ = step.gradient(batches)
        found.append({task: losses[f"{task}/loss"].item() for task in model.heads if task in tasks})
        if learnt(found) or time.monotonic() - began > seconds or not all(map(math.isfinite, found[-1].values())):
            break
        step.update()
    return found, time.monotonic() - began


def learnt(found: Sequence[Mapping[str, float]]) -> bool:
    """Whether nobody needs to see more."""
    return all(found[-1][task] < max(LEARNT / 2 * first, NEARLY / 10) for task, first in found[0].items())


def judged(task: str, losses: Sequence[float], seconds: float, partly: bool) -> Finding:
    """partly: most of the encoder is frozen, so that a batch may be too much."""
    first, last, steps = losses[0], losses[-1], len(losses) - 1
    figures = {"task": task, "first": first, "last": last, "steps": steps, "seconds": round(seconds, 2)}
    message = f"{task}: {RECORDS} records learnt by heart: loss {first:.3f} to {last:.3f} in {steps} steps"
    few = steps < STEPS / 3 and seconds >= SECONDS
    if last < LEARNT * first or max(first, last) < NEARLY:
        return Finding("ok", "model", "one batch", message, figures)
    if last < SLOW * first or few or partly:
        reason = "no time for more" if few else "most of the encoder is frozen" if partly else "it falls slowly"
        return Finding("warning", "model", "one batch", f"{message}; {reason}", figures)
    message = f"{task}: one batch cannot be learnt by heart: loss {first:.3f} to {last:.3f} in {steps} steps"
    return Finding("error", "model", "one batch", message, figures)


def not_tried(job: Any) -> Finding:
    reason = "there is no training data" if job.world_size == 1 else f"not with {job.world_size} processes; NGPU=1 does"
    return Finding("note", "model", "model", f"not looked at, nor its cost: {reason}")

