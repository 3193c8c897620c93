"""The arguments of continual.py: those of main.py that make sense there, a task list, approaches, orders, seeds.

    args, tasks = get_args(["--config", "configs/continual/jd21_5.yaml", "--approaches", "[sequential, ewc]"])
    args.tasks, args.datasets       # the heads and data sets of the tasks, as in main.py
    plans(args, tasks)              # the runs: approaches x orders x seeds
"""

import dataclasses
import difflib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import config
from config import Arguments, ConfigError, check, fits, parse_into, require

PER_TASK = (  # options of main.py that a task may have for itself, beside those of a data set
    *("epochs", "max_steps", "accumulate", "lr", "head_lr", "warmup_ratio", "warmup_steps", "patience", "eval_steps"),
)
NOT_HERE = (  # of main.py's options
    *("tasks", "datasets", "train_file", "eval_file", "test_file", "predict_file", "group_column", "folds", "fold"),
    *("streaming", "batch_tokens", "classes", "monitor", "peft", "shared_layers", "loss_weighting", "on_oom"),
    *("parallel", "save_format", "keep_states", "do_train", "do_eval", "do_predict", "resume"),
    *("use_distillation", *(f"distillation_{name}" for name in ("teacher", "alpha", "temperature"))),
)
FREE = (*config.FREE, "approaches", "orders", "seeds", "logging_steps", "save_steps", "save_minutes")


@dataclass
class SequenceArguments:
    """Sequence"""

    task_list: list[Any] = field(default_factory=list)
    """the tasks: list of names, or of {name, and whatever differs from task_defaults}"""
    task_defaults: dict[str, Any] = field(default_factory=dict)
    """what tasks have in common, {name} in a file standing for the name: kind, label_column, train_file, eval_file,
    test_file and other options on data, epochs, lr …; head (default: each its own; tasks with the same head share it),
    labels and options of the head; metric (default: the head's main one), language"""
    approaches: list[Any] = field(default_factory=lambda: ["sequential"])
    """names of files in tricks/continual, or {name, label, …options}, which may also be epochs, lr …"""
    orders: list[Any] = field(default_factory=lambda: ["listed"])
    """listed, shuffled (by the seed), or a list of task names; each is run"""
    seeds: int = 1
    """runs of each approach and order, with seeds 1 to this"""


@dataclass
class ContinualArguments(Arguments, SequenceArguments):
    GROUPS: ClassVar[Any] = (SequenceArguments, *Arguments.GROUPS)
    HIDDEN: ClassVar[Sequence[str]] = (*NOT_HERE, "seed")


@dataclass(frozen=True)
class Task:
    """One of the sequence; its data set has the same name."""

    name: str
    head: str
    metric: str | None
    """None: the head's main metric"""
    language: str | None
    options: Mapping[str, Any]
    """values of PER_TASK"""
    classes: tuple[int, ...] | None = None
    """numbers of the classes that it brings to its head; None: all"""


@dataclass(frozen=True)
class Plan:
    """One run: an approach, an order of the tasks and a seed."""

    approach: Mapping[str, Any]
    """name, and options"""
    training: Mapping[str, Any]
    """values of PER_TASK for this approach, for tasks that do not have their own"""
    label: str
    order: tuple[str, ...]
    order_name: str
    order_number: int
    seed: int

    @property
    def place(self) -> str:
        """Its folder within the output folder."""
        return f"{self.label}/order-{self.order_number}/seed-{self.seed}"


def get_args(argv: list[str] | None = None) -> tuple[ContinualArguments, list[Task]]:
    """Parse and check the arguments, whose `tasks` and `datasets` follow from the task list. Raises ConfigError."""
    args = parse_into(ContinualArguments, argv, "continual.py", "One task after the other.")
    require(bool(args.task_list), "task_list", "none given; see configs/continual/ for examples")
    entries = [merged(number, entry, args.task_defaults) for number, entry in enumerate(args.task_list)]
    names = [entry["name"] for entry in entries]
    require(len(set(names)) == len(names), "task_list", f"names must differ, found {names}")
    heads: dict[str, dict[str, Any]] = {}
    sequence, args.datasets = [], []
    for number, entry in enumerate(entries):
        task, head, data_set = parts(f"task_list[{number}]", entry)
        before = heads.setdefault(task.head, head)
        same = config_of(before) == config_of(head)
        require(same, f"task_list[{number}]", f"has another kind or other options of the head {task.head} than before")
        sequence.append(task)
        args.datasets.append(data_set)
    args.tasks = list(heads.values())
    args.do_train = args.do_eval = True
    require(args.seeds >= 1, "seeds", "must be at least 1")
    check(args)
    for entry in args.datasets:
        require(bool(entry.get("train_file")), "task_list", f"{entry['name']}: train_file: none given")
    plans(args, sequence)
    return args, sequence


def merged(number: int, entry: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A task with what it inherits."""
    own = {"name": entry} if isinstance(entry, str) else entry
    where = f"task_list[{number}]"
    named = isinstance(own, dict) and isinstance(own.get("name"), str) and re.fullmatch(r"\w+", own["name"])
    require(bool(named), where, "must be a name (letters, digits and _ only), or have one")
    task = {"head": own["name"], **defaults, **own}
    files = {key: value.replace("{name}", own["name"]) for key, value in task.items()
             if key.endswith("_file") and isinstance(value, str)}  # fmt: skip
    return task | files


def parts(where: str, entry: Mapping[str, Any]) -> tuple[Task, dict[str, Any], dict[str, Any]]:
    """The task, its head as one of `tasks`, and its data set as one of `datasets`."""
    for key in ("kind", "label_column", "head"):
        require(isinstance(entry.get(key), str) and bool(entry[key]), where, f"needs {key}, a text")
    for key in ("metric", "language"):
        require(isinstance(entry.get(key, ""), str), where, f"{key}: {entry.get(key)!r} is no text")
    options = {key: entry[key] for key in PER_TASK if key in entry}
    check_values(where, options)
    of_data = {key: entry[key] for key in config.DATA_SET if key in entry}
    known = {"name", "head", "metric", "language", "kind", "label_column", *options, *of_data}
    of_head = {key: value for key, value in entry.items() if key not in known}
    check_options_of_head(where, entry["kind"], of_head)
    task = Task(entry["name"], entry["head"], entry.get("metric"), entry.get("language"), options)
    head = {"name": entry["head"], "kind": entry["kind"], "label_column": entry["label_column"], **of_head}
    columns = {entry["head"]: entry["label_column"]}
    return task, head, {"name": entry["name"], "tasks": [entry["head"]], "label_columns": columns, **of_data}


def check_options_of_head(where: str, kind: str, options: Mapping[str, Any]) -> None:
    """What the head itself refuses is refused when it is made; here a typo in the name of another option."""
    for key in options:
        close = difflib.get_close_matches(key, (*PER_TASK, *config.DATA_SET, "metric", "language"), n=1, cutoff=0.8)
        require(not close, where, f"{key}: unknown option; did you mean {close[0] if close else ''}?")
    balanced = options.get("class_weights") == "balanced"
    require(not balanced, where, "class_weights: the counts of later tasks are not known; give label -> weight")


def config_of(head: Mapping[str, Any]) -> dict[str, Any]:
    """What tasks that share a head must agree in."""
    return {key: value for key, value in head.items() if key != "label_column"}


def plans(args: ContinualArguments, sequence: Sequence[Task]) -> list[Plan]:
    """All runs, approaches in turn. Raises ConfigError."""
    entries = [approach(number, entry) for number, entry in enumerate(args.approaches)]
    require(bool(entries), "approaches", "none given")
    labels = [label for label, *_ in entries]
    require(len(set(labels)) == len(labels), "approaches", f"labels must differ, found {labels}")
    require(bool(args.orders), "orders", "none given; for example [listed]")
    names = [task.name for task in sequence]
    return [
        Plan(entry, training, label, tuple(tasks), kind, number, seed)
        for seed in range(1, args.seeds + 1)
        for number, order in enumerate(args.orders, 1)
        for kind, tasks in [ordered(number, order, names, seed)]
        for label, entry, training in entries
    ]


def approach(number: int, entry: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The label, the approach with its options, and those of training."""
    from tricks.continual import approach_names

    where, known = f"approaches[{number}]", approach_names()
    given = {"name": entry} if isinstance(entry, str) else entry
    require(isinstance(given, dict) and isinstance(given.get("name"), str), where, "must be a name, or have one")
    close = difflib.get_close_matches(given["name"], known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    require(given["name"] in known, where, f"no approach {given['name']!r}; {hint}")
    options = {key: value for key, value in given.items() if key != "label"}
    described = [re.sub(r"[^\w.=+, -]", "", f"{key}={value}") for key, value in options.items() if key != "name"]
    label = str(given.get("label", " ".join([given["name"], *described])))
    plain = re.fullmatch(r"[\w.=+, -]+", label) is not None
    require(plain, where, f"give a label of letters and digits, not {label!r}")
    training = {key: value for key, value in options.items() if key in PER_TASK}
    check_values(where, training)
    return label, {key: value for key, value in options.items() if key not in training}, training


def check_values(where: str, options: Mapping[str, Any]) -> None:
    """Of the types that main.py's options have."""
    types = {f.name: f.type for f in dataclasses.fields(Arguments)}
    for key, value in options.items():
        require(fits(value, types[key]), where, f"{key}: {value!r} is no value of --{key}")


def ordered(number: int, order: Any, names: Sequence[str], seed: int) -> tuple[str, list[str]]:
    """What the order is called, and the names in this order."""
    if order == "listed":
        return "listed", list(names)
    if order == "shuffled":
        return f"shuffled-{seed}", random.Random(seed).sample(names, len(names))
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(names):
        right = f"must be listed, shuffled, or a list of all names: {', '.join(names)}"
        raise ConfigError(f"arguments: orders[{number - 1}]: {right}")
    return f"given-{number}", order
