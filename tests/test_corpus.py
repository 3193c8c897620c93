"""data_process/corpus.py: what a pattern stands for, and what is read."""

import json
from pathlib import Path

import pytest

from data_process.corpus import find_files, read_columns, read_texts
from data_process.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.txt").write_text("first\n\n \nsecond\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "third", "note": 1}\n{"text": " "}\n', encoding="utf-8")
    (tmp_path / "deep/c.csv").write_text("text,title\nfourth,名\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("no corpus\n", encoding="utf-8")
    return tmp_path


def test_a_folder_a_glob_and_a_file_stand_for_files_in_order_each_once(folder: Path) -> None:
    names = [f"{folder}/{name}" for name in ("a.jsonl", "b.txt", "deep/c.csv")]
    assert find_files([str(folder)]) == names
    assert find_files([f"{folder}/*.txt", str(folder)]) == [names[1], names[0], names[2]]
    assert find_files([f"{folder}/**/*.csv"]) == names[2:]
    assert find_files(["hub:some/name"]) == ["hub:some/name"]


def test_texts_of_all_files_without_the_blank_ones(folder: Path) -> None:
    found = list(read_texts(find_files([str(folder)])))
    assert [text for _, text in found] == ["third", "first", "second", "fourth"]
    assert found[2][0] == f"{folder}/b.txt:4"


def test_columns_of_a_pair(folder: Path) -> None:
    rows = [{"a": "x", "b": "y"}, {"a": "", "b": "z"}, {"a": "v", "b": "w"}]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [v for _, v in read_columns([f"{folder}/pairs.jsonl"], ["a", "b"])] == [["x", "y"], ["v", "w"]]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("none-*.txt", "matches no file that can be read"), ("notes.md", "unknown suffix"), ("gone.txt", "matches no")],
)
def test_what_cannot_be_read_is_named(folder: Path, pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_texts(find_files([f"{folder}/{pattern}"])))


def test_a_record_without_the_text_is_named_with_its_columns(folder: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: body: there is no such column; there are text, note"):
        list(read_texts([f"{folder}/a.jsonl"], "body"))
    with pytest.raises(DataError, match=r"a\.jsonl:1: note: must be a text, found int"):
        list(read_texts([f"{folder}/a.jsonl"], "note"))
