"""Sequences of tasks through continual.py: what is measured and kept, orders, heads on demand, resuming, mistakes."""

import json
import os
import random
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import continual
import main
from experiments import continual_report, task_list
from model_utils.heads import text_generation
from model_utils.multitask_model import MultiTaskModel
from tests.processes import forked
from tests.sample_job import arguments, read
from tests.test_generation_job import PAIRS
from tests.tiny import tiny_model
from tricks.continual import approach_class, approach_names

INTENT = {"kind": "sequence_classification", "label_column": "intent", "pooling": "mean"}
SLOTS = {"kind": "word_tagging", "label_column": "tags", "decoder": "crf"}
OTHER_HEADS = [{"name": "intents", **INTENT}, {"name": "slots", **SLOTS}]
NAMES = ("intents", "slots")
ROOT = Path(__file__).parents[1]
POINTER = [{"name": "a", "kind": "global_pointer", "label_column": "tags"}]
VECTORS = [{"name": "a", "kind": "sentence_embedding", "label_column": "score"}]


def command(data, output, tasks=OTHER_HEADS, **options):
    """A sequence on the sample corpus; 40 training and 100 test records for each task, unless it says otherwise."""
    given = {
        "tasks": None, "train_file": None, "eval_file": None, "test_file": None, "do_train": None, "do_eval": None,
        "task_list": json.dumps(tasks), "epochs": 2, "train_samples": 40, "task_defaults": json.dumps({
            f"{part}_file": str(data / f"{name}.jsonl")
            for part, name in (("train", "train"), ("eval", "dev"), ("test", "test"))}),
        "max_length": 24, "model_name_or_path": encoder(data),
    }  # fmt: skip
    return arguments(data, output, **given | options)


@cache
def encoder(data):
    """A tiny one with a tokenizer for the sample corpus."""
    job = arguments(data, data / "start", max_steps=1, do_eval=None)
    assert main.run(job) == 0
    return data / "start/best/encoder"


def learn(data, output, tasks=OTHER_HEADS, **options):
    assert main.run(command(data, output, tasks, **options), continual.continual) == 0
    return read(output / first_run(output) / "results.json")


def first_run(output: Path) -> Path:
    [found] = output.glob("*/order-1/seed-1")
    return found


def intents(data):
    records = [json.loads(line) for line in (data / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    return sorted({record["intent"] for record in records})


def by_class(data, head="intent"):
    """Two tasks that bring two and three classes to one head."""
    labels = intents(data)
    own = {**INTENT, "head": head}
    return [{"name": "some", **own, "classes": labels[:2]}, {"name": "others", **own, "classes": labels[2:5]}]


@pytest.fixture(scope="module")
def sequential(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("continual") / "out"
    learn(data, output)
    return output


def test_all_tasks_are_scored_before_the_first_and_after_each(sequential):
    folder = first_run(sequential)
    found = read(folder / "results.json")
    assert found["finished"] and found["order"] == list(NAMES) and found["seed"] == 1
    assert [(row["after"], row["task"]) for row in found["rows"]] == [(0, None), (1, "intents"), (2, "slots")]
    assert all(tuple(row["metrics"]) == NAMES for row in found["rows"])
    assert found["rows"][2]["metrics"]["slots"].keys() >= {"f1", "accuracy", "loss"}
    assert found["tasks"]["slots"] == {
        "head": "slots", "kind": "word_tagging", "metric": "f1", "lower_is_better": False, "language": None,
        "records": {"train": 40, "eval": 100, "test": 100}}  # fmt: skip
    assert found["rows"][1]["metrics"]["intents"]["accuracy"] > found["rows"][0]["metrics"]["intents"]["accuracy"]
    learnt = folder / "tasks/2-slots/learnt"
    weights = {**load_file(learnt / "model.safetensors"), **load_file(learnt / "encoder/model.safetensors")}
    assert found["parameters"]["model"] == sum(value.numel() for value in weights.values())


def test_what_is_kept_gives_main_the_same_scores(data, sequential, tmp_path):
    """The newest learnt/ is a saved model like others; each task's test data gives the figures of the last row."""
    folder = first_run(sequential)
    row = read(folder / "results.json")["rows"][-1]["metrics"]
    assert sorted(p.parent.name for p in folder.glob("tasks/*/learnt")) == ["2-slots"], "older weights are deleted"
    for name in NAMES:
        entry = [{"name": name, "test_file": str(data / "test.jsonl")}]
        options = ["--model_name_or_path", str(folder / "tasks/2-slots/learnt"), "--datasets", json.dumps(entry)]
        run = ["--do_eval", "--device", "cpu", "--precision", "fp32", "--cache_dir", str(data / "cache")]
        assert main.run([*run, *options, "--output_dir", str(tmp_path / name)]) == 0
        scores = read(tmp_path / name / "test_metrics.json")
        assert {key: scores[f"{name}/{key}"] for key in row[name]} == pytest.approx(row[name])


def test_later_tasks_do_not_change_earlier_ones(data, sequential, tmp_path):
    """A sequence of the first task alone has the scores of the longer one, and no other head."""
    found = learn(data, tmp_path / "out", OTHER_HEADS[:1])
    rows = read(first_run(sequential) / "results.json")["rows"]
    assert [row["metrics"]["intents"] for row in found["rows"]] == [row["metrics"]["intents"] for row in rows[:2]]
    model = MultiTaskModel.from_pretrained(first_run(tmp_path / "out") / "tasks/1-intents/learnt")
    assert list(model.heads) == ["intents"]


def test_weights_of_a_head_do_not_depend_on_when_it_is_added():
    one, other = tiny_model(), tiny_model()
    specs = [{"name": name, "kind": "sequence_classification", "labels": ["x", "y"]} for name in ("a", "b")]
    for model, order in ((one, specs), (other, specs[::-1])):
        for spec in order:
            torch.rand(3)
            model.add_head(spec, seed=7)
    for name in ("a", "b"):
        assert torch.equal(one.heads[name].classifier.weight, other.heads[name].classifier.weight)
    assert not torch.equal(one.heads["a"].classifier.weight, one.heads["b"].classifier.weight)
    one.add_head(specs[0], seed=8)
    assert not torch.equal(one.heads["a"].classifier.weight, other.heads["a"].classifier.weight)


def test_scores_before_a_task_are_those_of_its_head_as_it_begins(data, tmp_path):
    """Also in another order of the tasks the row before the first is the same."""
    other = learn(data, tmp_path / "out", OTHER_HEADS, orders='[["slots", "intents"]]', epochs=0, max_steps=1)
    same = learn(data, tmp_path / "same", OTHER_HEADS, epochs=0, max_steps=1)
    assert other["order"] == ["slots", "intents"] and other["order_name"] == "given-1"
    assert other["rows"][0]["metrics"] == same["rows"][0]["metrics"]


def test_classes_that_come_later(data, tmp_path):
    """One head for all classes: behind the second task the first is forgotten; trained together, neither is."""
    tasks = by_class(data)
    options = {"train_samples": 120, "epochs": 10, "lr": 5e-3}
    found = learn(data, tmp_path / "out", tasks, **options)
    first, second = found["rows"][1]["metrics"], found["rows"][2]["metrics"]
    assert first["some"]["accuracy"] > 0.8 and first["others"]["accuracy"] == 0
    assert second["some"]["accuracy"] < 0.1 and second["others"]["accuracy"] > 0.8
    together = learn(data, tmp_path / "joint", tasks, **options, approaches="[joint]")
    assert [row["after"] for row in together["rows"]] == [0, 2]
    assert all(metrics["accuracy"] > 0.6 for metrics in together["rows"][1]["metrics"].values())
    assert together["rows"][0]["metrics"] == found["rows"][0]["metrics"]
    labels = read(first_run(tmp_path / "out") / "tasks/2-others/learnt/labels.json")
    assert labels == {"intent": intents(data)}


ALL = [name for name in approach_names() if getattr(approach_class(name), "TRAINS", "in turn") == "in turn"]


@pytest.mark.parametrize("approach", ALL)
def test_each_approach_with_heads_of_other_kinds(approach, data, tmp_path):
    """A tagger with a CRF behind a classifier, micro-batches of two; with a head each the parameters of the first are
    as they were, but where an approach moves them by the memory."""
    found = learn(data, tmp_path / "out", OTHER_HEADS, approaches=json.dumps([approach]), accumulate=2, epochs=1)
    assert [list(row["metrics"]) for row in found["rows"]] == [list(NAMES)] * 3
    assert all(0 <= row["metrics"][name]["loss"] < 50 for row in found["rows"] for name in NAMES)
    kept = found["bytes_kept"] > 0
    assert kept == (approach not in ("sequential", "frozen"))
    if approach in ("adapters", "frozen"):
        rows = [row["metrics"]["intents"] for row in found["rows"][1:]]
        assert rows[0] == rows[1], "nothing is forgotten"


@pytest.mark.parametrize("name, strength", [("ewc", 300.0), pytest.param("lwf", 10.0, marks=pytest.mark.slow)])
def test_two_micro_batches_are_one_of_both(name, strength, data, tmp_path):
    """Without dropout; what the approach adds counts once per step, also in the short last one of an epoch."""
    shutil.copytree(encoder(data), tmp_path / "start")
    config = read(tmp_path / "start/config.json") | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "start/config.json").write_text(json.dumps(config), encoding="utf-8")
    options = {"approaches": json.dumps([{"name": name, "strength": strength}]), "train_samples": 24,
               "model_name_or_path": tmp_path / "start",
               "tasks": [task | {"dropout": 0.0} for task in by_class(data)]}  # fmt: skip
    whole = weights_after(data, tmp_path / "whole", batch_size=16, **options)
    halves = weights_after(data, tmp_path / "halves", batch_size=8, accumulate=2, **options)
    plain = weights_after(data, tmp_path / "plain", batch_size=16, **options | {"approaches": "[sequential]"})
    apart, moved = (max(float((whole[n] - other[n]).abs().max()) for n in whole) for other in (halves, plain))
    assert moved > 1e-3 and apart < 0.1 * moved  # Adam makes much of rounding where gradients are small


def weights_after(data, output, **options):
    learn(data, output, **options)
    folder = first_run(output) / "tasks/2-others/learnt"
    return {**load_file(folder / "model.safetensors"), **load_file(folder / "encoder/model.safetensors")}


def test_separate_models(data, tmp_path):
    """Each is the one that a sequence of this task alone gives."""
    found = learn(data, tmp_path / "out", approaches="[separate]")
    assert [list(row["metrics"]) for row in found["rows"]] == [list(NAMES), ["intents"], ["slots"]]
    alone = learn(data, tmp_path / "alone", OTHER_HEADS[1:])
    assert alone["rows"][1]["metrics"]["slots"] == found["rows"][2]["metrics"]["slots"]
    assert found["bytes_kept"] == 4 * found["parameters"]["model"], "the other model, in fp32"


def test_orders_and_seeds(data):
    def plans(*more):
        return task_list.plans(*task_list.get_args([*command(data, data / "out"), *more]))

    orders = '[listed, shuffled, ["slots", "intents"]]'
    found = plans("--orders", orders, "--seeds", "2", "--approaches", "[joint, sequential]")
    places = ["joint/order-1/seed-1", "sequential/order-1/seed-1", "joint/order-2/seed-1"]
    assert [plan.place for plan in found[:3]] == places
    assert len({plan.place for plan in found}) == len(found) == 12
    assert {plan.order for plan in found if plan.order_name == "listed"} == {NAMES}
    assert {plan.order for plan in found if plan.order_name == "given-3"} == {NAMES[::-1]}
    seeds = {plan.seed: plan.order for plan in plans("--orders", "[shuffled]", "--seeds", "20")}
    assert {NAMES, NAMES[::-1]} == set(seeds.values()), "some seeds turn the order round"
    assert all(plan.order == seeds[plan.seed] for plan in plans("--orders", "[shuffled]", "--seeds", "9"))


def test_tasks_inherit_and_have_their_own(data):
    tasks = ["first", {"name": "second", "lr": 0.5, "head": "topic", "train_samples": 9, "metric": "macro_f1"}]
    defaults = {**INTENT, "train_file": str(data / "{name}.jsonl"), "language": "en", "epochs": 4}
    for name in ("first", "second"):
        shutil.copy(data / "train.jsonl", data / f"{name}.jsonl")
    args, found = task_list.get_args(command(data, data / "out", tasks, task_defaults=json.dumps(defaults)))
    assert [task.name for task in found] == ["first", "second"] and [task.head for task in found] == ["first", "topic"]
    assert [task.options for task in found] == [{"epochs": 4}, {"lr": 0.5, "epochs": 4}]
    assert [task.metric for task in found] == [None, "macro_f1"] and {task.language for task in found} == {"en"}
    assert [entry["train_file"] for entry in args.datasets] == [str(data / f"{n}.jsonl") for n in ("first", "second")]
    assert args.datasets[1]["train_samples"] == 9 and "train_samples" not in args.datasets[0]
    assert [task["pooling"] for task in args.tasks] == ["mean", "mean"]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "the same name": ({"tasks": OTHER_HEADS[:1] * 2}, "task_list: names must differ, found ['intents', 'intents']"),
    "no tasks": ({"tasks": []}, "task_list: none given"),
    "no kind": ({"tasks": [{"name": "a", "label_column": "intent"}]}, "task_list[0]: needs kind, a text"),
    "no name": ({"tasks": [{"kind": "word_tagging"}]}, "task_list[0]: must be a name (letters, digits and _ only)"),
    "no order": ({"orders": "[sorted]"}, "orders[0]: must be listed, shuffled, or a list of all names: intents, slots"),
    "half an order": ({"orders": "[[slots]]"}, "orders[0]: must be listed, shuffled, or a list of all names"),
    "no seeds": ({"seeds": 0}, "seeds: must be at least 1"),
    "no approach": ({"approaches": "[joined]"}, "approaches[0]: no approach 'joined'; did you mean joint?"),
    "twice": ({"approaches": "[joint, joint]"}, "approaches: labels must differ, found ['joint', 'joint']"),
    "an option": ({"approaches": "[{name: joint, x: 1}]"}, "approaches: joint has no option 'x'; it takes none"),
    "a path": ({"approaches": "[{name: joint, label: ../x}]"}, "approaches[0]: give a label of letters and digits"),
    "not here": ({"use_distillation": True}, "use_distillation: unknown option"),
    "a wrong value": ({"approaches": "[{name: ewc, strength: -1}]"}, "approaches: ewc: EWC: strength must not be neg"),
    "a memory": ({"approaches": "[{name: replay, size: 0}]"}, "approaches: replay: Buffer: size must be at least 1"),
    "padding": ({"approaches": "[prompt_pool]", "unpad": True}, "unpad: does not go with prompt_pool; leave it out"),
    "no adapters": ({"approaches": "[{name: adapters, peft: {peft_type: X}}]"}, "peft: there is no peft_type 'X'"),
    "no divergence": ({"approaches": "[lwf]", "tasks": POINTER}, "lwf: not for global_pointer, whose head has no"),
    "no loss of one record": ({"approaches": "[ewc]", "tasks": VECTORS}, "ewc: not for a, whose loss compares the rec"),
}
WRONG_TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown kind": ({"kind": "b"}, "unknown kind 'b'"),
    "typo": ({"epoch": 1}, "task_list[1]: epoch: unknown option; did you mean epochs?"),
    "no option of the head": ({"depth": 1}, "sequence_classification has no option 'depth'; it takes dropout"),
    "text for a number": ({"lr": "x"}, "task_list[1]: lr: 'x' is no value of --lr"),
    "no text": ({"language": 1}, "task_list[1]: language: 1 is no text"),
    "other options of a head": ({"head": "intents", "pooling": "cls"}, "task_list[1]: has another kind or other opt"),
    "no data": ({"train_file": None}, "task_list: a: train_file: none given"),
    "no file": ({"test_file": "no.jsonl"}, "datasets[1]: test_file: there is no file no.jsonl"),
    "balanced": ({"class_weights": "balanced"}, "task_list[1]: class_weights: the counts of later tasks are not known"),
    "no metric": ({"metric": "f1"}, "monitor: unknown metric 'a/f1'; there are a/accuracy"),
    "no class": ({"classes": ["x"]}, "classes: no record has the class 'x'"),
    "nothing to score": ({"eval_file": None, "test_file": None, "eval_ratio": 0.0}, "a has no test or evaluation data"),
}


@pytest.mark.parametrize("name", WRONG_TASKS)
def test_wrong_tasks(name, data, tmp_path, capsys):
    """Named before the first one is learnt."""
    given, message = WRONG_TASKS[name]
    tasks = [OTHER_HEADS[0], {"name": "a", **INTENT, **given}]
    assert main.run(command(data, tmp_path / "out", tasks), continual.continual) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.startswith("error: ") and shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, data, tmp_path, capsys):
    given, message = MISTAKES[name]
    assert main.run(command(data, tmp_path / "out", **given), continual.continual) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.startswith("error: ") and shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_run_in_the_same_folder_is_refused(data, sequential, capsys):
    shown_for = {"--lr": "lr: is 1.0, but 0.003 in the saved run", "--epochs": "epochs: is 1, but 2 in"}
    for option, shown in shown_for.items():
        assert main.run([*command(data, sequential), option, "1"], continual.continual) == 2
        assert shown in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in first_run(sequential).rglob("*") if path.name != ".lock"}
    learn(data, sequential, logging_steps=3)
    after = {path: path.stat().st_mtime_ns for path in first_run(sequential).rglob("*") if path.name != ".lock"}
    assert before == after, "a finished run is not done again"


def test_only_checked(data, tmp_path, capsys):
    assert main.run([*command(data, tmp_path / "out"), "--check"], continual.continual) == 0
    assert "\nDATA ─" in capsys.readouterr().out and os.listdir(tmp_path / "out") == ["check.json"]
    assert read(tmp_path / "out/check.json")["data"]["train-slots"]["records"] == 40


def test_two_processes_share_the_runs(data, tmp_path, monkeypatch):
    from trainer.lock import owned

    output = tmp_path / "out"
    taken = output / "sequential/order-1/seed-1"
    with owned(taken):
        assert forked(lambda: main.run(command(data, output, seeds=2, epochs=0, max_steps=1), continual.continual)) == 0
        assert not (taken / "results.json").exists()
    assert read(output / "sequential/order-1/seed-2/results.json")["finished"]


# ------------------------------------------------------------------------- resuming


class Stopped(Exception):
    exit_code = 9


def assert_same(ours: Path, theirs: Path, seconds: Callable[[Any], Any]) -> None:
    assert seconds(read(ours / "results.json")) == seconds(read(theirs / "results.json"))
    names = sorted(path.relative_to(theirs) for path in theirs.rglob("*.safetensors"))
    assert names == sorted(path.relative_to(ours) for path in ours.rglob("*.safetensors")) and names
    for name in names:
        one, other = load_file(ours / name), load_file(theirs / name)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), name


def without_seconds(results):
    return results | {"rows": [row | {"seconds": 0} for row in results["rows"]]}


APPROACHES = approach_names()


QUICK = ("joint", "ewc")  # each of the others is held to the same by a test of its own file


@pytest.mark.parametrize(
    "approach", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in APPROACHES]
)
def test_interrupted_anywhere_ends_as_unbroken(approach, data, tmp_path, monkeypatch):
    """In both tasks: at the first step, in the middle, before and after all are scored, and when the model is kept."""
    options = {"approaches": json.dumps([approach]), "save_steps": 1, "train_samples": 24, "batch_size": 8, "seeds": 1,
               "tasks": [task | {"head": "intent"} for task in by_class(data)]}  # fmt: skip
    learn(data, tmp_path / "whole", **options)
    folder = tmp_path / "broken"
    for place in ("save_last", "save_last 2", "evaluate", "row", "keep", "tidy") * (1 if approach == "joint" else 2):
        interrupt(place, monkeypatch)
        assert main.run(command(data, folder, **options), continual.continual) == 9, place
        monkeypatch.undo()
    learn(data, folder, **options)
    assert_same(first_run(folder), first_run(tmp_path / "whole"), without_seconds)


def interrupt(place: str, monkeypatch: Any) -> None:
    """Raise at the second time that a function is called, or before the first."""
    from trainer.run_folder import RunFolder

    name, _, count = place.partition(" ")
    owner: Any = RunFolder if name == "save_last" else continual
    original, calls = getattr(owner, name), iter(range(1, 100))

    def stop(*given: Any, **options: Any) -> Any:
        result = original(*given, **options)
        if next(calls) == int(count or 1):
            raise Stopped("here")
        return result

    monkeypatch.setattr(owner, name, stop)


def test_killed_at_random_moments(data, tmp_path):
    kill(data, tmp_path, "sequential", kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("approach", APPROACHES)
def test_killed_often(data, tmp_path, approach):
    kill(data, tmp_path, approach, kills=6)


def kill(data: Path, tmp_path: Path, approach: str, kills: int) -> None:
    """Like test_kills.py: SIGKILL after a random time, the same command again, the same end."""
    options = {"approaches": json.dumps([approach]), "save_steps": 1, "train_samples": 24, "batch_size": 8}

    def run(folder: Path) -> int:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        return main.run(command(data, folder, **options), continual.continual)

    start = time.monotonic()
    assert forked(partial(run, tmp_path / "whole")) == 0
    rng, seconds, hits, runs = random.Random(5), time.monotonic() - start, 0, 0
    while hits < kills:
        folder = tmp_path / f"killed-{runs}"
        runs += 1
        while hits < kills and forked(partial(run, folder), kill_after=rng.random() * seconds) is None:
            hits += 1
        assert forked(partial(run, folder)) == 0
        assert_same(first_run(folder), first_run(tmp_path / "whole"), without_seconds)
        shutil.rmtree(folder)
    print(f"\n{approach}: {hits} kills in {runs} runs")


# --------------------------------------------------------------------- docs and configs


def test_the_example_of_the_docs(data, sequential, tmp_path, monkeypatch):
    """With strength 0 it is sequential; with a large one the encoder of the second task stays where it was."""
    text = (ROOT / "docs/continual.md").read_text(encoding="utf-8")
    module: Any = ModuleType("tricks.continual.mine")
    exec(re.findall(r"```python\n(.*?)```", text, re.S)[0], module.__dict__)
    monkeypatch.setitem(sys.modules, "tricks.continual.mine", module)
    monkeypatch.setattr("tricks.continual.approach_names", lambda: ["mine"])
    found = learn(data, tmp_path / "none", approaches="[{name: mine, strength: 0.0}]")
    plain = read(first_run(sequential) / "results.json")
    assert [row["metrics"] for row in found["rows"]] == [row["metrics"] for row in plain["rows"]]
    learn(data, tmp_path / "held", approaches="[{name: mine, strength: 1000.0}]")
    start, held, free = (
        load_file(path / "tasks/2-slots/learnt/approach.safetensors" if number == 0 else
                  path / "tasks/2-slots/learnt/encoder/model.safetensors")
        for number, path in enumerate([first_run(tmp_path / "held")] * 2 + [first_run(sequential)])
    )  # fmt: skip
    name = "encoder.layer.0.output.dense.weight"
    before = start[f"state.before.{name}"]
    assert (held[name] - before).norm() < 0.3 * (free[name] - before).norm()


def test_the_commands_of_the_docs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    if not Path(os.environ.get("DATA_DIR", "data"), "jd21").exists():
        pytest.skip("data/jd21 is not here; DATA_DIR names the folder of the data sets")
    text = (ROOT / "docs/continual.md").read_text(encoding="utf-8")
    fewer = ["--debug", "--epochs", "1", "--seeds", "1", "--orders", "[listed]", "--model_name_or_path", "scratch:tiny",
             "--scratch_vocab_size", "300", "--cache_dir", str(tmp_path / "cache"), "--device", "cpu"]  # fmt: skip
    commands = re.findall(r"```sh\n(.*?)```", text, re.S)[0].splitlines()
    sample, jd21, report = (shlex.split(command) for command in commands)
    assert " ".join(sample) in (ROOT / "README.md").read_text(encoding="utf-8"), "whose commands test_readme.py runs"
    two = ["--task_list", "[06_liquor, 12_seafood]", "--output_dir", str(tmp_path / "out")]
    assert main.run([*jd21[2:], *fewer, *two], continual.continual) == 0
    assert (tmp_path / "out/ewc/order-1/seed-1/results.json").exists()
    options = [word.replace("output/jd21_5", str(tmp_path / "out")) for word in report[3:]]
    assert main.run(options, continual_report.report) == 0
    assert "## accuracy" in capsys.readouterr().out


def test_the_configs_of_the_repository(monkeypatch):
    monkeypatch.setattr("config.resolve_file", lambda name, source: source)
    for path in sorted((ROOT / "configs/continual").glob("*.yaml")):
        args, tasks = task_list.get_args(["--config", str(path)])
        assert path.stem.removeprefix("sample") in args.output_dir and tasks, path
        assert {name for entry in args.datasets for name in entry["tasks"]} == {task["name"] for task in args.tasks}


# ------------------------------------------------------------------------- other models


@pytest.mark.parametrize("approach", [
    "replay", "der", "ewc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("agem", "l2_start"))])
def test_texts_that_are_generated(approach, data, tmp_path, monkeypatch):
    """A language model has one head for all tasks."""
    monkeypatch.setattr(text_generation.Head, "score", score_texts)
    for name, pairs in (("one", PAIRS[:3]), ("other", PAIRS[3:6])):
        lines = [json.dumps({"source": a, "target": b}, ensure_ascii=False) for a, b in pairs]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines * 8), encoding="utf-8")
    tasks = [{"name": name, "head": "reply", "kind": "text_generation", "label_column": "target",
              **{f"{part}_file": str(tmp_path / f"{name}.jsonl") for part in ("train", "eval")}}
             for name in ("one", "other")]  # fmt: skip
    options = {"text_column": "source", "model_name_or_path": "scratch:tiny", "scratch_vocab_size": 300, "epochs": 2,
               "train_samples": 0, "max_target_length": 16, "cache_dir": tmp_path / "cache",
               "approaches": json.dumps([approach])}  # fmt: skip
    found = learn(data, tmp_path / "out", tasks, task_defaults="{}", **options)
    losses = [[row["metrics"][name]["loss"] for name in ("one", "other")] for row in found["rows"]]
    assert losses[1][0] < losses[0][0] and losses[2][1] < losses[1][1]


def score_texts(head: Any, predictions: Any, references: Any) -> dict[str, float]:
    """In place of scores that need libraries of their own."""
    return {"bleu": sum(p == r for p, r in zip(predictions, references, strict=True)) / len(references)}
