"""continue_pretrain_task.py and pretrain_from_scratch.py of huggingface_hands_on/, run in this process."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertModel

import main
from benchmarks.mlm import dense_labels
from data_loader.block_batches import block_loader
from data_process.blocks import place
from data_process.corpus import read_texts
from data_process.tokenizer import train_tokenizer
from huggingface_hands_on import pretraining
from huggingface_hands_on.continue_pretrain_task import continue_pretraining
from huggingface_hands_on.pretrain_from_scratch import parse, pretrain_from_scratch
from huggingface_hands_on.pretraining_arguments import FromScratchArguments, get_args
from model_utils.encoder import load_encoder
from model_utils.optim import build_optimizer
from model_utils.pretraining_build import new_of_shape
from tests.test_blocks import TEXTS, written

ROOT = Path(__file__).parents[1]
BERT = "{model_type: bert, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32"
PLAIN = f"{BERT}, hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}}"
GPT2 = "{model_type: gpt2, n_embd: 16, n_layer: 2, n_head: 2}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tokenizer = train_tokenizer(TEXTS, 100)
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(folder / "tokenizer")
    written(folder / "train.jsonl", TEXTS[10:])
    written(folder / "dev.jsonl", TEXTS[:10])
    return folder


def scratch(files: Path, output: Path, *more: str, model: str = f"{BERT}}}") -> list[str]:
    return [
        *("--tokenizer", f"{files}/tokenizer", "--model", model, "--corpus", f"{files}/train.jsonl"),
        *("--eval_corpus", f"{files}/dev.jsonl", "--cache_dir", f"{files}/cache", "--output_dir", str(output)),
        *("--block_length", "32", "--batch_size", "4", "--lr", "1e-3", "--lr_scheduler", "constant"),
        *("--precision", "fp32", *more),
    ]


def run(script: Any, argv: list[str]) -> int:
    return main.run(argv, script)


def test_training_is_that_of_a_bare_loop_with_scores_everywhere(files: Path, tmp_path: Path) -> None:
    """The same masks, written into dense labels, through transformers' own loss, a text at a time."""
    argv = scratch(files, tmp_path / "ours", "--max_steps", "5", "--masking", "whole_word", "--weight_decay", "0.1",
                   model=PLAIN)  # fmt: skip
    assert run(pretrain_from_scratch, argv) == 0
    args = get_args(argv, FromScratchArguments, "test", "")
    job = main.start_job(args)
    wrapped = pretraining.load_model(job, parse(argv)[1])
    datasets = pretraining.build_datasets(pretraining.build_corpora(job, pretraining.find_corpora(args)))
    collate = pretraining.build_collator(job, wrapped)
    main.seed_everything(args.seed)
    model, _ = new_of_shape(args.model, job.tokenizer, args.block_length)
    optimizer = build_optimizer(model, args.lr, None, args.weight_decay)
    model.train()
    for batch in islice(block_loader(datasets["train"], collate, batch_size=4, seed=42, total=1)(0, 0), 5):
        labels = dense_labels(batch)
        total = torch.zeros(())
        for row, pieces in enumerate(batch["pieces"]):
            for piece in pieces.unique():
                own = pieces == piece
                logits = model(input_ids=batch["input_ids"][row : row + 1, own]).logits[0]
                total = total + F.cross_entropy(logits, labels[row, own], ignore_index=-100, reduction="sum")
        (total / (labels != -100).sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    ours = AutoModelForMaskedLM.from_pretrained(tmp_path / "ours/last")
    for (name, a), (_, b) in zip(ours.named_parameters(), model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5, msg=name)


BF16 = ("--masking", "ngram", "--use_ema", "--ema_decay", "0.9", "--precision", "bf16")


@pytest.mark.parametrize("more", [(), BF16], ids=["plain", "ema in bf16"])
def test_a_run_that_was_broken_off_ends_as_an_unbroken_one(files: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    steps = ("--epochs", "3", "--save_steps", "5", *more)
    assert run(pretrain_from_scratch, scratch(files, tmp_path / "whole", "--max_steps", "23", *steps)) == 0
    for until in ("7", "16", "23"):  # in the middle of an epoch, and in another one
        assert run(pretrain_from_scratch, scratch(files, tmp_path / "broken", "--max_steps", until, *steps)) == 0
    for name in ("model.safetensors", "trainer.safetensors"):
        ours, theirs = (load_file(tmp_path / kind / "last" / name) for kind in ("broken", "whole"))
        assert ours.keys() == theirs.keys()
        skipped = [key for key in ours if "interval" in key or "early" in key]  # evaluated at other steps
        assert all(torch.equal(ours[key], theirs[key]) for key in ours if key not in skipped)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does(files: Path, tmp_path: Path, parallel: str) -> None:
    """With half of the batch each; without dropout."""
    more = ("--epochs", "1", "--masking", "whole_word", "--eval_steps", "5", "--use_ema", "--ema_decay", "0.9",
            "--parallel", parallel)  # fmt: skip
    assert run(pretrain_from_scratch, scratch(files, tmp_path / "one", *more, model=PLAIN)) == 0
    own = ["--batch_size", "2", "--cache_dir", f"{tmp_path}/cache"]
    own += ["--activation_checkpointing"] * (parallel == "fsdp")
    argv = scratch(files, tmp_path / "two", *more, *own, model=PLAIN)
    command = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--rdzv_backend", "c10d",
               "--rdzv_endpoint", "localhost:0", "-m", "huggingface_hands_on.pretrain_from_scratch", *argv]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (json.loads((tmp_path / name / "log.json").read_text(encoding="utf-8")) for name in ("one", "two"))
    assert [entry["step"] for entry in one] == [entry["step"] for entry in two]
    for a, b in zip(one, two, strict=True):
        assert b["eval"]["mlm/loss"] == pytest.approx(a["eval"]["mlm/loss"], abs=1e-5)
        assert b["train"]["loss"] == pytest.approx(a["train"]["loss"], abs=1e-5)
    for name in ("model.safetensors", "trainer.safetensors"):
        whole, shared = (load_file(tmp_path / kind / "last" / name) for kind in ("one", "two"))
        assert whole.keys() | {"state.rng.1.cpu"} == shared.keys() | {"state.rng.1.cpu"}
        for key in (key for key in whole if "rng" not in key and "speed" not in key):
            torch.testing.assert_close(shared[key], whole[key], rtol=1e-3, atol=1e-5, msg=key)


def test_the_result_is_a_standard_folder(files: Path, tmp_path: Path) -> None:
    argv = scratch(files, tmp_path / "out", "--epochs", "1")
    assert run(pretrain_from_scratch, argv) == 0
    best = tmp_path / "out/best"
    metrics = json.loads((best / "metrics.json").read_text(encoding="utf-8"))["eval"]
    assert metrics["mlm/perplexity"] == pytest.approx(torch.tensor(metrics["mlm/loss"]).exp().item(), rel=1e-5)
    assert 0 < metrics["mlm/accuracy"] < 1
    model, tokenizer = AutoModel.from_pretrained(best), AutoTokenizer.from_pretrained(best)
    encoder = load_encoder(str(best), len(tokenizer), 32)
    inputs = tokenizer(TEXTS[0], return_tensors="pt")
    model.eval(), encoder.eval()
    assert torch.equal(model(**inputs).last_hidden_state, encoder(**inputs).last_hidden_state)
    job = ["--config", "configs/sample_joint.yaml", "--model_name_or_path", str(best), "--check", "--debug"]
    assert main.run([*job, "--cache_dir", f"{tmp_path}/cache", "--output_dir", f"{tmp_path}/none"]) == 0
    more = scratch(files, tmp_path / "more", "--epochs", "1")[4:]
    assert run(continue_pretraining, ["--model_name_or_path", str(best), *more]) == 0
    later = json.loads((tmp_path / "more/best/metrics.json").read_text(encoding="utf-8"))["eval"]
    assert later["mlm/loss"] < metrics["mlm/loss"]
    info = json.loads((tmp_path / "more/dataset_info.json").read_text(encoding="utf-8"))
    assert info["train"]["corpus_0"]["texts"] == 50 and info["eval"]["eval_corpus_0"]["texts"] == 10


def test_causal_perplexity_is_that_of_each_text_alone(files: Path, tmp_path: Path) -> None:
    argv = scratch(files, tmp_path / "out", "--epochs", "2", model=GPT2)
    assert run(pretrain_from_scratch, argv) == 0
    best = tmp_path / "out/best"
    found = json.loads((best / "metrics.json").read_text(encoding="utf-8"))["eval"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(best).eval(), AutoTokenizer.from_pretrained(best)
    total, count = 0.0, 0
    for _, text in read_texts([f"{files}/dev.jsonl"]):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        for piece in ids.split(32, 1):
            if piece.shape[1] > 1:
                total += model(input_ids=piece, labels=piece).loss.item() * (piece.shape[1] - 1)
                count += piece.shape[1] - 1
    assert found["clm/loss"] == pytest.approx(total / count, rel=1e-4)


def test_an_encoder_without_a_head_gets_one_and_pairs_have_types(files: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(files / "tokenizer")
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    BertModel(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    pairs = tmp_path / "pairs.jsonl"
    lines = (json.dumps({"a": a, "b": b}) for a, b in zip(TEXTS[:20], TEXTS[20:40], strict=True))
    pairs.write_text("\n".join(lines), encoding="utf-8")
    of_pairs = {"files": str(pairs), "weight": 1, "text_column": "a", "text_pair_column": "b", "name": "pairs"}
    corpus = [{"files": f"{files}/train.jsonl", "weight": 3}, of_pairs]
    argv = ["--model_name_or_path", f"{tmp_path}/bert", "--corpus", json.dumps(corpus), "--cache_dir", f"{tmp_path}/c",
            "--output_dir", f"{tmp_path}/out", "--max_steps", "2", "--batch_size", "4"]  # fmt: skip
    assert run(continue_pretraining, argv) == 0
    info = json.loads((tmp_path / "out/dataset_info.json").read_text(encoding="utf-8"))["train"]
    assert info["pairs"]["texts"] == 20
    assert (tmp_path / "out/last/model.safetensors").is_file()


def test_a_dry_run_says_what_a_run_would_be_and_writes_nothing(files: Path, tmp_path: Path, capsys: Any) -> None:
    argv = scratch(files, tmp_path / "out", "--epochs", "2", "--dry_run")
    assert run(pretrain_from_scratch, argv) == 0
    said = capsys.readouterr().out
    assert "corpus_0                       50" in said and "training: " in said and "GiB" in said
    assert not (tmp_path / "out").exists()


def test_a_share_is_held_out_where_no_file_is(files: Path, tmp_path: Path) -> None:
    argv = scratch(files, tmp_path, "--eval_corpus", "", "--eval_ratio", "0.3", "--max_steps", "2")
    assert run(pretrain_from_scratch, argv) == 0
    info = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    held, rest = info["eval"]["corpus_0_held_out"], info["train"]["corpus_0"]
    chosen = [text for text in TEXTS[10:] if place([text]) < 0.3]
    assert (held["texts"], held["characters"]) == (len(chosen), sum(map(len, chosen)))
    assert held["texts"] + rest["texts"] == 50 and (tmp_path / "best/model.safetensors").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--mask_rate", "1.5"), "mask_rate: must be above 0 and below 1"),
        (("--corpus", "none/*.txt"), "none/*.txt matches no file"),
        (("--corpus", '[{"files": "x", "wieght": 1}]'), "corpus[0]: wieght: unknown option"),
        (("--corpus", '[{"files": "x", "name": "a"}, {"files": "y", "name": "a"}]'), "names must differ"),
        (("--corpus", '[{"files": "x", "name": "../a"}]'), "letters, digits and _ only"),
        (("--masking", "entity"), "lexicon: needed by --masking entity"),
        (("--model", "{model_type: birt}"), "model_type 'birt': there is no such architecture"),
        (("--model", "{model_type: bert, hidden: 3}"), "bert has no 'hidden'"),
        (("--model", "{model_type: bert, hidden_size: 17}"), "model: "),
        (("--objective", "clm", "--model", "{model_type: t5}"), "t5 is not made for clm"),
        (("--use_fgm", "true"), "use_fgm: unknown option"),
        (("--text_column", "body"), "dev.jsonl:1: body: there is no such column"),
        (("--packing", "crossing", "--text_pair_column", "b"), "pairs of texts are packed as documents"),
        (("--eval_ratio", "0.1"), "eval_ratio: give this or eval_corpus, not both"),
    ],
)
def test_a_mistake_is_one_line(files: Path, tmp_path: Path, capsys: Any, more: tuple[str, ...], message: str) -> None:
    code = run(pretrain_from_scratch, scratch(files, tmp_path / "out", *more))
    said = capsys.readouterr().err
    assert code == 2 and said.startswith("error: ") and message in said and said.count("\n") == 1
    assert not (tmp_path / "out/last").exists()
