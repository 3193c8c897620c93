"""main.py on a task that generates texts, with an encoder-decoder and a causal model: learning, resuming, mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

import main
from data_process.tokenizer import train_tokenizer
from model_utils.heads.text_generation import Head
from tests.sample_job import files, read
from trainer.monitor import RunLog

PAIRS = [
    ("Hello, World!", "你好，世界！"), ("Play it again.", "再弹一次。"), ("What's new?", "有什么新闻？"),
    ("Wake me at 7:30.", "请在7:30叫我。"), ("I don't know.", "我不知道。"), ("Where is Anna?", "安娜在哪里？"),
    ("See you Tomorrow!", "明天见！"), ("She has 3 books.", "她有3本书。"), ("Open the Window.", "打开“窗户”。"),
    ("It's too late.", "太晚了，OK。"),
]  # fmt: skip
RECORDS = [{"source": a, "target": b} for pair in PAIRS for a, b in (pair, pair[::-1])]
TASK = {"name": "reply", "kind": "text_generation", "label_column": "target"}
LEARNED: dict[str, Any] = {"scratch:tiny": {"lr": 1e-2, "repeat": 45}, "scratch:gpt-tiny": {"lr": 5e-3, "repeat": 40}}


@pytest.fixture(autouse=True)
def exact_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of scores that need libraries of their own."""

    def score(self: Any, predictions: Any, references: Any) -> dict[str, float]:
        share = sum(p == r for p, r in zip(predictions, references, strict=True)) / len(references)
        return {"bleu": share, "exact_match": share}

    monkeypatch.setattr(Head, "score", score)


def arguments(folder: Path, output: Path, repeat: int = 1, task: dict[str, Any] = TASK, **options: Any) -> list[str]:
    for name, records in (("train", RECORDS * repeat), ("dev", RECORDS)):
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    options = {
        "tasks": json.dumps([task]), "text_column": "source", "train_file": folder / "train.jsonl",
        "eval_file": folder / "dev.jsonl", "scratch_vocab_size": 400, "cache_dir": folder / "cache",
        "output_dir": output, "do_train": True, "do_eval": True, "epochs": 1, "batch_size": 10, "max_length": 32,
        "max_target_length": 32, "warmup_ratio": 0.1, "device": "cpu", "precision": "fp32",
    } | options  # fmt: skip
    return [text for name, value in options.items() if value is not None for text in (f"--{name}", str(value))]


@pytest.mark.parametrize("model", [pytest.param("scratch:tiny", marks=pytest.mark.slow), "scratch:gpt-tiny"])
def test_twenty_pairs_are_learned_to_the_letter(model: str, tmp_path: Path) -> None:
    """Chinese and English, capitals and signs; best/ alone predicts the same, and transformers loads what is in it."""
    out = tmp_path / "out"
    assert main.run(arguments(tmp_path, out, model_name_or_path=model, **LEARNED[model])) == 0
    assert read(out / "eval_metrics.json")["reply/exact_match"] == 1.0
    assert (out / "errors" / "eval.jsonl").read_text() == ""
    info = read(out / "dataset_info.json")["eval"]
    assert (info["records"], info["truncated_share"], info["unknown_token_share"]) == (20, 0, 0)

    bare = tmp_path / "bare.jsonl"
    bare.write_text("\n".join(json.dumps({"source": record["source"]}) for record in RECORDS), encoding="utf-8")
    argv = ["--do_predict", "--predict_file", bare, "--model_name_or_path", out / "best", "--device", "cpu"]
    argv += ["--precision", "fp32", "--output_dir", tmp_path / "new", "--cache_dir", tmp_path / "cache"]
    assert main.run([str(a) for a in [*argv, "--eval_batch_size", 3]]) == 0
    lines = (tmp_path / "new" / "predictions" / "bare.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["predictions"]["reply"] for line in lines] == [record["target"] for record in RECORDS]

    encoder = out / "best" / "encoder"
    auto_class: Any = AutoModelForCausalLM if "gpt" in model else AutoModelForSeq2SeqLM
    language_model, tokenizer = auto_class.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    source = tokenizer("Hello, World!", return_tensors="pt")
    ids = language_model.generate(**source, max_new_tokens=32)[0]
    ids = ids[source["input_ids"].shape[1] :] if "gpt" in model else ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "你好，世界！"


@pytest.mark.parametrize("model", LEARNED)
def test_an_interrupted_run_goes_on_to_the_same_end(model: str, tmp_path: Path, monkeypatch: Any) -> None:
    """With dropout, FGM, and evaluations between that draw texts: they leave the generator of dropout alone."""
    task = TASK | {"generation": {"do_sample": True, "max_new_tokens": 4}, "label_smoothing": 0.1}
    options: Any = {
        "model_name_or_path": model, "epochs": 2, "save_steps": 3, "eval_steps": 2, "logging_steps": 1, "use_fgm": True,
        "accumulate": 2, "batch_size": 3, "lr": 1e-3, "eval_batch_size": 20,
    }  # fmt: skip
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert main.run(arguments(tmp_path, whole, task=task, **options)) == 0
    log = RunLog.__call__

    def interrupt(self: Any, event: str, step: int, values: Any) -> None:
        log(self, event, step, values)
        if step == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "__call__", interrupt)
        assert main.run(arguments(tmp_path, out, task=task, **options)) == 130
    assert 0 < read(out / "last" / "trainer_state.json")["step"] < 7
    assert main.run(arguments(tmp_path, out, task=task, **options)) == 0
    for name in ("log.json", "metrics.jsonl", "eval_metrics.json", "errors/eval.jsonl"):
        assert (out / name).read_text(encoding="utf-8") == (whole / name).read_text(encoding="utf-8"), name
    for name in ("last/trainer.safetensors", "last/encoder/model.safetensors", "best/encoder/model.safetensors"):
        ours, theirs = load_file(out / name), load_file(whole / name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs), name


@pytest.mark.slow
def test_streaming_trains_the_same_model(tmp_path: Path) -> None:
    options: Any = {"model_name_or_path": "scratch:gpt-tiny", "max_steps": 2, "lr": 1e-3, "do_eval": None}
    weights = []
    for streaming in (None, True):
        out = tmp_path / f"streaming {streaming}"
        assert main.run(arguments(tmp_path, out, streaming=streaming, **options)) == 0
        weights.append(load_file(out / "last" / "encoder" / "model.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


OTHER = {"name": "topic", "kind": "sequence_classification", "label_column": "target"}
GPT = {"model_name_or_path": "scratch:gpt-tiny"}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "beside another task": ({"tasks": json.dumps([OTHER, TASK])}, "tasks: reply generates texts and needs a model of"),
    "an encoder": ({"model_name_or_path": "{saved}/bert"}, "bert (bert) reads texts and writes none"),
    "a decoder for classification": (GPT | {"tasks": json.dumps([OTHER])}, "scratch:gpt-tiny only generates texts"),
    "too few positions": ({"model_name_or_path": "{saved}/gpt", "max_length": 90},
                          "has 100 positions for input and target together, not 90 + 32"),
    "shared layers": ({"shared_layers": 1}, "shared_layers: not for reply, which generates texts"),
    "windows": ({"stride": 4}, "stride: must be 0: only single texts"),
    "no text in the prompt": ({"prompt": "translate"}, "prompt: must have {text} in it once"),
    "two texts in the prompt": ({"prompt": "{text} {text}"}, "prompt: must have {text} in it once"),
    "a prompt that is too long": ({"prompt": "x" * 99 + "{text}"}, "max_length: must be at least"),
    "no room for targets": ({"max_target_length": 1}, "max_target_length: must be at least 2"),
    "an unknown option of generation": ({"tasks": json.dumps([TASK | {"generation": {"num_beam": 2}}])},
                                        "generation: there is no option 'num_beam'"),
    "a target that is no text": ({"tasks": json.dumps([TASK | {"label_column": "number"}])},
                                 "train.jsonl:1: number: no such column"),
    "FGM on frozen embeddings": ({"use_fgm": True, "freeze_layers": 1}, "no trainable embedding has"),
    "too many layers to freeze": ({"freeze_layers": 3}, "freeze_layers: the encoder has 2 layers, not 3"),
    "nothing to train": ({"freeze_layers": -1}, "freeze_layers: no trainable parameter is left"),
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a BERT and of a GPT-2 with 100 positions, each with a tokenizer."""
    root = tmp_path_factory.mktemp("saved")
    tokenizer = train_tokenizer([record["source"] for record in RECORDS] * 2, 100)
    BertModel(BertConfig(vocab_size=100, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        root / "bert"
    )
    GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=8, n_layer=1, n_head=1, n_positions=100)).save_pretrained(
        root / "gpt"
    )
    for name in ("bert", "gpt"):
        tokenizer.save_pretrained(root / name)
    return root


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_with_code_2_and_one_line(name: str, saved: Path, tmp_path: Path, capsys: Any) -> None:
    options, expected = MISTAKES[name]
    model = options.get("model_name_or_path", "scratch:tiny").format(saved=saved)
    assert main.run(arguments(tmp_path, tmp_path / "out", **options | {"model_name_or_path": model})) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and expected in message, message
    assert files(tmp_path / "out") == set()
