"""One job: arguments -> logger -> data -> model -> optimizer -> tricks -> Trainer -> train, eval, predict.

    python main.py --config configs/sample_joint.yaml [--lr 3e-4 …]

The rooms never import each other; this file introduces them. Heavy libraries are imported when the arguments have been
checked, so that --help and mistakes answer at once.
"""

import errno
import json
import logging
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from config import Arguments, ConfigError, check_resume, get_args, seed_everything, to_yaml
from logging_config import setup_logging

logger = logging.getLogger("main")


@dataclass
class Job:
    """What the build_* functions share."""

    args: Arguments
    given: dict[str, Any]
    """the arguments as given; `args` has some settled"""
    rank: int
    world_size: int
    device: Any
    precision: str
    folder: Path | None
    """a saved model to start from; None: the encoder args.model_name_or_path"""
    resumes: bool
    """whether training goes on from the state in `folder`"""
    tasks: list[dict[str, Any]]
    data: Any = None


def build_job(args: Arguments) -> Job:
    """Settle ranks, device, tasks, and the folder to start from. Writes nothing."""
    from model_utils.encoder import locate
    from trainer import distributed
    from trainer.device import pick_device, pick_precision

    given = asdict(args)
    rank, local_rank, world_size = distributed.start(pick_device(args.device).type)
    setup_logging(rank=rank)
    device = pick_device(args.device, local_rank)
    args.model_name_or_path = locate(args.model_name_or_path)
    folder, resumes = starting_folder(args)
    tasks = args.tasks if folder is None else saved_tasks(folder, args)
    return Job(args, given, rank, world_size, device, pick_precision(args.precision, device), folder, resumes, tasks)


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
    """The tasks of a saved model; its columns and max_length go into the arguments."""
    from trainer.checkpoint import read_json

    config, labels = read_json(folder / "config.json"), read_json(folder / "labels.json")
    tasks = [task | {"label_column": config["label_columns"][task["name"]]} for task in config["tasks"]]
    if args.tasks and [{"loss_weight": 1.0} | without(task, "labels") for task in args.tasks] != tasks:
        right = f"leave them out, or start anew from {folder / 'encoder'}"
        raise ConfigError(f"arguments: tasks: differ from those of {folder}; {right}")
    args.text_column, args.text_pair_column = config["text_column"], config["text_pair_column"]
    args.max_length = config["max_length"]
    return [task | {"labels": labels[task["name"]]} for task in tasks]


def build_data(job: Job) -> None:
    """Check all files, settle splits, labels and tokenizer."""
    from data_process import build
    from model_utils.heads import head_class

    args = job.args
    scored = args.do_train or args.do_eval or args.check
    shares = {part: getattr(args, f"{part}_ratio") for part in ("eval", "test")}
    shares = {
        p: share
        for p, share in shares.items()
        if scored and args.train_file and share and not getattr(args, f"{p}_file")
    }
    used = {"train": args.do_train or args.check or shares, "eval": scored, "test": scored, "predict": args.do_predict}
    files = {
        part: getattr(args, f"{part}_file") for part, needed in used.items() if needed and getattr(args, f"{part}_file")
    }
    scratch = job.folder is None and args.model_name_or_path.startswith("scratch:")
    job.data = build.build_data(
        files, job.tasks, {task["name"]: head_class(task["kind"]).LABEL_LEVEL for task in job.tasks},
        text_column=args.text_column, text_pair_column=args.text_pair_column, tag_scheme=args.tag_scheme,
        on_bad_record=args.on_bad_record, shares=shares, seed=args.seed,
        tokenizer_path=None if scratch else str(job.folder or args.model_name_or_path),
        vocab_size=args.scratch_vocab_size, extra_tokens=() if job.folder else args.extra_tokens,
        max_length=args.max_length, cache_dir=args.cache_dir, limit=64 if args.debug else None,
        trust_remote_code=args.trust_remote_code,
    )  # fmt: skip


def check_run(job: Job) -> None:
    """Add the data's checksums to the arguments that are saved; on resume, refuse what would make it another run."""
    from data_process.build import checksum
    from trainer.checkpoint import read_json

    sources = job.data.sources
    job.given |= {f"{part}_data": checksum(sources[part]) for part in ("train", "eval") if part in sources}
    if job.resumes and job.folder:
        saved = read_json(job.folder / "trainer_state.json").get("arguments", {})
        for change in check_resume(saved, job.given, job.folder):
            logger.warning("going on with another value: %s", change)


def build_model(job: Job) -> Any:
    """The saved model, or new heads around an encoder."""
    from model_utils.encoder import freeze, load_encoder
    from model_utils.multitask_model import MultiTaskModel, build_model

    args = job.args
    if job.folder is not None:
        model = MultiTaskModel.from_pretrained(job.folder, args.trust_remote_code)
    else:
        encoder = load_encoder(
            args.model_name_or_path, len(job.data.tokenizer), args.max_length, args.trust_remote_code
        )
        model = build_model(encoder, [without(task, "label_column") for task in job.tasks], args.shared_layers)
    freeze(model.encoder, args.freeze_layers)
    return model


def build_train_loader(job: Job) -> Any:
    """(epoch, samples_seen) -> micro-batches, map-style from the cache or streamed from the file."""
    from data_loader import build
    from data_process.feature_cache import content_hash
    from data_process.readers import parse_jsonl_line, parse_text_line

    args, data = job.args, job.data
    source = data.sources["train"]
    indices = data.indices.get("train", range(data.scans["train"].num_records))
    options = {"batch_size": args.batch_size, "seed": args.seed, "rank": job.rank, "world_size": job.world_size,
               "num_workers": args.num_workers, "pin_memory": job.device.type == "cuda"}  # fmt: skip
    if not args.streaming:
        rows = data.rows("train").remove_columns("record")
        return build.map_loader(build.MapDataset(rows.__getitems__, len(rows), indices), build_collator(job), **options)
    index = build.build_line_index(source, Path(args.cache_dir, f"{Path(source).stem}-{content_hash(source)}.lines"))
    parse = partial(parse_text_line if source.endswith(".txt") else parse_jsonl_line, where=source)
    return build.stream_loader(source, index, parse=parse, encode=data.encode, collate=build_collator(job),
                               indices=indices, **options)  # fmt: skip


def build_eval(job: Job, part: str) -> tuple[Any, Any]:
    """Batches of a part, and its rows."""
    from data_loader import build

    rows = job.data.rows(part)
    dataset = build.MapDataset(rows.remove_columns("record").__getitems__, len(rows), job.data.indices.get(part))
    loader = build.eval_loader(dataset, build_collator(job), batch_size=job.args.eval_batch_size, rank=job.rank,
                               world_size=job.world_size, num_workers=job.args.num_workers)  # fmt: skip
    return loader, rows


def build_collator(job: Job) -> Any:
    from data_loader.collate import Collator

    levels = {label.task: label.level for label in job.data.schema.labels}
    return Collator(job.data.tokenizer.pad_token_id, levels)


def build_trainer(job: Job, model: Any, **options: Any) -> Any:
    """A Trainer; without `options` it can only evaluate and predict."""
    from trainer.metrics import joint_metrics, load_metric
    from trainer.trainer import Trainer

    metric_function = partial(joint_metrics, model.heads, own_metrics=[load_metric(n) for n in job.args.metrics])
    return Trainer(model, device=job.device, precision=job.precision, metric_function=metric_function, **options)


def build_training(job: Job, model: Any) -> dict[str, Any]:
    """The Trainer's options for training: data, step with optimizer and tricks, schedule, early stopping."""
    from model_utils.optim import EvalSchedule, build_optimizer, build_scheduler
    from trainer.early_stopping import EarlyStopping, choose_monitor
    from trainer.nonfinite import NonfinitePolicy
    from trainer.run_folder import RunFolder
    from trainer.step import TrainStep
    from tricks.fgm import FGM

    args = job.args
    train_loader = build_train_loader(job)
    steps_per_epoch = -(-len(train_loader(0, 0)) // args.accumulate)
    total_steps = min(args.epochs * steps_per_epoch or sys.maxsize, args.max_steps or sys.maxsize)
    options: dict[str, Any] = {
        "train_loader": train_loader, "steps_per_epoch": steps_per_epoch, "epochs": args.epochs or sys.maxsize,
        "max_steps": args.max_steps, "accumulate": args.accumulate, "eval_steps": args.eval_steps,
        "save_steps": args.save_steps, "save_minutes": args.save_minutes, "logging_steps": args.logging_steps,
        "nonfinite": NonfinitePolicy(args.nonfinite, args.nonfinite_limit), "callbacks": [],
        "run_folder": RunFolder(args.output_dir, partial(save_pretrained, job, model), job.given, args.keep_states),
    }  # fmt: skip
    monitor, falls = "", False
    if "eval" in job.data.sources:
        batches, rows = build_eval(job, "eval")
        references = job.data.references(rows)
        gold = references(job.data.indices.get("eval", range(len(rows)))[:64])
        monitor, falls = choose_monitor(
            args.monitor, model.heads, build_trainer(job, model).metric_function(gold, gold)
        )
        early_stopping = EarlyStopping(monitor, args.patience, falls)
        options |= {"eval_loader": batches, "references": references, "early_stopping": early_stopping}
    optimizer = build_optimizer(model.to(job.device), args.lr, args.head_lr, args.weight_decay)
    warmup_steps = args.warmup_steps or round(args.warmup_ratio * total_steps)
    scheduler = build_scheduler(
        args.lr_scheduler, optimizer, warmup_steps, total_steps, args.lr_scheduler_options, falls
    )
    if isinstance(scheduler, EvalSchedule):
        options["callbacks"].append(partial(scheduler.follow, monitor))
    options["train_step"] = TrainStep(
        model, optimizer, scheduler, device=job.device, precision=job.precision, max_grad_norm=args.max_grad_norm,
        attacks=[FGM(model, args.fgm_eps)] if args.use_fgm else [], on_oom=args.on_oom,
    )  # fmt: skip
    logger.info("%d steps of %d x %d x %d records on %s in %s", total_steps, job.world_size, args.accumulate,
                args.batch_size, job.device, job.precision)  # fmt: skip
    return options


def save_pretrained(job: Job, model: Any, folder: Path) -> None:
    """A folder that predicts by itself; its encoder/ is a complete transformers folder."""
    args, columns = job.args, {label.task: label.column for label in job.data.schema.labels}
    model.save_pretrained(folder, text_column=args.text_column, text_pair_column=args.text_pair_column,
                          max_length=args.max_length, label_columns=columns)  # fmt: skip
    for place in (folder, folder / "encoder"):
        job.data.tokenizer.save_pretrained(place)


def train(job: Job, model: Any) -> None:
    """Train, and leave last/ and best/ in the output folder, which is opened when nothing can be wrong any more."""
    from trainer.monitor import RunLog
    from trainer.signals import Interrupted, StopSignals

    options = build_training(job, model)
    stop_signal = StopSignals()
    trainer = build_trainer(job, model, **options, stop_signal=stop_signal)
    if job.resumes:
        trainer.resume(job.folder)
        if trainer.finished:
            logger.info("%s: finished at step %d; nothing is left to train", job.folder, trainer.step)
            return
    else:
        seed_everything(job.args.seed + job.rank)  # dropout differs between ranks; the weights, made before, do not
    if job.rank == 0:
        open_output(job)
        trainer.callbacks.append(RunLog(job.args.output_dir, trainer.step, trainer.history))
        if job.resumes:
            logger.info("going on from %s at step %d", job.folder, trainer.step)
    with stop_signal:
        trainer.train()
    if stop_signal():  # it came during the last evaluation
        raise Interrupted(stop_signal())


def open_output(job: Job) -> None:
    from trainer.checkpoint import set_damaged_aside, write_json, write_text

    output = Path(job.args.output_dir)
    setup_logging(output / "train.log")
    set_damaged_aside(output / "last")
    write_text(output / "config.yaml", to_yaml(job.args))
    streamed = "train" if job.args.streaming else None
    figures = {part: job.data.figures(part, part == streamed) for part in job.data.sources}
    write_json(output / "dataset_info.json", figures)
    write_json(output / "splits.json", job.data.indices)


def report(job: Job, model: Any, part: str) -> None:
    """Predictions of a part (of eval and test only the wrong ones) and, with gold labels, its metrics."""
    from data_process.predictions import write_predictions
    from trainer.checkpoint import write_json

    output, data = Path(job.args.output_dir), job.data
    trainer = build_trainer(job, model)
    loader, rows = build_eval(job, part)
    result = trainer.predict(loader, with_confidences=True)
    metrics = trainer.score(result, data.references(rows))
    if job.rank != 0:
        return
    name = Path(data.sources[part]).stem
    lines = output / "predictions" / f"{name}.jsonl" if part == "predict" else output / "errors" / f"{part}.jsonl"
    written = write_predictions(lines, rows, data.schema, result.sample_ids, result.labels, result.confidences,
                                only_wrong=part != "predict")  # fmt: skip
    logger.info("[%s] %d of %d records in %s", part.upper(), written, len(result.sample_ids), lines)
    if metrics:
        write_json(
            output / (f"predictions/{name}_metrics.json" if part == "predict" else f"{part}_metrics.json"), metrics
        )
        logger.info("[%s] %s", part.upper(), " ".join(f"{key}={value:.4f}" for key, value in metrics.items()))


def main(argv: list[str] | None = None) -> None:
    args = get_args(argv)
    from trainer.lock import owned

    with ExitStack() as output:
        if args.do_train and os.environ.get("RANK", "0") == "0":
            output.enter_context(owned(args.output_dir))
        run_job(build_job(args))


def run_job(job: Job) -> None:
    from model_utils.multitask_model import MultiTaskModel
    from trainer.run_folder import find_best

    args = job.args
    build_data(job)
    if args.do_train:
        check_run(job)
    seed_everything(args.seed)
    model = build_model(job)
    if args.check:
        print(json.dumps({part: job.data.figures(part) for part in job.data.sources}, ensure_ascii=False, indent=1))
        return
    if args.do_train:
        train(job, model)
        model = MultiTaskModel.from_pretrained(find_best(args.output_dir))
    for part in [part for part in ("eval", "test") if args.do_eval] + ["predict"] * args.do_predict:
        if part in job.data.sources:
            report(job, model, part)


def run(argv: list[str] | None = None) -> int:
    """main; for what is no bug of ours one line and an exit code instead of a traceback.

    2 wrong input, 3 diverged, 130 and 143 stopped by a signal, 1 disk or memory full.
    """
    try:
        main(argv)
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and not hasattr(error, "exit_code"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if k != key}


if __name__ == "__main__":
    sys.exit(run())
