"""Held-out loss of a masked language model as it is trained: by us, and by transformers.Trainer on as many sub-words.

    python -m benchmarks.mlm_curve --config configs/pretraining/continue_en_fiction.yaml --max_steps 300 --batch_size 8
    python -m benchmarks.mlm_curve --script pretrain_from_scratch --config configs/pretraining/pretrain_zh.yaml

ours          the job of the script, as it is configured
ours, joined  the same but for single sub-words masked in texts that are joined and cut into blocks
Trainer       transformers.Trainer with DataCollatorForLanguageModeling on such blocks

From the same weights, with as many rows in a step, the same optimizer, schedule and clipping; files are taken as they
are (no cleaning, no deduplication). The loss is that of the same masked sub-words for all three: of texts `alone`, and
of texts `joined` to blocks. Seconds are those of the process, without evaluation. Into the output folder come
curve.json, curve.md and curve.png.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch

import main
from config import ConfigError
from huggingface_hands_on import continue_pretrain_task, pretrain_from_scratch, pretraining
from trainer.checkpoint import write_json, write_text

from .finetune import Counting
from .mlm import their_rows

SCRIPTS = {"continue_pretrain_task": continue_pretrain_task, "pretrain_from_scratch": pretrain_from_scratch}
AS_IT_IS = ("--clean", "false", "--deduplicate", "0", "--min_chars", "0", "--resume", "never")
JOINED = ("--packing", "crossing", "--attention", "block", "--masking", "token")
ALONE = ("--packing", "documents", "--attention", "document", "--masking", "token")

Measure = Callable[[Any], dict[str, float]]


class Course:
    """Points of a curve: steps, real sub-words and seconds until then, and the losses of `measure`."""

    def __init__(self, model: Any, measure: Measure, every: int):
        self.model, self.measure, self.every = model, measure, every
        self.points: list[dict[str, float]] = []
        self.tokens, self.seconds, self.began = 0, 0.0, time.process_time()

    def note(self, step: int) -> None:
        """To be called before the first step and after each."""
        if step % self.every:
            return
        self.seconds += time.process_time() - self.began
        point = {"step": step, "tokens": self.tokens, "seconds": self.seconds} | self.measure(self.model)
        print(" ".join(f"{name} {value:.4g}" for name, value in point.items()), file=sys.stderr)
        self.points.append(point)
        self.model.train()
        self.began = time.process_time()


def prepared(script: str, argv: Sequence[str]) -> tuple[main.Job, Any, dict[str, Any]]:
    args, load = SCRIPTS[script].parse([*argv])
    job = main.start_job(args)
    model, _, options = pretraining.prepare(job, load, pretraining.find_corpora(args))
    if job.causal or "eval_loader" not in options:
        raise ConfigError("arguments: a masked language model and held-out texts (eval_corpus) are needed")
    return job, model, options


def held_out(script: str, argv: Sequence[str], batches: int) -> Measure:
    """model -> loss of the held-out texts, alone and joined."""
    parts = {"alone": prepared(script, [*argv, *ALONE]), "joined": prepared(script, [*argv, *JOINED])}

    def measure(model: Any) -> dict[str, float]:
        found = {}
        for name, (job, _, options) in parts.items():
            loader, references = [*islice(options["eval_loader"], batches)], options["references"]
            found[name] = main.build_trainer(job, model).eval(loader, references)["loss"]
        return found

    return measure


def ours(script: str, argv: Sequence[str], measure: Measure, every: int) -> list[dict[str, float]]:
    job, model, options = prepared(script, argv)
    course, load = Course(model, measure, every), options["train_loader"]

    def counted(epoch: int, samples: int) -> Iterator[dict[str, Any]]:
        for batch in load(epoch, samples):
            course.tokens += int((batch["input_ids"] != job.tokenizer.pad_token_id).sum())
            yield batch

    course.note(0)
    here = {"train_loader": counted, "eval_loader": None, "references": None, "early_stopping": None,
            "run_folder": None, "eval_steps": every,
            "callbacks": [lambda event, step, _: course.note(step) if event == "epoch" else None]}  # fmt: skip
    main.build_trainer(job, model, **options | here).train()
    return course.points


def theirs(script: str, argv: Sequence[str], measure: Measure, every: int) -> list[dict[str, float]]:
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

    args, load = SCRIPTS[script].parse([*argv])
    job = main.start_job(args)
    model = pretraining.load_model(job, load)
    course = Course(model, measure, every)
    collate = Counting(DataCollatorForLanguageModeling(job.tokenizer, mlm_probability=args.mask_rate))
    files = [file for entry in args.corpus for file in entry["files"]]
    rows = their_rows(files, job.tokenizer, args.block_length, True)
    steps = min(args.epochs * -(-len(rows) // args.batch_size) or sys.maxsize, args.max_steps or sys.maxsize)

    class Note(TrainerCallback):
        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            course.tokens = sum(collate.tokens[: state.global_step])
            course.note(state.global_step)

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=args.batch_size, seed=args.seed,
            learning_rate=args.lr, weight_decay=args.weight_decay, max_grad_norm=args.max_grad_norm,
            warmup_steps=args.warmup_steps or round(args.warmup_ratio * steps), lr_scheduler_type=args.lr_scheduler,
            use_cpu=job.device.type == "cpu", bf16=job.precision == "bf16", save_strategy="no", report_to="none",
            logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model=model.encoder, args=settings, train_dataset=rows, data_collator=collate,
                          callbacks=[Note()])  # fmt: skip
        course.note(0)
        trainer.train()
    return course.points


def compare(script: str, argv: Sequence[str], every: int, batches: int) -> dict[str, list[dict[str, float]]]:
    argv = [*argv, *AS_IT_IS]
    measure = held_out(script, argv, batches)
    return {
        "ours": ours(script, argv, measure, every),
        "ours, joined": ours(script, [*argv, *JOINED], measure, every),
        "Trainer": theirs(script, [*argv, *JOINED], measure, every),
    }


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Rows: sub-words seen; columns: the loss of each, of texts alone and joined, and at the end the seconds."""
    kinds = [(kind, name) for kind in ("alone", "joined") for name in found]
    lines = ["| sub-words | " + " | ".join(f"{name}: {kind}" for kind, name in kinds) + " |",
             "|---|" + "---|" * len(kinds)]  # fmt: skip
    for number, point in enumerate(next(iter(found.values()))):
        cells = [f"{found[name][number][kind]:.3f}" for kind, name in kinds if number < len(found[name])]
        lines.append(f"| {point['tokens']:,} | {' | '.join(cells)} |")
    lines += ["", "Seconds of the process: " + ", ".join(f"{n} {p[-1]['seconds']:,.0f}" for n, p in found.items())]
    return "\n".join(lines)


def plot(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """The loss of texts alone and joined over sub-words, and over seconds, from the first evaluation in training on."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no {path.name}: pip install matplotlib", file=sys.stderr)
        return
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for panel, (kind, over) in zip(panels, product(("alone", "joined"), ("tokens", "seconds")), strict=True):
        for (name, points), line in zip(found.items(), ("-", "--", ":"), strict=True):
            later, unit = points[1:], {"tokens": 1000, "seconds": 1}[over]
            panel.plot([point[over] / unit for point in later], [point[kind] for point in later], line, label=name)
        panel.set_title(f"texts {kind}", fontsize=9)
        panel.set_xlabel({"tokens": "1,000 sub-words", "seconds": "seconds of the process"}[over], fontsize=8)
        panel.ticklabel_format(axis="x", style="plain")
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("held-out loss", fontsize=8)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", choices=sorted(SCRIPTS), default="continue_pretrain_task")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--every", type=int, default=50, help="steps between evaluations")
    parser.add_argument("--eval_batches", type=int, default=8, help="of held-out blocks; the first ones")
    parser.add_argument("--threads", type=int, default=1)
    given, rest = parser.parse_known_args(argv)
    torch.set_num_threads(given.threads)
    found = compare(given.script, [*rest, "--output_dir", str(given.output_dir)], given.every, given.eval_batches)
    given.output_dir.mkdir(parents=True, exist_ok=True)
    write_json(given.output_dir / "curve.json", found)
    write_text(given.output_dir / "curve.md", table(found) + "\n")
    plot(found, given.output_dir / "curve.png")
    print(table(found))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
