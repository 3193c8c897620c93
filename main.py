"""One job: arguments -> logger -> data -> model -> optimizer -> tricks -> Trainer -> train, eval, predict.

    python main.py --config configs/sample_joint.yaml [--lr 3e-4 …]

The rooms never import each other; this file introduces them. Heavy libraries are imported when the arguments have been
checked, so that --help and mistakes answer at once.
"""

import errno
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from config import (
    LOOK_UP_TRICKS,
    Arguments,
    ConfigError,
    check_resume,
    chosen_tricks,
    data_sets,
    get_args,
    require,
    seed_everything,
    to_yaml,
)
from logging_config import setup_logging

logger = logging.getLogger("main")
# how a data set is read
COLUMNS = ("text_column", "text_pair_column", "choices_column", "prompt", "group_column", "classes", "tag_scheme")


@dataclass
class Job:
    """What the build_* functions share."""

    args: Any
    """Arguments, or those of another script that trains"""
    given: dict[str, Any]
    """the arguments as given; `args` has some settled"""
    rank: int
    world_size: int
    device: Any
    precision: str
    folder: Path | None = None
    """a saved model to start from; None: the encoder args.model_name_or_path"""
    resumes: bool = False
    """whether training goes on from the state in `folder`"""
    tasks: list[dict[str, Any]] = field(default_factory=list)
    data: Any = None
    """DataSets: name -> Data"""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """name of a data set -> its options, see config.data_sets"""
    tokenizer: Any = None
    causal: bool = False
    """whether the model generates by going on with its own input"""
    unpadded: bool = False
    """whether the encoder works on real sub-words alone"""
    monitor: tuple[str, bool] = ("", False)
    """the metric that chooses the best state, and whether lower is better"""
    collators: Callable[[Any, str], Any] = lambda collate, name: collate
    """(collate, name of the data set) -> what makes its batches"""
    callbacks: list[Any] = field(default_factory=list)
    """callbacks of the trainer beside its own, see trainer/monitor.py"""


def start_job(args: Any) -> Job:
    """Settle ranks, device and precision. Writes nothing."""
    from trainer import distributed
    from trainer.device import pick_device, pick_precision

    rank, local_rank, world_size = distributed.start(pick_device(args.device).type)
    setup_logging(rank=rank)
    device = pick_device(args.device, local_rank)
    return Job(args, asdict(args), rank, world_size, device, pick_precision(args.precision, device))


def build_job(args: Arguments) -> Job:
    """That, the folder to start from, and the tasks."""
    from model_utils.encoder import locate

    job = start_job(args)
    args.model_name_or_path = locate(args.model_name_or_path)
    job.folder, job.resumes = starting_folder(args)
    job.tasks = args.tasks if job.folder is None else saved_tasks(job.folder, args)
    return job


def starting_folder(args: Arguments) -> tuple[Path | None, bool]:
    """A saved model to start from, if any, and whether it is a state that training goes on from."""
    from trainer.run_folder import find_best, find_state

    state = find_state(args.output_dir, args.resume) if args.do_train else None
    if state is not None:
        return state, True
    if Path(args.model_name_or_path, "labels.json").is_file():
        return Path(args.model_name_or_path), False
    return (None if args.do_train or args.check else find_best(args.output_dir)), False


def saved_tasks(folder: Path, args: Arguments) -> list[dict[str, Any]]:
    """The tasks of a saved model; what it was trained to read goes into the arguments."""
    from trainer.checkpoint import read_json

    config, labels = read_json(folder / "config.json"), read_json(folder / "labels.json")
    saved = {entry["name"]: entry for entry in config["datasets"]}
    tasks = [task | {"label_column": config["label_columns"][task["name"]]} for task in config["tasks"]]
    if args.tasks and [{"loss_weight": 1.0} | without(task, "labels") for task in args.tasks] != tasks:
        right = f"leave them out, or start anew from {folder / 'encoder'}"
        raise ConfigError(f"arguments: tasks: differ from those of {folder}; {right}")
    if unknown := [entry["name"] for entry in args.datasets if entry["name"] not in saved]:
        known = ", ".join(saved)
        raise ConfigError(f"arguments: datasets: {folder} knows no data set {unknown[0]!r}; it has {known}")
    if not args.datasets and len(saved) > 1:
        right = f"give --datasets '[{{name: {next(iter(saved))}, predict_file: …}}]'"
        raise ConfigError(f"arguments: datasets: {folder} has {', '.join(saved)}; {right}")
    args.datasets = [entry | saved[entry["name"]] for entry in args.datasets or saved.values()]
    for name in ("max_length", "stride", "max_target_length"):
        setattr(args, name, config[name])
    return [task | {"labels": labels[task["name"]]} for task in tasks]


def build_data(job: Job) -> None:
    """Check all files, settle splits, labels and tokenizer."""
    from data_process import build
    from data_process.data_sets import DataSets
    from data_process.parts import SplitPlan
    from data_process.schema import LabelColumn
    from model_utils.heads import gold_optional, head_class

    args = job.args
    levels = {task["name"]: head_class(task["kind"]).LABEL_LEVEL for task in job.tasks}
    optional = {task["name"] for task in job.tasks if gold_optional(task["kind"], head_options(task))}
    job.data = DataSets()
    for options in data_sets(args, job.tasks):
        files, shares = files_of(args, options)
        if files:
            labels = [LabelColumn(t, options["label_columns"][t], levels[t], t in optional) for t in options["tasks"]]
            job.options[options["name"]] = options
            job.data[options["name"]] = build.read_data(
                files, labels, **{name: options[name] for name in COLUMNS}, on_bad_record=options["on_bad_record"],
                plan=SplitPlan(shares, args.seed, args.folds, args.fold, options["few_shot"], options["train_samples"]),
                cache_dir=args.cache_dir, limit=64 if args.debug else None,
            )  # fmt: skip
    data = list(job.data.values())
    build.settle_labels(data, job.tasks)
    scratch = job.folder is None and args.model_name_or_path.startswith("scratch:")
    path = str(job.folder or args.model_name_or_path)
    if scratch and not job.data.having("train"):
        raise ConfigError(f"arguments: train_file: {build.NEEDED}")
    extra_tokens = () if job.folder else args.extra_tokens
    job.tokenizer = build.build_tokenizer(
        data, None if scratch else path, args.scratch_vocab_size, extra_tokens, args.trust_remote_code
    )
    if "text" in levels.values():
        from model_utils.language_model import is_causal

        job.causal = is_causal(path, args.trust_remote_code)
    for part in data:
        part.set_encoder(job.tokenizer, args.max_length, args.stride, args.max_target_length, job.causal)
    job.given["groups"] = length_groups(job)


def files_of(args: Arguments, options: dict[str, Any]) -> tuple[dict[str, str], dict[str, float]]:
    """The files of a data set that this run reads, and the shares that are split off its training file."""
    scored = args.do_train or args.do_eval or args.check
    shares = {p: options[f"{p}_ratio"] for p in ("eval", "test") if scored and not options[f"{p}_file"]}
    shares = {part: share for part, share in shares.items() if share and options["train_file"]}
    split = bool(shares or args.folds) and scored
    used = {"train": args.do_train or args.check or split, "eval": scored, "test": scored, "predict": args.do_predict}
    files = {part: options[f"{part}_file"] for part, needed in used.items() if needed and options[f"{part}_file"]}
    return files, shares


def head_options(task: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in task.items() if k not in ("name", "kind", "label_column", "labels", "loss_weight")}


def check_run(job: Job) -> None:
    """Add the data's checksums to the arguments that are saved; on resume, refuse what would make it another run."""
    from trainer.checkpoint import read_json

    sums = {f"{part}_data": job.data.checksums(part) for part in ("train", "eval")}
    job.given |= {name: value for name, value in sums.items() if value}
    if job.resumes and job.folder:
        saved = read_json(job.folder / "trainer_state.json").get("arguments", {})
        job.given["groups"] = saved.get("groups", {})  # the order stays, also with other batches or more processes
        for change in check_resume(saved, job.given, job.folder):
            logger.warning("going on with another value: %s", change)


def build_model(job: Job) -> Any:
    """The saved model, or a new one."""
    from model_utils.adapters import add_adapters
    from model_utils.build import new_model, saved_model
    from model_utils.encoder import freeze
    from tricks.reinit import reinit_layers

    args = job.args
    if job.folder is not None:
        model = saved_model(job.folder, args.trust_remote_code)
    else:
        weighed = [task["name"] for task in job.tasks if task.get("class_weights") == "balanced"]
        model = new_model(
            args.model_name_or_path, [without(task, "label_column") for task in job.tasks], job.tokenizer,
            args.max_length, max_target_length=args.max_target_length, shared_layers=args.shared_layers,
            uncertainty=args.loss_weighting == "uncertainty", label_counts=job.data.label_counts("train", weighed),
            trust_remote_code=args.trust_remote_code,
        )  # fmt: skip
        if args.use_reinit:
            reinit_layers(model.encoder, args.reinit_layers)
    add_adapters(model.encoder, {} if job.resumes else args.peft)
    freeze(model.encoder, args.freeze_layers)
    job.unpadded = leave_out_padding(job, model)
    return model


def leave_out_padding(job: Job, model: Any) -> bool:
    """Whether the encoder works on real sub-words alone from now on: if it can, and that is wanted."""
    from model_utils.model_error import ModelError
    from model_utils.unpadded_encoder import use_unpadding

    wanted = job.args.unpad
    if wanted is None:
        clashes = job.args.compile or {*chosen_tricks(job.args)} & {*LOOK_UP_TRICKS}
        wanted = job.device.type == "cpu" and not clashes
    try:
        if wanted:
            use_unpadding(model.encoder)
    except ModelError:
        if job.args.unpad:
            raise
        return False
    return wanted


def build_train_loader(job: Job) -> Any:
    """(epoch, samples_seen) -> micro-batches: of one data set, or of several in turn."""
    from data_loader import build

    args = job.args
    names = job.data.having("train")
    options = {"seed": args.seed, "rank": job.rank, "world_size": job.world_size, "num_workers": args.num_workers,
               "pin_memory": job.device.type == "cuda"}  # fmt: skip
    batch_sizes = [job.options[name]["batch_size"] for name in names]
    orders = [build_order(job, name) for name in names]
    if args.streaming:
        return build_stream(job, names[0], batch_size=batch_sizes[0], order=orders[0], **options)
    datasets = [build_part(job, name, "train") for name in names]
    collators = [build_collator(job, name) for name in names]
    if args.batch_tokens:
        lengths, num_inputs = job.data[names[0]].input_sizes("train")
        return build.token_loader(datasets[0], collators[0], lengths=lengths, num_inputs=num_inputs,
                                  batch_tokens=args.batch_tokens, **options)  # fmt: skip
    if len(names) == 1:
        return build.map_loader(datasets[0], collators[0], batch_size=batch_sizes[0], order=orders[0], **options)
    return build.mixed_loader(datasets, collators, batch_sizes=batch_sizes, mixing=args.mixing, orders=orders,
                              temperature=args.mixing_temperature, epochs=args.epochs, **options)  # fmt: skip


def build_order(job: Job, name: str) -> Any:
    """Which record comes when."""
    from data_loader.class_balance import BalancedOrder
    from data_loader.length_groups import GroupedByLength
    from data_loader.order import shuffled

    data, power = job.data[name], job.args.balanced_sampling
    order = BalancedOrder(data.classes("train"), power) if power else shuffled
    group = job.given["groups"].get(name)
    return GroupedByLength(data.lengths("train"), group, order=order) if group else order


def length_groups(job: Job) -> dict[str, int]:
    """Name of a data set -> records of about the same length that come together; 0 = they come in any order."""
    args = job.args
    names = job.data.having("train")
    step = args.accumulate * job.world_size if len(names) == 1 else 1  # several take turns: a micro-batch is of one
    return {name: job.options[name]["batch_size"] * step * args.group_by_length for name in names}


def build_stream(job: Job, name: str, **options: Any) -> Any:
    """The same from a file that is read and encoded on the fly."""
    from data_loader import build
    from data_process.feature_cache import content_hash
    from data_process.readers import parse_jsonl_line, parse_text_line

    data = job.data[name]
    source = data.sources["train"]
    lines = Path(job.args.cache_dir, f"{Path(source).stem}-{content_hash(source)}.lines")
    parse = partial(parse_text_line if source.endswith(".txt") else parse_jsonl_line, where=source)
    return build.stream_loader(source, build.build_line_index(source, lines), parse=parse, encode=data.encode,
                               collate=build_collator(job, name), indices=data.numbers("train"), **options)  # fmt: skip


def build_part(job: Job, name: str, part: str, first_id: int = 0) -> Any:
    from data_loader.map_dataset import MapDataset
    from data_process.arrow_rows import ArrowRows

    rows = ArrowRows(job.data[name].rows(part), leave_out=["record"])
    return MapDataset(rows.__getitems__, len(rows), job.data[name].indices.get(part), first_id)


def build_eval(job: Job, part: str) -> tuple[Any, Any]:
    """Batches of a part of all data sets, one after the other, and the function sample ids -> gold labels."""
    from data_loader import build
    from data_loader.order import longest_first

    ranges = job.data.ranges(part)
    loaders = [
        build.eval_loader(build_part(job, name, part, ids.start), build_collator(job, name), rank=job.rank,
                          batch_size=job.options[name]["eval_batch_size"], world_size=job.world_size,
                          order=longest_first(job.data[name].lengths(part)), num_workers=job.args.num_workers)
        for name, ids in ranges.items()
    ]  # fmt: skip
    batches = build.Chained(loaders, [job.options[name]["tasks"] for name in ranges])
    return batches, job.data.references(part, [task["name"] for task in job.tasks])


def build_collator(job: Job, name: str) -> Any:
    from data_loader.collate import Collator

    levels = {label.task: label.level for label in job.data[name].schema.labels}
    collate = Collator(job.tokenizer.pad_token_id, levels, padding_side="left" if job.causal else "right",
                       real_places=job.unpadded and job.device.type != "cpu")  # fmt: skip
    return job.collators(collate, name)


def build_trainer(job: Job, model: Any, **options: Any) -> Any:
    """A Trainer; without `options` it can only evaluate and predict."""
    from trainer.metrics import joint_metrics, load_metric
    from trainer.trainer import Trainer

    metric_function = partial(joint_metrics, model.heads, own_metrics=[load_metric(n) for n in job.args.metrics])
    return Trainer(model, device=job.device, precision=job.precision, metric_function=metric_function, **options)


def build_training(job: Job, model: Any) -> dict[str, Any]:
    """The Trainer's options for training: see `training_options`."""
    from huggingface_hands_on.describe_model import card_of

    loader = build_train_loader(job)
    evaluation = build_eval(job, "eval") if job.data.having("eval") else None
    if evaluation:
        job.monitor = choose_monitor(job, model, evaluation[1])
    return training_options(job, model, loader, evaluation, partial(save_pretrained, job, model, tokenizer_files(job)),
                            describe=card_of(job), tasks_vary=len(job.data.having("train")) > 1,
                            teacher=build_teacher(job))  # fmt: skip


def training_options(
    job: Job,
    model: Any,
    train_loader: Any,
    evaluation: tuple[Any, Any] | None,
    save: Callable[[Path, Mapping[str, Any]], None],
    *,
    describe: Callable[[Mapping[str, Any]], str] | None = None,
    tasks_vary: bool = False,
    teacher: Any = None,
) -> dict[str, Any]:
    """Data, step with optimizer and tricks, schedule, early stopping.

    Args:
        evaluation: batches, and the function sample ids -> task -> gold labels; job.monitor says what is best.
        save: (folder, weights) -> None; writes the model, perhaps in another thread while training goes on.
        describe: metrics of the best state -> the model card in best/.
        tasks_vary: batches may lack tasks.
    """
    from model_utils.adapters import saved_weights
    from model_utils.loss_weights import follow_losses
    from model_utils.optim import EvalSchedule
    from trainer.early_stopping import EarlyStopping
    from trainer.nonfinite import NonfinitePolicy
    from trainer.run_folder import RunFolder
    from trainer.step import TrainStep
    from tricks.build import build_tricks

    args = job.args
    steps_per_epoch = -(-len(train_loader(0, 0)) // args.accumulate)
    total_steps = min(args.epochs * steps_per_epoch or sys.maxsize, args.max_steps or sys.maxsize)
    options: dict[str, Any] = {
        "train_loader": train_loader, "steps_per_epoch": steps_per_epoch, "epochs": args.epochs or sys.maxsize,
        "max_steps": args.max_steps, "accumulate": args.accumulate, "eval_steps": args.eval_steps,
        "save_steps": args.save_steps, "save_minutes": args.save_minutes, "logging_steps": args.logging_steps,
        "nonfinite": NonfinitePolicy(args.nonfinite, args.nonfinite_limit), "callbacks": [*job.callbacks],
        "run_folder": RunFolder(args.output_dir, save, partial(saved_weights, model), job.given, args.keep_states,
                                args.async_save, args.save_format == "sharded", describe),
    }  # fmt: skip
    if evaluation:
        batches, references = evaluation
        early_stopping = EarlyStopping(job.monitor[0], args.patience, job.monitor[1])
        options |= {"eval_loader": batches, "references": references, "early_stopping": early_stopping}
    place_model(job, model)
    optimizer, scheduler = build_optimizer(job, model, total_steps)
    if args.loss_weighting == "dynamic":
        options["callbacks"].append(partial(follow_losses, model))
    if isinstance(scheduler, EvalSchedule):
        options["callbacks"].append(partial(scheduler.follow, job.monitor[0]))
    used = build_tricks(model, optimizer, chosen_tricks(args), total_steps=total_steps, seed=args.seed, teacher=teacher)
    options["train_step"] = TrainStep(
        model, optimizer, scheduler, device=job.device, precision=job.precision, max_grad_norm=args.max_grad_norm,
        on_oom=args.on_oom, tasks_vary=tasks_vary or args.use_gradual_unfreezing, padded=not job.unpadded,
        peak_tflops=args.peak_tflops, **used.places,
    )  # fmt: skip
    used.begin(() if job.resumes else gradients(options["train_step"], train_loader))
    optimizer.zero_grad()
    size = f"up to {args.batch_tokens} sub-words" if args.batch_tokens else f"{args.batch_size} records"
    logger.info("%d steps of %d x %d x %s on %s in %s; %s", total_steps, job.world_size, args.accumulate, size,
                job.device, job.precision, ", ".join(choices(args, model, optimizer)))  # fmt: skip
    return options


def place_model(job: Job, model: Any) -> None:
    """To the device, with what makes its layers smaller, faster, or spreads them over the processes."""
    from model_utils.encoder import checkpoint_activations
    from trainer.compile import compile_layers
    from trainer.sharding import shard

    args = job.args
    model.to(job.device)
    if args.activation_checkpointing:
        checkpoint_activations(model.encoder)
    if args.compile:
        logger.info("%d layers are compiled when they are first used", compile_layers(model, job.device))
    elif job.device.type == "cpu":  # they would cut each graph in ten
        use_cpu_kernels(model)
    if args.parallel == "fsdp" and job.world_size > 1:
        right = "give --precision bf16 or fp32, or --parallel ddp"
        require(job.precision != "fp16", "parallel", f"fsdp does not go with the fp16 of this device; {right}")
        # autocast of a CPU leaves norms in the type of their weights, and fails where inputs are of another
        shard(model, job.device, "fp32" if job.device.type == "cpu" else job.precision)


def build_optimizer(job: Job, model: Any, total_steps: int) -> tuple[Any, Any]:
    """And the schedule of its learning rates."""
    from model_utils import optim

    args = job.args
    optimizer = optim.build_optimizer(model, args.lr, args.head_lr, args.weight_decay, args.layer_decay, args.optimizer)
    warmup_steps = args.warmup_steps or round(args.warmup_ratio * total_steps)
    scheduler = optim.build_scheduler(
        args.lr_scheduler, optimizer, warmup_steps, total_steps, args.lr_scheduler_options, job.monitor[1]
    )
    return optimizer, scheduler


def choices(args: Any, model: Any, optimizer: Any) -> list[str]:
    """What decides how fast the steps are, by default or because it was asked for; for the log."""
    fused = "fused " if optimizer.defaults.get("fused") else ""
    saved = "states saved while training goes on" if args.async_save else "states saved between steps"
    attention = model.encoder.config._attn_implementation
    return [f"attention {attention}", f"{fused}{args.optimizer}", *["compiled layers"] * args.compile, saved]


def use_cpu_kernels(model: Any) -> None:
    """Attention and dropout for training on a CPU."""
    from model_utils.cpu_attention import use_cpu_attention
    from model_utils.cpu_dropout import use_cpu_dropout

    use_cpu_attention(model.encoder)
    use_cpu_dropout(model)


def gradients(train_step: Any, train_loader: Any) -> Iterator[None]:
    """Adds the gradient of each micro-batch of the first epoch, one after the other."""
    train_step.model.train()
    for batch in train_loader(0, 0):
        train_step.gradient([batch])
        yield


def build_teacher(job: Job) -> Any:
    """The trained model that this one learns from, if any."""
    from transformers import AutoTokenizer

    from model_utils.build import saved_model

    folder = job.args.distillation_teacher
    if not job.args.use_distillation or folder is None:
        return None
    teacher = saved_model(folder, job.args.trust_remote_code).to(job.device)
    leave_out_padding(job, teacher)
    labels = {task: head.spec["labels"] for task, head in teacher.heads.items()}
    if other := [task["name"] for task in job.tasks if labels.get(task["name"]) != list(task["labels"])]:
        raise ConfigError(f"arguments: distillation_teacher: {folder} does not have the labels of task {other[0]}")
    if AutoTokenizer.from_pretrained(folder).get_vocab() != job.tokenizer.get_vocab():
        right = "train this model with --model_name_or_path of the same vocabulary"
        raise ConfigError(f"arguments: distillation_teacher: {folder} has another tokenizer; {right}")
    return teacher


def choose_monitor(job: Job, model: Any, references: Any) -> tuple[str, bool]:
    """The metric that chooses the best state, among those that an evaluation of some records of each data set gives."""
    from trainer import early_stopping

    gold = references(job.data.first_ids("eval", 64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few records may be too alike for some metric
        known = build_trainer(job, model).metric_function(job.data.perfect(gold), gold)
    return early_stopping.choose_monitor(job.args.monitor, model.heads, known)


def save_pretrained(
    job: Job, model: Any, tokenizer: Mapping[str, bytes], folder: Path, weights: Mapping[str, Any]
) -> None:
    """A folder that predicts by itself; its encoder/ is one of transformers (with peft: adapters, see adapters.py)."""
    args = job.args
    kept = ("name", "tasks", "label_columns", *COLUMNS)
    model.save_pretrained(
        folder, weights, max_length=args.max_length, stride=args.stride, max_target_length=args.max_target_length,
        label_columns={task["name"]: task["label_column"] for task in job.tasks},
        datasets=[{name: options[name] for name in kept} for options in job.options.values()],
    )  # fmt: skip
    write_files(folder, tokenizer)
    write_files(folder / "encoder", tokenizer)


def tokenizer_files(job: Job) -> dict[str, bytes]:
    """Name -> content, made once: a tokenizer is not to be saved in a thread while another one calls it."""
    with tempfile.TemporaryDirectory() as folder:
        job.tokenizer.save_pretrained(folder)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def train(job: Job, model: Any, options: dict[str, Any], about_data: Callable[[], dict[str, Any]]) -> None:
    """Train, and leave last/ and best/ in the output folder, which is opened when nothing can be wrong any more.

    Args:
        options: of the Trainer.
        about_data: file name -> what is written there about the data.
    """
    from trainer.signals import Interrupted, StopSignals

    stop_signal = StopSignals()
    trainer = build_trainer(job, model, **options, stop_signal=stop_signal)
    if job.resumes:
        trainer.resume(job.folder)
        trainer.emit("epoch", {"history": trainer.history})  # dynamic weights follow from it
        if trainer.finished:
            logger.info("%s: finished at step %d; nothing is left to train", job.folder, trainer.step)
            return
    else:
        seed_everything(job.args.seed + job.rank)  # dropout differs between ranks; the weights, made before, do not
    with ExitStack() as watching:
        if job.rank == 0:
            open_output(job.args, about_data())
            watch(job, trainer, watching)
            if job.resumes:
                logger.info("going on from %s at step %d", job.folder, trainer.step)
        with stop_signal:
            trainer.train()
    if stop_signal():  # it came during the last evaluation
        raise Interrupted(stop_signal())


def watch(job: Job, trainer: Any, watching: ExitStack) -> None:
    """Logs, a tracker, figures of the machine, a profile: what looks on until `watching` ends (docs/monitoring.md)."""
    from trainer.machine import Machine
    from trainer.monitor import RunLog
    from trainer.profiler import Profile
    from trainer.trackers import Tracker

    args, folder = job.args, job.args.output_dir
    if args.tracker != "none":
        trainer.callbacks.append(watching.enter_context(Tracker(args.tracker, folder, job.given)))
    trainer.callbacks.append(RunLog(folder, trainer.step, trainer.history))
    if args.machine_seconds:
        machine = Machine(folder, args.machine_seconds, job.device, trainer.emit, resumes=trainer.step > 0)
        trainer.callbacks.append(watching.enter_context(machine))
    if args.profile:
        watching.enter_context(Profile(trainer, args.profile, Path(folder, "profile")))


def open_output(args: Any, about_data: dict[str, Any]) -> None:
    from trainer.checkpoint import set_damaged_aside, write_json, write_text

    output = Path(args.output_dir)
    setup_logging(output / "train.log")
    set_damaged_aside(output / "last")
    write_text(output / "config.yaml", to_yaml(args))
    for name, content in about_data.items():
        write_json(output / name, content)


def about_data(job: Job) -> dict[str, Any]:
    return {"dataset_info.json": figures(job), "splits.json": job.data.splits()}


def about_run(job: Job, model: Any) -> dict[str, Any]:
    from experiments.report.run_info import run_info

    return about_data(job) | {"run_info.json": run_info(job, model)}


def figures(job: Job) -> dict[str, Any]:
    """What is in each part of the data; a streamed one is not encoded for it."""
    return job.data.figures(["train"] if job.args.streaming else [])


def report(job: Job, model: Any, part: str) -> None:
    """Predictions of a part (of eval and test only the wrong ones) and, with gold labels, metrics and reports."""
    from trainer.checkpoint import write_json
    from trainer.metrics import task_reports

    trainer = build_trainer(job, model)
    loader, references = build_eval(job, part)
    result = trainer.predict(loader, with_confidences=True)
    metrics = trainer.score(result, references)
    if job.rank != 0:
        return
    if metrics:
        logger.info("[%s] %s", part.upper(), " ".join(f"{key}={value:.4f}" for key, value in metrics.items()))
    ranges = job.data.ranges(part)
    for name, ids in ranges.items():
        lines = write_labels(job, name, part, result.between(ids, job.options[name]["tasks"]))
        if metrics and len(ranges) > 1:
            own = result.between(ids, model.heads)
            scores = trainer.metric_function(own.labels, references([ids[i] for i in own.sample_ids]))
            metrics |= {f"{name}/{key}": value for key, value in scores.items()}
    if metrics:
        stem = f"predictions/{lines.stem}" if part == "predict" and len(ranges) == 1 else part
        write_json(Path(job.args.output_dir, f"{stem}_metrics.json"), metrics)
        reports = task_reports(model.heads, result.labels, references(result.sample_ids), result.confidences)
        write_json(Path(job.args.output_dir, f"{stem}_report.json"), reports)


def write_labels(job: Job, name: str, part: str, found: Any) -> Path:
    """The file of predictions, or errors, of a data set."""
    from data_process.predictions import write_predictions

    data = job.data[name]
    folder = Path(job.args.output_dir, "predictions" if part == "predict" else "errors")
    lines = folder / f"{job.data.output_name(name, part)}.jsonl"
    written = write_predictions(lines, data.rows(part), data.schema, found.sample_ids, found.labels, found.confidences,
                                found.record_losses, only_wrong=part != "predict")  # fmt: skip
    logger.info("[%s] %d of %d records in %s", part.upper(), written, len(found.sample_ids), lines)
    return lines


def main(argv: list[str] | None = None) -> None:
    run_args(get_args(argv))


def run_args(args: Arguments, *callbacks: Any) -> Job:
    """The job of these arguments, with more callbacks of the trainer; one run at a time owns the output folder."""
    from trainer.lock import owned

    with ExitStack() as output:
        if args.do_train and os.environ.get("RANK", "0") == "0":
            output.enter_context(owned(args.output_dir))
        job = build_job(args)
        job.callbacks.extend(partial(callback, job) for callback in callbacks)
        run_job(job)
    return job


def run_job(job: Job) -> None:
    from trainer.run_folder import find_best

    args = job.args
    if args.check:
        from experiments.check import check_job  # a doctor; it calls the functions of this file

        return check_job(job)
    build_data(job)
    if args.do_train:
        check_run(job)
    seed_everything(args.seed)
    model = build_model(job)
    if args.do_train:
        from model_utils.build import saved_model  # and transformers with it: after the data is checked

        train(job, model, build_training(job, model), partial(about_run, job, model))
        model = saved_model(find_best(args.output_dir), args.trust_remote_code)
        leave_out_padding(job, model)
    for part in [part for part in ("eval", "test") if args.do_eval] + ["predict"] * args.do_predict:
        if job.data.having(part):
            report(job, model, part)
    if job.rank == 0 and (args.do_train or args.do_eval):
        write_page(args.output_dir)


def write_page(folder: str) -> None:
    """report.html; all it shows is written already, so a failure here ends no run, and no series of runs."""
    from experiments.report import write_report

    try:
        logger.info("%s shows the run", write_report(folder))
    except Exception:
        logger.exception("a bug: no report.html; the run itself is whole")


def run(argv: list[str] | None = None, script: Callable[[list[str] | None], None] = main) -> int:
    """main, or another script's; for what is no bug of ours one line and an exit code instead of a traceback.

    2 wrong input, 3 diverged, 4 another process was lost, 130 and 143 stopped by a signal, 1 disk or memory full.
    """
    try:
        script(argv)
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    except Exception as caught:
        error = of_another_rank(caught)
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and not hasattr(error, "exit_code"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


def of_another_rank(error: Exception) -> Exception:
    """The same, or one that says what another process has to do with it."""
    if os.environ.get("WORLD_SIZE", "1") == "1" or hasattr(error, "exit_code"):
        return error
    from trainer.lost_ranks import explained

    return explained(error)


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if k != key}


if __name__ == "__main__":
    sys.exit(run())
