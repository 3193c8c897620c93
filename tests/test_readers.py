"""Readers: exact records and `where` for each format, exact line for each mistake, constant memory.

    python -m pytest tests/test_readers.py
"""

import csv
import errno
import gzip
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from data_process.errors import DataError
from data_process.readers import parse_jsonl_line, parse_text_line, read_items, read_records

BOM = b"\xef\xbb\xbf"
UNICODE_ENDS = "a\u2028b\u0085c\u2029d\x0be\x0cf"  # str.splitlines() would cut at each of them

CONLL = b"""-DOCSTART- -X- O

# intent = play music
# id = 7
play VB O
it PRP B-song

# O O
# = O
x  NN   O
"""
CONLL_RECORDS: list[tuple[int | str, dict[str, Any]]] = [
    (3, {"tokens": ["play", "it"], "tags": ["O", "B-song"], "intent": "play music", "id": "7"}),
    (8, {"tokens": ["#", "#", "x"], "tags": ["O", "O", "O"]}),
]

# (file name, bytes, [(what follows "path:", record), ...])
# fmt: off
GOOD: list[tuple[str, bytes, list[tuple[int | str, dict[str, Any]]]]] = [
    ("a.jsonl", b'{"a": 1}\n{"a": "NA"}\n', [(1, {"a": 1}), (2, {"a": "NA"})]),
    ("no_final_newline.ndjson", b'{"a": 1}\n{"a": null}', [(1, {"a": 1}), (2, {"a": None})]),
    ("crlf_and_blanks.JSONL", b'\r\n{"a": 1}\r\n \t\r\n{"a": 2}\r\n\r\n', [(2, {"a": 1}), (4, {"a": 2})]),
    ("bom.jsonl", BOM + b'{"a": 1}\n', [(1, {"a": 1})]),
    ("two_boms.jsonl", BOM + BOM + b'{"a": 1}\n', [(1, {"a": 1})]),
    ("joined_files.jsonl", b'{"a": 1}\n' + BOM + b'{"a": 2}\n', [(1, {"a": 1}), (2, {"a": 2})]),
    ("ends.jsonl", json.dumps({"a": UNICODE_ENDS}, ensure_ascii=False).encode(), [(1, {"a": UNICODE_ENDS})]),
    ("emoji.jsonl", b'{"a": "\\ud83d\\ude00 \\\\ud83d"}', [(1, {"a": "\U0001f600 \\ud83d"})]),
    ("nested.jsonl", b'{"a": [{"b": 1}, {"b": 2.5e3}]}', [(1, {"a": [{"b": 1}, {"b": 2500.0}]})]),
    ("lines.json", b'{"a": 1}\n\n{"a": 2}', [(1, {"a": 1}), (3, {"a": 2})]),
    ("array.json", BOM + b'\n [{"a": 1}\n, {"a":\n2}\n]\n', [("item 1", {"a": 1}), ("item 2", {"a": 2})]),
    ("a.csv", b'text,label\nNA,\nnull,"a,""b"""\n',
     [(2, {"text": "NA", "label": ""}), (3, {"text": "null", "label": 'a,"b"'})]),
    ("crlf.csv", BOM + b'"t,x",y\r\n5" disk,1\r\n\r\n"a\r\nb",2',
     [(2, {"t,x": '5" disk', "y": "1"}), (4, {"t,x": "a\r\nb", "y": "2"})]),
    ("line_after_newline_in_value.csv", b't,y\n"a\n\nb",1\nc,2\n',
     [(2, {"t": "a\n\nb", "y": "1"}), (5, {"t": "c", "y": "2"})]),
    ("one_column.csv", b't\n""\n\nx\n', [(2, {"t": ""}), (4, {"t": "x"})]),
    ("ends.csv", f"t,y\n{UNICODE_ENDS},1\n".encode(), [(2, {"t": UNICODE_ENDS, "y": "1"})]),
    ("long.csv", b"t\n" + b"x" * 300_000 + b"\n", [(2, {"t": "x" * 300_000})]),
    ("a.tsv", b'text\tlabel\r\n"a\t"\r\nNA\t\r\n',
     [(2, {"text": '"a', "label": '"'}), (3, {"text": "NA", "label": ""})]),
    ("a.conll", CONLL, CONLL_RECORDS),
    ("crlf.bio", BOM + CONLL.replace(b"\n", b"\r\n").rstrip(), CONLL_RECORDS),
    ("docstart.iob", b"a O\n-DOCSTART-\nb O\n",
     [(1, {"tokens": ["a"], "tags": ["O"]}), (3, {"tokens": ["b"], "tags": ["O"]})]),
    ("tabs.conll", b"New York\tNNP\tB-LOC\n \t_\tO \n#\t=\tO\n\t\n",
     [(1, {"tokens": ["New York", " ", "#"], "tags": ["B-LOC", "O", "O"]})]),
    ("wide_blank.conll", "\u3000 O\n#a=b O\n\u00a0 O\n".encode(),
     [(1, {"tokens": ["\u3000", "#a=b", "\u00a0"], "tags": ["O", "O", "O"]})]),
    ("empty_comment.conll", b"# note =\na O\n", [(1, {"tokens": ["a"], "tags": ["O"], "note": ""})]),
    ("a.txt", BOM + b" one \r\n\r\n \t\n" + UNICODE_ENDS.encode(),
     [(1, {"text": " one "}), (4, {"text": UNICODE_ENDS})]),
    ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n'), [(1, {"a": 1})]),
    ("a.json.gz", gzip.compress(b'[{"a": 1}]'), [("item 1", {"a": 1})]),
    ("a.CSV.GZ", gzip.compress(BOM + b'a\n"x\ny"\nz\n'), [(2, {"a": "x\ny"}), (4, {"a": "z"})]),
    ("a.txt.gz", gzip.compress(b"one\n") + gzip.compress(b"two\n"),
     [(1, {"text": "one"}), (2, {"text": "two"})]),
    ("a.conll.gz", gzip.compress(b"a O\n"), [(1, {"tokens": ["a"], "tags": ["O"]})]),
]

PICKLES = (".pkl", ".PT", ".bin", ".joblib", ".pkl.gz")

# (file name, bytes, line or None for the file as a whole, regular expression for the message)
BAD: list[tuple[str, bytes, int | None, str]] = [
    # JSON
    ("truncated.jsonl", b'{"a": 1}\n\n{"a": [1,', 3, r"truncated JSON at column 10: .*cut off"),
    ("open_string.jsonl", b'{"a": "x\n', 1, r"truncated JSON at column 7: Unterminated string"),
    ("pretty.jsonl", b'{\n  "a": 1\n}\n', 1, r"truncated JSON at column 2: .*one object over several lines"),
    ("syntax.jsonl", b"{\"a\": 1}\n{'a': 1}\n", 2, r"invalid JSON at column 2: Expecting property name"),
    ("two_objects.jsonl", b'{"a": 1} {"a": 2}\n', 1, r"more text after the object at column 9"),
    ("array.jsonl", b'{"a": 1}\n[1]\n', 2, r"expected a JSON object .*, found an array"),
    ("string.jsonl", b'{"a": 1}\n"x"\n', 2, r'expected a JSON object .*, found "x"'),
    ("null.jsonl", b"null\n", 1, r"expected a JSON object .*, found null"),
    ("duplicate.jsonl", b'{"a": 1}\n{"b": 1, "a": 1, "b": 2}\n', 2, r'duplicate key "b"'),
    ("nested_duplicate.jsonl", b'{"a": [{"b": 1, "b": 1}]}\n', 1, r'duplicate key "b"'),
    ("nan.jsonl", b'{"a": 1}\n{"a": NaN}\n', 2, r"NaN is not JSON"),
    ("infinity.jsonl", b'{"a": [-Infinity]}\n', 1, r"-Infinity is not JSON"),
    ("overflow.jsonl", b'{"a": 1e999}\n', 1, r"1e999 is too large for a float"),
    ("digits.jsonl", b'{"a": ' + b"1" * 5000 + b"}\n", 1, r"5000 digits, at most 4300"),
    ("deep.jsonl", b'{"a": ' + b"[" * 100_000, 1, r"nested too deeply"),
    ("surrogate.jsonl", b'{"a": 1}\n{"a": "\\uD83D"}\n', 2, r"half a surrogate pair"),
    ("control.jsonl", b'{"a": "\t"}\n', 1, r"invalid JSON at column 8: Invalid control character"),
    ("pretty.json", b'{\n  "a": 1\n}\n', 1, r"truncated JSON at column 2"),
    ("truncated.json", b'[{"a": 1},\n{"a": 2}\n', 2, r"truncated JSON at column 9: no , or \] after item 2"),
    ("truncated_item.json", b'[{"a": 1},\n {"a": \n', 2, r"truncated JSON at column 7"),
    ("no_comma.json", b'[{"a": 1}\n{"a": 2}]\n', 1, r"invalid JSON at column 10: no , or \] after item 1"),
    ("trailing_comma.json", b'[{"a": 1},\n\n]\n', 3, r"invalid JSON at column 1: Expecting value"),
    ("after_array.json", b'[{"a": 1}]\n\n[]\n', 1, r"more text after the array"),
    ("item.json", b'[{"a": 1},\n\n2]\n', 3, r"expected a JSON object .*, found 2"),
    ("item_duplicate.json", b'[{"a": 1},\n\n{"a": 1, "a": 1}]\n', 3, r'duplicate key "a"'),
    # tables
    ("short_row.csv", b"a,b\n1,2\n3\n", 3, r"expected 2 columns \(a, b\), found 1"),
    ("long_row.csv", b'a,b\n"1\n1",2\n3,4,5\n', 4, r"expected 2 columns \(a, b\), found 3; .*quotes"),
    ("ragged_over_lines.csv", b'a,b\n1,2\n"3\n3"\n', 3, r"found 1"),
    ("duplicate_header.csv", b"\na,b,a\n1,2,3\n", 2, r"the header names the column 'a' twice"),
    ("empty_header.csv", b"a, ,c\n1,2,3\n", 1, r"column 2 of the header has no name"),
    ("open_quote.csv", b'a,b\n1,2\n3,"4\n5,6\n', 3, r"quoted value .* is not closed"),
    ("inner_quote.csv", b'a,b\n1,"x"y"\n', 2, r'write inner quotes as ""'),
    ("mac.csv", b"a,b\r1,2\r", 1, r"carriage return .* old Mac line ends"),
    ("tabs.csv", b"a\tb\n1\t2\n", 1, r"the header is one column, 'a\\tb'; if '\\t' separates .* name the file \.tsv"),
    ("semicolons.csv", b"a;b\n1;2\n", 1, r"the header is one column, 'a;b'; if ';' separates the columns, use commas"),
    ("commas.tsv", b"a,b\n1,2\n", 1, r"the header is one column, 'a,b'; .* name the file \.csv"),
    ("mac.tsv", b"a\tb\r1\t2\r", 1, r"carriage return at column 4; .* old Mac line ends"),
    ("short_row.tsv", b"a\tb\n1\t2\n3 4\n", 3, r"expected 2 columns \(a, b\), found 1"),
    ("quoted_tab.tsv", b'a\tb\n"x\ty"\tz\n', 2, r"found 3; a value holds no tab"),
    ("duplicate_header.tsv", b"a\ta\n1\t2\n", 1, r"the header names the column 'a' twice"),
    ("empty_header.tsv", b"a\t\n1\t2\n", 1, r"column 2 of the header has no name"),
    # CoNLL
    ("one_column.conll", b"a O\n\nb O\nc\n", 4, r"only one column, 'c'; expected a word, .* and its tag"),
    ("late_comment.conll", b"a O\n# x = y\n", 2, r"4 columns, but 2 in the lines above it"),
    ("varying.conll", b"a O\nb NN O\n", 2, r"3 columns, but 2 in the lines above it"),
    ("no_tag.conll", b"a\tO\nb\t\n", 2, r"word or tag is empty"),
    ("no_word.conll", b"\tO\n", 1, r"word or tag is empty"),
    ("twice.conll", b"# x = 1\n# x = 2\na O\n", 2, r"x: the block already has a column of this name"),
    ("tokens.conll", b"# tokens = 1\na O\n", 1, r"tokens: the block already has a column of this name"),
    ("no_blank_lines.conll", b"a O\n\n" + b"b O\n" * 1001, 3, r"1,001 words without a blank line; .* ends a sentence"),
    ("mac.conll", b"a O\rb O\r", 1, r"carriage return at column 4"),
    ("lonely_comment.conll", b"a O\n\n# x = 1\n\nb O\n", 3, r"a comment without words"),
    # encoding
    ("mac.txt", b"one\rtwo\r", 1, r"carriage return at column 4; remove it, or convert old Mac line ends to \\n"),
    ("mac.jsonl", b'{"a": 1}\r{"a": 2}\r', 1, r"more text after the object at column 9; .* old Mac line ends"),
    ("gbk.txt", "abc\n中文句子\n".encode("gb18030"), 2, r"0xd6 at byte 1 .*iconv -f GB18030 -t UTF-8"),
    ("gbk.csv", "a,b\n1,中文\n".encode("gb18030"), 2, r"0xd6 at byte 3 .*iconv -f GB18030"),
    ("gbk.json", '[{"a": 1},\n{"a": "中文"}]'.encode("gb18030"), 2, r"iconv -f GB18030"),
    ("latin1.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', 2, r"0xe9 at byte 11 .*iconv -f ENCODING"),
    ("latin1.conll", b"a O\ncaf\xe9 O\n", 2, r"0xe9 at byte 4 "),
    ("cut.txt", "ab\n中".encode()[:-1], 2, r"ends in the middle of a character"),
    ("utf16.txt", "a\n文".encode("utf-16"), 1, r"this is a UTF-16 file: .*iconv -f UTF-16"),
    ("utf16_no_mark.txt", "a\n文".encode("utf-16-le"), 1, r"NUL byte .*iconv -f UTF-16"),
    ("utf16.jsonl", "﻿中文".encode("utf-16-le"), 1, r"this is a UTF-16 file: .*iconv -f UTF-16"),
    ("nul.jsonl", b'{"a": 1}\n{"a": "x\0"}\n', 2, r"NUL byte at byte 9 of the line"),
    ("nul.tsv", b"a\n\0\n", 2, r"NUL byte at byte 1 of the line"),
    # the file as a whole
    ("empty.jsonl", b"", None, r"no records in it; expected one JSON object per line"),
    ("blank.jsonl", b" \n\n", None, r"no records in it"),
    ("empty.json", b"", None, r"no records in it; .*or one array of objects"),
    ("empty_array.json", b"[ ]\n", None, r"no records in it"),
    ("empty.csv", b"", None, r"no records in it; expected a header line"),
    ("header_only.tsv", b"a\tb\n", None, r"no records in it; expected a header line"),
    ("empty.conll", b"-DOCSTART- O\n\n", None, r"no records in it; expected a `word tag` line"),
    ("empty.txt", BOM + b"\n", None, r"no records in it; expected one text per line"),
    ("plain.jsonl.gz", b'{"a": 1}\n', None, r"not a sound gzip file .*drop \.gz"),
    ("cut.txt.gz", gzip.compress(b"one\n" * 9)[:-12], 1, r"gzip file is damaged or cut off"),
    ("pickle.jsonl", pickle.dumps([{"a": 1}]), None, r"no text: this is a pickle, which is never opened"),
    ("zip.csv", b"PK\x03\x04\x14", None, r"no text: this is a zip archive .*\.jsonl"),
    ("gzip.txt", gzip.compress(b"a"), None, r"no text: this is a gzip file; add \.gz to its name"),
    ("parquet.json", b"PAR1\x15\x04", None, r"no text: this is a Parquet file"),
    ("empty.parquet", b"", None, r"not a readable Parquet file: ArrowInvalid"),
    ("x.xlsx", b"PK", None, r"unknown suffix; known suffixes: \.jsonl .*\.parquet"),
    ("x", b"a\n", None, r"unknown suffix; known suffixes"),
    ("x.gz", b"a\n", None, r"unknown suffix; known suffixes"),
    ("x.parquet.gz", b"a\n", None, r"unknown suffix; known suffixes"),
    *((f"x{suffix}", b"", None, r"pickles are never opened") for suffix in PICKLES),
]
# fmt: on


def write(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def error_of(source: str) -> DataError:
    with pytest.raises(DataError) as info:
        list(read_records(source))
    return info.value


@pytest.mark.parametrize(("name", "content", "expected"), GOOD, ids=[case[0] for case in GOOD])
def test_exact_records(tmp_path: Path, name: str, content: bytes, expected: list[Any]) -> None:
    source = write(tmp_path, name, content)
    assert list(read_records(source)) == [(f"{source}:{place}", record) for place, record in expected]


@pytest.mark.parametrize(("name", "content", "line", "message"), BAD, ids=[case[0] for case in BAD])
def test_mistakes_are_named(
    tmp_path: Path, name: str, content: bytes, line: int | None, message: str
) -> None:
    source = write(tmp_path, name, content)
    error = error_of(source)
    assert error.where == (source if line is None else f"{source}:{line}")
    assert re.search(message, str(error)) and "\n" not in str(error), str(error)


def test_records_before_a_mistake_are_delivered(tmp_path: Path) -> None:
    source = write(tmp_path, "a.jsonl", b'{"a": 1}\nx\n')
    records = read_records(source)
    assert next(records) == (f"{source}:1", {"a": 1})
    with pytest.raises(DataError, match=r":2: invalid JSON"):
        next(records)


def test_wrong_paths_are_refused_at_once(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", b"{}")
    (tmp_path / "splits" / "train").mkdir(parents=True)
    write(tmp_path / "splits", "dataset_dict.json", b"{}")
    cases = [
        (tmp_path / "trian.jsonl", r"no such file; .* holds splits, train.jsonl"),
        (tmp_path / "nowhere" / "a.csv", r"no such file; the folder .*nowhere does not exist either"),
        (tmp_path / "nothing", r"unknown suffix \(and no such file\); known suffixes: \.jsonl"),
        (tmp_path, r"this is a folder; expected a file, or a folder written by Dataset\.save_to_disk"),
        (tmp_path / "splits", r"several splits, name one; .* holds dataset_dict.json, train"),
    ]
    for path, message in cases:
        with pytest.raises(DataError, match=message) as info:
            read_records(str(path))
        assert info.value.where == str(path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:  # chmod would not stop root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    source = write(tmp_path, "a.txt", b"x\n")
    monkeypatch.setattr("data_process.readers.lines.open", refuse, raising=False)
    assert str(error_of(source)) == f"{source}: cannot be read: Permission denied"


def test_error_text_and_pickling() -> None:
    assert str(DataError("a.csv:3", "is empty")) == "a.csv:3: is empty"
    error = DataError("a.csv:3", "is empty", field="text")
    assert str(error) == "a.csv:3: text: is empty"
    copy = pickle.loads(pickle.dumps(error))  # as a worker process sends it
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_single_lines() -> None:
    assert parse_jsonl_line(BOM + b'{"a": 1}\r\n', "f:1") == {"a": 1}
    assert parse_jsonl_line(b" \r\n", "f:1") is None
    assert parse_text_line(BOM + b" a \r\n", "f:1") == {"text": " a "}
    assert parse_text_line(BOM + b"\t\n", "f:1") is None
    with pytest.raises(DataError, match=r"^f:9: not UTF-8"):
        parse_text_line(b"\xff", "f:9")
    with pytest.raises(DataError, match=r"^f:9: expected a JSON object"):
        parse_jsonl_line(b"[]", "f:9")


# Round trips over arbitrary text. Surrogates are no characters; NUL is refused by design.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NAME = CELL.filter(lambda name: bool(name.strip()) and not name.startswith("\ufeff"))
FAST = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(
    records=st.lists(st.dictionaries(TEXT, JSON, max_size=4), min_size=1, max_size=4),
    ascii_only=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    head=st.sampled_from([b"", BOM, BOM + BOM]),
)
def test_jsonl_round_trip(
    tmp_path: Path, records: list[dict[str, Any]], ascii_only: bool, end: str, head: bytes
) -> None:
    lines = end.join(json.dumps(record, ensure_ascii=ascii_only) for record in records)
    source = write(tmp_path, "a.jsonl", head + lines.encode())
    assert [record for _, record in read_records(source)] == records
    source = write(tmp_path, "a.json", head + json.dumps(records, ensure_ascii=ascii_only, indent=1).encode())
    assert [record for _, record in read_records(source)] == records


@FAST
@given(data=st.data(), header=st.lists(NAME, min_size=1, max_size=3, unique=True), bom=st.booleans())
def test_csv_round_trip(tmp_path: Path, data: st.DataObject, header: list[str], bom: bool) -> None:
    assume(len(header) > 1 or not set("\t;") & set(header[0]))  # would be taken for other separators
    rows = data.draw(st.lists(st.tuples(*[CELL] * len(header)), min_size=1, max_size=4))
    path = tmp_path / "a.csv"
    with open(path, "w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    expected = [dict(zip(header, row, strict=True)) for row in rows]
    assert [record for _, record in read_records(str(path))] == expected


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    text = "x" * 2000
    contents = {
        "a.jsonl": ("", json.dumps({"text": text}) + "\n"),
        "a.csv": ("text,label\n", f'"{text}",1\n'),
        "a.conll": ("", f"{text} O\n" * 10 + "\n"),
        "a.txt": ("", text + "\n"),
    }
    for name, (head, line) in contents.items():
        repeats = 20_000_000 // len(line)
        with open(tmp_path / name, "w", encoding="utf-8") as file:
            file.write(head)
            file.writelines(itertools.repeat(line, repeats))
        tracemalloc.start()
        num_records = sum(1 for _ in read_records(str(tmp_path / name)))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert num_records == repeats
        assert peak_bytes < 2_000_000, (name, peak_bytes)


def test_a_lost_quote_does_not_read_the_whole_file(tmp_path: Path) -> None:
    source = write(tmp_path, "a.csv", b'a\nx\n"' + (b"y" * 999 + b"\n") * 17_000)
    error = error_of(source)
    assert error.where == f"{source}:3"
    assert "is not closed (field larger than field limit" in error.message


def make_dataset() -> Any:
    from datasets import ClassLabel, Dataset, Features, List, Value

    label, tag = ClassLabel(names=["no", "yes"]), ClassLabel(names=["O", "B-X"])
    columns = {"text": Value("string"), "label": label, "tags": List(tag), "spans": List({"kind": tag})}
    rows = [
        {"text": "NA", "label": 1, "tags": [0, 1], "spans": [{"kind": 1}]},
        {"text": None, "label": -1, "tags": None, "spans": []},
    ]
    return Dataset.from_list(rows, features=Features(columns))


NAMED_ROWS: list[dict[str, Any]] = [
    {"text": "NA", "label": "yes", "tags": ["O", "B-X"], "spans": [{"kind": "B-X"}]},
    {"text": None, "label": None, "tags": None, "spans": []},
]


def numbered_rows(source: str) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{source}:row {number}", row) for number, row in enumerate(NAMED_ROWS, start=1)]


def test_arrow_folder(tmp_path: Path) -> None:
    source = str(tmp_path / "saved")
    make_dataset().save_to_disk(source)
    assert list(read_records(source)) == numbered_rows(source)
    shard = next((tmp_path / "saved").glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:100])
    error = error_of(source)
    assert error.where == source and "not a readable folder of Dataset.save_to_disk" in error.message


def test_arrow_folder_without_rows_and_with_unknown_class(tmp_path: Path) -> None:
    dataset = make_dataset()
    dataset.select([]).save_to_disk(str(tmp_path / "empty"))
    assert "no records in it" in error_of(str(tmp_path / "empty")).message
    wrong = dataset.with_format("arrow").map(lambda t: t.set_column(1, "label", [[1, 7]]), batched=True)
    wrong.save_to_disk(str(tmp_path / "wrong"))
    error = error_of(str(tmp_path / "wrong"))
    assert (error.where, error.field) == (f"{tmp_path / 'wrong'}:row 2", "label")
    assert error.message == "Invalid integer class label 7"


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = str(tmp_path / "classes.parquet")
    make_dataset().to_parquet(source)  # carries the class names
    assert list(read_records(source)) == numbered_rows(source)

    source = str(tmp_path / "plain.PARQUET")
    pq.write_table(pa.table({"n": range(5000), "t": ["null"] * 5000}), source, row_group_size=1500)
    expected = [(f"{source}:row {n + 1}", {"n": n, "t": "null"}) for n in range(5000)]
    assert list(read_records(source)) == expected

    source = str(tmp_path / "twice.parquet")
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), source)
    assert str(error_of(source)) == f"{source}: a: two columns of this name; rename one"

    source = str(tmp_path / "no_rows.parquet")
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), source)
    assert str(error_of(source)) == f"{source}: no records in it; expected at least one row"


def test_parquet_memory_is_one_row_group(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = str(tmp_path / "big.parquet")
    group = pa.table({"blob": [os.urandom(1000) for _ in range(1000)]})
    with pq.ParquetWriter(source, group.schema) as writer:
        for _ in range(20):
            writer.write_table(group)
    before = pa.total_allocated_bytes()
    peak_bytes = max(pa.total_allocated_bytes() - before for _ in read_records(source))
    assert peak_bytes < 5_000_000  # the file has 20 MB


HUB_CARD = """---
configs:
- config_name: small
  data_files: [{split: train, path: train.jsonl}, {split: test, path: test.jsonl}]
dataset_info:
- config_name: small
  features:
  - {name: text, dtype: string}
  - {name: label, dtype: {class_label: {names: {'0': 'no', '1': 'yes'}}}}
---
"""

HUB_CHECK = """
import sys
from data_process.readers import read_records
folder, rows = sys.argv[1], list(read_records(__file__.replace("check.py", "a.jsonl")))
print(sorted({"datasets", "pyarrow", "torch", "numpy"} & set(sys.modules)))
for query in ("", "?name=small&split=test", "?split=dev", "?name=large", "?revision=main"):
    source = f"hub:{folder}{query}"
    try:
        print([(where.removeprefix(source), row) for where, row in read_records(source)])
    except ValueError as error:
        print(type(error).__name__, error.where == source, error.message)
try:
    list(read_records("hub:nyu-mll/glue?name=mrpc"))
except ValueError as error:
    print(error)
"""


def test_hub_offline_in_a_fresh_process(tmp_path: Path) -> None:
    """A folder stands in for a data set of the hub; a wrong name is refused; text needs no library."""
    write(tmp_path, "README.md", HUB_CARD.encode())
    write(tmp_path, "train.jsonl", b'{"text": "a", "label": 1}\n')
    write(tmp_path, "test.jsonl", b'{"text": "b", "label": 0}\n')
    (tmp_path / "code").mkdir()
    write(tmp_path / "code", "a.jsonl", b'{"a": 1}\n')
    check = write(tmp_path / "code", "check.py", HUB_CHECK.encode())
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    result = subprocess.run(
        [sys.executable, check, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 7, result.stderr
    assert lines[0] == "[]"
    assert lines[1] == "[(':row 1', {'text': 'a', 'label': 'yes'})]"
    assert lines[2] == "[(':row 1', {'text': 'b', 'label': 'no'})]"
    assert re.match(r"DataError True cannot be loaded .*: Bad split: dev\. Available splits", lines[3])
    assert re.match(r"DataError True cannot be loaded .*: BuilderConfig 'large' not found\. ", lines[4])
    assert re.match(r"DataError True expected hub:NAME\?name=CONFIG&split=SPLIT ", lines[5])
    assert re.match(r"hub:nyu-mll/glue\?name=mrpc: cannot be loaded .*OfflineModeIsEnabled", lines[6])


# What comes behind a wrong record: (file name, bytes, [what follows "path:" -> record, or the start of its mistake]).
# fmt: off
GOES_ON: list[tuple[str, bytes, list[tuple[int | str, Any]]]] = [
    ("a.jsonl", b'{"a": 1}\nx\n\n[]\n{"a": "\xff"}\n{"a": 2}\n',
     [(1, {"a": 1}), (2, "2: invalid JSON"), (4, "4: expected a JSON object"), (5, "5: not UTF-8"), (6, {"a": 2})]),
    ("a.json", b'[{"a": 1},\n2, {"a":\n"\\ud800"}, {"a": 3}]',
     [("item 1", {"a": 1}), ("item 2", "2: expected a"), ("item 3", "2: half a surrogate"), ("item 4", {"a": 3})]),
    ("a.txt", b"a\nb\0\n\nc\rd\ne", [(1, {"text": "a"}), (2, "2: NUL"), (4, "4: carriage"), (5, {"text": "e"})]),
    ("a.csv", b'a,b\n1,2\n3\n"x\n\xff",5\n6,7\n',
     [(2, {"a": "1", "b": "2"}), (3, "3: expected 2"), (4, "5: not UTF-8"), (6, {"a": "6", "b": "7"})]),
    ("a.tsv", b"a\tb\n1\t2\n3\n\xff\t4\n5\t6\n",
     [(2, {"a": "1", "b": "2"}), (3, "3: expected 2"), (4, "4: not UTF-8"), (5, {"a": "5", "b": "6"})]),
    ("a.conll", b"a O\n\nb\nc O\n\n\xff O\n\nd O\n",
     [(1, {"tokens": ["a"], "tags": ["O"]}), (3, "3: only one"), (6, "6: not UTF-8"),
      (8, {"tokens": ["d"], "tags": ["O"]})]),
]
# fmt: on


@pytest.mark.parametrize(("name", "content", "expected"), GOES_ON, ids=[case[0] for case in GOES_ON])
def test_items_go_on_behind_a_wrong_record(tmp_path: Path, name: str, content: bytes, expected: list[Any]) -> None:
    source = write(tmp_path, name, content)
    items = list(read_items(source))
    assert [where for where, _ in items] == [f"{source}:{place}" for place, _ in expected]
    for (_, found), (_, right) in zip(items, expected, strict=True):
        assert str(found).startswith(f"{source}:{right}") if isinstance(found, DataError) else found == right
    first = next(str(found) for _, found in items if isinstance(found, DataError))
    assert str(error_of(source)) == first


FATAL = [("a.csv", b'a,b\n1,2\n3,"4\n'), ("a.json", b'[{"a": 1}, {"a": 1, "a": 2}, {"a": 3}]'), ("a.tsv", b"\xff\n1\n")]


@pytest.mark.parametrize(("name", "content"), FATAL, ids=["lost quote", "array", "header"])
def test_what_is_wrong_with_the_file_as_a_whole_ends_it(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(DataError):
        list(read_items(write(tmp_path, name, content)))
