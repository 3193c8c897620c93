"""A run folder as main.py leaves it, of random predictions: intents and slots, for the tests of the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from model_utils.heads import head_class

INTENTS = ["play", "stop", "weather", "alarm"]
TAGS = ["O", "B-city", "I-city", "B-date", "I-date"]
TASKS = [{"name": "intent", "kind": "sequence_classification", "label_column": "intent"},
         {"name": "slots", "kind": "word_tagging", "label_column": "tags", "decoder": "crf"}]  # fmt: skip


def write_run(
    folder: Path,
    size: int = 300,
    wrong: float = 0.2,
    words: str = "wake me in berlin tomorrow at noon please",
    intents: list[str] = INTENTS,
    source: str = "data/test.jsonl",
    seed: int = 0,
    **config: Any,
) -> dict[str, Any]:
    """Returns gold labels, predictions, confidences and losses of the test part, by task.

    Args:
        wrong: share of the records with a mistake.
        config: more of it.
    """
    rng = np.random.default_rng(seed)
    vocabulary = words.split(" ")
    texts = [[vocabulary[n] for n in rng.integers(len(vocabulary), size=k)] for k in rng.integers(3, 16, size)]
    chosen = [intents[n] for n in rng.integers(len(intents), size=size)]
    gold = {"intent": chosen, "slots": [tagged(rng, text) for text in texts]}
    predicted = {task: list(values) for task, values in gold.items()}
    for number in np.flatnonzero(rng.random(size) < wrong).tolist():
        predicted["intent"][number] = intents[rng.integers(len(intents))]
        predicted["slots"][number] = tagged(rng, texts[number])
    confidences: dict[str, list[Any]] = {
        "intent": rng.uniform(0.3, 1, size).round(4).tolist(),
        "slots": [rng.uniform(0.3, 1, len(text)).round(4).tolist() for text in texts],
    }
    losses = {task: rng.exponential(2.0, size).round(4).tolist() for task in gold}
    (folder / "errors").mkdir(parents=True)
    with open(folder / "errors/test.jsonl", "w", encoding="utf-8") as file:
        for number in range(size):
            mistakes = [task for task in gold if gold[task][number] != predicted[task][number]]
            if mistakes:
                own = {"predictions": predicted, "confidences": confidences, "gold": gold, "losses": losses}
                line = {"sample_id": number, "tokens": texts[number]}
                line |= {key: {task: values[task][number] for task in gold} for key, values in own.items()}
                file.write(json.dumps(line | {"wrong": mistakes}, ensure_ascii=False) + "\n")
    heads = {"intent": head_class("sequence_classification")(8, intents), "slots": head_class("word_tagging")(8, TAGS)}
    scores = {f"{task}/{name}": value for task, head in heads.items()
              for name, value in head.score(predicted[task], gold[task]).items()}  # fmt: skip
    counts = {label: gold["intent"].count(label) for label in intents}
    history = [{"epoch": n, "step": 10 * n + 10, "train": {"loss": 2 - n / 2},
                "eval": {**scores, "loss": 1.5 - n / 4, "intent/loss": 0.1}} for n in range(3)]  # fmt: skip
    lines = [{"step": n, "kind": "train", "loss": 3 / n, "lr/encoder": n / 1e5} for n in range(1, 31)]
    files: dict[str, Any] = {
        "test_metrics.json": scores, "log.json": history, "best/metrics.json": history[-1],
        "test_report.json": {task: heads[task].report(predicted[task], gold[task], confidences[task]) for task in gold},
        "dataset_info.json": {"test": {"source": source, "records": size, "labels": {"intent": counts}}},
        "run_info.json": {"monitor": "intent/accuracy", "main_metrics": ["slots/f1"], "device": "cpu",
                          "precision": "fp32", "parameters": 2_000_000},
        "speed.json": {"seconds": 90.0, "samples/s": 100.0, "time/data": 0.1, "time/forward": 0.3,
                       "time/backward": 0.4, "time/optimizer": 0.1, "time/eval": 0.0, "time/checkpoint": 0.05},
        "machine.json": {"interval_seconds": 5, "columns": {
            "seconds": [5, 10, 15], "cpu_percent": [50, 90, None], "memory_gib": [1.0, 2.0, 2.5],
            "disk_free_gib": [9.0, 8.0, 7.0], "gpu0_memory_gib": [3, 3, 3]}},
        "check.json": {"level": "warning", "findings": [
            {"level": "ok", "area": "model", "what": "gradients", "message": "all are finite", "figures": {}},
            {"level": "warning", "area": "data", "what": "lengths", "message": f"3 texts are cut: {words[:40]}",
             "figures": {"cut": 3}}]},
    }  # fmt: skip
    (folder / "best").mkdir()
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    values = {"tasks": TASKS, "model_name_or_path": "scratch:tiny", "seed": seed, "output_dir": str(folder)} | config
    (folder / "config.yaml").write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
    (folder / "train.log").write_text("2024-05-06 07:08:09 INFO a\n2024-05-06 07:10:09 INFO b\n", encoding="utf-8")
    return {"gold": gold, "predicted": predicted, "confidences": confidences, "losses": losses, "texts": texts}


def tagged(rng: np.random.Generator, text: list[str]) -> list[str]:
    """Legal IOB2."""
    tags: list[str] = []
    for number in rng.integers(5, size=len(text)):
        inside = f"I-{tags[-1][2:]}" if tags and tags[-1] != "O" else "O"
        tags.append(["O", "O", "B-city", "B-date", inside][number])
    return tags
