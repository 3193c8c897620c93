"""model_utils.pretraining_model.py against the same models with scores at every place."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from data_loader.masking import Masking, number_units
from model_utils.optim import build_optimizer, build_scheduler
from model_utils.pretraining_model import PretrainingModel
from trainer.step import TrainStep

SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 40, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "distilbert": DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
    "modernbert": ModernBertConfig(**SIZES, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2),
    "electra": ElectraConfig(**SIZES, embedding_size=16),
    "deberta": DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c"]),
}
kinds = pytest.mark.parametrize("kind", CONFIGS)


def language_model(kind: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(CONFIGS[kind], dtype=torch.float32).eval()


def masked_batch(num_rows: int = 6, length: int = 20) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ids = rng.integers(10, 60, (num_rows, length))
    real = np.arange(length) < rng.integers(4, length + 1, (num_rows, 1))
    maskable = real & (np.arange(length) > 0)
    masking = Masking(mask_token_id=4, random_ids=np.arange(10, 60), rate=0.3)
    masked, places, labels = masking(ids, number_units(maskable, maskable), np.arange(num_rows), 0)
    tensors = {"input_ids": np.where(real, masked, 0), "attention_mask": real.astype(np.int64), "masked_places": places}
    return {name: torch.from_numpy(array) for name, array in tensors.items()} | {
        "labels": {"mlm": torch.from_numpy(labels)}, "sample_id": torch.arange(num_rows),
    }  # fmt: skip


def dense_labels(batch: dict[str, Any]) -> torch.Tensor:
    """(B, T), as transformers wants them."""
    dense = torch.full_like(batch["input_ids"], -100)
    for row, (places, labels) in enumerate(zip(batch["masked_places"], batch["labels"]["mlm"], strict=True)):
        known = labels != -100
        dense[row, places[known]] = labels[known]
    return dense


@kinds
def test_loss_and_gradients_are_those_of_scores_everywhere(kind: str) -> None:
    dense, batch = language_model(kind), masked_batch()
    model = PretrainingModel(copy.deepcopy(dense))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = dense(**inputs, labels=dense_labels(batch)).loss
    expected.backward()
    found = model(batch)
    found.loss.backward()
    assert found.logits["mlm"].shape[:2] == batch["masked_places"].shape
    torch.testing.assert_close(found.loss, expected, rtol=1e-6, atol=1e-6)
    pairs = zip(dense.named_parameters(), model.encoder.named_parameters(), strict=True)
    for (name, theirs), (_, ours) in pairs:
        assert (theirs.grad is None) == (ours.grad is None), name
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6, msg=name)


@kinds
def test_without_a_batch_of_ours_the_model_is_as_it_was(kind: str) -> None:
    """Saved and used by transformers it scores every place."""
    dense, ids = language_model(kind), torch.tensor([[5, 6, 7]])
    model = PretrainingModel(copy.deepcopy(dense))
    model(masked_batch())
    assert torch.equal(model.encoder(input_ids=ids).logits, dense(input_ids=ids).logits)
    broken = {**masked_batch(), "input_ids": torch.tensor([[10**6]])}
    with pytest.raises(IndexError):
        model(broken)
    assert torch.equal(model.encoder(input_ids=ids).logits, dense(input_ids=ids).logits)


def test_accumulation_through_the_trainers_step_gives_the_gradient_of_the_whole_batch() -> None:
    batch = masked_batch(8)
    found = []
    for size in (8, 2):
        model = PretrainingModel(language_model("bert"))
        optimizer = build_optimizer(model, 1e-3)
        step = TrainStep(model, optimizer, build_scheduler("constant", optimizer, 0, 1))
        pieces = [{k: v[i : i + size] for k, v in batch.items() if k != "labels"} for i in range(0, 8, size)]
        for number, piece in enumerate(pieces):
            piece["labels"] = {"mlm": batch["labels"]["mlm"][number * size : (number + 1) * size]}
        losses, samples = step.accumulate(pieces)
        found.append((losses["mlm/loss"], samples, [p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.size = max([self.size, *(x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor))])
        return result


def test_no_score_exists_where_nothing_is_masked() -> None:
    torch.manual_seed(0)
    config = BertConfig(**{**SIZES, "vocab_size": 5000})
    model, batch = PretrainingModel(AutoModelForMaskedLM.from_config(config)), masked_batch()
    with Largest() as largest:
        model(batch).loss.backward()
    assert largest.size == max(batch["masked_places"].numel() * 5000, 5000 * 16)
    assert largest.size < batch["input_ids"].numel() * 5000 / 2


def test_scores() -> None:
    model, batch = PretrainingModel(language_model("bert")), masked_batch()
    output, labels = model(batch), batch["labels"]["mlm"]
    head = model.heads["mlm"]
    guessed = head.decode(output.logits["mlm"], batch)
    gold = [row[row != -100].tolist() for row in labels]
    assert [len(row) for row in guessed] == [len(row) for row in gold]
    right = sum(a == b for x, y in zip(guessed, gold, strict=True) for a, b in zip(x, y, strict=True))
    assert head.score(guessed, gold) == {"accuracy": right / sum(map(len, gold))}
    assert head.score(gold, gold) == {"accuracy": 1.0}
    assert head.score_loss(math.log(7)) == {"perplexity": pytest.approx(7)}
    logits = output.logits["mlm"]
    known = labels != -100
    nll = -torch.log_softmax(logits, -1)[known].gather(1, labels[known][:, None])
    torch.testing.assert_close(output.loss, nll.mean())
