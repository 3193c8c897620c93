"""A short run of main.py for each form of inputs, and what it predicts."""

import json
from typing import Any

import main
from data_process.sample_data import generate
from tests.sample_job import TASKS, arguments

WORDS = [record["tokens"] for record in generate(300)]
TEXTS = [" ".join(words) for words in WORDS]
CONTEXTS = [f"{TEXTS[n]}. {TEXTS[n + 1]}. {TEXTS[n + 2]}." for n in range(200)]
COLUMNS = {"text_column": "text", "text_pair_column": "other"}
# form of the inputs -> options of the job, records with gold labels
JOBS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "words with a CRF": (
        {"tasks": json.dumps(TASKS), "text_column": "tokens"},
        [{key: record[key] for key in ("tokens", "tags", "intent")} for record in generate(300)],
    ),
    "pairs": (
        {"tasks": '[{name: tags, kind: multi_label_classification, label_column: gold, pooling: mean}]', **COLUMNS},
        [{"text": text, "other": TEXTS[-n], "gold": ["a"] * (n % 2) + ["b"] * (n % 3 == 0)}
         for n, text in enumerate(TEXTS, 1) if n < 300],
    ),
    "long contexts": (
        {"tasks": '[{name: answer, kind: span_selection, label_column: gold}]', "stride": 6, "max_length": 24,
         **COLUMNS},
        [{"text": TEXTS[-1 - n], "other": text, "gold": {"text": [text[:4]], "answer_start": [0]}}
         for n, text in enumerate(CONTEXTS)],
    ),
    "windows of tagged words": (
        {"tasks": '[{name: spans, kind: global_pointer, label_column: tags, head_size: 8}]', "text_column": "tokens",
         "stride": 3, "max_length": 10},
        [{key: record[key] for key in ("tokens", "tags")} for record in generate(300)],
    ),
    "choices": (
        {"tasks": '[{name: right, kind: multiple_choice, label_column: gold}]', "text_column": "text",
         "choices_column": "some"},
        [{"text": text, "some": [TEXTS[-n], text, TEXTS[n]][: 2 + n % 2], "gold": n % 2}
         for n, text in enumerate(TEXTS)],
    ),
    "separate texts": (
        {"tasks": '[{name: alike, kind: sentence_embedding, label_column: gold, objective: cosine}]', **COLUMNS},
        [{"text": text, "other": TEXTS[-n], "gold": (n % 5) / 4} for n, text in enumerate(TEXTS)],
    ),
    "a number, through a shared layer": (
        {"tasks": '[{name: size, kind: sequence_regression, label_column: gold, pooling: first_last_mean}]',
         "text_column": "text", "shared_layers": 1},
        [{"text": text, "gold": len(text) / 40} for text in TEXTS],
    ),
    "generated texts": (
        {"tasks": '[{name: reply, kind: text_generation, label_column: gold, generation: {max_new_tokens: 5, '
                  'do_sample: true}}]', "text_column": "text", "prompt": "Say {text}!"},
        [{"text": text, "gold": text[:12]} for text in TEXTS],
    ),
}  # fmt: skip


def trained(folder, name):
    """best/ of a short run, and the file and lines of its predictions for records without gold labels."""
    options, records = JOBS[name]
    gold = ("gold", "tags", "intent")
    bare = [{key: value for key, value in record.items() if key not in gold} for record in records]
    for file, lines in (("train", records), ("new", bare[:150])):
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        (folder / f"{file}.jsonl").write_text(text, encoding="utf-8")
    given = {"train_file": folder / "train.jsonl", "predict_file": folder / "new.jsonl", "eval_file": None,
             "test_file": None, "cache_dir": folder / "cache", "max_steps": 12, "epochs": 1, "do_eval": None,
             "do_predict": True, "head_lr": 0.03, "max_target_length": 16}  # fmt: skip
    assert main.run(arguments(folder, folder / "run", **given | options)) == 0
    lines = (folder / "run/predictions/new.jsonl").read_text(encoding="utf-8").splitlines()
    return folder / "run/best", bare[:150], [json.loads(line) for line in lines]
