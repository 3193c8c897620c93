"""A language model of transformers behind the same calls as MultiTaskModel, for the one task kind text_generation.

    model = GenerationModel(load_language_model("scratch:small", tokenizer), tokenizer, "translation", Head(0))
    output = model(batch)                          # teacher forcing: output.loss, output.logits["translation"]
    texts = model.eval().generate(batch)           # greedy, beam search or sampling, as the head's options say

Encoder-decoder models read the source and write the target. Causal models go on with the source: it is padded on the
left, so that source and target stand together in one row. B texts, S sub-words of the longest source, L of the target,
V entries of the vocabulary.
"""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, GenerationConfig

from .heads import build_head
from .language_model import load_language_model
from .model_error import ModelError
from .multitask_model import MultiTaskOutput, check_name, encoder_weights, read_folder, write_json


class GenerationModel(nn.Module):
    """Teacher forcing in `forward`, free generation in `generate`."""

    def __init__(
        self,
        language_model: Any,
        tokenizer: Any,
        task: str,
        head: Any,
        loss_weight: float = 1.0,
        max_target_length: int = 128,
    ):
        """
        Args:
            language_model: an encoder-decoder or causal model of transformers.
            tokenizer: makes texts of sub-words.
            task: name of the only task.
            head: see heads/text_generation.py.
            max_target_length: longest text that is generated, in sub-words, where the head does not say max_new_tokens.
        """
        super().__init__()
        self.encoder = language_model  # under the name by which optimizer, freezing and attacks know a MultiTaskModel's
        self.tokenizer = tokenizer
        self.task, self.loss_weights = task, {task: float(loss_weight)}
        self.heads: Any = nn.ModuleDict({task: head})
        self.max_target_length = max_target_length
        self.causal = not language_model.config.is_encoder_decoder
        self.accepted = set(inspect.signature(language_model.forward).parameters)
        self.adds_spaces = " " in tokenizer.convert_tokens_to_string(["中", "文"])
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
        shift = getattr(self.encoder, "prepare_decoder_input_ids_from_labels", self.behind_start)
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        return self.encoder(**inputs, decoder_input_ids=shift(labels=labels), use_cache=False).logits

    def behind_start(self, labels: torch.Tensor) -> torch.Tensor:
        """(B, L): the start token, then all but the last; for models without a method for it, such as M2M100."""
        known = torch.where(labels != -100, labels, self.tokenizer.pad_token_id)
        return torch.cat([torch.full_like(known[:, :1], self.encoder.config.decoder_start_token_id), known[:, :-1]], 1)

    def continued(self, batch: Mapping[str, Any], labels: torch.Tensor) -> torch.Tensor:
        """(B, L, V)."""
        known = labels != -100
        ids = torch.cat([batch["input_ids"], torch.where(known, labels, self.tokenizer.pad_token_id)], 1)  # (B, S + L)
        mask = torch.cat([batch["attention_mask"], known.long()], 1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        options = {"position_ids": positions, "logits_to_keep": labels.shape[1] + 1, "use_cache": False}
        options = {name: value for name, value in options.items() if name in self.accepted}
        logits = self.encoder(input_ids=ids, attention_mask=mask, **options).logits
        return logits[:, -labels.shape[1] - 1 : -1]  # the sub-word before the first of the target predicts that one

    @torch.no_grad()
    def generate(self, batch: Mapping[str, Any]) -> list[str]:
        """Texts, without special tokens.

        With do_sample they are a function of the weights and the batch (its records in their order, the sample id of
        the first): the same on any rank, in any order of the batches, before or after a resume. Records that are
        batched in another way draw other texts. torch's generators are left as they were.
        """
        options = {"max_new_tokens": self.max_target_length, **self.heads[self.task].generation}
        devices = [batch["input_ids"].device] if batch["input_ids"].is_cuda else []
        # a cache that grows would be compiled anew for each layer and most steps
        with torch.random.fork_rng(devices=devices), torch.compiler.set_stance("force_eager"):
            torch.manual_seed(int(batch["sample_id"][0]) % 2**31)
            ids = self.encoder.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **options
            )
        ids = ids[:, batch["input_ids"].shape[1] :] if self.causal else ids
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [(without_spaces(text) if self.adds_spaces else text).strip() for text in texts]

    def num_items(self, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        zero = torch.zeros((), dtype=torch.int64)
        return {self.task: self.heads[self.task].num_items(labels[self.task]) if self.task in labels else zero}

    def save_pretrained(
        self, folder: str | Path, weights: Mapping[str, torch.Tensor] | None = None, **extra: Any
    ) -> None:
        """As MultiTaskModel does; the tokenizer must be saved beside it. encoder/ is the whole language model."""
        folder, spec = Path(folder), self.heads[self.task].spec
        state = encoder_weights(self.state_dict() if weights is None else weights)
        self.encoder.save_pretrained(folder / "encoder", state_dict=state)
        weight = self.loss_weights[self.task]
        tasks = [{"name": self.task, "kind": spec["kind"], "loss_weight": weight, **spec["options"]}]
        write_json(folder / "config.json", {"tasks": tasks, "max_target_length": self.max_target_length, **extra})
        write_json(folder / "labels.json", {self.task: []})

    @classmethod
    def from_pretrained(cls, folder: str | Path, trust_remote_code: bool = False) -> "GenerationModel":
        """The model saved by `save_pretrained`, in eval mode. Raises ModelError if a part does not fit."""
        config, [task] = read_folder(folder)
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
        return build_generation_model(
            str(Path(folder, "encoder")), tokenizer, task, 0, config["max_target_length"], trust_remote_code
        ).eval()


def build_generation_model(
    path: str,
    tokenizer: Any,
    task: Mapping[str, Any],
    max_length: int = 0,
    max_target_length: int = 128,
    trust_remote_code: bool = False,
) -> GenerationModel:
    """From a task description {name, kind, loss_weight?, …options of the head}; see `load_language_model`."""
    check_name(task["name"])
    options = {k: v for k, v in task.items() if k not in ("name", "kind", "labels", "loss_weight")}
    head: Any = build_head(task["kind"], 0, [], options)
    check_options(head.generation)
    longest = max(max_target_length, head.generation.get("max_new_tokens", 0))
    language_model = load_language_model(path, tokenizer, max_length, longest, trust_remote_code)
    weight = task.get("loss_weight", 1.0)
    return GenerationModel(language_model, tokenizer, task["name"], head, weight, max_target_length)


def check_options(options: Mapping[str, Any]) -> None:
    """Raises ModelError for what transformers would refuse at the first evaluation only, and for several texts."""
    config = GenerationConfig()
    for name, value in options.items():
        if not hasattr(config, name) or name in ("max_length", "num_return_sequences", "return_dict_in_generate"):
            raise ModelError(f"generation: there is no option {name!r}; for example max_new_tokens, num_beams, top_p")
        setattr(config, name, value)
    try:
        config.validate(strict=True)
    except (AttributeError, TypeError, ValueError) as error:
        lines = str(error).splitlines()
        reason = next((line for line in lines if line.startswith("- ")), lines[0])
        raise ModelError(f"generation: {reason.removeprefix('- ')}") from error


WIDE = r"\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"  # Chinese, kana, full-width signs
SHARED = "“”‘’…—·"  # signs of Chinese texts and of others
GAP = re.compile(rf"(?<=[{WIDE}]) +(?=[{WIDE}{SHARED}])|(?<=[{SHARED}]) +(?=[{WIDE}])|(?<=[…—]) +(?=[…—])")


def without_spaces(text: str) -> str:
    """Without the spaces that decoding puts between Chinese characters."""
    return GAP.sub("", text)
