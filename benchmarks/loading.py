"""Batches of encoded texts: our loader beside datasets.Dataset with transformers' DataCollatorWithPadding.

    python -m benchmarks.loading --config configs/sst2.yaml [any option of main.py]

An epoch of a job with one label per text, without workers. Both read the same
memory-mapped Arrow file in random order. Before, the texts and labels of a batch are compared.
"""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding

import main
from config import ConfigError, get_args

from .rounds import Comparison, Go, compare, once, options, show


def ours(job: main.Job) -> Any:
    return main.build_train_loader(job)(0, 0)


def theirs(job: main.Job) -> Any:
    """In the order of ours."""
    [name] = job.data.having("train")
    [task] = job.tasks
    rows = job.data[name].own_rows("train").flatten_indices()
    rows = rows.select_columns([c for c in ("input_ids", "token_type_ids", "labels") if c in rows.column_names])
    flat = rows.data.table.column("labels").combine_chunks().field(task["name"])
    rows = rows.remove_columns("labels").add_column("labels", flat)
    order = [number for batch in ours(job).batch_sampler for number in batch]
    size = job.options[name]["batch_size"]
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    return DataLoader(rows, batch_sampler=batches, collate_fn=DataCollatorWithPadding(job.tokenizer))


def check(job: main.Job) -> None:
    task = job.tasks[0]["name"]
    for own, other in zip(ours(job), theirs(job), strict=True):
        assert torch.equal(own["input_ids"], other["input_ids"])
        assert torch.equal(own["attention_mask"], other["attention_mask"])
        assert torch.equal(own["labels"][task], other["labels"])


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    given, rest = options(__doc__).parse_known_args(argv)
    job = main.build_job(get_args([*rest, "--do_train", "true", "--resume", "never"]))
    main.build_data(job)
    if len(job.tasks) != 1 or job.tasks[0]["kind"] != "sequence_classification" or len(job.data) != 1:
        raise ConfigError("arguments: tasks: one task of kind sequence_classification, on one data set, is needed")
    check(job)
    number = len(ours(job))

    def epoch(batches: Any) -> Go:
        return once(lambda: deque(batches, maxlen=0), number)

    runs = {"ours": lambda: epoch(ours(job)),
            "datasets and DataCollatorWithPadding": lambda: epoch(theirs(job))}  # fmt: skip
    yield compare("an epoch", "batch", runs, given)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
