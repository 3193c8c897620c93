"""A small job of main.py on the sample corpus; its files are the fixture `data` (conftest.py)."""

import json
import subprocess
import sys

import main

TASKS = [
    {"name": "intent", "kind": "sequence_classification", "label_column": "intent"},
    {"name": "slots", "kind": "word_tagging", "label_column": "tags", "decoder": "crf"},
]


def arguments(data, output, **options):
    options = {
        "tasks": json.dumps(TASKS), "text_column": "tokens", "train_file": data / "train.jsonl",
        "eval_file": data / "dev.jsonl", "test_file": data / "test.jsonl", "model_name_or_path": "scratch:tiny",
        "scratch_vocab_size": 600, "cache_dir": data / "cache", "output_dir": output, "do_train": True, "do_eval": True,
        "epochs": 2, "lr": 3e-3, "batch_size": 16, "max_length": 48, "logging_steps": 5, "device": "cpu",
        "precision": "fp32",
    } | options  # fmt: skip
    return [text for name, value in options.items() if value is not None for text in (f"--{name}", str(value))]


def in_this_process(command, run=subprocess.run, **options):
    """What `subprocess.run` would give for `python main.py …`; other programs do run."""
    if command[0] != sys.executable:
        return run(command, **options)
    return subprocess.CompletedProcess(command, main.run(command[2:]))


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))
