"""A masked language model of transformers whose vocabulary scores exist at masked places only.

    model = MaskedLanguageModel(AutoModelForMaskedLM.from_pretrained(path, dtype=torch.float32))
    output = model(batch)                          # output.loss, output.losses["mlm"], output.logits["mlm"] (B, M, V)
    model.encoder.save_pretrained("folder")        # a standard folder

Loss and gradients are those of the model with scores everywhere, of which a mask of 15 % throws 85 % away. It works for
any model of transformers that computes its scores from the last hidden state of its `base_model`: what that returns is
thinned out on its way to the head.

B rows, T sub-words, M masked places of a row, H hidden size, V entries of the vocabulary.
Copy together with: multitask_model.py (for its output), encoder.py, loss_weights.py, heads/__init__.py.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .multitask_model import MultiTaskOutput

TASK = "mlm"


class MaskedLanguageModel(nn.Module):
    """Behind the calls of MultiTaskModel, with the one task "mlm"."""

    def __init__(self, language_model: Any):
        """language_model: an AutoModelForMaskedLM."""
        super().__init__()
        self.encoder = language_model  # under the name by which optimizer, freezing and attacks know a MultiTaskModel's
        self.heads: Any = nn.ModuleDict({TASK: MaskedWords()})
        self.loss_weights = {TASK: 1.0}
        accepted = inspect.signature(language_model.forward).parameters
        self.inputs = [n for n in ("input_ids", "attention_mask", "token_type_ids", "position_ids") if n in accepted]
        self.places: Tensor | None = None
        language_model.base_model.register_forward_hook(self.thin_out)

    def forward(self, batch: Mapping[str, Any], num_items: Mapping[str, Any] | None = None) -> MultiTaskOutput:
        """
        Args:
            batch: input_ids, attention_mask …, masked_places (B, M), labels {"mlm": (B, M)}; -100 = no such place.
            num_items: {"mlm": what to divide the summed loss by}; default: the masked places of this batch.
        """
        self.places = batch["masked_places"]
        try:
            logits = self.encoder(**{name: batch[name] for name in self.inputs if name in batch}).logits  # (B, M, V)
        finally:
            self.places = None
        labels = batch.get("labels", {})
        if TASK not in labels:
            return MultiTaskOutput(None, {}, {TASK: logits}, ())
        head = self.heads[TASK]
        divisor = head.num_items(labels[TASK]).clamp(min=1) if num_items is None else num_items[TASK]
        loss = head.loss(logits, labels[TASK], batch) / divisor
        return MultiTaskOutput(loss, {TASK: loss}, {TASK: logits}, ())

    def thin_out(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Runs between encoder and head."""
        if self.places is not None:
            hidden = output.last_hidden_state  # (B, T, H)
            places = self.places[..., None].expand(-1, -1, hidden.shape[-1])
            output.last_hidden_state = hidden.gather(1, places)  # (B, M, H)
        return output

    def num_items(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        zero = torch.zeros((), dtype=torch.int64)
        return {TASK: self.heads[TASK].num_items(labels[TASK]) if TASK in labels else zero}


class MaskedWords(nn.Module):
    """Cross-entropy at the masked places; there are no parameters, the language model has the scores."""

    LABEL_LEVEL = "word"
    MONITOR = "accuracy"
    LOWER_IS_BETTER = ()

    def loss(self, logits: Tensor, labels: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Summed over the places; logits (B, M, V), labels (B, M)."""
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100, reduction="sum")

    def num_items(self, labels: Tensor) -> Tensor:
        return (labels != -100).sum()

    def decode(self, logits: Tensor, batch: Mapping[str, Any]) -> list[list[int]]:
        """The likeliest sub-word at each masked place of each row."""
        best = logits.argmax(-1).tolist()
        known = (batch["labels"][TASK] != -100).sum(1).tolist()
        return [row[:count] for row, count in zip(best, known, strict=True)]

    def score(self, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, float]:
        pairs = [pair for row in zip(predictions, references, strict=True) for pair in zip(*row, strict=True)]
        return {"accuracy": sum(found == gold for found, gold in pairs) / max(1, len(pairs))}
