"""trainer/compile.py: the same numbers with and without; how many graphs there are; where nothing can be compiled.

Quick tests have graphs run by torch's own kernels; C++ of a graph takes a minute.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import AutoModel, BartConfig, BertConfig, BertModel

import main
from experiments.cost import training
from model_utils.cpu_attention import use_cpu_attention
from model_utils.cpu_dropout import use_cpu_dropout
from model_utils.generation_model import build_generation_model
from model_utils.multitask_model import MultiTaskModel, build_model
from tests.sample_job import arguments, files
from tests.test_pieces import CONFIGS, SIZES
from tests.test_speed import batch_of, operations, sequence_model
from tests.tiny import collate as tiny_collate
from tests.tiny import tiny_features, tiny_model, tiny_trainer
from tests.tiny_generation import (
    FAMILIES,
    MAX_LENGTH,
    MAX_TARGET_LENGTH,
    TASK,
    collate,
    features,
    saved_language_model,
    tokenizer_of,
)
from trainer.compile import LIMIT, CompilerError, check_compiler, compile_layers
from tricks.ema import EMA


@pytest.fixture(autouse=True)
def no_graphs_yet() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def trained(model: Any, backend: str | None, folder: Path | None = None, start: Path | None = None, **options: Any
            ) -> tuple[list[float], Any]:  # fmt: skip
    """Loss of each step, and the trainer. backend: None = not compiled."""
    if backend is not None:
        compile_layers(model, "cpu", backend)
    trainer = tiny_trainer(model, folder, logging_steps=1, **options)
    trainer.train_step.averagers.append(EMA(model, 0.9))
    losses: list[float] = []
    trainer.callbacks = [lambda event, step, values: losses.append(values["loss"]) if event == "log" else None]
    if start is not None:
        trainer.resume(start)
    trainer.train()
    return losses, trainer


@pytest.mark.parametrize(("backend", "precision"), [
    ("eager", "fp32"),
    *(pytest.param(*case, marks=pytest.mark.slow)
      for case in (("aot_eager", "bf16"), ("inductor", "fp32"), ("inductor", "bf16"))),
])  # fmt: skip
def test_losses_weights_and_evaluations_are_those_without(backend: str, precision: str) -> None:
    """Attack, accumulation, averages of the weights, evaluation between the epochs, a short last batch."""
    options: dict[str, Any] = {"use_fgm": True, "accumulate": 2, "precision": precision}
    losses, plain = trained(tiny_model(0.0), None, **options)
    found, own = trained(tiny_model(0.0), backend, **options)
    assert graphs() > 0
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    assert found == pytest.approx(losses, rel=tolerance)
    for ours, theirs in zip(own.history, plain.history, strict=True):
        assert ours["eval"] == pytest.approx(theirs["eval"], rel=tolerance)
    assert own.model.state_dict().keys() == plain.model.state_dict().keys()
    for name, value in plain.model.state_dict().items():
        if not name.endswith("key.bias"):  # its gradient is rounding alone, of which Adam makes steps of full length
            torch.testing.assert_close(own.model.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_one_dropout_included(tmp_path: Path) -> None:
    """Bit for bit; masks of compiled dropout follow from torch's generator, too."""
    losses, whole = trained(tiny_model(), "inductor", epochs=1)
    first, _ = trained(tiny_model(), "inductor", tmp_path, max_steps=6, epochs=1)
    torch.manual_seed(5)
    model = MultiTaskModel.from_pretrained(tmp_path / "last")
    second, resumed = trained(model, "inductor", start=tmp_path / "last", epochs=1)
    assert first + second == losses and len(second) == 7
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.slow
def test_dropout_and_attention_of_a_cpu_draw_the_same_masks_inside_a_compiled_layer() -> None:
    """main.py leaves them out then; who copies them may not. NumPy counts bits there, which no graph can."""
    losses = []
    for compiled in (False, True):
        model = tiny_model(0.3)
        use_cpu_attention(model.encoder)
        use_cpu_dropout(model)
        if compiled:
            compile_layers(model, "cpu", "eager")
        model.train()
        torch.manual_seed(1)
        output = model(tiny_collate()(tiny_features(4)))
        output.loss.backward()
        losses.append([output.loss.item(), model.encoder.embeddings.word_embeddings.weight.grad.norm().item()])
    assert graphs() > 0 and losses[1] == pytest.approx(losses[0], rel=1e-5)


def call(model: Any, rows: int, length: int, padded: bool) -> None:
    """A pass; in training with gradients."""
    ids, mask = torch.randint(5, 50, (rows, length)), torch.ones(rows, length, dtype=torch.long)
    mask[0, -2:] = 1 - padded
    more = {"use_cache": False} if model.config.model_type in ("gpt2", "llama", "bart") else {}
    with torch.set_grad_enabled(model.training):
        output = model(input_ids=ids, attention_mask=mask, **more)
    if model.training:
        output.last_hidden_state.sum().backward()


BART = BartConfig(vocab_size=60, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
                  decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
                  max_position_embeddings=70)  # fmt: skip


@pytest.mark.parametrize(("config", "kinds"), [
    (CONFIGS["bert"], 1),
    *(pytest.param(config, kinds, marks=pytest.mark.slow)
      for config, kinds in ((CONFIGS["modernbert"], 2), (CONFIGS["gpt2"], 1), (CONFIGS["llama"], 1), (BART, 2))),
])  # fmt: skip
def test_thirty_lengths_take_one_graph_of_each_kind_of_layer(config: Any, kinds: int) -> None:
    """Not one for each length, nor for each layer; another for evaluation, for batches without padding, for one row."""
    model = AutoModel.from_config(config, dtype=torch.float32)
    assert compile_layers(model, "cpu", "eager") > kinds
    for mode in (True, False):
        model.train(mode)
        for padded, rows in ((True, 4), (False, 4), (True, 1)):
            before = graphs()
            for length in range(6, 36):
                call(model, rows, length, padded)
            assert graphs() - before <= kinds, (mode, padded, rows)
    assert 0 < graphs() <= 6 * kinds < LIMIT
    model.train()
    before = graphs()
    for length in range(5, 40, 5):  # all has been there
        call(model, 7, length, padded=True)
    assert graphs() == before


@pytest.mark.slow
def test_a_first_batch_as_long_as_it_has_rows_costs_one_graph_more() -> None:
    model = BertModel(BertConfig(**SIZES)).train()
    compile_layers(model, "cpu", "eager")
    for rows, length in ((8, 8), (8, 9), (5, 5), (3, 12)):
        call(model, rows, length, padded=True)
    assert graphs() <= 2


def test_layers_behind_the_encoder_are_compiled_and_counted_too() -> None:
    """Operations are those that are counted without; only the first step is counted, and the graph stays."""
    ours, theirs = operations(sequence_model(), batch_of(4, 30, 20))
    model = sequence_model()
    assert compile_layers(model, "cpu", "eager") == 3
    calls = [layer._compiled_call_impl for layer in model.encoder.encoder.layer]
    assert operations(model, batch_of(4, 30, 20)) == pytest.approx((ours, theirs))
    assert [layer._compiled_call_impl for layer in model.encoder.encoder.layer] == calls
    assert graphs() == 1 and not counters["graph_break"]
    tasks = [{"name": "a", "kind": "sequence_classification", "labels": ["x", "y"]}]
    encoder: Any = BertModel(BertConfig(**SIZES), add_pooling_layer=False)
    assert compile_layers(build_model(encoder, tasks, shared_layers=2), "cpu", "eager") == 3 + 2


def test_texts_are_generated_without_graphs(tmp_path: Path) -> None:
    """Otherwise the cache of keys and values would make one for each layer and most lengths."""
    path = saved_language_model("bart", tmp_path, steps=1)
    tokenizer = tokenizer_of(FAMILIES["bart"])
    model = build_generation_model(path, tokenizer, TASK, MAX_LENGTH, MAX_TARGET_LENGTH).eval()
    batch = collate(model, features(model))
    expected = model.generate(batch)
    compile_layers(model, "cpu", "eager")
    assert model.generate(batch) == expected and graphs() == 0
    model(batch)
    assert graphs() > 0


def test_an_option_of_main_compiles_the_layers(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU attention stays torch's own: one graph and not ten."""
    model = training(arguments(data, tmp_path, compile="true", debug="true", do_eval=None))["train_step"].module
    assert all(layer._compiled_call_impl is not None for layer in model.encoder.encoder.layer)
    assert model.encoder.config._attn_implementation == "sdpa"
    assert "2 layers are compiled when they are first used" in capsys.readouterr().out


def test_without_a_compiler_nothing_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    assert main.run(arguments(data, tmp_path / "out", compile="true", debug="true")) == 2
    error = "error: compile: no C++ compiler here; install g++, or leave --compile out"
    assert capsys.readouterr().err.splitlines()[-1] == error
    assert not files(tmp_path / "out")
    if not torch.cuda.is_available():
        with pytest.raises(CompilerError, match="no Triton for cuda here"):
            check_compiler("cuda")
