"""The scripts of benchmarks/ compare what they say they compare."""

import dataclasses
import importlib.util
import inspect
import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoTokenizer, BertConfig, BertModel

import main
from benchmarks import (
    checkpoint,
    cpu_training,
    crf,
    fgm,
    finetune,
    head_memory,
    joint_crf,
    loading,
    mlm_curve,
    mlm_factors,
    quality,
    random_texts,
    rounds,
    run,
    scaling,
    startup,
    streaming,
    tokenization,
)
from benchmarks.baselines import baselines, report
from benchmarks.mlm import dense_labels, their_rows
from benchmarks.peers import LOOPS, check_losses, ours
from benchmarks.quality import table, train_ours, train_theirs
from benchmarks.rounds import Comparison, compare, once, options
from config import Arguments, ConfigError
from data_loader.collate import Collator
from data_process.tokenizer import train_tokenizer
from huggingface_hands_on import pretraining_arguments
from model_utils.scores.ranking import spearman
from tests.sample_job import TASKS, arguments, read
from tests.test_blocks import TEXTS, written


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="transformers.Trainer needs accelerate")
@pytest.mark.filterwarnings("ignore")
def test_both_loops_are_the_same_where_nothing_is_left_to_chance(data: Path, tmp_path: Path) -> None:
    """One batch with all records, no dropout: the order does not matter, and nothing else may differ."""
    tasks = json.dumps([task | {"dropout": 0.0} for task in TASKS])
    first = tmp_path / "first"
    assert train_ours(arguments(data, first, epochs=1)) is not None  # for its tokenizer
    encoder = tmp_path / "encoder"
    tokenizer = AutoTokenizer.from_pretrained(str(first / "best"))
    tokenizer.save_pretrained(encoder)
    BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
              ).save_pretrained(encoder)  # fmt: skip
    size = len((data / "train.jsonl").read_text(encoding="utf-8").splitlines())
    found = {}
    for name, train in (("ours", train_ours), ("theirs", train_theirs)):
        given = arguments(data, tmp_path / name, tasks=tasks, model_name_or_path=encoder, batch_size=size, epochs=4,
                          warmup_ratio=0.25, resume="never", monitor="loss")  # fmt: skip
        found[name] = train(given)
    assert set(found["ours"]) == set(found["theirs"])
    assert found["ours"]["loss"] < 6, "6.3 before training"
    for metric, value in found["ours"].items():
        assert found["theirs"][metric] == pytest.approx(value, abs=2e-4), metric
    rows = {name: [metrics | {"seconds": 60.0}] * 2 for name, metrics in found.items()}
    lines = table({"ours": rows["ours"], "transformers.Trainer": rows["theirs"]}).splitlines()
    assert len(lines) == 4 and f"{100 * found['ours']['intent/accuracy']:.1f} ± 0.0" in lines[2]
    assert lines[2].endswith("| 1.0 |")


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    return path


def test_baselines_of_the_sample_job(data: Path, tmp_path: Path) -> None:
    found = baselines(arguments(data, tmp_path / "out", do_train=None, do_eval=None))
    train, test = (
        [json.loads(line) for line in (data / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
        for part in ("train", "test")
    )
    commonest = Counter(r["intent"] for r in train).most_common(1)[0][0]
    gold = [r["intent"] for r in test]
    expected = {"accuracy": accuracy_score(gold, [commonest] * len(gold)),
                "macro_f1": f1_score(gold, [commonest] * len(gold), average="macro", zero_division=0.0)}  # fmt: skip
    assert found["intent"]["commonest label"] == pytest.approx(expected)
    assert found["intent"]["TF-IDF, linear SVM"]["accuracy"] > 0.8
    assert 0.2 < found["slots"]["commonest tag of each word"]["f1"] < 0.9


def test_baselines_of_pairs_choices_and_answers(tmp_path: Path) -> None:
    others = (("red car", 5), ("red bus", 3), ("old bus", 1), ("green", 0))
    pairs = [{"a": "red car", "b": b, "s": s} for b, s in others]
    file = write(tmp_path / "pairs.jsonl", pairs)
    shared = {"text_column": "a", "text_pair_column": "b", "train_file": file, "eval_file": file, "test_file": file,
              "do_train": None, "do_eval": None}  # fmt: skip
    for kind in ("sequence_regression", "sentence_embedding"):
        task = json.dumps([{"name": "t", "kind": kind, "label_column": "s"}])
        found = baselines(arguments(tmp_path, tmp_path / "out", tasks=task, **shared))["t"]["cosine of TF-IDF"]
        vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=2)
        vectors.fit([text for pair in pairs for text in (pair["a"], pair["b"])])
        cosines = [
            float((vectors.transform([p["a"]]) @ vectors.transform([p["b"]]).T).toarray()[0, 0])
            for p in pairs
        ]
        assert found["spearman"] == pytest.approx(spearman(cosines, [5, 3, 1, 0])) and np.argmax(cosines) == 0
    questions = [{"text": "the cat sat on the mat", "q": "who sat?", "c": ["a big dog", "the cat"], "label": 1},
                 {"text": "the cat sat on the mat", "q": "where?", "c": ["on the mat", "in bed"], "label": 0},
                 {"text": "the cat sat on the mat", "q": "what?", "c": ["it left", "it sat"], "label": 1}]  # fmt: skip
    file = write(tmp_path / "choices.jsonl", questions)
    task = json.dumps([{"name": "t", "kind": "multiple_choice", "label_column": "label"}])
    shared |= {"text_column": "text", "text_pair_column": "q", "choices_column": "c", "train_file": file,
               "eval_file": file, "test_file": file}  # fmt: skip
    chosen = baselines(arguments(tmp_path, tmp_path / "out", tasks=task, **shared))["t"]
    assert {name: metrics["accuracy"] for name, metrics in chosen.items()} == {
        "commonest place": pytest.approx(2 / 3), "nearest to the text by TF-IDF": 1.0,
    }  # fmt: skip
    context = "The cat sat on the mat. A dog, which was brown, barked at it!"
    spans = [("Who sat on the mat?", "The cat sat on the mat"), ("What did the dog do?", "barked"), ("Brown?", "brown")]
    asked = [{"q": q, "c": context, "a": {"text": [a], "answer_start": [context.index(a)]}} for q, a in spans]
    file = write(tmp_path / "answers.jsonl", asked)
    task = json.dumps([{"name": "t", "kind": "span_selection", "label_column": "a"}])
    shared |= {"text_column": "q", "text_pair_column": "c", "choices_column": None, "train_file": file,
               "eval_file": file, "test_file": file}  # fmt: skip
    (answered,) = baselines(arguments(tmp_path, tmp_path / "out", tasks=task, **shared))["t"].values()
    assert answered == {"exact_match": pytest.approx(1 / 3), "f1": pytest.approx((1 + 0 + 0.5) / 3)}
    assert not (tmp_path / "out").exists(), "nothing was trained"


def test_a_mistake_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(data, tmp_path / "out", do_train=None, do_eval=None)
    quality_of = ["--config", str(tmp_path / "job.yaml"), "--output_dir", str(tmp_path / "out"), "--seeds"]
    texts = json.dumps([{"name": "t", "kind": "text_generation", "label_column": "intent"}])
    for script, argv, message in (
        (report, [*given, "--tasks", texts], r"error: arguments: tasks: there are baselines for multiple_choice, .*"),
        (report, [*given, "--lr", "fast"], r"error: command line: lr: .*"),
        (quality.report, [*quality_of, "1;2"], r"error: command line: seeds: '1;2' must be whole numbers .*"),
        (quality.report, [*quality_of, "1"], r"error: command line: config: .*"),
    ):
        assert main.run(argv, script) == 2
        assert re.fullmatch(message + "\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="transformers.Trainer needs accelerate")
@pytest.mark.filterwarnings("ignore")
def test_curves_begin_at_the_loss_of_the_same_model_on_the_same_masks_and_fall(tmp_path: Path) -> None:
    train_tokenizer(TEXTS, 100).save_pretrained(tmp_path / "tokenizer")
    files = [written(tmp_path / f"{part}.jsonl", texts) for part, texts in (("train", TEXTS[10:]), ("dev", TEXTS[:10]))]
    shape = "{model_type: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64}"
    argv = [
        *("--tokenizer", str(tmp_path / "tokenizer"), "--corpus", files[0], "--eval_corpus", files[1]),
        *("--cache_dir", str(tmp_path / "cache"), "--output_dir", str(tmp_path / "out"), "--model", shape),
        *("--block_length", "32", "--batch_size", "8", "--lr", "3e-3", "--epochs", "6"),
    ]
    found = mlm_curve.compare("pretrain_from_scratch", argv, every=8, batches=1)
    firsts = {(curve[0]["tokens"], curve[0]["alone"], curve[0]["joined"]) for curve in found.values()}
    assert len(firsts) == 1
    job, model, options = mlm_curve.prepared("pretrain_from_scratch", [*argv, *mlm_curve.JOINED])
    batch = next(iter(options["eval_loader"]))
    model.eval()
    with torch.no_grad():
        expected = model.encoder(input_ids=batch["input_ids"], labels=dense_labels(batch)).loss.item()
    assert found["Trainer"][0]["joined"] == pytest.approx(expected, rel=1e-5)
    for name, curve in found.items():
        assert [point["step"] for point in curve[:3]] == [0, 8, 16], name
        assert curve[-1]["alone"] < curve[0]["alone"] - 0.5 and curve[-1]["joined"] < curve[0]["joined"] - 0.5
    blocks = len(their_rows([files[0]], job.tokenizer, 32, True))
    in_an_epoch = -(-blocks // 8)
    assert 4 <= in_an_epoch < 8  # so that step 8 is in the second one
    assert found["Trainer"][1]["tokens"] == 32 * (blocks + 8 * (8 - in_an_epoch))
    lines = mlm_curve.table(found).splitlines()
    assert f"{expected:.3f} |" in lines[2] and len(lines) == len(found["ours"]) + 4
    mlm_curve.plot(found, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_what_is_timed_on_a_cpu_gives_the_same_gradients_where_nothing_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu_training, "RATE", 1e-6)  # rounds to 0 of 65,536
    cases = [cpu_training.dropouts(3, 10, torch.float32), cpu_training.attentions(3, 10, torch.float32),
             cpu_training.losses(7, 50, torch.float32)]  # fmt: skip
    for functions in cases:
        ours, torchs = (run() for run in functions.values())
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-5)
        assert all(gradient.abs().sum() > 1e-3 for gradient in ours)


def test_bytes_that_are_alive_and_what_is_left_out(tmp_path: Path) -> None:
    """x + 1 until exp is done, then exp(x + 1) until its product with the gradient is; of a model less than a sixth."""
    x = torch.zeros(1000, requires_grad=True)
    assert 8000 <= head_memory.most(lambda: (x + 1).exp().sum()) < 8100
    tokenizer = train_tokenizer(TEXTS, 100)
    tokenizer.save_pretrained(tmp_path / "bert")
    BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=32)).save_pretrained(tmp_path / "bert")  # fmt: skip
    argv = ["--corpus", written(tmp_path / "train.jsonl", TEXTS), "--cache_dir", str(tmp_path / "cache")]
    argv += ["--model_name_or_path", str(tmp_path / "bert"), "--output_dir", str(tmp_path / "out")]
    argv += ["--batch_size", "4", "--precision", "fp32"]
    for own, dense in head_memory.compare(argv).values():
        places = 4 * 128 * len(tokenizer) * 4  # bytes of all scores: at least twice, as scores and as gradient
        assert dense > 2 * places and own < dense / 2
    losses, modules = [], []
    for make in mlm_factors.VARIANTS.values():  # the same loss, whatever is left out
        _, model, options = make(argv)
        model.eval()
        batch = next(iter(options["train_loader"](0, 0)))
        losses.append(model(batch, {"mlm": 1}).loss.item())
        modules.append({type(module).__name__ for module in model.modules()})
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-5)
    assert ["CPUDropout" in names for names in modules] == [True, True, True, False, True]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="needs lightning and accelerate")
@pytest.mark.filterwarnings("ignore")
def test_fine_tuning_is_timed_on_the_same_texts(tmp_path: Path) -> None:
    """40 sub-words on average and 128 at most, the same losses in both kinds of batches, every step counted."""
    tokenizer = train_tokenizer(TEXTS, 100)
    tokenizer.save_pretrained(tmp_path / "bert")
    BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=32)).save_pretrained(tmp_path / "bert")  # fmt: skip
    job, _ = finetune.prepared(random_texts.job_on(tmp_path, str(tmp_path / "bert"), finetune.TEXTS))
    lengths = job.data["data"].lengths("train")
    assert len(lengths) == finetune.TEXTS and max(lengths) == 128 and 38 < np.mean(lengths) < 42
    argv = ["--model", str(tmp_path / "bert"), "--steps", "2", "--rounds", "2", "--threads", "1"]
    loops, texts = finetune.comparisons(argv)
    assert list(loops.seconds[1]) == ["ours", *LOOPS]
    assert [name.split(",")[0] for name in texts.seconds[1]] == ["ours", "ours", *LOOPS, *["transformers.Trainer"] * 3]
    for found in (loops, texts):
        assert all(len(own) == 2 and min(map(min, own)) > 0 for own in found.seconds[1].values())


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="needs lightning")
@pytest.mark.filterwarnings("ignore")
def test_loops_that_take_other_steps_are_not_timed(data: Path, tmp_path: Path) -> None:
    """Joint intents and slots: all loops have the same losses, and with another learning rate others."""
    argv = arguments(data, tmp_path / "out", do_train=None, do_eval=None, resume="never")
    (found,) = joint_crf.comparisons([*argv, "--steps", "2", "--rounds", "1", "--threads", "1"])
    assert list(found.seconds[1]) == ["ours", *(f"{name}, pytorch-crf" for name in LOOPS)]
    job = [*argv, *joint_crf.RUN]
    check_losses({"ours": (joint_crf.theirs(job), ours), "again": (joint_crf.theirs(job), LOOPS["a bare loop"])})
    other = joint_crf.theirs([*job, "--lr", "1e-2"])
    with pytest.raises(AssertionError, match="losses of other"):
        check_losses({"ours": (joint_crf.theirs(job), ours), "other": (other, LOOPS["a bare loop"])})


def test_a_table_and_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Ratios are those within a round; the page of results keeps what is around the tables."""
    seconds = {1: {"ours": [(1.0, 2.0), (2.0, 2.0), (4.0, 2.0)], "other": [(3.0, 1.0), (4.0, 4.0), (4.0, 2.0)]}}
    found = Comparison("work", "step", seconds)
    assert found.columns() == {"CPU time, 1 thread": {"other": [3.0, 2.0, 1.0]},
                               "wall time, 1 thread": {"other": [0.5, 2.0, 1.0]}}  # fmt: skip
    last = found.table().splitlines()[-1]
    assert last == "| other | 2.00 s a step | 2.00 x (1.00 … 3.00) | 1.00 x (0.50 … 2.00) |"
    monkeypatch.setattr(crf, "comparisons", lambda argv: iter([found]))
    monkeypatch.setattr(run, "DOCS", tmp_path)
    (tmp_path / "benchmarks.md").write_text("a\n<!-- crf -->\nold\n<!-- end of crf -->\nb\n", encoding="utf-8")
    run.report(["--case", "crf", "--json", "--write"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["comparisons"][0]["faster"] == {"other": [1.0, 2.0, 3.0]}
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert page.startswith("a\n<!-- crf -->\n```sh\npython -m benchmarks.run --case crf\n") and last in page
    assert page.endswith("<!-- end of crf -->\nb\n") and "old" not in page
    assert printed["comparisons"][0].pop("seconds") == {"1": {name: [list(pair) for pair in pairs]
                                                              for name, pairs in seconds[1].items()}}  # fmt: skip
    assert read(tmp_path / "benchmarks.json") == {"crf": printed}
    assert (tmp_path / "benchmarks.png").stat().st_size > 5_000
    with pytest.raises(ConfigError, match="there is no <!-- fgm -->"):
        run.write("fgm", printed, "")


def test_both_attacks_that_are_timed_leave_the_same_weights() -> None:
    (found,) = fgm.comparisons(
        ["--vocabulary", "50", "--layers", "1", "--texts", "2", "--rounds", "1", "--threads", "1"])  # fmt: skip
    assert list(found.seconds[1]) == ["tricks/fgm.py", "a copy of the whole table", "no attack"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="transformers.Trainer needs accelerate")
def test_the_time_until_the_first_step(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 100)
    tokenizer.save_pretrained(tmp_path / "bert")
    BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=32)).save_pretrained(tmp_path / "bert")  # fmt: skip
    first, answers = startup.comparisons(["--model", str(tmp_path / "bert"), "--rounds", "1"])
    assert list(first.seconds[1]) == ["ours", "ours, in fp32", "transformers.Trainer"]
    (help_, _), = answers.seconds[1]["main.py --help"]
    assert help_ < 5


def test_rounds_take_turns() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: once(lambda: order.append(name)) for name in ("ours", "a", "b")}
    given = options(None).parse_args(["--rounds", "3", "--threads", "1", "--peer", "a"])
    assert list(compare("work", "step", runs, given).seconds[1]) == ["ours", "a"]
    assert order == ["ours", "a", "a", "ours", "ours", "a"]


@pytest.mark.parametrize("scale", [1.0, 8.0, 300.0])
def test_the_crf_that_is_timed_is_pytorch_crf_where_nothing_is_forbidden(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crf, "SHAPES", [(4, 12, 5)])
    for found in crf.comparisons(["--scale", str(scale), "--rounds", "2", "--threads", "1"]):
        assert list(found.seconds[1]) == ["ours", "pytorch-crf"]
        assert all(len(seconds) == 2 for seconds in found.seconds[1].values())
    wrong = crf.Pair(4, 12, 5, scale)
    with torch.no_grad():
        wrong.theirs.transitions += torch.randn(5, 5)
    with pytest.raises(AssertionError):
        wrong.check()


@pytest.mark.parametrize("wrong", [False, True])
def test_what_each_way_to_save_has_written_is_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    """The comparison notices a single other number."""
    saves = dict.fromkeys(["ours", "torch.save", "DCP kept"]) if not wrong else {"ours": None}
    monkeypatch.setattr(checkpoint, "METHODS", {name: checkpoint.METHODS[name] for name in saves})
    if wrong:
        save_file = checkpoint.save_file
        changed = {"0.bias": torch.zeros(223)}
        monkeypatch.setattr(checkpoint, "save_file", lambda weights, path: save_file(weights | changed, path))
        with pytest.raises(AssertionError, match=r"ours\.model\.0\.bias"):
            list(checkpoint.comparisons(["--parameters", "100_000", "--rounds", "1"]))
        return
    argv = ["--parameters", "100_000", "--rounds", "2", "--folder", str(tmp_path)]
    for found in checkpoint.comparisons(argv):
        assert {name: len(seconds) for name, seconds in found.seconds[1].items()} == dict.fromkeys(saves, 2)
        assert list(found.columns()) == ["wall time, 1 thread"]


@pytest.mark.slow
def test_both_loaders_give_the_same_batches(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a part that is split off; the comparison notices another label."""
    argv = arguments(data, tmp_path / "out", tasks=json.dumps(TASKS[:1]), do_train=None, do_eval=None)
    split = [*argv, "--eval_file", "", "--eval_ratio", "0.3"]
    for given in (argv, split):
        (found,) = loading.comparisons([*given, "--rounds", "2", "--threads", "1"])
        assert [len(seconds) for seconds in found.seconds[1].values()] == [2, 2]
    job = main.build_job(main.get_args([*argv, "--do_train", "true"]))
    main.build_data(job)
    collate = Collator.label_tensor
    monkeypatch.setattr(Collator, "label_tensor", lambda self, *given: 1 + collate(self, *given))
    with pytest.raises(AssertionError):
        loading.check(job)
    with pytest.raises(ConfigError, match="one task of kind sequence_classification"):
        list(loading.comparisons(arguments(data, tmp_path / "out", do_train=None, do_eval=None)))


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> str:
    train_tokenizer(TEXTS, 100).save_pretrained(tmp_path / "bert")
    BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
               ).save_pretrained(tmp_path / "bert")  # fmt: skip
    return str(tmp_path / "bert")


def test_random_texts_are_of_whole_words_and_have_the_lengths_asked_for(tokenizer_folder: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    random_texts.write_texts(tmp_path / "a.jsonl", tokenizer, 1000, median=20)
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    lengths = [len(record["text"].split()) + 2 for record in records]
    assert [len(ids) for ids in tokenizer([record["text"] for record in records])["input_ids"]] == lengths
    assert len(records) == 1000 and 18 < np.median(lengths) < 22 and max(lengths) <= random_texts.LONGEST
    assert len({record["label"] for record in records}) == random_texts.CLASSES


@pytest.mark.filterwarnings("ignore")
def test_both_caches_have_the_same_rows(
    tokenizer_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = random_texts.job_on(tmp_path / "work", tokenizer_folder, 150, median=90)  # some are cut
    monkeypatch.setattr(tokenization, "BATCH_SIZES", (64,))
    everything, alone = tokenization.comparisons([*argv, "--rounds", "2", "--threads", "1"])
    assert list(everything.seconds[1]) == ["ours", "datasets.map, batches of 64"]
    for found in (everything, alone):
        assert all(len(seconds) == 2 for seconds in found.seconds[1].values())
    job = main.build_job(main.get_args(argv))
    main.build_data(job)
    case = tokenization.Case(job)
    assert case.check() == job.data["data"].lengths("train").sum()
    case.numbers["label 3"] = 4
    with pytest.raises(AssertionError):
        case.check()


@pytest.mark.slow
def test_peaks_and_times_of_growing_files(
    tokenizer_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch sees what is allocated; each kind makes the batches of an epoch; a step that is not linear shows."""
    with streaming.Watch() as watch:
        before = watch.most
        held = np.ones(50 * 2**20, np.uint8)
        time.sleep(0.1)
        del held
    assert 45 < watch.most - before < 60
    found = streaming.compare(tokenizer_folder, [200, 400], True, ["--batch_size", "32"])
    assert [[peak["batches"] for peak in peaks] for peaks in found.values()] == [[7, 13], [7, 13]]
    assert all(50 < peak["anonymous"] < peak["resident"] for peaks in found.values() for peak in peaks)
    times = scaling.compare(tokenizer_folder, [100, 300], 2, [])
    assert list(times) == ["check", "encode", "open", "epoch", "index", "stream"]
    assert all(len(each) == 2 and min(min(rounds) for rounds in each) > 0 for each in times.values())
    lines = scaling.table({"check": [[10.0, 20.0, 5.0], [25.0, 40.0, 15.0]]}, [100, 300]).splitlines()
    assert lines[0] == "| µs per record | 100 | 300 | last / first |"
    assert lines[2] == "| check | 10.0 | 25.0 | 2.50 (2.00 … 3.00) |"
    scaling.plot(times, [100, 300], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_documented_commands_name_what_there_is() -> None:
    """Cases, scripts and options of all pages; each script itself is tried above at a small size."""
    pages = sorted(Path(run.__file__).parents[1].glob("docs/*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    commands = re.findall(r"^python -m benchmarks\.(\w+) ?([^#\n]*)", text, re.MULTILINE)
    assert len(commands) > 20
    shared = "".join(inspect.getsource(module) for module in (rounds, run))
    common = set(re.findall(r'"(--\w+)"', shared))
    kinds = (Arguments, *(kind for kind in vars(pretraining_arguments).values() if dataclasses.is_dataclass(kind)))
    of_main = {f"--{field.name}" for kind in kinds for field in dataclasses.fields(kind)} | {"--config"}
    for script, rest in commands:
        case = re.search(r"--case (\w+)", rest)
        assert case is None or case[1] in run.CASES, rest
        source = Path(run.__file__).with_name(f"{case[1] if case else script}.py").read_text(encoding="utf-8")
        known = common | of_main | set(re.findall(r'"(--\w+)"', source))
        assert not {option for option in rest.split() if option.startswith("--")} - known, (script, rest)
