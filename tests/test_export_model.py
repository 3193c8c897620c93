"""Exported models: the logits of torch.export and ONNX are the model's, predict.py needs no torch."""

import importlib.util
import json
import math
import shlex
import subprocess
import sys
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import serving
from huggingface_hands_on import export_model
from huggingface_hands_on.agreement import as_table, compared
from model_utils.build import saved_model
from model_utils.crf import CRF
from model_utils.viterbi import save_scores, viterbi
from tests.prediction_jobs import JOBS, trained
from tests.sample_job import files, read
from tests.test_readme import blocks
from trainer.checkpoint import damaged

MISSING = [name for name in export_model.LIBRARIES if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f'{", ".join(MISSING)} not installed: pip install ".[export]"')
SHIPPED = {"predict.py", "templates.py", "viterbi.py"}
ALONE = """
import json, sys
for name in ("torch", "transformers", "datasets", "main"):
    sys.modules[name] = None                      # importing it fails
sys.path.insert(0, sys.argv[1])
from predict import Predictor
predictor = Predictor(sys.argv[1], threads=1)
records = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
answers = [answer for n in range(0, len(records), 40) for answer in predictor(records[n : n + 40])]
print(json.dumps(answers + predictor(records[:1])))
"""


def exported(best, target, *more):
    assert export_model.main([str(best), "--output_dir", str(target), *more]) == 0
    return target


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """best/, records, predictions of main.py."""
    return trained(tmp_path_factory.mktemp("run"), "words with a CRF")


@pytest.fixture(scope="module")
def joint(run, tmp_path_factory):
    """The same, and the exported folder."""
    if MISSING:
        pytest.skip(f'{", ".join(MISSING)} not installed: pip install ".[export]"')
    return *run, exported(run[0], tmp_path_factory.mktemp("export") / "export")


def alone(folder, target, records):
    """What predict.py answers in a process that has no torch."""
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    command = [sys.executable, "-IB", "-c", ALONE, str(target), str(folder / "records.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    *answers, first = json.loads(done.stdout)
    assert close(first, answers[0]), "in a batch of its own"
    return answers


def close(one, other):
    """Equal, but for the last digits of numbers."""
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-4)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    return one == other


def test_without_torch_the_answers_are_those_of_main(joint, tmp_path):
    _, records, lines, target = joint
    assert alone(tmp_path, target, records) == [line["predictions"] for line in lines]
    assert alone(tmp_path, target, [" ".join(r["tokens"]) for r in records]) == [line["predictions"] for line in lines]


def test_logits_are_the_models_for_any_sizes(joint):
    """Of random sub-words with padding of every length, at places that are no first sub-words."""
    import onnxruntime

    best, *_, target = joint
    model, names = saved_model(best), read(target / "config.json")["inputs"]
    session = onnxruntime.InferenceSession(str(target / "model.onnx"), providers=["CPUExecutionProvider"])
    loaded = torch.export.load(target / "model.pt2").module()
    for rows, length, words in ((1, 3, 1), (1, 48, 46), (5, 17, 4), (3, 40, 9)):
        lengths = torch.randint(3, length + 1, (rows, 1))
        batch = {
            "input_ids": torch.randint(5, 500, (rows, length)), "token_type_ids": torch.zeros(rows, length).long(),
            "attention_mask": (torch.arange(length) < lengths).long(), "word_mask": torch.rand(rows, words) < 0.7,
            "word_starts": torch.randint(0, length, (rows, words)) % lengths,
        }  # fmt: skip
        with torch.no_grad():
            expected = [*model(batch).logits.values()]
        found = map(torch.from_numpy, session.run(["intent", "slots"], {name: batch[name].numpy() for name in names}))
        for one, other, third in zip(expected, found, loaded(*map(batch.get, names)), strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-5)
            torch.testing.assert_close(third, one, rtol=0, atol=1e-5)


def test_the_folder_is_whole_and_its_table_true(joint):
    best, *_, target = joint
    assert files(target) == {"model.onnx", "model.pt2", "config.json", "labels.json", "crf-slots.npz", "agreement.json",
                             "agreement.md", "tokenizer.json", "tokenizer_config.json", "README.md", "manifest.json",
                             *SHIPPED}  # fmt: skip
    assert not damaged(target)
    rows = read(target / "agreement.json")
    assert len(rows) == 2 * 5 * 2 and all(row["largest_difference"] <= 1e-5 for row in rows)
    assert all(row["same_predictions"] == row["records"] for row in rows)
    assert {row["shape"][0] for row in rows} == {1, 2, 3, 8} and max(row["shape"][1] for row in rows) == 48
    assert (target / "agreement.md").read_text(encoding="utf-8") == as_table(rows)
    card, own = ((folder / "README.md").read_text(encoding="utf-8") for folder in (best, target))
    before, _, behind = card.partition("## Use\n")
    assert own.startswith(before) and own.endswith(behind.partition("## Limits\n")[2]) and "predict.py" in own
    assert str(best.parent) not in own + (target / "config.json").read_text(encoding="utf-8")


def test_a_model_that_differs_is_not_written(run, tmp_path, monkeypatch, capsys):
    best, *_ = run

    def other(model, batches, tasks, formats, target):
        batch = batches["one word"]
        logits = model(batch).logits["slots"].detach()
        return [{"format": "onnx", "batch": "one word", "shape": [1, 3], "task": "slots",
                 **compared(model.heads["slots"], logits, logits + 1e-3, batch)}]  # fmt: skip

    monkeypatch.setattr(export_model, "save_graphs", other)
    monkeypatch.setattr(export_model, "LIBRARIES", ())
    assert export_model.main([str(best), "--output_dir", str(tmp_path / "out")]) == 2
    assert "error: onnx differs from the model: logits of slots by 1.0e-03 (one word)" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_other_predictions_are_seen(run):
    model = saved_model(run[0])
    logits, batch = torch.zeros(2, 3), dict[str, Any]()
    assert compared(model.heads["intent"], logits[:, :2], logits[:, :2], batch)["same_predictions"] == 2
    figures = compared(model.heads["intent"], torch.eye(2, 3), torch.eye(2, 3).flip(0), batch)
    assert (figures["same_predictions"], figures["largest_difference"]) == (0, 1.0)
    assert compared(model.heads["intent"], logits, logits[:1], batch)["largest_difference"] == math.inf


def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys):
    out = ["--output_dir", str(tmp_path / "out")]
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for argv, expected in (
        ([str(tmp_path / "none"), *out], f"arguments: folder: there is no folder {tmp_path / 'none'}"),
        ([str(tmp_path), *out], "holds no trained model (no labels.json)"),
        ([str(tmp_path)], "arguments: output_dir: needed: a new folder"),
        ([str(tmp_path), *out, "--formats", "[tflite]"], "tflite"),
        ([str(tmp_path), *out, "--formats", "[]"], "arguments: formats: give torch_export, onnx, or both"),
    ):
        assert export_model.main(argv) == 2
        err = capsys.readouterr().err
        assert expected in err and err.count("\n") == 1, err
    monkeypatch.setattr(export_model.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert export_model.main([str(tmp_path), *out]) == 2
    assert capsys.readouterr().err == 'error: arguments: formats: onnx needs onnxscript: pip install ".[export]"\n'


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize("name", [name for name in JOBS if name not in ("words with a CRF", "generated texts")])
def test_every_form_of_inputs(name, tmp_path):
    best, records, lines = trained(tmp_path, name)
    target = exported(best, tmp_path / "export")
    answers = alone(tmp_path, target, records)
    assert all(close(answer, line["predictions"]) for answer, line in zip(answers, lines, strict=True))


@pytest.mark.slow
def test_generated_texts_are_refused(tmp_path, capsys):
    best, _, _ = trained(tmp_path, "generated texts")
    out = ["--output_dir", str(tmp_path / "export"), "--formats", "[torch_export]"]
    assert export_model.main([str(best), *out]) == 2
    assert "error: reply generates texts step by step, which is no graph" in capsys.readouterr().err


# --------------------------------------------------------------------- Viterbi in NumPy


@pytest.mark.parametrize("labels", [None, ["O", "B-x", "I-x", "B-y", "I-y"]], ids=["all transitions", "IOB2"])
def test_viterbi_is_the_crfs(labels, tmp_path):
    crf = CRF(5, labels=labels)
    save_scores(tmp_path / "crf.npz", crf)
    for words in (1, 2, 9, 60):
        emissions, mask = 3 * torch.randn(40, words, 5), torch.rand(40, words) < 0.8
        mask[0], mask[1] = True, False
        found = viterbi(emissions.numpy(), mask.numpy(), **np.load(tmp_path / "crf.npz"))
        assert found == crf.decode(emissions, mask) and found[1] == [] and len(found[0]) == words


def test_viterbi_finds_the_best_of_all_paths():
    rng = np.random.default_rng(0)
    start, end, pairs, emissions = rng.normal(size=3), rng.normal(size=3), rng.normal(size=(3, 3)), rng.normal(
        size=(20, 5, 3))  # fmt: skip
    found = viterbi(emissions, np.ones((20, 5)), start, end, pairs)
    for row, path in zip(emissions, found, strict=True):
        def score(tags, row=row):
            inside = sum(pairs[a, b] for a, b in pairwise(tags))
            return start[tags[0]] + end[tags[-1]] + inside + sum(row[n, tag] for n, tag in enumerate(tags))

        assert tuple(path) == max(product(range(3), repeat=5), key=score)


# --------------------------------------------------------------------- docs/use_a_model.md


def test_what_the_documentation_shows_runs(joint, tmp_path, monkeypatch, capsys):
    best, *_, target = joint
    text = (export_model.ROOT / "docs/use_a_model.md").read_text(encoding="utf-8")
    places = {"output/sample_joint/best": best, "output/sample_joint_export": target}
    for name, here in places.items():
        text = text.replace(name, str(here))
    monkeypatch.syspath_prepend(str(target))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    shown: dict[str, Any] = {}
    for block in blocks(text, "python"):
        exec(block, shown)
    assert [len(path) for path in shown["paths"]] == [3]
    commands = [shlex.split(line) for line in "".join(blocks(text, "sh")).splitlines()]
    assert len(commands) == 4
    for words in commands:
        if words[1].endswith("predict.py"):
            done = subprocess.run([sys.executable, "-B", *words[1:]], capture_output=True, text=True, check=True)
            assert json.loads(done.stdout).keys() == {"intent", "slots"}
        elif words[2].endswith("export_model"):
            words[words.index("--output_dir") + 1] = str(tmp_path / f"out{len(words)}")
            assert export_model.main([*words[3:], "--formats", "[torch_export]"]) == 0
        else:
            records = tmp_path / "records.jsonl"
            records.write_text('{"tokens": ["play", "hello"]}\n' * 2, encoding="utf-8")
            monkeypatch.setattr(serving, "SIZES", (1, 2))
            monkeypatch.setattr(serving, "REPEATS", {1: 1, 2: 1})
            given = ["--folder", str(best), "--export", str(target), "--records", str(records), "--rounds", "1"]
            titles = [found.title.split(" x ")[0] for found in serving.comparisons(given)]
            assert titles == ["call, 1", "forward, 1", "call, 2", "forward, 2"]
