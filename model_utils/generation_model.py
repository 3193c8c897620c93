"""A language model of transformers behind the same calls as MultiTaskModel, for the one task kind text_generation.

    model = GenerationModel(load_language_model("scratch:small", tokenizer), tokenizer, "translation", Head(0))
    output = model(batch)                          # teacher forcing: output.loss, output.logits["translation"]
    texts = model.generate(batch)                  # beam search or sampling, as the head's options say

Encoder-decoder models read the source and write the target. Causal models go on with the source: it is padded on the
left, so that source and target stand together in one row. B texts, S sub-words of the longest source, L of the target.
"""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GPT2Config, T5Config

from .encoder import SCRATCH, ModelError, load_weights
from .heads import build_head
from .multitask_model import MultiTaskOutput, read_folder, write_json

CAUSAL = "gpt-"  # scratch:gpt-small


class GenerationModel(nn.Module):
    """Teacher forcing in `forward`, free generation in `generate`."""

    def __init__(self, language_model: Any, tokenizer: Any, task: str, head: Any, loss_weight: float = 1.0):
        """
        Args:
            language_model: an encoder-decoder or causal model of transformers.
            tokenizer: makes texts of sub-words; its padding side must be that of the batches.
            task: name of the only task.
            head: see heads/text_generation.py.
        """
        super().__init__()
        self.encoder = language_model  # under the name by which optimizer, freezing and attacks know a MultiTaskModel's
        self.tokenizer = tokenizer
        self.task, self.loss_weights = task, {task: float(loss_weight)}
        self.heads: Any = nn.ModuleDict({task: head})
        self.causal = not language_model.config.is_encoder_decoder
        self.accepted = inspect.signature(language_model.forward).parameters
        head.generate = self.generate

    def forward(self, batch: Mapping[str, Any], num_items: Mapping[str, Any] | None = None) -> MultiTaskOutput:
        """Without gold labels there is nothing to force: no loss, and logits None."""
        if self.task not in batch.get("labels", {}):
            return MultiTaskOutput(None, {}, {self.task: None}, ())  # type: ignore[dict-item]
        labels = batch["labels"][self.task]
        logits = self.continued(batch, labels) if self.causal else self.translated(batch, labels)
        head = self.heads[self.task]
        divisor = num_items[self.task] if num_items is not None else head.num_items(labels).clamp(min=1)
        loss = head.loss(logits, labels, batch) / divisor
        return MultiTaskOutput(self.loss_weights[self.task] * loss, {self.task: loss}, {self.task: logits}, ())

    def translated(self, batch: Mapping[str, Any], labels: torch.Tensor) -> torch.Tensor:
        """(B, L, V)."""
        decoder_input_ids = self.encoder.prepare_decoder_input_ids_from_labels(labels=labels)
        return self.encoder(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], decoder_input_ids=decoder_input_ids
        ).logits

    def continued(self, batch: Mapping[str, Any], labels: torch.Tensor) -> torch.Tensor:
        """(B, L, V)."""
        known = labels != -100
        ids = torch.cat([batch["input_ids"], torch.where(known, labels, self.tokenizer.pad_token_id)], 1)  # (B, S + L)
        mask = torch.cat([batch["attention_mask"], known.long()], 1)
        options = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0), "logits_to_keep": labels.shape[1] + 1}
        options = {name: value for name, value in options.items() if name in self.accepted}
        logits = self.encoder(input_ids=ids, attention_mask=mask, **options).logits
        return logits[:, -labels.shape[1] - 1 : -1]  # the sub-word before the first of the target predicts that one

    @torch.no_grad()
    def generate(self, batch: Mapping[str, Any]) -> list[str]:
        """Texts, without special tokens."""
        options = self.heads[self.task].generation
        devices = [batch["input_ids"].device] if batch["input_ids"].is_cuda else []
        with torch.random.fork_rng(devices=devices):  # sampling leaves the generators of training alone
            torch.manual_seed(int(batch["sample_id"][0]) % 2**31)
            ids = self.encoder.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **options
            )
        ids = ids[:, batch["input_ids"].shape[1] :] if self.causal else ids
        return [without_spaces(text) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def num_items(self, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        zero = torch.zeros((), dtype=torch.int64)
        return {self.task: self.heads[self.task].num_items(labels[self.task]) if self.task in labels else zero}

    def save_pretrained(self, folder: str | Path, **extra: Any) -> None:
        """As MultiTaskModel does; the tokenizer must be saved beside it. encoder/ is the whole language model."""
        folder, spec = Path(folder), self.heads[self.task].spec
        self.encoder.save_pretrained(folder / "encoder")
        weight = self.loss_weights[self.task]
        tasks = [{"name": self.task, "kind": spec["kind"], "loss_weight": weight, **spec["options"]}]
        write_json(folder / "config.json", {"tasks": tasks, "shared_layers": 0, **extra})
        write_json(folder / "labels.json", {self.task: []})

    @classmethod
    def from_pretrained(cls, folder: str | Path, trust_remote_code: bool = False) -> "GenerationModel":
        """The model saved by `save_pretrained`, in eval mode. Raises ModelError if a part does not fit."""
        _, [task] = read_folder(folder)
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
        language_model = load_language_model(str(Path(folder, "encoder")), tokenizer, 0, trust_remote_code)
        return build_generation_model(language_model, tokenizer, task).eval()


def build_generation_model(language_model: Any, tokenizer: Any, task: Mapping[str, Any]) -> GenerationModel:
    options = {k: v for k, v in task.items() if k not in ("name", "kind", "labels", "loss_weight")}
    head = build_head(task["kind"], 0, [], options)
    return GenerationModel(language_model, tokenizer, task["name"], head, task.get("loss_weight", 1.0))


def is_causal(path: str, trust_remote_code: bool = False) -> bool:
    """Whether the language model goes on with its own input. Raises ModelError if it does not generate at all."""
    if path.startswith("scratch:"):
        return path.removeprefix("scratch:").startswith(CAUSAL)
    folder = Path(path, "encoder") if Path(path, "labels.json").is_file() else path
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"model_name_or_path: {path} has no configuration that can be read: {reason}") from error
    return not config.is_encoder_decoder


def load_language_model(path: str, tokenizer: Any, max_length: int = 0, trust_remote_code: bool = False) -> Any:
    """A language model in fp32, or a new one: scratch:SIZE is a T5, scratch:gpt-SIZE a GPT-2.

    Args:
        path: a hub name, a folder, or scratch:…
        max_length: longest input and target together; a causal model with fewer positions is refused.

    Raises: ModelError if it cannot be loaded, lacks weights or is too short.
    """
    causal = is_causal(path, trust_remote_code)
    auto_class: Any = AutoModelForCausalLM if causal else AutoModelForSeq2SeqLM
    if path.startswith("scratch:"):
        model = auto_class.from_config(scratch_config(path, tokenizer, max_length), dtype=torch.float32)
    else:
        model = load_weights(auto_class, path, trust_remote_code)
    positions = getattr(model.config, "n_positions" if causal else "max_position_embeddings", None)
    if causal and positions and positions < max_length:
        raise ModelError(f"max_length: {path} has {positions} positions for input and target, not {max_length}")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def scratch_config(path: str, tokenizer: Any, max_length: int) -> Any:
    size = path.removeprefix("scratch:").removeprefix(CAUSAL)
    hidden, layers, heads = SCRATCH[size]
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": end}
    if path.startswith(f"scratch:{CAUSAL}"):
        return GPT2Config(vocab_size=len(tokenizer), n_embd=hidden, n_layer=layers, n_head=heads,
                          n_positions=max(512, max_length), bos_token_id=end, **ids)  # fmt: skip
    config = T5Config(vocab_size=len(tokenizer), d_model=hidden, num_layers=layers, num_heads=heads,
                      d_kv=hidden // heads, d_ff=4 * hidden, feed_forward_proj="gated-gelu", **ids)  # fmt: skip
    config.decoder_start_token_id = tokenizer.pad_token_id
    return config


WIDE = r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]"  # Chinese characters and punctuation, kana, full-width forms


def without_spaces(text: str) -> str:
    """Without the spaces that decoding puts between Chinese characters."""
    return re.sub(rf"(?<={WIDE})\s+(?={WIDE})", "", text).strip()
