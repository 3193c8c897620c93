"""Files from others run no code: pickles in place of weights, states or data, remote code, unsafe YAML, odd labels."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig

import main
from model_utils.encoder import ModelError, load_encoder
from tests.sample_job import TASKS, arguments, files, read
from trainer.checkpoint import CheckpointError, load_tree


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "out"
    assert main.run(arguments(data, output, max_steps=20, save_steps=10, do_eval=None)) == 0
    return output


def plant(folder: Path, name: str, marker: Path) -> None:
    """A pickle in place of a file of a state, with a manifest that fits it."""
    (folder / name).write_bytes(pickle.dumps(Planted(marker)))
    sums = read(folder / "manifest.json")
    sums[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(sums))


@pytest.mark.parametrize("name", ["trainer.safetensors", "trainer_state.json", "model.safetensors", "labels.json",
                                  "config.json", "encoder/model.safetensors", "encoder/config.json",
                                  "tokenizer.json"])  # fmt: skip
def test_a_pickle_in_a_state_is_refused(name, run, data, tmp_path, capsys):
    out = shutil.copytree(run, tmp_path / "out")
    plant(out / "last", name, tmp_path / "marker")
    assert main.run(arguments(data, out, epochs=3, do_eval=None)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and str(out / "last") in message, message
    assert not (tmp_path / "marker").exists()


def test_a_foreign_checkpoint_is_read_as_weights_only(data, tmp_path, capsys):
    """pytorch_model.bin, the older format of transformers, is a pickle: tensors are read, anything else is refused."""
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = AutoModel.from_config(config)
    for name, weights in (("good", model.state_dict()), ("bad", {"x": Planted(tmp_path / "marker")})):
        model.save_pretrained(tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
        torch.save(weights, tmp_path / name / "pytorch_model.bin")
    loaded = load_encoder(str(tmp_path / "good"), vocab_size=0, max_length=0)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ModelError, match="bad cannot be loaded"):
        load_encoder(str(tmp_path / "bad"), vocab_size=0, max_length=0)
    assert not (tmp_path / "marker").exists()


def test_code_beside_a_model_runs_only_when_asked(run, data, tmp_path, capsys):
    """An auto_map in config.json names a Python file; trust_remote_code is off."""
    encoder = shutil.copytree(run / "best" / "encoder", tmp_path / "encoder")
    (encoder / "modeling.py").write_text(f"import os; os.mkdir({str(tmp_path / 'marker')!r})\nclass Model: pass\n")
    config = read(encoder / "config.json")
    config |= {"model_type": "unheard_of", "auto_map": {"AutoModel": "modeling.Model", "AutoConfig": "modeling.Model"}}
    (encoder / "config.json").write_text(json.dumps(config))
    argv = arguments(data, tmp_path / "out", model_name_or_path=encoder, tasks=json.dumps(TASKS), max_steps=1)
    assert main.run(argv) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "cannot be loaded" in message, message
    assert not (tmp_path / "marker").exists() and not (tmp_path / "out").exists()


def test_yaml_makes_plain_values_only(tmp_path, capsys):
    config = tmp_path / "job.yaml"
    config.write_text(f"output_dir: !!python/object/apply:os.mkdir ['{tmp_path / 'marker'}']\n")
    assert main.run(["--config", str(config)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "marker").exists()


def test_labels_and_task_names_never_become_paths(data, tmp_path, capsys):
    """Neither leave the output folder."""
    records = [json.dumps({"text": f"words {i}", "label": label}) for i in range(20)
               for label in ("../../escaped", "/etc/escaped", "a/b")]  # fmt: skip
    (tmp_path / "odd.jsonl").write_text("\n".join(records))
    task = {"name": "topic", "kind": "sequence_classification", "label_column": "label"}
    options = {"train_file": tmp_path / "odd.jsonl", "eval_file": None, "test_file": None, "text_column": "text",
               "max_steps": 2, "cache_dir": tmp_path / "cache"}  # fmt: skip
    out = tmp_path / "a" / "b" / "out"
    assert main.run(arguments(data, out, tasks=json.dumps([task]), **options)) == 0
    assert not [name for name in files(tmp_path) if "escaped" in name]
    assert {path.parts[0] for path in map(Path, files(tmp_path))} == {"odd.jsonl", "cache", "a"}
    for name in ("../topic", "a/b", "a.b"):
        assert main.run(arguments(data, out, tasks=json.dumps([task | {"name": name}]), **options)) == 2
        assert "letters, digits and _ only" in capsys.readouterr().err


def test_a_tree_file_that_is_none(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(pickle.dumps(Planted(tmp_path / "marker")))
    with pytest.raises(CheckpointError, match="is no state of a training"):
        load_tree(tmp_path / "state.safetensors")
    assert not (tmp_path / "marker").exists()
