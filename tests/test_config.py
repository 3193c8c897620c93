"""Arguments: YAML and command line, types, help, one-line mistakes, a saved config that loads again."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

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
    assert len(dataclasses.fields(Arguments)) == 70


def test_the_configs_of_the_repository_are_valid(monkeypatch):
    monkeypatch.setattr(config, "resolve_file", lambda name, source: source)  # the data sets are not in the repository
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        args = get_args(["--config", str(path)])
        assert args.output_dir == f"output/{path.stem}", path
