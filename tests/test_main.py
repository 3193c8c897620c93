"""main.py from arguments to files: complete output folders, predicting, resuming, both loaders, user mistakes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

import main
from data_loader.order import file_order
from tests.sample_job import TASKS, arguments, files, read
from trainer.monitor import RunLog

ROOT = Path(__file__).parents[1]
TOKENIZER = {"tokenizer.json", "tokenizer_config.json"}
MODEL_FILES = {"config.json", "labels.json", "manifest.json", "model.safetensors", *TOKENIZER}
MODEL_FILES |= {f"encoder/{name}" for name in {"config.json", "model.safetensors"} | TOKENIZER}


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finished run."""
    output = tmp_path_factory.mktemp("run") / "out"
    assert main.run(arguments(data, output)) == 0
    return output


def test_exactly_these_files_come_out(run):
    found = {name for name in files(run) if not name.startswith("tensorboard/")}
    assert len(list((run / "tensorboard").iterdir())) == 1
    state = MODEL_FILES | {"trainer.safetensors", "trainer_state.json"}
    assert found == {
        *(".lock", "config.yaml", "train.log", "log.json", "metrics.jsonl", "speed.json", "dataset_info.json"),
        *("splits.json", "eval_metrics.json", "test_metrics.json", "eval_report.json", "test_report.json"),
        *("machine.json", "errors/eval.jsonl", "errors/test.jsonl", "errors/eval.csv", "errors/test.csv"),
        *("run_info.json", "report.html"),
        *(f"best/{name}" for name in MODEL_FILES | {"metrics.json", "README.md"}),
        *(f"last/{name}" for name in state),
        *(f"last.previous/{name}" for name in state),
    }


def test_the_report_says_the_same_as_metrics_and_errors(run):
    metrics, report = read(run / "eval_metrics.json"), read(run / "eval_report.json")
    intent, slots = report["intent"], report["slots"]
    assert intent["micro"]["recall"] == metrics["intent/accuracy"]
    assert slots["micro"]["f1"] == metrics["slots/f1"]
    errors = [json.loads(line) for line in (run / "errors" / "eval.jsonl").read_text(encoding="utf-8").splitlines()]
    wrong = sum(error["predictions"]["intent"] != error["gold"]["intent"] for error in errors)
    assert sum(mistake["count"] for mistake in intent["confusions"]["largest"]) == wrong
    assert sum(row["count"] for row in intent["calibration"]["bins"]) == 100


def test_a_bug_in_the_page_is_told_and_ends_no_run(run, data, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("experiments.report.page.header", lambda run: 1 / 0)
    argv = arguments(data, tmp_path / "out", do_train=None, model_name_or_path=run / "best", tasks=None, test_file=None)
    assert main.run([text for text in argv if text != "--do_train"]) == 0
    assert (tmp_path / "out/eval_metrics.json").exists() and not (tmp_path / "out/report.html").exists()
    said = "".join(capfd.readouterr())
    assert "ZeroDivisionError" in said and "a bug" in said


def test_what_the_files_say(run, data):
    log = read(run / "log.json")
    assert [(entry["epoch"], entry["step"]) for entry in log] == [(0, 25), (1, 50)]
    assert log[1]["train"]["loss"] < log[0]["train"]["loss"]
    best = max(log, key=lambda entry: entry["eval"]["sentence_accuracy"])
    assert read(run / "best" / "metrics.json") == best
    assert read(run / "eval_metrics.json") == best["eval"], "the same best state, scored again by the same path"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(5, 51, 5))
    assert lines[0]["lr/encoder"] > 0
    info = read(run / "dataset_info.json")
    assert [info[part]["records"] for part in ("train", "eval", "test")] == [400, 100, 100]
    assert sum(info["train"]["labels"]["intent"].values()) == 400
    wrong = [json.loads(line) for line in (run / "errors" / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(line["predictions"] != line["gold"] for line in wrong)
    assert 1 - len(wrong) / 100 == pytest.approx(read(run / "test_metrics.json")["sentence_accuracy"])
    said = (run / "train.log").read_text(encoding="utf-8")
    assert "[Epoch 1] [TRAIN] 25/25 loss=" in said
    assert said.index("50 steps of 1 x 1 x 16 records") < said.index("[TRAIN]"), "what was said before there was a file"


def test_the_saved_config_trains_the_same_again(run, tmp_path):
    assert main.run(["--config", str(run / "config.yaml"), "--output_dir", str(tmp_path / "again")]) == 0
    assert read(tmp_path / "again" / "log.json") == read(run / "log.json")
    for name in ("best/model.safetensors", "best/encoder/model.safetensors", "last/trainer.safetensors"):
        ours, theirs = load_file(run / name), load_file(tmp_path / "again" / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def predict(model, file, output, *more):
    argv = ["--do_predict", "--predict_file", file, "--output_dir", output, "--cache_dir", output / "cache"]
    source = ["--model_name_or_path", model] if model else []
    assert main.run([str(a) for a in [*argv, *source, "--precision", "fp32", "--device", "cpu", *more]]) == 0
    lines = (output / "predictions" / f"{Path(file).stem}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_best_alone_predicts_and_its_score_is_the_eval_score(run, data, tmp_path):
    """best/ copied elsewhere; with gold labels the score is eval's to the last digit; without them nothing changes."""
    shutil.copytree(run / "best", tmp_path / "model")
    with_gold = predict(tmp_path / "model", data / "dev.jsonl", tmp_path / "a")
    assert read(tmp_path / "a" / "predictions" / "dev_metrics.json") == read(run / "eval_metrics.json")
    records = [json.loads(line) for line in (data / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    bare = tmp_path / "bare.jsonl"
    bare.write_text("\n".join(json.dumps({"tokens": r["tokens"]}) for r in records), encoding="utf-8")
    without = predict(tmp_path / "model", bare, tmp_path / "b")
    assert not (tmp_path / "b" / "predictions" / "bare_metrics.json").exists()
    assert files(tmp_path / "b") - {n for n in files(tmp_path / "b") if n.startswith("cache/")} == {
        "predictions/bare.jsonl"
    }
    assert [{k: v for k, v in line.items() if k not in ("gold", "losses", "wrong")} for line in with_gold] == without
    mean = {task: sum(line["losses"][task] for line in with_gold) for task in ("intent", "slots")}
    scores = read(run / "eval_metrics.json")
    assert mean["intent"] / 100 == pytest.approx(scores["intent/loss"], abs=1e-4)
    assert mean["slots"] / sum(len(r["tokens"]) for r in records) == pytest.approx(scores["slots/loss"], abs=1e-4)
    for line, record in zip(with_gold, records, strict=True):
        assert line["tokens"] == record["tokens"] and len(line["predictions"]["slots"]) == len(record["tokens"])
        assert line["gold"] == {"intent": record["intent"], "slots": record["tags"]}
        assert 0 < line["confidences"]["intent"] <= 1 and len(line["confidences"]["slots"]) == len(record["tokens"])
    right = sum(line["predictions"] == line["gold"] for line in with_gold)
    assert right / 100 == read(run / "eval_metrics.json")["sentence_accuracy"]
    assert predict(None, data / "dev.jsonl", copy(run, tmp_path / "c")) == with_gold  # best/ of the output folder


def copy(run, target):
    shutil.copytree(run, target)
    return target


def test_batch_size_and_order_do_not_change_predictions(run, data, tmp_path, monkeypatch):
    big = predict(run / "best", data / "dev.jsonl", tmp_path / "a", "--eval_batch_size", "64")
    small = predict(run / "best", data / "dev.jsonl", tmp_path / "b", "--eval_batch_size", "7")
    assert [line["predictions"] for line in big] == [line["predictions"] for line in small]
    monkeypatch.setattr("data_loader.order.longest_first", lambda lengths: file_order)
    in_order = predict(run / "best", data / "dev.jsonl", tmp_path / "c")
    assert [line["predictions"] for line in big] == [line["predictions"] for line in in_order]


def test_the_encoder_folder_is_a_transformers_folder_and_starts_other_tasks(run, data, tmp_path):
    encoder, tokenizer = (auto.from_pretrained(run / "best" / "encoder") for auto in (AutoModel, AutoTokenizer))
    hidden = encoder(**tokenizer("play some music", return_tensors="pt")).last_hidden_state
    assert hidden.shape[-1] == encoder.config.hidden_size and hidden.isfinite().all()
    assert AutoTokenizer.from_pretrained(run / "best").get_vocab() == tokenizer.get_vocab()
    options = {"model_name_or_path": run / "best" / "encoder", "tasks": json.dumps(TASKS[:1]), "max_steps": 3}
    assert main.run(arguments(data, tmp_path / "new", **options)) == 0
    assert read(tmp_path / "new" / "best" / "labels.json").keys() == {"intent"}
    assert "sentence_accuracy" in read(tmp_path / "new" / "eval_metrics.json")


def test_an_interrupted_run_goes_on_to_the_same_end(run, data, tmp_path, monkeypatch, capsys):
    """Ctrl-C in the middle of the second epoch; the same command again; every file as if nothing had happened."""
    out = tmp_path / "out"
    whole = tmp_path / "whole"
    assert main.run(arguments(data, whole, save_steps=10)) == 0
    log = RunLog.__call__

    def interrupt(self, event, step, values):
        log(self, event, step, values)
        if step == 35:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "__call__", interrupt)
        assert main.run(arguments(data, out, save_steps=10)) == 130
    assert "goes on from the last saved state" in capsys.readouterr().err
    assert read(out / "last" / "trainer_state.json")["step"] == 30
    assert main.run(arguments(data, out, save_steps=10)) == 0
    for name in ("log.json", "metrics.jsonl", "eval_metrics.json", "test_metrics.json", "errors/test.jsonl"):
        assert (out / name).read_text(encoding="utf-8") == (whole / name).read_text(encoding="utf-8"), name
    for name in ("last/trainer.safetensors", "last/encoder/model.safetensors", "best/encoder/model.safetensors"):
        ours, theirs = load_file(out / name), load_file(whole / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    assert main.run(arguments(data, out, save_steps=10, resume="never")) == 2
    assert "holds a run" in capsys.readouterr().err


def test_debug_streams_a_file_of_fewer_records(data, tmp_path):
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()[:20]
    (tmp_path / "few.jsonl").write_text("\n".join(lines), encoding="utf-8")
    options = {"train_file": tmp_path / "few.jsonl", "streaming": True, "debug": True, "epochs": 1}
    assert main.run(arguments(data, tmp_path / "out", **options)) == 0
    assert read(tmp_path / "out" / "last" / "trainer_state.json")["step"] == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_trains_the_same_model(run, data, tmp_path, workers):
    options = {"streaming": True, "num_workers": workers, "cache_dir": tmp_path / "cache"}
    assert main.run(arguments(data, tmp_path / "out", **options)) == 0
    assert read(tmp_path / "out" / "log.json") == read(run / "log.json")
    assert not list((tmp_path / "cache").glob("train-*.arrow")), "a streamed file is not encoded as a whole"
    info = read(tmp_path / "out" / "dataset_info.json")["train"]
    assert info["records"] == 400 and sum(info["labels of the source"]["intent"].values()) == 400
    ours, theirs = (load_file(folder / "last/encoder/model.safetensors") for folder in (tmp_path / "out", run))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def steps_of(argv, start=0):
    """Records of each optimizer step of the second epoch, and the share of padding."""
    args = main.get_args(argv)
    job = main.build_job(args)
    main.build_data(job)
    main.check_run(job)
    batches = list(main.build_train_loader(job)(1, start))
    real = torch.cat([batch["attention_mask"].flatten() for batch in batches]).float().mean().item()
    numbers = [number for batch in batches for number in batch["sample_id"].tolist()]
    return [sorted(numbers[first : first + 32]) for first in range(0, len(numbers), 32)], 1 - real


def test_records_of_a_step_are_of_about_the_same_length(data, tmp_path):
    """Of the same step, not only of the same micro-batch; a resumed run keeps to the steps that it began with."""
    out = tmp_path / "out"
    grouped = {"group_by_length": True}
    steps, padding = steps_of(arguments(data, out, **grouped, batch_size=8, accumulate=4))
    others, other = steps_of(arguments(data, out, batch_size=8, accumulate=4))
    assert padding < 0.5 * other and steps != others
    for some in (steps, others):
        assert sorted(number for step in some for number in step) == list(range(400))
    assert steps_of(arguments(data, out, **grouped, batch_size=32))[0] == steps
    assert steps_of(arguments(data, out, **grouped, batch_size=8))[0] != steps
    assert main.run(arguments(data, out, **grouped, batch_size=32, max_steps=2, do_eval=None)) == 0
    assert steps_of(arguments(data, out, **grouped, batch_size=4), 64)[0] == steps[2:]
    assert main.run(arguments(data, out, **grouped, batch_size=4, max_steps=4, do_eval=None)) == 0
    assert read(out / "last/trainer_state.json")["arguments"]["groups"] == {"data": 32}


def test_a_split_of_one_file_is_stratified_and_saved(data, tmp_path):
    options = {"eval_file": None, "test_file": None, "eval_ratio": 0.2, "test_ratio": 0.1, "max_steps": 2}
    assert main.run(arguments(data, tmp_path / "out", **options)) == 0
    splits = read(tmp_path / "out" / "splits.json")
    assert {part: len(rows) for part, rows in splits.items()} == {"train": 280, "eval": 80, "test": 40}
    assert sorted(row for rows in splits.values() for row in rows) == list(range(400))
    info = read(tmp_path / "out" / "dataset_info.json")
    assert [info[part]["records"] for part in ("train", "eval", "test")] == [280, 80, 40]


def test_options_of_the_model(data, tmp_path):
    options = {"extra_tokens": '["[A]", "[B]"]', "shared_layers": 1, "freeze_layers": 1, "max_steps": 2}
    options |= {"lr_scheduler": "reduce_lr_on_plateau", "monitor": "slots/f1", "accumulate": 2}
    base = tmp_path / "base"
    assert main.run(arguments(data, base, max_steps=1)) == 0
    assert main.run(arguments(data, tmp_path / "out", **options, model_name_or_path=base / "best" / "encoder")) == 0
    before, after = (load_file(p / "last/encoder/model.safetensors") for p in (base, tmp_path / "out"))
    name = "embeddings.word_embeddings.weight"
    assert after[name].shape[0] == before[name].shape[0] + 2
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "out" / "best").convert_tokens_to_ids("[B]")
        == before[name].shape[0] + 1
    )
    changed = {key for key in before if key != name and not torch.equal(before[key], after[key])}
    assert changed and not [key for key in changed if key.startswith(("embeddings", "encoder.layer.0", "pooler"))]
    assert any(key.startswith("shared_layers.0") for key in load_file(tmp_path / "out" / "last" / "model.safetensors"))


def upper_bound(predictions, references):
    return {"own/right": sum(p == r for p, r in zip(predictions["intent"], references["intent"], strict=True))}


def test_own_metrics(data, tmp_path):
    options = {"metrics": '["tests.test_main:upper_bound"]', "monitor": "own/right", "max_steps": 2}
    assert main.run(arguments(data, tmp_path / "out", **options)) == 0
    metrics = read(tmp_path / "out" / "eval_metrics.json")
    assert metrics["own/right"] == pytest.approx(100 * metrics["intent/accuracy"])


def test_check_writes_its_findings_and_nothing_else(data, tmp_path):
    assert main.run(arguments(data, tmp_path / "out", check=True, do_train=None, do_eval=None)) == 0
    assert read(tmp_path / "out" / "check.json")["data"]["train"]["records"] == 400
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["check.json"]


def test_debug_takes_64_records(data, tmp_path):
    assert main.run(arguments(data, tmp_path / "out", debug=True, epochs=1)) == 0
    assert [read(tmp_path / "out" / "dataset_info.json")[p]["records"] for p in ("train", "eval", "test")] == [
        64,
        64,
        64,
    ]
    assert read(tmp_path / "out" / "log.json")[0]["step"] == 4


LINES = [json.dumps({"tokens": ["a", "b"], "tags": ["O", "B-x"], "intent": "y"})] * 20
MISTAKES: dict[str, tuple[list[str] | None, dict[str, Any], str]] = {
    "missing file": (None, {"train_file": "nowhere.jsonl"}, "train_file: there is no file nowhere.jsonl"),
    "broken JSON in line 17": ([*LINES[:16], '{"tokens": ["a"', *LINES[:3]], {}, "bad.jsonl:17"),
    "wrong column": (LINES, {"text_column": "words"}, "bad.jsonl:1: words: no such column; this record has 'tokens'"),
    "wrong label column": (LINES, {"tasks": json.dumps(TASKS).replace('"tags"', '"y"')}, "bad.jsonl:1: y: no such"),
    "unequal lengths": ([*LINES[:4], LINES[0].replace('"O", ', "")], {}, "bad.jsonl:5: tags: 1 tags for 2 words"),
    "illegal tags": ([*LINES[:2], LINES[0].replace("B-x", "I-x")], {}, "bad.jsonl:3: tags: I-x at word 2, between O"),
    "unknown metric": (LINES, {"monitor": "slots/f2"}, "monitor: unknown metric 'slots/f2'; there are"),
    "unknown schedule": (LINES, {"lr_scheduler": "lin"}, "lr_scheduler: unknown schedule 'lin'; there are linear"),
    "unknown head option": (LINES, {"tasks": json.dumps(TASKS).replace("decoder", "dekoder")}, "no option 'dekoder'"),
    "unknown model": (LINES, {"model_name_or_path": "./nowhere"}, "model_name_or_path: there is no folder ./nowhere"),
    "nothing trained": (LINES, {"do_train": None}, "there is no trained model"),
    "no such device": (LINES, {"device": "cuda"} if not torch.cuda.is_available() else {"device": "xla"}, "device"),
    "no such state": (LINES, {"resume": "nowhere"}, "resume: there is no saved state at nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_with_code_2_and_one_line(name, data, tmp_path, capsys):
    lines, options, expected = MISTAKES[name]
    if lines is not None:
        (tmp_path / "bad.jsonl").write_text("\n".join(lines), encoding="utf-8")
        options = {"train_file": tmp_path / "bad.jsonl", "eval_file": None, "test_file": None} | options
    assert main.run(arguments(data, tmp_path / "out", cache_dir=tmp_path / "cache", **options)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and expected in message, message
    assert not (tmp_path / "out").exists()


def test_a_mistake_in_a_new_process(data, tmp_path):
    command = [sys.executable, "main.py", *arguments(data, tmp_path / "out", text_column="words")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr + done.stdout


def test_a_mistake_in_two_processes(data, tmp_path):
    """The launcher ends with our exit code, and adds no traceback of its own."""
    env = os.environ | {"NGPU": "2", "PYTHON": sys.executable}
    command = ["sh", "run.sh", *arguments(data, tmp_path / "out", text_column="words")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "words: no such column" in done.stderr and "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "out").exists()


def test_another_task_list_on_a_saved_model_is_refused(run, data, tmp_path, capsys):
    assert (
        main.run(arguments(data, tmp_path / "out", model_name_or_path=run / "best", tasks=json.dumps(TASKS[:1]))) == 2
    )
    assert "tasks: differ from those of" in capsys.readouterr().err


def test_two_processes_from_the_shell(data, tmp_path):
    """NGPU=2 on a CPU box: one log, one set of files, every eval record once; torchrun has a --monitor-… of its own."""
    env = os.environ | {"NGPU": "2", "PYTHON": sys.executable}
    command = ["sh", "run.sh", *arguments(data, tmp_path / "out", max_steps=3, batch_size=8, monitor="slots/f1")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "3 steps of 2 x 1 x 8 records" in done.stdout and done.stdout.count("[TEST]") == 2
    assert {name.split("/")[0] for name in files(tmp_path / "out")} >= {"best", "last", "log.json", "test_metrics.json"}
    wrong = (tmp_path / "out" / "errors" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    ids = [json.loads(line)["sample_id"] for line in wrong]
    assert ids == sorted(set(ids))
    assert 1 - len(ids) / 100 == pytest.approx(read(tmp_path / "out" / "test_metrics.json")["sentence_accuracy"])


def test_the_log_says_what_was_chosen_for_speed(data, tmp_path, capsys):
    """On a CPU without padding by default, with outputs as with it; where that does not go, as it was."""
    losses = {}
    for name, options, expected in (
        ("default", {}, "attention unpadded, fused adamw, states saved while training goes on"),
        ("plain", {"unpad": False, "async_save": False}, "attention cpu_tiles, fused adamw, states saved between"),
        ("trick", {"use_vat": True}, "attention cpu_tiles, fused adamw, states"),
    ):
        out = tmp_path / name
        given = {"max_steps": 3, "model_name_or_path": without_dropout(data, tmp_path),
                 "tasks": json.dumps([task | {"dropout": 0.0} for task in TASKS])}  # fmt: skip
        assert main.run(arguments(data, out, **given, **options)) == 0
        assert re.search(rf"\d+ steps of 1 x 1 x 16 records on cpu in fp32; {expected}", capsys.readouterr().out)
        losses[name] = read(out / "eval_metrics.json")["loss"]
    assert losses["default"] == pytest.approx(losses["plain"], rel=1e-4) != losses["trick"]


def without_dropout(data, folder):
    """The encoder of a run of a step, whose layers drop nothing from now on."""
    base = folder / "base"
    if not base.exists():
        assert main.run(arguments(data, base, max_steps=1)) == 0
    config = base / "best/encoder/config.json"
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(read(config) | none), encoding="utf-8")
    return base / "best" / "encoder"
