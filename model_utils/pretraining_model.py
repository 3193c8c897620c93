"""A language model of transformers, masked or causal, to be trained on blocks of packed texts.

    model = PretrainingModel(AutoModelForMaskedLM.from_pretrained(path, dtype=torch.float32))
    output = model(batch)                          # output.loss, output.losses["mlm"], output.logits["mlm"] (B, M, V)
    model.encoder.save_pretrained("folder")        # a standard folder

Of a masked model, scores of the vocabulary exist at masked places only: loss and gradients are those of the model with
scores everywhere, of which a mask of 15 % throws 85 % away. It works for any model of transformers that computes its
scores from the last hidden state of its `base_model`: what that returns is thinned out on its way to the head.

B rows, T sub-words, M masked places of a row, H hidden size, V entries of the vocabulary.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .multitask_model import MultiTaskOutput
from .pieces import Isolation
from .vocabulary_loss import summed_cross_entropy


class PretrainingModel(nn.Module):
    """Behind the calls of MultiTaskModel, with one task: "mlm", or "clm" of a causal model."""

    def __init__(self, language_model: Any, causal: bool = False):
        """language_model: an AutoModelForMaskedLM, or AutoModelForCausalLM."""
        super().__init__()
        self.encoder = language_model  # under the name by which optimizer, freezing and attacks know a MultiTaskModel's
        self.causal, self.task = causal, "clm" if causal else "mlm"
        self.heads: Any = nn.ModuleDict({self.task: Words()})
        self.loss_weights = {self.task: 1.0}
        accepted = inspect.signature(language_model.forward).parameters
        self.inputs = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in accepted]
        self.options = {"use_cache": False} if causal and "use_cache" in accepted else {}
        self.isolate = Isolation(language_model.base_model, causal)
        self.places: Tensor | None = None
        language_model.base_model.register_forward_hook(self.thin_out)

    def forward(self, batch: Mapping[str, Any], num_items: Mapping[str, Any] | None = None) -> MultiTaskOutput:
        """
        Args:
            batch: input_ids (B, T); pieces (B, T) where attention stays inside the texts, else attention_mask where
                there is padding; token_type_ids; labels of the task: "mlm" (B, M), the sub-words at masked_places
                (B, M), or "clm" (B, T), the sub-words that follow; -100 = none.
            num_items: task -> what to divide the summed loss by; default: the labels of this batch.
        """
        inputs = {name: batch[name] for name in self.inputs if name in batch}
        if "pieces" in batch:
            inputs |= self.isolate(batch["pieces"])
        self.places = batch.get("masked_places")
        try:
            logits = self.encoder(**inputs, **self.options).logits  # (B, M, V), or (B, T, V)
        finally:
            self.places = None
        labels = batch.get("labels", {}).get(self.task)
        if labels is None:
            return MultiTaskOutput(None, {}, {self.task: logits}, ())
        head = self.heads[self.task]
        divisor = head.num_items(labels).clamp(min=1) if num_items is None else num_items[self.task]
        loss = head.loss(logits, labels, batch) / divisor
        return MultiTaskOutput(loss, {self.task: loss}, {self.task: logits}, ())

    def thin_out(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Runs between encoder and head."""
        if self.places is not None:
            hidden = output.last_hidden_state  # (B, T, H)
            places = self.places[..., None].expand(-1, -1, hidden.shape[-1])
            output.last_hidden_state = hidden.gather(1, places)  # (B, M, H)
        return output

    def num_items(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        zero = torch.zeros((), dtype=torch.int64)
        return {self.task: self.heads[self.task].num_items(labels[self.task]) if self.task in labels else zero}


class Words(nn.Module):
    """Cross-entropy of single sub-words; there are no parameters, the language model has the scores."""

    LABEL_LEVEL = "word"
    MONITOR = "perplexity"
    LOWER_IS_BETTER = ("perplexity",)
    EXACT = False
    spec: Mapping[str, Any] = {"options": {}}

    def loss(self, logits: Tensor, labels: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Summed; logits (B, M, V), labels (B, M)."""
        return summed_cross_entropy(logits.flatten(0, 1), labels.flatten())

    def num_items(self, labels: Tensor) -> Tensor:
        return (labels != -100).sum()

    def decode(self, logits: Tensor, batch: Mapping[str, Any]) -> list[list[int]]:
        """The likeliest sub-word wherever there is a label."""
        (labels,) = batch["labels"].values()
        known = labels != -100
        counts = known.sum(1).tolist()
        return [part.tolist() for part in logits.argmax(-1)[known].cpu().split(counts)]

    def score(self, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, float]:
        pairs = [pair for row in zip(predictions, references, strict=True) for pair in zip(*row, strict=True)]
        return {"accuracy": sum(found == gold for found, gold in pairs) / max(1, len(pairs))}

    def score_loss(self, loss: float) -> dict[str, float]:
        """What follows from the mean loss of all sub-words."""
        return {"perplexity": math.exp(min(loss, 700.0))}
