"""A model of a few thousand parameters and data for it, shared by the tests of the training loop."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel

from data_loader.build import MapDataset, build_line_index, eval_loader, map_loader, mixed_loader, stream_loader
from data_loader.collate import Collator
from model_utils.multitask_model import MultiTaskModel, build_model
from model_utils.optim import build_optimizer, build_scheduler
from trainer.early_stopping import EarlyStopping
from trainer.run_folder import RunFolder
from trainer.step import TrainStep
from trainer.trainer import Trainer
from tricks.ema import EMA
from tricks.fgm import FGM

INTENTS = ["a", "b", "c"]
TAGS = ["O", "B-x", "I-x", "B-y", "I-y"]
LEVELS = {"intent": "sequence", "slots": "word"}
VOCABULARY = 40


def tiny_model(dropout: float = 0.1, decoder: str = "crf", seed: int = 0) -> MultiTaskModel:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    encoder = BertModel(config)
    encoder.get_submodule("pooler").requires_grad_(False)
    tasks = [
        {
            "name": "intent",
            "kind": "sequence_classification",
            "labels": INTENTS,
            "dropout": dropout,
            "loss_weight": 0.5,
        },
        {"name": "slots", "kind": "word_tagging", "labels": TAGS, "dropout": dropout, "decoder": decoder},
    ]
    return build_model(encoder, tasks)


def tiny_features(size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Learnable: the intent is the first word mod 3; a word below 13 begins an entity, whose type is its parity."""
    rng = np.random.default_rng(seed)
    features = []
    for sample_id in range(size):
        words = rng.integers(5, VOCABULARY, rng.integers(2, 9))
        features.append(
            {
                "sample_id": sample_id,
                "input_ids": [2, *words.tolist(), 3],
                "token_type_ids": [0] * (len(words) + 2),
                "word_starts": list(range(1, len(words) + 1)),
                "num_words": len(words),
                "labels": {"intent": int(words[0] % 3), "slots": [0 if w >= 13 else 1 + 2 * int(w % 2) for w in words]},
            }
        )
    return features


def dataset(features: list[dict[str, Any]]) -> MapDataset:
    return MapDataset(lambda numbers: [features[n] for n in numbers], len(features))


def collate(*tasks: str) -> Collator:
    return Collator(pad_token_id=0, label_levels={task: LEVELS[task] for task in tasks or LEVELS})


def one_task(features: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    return [feature | {"labels": {task: feature["labels"][task]}} for feature in features]


def streamed(path: Path, features: list[dict[str, Any]], **options: Any) -> Any:
    if not path.exists():
        path.write_text("".join(json.dumps(feature) + "\n" for feature in features))
    index = build_line_index(path, path.with_suffix(".lines"))
    return stream_loader(str(path), index, parse=json.loads, encode=lambda records: [f for _, f in records],
                         collate=collate(), **options)  # fmt: skip


def references(features: list[dict[str, Any]]) -> Any:
    def gold(sample_ids: Any) -> dict[str, list[Any]]:
        labels = [features[i]["labels"] for i in sample_ids]
        return {
            "intent": [INTENTS[x["intent"]] for x in labels],
            "slots": [[TAGS[t] for t in x["slots"]] for x in labels],
        }

    return gold


def tiny_trainer(
    model: MultiTaskModel,
    folder: Path | None = None,
    *,
    train: list[dict[str, Any]] | None = None,
    batch_size: int = 4,
    accumulate: int = 1,
    epochs: int = 2,
    use_fgm: bool = False,
    use_ema: bool = False,
    stream: Path | None = None,
    tasks_vary: bool = False,
    precision: str = "fp32",
    lr: float = 1e-2,
    patience: int = 0,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    on_oom: str = "stop",
    keep_states: int = 0,
    async_save: bool = True,
    sharded: bool = False,
    **options: Any,
) -> Trainer:
    """The trainer as main.py builds it, on tiny data.

    stream: the data as a file of JSON lines, made if missing. tasks_vary: each batch is for one of the tasks.
    """
    features = tiny_features(50) if train is None else train
    own: dict[str, Any] = {"seed": 7, "num_workers": num_workers, "rank": rank, "world_size": world_size}
    if stream is not None:
        loader = streamed(stream, features, batch_size=batch_size, **own)
    elif tasks_vary:
        datasets = [dataset(one_task(features, task)) for task in LEVELS]
        sizes = [batch_size, batch_size - 1]
        loader = mixed_loader(datasets, [*map(collate, LEVELS)], batch_sizes=sizes, epochs=epochs, **own)
    else:
        loader = map_loader(dataset(features), collate(), batch_size=batch_size, **own)
    steps_per_epoch = -(-len(loader(0, 0)) // accumulate)
    optimizer = build_optimizer(model, lr, head_lr=2 * lr)
    scheduler = build_scheduler("linear", optimizer, 3, epochs * steps_per_epoch)
    attacks = [FGM(model, 0.5)] if use_fgm else []
    held_out = tiny_features(20, seed=1)
    run_folder = None
    if folder is not None:
        run_folder = RunFolder(folder, model.save_pretrained, model.state_dict, {}, keep_states, async_save, sharded)
    return Trainer(
        model,
        TrainStep(
            model,
            optimizer,
            scheduler,
            precision=precision,
            attacks=attacks,
            averagers=[EMA(model, 0.9)] if use_ema else [],
            on_oom=on_oom,
            tasks_vary=tasks_vary,
        ),
        precision=precision,
        train_loader=loader,
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
        accumulate=accumulate,
        eval_loader=eval_loader(dataset(held_out), collate(), batch_size=8, rank=rank, world_size=world_size),
        references=references(held_out),
        early_stopping=EarlyStopping("sentence_accuracy", patience),
        run_folder=run_folder,
        **options,
    )
