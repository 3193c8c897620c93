"""What a training will take: disk, memory, time. Measured from a few steps as the run takes them, on its own batches.

    findings = forecast(job, model, surveys)       # the model is trained a little: nobody may use it afterwards

Estimates: other jobs on the machine, early stopping and the time of saving are not in them.
"""

import resource
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import main

from .surveys import SCORED, Surveys
from .table import Finding, duration, size

SECONDS = 6.0  # of training steps, and of evaluation
STEPS = 5
TIGHT = 0.9  # share of memory, or of the free disk, that is nearly all


def forecast(job: Any, model: Any, surveys: Surveys) -> Iterator[Finding]:
    options = training_options(job, model, surveys)
    step = options["train_step"]
    model.train()
    start_memory(job)
    seconds = step_seconds(step, options["train_loader"](0, 0), options["accumulate"])
    saved = state_bytes(model, step)
    yield disk(job, *saved)
    yield memory(job, step, sum(saved), seconds)
    yield run_time(job, model, options, seconds, surveys)


def training_options(job: Any, model: Any, surveys: Surveys) -> dict[str, Any]:
    """Those of the run; compiled layers would take minutes, and what is split off a stream is not encoded for this."""
    job.args.compile = False
    if splits_stream(job):
        loader = main.build_train_loader(job)
        return main.training_options(job, model, loader, None, partial(main.save_pretrained, job, model, {}))
    return main.build_training(job, model)


def splits_stream(job: Any) -> bool:
    """Whether held-out parts are in a file that is streamed."""
    return job.args.streaming and any(part in data.indices for data in job.data.values() for part in SCORED)


def step_seconds(step: Any, batches: Any, accumulate: int) -> list[float]:
    """Of a few steps behind one that warms up; at least one."""
    remaining, found, began = iter(batches), list[float](), time.monotonic()
    groups = iter(lambda: list(islice(remaining, accumulate)), [])
    for group in islice(groups, STEPS + 1):
        found.append(timed(partial(step, group), step.device))
        if len(found) > 1 and time.monotonic() - began > SECONDS:
            break
    return found[1:] or found


def timed(call: Any, device: Any) -> float:
    began = time.perf_counter()
    call()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - began


# ---------------------------------------------------------------------------------------------------------- disk


def state_bytes(model: Any, step: Any) -> tuple[int, int]:
    """Of the weights that are saved, and of what a training needs beside them to go on."""
    from model_utils.adapters import saved_weights

    return num_bytes(saved_weights(model)), sum(num_bytes(part.state_dict()) for part in step.parts().values())


def num_bytes(state: Any) -> int:
    """Of all tensors; one that has two names counts once."""
    found: dict[int, int] = {}

    def walk(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[value.data_ptr() or id(value)] = value.numel() * value.element_size()
        elif isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                walk(inner)

    walk(state)
    return sum(found.values())


def disk(job: Any, weights: int, state: int) -> Finding:
    """best/, last/ and last.previous/ lie there; a newer one is written beside them."""
    states = 2 + job.args.keep_states
    kept = weights + states * (weights + state)
    needed = kept + weights + state
    folder = existing(Path(job.args.output_dir))
    free = shutil.disk_usage(folder).free
    figures = {"weights": weights, "state": state, "kept": kept, "needed": needed, "free": free}
    message = f"a state takes {size(weights + state)}, the model alone {size(weights)}; best/ and {states} states "
    message += f"{size(kept)}, while one is written {size(needed)}; {size(free)} are free"
    if needed > free:
        message += ": not enough; free some, or give another --output_dir"
        return Finding("error", "forecast", "disk", message, figures)
    return Finding("warning" if needed > TIGHT * free else "ok", "forecast", "disk", message, figures)


def existing(folder: Path) -> Path:
    """The folder itself, or what it would be made in."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


# -------------------------------------------------------------------------------------------------------- memory


def start_memory(job: Any) -> None:
    if job.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(job.device)


def peak_memory(job: Any) -> tuple[int, int]:
    """Bytes at the peak, and those that there are: of the GPU, or of this process in main memory."""
    if job.device.type == "cuda":
        return torch.cuda.max_memory_allocated(job.device), torch.cuda.get_device_properties(job.device).total_memory
    import psutil

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, psutil.virtual_memory().total


def largest_batch(job: Any) -> dict[str, Any] | None:
    """The longest records of a data set in one batch; None where lengths are not known, or batches are all alike."""
    if job.args.streaming or job.args.batch_tokens:
        return None
    found: list[tuple[int, str, Any]] = []
    for name in job.data.having("train"):
        longest, num_inputs = job.data[name].input_sizes("train")
        chosen = longest.argsort()[-job.options[name]["batch_size"] :]
        found.append((int(longest[chosen].max() * num_inputs[chosen].sum()), name, chosen))
    _, name, chosen = max(found, key=lambda each: each[0])
    return main.build_collator(job, name)(main.build_part(job, name, "train").__getitems__(chosen.tolist()))


def memory(job: Any, step: Any, saved: int, seconds: Sequence[float]) -> Finding:
    """After a backward pass of the largest batch, unless that would take too long."""
    from trainer.memory import OutOfMemory

    measured, batch = "in a few steps", largest_batch(job)
    if batch is not None and batch["input_ids"].numel() * seconds_per_place(step, seconds) < SECONDS:
        rows, length = batch["input_ids"].shape
        measured = f"with the longest batch, {rows} x {length} sub-words"
        try:
            step.gradient([batch])
        except OutOfMemory as error:
            message = f"the longest batch does not fit: {error}"
            return Finding("error", "forecast", "memory", message, {"saved": saved})
        finally:
            step.optimizer.zero_grad()
    peak, total = peak_memory(job)
    where = "of the GPU's memory" if job.device.type == "cuda" else "of main memory, this check included,"
    message = f"{size(peak)} {where} {measured}; there are {size(total)}"
    level = "warning" if peak > TIGHT * total else "ok"
    return Finding(level, "forecast", "memory", message, {"peak": peak, "total": total, "saved": saved})


def seconds_per_place(step: Any, seconds: Sequence[float]) -> float:
    """Of a batch, padding included; about, as the first step counts with the others."""
    return statistics.median(seconds) * (len(seconds) + 1) / step.speed.places


# ---------------------------------------------------------------------------------------------------------- time


def run_time(
    job: Any, model: Any, options: dict[str, Any], seconds: Sequence[float], surveys: Surveys
) -> Finding:
    args, per_epoch = job.args, options["steps_per_epoch"]
    steps = min(args.epochs * per_epoch or sys.maxsize, args.max_steps or sys.maxsize)
    evaluations = max(1, -(-steps // per_epoch)) + (steps // args.eval_steps if args.eval_steps else 0)
    one_step, per_part = statistics.median(seconds), evaluation_seconds(job, model, surveys)
    one_eval, last = per_part["eval"], sum(per_part.values()) * args.do_eval
    training, evaluating = steps * one_step, evaluations * one_eval
    total = training + evaluating + last
    figures = {"seconds": round(total, 1), "step": one_step, "steps": steps, "evaluation": one_eval,
               "evaluations": evaluations, "measured_steps": len(seconds)}  # fmt: skip
    message = f"about {duration(total)} on this {job.device.type}: {steps:,} steps of {duration(one_step)} are "
    message += f"{duration(training)}, {evaluations} evaluations of {duration(one_eval)} {duration(evaluating)}"
    if last:
        message += f", the last scores {duration(last)}"
    return Finding("ok", "forecast", "time", f"{message} (estimated from a few steps)", figures)


def evaluation_seconds(job: Any, model: Any, surveys: Surveys) -> dict[str, float]:
    """Part -> seconds of its evaluation, from a few batches of each data set."""
    trainer, found = main.build_trainer(job, model), dict.fromkeys(SCORED, 0.0)
    names = [name for name, parts in surveys.items() if not parts.keys().isdisjoint(SCORED)]
    for name in names:
        parts = {part: surveys[name][part] for part in SCORED if part in surveys[name]}
        sample, most = next(iter(parts.values())).sample, job.options[name]["eval_batch_size"]
        features, collate = job.data[name].encode(sample[: 4 * most]), main.build_collator(job, name)
        batches = [collate(features[start : start + most]) for start in range(0, len(features), most)]
        tasks, began, done = job.options[name]["tasks"], time.perf_counter(), 0
        for batch in batches:
            trainer.predict([batch | {"tasks": tasks}])
            done += len(batch["sample_id"])
            if time.perf_counter() - began > SECONDS / len(names):
                break
        per_record = (time.perf_counter() - began) / done
        for part, survey in parts.items():
            found[part] += per_record * len(survey.texts)
    return found
