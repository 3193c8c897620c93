"""docs/faq.md: what it says of this project and of seqeval is tried."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

import main
from config import Arguments, get_args
from data_process.encode import RecordEncoder
from data_process.labels import LabelVocab
from data_process.sample_data import generate
from data_process.schema import LabelColumn, Schema
from data_process.tokenizer import train_tokenizer
from model_utils.encoder import ModelError, load_encoder
from tests.sample_job import TASKS, arguments
from tests.test_docs_commands import ROOT

TEXT = re.sub(r"\s+", " ", (ROOT / "docs/faq.md").read_text(encoding="utf-8"))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_an_unknown_metric_is_answered_with_the_names(data: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "out"
    assert main.run(arguments(data, output, monitor="f1")) == 2
    said = capsys.readouterr().err
    shown = "monitor: unknown metric 'f1'; there are intent/accuracy, intent/loss, "
    assert shown in said and f"`{shown}…`" in TEXT and not (output / "config.yaml").exists()


def test_a_state_that_resumes_is_three_times_one_that_predicts(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main.run(arguments(data, output, max_steps=2, epochs=1, do_eval=None)) == 0
    assert size(output / "last") / size(output / "best") == pytest.approx(3, abs=0.2)
    weights = load_file(output / "best/model.safetensors")
    assert weights and all(isinstance(weight, torch.Tensor) for weight in weights.values())
    known = {"safetensors", "json", "yaml", "jsonl", "log", "txt", "md", "html", "csv"}
    others = {path for path in output.rglob("*") if path.is_file() and path.suffix[1:] not in known}
    assert all(path.parent.name == "tensorboard" or path.name.startswith(".") for path in others)
    info = json.loads((output / "dataset_info.json").read_text(encoding="utf-8"))
    assert "truncated_share" in json.dumps(info)


def test_seqeval_by_default_and_strict() -> None:
    gold, predicted = [["B-x", "I-x"]], [["I-x", "I-x"]]
    assert f1_score(gold, predicted) == 1.0
    assert f1_score(gold, predicted, mode="strict", scheme=IOB2, zero_division=0) == 0.0
    assert "`[I-x, I-x]` against `[B-x, I-x]` has F1 1.0 in the default mode and 0.0 in strict IOB2" in TEXT


def test_every_word_has_a_place() -> None:
    (shown,) = re.findall(r"The list `(\[.*?\])` has 5 words and 5 places", TEXT)
    words = json.loads(shown)
    assert len(words) == 5 and "\u200b" in words
    tokenizer = train_tokenizer((" ".join(record["tokens"]) for record in generate(50)), 200)
    schema = Schema("tokens", None, (LabelColumn("slots", "tags", "word"),))
    encode = RecordEncoder(tokenizer, schema, {"slots": LabelVocab(["O"])}, 32)
    (feature,) = encode([(0, {"tokens": words, "tags": ["O"] * 5})])
    assert len(feature["word_starts"]) == len({*feature["word_starts"]}) == feature["num_words"] == 5
    assert len(feature["labels"]["slots"]) == 5


def test_a_checkpoint_may_lack_a_pooler_only(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    load_encoder("scratch:tiny", vocab_size=50).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in weights.items() if not k.startswith("pooler.")}, tmp_path / "model.safetensors",
              {"format": "pt"})  # fmt: skip
    load_encoder(str(tmp_path), vocab_size=0)
    lost = "encoder.layer.0.output.dense.weight"
    save_file({k: v for k, v in weights.items() if k != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=lost):
        load_encoder(str(tmp_path), vocab_size=0)


def test_the_defaults_that_are_named() -> None:
    default = Arguments()
    assert (default.lr, default.epochs, default.batch_size, default.keep_states) == (5e-5, 3, 32, 0)
    assert get_args(["--config", str(ROOT / "configs/sample_joint.yaml")]).lr == 1e-3
    assert torch.finfo(torch.float16).max == 65504 and "fp16 overflows above 65,504" in TEXT
    assert {task["name"] for task in TASKS} == {"intent", "slots"}


def test_options_files_and_threads_that_are_named_exist() -> None:
    options = set(re.findall(r"`--(\w+)", TEXT)) | set(re.findall(r" --(\w+)", TEXT))
    elsewhere = {"config", "space", "trials"}
    assert len(options) > 25 and options - elsewhere <= set(vars(Arguments()))
    for name in re.findall(r"`((?:tests|configs|model_utils)/[\w/.]+)`", TEXT):
        assert (ROOT / name).is_file(), name
    links = re.findall(r"\]\((https://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/\d+)\)", TEXT)
    assert len(links) > 12 and len(links) == len({*links})
