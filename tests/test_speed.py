"""trainer/speed.py against torch's own counter of operations, and against what was trained."""

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, BertConfig, BertModel

from model_utils import cpu_attention, unpadded_encoder
from model_utils.multitask_model import build_model
from model_utils.pretraining_model import PretrainingModel
from model_utils.unpadded_encoder import use_unpadding
from tests.tiny import tiny_features, tiny_model, tiny_trainer
from trainer.monitor import RunLog
from trainer.speed import PARTS, Speed, describe, peak_flops

SIZES: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40,
    "max_position_embeddings": 64, "attn_implementation": "eager",
}  # fmt: skip


PEAKS_OF_DEVICES = [  # name, FLOP/s in half precision, in fp32
    ("NVIDIA H100 80GB HBM3", 989e12, 67e12), ("NVIDIA H100 PCIe", 756e12, 51e12), ("NVIDIA H200", 989e12, 67e12),
    ("NVIDIA A100-SXM4-40GB", 312e12, 19.5e12), ("Tesla T4", 65e12, 8.1e12), ("NVIDIA L40S", 362e12, 91.6e12),
    ("NVIDIA L40", 181e12, 90.5e12), ("NVIDIA GeForce RTX 4090", 165.2e12, 82.6e12),
    ("Tesla V100-PCIE-16GB", 112e12, 14e12), ("NVIDIA GeForce RTX 4090 Laptop GPU", 0, 0), ("unheard of", 0, 0),
]  # fmt: skip


def operations(model: Any, batch: dict[str, Any], passes: int = 1, padded: bool = True) -> tuple[float, float]:
    """Ours and torch's, of so many forward and backward passes."""
    speed = Speed(padded=padded)
    other = copy.deepcopy(model)
    with speed.counting(model, [batch]):
        for _ in range(passes):
            model(batch).loss.backward()
    speed.count(batch)
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, torch.nn.Linear))
    with FlopCounterMode(display=False) as counter:
        for _ in range(passes):
            other(batch).loss.backward()
    return float(speed.flops), counter.get_total_flops()


def sequence_model(**sizes: Any) -> Any:
    encoder = BertModel(BertConfig(**SIZES | sizes), add_pooling_layer=False)
    return build_model(encoder, [{"name": "a", "kind": "sequence_classification", "labels": ["x", "y"]}])


def batch_of(rows: int, length: int, real: int) -> dict[str, Any]:
    mask = (torch.arange(length) < real).long().expand(rows, length)
    return {"input_ids": torch.randint(5, 50, (rows, length)), "attention_mask": mask,
            "labels": {"a": torch.zeros(rows, dtype=torch.long)}, "sample_id": torch.arange(rows)}  # fmt: skip


def test_operations_are_those_that_torch_counts() -> None:
    torch.manual_seed(0)
    ours, theirs = operations(sequence_model(), batch_of(4, 30, 20))
    assert ours == pytest.approx(theirs, rel=1e-3)
    frozen = sequence_model()
    for parameter in frozen.encoder.parameters():
        parameter.requires_grad_(False)
    linear = Speed()
    with linear.counting(frozen, [batch_of(4, 30, 20)]):
        frozen(batch_of(4, 30, 20))
    trained = Speed()
    with trained.counting(model := sequence_model(), [batch_of(4, 30, 20)]):
        model(batch_of(4, 30, 20))
    assert linear.flops_per_place == pytest.approx(trained.flops_per_place / 3, rel=1e-2)


def test_without_padding_operations_are_those_on_real_sub_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding within the tiles of attention does not count; here is none."""
    monkeypatch.setattr(unpadded_encoder, "WASTE", 0)
    monkeypatch.setattr(cpu_attention, "SMALL", 0)
    model = sequence_model(attn_implementation="sdpa").train()
    use_unpadding(model.encoder)
    batch = batch_of(3, 30, 30)
    batch["attention_mask"] = (torch.arange(30) < torch.tensor([[7], [30], [12]])).long()
    ours, theirs = operations(model, batch, padded=False)
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert ours < 0.6 * operations(sequence_model(), batch)[0]


def test_scores_of_masked_places_only_are_counted_as_such_and_further_passes_too() -> None:
    torch.manual_seed(0)
    model = PretrainingModel(AutoModelForMaskedLM.from_config(BertConfig(**SIZES | {"vocab_size": 500})))
    some = {"masked_places": torch.randint(30, (4, 3)), "labels": {"mlm": torch.ones(4, 3, dtype=torch.long)}}
    batch = batch_of(4, 30, 30) | some
    ours, theirs = operations(model, batch)
    assert ours == pytest.approx(theirs, rel=1e-3)
    everywhere = batch | {"masked_places": torch.arange(30).expand(4, 30), "labels": {"mlm": torch.ones(4, 30).long()}}
    saved = 4 * (30 - 3) * (500 + 24) * 24 * 6  # of the vocabulary, and of the layer before it
    assert operations(model, everywhere)[0] == pytest.approx(ours + saved, rel=1e-3)
    assert operations(model, batch, passes=2)[0] < 2 * ours, "attention is counted once"


def test_figures_between_two_calls() -> None:
    speed = Speed()
    speed.count(batch_of(3, 10, 5))
    first = speed.since("a")
    assert first["samples/s"] * first["seconds"] == pytest.approx(3)
    with speed("data"):
        time.sleep(0.05)
    speed.count(batch_of(2, 20, 20))
    speed.count(batch_of(2, 20, 10))
    second, both = speed.since("a"), speed.since("b")
    assert second["tokens/s"] * second["seconds"] == pytest.approx(60)
    assert second["padding"] == pytest.approx(0.25) and both["padding"] == pytest.approx(1 - 75 / 110)
    assert 0.5 < second["time/data"] <= 1 and second["time/forward"] == 0
    assert second["time/data"] * second["seconds"] == pytest.approx(0.05, abs=0.02)
    assert second["memory_GiB"] > 0.05
    assert "40 sub-words/s" not in describe(second) and "25% padding" in describe(second)


def test_mfu_is_the_share_of_a_known_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 2**31)
    gpu = torch.device("cuda")
    for name, half, single in PEAKS_OF_DEVICES:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert [peak_flops(gpu, precision) for precision in ("bf16", "fp16", "fp32")] == [half, half, single], name
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert peak_flops(gpu, "fp32") == 0, "TF32 is another unit"
    speed = Speed(peak=312e12)
    speed.device = gpu
    speed.flops += 1e12
    found = speed.since("x")
    assert found["MFU"] == pytest.approx(1e12 / found["seconds"] / 312e12) and found["memory_GiB"] == 2
    assert "MFU" in describe(found)
    assert peak_flops(torch.device("cpu"), "bf16") == 0 and "MFU" not in Speed().since("x")


def test_the_mfu_of_a_run_in_closed_form() -> None:
    """6 operations per weight of a linear layer and sub-word, 12 L T d of attention, over the seconds and the peak."""
    heard = {}
    trainer = tiny_trainer(tiny_model(decoder="linear"), epochs=1, accumulate=5, train=tiny_features(20),
                           callbacks=[lambda event, step, values: heard.update({event: values})])  # fmt: skip
    trainer.train_step.speed.peak = 1e9
    shapes = [batch["input_ids"].shape for batch in trainer.train_loader(0, 0)]
    trainer.train()
    layers, width, inner, heads = 2, 16, 32, 16 * (3 + 5)
    places, squares = sum(r * t for r, t in shapes), sum(r * t * t for r, t in shapes)
    encoder = 6 * layers * (4 * width**2 + 2 * width * inner) * places + 12 * layers * squares * width
    done = heard["total"]["MFU"] * 1e9 * heard["total"]["seconds"]
    assert done == pytest.approx(float(trainer.train_step.speed.flops))
    assert encoder < done < encoder + 6 * heads * places, "heads see fewer places than the encoder"


def test_a_run_says_how_fast_it_was(tmp_path: Path) -> None:
    heard = []
    trainer = tiny_trainer(tiny_model(), tmp_path, logging_steps=5, accumulate=2, use_fgm=True,
                           callbacks=[lambda event, step, values: heard.append((event, step, values))])  # fmt: skip
    trainer.callbacks.append(RunLog(tmp_path, tensorboard=False))
    trainer.train()
    written = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert written == next(values for event, _, values in heard if event == "total")
    assert written["samples/s"] * written["seconds"] == pytest.approx(100)
    tokens = 2 * sum(len(feature["input_ids"]) for feature in tiny_features(50))
    assert written["tokens/s"] * written["seconds"] == pytest.approx(tokens)
    assert all(written[f"time/{part}"] > 0 for part in PARTS)
    assert 0.5 < sum(written[f"time/{part}"] for part in PARTS) < 1.001
    steps = {name: [step for event, step, _ in heard if event == name] for name in ("log", "speed")}
    assert steps["speed"] == steps["log"] == [5, 10]
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    assert "samples/s" not in lines, "what differs between two runs of the same job is elsewhere"
