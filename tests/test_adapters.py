"""Adapters of peft: what they compute, what is trained and saved, going on, and mistakes."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, BertConfig, BertModel

import main
from model_utils.adapters import add_adapters, saved_weights
from model_utils.encoder import ModelError, load_encoder
from model_utils.language_model import is_causal
from model_utils.multitask_model import build_model
from tests.sample_job import TASKS, arguments, files, read
from tests.test_generation_job import arguments as generation_arguments
from tests.test_generation_job import exact_match  # noqa: F401  a fixture for all tests here
from trainer.snapshot import Snapshot

peft = pytest.importorskip("peft", reason="pip install peft")
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["query", "value"]}
IDS = torch.arange(12).view(2, 6)


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained encoder of main.py, with its tokenizer."""
    out = tmp_path_factory.mktemp("base")
    assert main.run(arguments(data, out / "run", debug=True, epochs=1, do_eval=False)) == 0
    return Path(shutil.copytree(out / "run/best/encoder", out / "encoder"))


def changed(encoder: torch.nn.Module) -> torch.nn.Module:
    """New adapters begin at zero."""
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return encoder.eval()


def test_the_new_weights_are_the_low_rank_change_of_the_paper(base: Path, tmp_path: Path) -> None:
    """W + alpha / r * B A, written into a plain model, computes the same; and so does what transformers loads."""
    encoder = load_encoder(str(base), 0)
    add_adapters(encoder, LORA)
    changed(encoder)
    plain = load_encoder(str(base), 0).eval()
    adapters = {name: p for name, p in encoder.named_parameters() if "lora_" in name}
    assert len(adapters) == 2 * 2 * 2  # layers, matrices, A and B
    with torch.no_grad():
        for name in [name for name in adapters if "lora_A" in name]:
            target = name.replace(".lora_A.default.weight", ".weight")
            step = adapters[name.replace("lora_A", "lora_B")] @ adapters[name]
            plain.get_parameter(target).add_(8 / 4 * step)
        found, expected = encoder(IDS).last_hidden_state, plain(IDS).last_hidden_state
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert (found - load_encoder(str(base), 0).eval()(IDS).last_hidden_state).abs().max() > 0.1
        encoder.save_pretrained(tmp_path)
        assert torch.equal(AutoModel.from_pretrained(tmp_path)(IDS).last_hidden_state, found)
        merged = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(base), tmp_path).merge_and_unload()
        torch.testing.assert_close(merged(IDS).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


def test_only_the_adapters_are_trained(base: Path) -> None:
    encoder = load_encoder(str(base), 0)
    add_adapters(encoder, {})
    assert sum(p.requires_grad for p in encoder.parameters()) > 30  # no options, no change
    add_adapters(encoder, LORA)
    assert {name.split(".")[-3] for name, p in encoder.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_a_run_resumes_bit_for_bit_and_best_predicts(data: Path, base: Path, tmp_path: Path) -> None:
    shared = {"debug": True, "peft": json.dumps({**LORA, "lora_dropout": 0.1}), "model_name_or_path": base,
              "lr": 1e-2, "save_steps": 3, "keep_states": 9, "use_ema": True, "ema_decay": 0.5}  # fmt: skip
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert main.run(arguments(data, whole, **shared)) == 0
    assert main.run(arguments(data, again, **shared | {"resume": whole / "states/step-3", "do_eval": False})) == 0
    for name in ("model.safetensors", "encoder/adapter_model.safetensors", "trainer.safetensors"):
        assert (whole / "last" / name).read_bytes() == (again / "last" / name).read_bytes()
    assert not (whole / "best/encoder/model.safetensors").exists()
    assert sum(path.stat().st_size for path in (whole / "best/encoder").glob("*.safetensors")) < 20_000
    trained = load_file(whole / "best/encoder/adapter_model.safetensors")
    assert all(value.abs().max() > 0 for name, value in trained.items() if "lora_B" in name)
    first = read(whole / "test_metrics.json")
    assert main.run(arguments(data, whole, debug=True, do_train=False, model_name_or_path=whole / "best")) == 0
    assert read(whole / "test_metrics.json") == first


@pytest.mark.parametrize("options", [
    LORA,
    LORA | {"bias": "all"},
    LORA | {"modules_to_save": ["pooler"]},
    LORA | {"target_modules": ["query", "word_embeddings"]},
    {"peft_type": "IA3", "target_modules": ["query"], "feedforward_modules": []},
    {"peft_type": "ADALORA", "init_r": 4, "target_modules": ["query"], "total_step": 9},
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
def test_what_is_copied_for_a_save_is_what_the_adapters_need(base: Path, tmp_path: Path, options: Any) -> None:
    """The files are those of the encoder itself; weights that none of them holds are not copied."""
    model = build_model(load_encoder(str(base), 0), [{"name": "a", "kind": "sequence_classification", "labels": ["b"]}])
    everything = sum(value.numel() for value in saved_weights(model).values())
    assert everything == sum(value.numel() for value in model.state_dict().values())
    add_adapters(model.encoder, options)
    changed(model.encoder)
    weights = Snapshot()(saved_weights(model))
    own = {name: value for name, value in weights.items() if name.startswith("encoder.")}
    model.encoder.save_pretrained(tmp_path / "own")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model.save_pretrained(tmp_path / "copy", weights)
    for name in (path.name for path in (tmp_path / "own").iterdir()):
        assert (tmp_path / "copy/encoder" / name).read_bytes() == (tmp_path / "own" / name).read_bytes(), name
    saved = load_file(tmp_path / "own/adapter_model.safetensors")
    assert sum(map(torch.numel, own.values())) <= 1.1 * sum(map(torch.numel, saved.values())) + 300 < everything / 2


def test_saved_adapters_are_trained_further(data: Path, base: Path, tmp_path: Path) -> None:
    """Also when the job starts from a folder of this project; the encoder below stays the same."""
    first, second = tmp_path / "first", tmp_path / "second"
    shared = {"debug": True, "epochs": 1, "lr": 1e-2, "do_eval": False}
    assert main.run(arguments(data, first, **shared, peft=json.dumps(LORA), model_name_or_path=base)) == 0
    before = load_file(base / "model.safetensors")
    assert main.run(arguments(data, second, **shared, tasks=None, model_name_or_path=first / "best")) == 0
    old, new = (load_file(out / "last/encoder/adapter_model.safetensors") for out in (first, second))
    assert old.keys() == new.keys() and all(not torch.equal(old[key], new[key]) for key in old)
    assert all(torch.equal(before[key], value) for key, value in load_file(base / "model.safetensors").items())
    reference = json.loads((second / "last/encoder/adapter_config.json").read_text())["base_model_name_or_path"]
    assert reference == str(base.resolve())


def test_tricks_go_with_adapters(data: Path, base: Path, tmp_path: Path) -> None:
    given = {"debug": True, "epochs": 1, "lr": 1e-2, "do_eval": False, "peft": json.dumps(LORA)}
    found = []
    for names in ([], ["vat", "awp", "child_tuning"], ["rdrop", "sam"]):
        options = given | {f"use_{name}": True for name in names} | {"tasks": json.dumps([TASKS[0]])}
        out = tmp_path / "+".join(["run", *names])
        assert main.run(arguments(data, out, **options, model_name_or_path=base)) == 0
        found.append(load_file(out / "last/encoder/adapter_model.safetensors"))
        assert all(value.isfinite().all() for value in found[-1].values())
        assert all(value.abs().max() > 0 for value in found[-1].values())
    assert all(any(not torch.equal(found[0][key], other[key]) for key in other) for other in found[1:])


def test_a_language_model_with_adapters(tmp_path: Path) -> None:
    out, tuned = tmp_path / "out", tmp_path / "tuned"
    assert main.run(generation_arguments(tmp_path, out, model_name_or_path="scratch:gpt-tiny")) == 0
    base = shutil.copytree(out / "best/encoder", tmp_path / "base")
    lora = json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True})
    given: dict[str, Any] = {"model_name_or_path": base, "peft": lora, "lr": 1e-2}
    assert main.run(generation_arguments(tmp_path, tuned, **given)) == 0
    assert "adapter_model.safetensors" in files(tuned / "best/encoder")
    assert is_causal(str(tuned / "best"))
    first = read(tuned / "eval_metrics.json")
    assert main.run(generation_arguments(tmp_path, tuned, do_train=False)) == 0
    assert read(tuned / "eval_metrics.json") == first


@pytest.mark.parametrize(("options", "message"), [
    ({"peft": "{r: 4}"}, "peft: there is no peft_type None; give peft_type, for example {peft_type: LORA, r: 8}"),
    ({"peft": "{peft_type: LORE}"}, "peft: there is no peft_type 'LORE'; give peft_type"),
    ({"peft": "{peft_type: LORA, rank: 4}"}, "peft: LoraConfig.__init__() got an unexpected keyword argument 'rank'"),
    ({"peft": "{peft_type: LORA, target_modules: [nix]}"}, "peft: Target modules {'nix'} not found in the base model"),
    ({"peft": "{peft_type: PREFIX_TUNING, num_virtual_tokens: 3}"}, "does not support prompt learning"),
    ({"peft": json.dumps(LORA), "use_reinit": True}, "arguments: peft: leaves the encoder as it is; leave "),
    ({"peft": json.dumps(LORA), "use_fgm": True}, "no trainable embedding has word_embeddings"),
    ({"peft": json.dumps(LORA), "use_pgd": True}, "no trainable embedding has word_embeddings"),
    ({"peft": json.dumps(LORA), "extra_tokens": "['[A]']"}, "peft: the tokenizer has more tokens than the "),
    ({"peft": json.dumps(LORA), "model_name_or_path": "scratch:tiny"}, "peft: adapters belong to a trained model; "),
])  # fmt: skip
def test_mistakes_are_one_line(
    data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], message: str
) -> None:
    out = tmp_path / "out"
    assert main.run(arguments(data, out, **{"debug": True, "model_name_or_path": base, **options})) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and message in line and not out.exists()


def test_what_adapters_need_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertModel(BertConfig(vocab_size=20, intermediate_size=8, **sizes)).save_pretrained(tmp_path / "base")
    encoder = load_encoder(str(tmp_path / "base"), 0)
    add_adapters(encoder, LORA)
    encoder.save_pretrained(tmp_path / "adapters")
    with pytest.raises(ModelError, match=r"^peft: the saved model has adapters already, which are trained further"):
        add_adapters(load_encoder(str(tmp_path / "adapters"), 0), LORA)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "peft", None)
        with pytest.raises(ModelError, match=r"^peft: pip install peft \("):
            add_adapters(load_encoder(str(tmp_path / "base"), 0), LORA)
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ModelError, match=r"^model_name_or_path: .*adapters holds adapters: pip install peft$"):
            load_encoder(str(tmp_path / "adapters"), 0)
    (damaged := tmp_path / "damaged").mkdir()
    for content in ("", "{", "[1]", "{}"):
        (damaged / "adapter_config.json").write_text(content)
        with pytest.raises(ModelError, match=r"^model_name_or_path: .*adapter_config.json names no model: "):
            load_encoder(str(damaged), 0)
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"holds adapters of .*/base, which is not there any more$"):
        load_encoder(str(tmp_path / "adapters"), 0)
