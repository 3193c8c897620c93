"""Converters of public corpora: exact records of every raw format, the command line, all parts or none.

    python -m pytest tests/test_datasets.py
"""

import errno
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from raw_examples import BOM, EXAMPLES, PAIRS, Example, lines

from data_process.__main__ import run
from data_process.datasets import load, names
from data_process.datasets._record_forms import check_form
from data_process.errors import DataError
from data_process.readers import read_records
from data_process.tag_schemes import to_iob2

ROOT = Path(__file__).parents[1]
CASES = [pytest.param(name, example, id=f"{name}: {example[0]}") for name in EXAMPLES for example in EXAMPLES[name]]


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def converted(out: Path) -> dict[str, list[Any]]:
    """Part -> records of the files in a folder."""
    parts = sorted(out.rglob("*.jsonl"))
    return {str(p.relative_to(out))[:-6]: [record for _, record in read_records(str(p))] for p in parts}


def test_every_converter_has_examples():
    assert sorted(EXAMPLES) == names()


@pytest.mark.parametrize(("name", "example"), CASES)
def test_exact_records(name: str, example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, files, expected = example
    raw, out = write(tmp_path / "raw", files), tmp_path / "out"
    assert run(["--dataset", name, "--raw", str(raw), "--out", str(out)]) == 0, capsys.readouterr().err
    assert converted(out) == dict(sorted(expected.items()))
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    said = capsys.readouterr().out
    for part, records in expected.items():
        assert f"{out / part}.jsonl: {len(records)} records of {len(records)}, 0 skipped, from " in said
    for record in [record for records in expected.values() for record in records if "tags" in record]:
        assert to_iob2(record["tags"], "iob2") == record["tags"]


@pytest.mark.parametrize("name", names())
def test_a_corpus_says_what_it_needs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--dataset", name]) == 0
    said = capsys.readouterr().out
    assert said.startswith((load(name).__doc__ or "?").partition("\n")[0])
    assert "Raw files: " in said and "https://" in said and f"Records: {load(name).FORM}" in said
    assert "icence" in said or "CC BY" in said or "research" in said or "Apache" in said or "MIT" in said


def test_the_readme_lists_every_corpus() -> None:
    table = (ROOT / "data_process" / "README.md").read_text(encoding="utf-8").partition("## Public corpora")[2]
    rows = re.findall(r"^\| `(\w+)` \| (\w+)", table, re.M)
    assert sorted(rows) == [(name, load(name).FORM) for name in names()]


def test_a_new_corpus_is_one_file(tmp_path: Path) -> None:
    """The example of the README, in a copy of the room."""
    section = (ROOT / "data_process" / "README.md").read_text(encoding="utf-8").partition("**Another corpus**")[2]
    shutil.copytree(ROOT / "data_process", tmp_path / "data_process", ignore=shutil.ignore_patterns("__pycache__"))
    code = section.partition("```python\n")[2].partition("```")[0]
    write(tmp_path, {"data_process/datasets/my_pairs.py": code, "raw/dev.tsv": "a\tb\t1\n"})
    command = [sys.executable, "-m", "data_process", "--dataset", "my_pairs", "--raw", "raw", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert converted(tmp_path / "out") == {"dev": [{"text_a": "a", "text_b": "b", "label": "1"}]}


def test_mistakes_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write(tmp_path / "raw", {"train.txt": "a\tb\t1\n", "valid.txt": "c\td\t0\n"})
    empty = write(tmp_path / "empty", {"x.md": "?"})
    twice = write(tmp_path / "twice", {"train.txt": "a\tb\t1\n", "train.tsv": "a\tb\t1\n"})
    unnamed = write(tmp_path / "unnamed", {"a.txt": "a\tb\t1\n", "b.txt": "a\tb\t1\n"})
    out = tmp_path / "out"
    kinds = write(tmp_path / "kinds", {"d-test.json": "[]", "test1.0.json": "[]", "test1.1.json": "[]"})
    cases: list[tuple[list[str | Path], str]] = [
        (["--dataset", "c3", "--raw", kinds, "--out", out],
         f"{kinds}: of d-test.json, test1.0.json, test1.1.json at most one per kind makes a part"),
        (["--dataset", "atecc"], "arguments: dataset: unknown name 'atecc'; known: afqmc, atec, atis,"),
        ([], "arguments: the following arguments are required: --dataset"),
        (["--dataset", "atec", "--raw", raw], "arguments: out: name the folder"),
        (["--dataset", "atec", "--raw", raw, "--on_bad_record", "x"], "arguments: argument --on_bad_record"),
        (["--dataset", "atec", "--raw", tmp_path / "no", "--out", out], f"{tmp_path / 'no'}: no such file or folder"),
        (["--dataset", "atec", "--raw", raw, empty, "--out", out], "arguments: raw: give one folder, or files"),
        (["--dataset", "atec", "--raw", empty, "--out", out], f"{empty}: none of the raw files expected (*.tsv"),
        (["--dataset", "jd21", "--raw", raw, "--out", out], f"{raw}: none of the raw files expected: train/<domain>"),
        (["--dataset", "atec", "--raw", twice, "--out", out],
         f"{twice}: {twice / 'train.tsv'} and {twice / 'train.txt'} look like the train file; name the files"),
        (["--dataset", "atec", "--raw", unnamed, "--out", out], f"{unnamed}: {unnamed / 'a.txt'} and "),
    ]  # fmt: skip
    for argv, message in cases:
        assert run([str(value) for value in argv]) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
        assert not out.exists()


def test_named_files_of_one_part_are_joined(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", {"b_train.csv": "1\ta\tb\t1\n", "a_train_add.csv": "2\tc\td\t0\n"})
    out = tmp_path / "out"
    files = [str(raw / "b_train.csv"), str(raw / "a_train_add.csv")]
    assert run(["--dataset", "atec", "--raw", *files, "--out", str(out)]) == 0
    assert [record["text_a"] for record in converted(out)["train"]] == ["a", "c"]


def test_all_parts_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write(tmp_path / "raw", {"train.txt": "a\tb\t1\n", "valid.txt": "c\td\t0\ne\tf\t7\n"})
    out = tmp_path / "out"
    argv = ["--dataset", "lcqmc", "--raw", str(raw), "--out", str(out)]
    assert run(argv) == 2 and not out.exists()
    assert capsys.readouterr().err == f"error: {raw / 'valid.txt'}:2: label: unknown label '7'; known: 0, 1\n"
    (out / "kept").mkdir(parents=True)
    assert run(argv) == 2 and [path.name for path in out.iterdir()] == ["kept"]


def test_files_that_are_there_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, out = write(tmp_path / "raw", {"train.txt": "a\tb\t1\n"}), tmp_path / "out"
    write(out, {"train.jsonl": "old"})
    argv = ["--dataset", "lcqmc", "--raw", str(raw), "--out", str(out)]
    assert run(argv) == 2 and (out / "train.jsonl").read_text() == "old"
    assert capsys.readouterr().err.startswith(f"error: {out / 'train.jsonl'}: is already there; ")
    assert run([*argv, "--overwrite"]) == 0
    assert converted(out) == {"train": [{"text_a": "a", "text_b": "b", "label": "1"}]}


def test_a_raw_file_is_never_replaced(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", {"train.jsonl": lines({"sentence1": "a", "sentence2": "b", "label": "1"})})
    before = (raw / "train.jsonl").read_bytes()
    assert run(["--dataset", "lcqmc", "--raw", str(raw), "--out", str(raw), "--overwrite"]) == 2
    assert (raw / "train.jsonl").read_bytes() == before


def test_skipped_records_are_counted_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = "".join(f"x\ty\t{number}\n" for number in range(2, 14))
    raw = write(tmp_path / "raw", {"train.txt": f"a\tb\t1\n{wrong}c\td\t0\ne\tf\n"})
    out = tmp_path / "out"
    assert run(["--dataset", "lcqmc", "--raw", str(raw), "--out", str(out), "--on_bad_record", "skip"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{out / 'train.jsonl'}: 2 records of 15, 13 skipped, from {raw / 'train.txt'}"
    skipped = [line for line in said if line.startswith("  skipped: ")]
    assert skipped[0] == f"  skipped: {raw / 'train.txt'}:2: label: unknown label '2'; known: 0, 1"
    assert len(skipped) == 11 and skipped[10] == "  skipped: … (13 in all)"
    assert [record["text_a"] for record in converted(out)["train"]] == ["a", "c"]


def test_what_was_tolerated_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = f"{BOM}{BOM}sentence1\tsentence2\tlabel\r\n\r\n a\tb\u200b\t１\r\nc\td\t0 \r\n  "
    raw, out = write(tmp_path / "raw", {"train.csv": content}), tmp_path / "out"
    assert run(["--dataset", "lcqmc", "--raw", str(raw), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out / 'train.jsonl'}: 2 records of 2, 0 skipped, from {raw / 'train.csv'}",
        "  found: lines that end with CRLF: 4",
        "  found: byte order marks: 1",
        "  found: files separated by '\\t', with a header: 1",
        "  found: blank lines: 2",
        "  found: values with blanks or invisible characters at their edges: 2",
        "  found: labels with full-width, invisible or blank characters: 2",
    ]
    raw = write(tmp_path / "mac", {"dev.tsv": "中文\t字\t1\r甲\t乙\t0\r".encode("gb18030")})
    assert run(["--dataset", "lcqmc", "--raw", str(raw), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  found: files in GB18030: 1",
        "  found: files whose lines end with a carriage return alone: 1",
        "  found: files separated by '\\t', without a header: 1",
    ]


def test_no_good_record_is_an_error_also_with_skip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, message in (("a\tb\t7\n", "none of its 1 records can be used; the first: "), ("\n \n", "no records")):
        raw = write(tmp_path / "raw", {"train.txt": content})
        out = tmp_path / "out"
        argv = ["--dataset", "lcqmc", "--raw", str(raw), "--out", str(out), "--on_bad_record", "skip"]
        assert run(argv) == 2 and not (tmp_path / "out").exists()
        assert capsys.readouterr().err.startswith(f"error: {raw / 'train.txt'}: {message}")


ANSWER = {"id": "1", "question": "q", "context": "abc"}
WRONG_FORMS: list[tuple[str, dict[str, Any], str]] = [
    ("classification", {"label": "x"}, "text: no such column; this record has 'label'"),
    ("classification", {"text": "a", "label": " "}, "label: is empty"),
    ("pairs", {"text_a": "a", "label": 0.5}, "text_b: no such column"),
    ("tagging", {"tokens": ["a"], "tags": []}, "tags: 0 tags for 1 words"),
    ("tagging", {"tokens": ["a"], "tags": ["I-x"]}, "tags: I-x at word 1, between the start and the end, is illegal"),
    ("tagging", {"tokens": ["a"], "entities": []}, "tags: is missing, but there is 'entities'"),
    *(("tagging", {"tokens": ["a"], "tags": ["O"], "entities": [{"start": start, "end": end, "label": "x"}]},
       f"entities: {{'start': {start}, 'end': {end}, 'label': 'x'}} is not within the 1 tokens")
      for start, end in ((0, 2), (0, 0), (-1, 1))),
    ("joint", {"tokens": ["a"], "tags": ["O"]}, "intent: is missing, but there is 'tags'"),
    *(("question_answering", ANSWER | {"answers": {"text": [text], "answer_start": [start]}},
       f"answers: the answer '{text}' is not at character {start} of the context") for text, start in
      (("b", 0), ("c", -1), ("", 1), ("bcd", 1))),
    ("multiple_choice", {"question": "q", "context": "", "choices": ["a"], "label": 1},
     "label: 1 is none of the 1 choices"),
    ("multiple_choice", {"question": "q", "context": "", "choices": []}, "choices: has no words"),
    ("generation", {"source": "a", "target": ""}, "target: is empty"),
    ("corpus", {"text": "\n"}, "text: is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "record", "message"), WRONG_FORMS)
def test_records_of_a_wrong_form_are_refused(form: str, record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as refused:
        check_form("f:1", record, form)
    assert str(refused.value).startswith(f"f:1: {message}")


def test_a_document_that_is_no_text_is_one_wrong_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write(tmp_path / "raw", {"体育/0.txt": "好", "体育/1.txt": b"\xff\xff", "财经/2.txt": " \n"})
    argv = ["--dataset", "thucnews", "--raw", str(raw), "--out", str(tmp_path / "out"), "--on_bad_record", "skip"]
    assert run(argv) == 0 and converted(tmp_path / "out") == {"all": [{"text": "好", "label": "体育"}]}
    said = capsys.readouterr().out
    assert f"  skipped: {raw / '体育/1.txt'}:1: not UTF-8" in said and f"{raw / '财经/2.txt'}:1: text: is empty" in said


def test_labels_come_and_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled, unlabelled = {"sentence1": "a", "sentence2": "b", "label": "1"}, {"sentence1": "a", "sentence2": "b"}
    for first, second, state in ((labelled, unlabelled, "is missing here"), (unlabelled, labelled, "is here, but")):
        raw = write(tmp_path / "raw", {"train.json": lines(first, second)})
        assert run(["--dataset", "afqmc", "--raw", str(raw), "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.startswith(f"error: {raw / 'train.json'}:2: label: {state}")


def test_files_that_are_not_read_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, files, _ = EXAMPLES["snips"][0]
    raw = write(tmp_path / "raw", {**files, "train/.DS_Store": "x"})
    assert run(["--dataset", "snips", "--raw", str(raw), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"not read: {raw / 'slot_label.txt'} (1 files)"


@pytest.mark.parametrize(("raised", "code"), [
    (KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "full"), 1), (OSError(errno.EACCES, "not yours"), 2),
])  # fmt: skip
def test_nothing_is_left_of_a_run_that_is_stopped(
    raised: BaseException, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def stop(_: int) -> None:
        raise raised

    monkeypatch.setattr("os.fsync", stop)
    raw, out = write(tmp_path / "raw", {"train.txt": "a\tb\t1\n"}), tmp_path / "out"
    assert run(["--dataset", "bq", "--raw", str(raw), "--out", str(out)]) == code and not out.exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_as_a_command(tmp_path: Path) -> None:
    raw, out = write(tmp_path / "raw", EXAMPLES["bq"][0][1]), tmp_path / "out"
    command = [sys.executable, "-m", "data_process", "--dataset", "bq", "--raw", str(raw), "--out", str(out)]
    for code in (0, 2):  # the second time the file is there
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code and "Traceback" not in done.stderr
    assert [json.loads(line) for line in (out / "train.jsonl").read_text("utf-8").splitlines()] == PAIRS
