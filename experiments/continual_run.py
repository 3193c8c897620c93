"""A run of continual.py: the job of some of its tasks, heads on demand, scores, and what lies in its folder.

    run = Run(plan, job, tasks, folder, tokenizer, rows=[])
    job = view(run, [task], folder)             # as main.py would have it for this task alone
    add_heads(run, [task])
    metrics = evaluate(run, run.tasks)          # name of a task -> its metrics
    keep(run, number)                           # tasks/1-liquor/learnt
"""

import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import main
from config import ConfigError

from .task_list import Plan, Task

OWN = ("encoder", "shared_layers", "heads", "uncertainty")  # modules of a model that approaches did not add
ADDED = "added.safetensors"


@dataclass
class Run:
    """What the functions below share, of one run."""

    plan: Plan
    job: main.Job
    """of all tasks together"""
    tasks: list[Task]
    """in the order of training"""
    folder: Path
    tokenizer: Mapping[str, bytes]
    """its files"""
    rows: list[dict[str, Any]]
    """scores of the tasks before the first and after each"""
    approach: Any = None
    model: Any = None
    settings: dict[str, Any] = field(default_factory=dict)
    """what may not differ when it goes on"""
    collates: dict[str, Any] = field(default_factory=dict)
    """name of a task -> features to batch"""

    @property
    def stages(self) -> list[list[Task]]:
        """What is learnt at once, in turn."""
        return [self.tasks] if trains(self.approach) == "together" else [[task] for task in self.tasks]


def trains(approach: Any) -> str:
    return getattr(approach, "TRAINS", "in turn")


def tell(run: Run, event: str, *arguments: Any) -> None:
    """Call a member of the approach, if it has it. Raises ConfigError if the model is none for it."""
    try:
        getattr(run.approach, event, lambda *_: None)(run.model, *arguments)
    except ValueError as error:
        raise ConfigError(f"arguments: approaches: {error}") from error


def stage(run: Run, number: int) -> Path:
    """The folder of a task, or of all where they are learnt at once; numbers count from 1."""
    tasks = run.stages[number - 1]
    width = len(str(len(run.stages)))
    return run.folder / "tasks" / f"{number:0{width}}-{tasks[0].name if len(tasks) == 1 else 'all'}"


def learnt_until(run: Run, number: int) -> list[Task]:
    first = number - 1 if trains(run.approach) == "apart" else 0
    return [task for tasks in run.stages[first:number] for task in tasks]


def view(run: Run, tasks: Sequence[Task], folder: Path) -> main.Job:
    """The job of some tasks alone, with the options of an only one."""
    from data_process.data_sets import DataSets

    names = [task.name for task in tasks]
    only = tasks[0] if len(tasks) == 1 else None
    own: dict[str, Any] = {"output_dir": str(folder), "monitor": monitor(run, tasks)}
    if only:
        own |= {**only.options, "batch_size": run.job.options[only.name]["batch_size"]}
    job = replace(
        run.job, args=replace(run.job.args, **own), given=run.job.given | own,
        data=DataSets({name: run.job.data[name] for name in names}),
        options={name: run.job.options[name] for name in names}, callbacks=[],
    )  # fmt: skip
    job.given["groups"] = main.length_groups(job)
    return job


def monitor(run: Run, tasks: Sequence[Task]) -> str:
    """The metric that chooses the best state: that of the tasks if they share a head, else the sum of the losses."""
    heads = {task.head for task in tasks}
    return f"{tasks[0].head}/{metric_of(run, tasks[0])}" if len(heads) == 1 else "loss"


def metric_of(run: Run, task: Task) -> str:
    from model_utils.heads import head_class

    return task.metric or head_class(spec_of(run.job, task.head)["kind"]).MONITOR


def spec_of(job: main.Job, head: str) -> dict[str, Any]:
    """The head's description among `tasks`, without the column."""
    [spec] = [task for task in job.tasks if task["name"] == head]
    return main.without(spec, "label_column")


def add_heads(run: Run, tasks: Sequence[Task]) -> list[str]:
    """Those that the model lacks; returns their names. Their weights follow from the seed and the name."""
    missing = [head for head in dict.fromkeys(task.head for task in tasks) if head not in run.model.heads]
    for head in missing:
        run.model.add_head(spec_of(run.job, head), run.plan.seed)
    return missing


@contextmanager
def all_heads(run: Run) -> Iterator[None]:
    """For a while the model has the heads of later tasks, as they will be when these begin."""
    added = add_heads(run, run.tasks)
    try:
        yield
    finally:
        for head in added:
            del run.model.heads[head], run.model.loss_weights[head]


def evaluate(run: Run, tasks: Sequence[Task], select: bool = False) -> dict[str, dict[str, float]]:
    """Name of a task -> its metrics on its test data (evaluation data where there is none).

    select: the approach puts in what belongs to each task.
    """
    found = {}
    with all_heads(run):
        for task in tasks:
            if select:
                tell(run, "select", task)
            job = view(run, [task], run.folder)
            loader, references = main.build_eval(job, scored_part(job))
            metrics = main.build_trainer(job, run.model).eval(loader, references)
            own = f"{task.head}/"
            found[task.name] = {name.removeprefix(own): v for name, v in metrics.items() if name.startswith(own)}
    return found


def scored_part(job: main.Job) -> str:
    return "test" if job.data.having("test") else "eval"


def check_metrics(run: Run) -> None:
    """Raises MonitorError for a metric that an evaluation does not give, before anything is trained."""
    from model_utils.multitask_model import head_of
    from trainer.early_stopping import choose_monitor
    from trainer.metrics import joint_metrics

    for task in run.tasks:
        job = view(run, [task], run.folder)
        heads = {task.head: head_of(spec_of(job, task.head), hidden_size=8)}
        part = scored_part(job)
        gold = job.data.references(part, heads)(job.data.first_ids(part, 64))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a few records may be too alike for some metric
            choose_monitor(job.args.monitor, heads, joint_metrics(heads, job.data.perfect(gold), gold))


def records(run: Run, task: Task) -> dict[str, int]:
    data = run.job.data[task.name]
    return {part: len(data.numbers(part)) for part in data.sources}


def row(
    run: Run, after: int, tasks: Sequence[Task], seconds: float, metrics: Mapping[str, Any], kept: Sequence[Any]
) -> dict[str, Any]:
    """One of `rows`: scores after so many tasks, how long the last took, and what is kept beside the model."""
    weights = list(run.model.parameters())
    return {
        "after": after,
        "task": tasks[0].name if len(tasks) == 1 else None,
        "seconds": seconds,
        "metrics": metrics,
        "parameters": {"model": sum(w.numel() for w in weights), "kept": sum(t.numel() for t in kept),
                       "trained": sum(w.numel() for w in weights if w.requires_grad)},
        "bytes_kept": num_bytes(kept),
    }  # fmt: skip


def kept_tensors(run: Run, number: int) -> list[Any]:
    """What the approach keeps beside the model; of separate models all but one."""
    if trains(run.approach) == "apart":
        return list(run.model.parameters()) * (number - 1)
    return list(tensors(run.approach.state_dict() if hasattr(run.approach, "state_dict") else {}))


def num_bytes(found: Sequence[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in found)


def tensors(tree: Any) -> Iterator[Any]:
    """Those in nested dicts and lists."""
    if hasattr(tree, "element_size"):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors(branch)


def write_results(run: Run, finished: bool = False) -> None:
    """results.json, whole or not at all."""
    from model_utils.heads import head_class
    from trainer.checkpoint import write_json

    def about(task: Task) -> dict[str, Any]:
        kind, metric = spec_of(run.job, task.head)["kind"], metric_of(run, task)
        lower = metric == "loss" or metric in head_class(kind).LOWER_IS_BETTER
        return {"head": task.head, "kind": kind, "metric": metric, "lower_is_better": lower,
                "language": task.language, "records": records(run, task)}  # fmt: skip

    plan = run.plan
    write_json(run.folder / "results.json", {
        "approach": {"name": plan.approach["name"], "label": plan.label, "trains": trains(run.approach),
                     "options": {**main.without(dict(plan.approach), "name"), **plan.training}},
        "order": plan.order, "order_name": plan.order_name, "seed": plan.seed,
        "tasks": {task.name: about(task) for task in run.tasks},
        "rows": run.rows,
        **{name: run.rows[-1][name] for name in ("parameters", "bytes_kept")},
        "finished": finished,
    })  # fmt: skip


def save(run: Run, learnt: Sequence[Task], folder: Path, weights: Mapping[str, Any]) -> None:
    """A folder that predicts by itself, for the tasks learnt so far; what the approach added is a file beside."""
    from safetensors.torch import save_file

    heads = {task.head for task in learnt}
    job = replace(run.job, tasks=[task for task in run.job.tasks if task["name"] in heads],
                  options={task.name: run.job.options[task.name] for task in learnt})  # fmt: skip
    added = {name: value for name, value in weights.items() if name.split(".")[0] not in OWN}
    plain = {name: value for name, value in weights.items() if name not in added}
    main.save_pretrained(job, run.model, run.tokenizer, folder, plain)
    if added:
        save_file(added, folder / ADDED)


def restore(run: Run, folder: Path) -> None:
    """The weights of a saved state, in the model as it is."""
    from safetensors.torch import load_file

    from model_utils.build import saved_model

    saved = saved_model(folder, run.job.args.trust_remote_code)
    added = load_file(folder / ADDED) if (folder / ADDED).exists() else {}
    run.model.load_state_dict(saved.state_dict() | added)


def keep(run: Run, number: int) -> None:
    """learnt/, whole or not there."""
    from model_utils.adapters import saved_weights
    from trainer.checkpoint import save_tree, write_folder

    def write(folder: Path) -> None:
        save(run, learnt_until(run, number), folder, {k: v.detach().cpu() for k, v in saved_weights(run.model).items()})
        if hasattr(run.approach, "state_dict"):
            save_tree(folder / "approach.safetensors", run.approach.state_dict())

    write_folder(stage(run, number) / "learnt", write, keep_previous=False)


def tidy(run: Run, number: int) -> None:
    """Delete the weights that nothing starts from any more, when a task is learnt."""
    for name in ("last", "last.previous", "best") if number else ():
        shutil.rmtree(stage(run, number) / name, ignore_errors=True)
    for before in range(1, number if trains(run.approach) != "apart" else 0):
        shutil.rmtree(stage(run, before) / "learnt", ignore_errors=True)
