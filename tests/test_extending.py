"""docs/extending.md: its files, put where it says in a copy of the repository, do what it says on the sample corpus."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from data_process.sample_data import generate
from tests.processes import forked
from tests.test_docs_commands import ROOT, blocks
from tests.test_laws import ROOMS, WIRING, foreign_imports

TEXT = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)^```$", TEXT, re.M | re.S))
HEAD, DATA_SET = "model_utils/heads/cosine_classification.py", "data_process/datasets/bracketed.py"
TRICK = "tricks/gce.py"
COMMANDS = [shlex.split(line) for language, text in blocks(TEXT) if language == "sh" for line in text.splitlines()]
SMALL = ["--debug", "--max_steps", "4", "--logging_steps", "1", "--model_name_or_path", "scratch:tiny",
         "--scratch_vocab_size", "300", "--precision", "fp32", "--device", "cpu"]  # fmt: skip

HEAVY = ("tests.tiny", "datasets", "sklearn.metrics", "seqeval.metrics.v1", "seqeval.scheme", "torch.utils.tensorboard",
         "model_utils.cpu_attention", "transformers.models.auto.modeling_auto")  # fmt: skip


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the rooms and of main.py with the files and the changes of the page, and some of the sample corpus."""
    copy = tmp_path_factory.mktemp("extended")
    for room in sorted(ROOMS - {"config", "logging_config"}):
        shutil.copytree(ROOT / room, copy / room)
    shutil.copytree(ROOT / "configs", copy / "configs")
    for name in ("main.py", "config.py", "logging_config.py"):
        shutil.copy(ROOT / name, copy)
    (copy / "sample.jsonl").write_text("\n".join(map(json.dumps, generate(64))) + "\n", encoding="utf-8")
    assert {*FILES} == {HEAD, DATA_SET, TRICK}
    for name, code in FILES.items():
        assert not (copy / name).exists()
        (copy / name).write_text(code, encoding="utf-8")
    ((_, diff),) = [block for block in blocks(TEXT) if block[0] == "diff"]
    done = subprocess.run(["git", "apply", "-"], cwd=copy, input=diff, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return copy


def run(copy: Path, words: list[str], said: Path | None = None) -> int | None:
    """Exit code of a command of the page in the copy, whose modules take the place of those of the repository."""

    def in_the_copy() -> int:
        for name in [name for name in sys.modules if name.split(".")[0] in ROOMS | WIRING - {"tests"}]:
            del sys.modules[name]
        os.chdir(copy)
        os.environ.pop("DATA_DIR", None)  # the page's files are in data/ of the copy
        sys.path.insert(0, str(copy))
        if said is not None:
            sys.stderr = said.open("w", buffering=1)
        if words[1] == "-m":
            return importlib.import_module(f"{words[2]}.__main__").run(words[3:])
        main = importlib.import_module("main")
        assert Path(main.__file__ or "").parent == copy
        sample = [] if "--train_file" in words else ["--train_file", "sample.jsonl"]  # made once; it takes a second
        return main.run([*words[2:], *SMALL, *sample])

    for name in HEAVY:  # once, not in each process
        importlib.import_module(name)
    return forked(in_the_copy)


def command(word: str) -> list[str]:
    (found,) = [words for words in COMMANDS if word in " ".join(words)]
    return found


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["intent/loss"] for line in lines if line["kind"] == "train"]


def test_no_command_is_left_out() -> None:
    """Each of them is run below."""
    used = ["output/cosine", "--raw raw", "data/bracketed/train", "tricks/gce.py", "output/gce ", "output/gce_intent"]
    assert [command(word) for word in used] == COMMANDS


@pytest.mark.parametrize("name", FILES)
def test_a_file_keeps_the_laws(name: str, extended: Path) -> None:
    assert foreign_imports(Path(name), FILES[name]) == []
    for changed in (name, "config.py", "tricks/build.py"):
        check = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), changed]
        done = subprocess.run(check, cwd=extended, capture_output=True, text=True)
        assert done.returncode == 0 or "No module named ruff" in done.stderr, done.stdout


@pytest.mark.slow
def test_the_head(extended: Path, tmp_path: Path) -> None:
    words = command("output/cosine")
    assert run(extended, words) == 0
    metrics = read(extended / "output/cosine/test_metrics.json")
    assert {"intent/accuracy", "intent/loss", "sentence_accuracy"} <= {*metrics}
    (saved,) = read(extended / "output/cosine/best/config.json")["tasks"]
    assert saved["kind"] == "cosine_classification" and saved["scale"] == 20.0
    for wrong, message in (("scale: -1", "scale must be above 0, found -1"), ("scael: 20", "no option 'scael'")):
        mistaken = [word.replace("scale: 20.0", wrong).replace("output/cosine", "output/wrong") for word in words]
        assert run(extended, mistaken, tmp_path / "said") == 2
        said = (tmp_path / "said").read_text()
        assert message in said and said.startswith("error: ") and said.count("\n") == 1
        assert not (extended / "output/wrong/config.yaml").exists()


def test_the_loss_of_the_head_is_a_sum_over_its_items() -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(FILES[HEAD], names)
    head = names["Head"](8, ["a", "b", "c"], scale=4.0).eval()
    hidden, labels = torch.randn(5, 7, 8), torch.tensor([0, 2, -100, 1, 1])
    logits = head((hidden,), {})
    expected = 4 * torch.stack([F.cosine_similarity(hidden[:, 0], vector, dim=-1) for vector in head.classes], -1)
    torch.testing.assert_close(logits, expected)
    alone = [head.loss(logits[i : i + 1], labels[i : i + 1], {}) for i in (0, 1, 3, 4)]
    torch.testing.assert_close(head.loss(logits, labels, {}), torch.stack(alone).sum())
    assert head.num_items(labels) == 4
    assert head.score(["a", "b"], ["a", "c"]) == {"accuracy": 0.5}


def bracketed(record: dict[str, Any]) -> str:
    """A record of the sample corpus in the raw format of the page."""
    words: list[str] = []
    for token, tag in zip(record["tokens"], record["tags"], strict=True):
        if tag.startswith("I-"):
            words[-1] = f"{words[-1][:-1]} {token}]"
        else:
            words.append(token if tag == "O" else f"[{tag[2:]}: {token}]")
    return f"{record['intent']} | {' '.join(words)}"


@pytest.mark.slow
def test_the_data_set(extended: Path, tmp_path: Path) -> None:
    """The sample corpus comes back as it was; then it is trained on."""
    raw, records = extended / "raw/bracketed", generate(72)
    raw.mkdir(parents=True)
    parts = {"train": records[:56], "dev": records[56:64], "test": records[64:]}
    for name, own in parts.items():
        (raw / f"{name}.txt").write_text("\n\n".join(map(bracketed, own)) + "\n", encoding="utf-8")
    shown = next(text for language, text in blocks(TEXT) if "hey jude" in text and language == "text")
    assert shown.splitlines()[0] == bracketed({
        "intent": "play_music", "tokens": ["play", "hey", "jude", "by", "the", "beatles"],
        "tags": ["O", "B-song", "I-song", "O", "B-artist", "I-artist"],
    })  # fmt: skip
    convert = command("--raw raw")
    assert run(extended, convert) == 0
    for name, own in parts.items():
        lines = (extended / f"data/bracketed/{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == own
    assert run(extended, command("data/bracketed/train")) == 0
    info = read(extended / "output/bracketed/dataset_info.json")
    assert len(read(extended / "output/bracketed/best/labels.json")["intent"]) > 5 and info
    assert "slots/f1" in read(extended / "output/bracketed/test_metrics.json")

    lines = (raw / "train.txt").read_text(encoding="utf-8").splitlines()
    lines[6] = lines[6].replace(" | ", " ")
    (raw / "train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    elsewhere = [word.replace("data/bracketed", "data/again") for word in convert]
    assert run(extended, elsewhere, tmp_path / "said") == 2
    message = "raw/bracketed/train.txt:7: there must be ' | ' between intent and words"
    assert message in (tmp_path / "said").read_text() and f"`{message}`" in TEXT.replace("\n", " ")
    assert not (extended / "data/again").exists()
    assert run(extended, [*elsewhere, "--on_bad_record", "skip"]) == 0
    kept = (extended / "data/again/train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in kept] == records[:3] + records[4:56]


@pytest.mark.slow
def test_the_trick(extended: Path) -> None:
    """Its self-check passes; by flag and by task it is the loss of training, and evaluation reports the plain one."""
    done = subprocess.run([sys.executable, "gce.py"], cwd=extended / "tricks", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert run(extended, command("output/gce ")) == 0
    assert run(extended, command("output/gce_intent")) == 0
    plain = [word.replace("output/gce", "output/plain") for word in command("output/gce ")]
    plain = [word for word in plain if word not in ("--use_gce", "--gce_q", "0.5")]
    assert run(extended, plain) == 0
    first = {name: losses(extended / "output" / name)[0] for name in ("gce", "gce_intent", "plain")}
    assert 0 < first["gce"] < 2 < first["plain"], "(1 - p^q) / q is at most 2 for q = 0.5"
    assert first["gce_intent"] < 2
    assert read(extended / "output/gce/eval_metrics.json")["intent/loss"] > 2


def test_the_trick_is_the_formula() -> None:
    names: dict[str, Any] = {"__name__": "gce"}
    exec(FILES[TRICK], names)
    torch.manual_seed(0)
    scores, labels, weights = torch.randn(6, 4), torch.tensor([0, 3, -100, 1, 2, 2]), torch.tensor([1.0, 2.0, 0.5, 3.0])
    for q in (0.3, 1.0):
        found = names["GCE"](q)(scores, labels, weights)
        for row, label, loss in zip(scores, labels.tolist(), found, strict=True):
            expected = 0.0 if label < 0 else float(weights[label] * (1 - row.softmax(0)[label] ** q) / q)
            assert loss.item() == pytest.approx(expected, rel=1e-5)
        decisions = torch.tensor([[1, 0, 1, 0]])
        found = names["GCE"](q)(scores[:1], decisions)
        p = torch.where(decisions == 1, scores[:1].sigmoid(), 1 - scores[:1].sigmoid())
        torch.testing.assert_close(found, (1 - p**q) / q)
