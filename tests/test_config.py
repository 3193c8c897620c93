"""Arguments: YAML and command line, types, help, one-line mistakes, a saved config that loads again."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import config
from config import Arguments, ConfigError, get_args, to_yaml

ROOT = Path(__file__).parents[1]
TASKS = "[{name: topic, kind: sequence_classification, label_column: label}]"
SAMPLE = ["--do_train", "--train_file", "sample:joint", "--tasks", TASKS]


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        path = tmp_path / "job.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_the_command_line_wins_over_the_file_wins_over_the_defaults(yaml_file):
    path = yaml_file(f"lr: 1e-4\nepochs: 7\nuse_fgm: true\ntrain_file: sample:joint\ndo_train: yes\ntasks: {TASKS}\n")
    args = get_args(["--config", path, "--epochs", "9", "--use_fgm", "false"])
    assert (args.lr, args.epochs, args.use_fgm, args.batch_size) == (1e-4, 9, False, 32)
    assert isinstance(args.lr, float), "YAML 1.1 reads 1e-4 as text"
    assert get_args(["--epochs", "9", "--config", path, "--use_fgm", "false"]) == args, "wherever --config stands"
    assert get_args(["--epochs", "9", f"--config={path}", "--use_fgm", "false"]) == args


@pytest.mark.parametrize("given", [["--use_fgm"], ["--use_fgm", "true"], ["--use_fgm=yes"]])
def test_booleans_with_and_without_a_value(given):
    assert get_args([*SAMPLE, *given]).use_fgm is True
    assert get_args([*SAMPLE, *given, "--use_fgm", "false"]).use_fgm is False
    assert get_args(SAMPLE).use_fgm is False


def test_saved_arguments_load_again(yaml_file):
    args = get_args(
        [*SAMPLE, "--lr", "3e-5", "--head_lr", "0.001", "--output_dir", "输出/run", "--extra_tokens", "[a, b]"]
    )
    assert get_args(["--config", yaml_file(to_yaml(args))]) == args


MISTAKES = {
    "unknown flag": (["--lrr", "1"], "command line: lrr: unknown option; did you mean lr?"),
    "no abbreviation": (["--epoch", "1"], "command line: epoch: unknown option; did you mean epochs?"),
    "wrong type": (["--lr", "high"], "command line: lr: Expected a float. Got value: high"),
    "fraction for a whole number": (["--epochs", "1.5"], "command line: epochs: Expected a int. Got value: 1.5"),
    "not among the choices": (["--precision", "int8"], "command line: precision: Expected a Literal"),
    "missing config": (["--config", "no.yaml"], "command line: config: File does not exist"),
    "no config": (["--epochs", "2", "--config"], "command line: --config: needs a file, for example configs/sam"),
    "nothing to do": ([], "arguments: do_train: nothing to do; give --do_train"),
    "no file": (["--do_train"], "arguments: train_file: needed by do_train"),
    "file is not there": ([*SAMPLE, "--eval_file", "no.jsonl"], "arguments: eval_file: there is no file no.jsonl"),
    "negative": ([*SAMPLE, "--epochs", "-1"], "arguments: epochs: must not be negative"),
    "zero": ([*SAMPLE, "--batch_size", "0"], "arguments: batch_size: must be above 0"),
    "share": ([*SAMPLE, "--eval_ratio", "1"], "arguments: eval_ratio: must be at least 0 and below 1"),
    "shares": ([*SAMPLE, "--eval_ratio", "0.5", "--test_ratio", "0.5"], "eval_ratio + test_ratio must stay below 1"),
    "two warm-ups": ([*SAMPLE, "--warmup_ratio", "0.1", "--warmup_steps", "5"], "give this or warmup_steps, not both"),
    "endless": ([*SAMPLE, "--epochs", "0"], "epochs and max_steps are both 0"),
    "stream a table": ([*SAMPLE, "--streaming"], "streaming: train_file must be one of .jsonl, .ndjson, .txt"),
    "compiled without padding": ([*SAMPLE, "--compile", "--unpad"], "unpad: does not go with compile"),
    "tricks without padding": ([*SAMPLE, "--use_vat", "--unpad"], "unpad: does not go with use_vat"),
    "lengths of a stream": ([*SAMPLE, "--streaming", "--group_by_length"], "group_by_length: lengths of streamed data"),
    "negative places": ([*SAMPLE, "--batch_tokens", "-1"], "arguments: batch_tokens: must not be negative"),
    "places of a stream": ([*SAMPLE, "--batch_tokens", "512", "--streaming"], "batch_tokens: lengths of streamed data"),
    "grouped twice": ([*SAMPLE, "--batch_tokens", "512", "--group_by_length"], "leave group_by_length out"),
    "places of drawn records": ([*SAMPLE, "--batch_tokens", "512", "--balanced_sampling", "1"],
                                "batch_tokens: takes each record once per epoch; leave balanced_sampling out"),
    "places for no record": ([*SAMPLE, "--batch_tokens", "127"],
                             "arguments: batch_tokens: must be at least max_length, which is 128"),
    "a trick on spread weights": ([*SAMPLE, "--parallel", "fsdp", "--use_pgd", "--use_ema"],
                                  "arguments: parallel: fsdp does not go with use_pgd; leave them out"),
    "an optimizer on spread weights": ([*SAMPLE, "--parallel", "fsdp", "--optimizer", "muon"], "goes with adamw"),
    "no seconds": ([*SAMPLE, "--machine_seconds", "-1"], "arguments: machine_seconds: must not be negative"),
    "no tracker": ([*SAMPLE, "--tracker", "mlflow"], "command line: tracker: Expected a Literal"),
    "no tasks": (["--do_train", "--train_file", "sample:joint"], "arguments: tasks: none given; for example"),
    "task without a kind": ([*SAMPLE, "--tasks", "[{name: a, label_column: b}]"], "tasks[0]: needs kind"),
    "unknown kind": ([*SAMPLE, "--tasks", "[{name: a, kind: tagger, label_column: b}]"],
                     "unknown kind 'tagger'; there are global_pointer, "),
    "two of a name": ([*SAMPLE, "--tasks", f"{TASKS[:-1]}, {TASKS[1:]}"], "names must differ"),
    "a path as a name": ([*SAMPLE, "--tasks", TASKS.replace("topic", "../x")], "letters, digits and _ only"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_one_line_that_says_what_would_be_right(name):
    argv, expected = MISTAKES[name]
    with pytest.raises(ConfigError) as caught:
        get_args(argv)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text, expected", [
    ("lr: 1\nlrr: 2\n", ":2: lrr: unknown option; did you mean lr?"),
    ("lr: high\n", ":1: lr: Expected a float. Got value: high"),
    ("lr: [\n", "did not find expected node content"),
    ("epochs: 3\nepochs: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
])  # fmt: skip
def test_mistakes_in_a_file_name_file_and_line(yaml_file, text, expected):
    path = yaml_file(text)
    with pytest.raises(ConfigError) as caught:
        get_args(["--config", path])
    assert str(caught.value).startswith(path) and expected in str(caught.value)


def test_data_dir_replaces_data(monkeypatch, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text("{}")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    args = get_args([*SAMPLE, "--train_file", "data/set/train.jsonl"])
    assert args.train_file == str(tmp_path / "set" / "train.jsonl")


def test_help_and_show_all_args_answer_at_once_and_name_everything():
    for flag in ("--help", "--show_all_args"):
        start = time.process_time(), time.time()
        done = subprocess.run([sys.executable, "main.py", flag], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        assert time.time() - start[1] < 20, "torch must not be imported for this"
        for field in dataclasses.fields(Arguments):
            assert field.name in done.stdout
    assert yaml.safe_load(done.stdout) == dataclasses.asdict(Arguments())
    imported = subprocess.run([sys.executable, "-c", "import sys, main; print('torch' in sys.modules)"],
                              capture_output=True, text=True, cwd=ROOT, check=True)  # fmt: skip
    assert imported.stdout.strip() == "False"


def test_every_option_has_help_and_the_set_of_options_is_deliberate():
    """A new option is a decision: add it here too."""
    source = (ROOT / "config.py").read_text(encoding="utf-8")
    for field in dataclasses.fields(Arguments):
        assert f"    {field.name}: " in source
    assert len(dataclasses.fields(Arguments)) == 137


def test_the_configs_of_the_repository_are_valid(monkeypatch):
    monkeypatch.setattr(config, "resolve_file", lambda name, source: source)  # the data sets are not in the repository
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        args = get_args(["--config", str(path)])
        assert args.output_dir == f"output/{path.stem}", path


# several data sets


TWO = [
    {"name": "intent", "kind": "sequence_classification", "label_column": "intent"},
    {"name": "slots", "kind": "word_tagging", "label_column": "tags"},
]


def with_data_sets(*entries, **options):
    """Checked arguments with these data sets; train_file is that of all that do not have another."""
    given: dict[str, Any] = {"tasks": TWO, "train_file": "sample:joint", "do_train": True} | options
    args = Arguments(datasets=list(entries), **given)
    config.check(args)
    return args


def test_a_data_set_has_its_own_options_and_else_those_of_all():
    own = {"tasks": ["intent"], "label_columns": {"intent": "label"}, "text_column": "query", "batch_size": 8}
    other = {"train_file": None, "eval_file": "sample:joint", "tag_scheme": "bmes"}
    args = with_data_sets(
        {"name": "a", **own}, {"name": "b", **other}, batch_size=16, text_column="tokens", eval_ratio=0.2
    )
    from_yaml = ["--tasks", yaml.safe_dump(TWO), "--datasets", yaml.safe_dump(args.datasets)]
    assert get_args([*SAMPLE, *from_yaml]).datasets == args.datasets
    first, second = config.data_sets(args, args.tasks)
    defaults = {name: getattr(args, name) for name in config.DATA_SET}
    assert (defaults["train_file"], defaults["batch_size"], defaults["eval_ratio"]) == ("sample:joint", 16, 0.2)
    columns = {"intent": "label", "slots": "tags"}
    assert first == {**defaults, **own, "name": "a", "label_columns": columns}
    assert (second["tasks"], second["label_columns"]) == (["intent", "slots"], {"intent": "intent", "slots": "tags"})
    assert (second["train_file"], second["eval_file"], second["tag_scheme"], second["batch_size"]) == (
        None, "sample:joint", "bmes", 16,
    )  # fmt: skip
    [only] = config.data_sets(get_args(SAMPLE), get_args(SAMPLE).tasks)
    assert (only["name"], only["tasks"], only["label_columns"]) == ("data", ["topic"], {"topic": "label"})
    assert only["train_file"] == "sample:joint" and set(only) == set(first)


def test_options_of_a_data_set_are_options_of_all():
    fields = {field.name for field in dataclasses.fields(Arguments)}
    assert set(config.DATA_SET) <= fields and len(set(config.DATA_SET)) == len(config.DATA_SET)


WRONG_DATA_SETS = {
    "no name": ({"tasks": ["intent"]}, "datasets[1]: needs name: letters, digits and _ only"),
    "a path as a name": ({"name": "../b"}, "datasets[1]: needs name: letters, digits and _ only"),
    "a number as a name": ({"name": 3}, "datasets[1]: needs name: letters, digits and _ only"),
    "the same name": ({"name": "a"}, "datasets: names must differ, found ['a', 'a']"),
    "typo": ({"name": "b", "batchsize": 3}, "datasets[1]: batchsize: unknown option; did you mean batch_size?"),
    "not its own": ({"name": "b", "lr": 1e-3}, "datasets[1]: lr: unknown option; a data set may have train_file, "),
    "text for a number": ({"name": "b", "batch_size": "8"}, "datasets[1]: batch_size: '8' is no value of --batch_size"),
    "fraction": ({"name": "b", "batch_size": 8.0}, "datasets[1]: batch_size: 8.0 is no value of --batch_size"),
    "boolean": ({"name": "b", "eval_ratio": True}, "datasets[1]: eval_ratio: True is no value of --eval_ratio"),
    "number for text": ({"name": "b", "text_column": 3}, "datasets[1]: text_column: 3 is no value of --text_column"),
    "no text": ({"name": "b", "text_column": None}, "datasets[1]: text_column: None is no value of --text_column"),
    "no choice": ({"name": "b", "tag_scheme": "bio"}, "datasets[1]: tag_scheme: 'bio' is no value of --tag_scheme"),
    "no file": ({"name": "b", "eval_file": "no.csv"}, "datasets[1]: eval_file: there is no file no.csv (paths count"),
    "zero": ({"name": "b", "batch_size": 0}, "datasets[1]: batch_size: must be above 0"),
    "below zero": ({"name": "b", "eval_batch_size": -1}, "datasets[1]: eval_batch_size: must be above 0"),
    "share": ({"name": "b", "test_ratio": 1}, "datasets[1]: test_ratio: must be at least 0 and below 1"),
    "shares": ({"name": "b", "test_ratio": 0.9}, "datasets[1]: eval_ratio: eval_ratio + test_ratio must stay below 1"),
    "folds": ({"name": "b", "eval_file": "sample:joint"}, "datasets[1]: folds: cuts train_file by itself; leave eval_"),
    "few-shot": ({"name": "b", "few_shot": -1}, "datasets[1]: few_shot: must not be negative"),
    "few": ({"name": "b", "few_shot": 2, "train_samples": 9}, "datasets[1]: few_shot: give this or train_samples, not"),
    "no list": ({"name": "b", "classes": "x"}, "datasets[1]: classes: 'x' is no value of --classes"),
    "numbers": ({"name": "b", "classes": [1]}, "datasets[1]: classes: [1] is no value of --classes"),
    "prompt": ({"name": "b", "prompt": "Say it"}, "datasets[1]: prompt: must have {text} in it once, which stands for"),
    "unknown task": ({"name": "b", "tasks": ["slot"]}, "datasets[1]: no task 'slot'; there are intent, slots"),
    "unknown column": ({"name": "b", "label_columns": {"x": "y"}}, "datasets[1]: no task 'x'; there are intent, slots"),
    "one task": ({"name": "b", "tasks": "intent"}, "datasets[1]: tasks must be a list of their names, found 'intent'"),
    "no tasks": ({"name": "b", "tasks": []}, "datasets[1]: tasks must be a list of their names, found []"),
    "null tasks": ({"name": "b", "tasks": None}, "datasets[1]: tasks must be a list of their names, found None"),
    "tasks as in tasks": ({"name": "b", "tasks": [{"name": "intent"}]}, "datasets[1]: tasks must be a list of their"),
    "a task twice": ({"name": "b", "tasks": ["slots"] * 2}, "datasets[1]: tasks must differ, found ['slots', 'slots']"),
    "columns": ({"name": "b", "label_columns": ["y"]}, "datasets[1]: label_columns must be {task: column}, found ["),
    "a column": ({"name": "b", "label_columns": {"slots": 1}}, "datasets[1]: label_columns must be {task: column}, "),
    "unread": ({"name": "b", "tasks": ["intent"]}, "datasets: none has the task slots"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_DATA_SETS)
def test_mistakes_in_a_data_set_name_it(name):
    entry, expected = WRONG_DATA_SETS[name]
    with pytest.raises(ConfigError) as caught:
        with_data_sets({"name": "a", "tasks": ["intent"]}, entry, folds=3 if name == "folds" else 0)
    assert str(caught.value).startswith(f"arguments: {expected}") and "\n" not in str(caught.value)


def test_what_is_needed_may_be_in_a_data_set():
    entries = {"name": "a", "train_file": "sample:joint"}, {"name": "b"}
    assert with_data_sets(*entries, train_file=None).train_file is None
    with pytest.raises(ConfigError, match=r"^arguments: train_file: needed by do_train$"):
        with_data_sets({"name": "a"}, train_file=None)
    with pytest.raises(ConfigError, match=r"^arguments: predict_file: needed by do_predict$"):
        with_data_sets(*entries, do_predict=True)
    with pytest.raises(ConfigError, match=r"^arguments: streaming: goes with one data set, and there are 2 to train"):
        with_data_sets(*entries, streaming=True)
    with pytest.raises(ConfigError, match=r"^arguments: batch_tokens: goes with one data set, and there are 2 to "):
        with_data_sets(*entries, batch_tokens=512)
    assert with_data_sets(*entries, batch_tokens=512, do_train=False, do_eval=True).batch_tokens == 512


def test_files_of_a_data_set_are_found_in_data_dir(monkeypatch, tmp_path):
    (tmp_path / "train.jsonl").write_text("{}")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    args = with_data_sets({"name": "a", "train_file": "data/train.jsonl"})
    assert args.datasets[0]["train_file"] == str(tmp_path / "train.jsonl")
