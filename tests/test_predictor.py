"""Predictor: the answers of `main.py --do_predict` from the same folder, for every form of inputs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config import ConfigError
from data_process.errors import DataError
from huggingface_hands_on.predictor import Predictor
from tests.prediction_jobs import JOBS, trained
from tests.sample_job import files
from trainer.checkpoint import damaged

ROOT = Path(__file__).parents[1]
DEFAULT = ("words with a CRF", "long contexts")
SLOW = [pytest.param(name, marks=[pytest.mark.slow] * (name not in DEFAULT)) for name in JOBS]


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("joint"), "words with a CRF")


def same(answers, lines):
    return answers == [{key: line[key] for key in ("predictions", "confidences")} for line in lines]


@pytest.mark.parametrize("name", SLOW)
def test_its_answers_are_those_of_main(name, request, tmp_path, monkeypatch):
    best, records, lines = request.getfixturevalue("joint") if name == DEFAULT[0] else trained(tmp_path, name)
    assert len({json.dumps(line["predictions"], default=str) for line in lines}) > 1, "they are not all alike"
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    shutil.copytree(best, tmp_path / "elsewhere")
    predictor = Predictor(tmp_path / "elsewhere", device="cpu", precision="fp32")
    answers = predictor(iter(records), confidences=True)
    assert same(json.loads(json.dumps(answers)), lines)
    assert predictor(records) == [answer["predictions"] for answer in answers]
    assert not [*Path().iterdir()] and not damaged(tmp_path / "elsewhere"), "nothing was written"
    assert files(tmp_path / "elsewhere") == files(best)


def test_texts_words_and_records_are_the_same(joint):
    best, records, _ = joint
    predictor = Predictor(best, device="cpu", precision="fp32", batch_size=7)
    expected = predictor(records)
    assert predictor([record["tokens"] for record in records]) == expected
    assert predictor([" ".join(record["tokens"]) for record in records]) == expected
    assert predictor([record | {"tags": 3, "own": None} for record in records]) == expected, "gold is not looked at"
    assert predictor(records[::-1]) == expected[::-1] and predictor([]) == []
    assert predictor(records[:1]) == expected[:1]


def test_mistakes_say_which_record(joint):
    predictor = Predictor(joint[0], device="cpu")
    alone = "arguments: records: must be a list (or another iterable); put a single record in a list"
    mistakes: tuple[tuple[Any, str], ...] = (
        ("play", alone),
        ({"tokens": ["play"]}, alone),
        (7, alone),
        (["play", ""], "records[1]: tokens: is empty; remove the record or give it a text"),
        (["play", 3], "records[1]: must be a text, a list of words, or a dict with tokens, found int '3'"),
        ([{"text": "play"}], "records[0]: tokens: no such column; this record has 'text'"),
        ([{"tokens": ["play", 3]}], "records[0]: tokens: word 2 must be a string, found int '3'"),
    )  # fmt: skip
    for records, expected in mistakes:
        with pytest.raises((ConfigError, DataError)) as caught:
            predictor(records)
        assert str(caught.value) == expected


def test_mistakes_in_what_is_loaded(joint, tmp_path):
    (tmp_path / "other").mkdir()
    for folder, options, expected in (
        (tmp_path / "none", {}, f"arguments: folder: there is no folder {tmp_path}/none"),
        (tmp_path / "other", {}, "holds no trained model (no labels.json); give best/ of a finished run"),
        (joint[0].parent, {}, f"(no labels.json); give {joint[0]}"),
        (joint[0], {"batch_size": 0}, "arguments: batch_size: must be above 0"),
        (joint[0], {"data_set": "news"}, "was trained on data; name the one whose columns the records have"),
        (joint[0], {"device": "tpu3"}, "device: 'tpu3' is none of auto"),
        (joint[0], {"precision": "fp16", "device": "cpu"}, "precision: fp16 needs an accelerator"),
    ):
        with pytest.raises(ValueError) as caught:
            Predictor(folder, **options)
        assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_the_import_is_quick():
    code = "import sys, huggingface_hands_on.predictor; print({'torch', 'transformers', 'datasets'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
