"""Continual learning: one task after the other, in any order, by any approach; what is forgotten is measured.

    python continual.py --config configs/continual/jd21_5.yaml [--approaches '[sequential, ewc]' --seeds 3 …]

The rooms are wired by the functions of main.py. Each run (an approach, an order, a seed) has a folder of its own; the
same command goes on where it stopped, and where it is started several times at once, the runs are shared out.

    <output_dir>/<approach>/order-1/seed-1/
        settings.json  dataset_info.json  results.json    the scores of all tasks before the first and after each
        tasks/1-liquor/            log, metrics, last/ and best/ of its training
        tasks/1-liquor/learnt/     the model after it and what the approach keeps; the next task starts from here
    <output_dir>/continual.md …    tables and pictures of all runs, see experiments/continual_report.py

docs/continual.md has a worked example, and says how to add an approach.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import main
from config import check_resume, require, seed_everything
from experiments.continual_run import (
    Run,
    add_heads,
    check_metrics,
    evaluate,
    keep,
    kept_tensors,
    learnt_until,
    metric_of,
    num_bytes,
    records,
    restore,
    row,
    save,
    spec_of,
    stage,
    tell,
    tidy,
    trains,
    view,
    write_results,
)
from experiments.task_list import FREE, ContinualArguments, Plan, Task, get_args, plans

logger = logging.getLogger("continual")


def continual(argv: list[str] | None) -> None:
    args, sequence = get_args(argv)
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    require(alone, "continual.py", "is one process; start the same command several times, and the runs are shared out")
    todo = plans(args, sequence)
    for plan in todo:
        build_approach(plan)  # names mistakes before anything begins
    if args.check:
        from experiments.check import check_data

        return check_data(build_job(args, sequence, todo[0]), args.output_dir)
    for plan in todo:
        carry_out(args, sequence, plan)
    from experiments.continual_report import write_report

    print(write_report(args.output_dir))


def carry_out(args: ContinualArguments, sequence: Sequence[Task], plan: Plan) -> None:
    """One run, or what is left of it; not if another process is at it."""
    from trainer.checkpoint import read_json
    from trainer.lock import InUse, owned

    folder = Path(args.output_dir, plan.place)
    try:
        with owned(folder):
            results = read_json(folder / "results.json") if (folder / "results.json").exists() else {"rows": []}
            if results.get("finished"):
                check_settings(folder, settings(asdict(replace(args, seed=plan.seed, **plan.training)), plan))
                return
            run = begin(args, sequence, plan, folder, results["rows"])
            learn_all(run)
    except InUse as error:
        logger.info("left to another process: %s", error)


def begin(
    args: ContinualArguments, sequence: Sequence[Task], plan: Plan, folder: Path, rows: list[dict[str, Any]]
) -> Run:
    """Check everything; writes nothing."""
    job = build_job(args, sequence, plan)
    by_name = {task.name: with_classes(task, job) for task in sequence}
    run = Run(plan, job, [by_name[name] for name in plan.order], folder, main.tokenizer_files(job), rows,
              build_approach(plan))  # fmt: skip
    settle_model(run)
    sums = {f"{part}_data": job.data.checksums(part) for part in ("train", "eval", "test")}
    run.settings = settings(job.given, plan) | sums
    check_settings(folder, run.settings)
    check_metrics(run)
    return run


def build_job(args: ContinualArguments, sequence: Sequence[Task], plan: Plan) -> main.Job:
    """With the data of all tasks, whose batches say what task they are of."""
    from data_loader.task_batches import TaskCollator
    from model_utils.encoder import locate

    heads = {task.name: task.head for task in sequence}
    folder = str(Path(args.output_dir, plan.place))
    args = replace(deepcopy(args), seed=plan.seed, output_dir=folder, **plan.training)
    job = main.start_job(args)
    args.model_name_or_path = locate(args.model_name_or_path)
    path = args.model_name_or_path
    trained = Path(path, "labels.json").is_file()
    require(not trained, "model_name_or_path", f"a sequence starts without heads; give {path}/encoder")
    job.tasks = args.tasks
    job.collators = lambda collate, name: TaskCollator(collate, name, heads[name])
    main.build_data(job)
    for task in sequence:
        scored = task.name in job.data.having("test") + job.data.having("eval")
        require(scored, "task_list", f"{task.name} has no test or evaluation data; give test_file, or eval_ratio")
    return job


def settle_model(run: Run) -> None:
    """What the approach wants of encoder and heads. Raises ConfigError."""
    from model_utils.heads import compares_records, head_class

    args, label = run.job.args, run.plan.label
    args.peft = getattr(run.approach, "PEFT", {})
    if getattr(run.approach, "NEEDS_PADDING", False):
        require(not args.unpad, "unpad", f"does not go with {label}; leave it out")
        args.unpad = False
    needed = getattr(run.approach, "NEEDS", "")
    single = getattr(run.approach, "NEEDS_SINGLE_LOSSES", False)
    for task in run.job.tasks:
        fits = not needed or hasattr(head_class(task["kind"]), needed)
        require(fits, "approaches", f"{label}: not for {task['kind']}, whose head has no {needed}")
        fits = not single or not compares_records(task["kind"], main.head_options(task))
        require(fits, "approaches", f"{label}: not for {task['name']}, whose loss compares the records of a batch")


def with_classes(task: Task, job: main.Job) -> Task:
    """With the numbers of its classes, where it has only some of its head's."""
    labels, own = spec_of(job, task.head)["labels"], job.options[task.name]["classes"]
    return replace(task, classes=tuple(labels.index(label) for label in own) or None)


def settings(given: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """What may not differ when a run goes on."""
    values = {name: value for name, value in given.items() if name not in (*FREE, "groups")}
    return json.loads(json.dumps(values | {"approach": plan.approach, "order": plan.order}))


def check_settings(folder: Path, now: Mapping[str, Any]) -> None:
    """Raises ConfigError if the run in the folder is another one."""
    from trainer.checkpoint import read_json

    file = folder / "settings.json"
    if file.exists():
        check_resume(read_json(file), now, folder, settled=now.keys())


def build_approach(plan: Plan, run: Any = None) -> Any:
    """run: what it works on; None: only to see whether its options fit."""
    from tricks.continual import build_approach

    name, options = plan.approach["name"], {key: value for key, value in plan.approach.items() if key != "name"}
    tools = {"collate": partial(batches_of, run), "divergence": partial(divergence, run), "seed": plan.seed}
    return build_approach(name, options, tools)


def batches_of(run: Run, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Samples of earlier tasks as batches: those of one head and one form together."""
    from trainer.device import to_device

    heads = {task.name: task.head for task in run.tasks}
    groups: dict[Any, list[dict[str, Any]]] = {}
    for sample in samples:
        groups.setdefault((heads[sample["task"]], *sorted(sample)), []).append(sample)
    batches = [collate_of(run, group[0]["task"]).collate(group) | {"samples": group, "share": len(group) / len(samples)}
               for group in groups.values()]  # fmt: skip
    return [to_device(batch, run.job.device) for batch in batches]


def collate_of(run: Run, name: str) -> Any:
    if name not in run.collates:
        run.collates[name] = main.build_collator(run.job, name)
    return run.collates[name]


def divergence(run: Run, head: str, logits: Any, others: Any, labels: Any) -> Any:
    return run.model.heads[head].divergence(logits, others, labels)


def learn_all(run: Run) -> None:
    """All tasks, from the first one that is not learnt."""
    learnt = max((n for n in range(1, len(run.stages) + 1) if (stage(run, n) / "learnt").is_dir()), default=0)
    run.rows[learnt + 1 :] = []
    for number in range(learnt + 1, len(run.stages) + 1):
        tidy(run, number - 1)
        learn(run, number)
    tidy(run, len(run.stages))
    write_results(run, finished=True)


def learn(run: Run, number: int) -> None:
    """Train a task, score all of them, keep what the next one starts from."""
    from trainer.checkpoint import write_json
    from trainer.run_folder import find_best, find_state

    tasks, folder = run.stages[number - 1], stage(run, number)
    state = find_state(folder, "auto")
    load(run, number, state)
    if not run.rows:
        write_json(run.folder / "settings.json", run.settings)
        write_json(run.folder / "dataset_info.json", main.figures(run.job))
        run.rows.append(row(run, 0, (), 0.0, evaluate(run, run.tasks), []))
        write_results(run)
    job = view(run, tasks, folder)
    job.folder, job.resumes = state, state is not None
    main.check_run(job)
    describe(run, number)
    folder.mkdir(parents=True, exist_ok=True)
    add_heads(run, tasks)
    in_turn = trains(run.approach) == "in turn"
    if in_turn:
        tell(run, "begin_task", tasks[0])
    clock = Clock()
    options = training(run, job, partial(save, run, learnt_until(run, number)), clock)
    main.train(job, run.model, options, partial(main.about_data, job))
    restore(run, find_best(folder))
    kept = kept_tensors(run, number)
    if in_turn:
        tell(run, "end_task", tasks[0], partial(sample_gradients, run, job))
    kept = max(kept, kept_tensors(run, number), key=num_bytes)
    seconds = clock.seconds()
    scored = tasks if trains(run.approach) == "apart" else run.tasks
    after = len(run.tasks) if len(run.stages) == 1 else number
    run.rows.append(row(run, after, tasks, seconds, evaluate(run, scored, select=True), kept))
    tell(run, "select", tasks[-1])
    logger.info("[AFTER %d/%d] %s", number, len(run.stages), scores(run))
    write_results(run)
    keep(run, number)


def load(run: Run, number: int, state: Path | None) -> None:
    """Model and approach as the task before left them, or the model from the middle of this one."""
    from trainer.checkpoint import load_tree, newest_whole

    before = None
    if number > 1 and trains(run.approach) != "apart":
        before = newest_whole(stage(run, number - 1) / "learnt")
    start = state or before
    job = replace(run.job, folder=start, resumes=start is not None, tasks=[t for t in run.job.tasks if is_text(t)])
    seed_everything(run.plan.seed)
    run.model = main.build_model(job).to(job.device)
    run.job.unpadded = job.unpadded
    run.approach = build_approach(run.plan, run)
    if state is None and before is not None and hasattr(run.approach, "load_state_dict"):
        run.approach.load_state_dict(load_tree(before / "approach.safetensors"))


def is_text(task: Mapping[str, Any]) -> bool:
    """Whether it is for a language model, which has its head from the start."""
    from model_utils.heads import head_class

    return head_class(task["kind"]).LABEL_LEVEL == "text"


def describe(run: Run, number: int) -> None:
    """Say what comes and how much data there is."""
    for task in run.stages[number - 1]:
        sizes = ", ".join(f"{count} {part}" for part, count in records(run, task).items())
        kind = spec_of(run.job, task.head)["kind"]
        logger.info("[TASK %d/%d] %s: %s records; head %s (%s), metric %s", number, len(run.stages), task.name, sizes,
                    task.head, kind, metric_of(run, task))  # fmt: skip


def scores(run: Run) -> str:
    """The newest row for the log."""
    row = run.rows[-1]["metrics"]
    return " ".join(f"{task.name}={row[task.name][metric_of(run, task)]:.4f}" for task in run.tasks if task.name in row)


def training(run: Run, job: main.Job, save: Callable[..., None], clock: "Clock") -> dict[str, Any]:
    """The Trainer's options, with the approach in its places."""
    loader = main.build_train_loader(job)
    evaluation = main.build_eval(job, "eval") if job.data.having("eval") else None
    if evaluation:
        job.monitor = main.choose_monitor(job, run.model, evaluation[1])
    options = main.training_options(job, run.model, loader, evaluation, save)
    step, approach = options["train_step"], run.approach
    if hasattr(approach, "extra_loss"):
        step.compute_loss = partial(with_extra, step.compute_loss, approach.extra_loss)
    if hasattr(approach, "before_step"):
        step.optimizer.register_step_pre_hook(lambda *_: approach.before_step(run.model, step.autocast))
    step.stateful["clock"] = clock
    if hasattr(approach, "state_dict"):
        step.stateful["approach"] = approach
    return options


def with_extra(
    compute_loss: Callable[..., Any],
    extra_loss: Callable[..., Any],
    model: Any,
    batch: Mapping[str, Any],
    num_items: Mapping[str, Any],
) -> Any:
    """The extra loss counts once per step: each micro-batch has the share of it that it has of the items."""
    output = compute_loss(model, batch, num_items)
    share = sum(model.heads[head].num_items(labels) / num_items[head] for head, labels in batch["labels"].items())
    output.loss = output.loss + share * extra_loss(model, batch, output)
    return output


class Clock:
    """Seconds of training, over restarts."""

    def __init__(self) -> None:
        self.before, self.started = 0.0, time.monotonic()

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.before, self.started = state["seconds"], time.monotonic()


def sample_gradients(run: Run, job: main.Job, samples: int) -> Iterator[None]:
    """Adds the gradient of one training sample's summed loss after the other; which ones follows from the seed."""
    import numpy as np

    from data_loader.order import shuffled
    from trainer.device import to_device

    [name] = job.data
    dataset, collate = main.build_part(job, name, "train"), collate_of(run, name)
    heads = job.options[name]["tasks"]
    run.model.to(job.device).eval()
    for number in shuffled(np.arange(min(samples, len(dataset))), len(dataset), job.args.seed, 0).tolist():
        batch = to_device(collate([dataset[number]]), job.device)
        run.model({**batch, "tasks": heads}, dict.fromkeys(heads, 1)).loss.backward()
        yield


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], continual))
