"""The READMEs are true: every command in them runs, both say the same, and the files they name exist."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import main
from config import get_args
from continual import continual
from data_process.sample_data import generate
from experiments import ablate, cost, search
from experiments.folds import run_folds
from huggingface_hands_on.continue_pretrain_task import continue_pretraining
from huggingface_hands_on.pretrain_from_scratch import pretrain_from_scratch
from tests.raw_examples import EXAMPLES
from tests.sample_job import in_this_process

ROOT = Path(__file__).parents[1]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")


def blocks(text, language):
    """Contents of the fenced blocks of a language; every second fence opens one."""
    parts = re.split(r"^```(.*)\n", text, flags=re.M)
    return [body for opened, body in zip(parts[1::4], parts[2::4], strict=True) if opened == language]


def commands(text):
    lines = "".join(blocks(text, "sh")).splitlines()
    return [re.sub(r"\s+# .*", "", line) for line in lines if line.strip()]


def test_both_readmes_have_the_same_commands_examples_links_and_headings():
    assert commands(ENGLISH) == commands(CHINESE)
    assert blocks(ENGLISH, "json") == blocks(CHINESE, "json")
    strip = [
        [re.sub(r"\s*#.*", "", line) for line in "".join(blocks(t, "yaml")).splitlines()] for t in (ENGLISH, CHINESE)
    ]
    assert strip[0] == strip[1]
    levels = [re.findall(r"^(#+) ", text, re.M) for text in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]
    tables = [re.findall(r"^\| `?([^`|]*\.(?:py|sh)|[a-z_]+/|\d+)", text, re.M) for text in (ENGLISH, CHINESE)]
    assert tables[0] == tables[1]
    figures = [re.findall(r"\d[\d.]* %", text) for text in (ENGLISH, CHINESE)]
    assert figures[0] == figures[1] and figures[0]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_links_and_named_files_exist(text):
    names = re.findall(r"\]\((?!http)([^)#]+)\)", text) + re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|sh|yaml))`", text)
    assert names
    for name in names:
        assert (ROOT / name).exists(), name
    tree = next(block for block in blocks(text, "") if "logging_config.py" in block)
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
    places = {name.split("/")[0] for name in tracked if "/" in name or name.endswith((".py", ".sh"))}
    missing = [place for place in places if not place.startswith(".") and place not in tree]
    assert not missing, f"not in the tree of the README: {missing}"


@pytest.mark.parametrize(("number", "tasks"), [(0, ["intent", "slots"]), (1, ["topic", "entities"])])
def test_the_example_configurations_are_valid(number, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr("config.resolve_file", lambda name, source: source)
    (tmp_path / "mine.yaml").write_text(blocks(ENGLISH, "yaml")[number], encoding="utf-8")
    args = get_args(["--config", str(tmp_path / "mine.yaml")])
    assert [task["name"] for task in args.tasks] == tasks


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A folder where the commands find what they name: a finished debug run of `sh run.sh` and a file to predict."""
    folder = tmp_path_factory.mktemp("readme")
    lines = "\n".join(json.dumps({"tokens": record["tokens"]}) for record in generate(20))
    (folder / "new.jsonl").write_text(lines, encoding="utf-8")
    env = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["sh", "run.sh", *small(folder)], capture_output=True, text=True, cwd=ROOT, env=env, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "run" / "best" / "model.safetensors").exists()
    return folder


def small(folder, output="run"):
    """Options that turn any job into one of seconds."""
    return ["--debug", "--epochs", "1", "--model_name_or_path", "scratch:tiny", "--scratch_vocab_size", "300",
            "--cache_dir", str(folder / "cache"), "--output_dir", str(folder / output), "--device", "cpu"]  # fmt: skip


JOBS = [command for command in commands(ENGLISH) if re.match(r"(sh run\.sh .+|python main\.py)", command)]
SEQUENCES = [command for command in commands(ENGLISH) if command.startswith("python continual.py")]
MODULES = [command for command in commands(ENGLISH) if command.startswith("python -m ")]
PRETRAINING = [command for command in MODULES if re.search("pretrain|tokenizer|vocabulary", command)]
SIDE = [command for command in MODULES if command not in PRETRAINING]


@pytest.mark.parametrize("command", JOBS)
def test_every_command_runs(command, sandbox, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    words = words[2:] if words[0] == "python" or words[1] == "run.sh" else words
    if not {"--help", "--show_all_args"} & set(words) and "--config" not in words and command.startswith("sh"):
        words = ["--config", "configs/sample_joint.yaml", *words]  # as run.sh does
    config = words[words.index("--config") + 1] if "--config" in words else None
    if config and not {"--help", "--show_all_args"} & set(words):
        train = yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))["train_file"]
        if train.startswith("data/") and not Path(os.environ.get("DATA_DIR", "data"), *Path(train).parts[1:]).exists():
            pytest.skip(f"{train} is not here; DATA_DIR names the folder of the data sets")
    words = [word.replace("data/new.jsonl", str(sandbox / "new.jsonl")) for word in words]
    words = [word.replace("output/sample_joint", str(sandbox / "run")) for word in words]
    if "--help" in words or "--show_all_args" in words:
        with pytest.raises(SystemExit) as left:
            main.run(words)
        assert left.value.code == 0 and "max_grad_norm" in capsys.readouterr().out
        return
    extra = small(sandbox, "run" if "--do_train" in words else str(abs(hash(command))))
    if "--do_predict" in words:  # the trained model decides what the encoder is
        extra = ["--cache_dir", str(sandbox / "cache"), "--output_dir", str(sandbox / "run"), "--device", "cpu"]
    assert main.run([*words, *extra]) == 0, capsys.readouterr().err
    if "--do_predict" in words:
        assert len((sandbox / "run" / "predictions" / "new.jsonl").read_text(encoding="utf-8").splitlines()) == 20


def test_the_sequence_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in SEQUENCES:
        words = [*shlex.split(command)[2:], *small(tmp_path, "sequence")]
        assert main.run(words, continual) == 0
    assert len([*(tmp_path / "sequence").glob("*/order-1/seed-1/results.json")]) == 3
    assert "| joint |" in (tmp_path / "sequence/continual.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_side_scripts_run(sandbox, tmp_path, monkeypatch, capsys):
    """In the order in which they stand, each by a call instead of a process."""
    monkeypatch.chdir(ROOT)
    pytest.importorskip("matplotlib.figure")  # which looks for fonts with subprocess.run
    monkeypatch.setattr("experiments.runs.subprocess.run", in_this_process)
    monkeypatch.setattr(cost.step_seconds, "__defaults__", (3, 0))  # rounds
    (tmp_path / "raw" / "cluener").mkdir(parents=True)
    for name, content in EXAMPLES["cluener"][0][1].items():
        (tmp_path / "raw" / "cluener" / name).write_text(content, encoding="utf-8")
    questions = "\n".join(json.dumps({"question": " ".join(record["tokens"])}) for record in generate(20))
    (tmp_path / "faq.jsonl").write_text(questions, encoding="utf-8")
    places = {
        "raw/cluener": tmp_path / "raw/cluener",
        "data/cluener": tmp_path / "cluener",
        "output/index": tmp_path / "index",
        "output/stsb_zh_embedding": sandbox / "run",
        "output/sample_joint/best": sandbox / "run/best",
        "output/sample_joint_export": tmp_path / "export",
        "data/faq.jsonl": tmp_path / "faq.jsonl",
    }
    for command in SIDE:
        for name, here in places.items():
            command = command.replace(name, str(here))
        module, *words = shlex.split(command)[2:]
        if module == "experiments.folds":
            found = run_folds([*words, *small(tmp_path, "folds"), "--folds", "2"])
            assert len(found["folds"]) == 2
        elif module == "experiments.ablate":
            fewer = ["--seeds", "2", "--toggle", words[words.index("--toggle") + 1].split(",")[-1]]
            assert main.run([*words, *small(tmp_path, "ablation"), *fewer], ablate.report) == 0
            assert "use_ema+ema_decay=0.99" in (tmp_path / "ablation/ablation.md").read_text(encoding="utf-8")
        elif module == "experiments.cost":
            assert main.run([*words, *small(tmp_path, "cost")], cost.report) == 0
        elif module == "experiments.search":
            pytest.importorskip("optuna", reason="pip install optuna")
            assert main.run([*words, *small(tmp_path, "search"), "--trials", "1"], search.report) == 0
            assert (tmp_path / "search/search.json").exists()
        elif module.endswith("export_model"):
            assert importlib.import_module(module).main([*words, "--formats", "[torch_export]"]) == 0
            assert (tmp_path / "export/agreement.md").exists()
        else:
            place = f"{module}.__main__" if module == "data_process" else module
            assert importlib.import_module(place).main(words) in (0, None), command
    assert (tmp_path / "cluener" / "train.jsonl").exists()
    hits = capsys.readouterr().out.splitlines()[-5:]
    asked = {json.loads(line)["question"] for line in questions.splitlines()}
    assert all(hit.split(maxsplit=2)[2] in asked for hit in hits), "score, number of the record, its text"


def test_the_pretraining_scripts_run(sandbox, tmp_path, monkeypatch):
    """One after the other, on the sentences of the sample corpus."""
    monkeypatch.chdir(ROOT)
    texts = [json.dumps({"text": " ".join(record["tokens"])}) for record in generate(600)]
    corpus, held_out = tmp_path / "corpus.jsonl", tmp_path / "held_out.jsonl"
    corpus.write_text("\n".join(texts[10:]), encoding="utf-8")
    held_out.write_text("\n".join(texts[:10]), encoding="utf-8")
    places = {
        "data/medical.jsonl": corpus,
        "data/corpus_zh_*/train.jsonl": corpus,
        "bert-base-chinese": sandbox / "run/best/encoder",
        **{f"output/{name}": tmp_path / name for name in ("medical_words", "tokenizer_zh", "medical_bert")},
    }
    small = ["--corpus", str(corpus), "--cache_dir", str(tmp_path / "cache"), "--max_steps", "1"]
    for command in PRETRAINING:
        for name, here in places.items():
            command = command.replace(name, str(here))
        module, *words = shlex.split(command)[2:]
        if module.endswith("continue_pretrain_task"):
            assert main.run([*words, *small], continue_pretraining) == 0
        elif module.endswith("pretrain_from_scratch"):
            words += ["--eval_corpus", str(held_out), "--tokenizer", str(tmp_path / "tokenizer_zh"), *small]
            assert main.run([*words, "--output_dir", str(tmp_path / "zh")], pretrain_from_scratch) == 0
        else:
            assert importlib.import_module(module).main(words) == 0, command
    assert (tmp_path / "medical_bert/last/model.safetensors").exists() and (tmp_path / "zh/best/config.json").exists()


def test_the_other_commands(tmp_path):
    """Those that are no jobs: the tests' script collects, the copies arrive."""
    others = [command for command in commands(ENGLISH) if command not in [*JOBS, *MODULES, *SEQUENCES, "sh run.sh"]]
    assert others[0] == "sh run_tests.sh"
    env = os.environ | {"PYTHON": sys.executable}
    collect = ["sh", "run_tests.sh", "--collect-only", "-q", "tests/test_readme.py"]
    done = subprocess.run(collect, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert done.returncode == 0 and "test_readme.py: " in done.stdout, done.stderr
    (tmp_path / "my_project").mkdir()
    for command in others[1:]:
        assert command.startswith("cp "), f"no test runs {command!r}"
        subprocess.run(command.replace("../my_project", str(tmp_path / "my_project")), shell=True, cwd=ROOT, check=True)
    assert (tmp_path / "my_project" / "trainer" / "step.py").exists() and (tmp_path / "my_project" / "crf.py").exists()
