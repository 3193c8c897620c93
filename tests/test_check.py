"""`python main.py --check`: what is planted in data, model and machine is found, and counted exactly."""

import json
import math
import os
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import main
from config import get_args
from data_process.fingerprints import plain
from data_process.lengths import fitting_length, histogram, lost_words
from data_process.sample_data import generate
from experiments.check import table
from experiments.check.model import gradients, judged, overfit
from experiments.check.table import Finding
from tests.sample_job import arguments, read
from tests.tiny import collate, one_task, tiny_features, tiny_model


def distinct(number: int) -> list[dict[str, Any]]:
    found = {plain(" ".join(record["tokens"])): record for record in generate(600)}
    return [*found.values()][:number]


def write(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Three files. train: 150 records, then 2 repeated, one with another intent, one in capitals, 2 with illegal tags
    and one empty; dev: 30 new ones, 4 of train, of which one has another intent, and one in capitals; test: 30 new ones
    and one with an intent of its own."""
    folder, records = tmp_path_factory.mktemp("planted"), distinct(220)
    train, dev, test = records[:150], records[150:180], records[180:210]
    other = {"play_music": "get_weather"}

    def relabelled(record):
        return record | {"intent": other.get(record["intent"], "play_music")}

    def shouted(record):
        return record | {"tokens": [f"{word} ".upper() for word in record["tokens"]]}

    shout = [n for n, record in enumerate(train) if n > 9 and "".join(record["tokens"]).isascii()][:2]
    illegal = [{"tokens": ["a", "b"], "tags": tags, "intent": "play_music"} for tags in (["O", "I-song"], ["E-x", "O"])]
    train += [train[0], train[1], relabelled(train[2]), shouted(train[shout[0]]), *illegal, train[0] | {"tokens": []}]
    dev += [train[3], train[4], train[5], relabelled(train[6]), shouted(train[shout[1]])]
    test = [*test, records[210] | {"intent": "dance"}]
    for name, part in (("train", train), ("dev", dev), ("test", test)):
        write(folder / f"{name}.jsonl", part)
    return folder


def check(data, output, **options):
    options = {"check": True, "do_train": False, "do_eval": False} | options
    return main.run(arguments(data, output, **options))


@pytest.fixture(scope="module")
def found(planted, tmp_path_factory):
    """check.json of the three files."""
    output = tmp_path_factory.mktemp("found") / "out"
    assert check(planted, output, on_bad_record="skip", max_length=12) == 0
    assert os.listdir(output) == ["check.json"]
    return read(output / "check.json")


def rows(found, what):
    return [row for row in found["findings"] if row["what"] == what]


def test_planted_copies_are_counted(found, planted):
    train, *more = rows(found, "duplicates")
    assert {n: train["figures"][n] for n in ("part", "records", "exact", "near", "other_label")} == {
        "part": "train", "records": 154, "exact": 3, "near": 1, "other_label": 2}  # fmt: skip
    assert train["figures"]["examples"][0] == [f"{planted}/train.jsonl:153", f"{planted}/train.jsonl:3"]
    assert [row["figures"]["parts"] for row in more] == [["eval", "test"]]
    leaked, none = rows(found, "leakage")
    assert {n: leaked["figures"][n] for n in ("part", "records", "exact", "near", "other_label")} == {
        "part": "eval", "records": 35, "exact": 4, "near": 1, "other_label": 1}  # fmt: skip
    assert leaked["message"].startswith("eval: 4 of 35 records (11.4 %) stand in train")
    assert leaked["figures"]["examples"][0] == [f"{planted}/dev.jsonl:34", f"{planted}/train.jsonl:7"]
    assert none["figures"]["parts"] == ["test"]


def test_wrong_records_and_illegal_tags_are_counted(found, planted):
    [wrong] = rows(found, "wrong records")
    assert (wrong["figures"]["wrong"], wrong["figures"]["records"], wrong["level"]) == (3, 157, "warning")
    [illegal] = rows(found, "illegal tags")
    assert illegal["figures"] == {"part": "train", "source": f"{planted}/train.jsonl", "records": 2,
                                  "first": f"{planted}/train.jsonl:155"}  # fmt: skip


def test_without_skip_they_are_counted_before_the_first_ends_the_run(planted, tmp_path, capsys):
    assert check(planted, tmp_path / "out") == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {planted}/train.jsonl:155: tags: I-song at word 2")
    assert shown.err.count("\n") == 1
    lines = [line for line in shown.out.splitlines() if line.startswith("error")]
    assert "train: 3 of 157 records cannot be used" in lines[0] and "train: 2 of them have tags that IOB2" in lines[1]
    assert not (tmp_path / "out").exists()


def test_labels(found):
    [new] = rows(found, "new labels")
    assert new["figures"] == {"task": "intent", "part": "test", "counts": {"dance": 1}} and new["level"] == "warning"
    of_intents, of_slots = rows(found, "labels")
    train = found["data"]["train"]["labels"]
    assert of_intents["figures"]["labels"] == len(train["intent"])
    assert of_intents["figures"]["most"] == max(train["intent"].values())
    assert of_slots["figures"]["labels"] == sum(tag.startswith("B-") for tag in train["slots"])
    few = [label for label, number in train["intent"].items() if number < 5]
    assert sorted(of_intents["figures"]["rare"]) == sorted(few)


def test_truncation_and_lengths(found, planted, tmp_path):
    """Against the features of a run that cuts nothing, and of the one that cuts."""
    whole, cut = (job_of(planted, tmp_path, max_length=length).data["data"] for length in (64, 12))
    lengths = whole.lengths("train")
    [truncated], [shown] = rows(found, "truncation"), rows(found, "lengths")
    assert truncated["figures"]["truncated_share"]["train"] == pytest.approx((lengths > 12).mean(), abs=1e-4)
    assert shown["figures"]["longest"] == lengths.max()
    assert sum(count for _, _, count in shown["figures"]["histogram"]) == 154
    kept = [row["word_starts"] for row in cut.own_rows("train")]
    gold = cut.references(cut.rows("train"))(cut.numbers("train"))["slots"]
    lost = [lost_words(tags, len(starts), "word") for tags, starts in zip(gold, kept, strict=True)]
    assert truncated["figures"]["lost_share"]["slots"] == sum(n for _, n in lost) / sum(n for n, _ in lost) > 0


def job_of(data, folder, **options):
    options = {"check": True, "do_train": False, "do_eval": False, "on_bad_record": "skip"} | options
    job = main.build_job(get_args(arguments(data, folder / "out", **options)))
    main.build_data(job)
    return job


def test_lost_entities():
    assert lost_words(["B-x", "I-x", "O", "B-y"], 4, "word") == (2, 0)
    assert lost_words(["B-x", "I-x", "O", "B-y"], 1, "word") == (2, 2)
    assert lost_words(["NOUN", "VERB"], 1, "word") == (2, 1)
    assert lost_words([(0, 2, "x"), (1, 4, "y")], 3, "entities") == (2, 1)


def test_steps_of_the_histogram():
    steps = histogram([3, 4, 9, 9, 10, 200])
    assert sum(count for *_, count in steps) == 6 and len(steps) <= 8 and steps[-1][1] == 200
    assert fitting_length([5] * 99 + [100]) == 104 and fitting_length([5] * 100 + [100]) == 8


def test_a_stream_has_the_same_findings_and_is_not_encoded(found, planted, tmp_path):
    options = {"on_bad_record": "skip", "max_length": 12, "streaming": True, "cache_dir": tmp_path / "cache"}
    assert check(planted, tmp_path / "out", **options) == 0
    streamed = read(tmp_path / "out/check.json")
    same = ("records", "duplicates", "leakage", "wrong records", "illegal tags", "new labels", "labels", "lengths")
    for what in same:
        assert [row["figures"] for row in rows(streamed, what)] == [row["figures"] for row in rows(found, what)]
    cached = {path.name.split("-")[0] for path in (tmp_path / "cache").glob("*.arrow")}
    assert cached == {"dev", "test"} and "truncated_share" not in streamed["data"]["train"]


# ------------------------------------------------------------------------------------------------------------ model


def sharing(*features):
    return collate()(list(features)) | {"tasks": ["intent", "slots"]}


STUB: Any = SimpleNamespace(device=torch.device("cpu"), precision="fp32", args=SimpleNamespace(optimizer="adamw"))


def test_a_gradient_reaches_all_of_a_sound_model_which_stays_as_it_was():
    model = tiny_model()
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    batches = [sharing(*tiny_features(8))]
    found = [*gradients(STUB, model, batches), *overfit(STUB, model, batches)]
    assert [f.level for f in found] == ["ok"] * 4 and [f.figures["head"] for f in found[:2]] == [1, 1]
    assert all(f.figures["last"] < 0.5 * f.figures["first"] for f in found[2:])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and torch.equal(random, torch.get_rng_state())


def test_a_head_that_is_cut_off_is_found():
    model, batches = tiny_model(), [sharing(*tiny_features(8))]
    slots = model.heads["slots"]
    slots.forward = lambda hidden, batch, forward=slots.forward: forward([h.detach() for h in hidden], batch)
    intent, cut = gradients(STUB, model, batches)
    assert (intent.level, cut.level, cut.figures["encoder"], cut.figures["head"]) == ("ok", "error", 0, 1)
    assert cut.message.startswith("slots: no gradient reaches the encoder;")
    model.encoder.requires_grad_(False)
    assert [f.level for f in gradients(STUB, model, batches)] == ["note", "note"]


def test_a_batch_that_contradicts_itself_cannot_be_learnt():
    """The same words with other labels: half of the probability is the best that there is."""
    [feature] = tiny_features(1)
    twice = [feature | {"labels": {"intent": label}} for label in (0, 1)]
    batch = collate("intent")(twice)
    [found] = overfit(STUB, tiny_model(), [batch])
    assert found.level != "ok" and found.figures["last"] >= math.log(2) - 1e-4
    [found] = overfit(STUB, tiny_model(), [collate("intent")(one_task(tiny_features(8), "intent"))])
    assert found.level == "ok"


@pytest.mark.parametrize(("losses", "seconds", "partly", "level"), [
    ([2.0, 0.9], 1, False, "ok"), ([2.0, *[1.9] * 59, 1.2], 1, False, "warning"), ([2.0] * 61, 1, False, "error"),
    ([2.0, 1.9], 60, False, "warning"), ([2.0] * 61, 1, True, "warning"), ([0.01, 0.02], 1, False, "ok"),
])  # fmt: skip
def test_levels_of_a_batch(losses, seconds, partly, level):
    assert judged("intent", losses, seconds, partly).level == level


def test_two_errors_end_the_check(data, tmp_path, monkeypatch, capsys):
    """A loss that counts nothing, and a disk that is too small."""
    tasks = [{"name": "intent", "kind": "sequence_classification", "label_column": "intent", "loss_weight": 0}]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**5))
    assert check(data, tmp_path / "out", tasks=json.dumps(tasks)) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: check: gradients: intent: no gradient reaches its head and the encoder")
    assert shown.count("\n") == 1 and "(and 2 more)" in shown
    found = read(tmp_path / "out/check.json")
    assert {row["what"] for row in found["findings"] if row["level"] == "error"} == {"gradients", "one batch", "disk"}
    [disk] = rows(found, "disk")
    assert disk["figures"]["free"] == 10**5 < disk["figures"]["needed"]


def test_one_label_alone_is_nothing_to_learn(data, tmp_path, capsys):
    lines = [json.loads(line) | {"intent": "same"} for line in (data / "train.jsonl").read_text().splitlines()[:40]]
    files = dict.fromkeys(("train_file", "eval_file"), write(tmp_path / "one.jsonl", lines)) | {"test_file": None}
    tasks = json.dumps([{"name": "intent", "kind": "sequence_classification", "label_column": "intent"}])
    assert check(data, tmp_path / "out", tasks=tasks, **files) == 2
    assert "all training records have the same gold label, same" in capsys.readouterr().err
    found = read(tmp_path / "out/check.json")
    assert rows(found, "leakage")[0]["figures"]["exact"] == 40, "the same file is read twice"


# --------------------------------------------------------------------------------------------------------- forecast


@pytest.mark.slow
def test_the_forecast_of_the_disk_is_what_a_run_leaves(data, tmp_path):
    """Tensors alone: the rest is some text."""
    output = tmp_path / "out"
    assert check(data, output, use_ema=True) == 0
    [disk] = rows(read(output / "check.json"), "disk")
    [time] = rows(read(output / "check.json"), "time")
    assert main.run(arguments(data, output, use_ema=True, do_eval=False)) == 0
    assert time["figures"]["steps"] == read(output / "last/trainer_state.json")["step"] == 50
    written = sum(path.stat().st_size for path in output.rglob("*.safetensors"))
    assert written == pytest.approx(disk["figures"]["kept"], rel=0.03)


# ------------------------------------------------------------------------------------------------------------ kinds

PAIR = [{"a": f"文 {n}", "b": f"text {n} {n % 5}", "score": n % 5, "topics": ["x", "y"][: n % 3]} for n in range(24)]
ANSWERS = [{"q": f"who {n}?", "c": f"it was number{n} then", "answers": {"text": [f"number{n}"], "answer_start": [7]}}
           for n in range(24)]  # fmt: skip
CHOICES = [{"t": f"take {n}", "choices": [f"way {n}", f"no {n + 1}", "none"][: 2 + n % 2], "right": n % 2}
           for n in range(24)]  # fmt: skip
SPANS = [{"w": ["bank", "of", f"city{n}"], "names": [{"start": 0, "end": 3, "label": "org"}, {"start": 2, "end": 3,
          "label": f"place{n % 2}"}][: 1 + n % 2]} for n in range(24)]  # fmt: skip
TEXTS = [{"source": f"say {n} now", "target": f"now {n} said"} for n in range(24)]
KINDS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "multi_label_classification": (PAIR, {"label_column": "topics", "text_column": "a"}),
    "sequence_regression": (PAIR, {"label_column": "score", "text_column": "a", "text_pair_column": "b"}),
    "sentence_embedding": (PAIR, {"label_column": "score", "objective": "cosent", "text_column": "a",
                                  "text_pair_column": "b"}),
    "span_selection": (ANSWERS, {"label_column": "answers", "text_column": "q", "text_pair_column": "c"}),
    "multiple_choice": (CHOICES, {"label_column": "right", "text_column": "t", "choices_column": "choices"}),
    "global_pointer": (SPANS, {"label_column": "names", "text_column": "w"}),
    "text_generation": (TEXTS, {"label_column": "target", "text_column": "source"}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task(kind, data, tmp_path):
    """The first 6 records are held out, too: that is found."""
    records, columns = KINDS[kind]
    options = {name: value for name, value in columns.items() if name.endswith("_column") and name != "label_column"}
    task = {"name": "it", "kind": kind} | {n: v for n, v in columns.items() if n not in options}
    files = {"train_file": write(tmp_path / "train.jsonl", records), "test_file": None,
             "eval_file": write(tmp_path / "dev.jsonl", records[:6])}  # fmt: skip
    assert check(data, tmp_path / "out", tasks=json.dumps([task]), epochs=1, **options, **files) == 0
    found = read(tmp_path / "out/check.json")
    assert rows(found, "leakage")[0]["figures"]["exact"] == 6
    assert [row["level"] for row in rows(found, "one batch")] == ["ok"]
    assert {row["what"] for row in found["findings"]} >= {"gradients", "disk", "memory", "time", "lengths"}


def test_several_data_sets_are_compared_where_they_can_be(data, tmp_path):
    """Of the same task they are one; the other task has no evaluation."""
    lines = [json.loads(line) for line in (data / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    one, two = write(tmp_path / "one.jsonl", lines[:50]), write(tmp_path / "two.jsonl", lines[40:90])
    tasks = [{"name": "intent", "kind": "sequence_classification", "label_column": "intent"},
             {"name": "slots", "kind": "word_tagging", "label_column": "tags"}]  # fmt: skip
    sets = [{"name": "one", "tasks": ["intent"], "train_file": str(one), "eval_ratio": 0},
            {"name": "two", "tasks": ["intent"], "eval_file": str(two)},
            {"name": "three", "tasks": ["slots"], "train_file": str(two), "eval_ratio": 0}]  # fmt: skip
    options = dict.fromkeys(("train_file", "eval_file", "test_file")) | {"tasks": json.dumps(tasks)}
    options["monitor"] = "intent/accuracy"  # sentence_accuracy is of records with all tasks
    assert check(data, tmp_path / "out", **options, datasets=json.dumps(sets)) == 0
    found = read(tmp_path / "out/check.json")
    assert rows(found, "leakage")[0]["figures"]["exact"] == 10 == len(lines[40:50])
    assert [row["figures"]["records"] for row in rows(found, "parts")] == [
        {"train": 50, "eval": 50, "test": 0}, {"train": 50, "eval": 0, "test": 0}]  # fmt: skip
    assert [row["figures"]["task"] for row in rows(found, "one batch")] == ["intent", "slots"]


# ------------------------------------------------------------------------------------------------------------ table


def test_no_line_is_wider_than_the_terminal():
    text = "查询天气的句子没有标点也没有空格" * 5 + " and words " * 12 + "x" * 150 + "\n  ███ 12 %"
    findings = [Finding("error", "data", "labels", text), Finding("ok", "model", "一批", "short")]
    for width in (60, 80, 100):
        lines = table.as_table(findings, width).splitlines()
        assert max(map(table.columns, lines)) <= width
        assert "".join(lines).count("天气") <= 5 and "".join(lines).replace(" ", "").count("查") == 5
        starts = [line for line in lines if line.startswith(("error", "ok"))]
        assert table.columns(starts[1].partition("short")[0]) == 9 + 8
    assert lines[-1] == "1 error, 1 ok"
    assert "\033" not in table.as_table(findings, 80)
    assert "\033[1;31merror\033[0m" in table.as_table(findings, 80, colour=True)


def test_how_numbers_are_shown():
    assert [table.percent(share) for share in (0, 1e-5, 0.0004, 0.037, 0.9999, 1)] == [
        "0 %", "<0.1 %", "<0.1 %", "3.7 %", "99.9 %", "100 %"]  # fmt: skip
    assert [table.size(n) for n in (12, 5300, 27e6, 73.6e9)] == ["12 B", "5 kB", "27 MB", "73.6 GB"]
    times = [table.duration(seconds) for seconds in (0.2, 3, 70, 960, 3 * 3600 * 24)]
    assert times == ["200 ms", "3.0 s", "70 s", "16 min", "3.0 days"]
    assert table.clean("a\033[2Jb\u202e") == "aU+001B[2JbU+202E"
    assert table.some(list("abcdefg")) == "a, b, c, d, e and 2 more"
