"""A shared encoder with one head per task.

    model = build_model(encoder, tasks=[{"name": "intent", "kind": "sequence_classification", "labels": [...]}])
    output = model(batch)                        # output.loss, output.losses["intent"], output.logits["intent"]
    model.save_pretrained("folder"); model = MultiTaskModel.from_pretrained("folder")

A saved folder:
    encoder/           as transformers saves it: AutoModel.from_pretrained("folder/encoder") loads it alone
    model.safetensors  shared layers and heads
    config.json        kinds, options and loss weights of the heads
    labels.json        label names by task
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .encoder import load_encoder
from .heads import build_head
from .loss_weights import UncertaintyWeights
from .model_error import ModelError


@dataclass
class MultiTaskOutput:
    """R inputs of the encoder, T sub-words, H hidden size; `loss` is None without gold labels."""

    loss: torch.Tensor | None
    losses: dict[str, torch.Tensor]
    logits: dict[str, torch.Tensor]
    hidden_states: tuple[torch.Tensor, ...]
    attentions: tuple[torch.Tensor, ...] | None = None


class MultiTaskModel(nn.Module):
    """Encoder -> optional shared layers -> heads."""

    def __init__(
        self,
        encoder: nn.Module,
        heads: Mapping[str, nn.Module],
        loss_weights: Mapping[str, float] | None = None,
        shared_layers: int = 0,
        uncertainty: bool = False,
    ):
        """
        Args:
            encoder: called with input_ids, attention_mask …, returns an object with `last_hidden_state` (R, T, H).
            heads: task -> head, see model_utils/heads/__init__.py.
            loss_weights: task -> factor of its loss; 1 where not given.
            shared_layers: Transformer layers between encoder and heads.
            uncertainty: weights are learned beside these, see loss_weights.py.
        """
        super().__init__()
        self.encoder: Any = encoder
        self.shared_layers = nn.ModuleList(shared_layer(self.encoder.config) for _ in range(shared_layers))
        self.heads: Any = nn.ModuleDict(heads)
        self.loss_weights = {task: float((loss_weights or {}).get(task, 1.0)) for task in heads}
        self.factors: Mapping[str, float] = {}
        """task -> what its loss is multiplied by in training for now, beside its weight; see loss_weights.py"""
        self.uncertainty = UncertaintyWeights(len(heads)) if uncertainty else None
        accepted = inspect.signature(encoder.forward).parameters
        self.inputs = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in accepted]
        self.inputs.append("real_places")  # in batches for an encoder without padding only

    def forward(self, batch: Mapping[str, Any], num_items: Mapping[str, Any] | None = None) -> MultiTaskOutput:
        """
        Args:
            batch: see data_loader/collate.py. In training only the heads of tasks in `labels` run, else those of
                `tasks`, or all where that is absent.
            num_items: task -> number of items to divide its summed loss by; default: the items of this batch. The
                trainer gives the number of the whole group of micro-batches over all ranks.
        """
        inputs = {name: batch[name] for name in self.inputs if name in batch}
        all_layers = any(head.all_layers for head in self.heads.values())
        encoded = self.encoder(**inputs, output_hidden_states=all_layers, return_dict=True)
        hidden = encoded.last_hidden_state  # (R, T, H)
        for layer in self.shared_layers:
            hidden = layer(hidden, src_key_padding_mask=batch["attention_mask"] == 0)
        hidden_states = (*encoded.hidden_states[:-1], hidden) if all_layers else (hidden,)
        output = self.apply_heads(hidden_states, batch, num_items)
        output.attentions = getattr(encoded, "attentions", None)
        return output

    def apply_heads(
        self, hidden_states: tuple[torch.Tensor, ...], batch: Mapping[str, Any], num_items: Mapping[str, Any] | None
    ) -> MultiTaskOutput:
        """The second half of `forward`; tricks run it again on the same hidden states."""
        labels = batch.get("labels", {})
        tasks = labels if self.training else batch.get("tasks", self.heads)
        logits = {task: self.heads[task](hidden_states, batch) for task in tasks}
        losses = {
            task: self.heads[task].loss(logits[task], gold, batch) / self.divisor(task, gold, num_items)
            for task, gold in labels.items()
        }
        total = self.weighted(losses, labels, num_items) if losses else None
        return MultiTaskOutput(total, losses, logits, hidden_states)

    def weighted(
        self, losses: Mapping[str, torch.Tensor], labels: Mapping[str, Any], num_items: Mapping[str, Any] | None
    ) -> torch.Tensor:
        factors = self.factors if self.training else {}
        weighted = torch.stack([self.loss_weights[t] * factors.get(t, 1.0) * loss for t, loss in losses.items()])
        if self.uncertainty is None or not self.training:
            return weighted.sum()
        shares = [self.heads[t].num_items(labels[t]) / self.divisor(t, labels[t], num_items) for t in losses]
        return self.uncertainty(weighted, torch.stack(shares), [list(self.heads).index(t) for t in losses])

    def divisor(self, task: str, gold: torch.Tensor, num_items: Mapping[str, Any] | None) -> Any:
        return num_items[task] if num_items is not None else self.heads[task].num_items(gold).clamp(min=1)

    def num_items(self, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Items of each task in a batch; 0 for a task that is absent, so that all ranks count the same tasks."""
        zero = torch.zeros((), dtype=torch.int64)
        return {t: head.num_items(labels[t]) if t in labels else zero for t, head in self.heads.items()}

    def add_head(self, task: Mapping[str, Any], seed: int) -> None:
        """A head for one more task, on the encoder's device. Raises ModelError.

        Args:
            task: {name, kind, labels, loss_weight?, …options of the head}.
            seed: of its weights, which follow from this and the name alone, whenever it is added.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {task['name']}".encode()).digest()[:8]))
            head = head_of(task, self.encoder.config.hidden_size)
        self.heads[task["name"]] = head.to(self.encoder.device)
        self.loss_weights[task["name"]] = float(task.get("loss_weight", 1.0))

    def save_pretrained(
        self, folder: str | Path, weights: Mapping[str, torch.Tensor] | None = None, **extra: Any
    ) -> None:
        """Write the folder described above.

        Args:
            weights: written in place of its own; a copy of `state_dict()`, for example.
            extra: goes into config.json as it is.
        """
        folder, weights = Path(folder), self.state_dict() if weights is None else weights
        self.encoder.save_pretrained(folder / "encoder", state_dict=encoder_weights(weights))
        state = {k: v.contiguous() for k, v in weights.items() if not k.startswith("encoder.")}
        save_file(state, folder / "model.safetensors")
        tasks = [
            {"name": task, "kind": head.spec["kind"], "loss_weight": self.loss_weights[task], **head.spec["options"]}
            for task, head in self.heads.items()
        ]
        # no "model_type": AutoTokenizer reads this file too, and warns of one that transformers does not know
        shared = {"shared_layers": len(self.shared_layers), "uncertainty": self.uncertainty is not None}
        config = {"tasks": tasks, **shared, **extra}
        write_json(folder / "config.json", config)
        write_json(folder / "labels.json", {task: head.spec["labels"] for task, head in self.heads.items()})

    @classmethod
    def from_pretrained(cls, folder: str | Path, trust_remote_code: bool = False) -> "MultiTaskModel":
        """The model saved by `save_pretrained`, bit for bit; in eval mode. Raises ModelError if a part does not fit."""
        folder = Path(folder)
        config, tasks = read_folder(folder)
        try:
            state = load_file(folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{folder} holds no whole model: {error}") from error
        encoder = load_encoder(str(folder / "encoder"), vocab_size=0, max_length=0, trust_remote_code=trust_remote_code)
        model = build_model(encoder, tasks, config["shared_layers"], config["uncertainty"])
        own = {name: value for name, value in model.state_dict().items() if not name.startswith("encoder.")}
        wrong = sorted(own.keys() ^ state.keys()) or [k for k in own if own[k].shape != state[k].shape]
        if wrong:
            raise ModelError(f"{folder}/model.safetensors does not fit config.json and labels.json: {', '.join(wrong)}")
        model.load_state_dict(state, strict=False)
        return model.eval()


def encoder_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's part of a model's `state_dict()`, by the encoder's own names."""
    return {k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")}


def read_folder(folder: str | Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """config.json of a saved model, and its tasks with their labels. Raises ModelError."""
    try:
        config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
        labels = json.loads(Path(folder, "labels.json").read_text(encoding="utf-8"))
        return config, [task | {"labels": labels[task["name"]]} for task in config["tasks"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} holds no whole model: {error}") from error


def build_model(
    encoder: Any, tasks: Sequence[Mapping[str, Any]], shared_layers: int = 0, uncertainty: bool = False
) -> MultiTaskModel:
    """Heads from task descriptions {name, kind, labels, loss_weight?, …options of the head}. Raises ModelError."""
    heads = {task["name"]: head_of(task, encoder.config.hidden_size) for task in tasks}
    weights = {task["name"]: task.get("loss_weight", 1.0) for task in tasks}
    return MultiTaskModel(encoder, heads, weights, shared_layers, uncertainty)


def head_of(task: Mapping[str, Any], hidden_size: int) -> nn.Module:
    """The head that a task description asks for. Raises ModelError."""
    check_name(task["name"])
    options = {k: v for k, v in task.items() if k not in ("name", "kind", "labels", "loss_weight")}
    return build_head(task["kind"], hidden_size, list(task["labels"]), options)


def check_name(task: str) -> None:
    """Raises ModelError for a name that no module can have."""
    if hasattr(nn.ModuleDict(), task):
        raise ModelError(f"tasks: torch itself needs the name {task!r}; call the task something else")


def shared_layer(config: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(
        config.hidden_size,
        config.num_attention_heads,
        dim_feedforward=4 * config.hidden_size,
        dropout=getattr(config, "hidden_dropout_prob", 0.1),
        activation="gelu",
        batch_first=True,
    )


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
