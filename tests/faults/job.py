"""The job that all three trainers run: data, model, schedule, and where faults come in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

BATCH, STEPS, SAVE_STEPS = 4, 11, 2  # records of a step, steps of an epoch, steps between two saved states
CLASSES, VOCABULARY, WORDS = 3, 40, 8


@dataclass
class Job:
    """Evaluated each epoch, saved every SAVE_STEPS, linear schedule, AdamW, gradients clipped at 1.

    dropout: of the encoder; lr: 0 makes every evaluation alike; patience: evaluations without a lower loss; 0 = never.
    at: training step of this process, from 1 -> what happens when it begins; nan_at: step whose loss is made NaN.
    options_on: the options of a trainer that only a fault of this kind needs, see the trainers' files.
    """

    epochs: int = 2
    dropout: float = 0.1
    lr: float = 1e-2
    patience: int = 0
    at: Mapping[int, Callable[[], Any]] = field(default_factory=dict)
    nan_at: int = 0
    options_on: bool = False
    taken: int = 0

    @property
    def total_steps(self) -> int:
        return self.epochs * STEPS

    def prepare(self, model: nn.Module) -> None:
        """Count the training steps of this process, and let the faults happen."""
        model.register_forward_pre_hook(self.begin)
        model.register_forward_hook(self.end)

    def begin(self, model: nn.Module, _: Any) -> None:
        if model.training:
            self.taken += 1
            self.at.get(self.taken, int)()

    def end(self, model: nn.Module, _: Any, output: Any) -> None:
        if model.training and self.taken == self.nan_at:
            output.loss = output.loss * float("nan")


def records(size: int, seed: int) -> list[dict[str, Any]]:
    """Learnable: the class is the first word mod 3."""
    words = torch.randint(5, VOCABULARY, (size, WORDS), generator=torch.Generator().manual_seed(seed)).tolist()
    return [{"input_ids": [2, *row, 3], "label": row[0] % CLASSES} for row in words]


train_records, eval_records = partial(records, BATCH * STEPS, 0), partial(records, 20, 1)


def encoder_options(dropout: float) -> dict[str, Any]:
    """Of a BertConfig: a model of a few thousand parameters."""
    return {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 16, "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout}  # fmt: skip


def classifier(job: Job) -> Any:
    """The model of the two peers."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(**encoder_options(job.dropout))
    config.num_labels = CLASSES
    model = BertForSequenceClassification(config)
    job.prepare(model)
    return model
