"""Malformed training data, kind by kind: handled in a stated way, or refused in one line before anything is written.

    python -m pytest tests/test_malformed_data.py
    RELIABILITY_TABLE=table.md python -m pytest tests/test_malformed_data.py      # the outcomes as Markdown
"""

import gzip
import itertools
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import main
from config import get_args
from data_loader.collate import Collator
from data_process.build import Data
from data_process.tag_schemes import from_iob2
from model_utils.heads import head_class
from trainer.metrics import joint_metrics

JOINT = [
    {"name": "intent", "kind": "sequence_classification", "label_column": "intent"},
    {"name": "slots", "kind": "word_tagging", "label_column": "tags"},
]
WORDS: dict[str, Any] = {"tasks": JOINT[1:]}
SINGLE: dict[str, Any] = {"tasks": JOINT[:1], "text_column": "text"}
BOM = b"\xef\xbb\xbf"


class Kind(NamedTuple):
    """files: name -> content, or what makes it; the first trains, dev.* evaluates. outcome: what happens; without
    `check` the message of the refusal must contain it, "{}" standing for the folder."""

    files: dict[str, Any]
    options: dict[str, Any]
    outcome: str
    check: Callable[[Data], Any] | None = None


def record(**changes: Any) -> dict[str, Any]:
    whole = {"tokens": ["play", "hey", "jude"], "tags": ["O", "B-song", "I-song"], "intent": "play"} | changes
    return {name: value for name, value in whole.items() if value != "absent"}


def jsonl(*lines: Any) -> bytes:
    """Two good records, then these: records, or raw lines; then two good ones."""
    middle = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    good = [json.dumps(record(intent=intent)).encode() for intent in ("play", "stop")]
    return b"\n".join([*good, *middle, *good]) + b"\n"


def wrong(line: Any, message: str, **options: Any) -> Kind:
    """Refused for its third line."""
    return Kind({"a.jsonl": jsonl(line)}, options, "{}/a.jsonl:3: " + message)


def refused(name: str, content: Any, message: str, **options: Any) -> Kind:
    return Kind({name: content}, options, "{}/" + name + message)


def handled(name: str, content: Any, outcome: str, check: Callable[[Data], Any], **options: Any) -> Kind:
    return Kind({name: content}, options, outcome, check)


def records(data: Data, part: str = "train") -> list[dict[str, Any]]:
    rows = data.rows(part)
    numbers = data.indices.get(part, range(len(rows)))
    return [json.loads(rows[number]["record"]) for number in numbers]


def texts(*expected: Any) -> Callable[[Data], bool]:
    return lambda data: [data.schema.text(record) for record in records(data)] == list(expected)


def labels(**expected: Any) -> Callable[[Data], bool]:
    """task -> gold labels of all records."""

    def check(data: Data) -> bool:
        gold = [data.schema.gold(record) for record in records(data)]
        return all([one[task] for one in gold] == values for task, values in expected.items())

    return check


def best_metrics(data: Data, part: str) -> dict[str, float]:
    """Of a model that is right wherever the features leave it a chance."""
    rows, numbers = data.rows(part), data.indices.get(part, range(data.scans[part].num_records))
    features = [rows[number] for number in numbers]
    levels = {label.task: label.level for label in data.schema.labels}
    batch = Collator(data.tokenizer.pad_token_id, levels)(features)
    heads, decoded = {}, {}
    for task, level in levels.items():
        kind = "word_tagging" if level == "word" else "sequence_classification"
        names = data.encode.vocabs[task].names
        heads[task] = head_class(kind)(hidden_size=4, labels=names)
        logits = torch.nn.functional.one_hot(batch["labels"][task].clamp(min=0), len(names))
        decoded[task] = heads[task].decode(logits, batch)
    return joint_metrics(heads, decoded, data.references(rows)(numbers))


def counts_as_missed(data: Data) -> bool:
    """Of 6 records one has a new intent, another a new entity."""
    found = best_metrics(data, "eval")
    return (found["intent/accuracy"], found["slots/recall"], found["sentence_accuracy"]) == (5 / 6, 5 / 6, 4 / 6)


def cut_entities_are_missed(data: Data) -> bool:
    """10 entities of which 6 words fit beside the two special tokens: [CLS] a a a a a a [SEP]."""
    row = data.rows("train")[0]
    return row["truncated"] and len(row["word_starts"]) == 6 and best_metrics(data, "train")["slots/recall"] == 0.6


def no_tag_shifts(data: Data) -> bool:
    row = data.rows("train")[2]
    return len(row["word_starts"]) == row["num_words"] == 4 and row["labels"]["slots"] == [0, 1, 2, 0]


def nothing_outside(data: Data) -> bool:
    """All rows are encoded, and the only new files are in the cache."""
    data.rows("train")
    folder = Path(data.sources["train"]).parent
    outside = {path.name for path in folder.parent.iterdir() if path.name in ("x", "x.jsonl")}
    return labels(intent=["play", "stop", "../../x", "play", "stop"])(data) and not outside


def sealed(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.write_bytes(jsonl())
    path.chmod(0)


def parquet(path: Path, keep: int | None = None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a", "b"], "intent": ["x", "y"]}), path)
    path.write_bytes(path.read_bytes()[:keep])


NUMBERS = b'{"tokens": ["a"], "tags": ["O"], "intent": "play", "id": %s}'
TABLE = b"text,intent\nplay it,play\n%s\nstop it,stop\n"
IOBES = record(tags=["O", "B-song", "E-song"])
UNICODE_ENDS = "a\u2028b\u0085c"
ELSEWHERE = "legal with --tag_scheme"

KINDS: dict[str, Kind] = {
    # JSON
    "truncated JSON": wrong(b'{"tokens": ["a"', "truncated JSON at column 16"),
    "line that is no object": wrong(b'["a"]', "expected a JSON object"),
    "no JSON at all": wrong(b"play it\tplay", "invalid JSON at column 1"),
    "key twice in an object": wrong(b'{"tokens": ["a"], "tokens": ["b"]}', 'duplicate key "tokens"; keep one'),
    "NaN": wrong(NUMBERS % b"NaN", "NaN is not JSON; write a finite number or null"),
    "Infinity": wrong(NUMBERS % b"-Infinity", "-Infinity is not JSON"),
    "number too large for a float": wrong(NUMBERS % b"1e999", "1e999 is too large for a float"),
    "number of 5000 digits": wrong(NUMBERS % (b"9" * 5000), "a whole number of 5000 digits, at most 4300"),
    "nested 100,000 deep": wrong(b'{"tokens": ' + b"[" * 100_000, "invalid JSON: nested too deeply"),
    "half a surrogate pair": wrong(b'{"tokens": ["\\ud800"]}', "half a surrogate pair"),
    "raw control character in JSON": wrong(b'{"tokens": ["a\x01"]}', "invalid JSON at column 15: Invalid control"),
    "two objects on a line": wrong(b"{} {}", "more text after the object at column 3; write one object per line"),
    "object over several lines": refused("a.json", b'{\n "tokens": ["a"]\n}', ":1: truncated JSON at column 2"),
    "array instead of lines": handled("a.json", json.dumps([record(), record()]).encode(), "read item by item",
                                      labels(intent=["play", "play"])),
    "array cut off": refused("a.json", json.dumps([record()])[:-1].encode(), ":1: truncated JSON at column"),
    # fields
    "missing column": wrong(record(tags="absent"), "tags: no such column; this record has 'tokens', 'intent'"),
    "missing text": wrong(record(tokens="absent"), "tokens: no such column"),
    "missing second text": refused("a.jsonl", jsonl(), ":1: other: no such column; this record has 'tokens', 'tags', "
                                   "'intent'", text_pair_column="other"),
    "null text": wrong(record(tokens=None), "tokens: is null; a text is needed here"),
    "null label": wrong(record(intent=None), "intent: is null; a gold label is needed here"),
    "text of a wrong type": wrong(record(tokens=3), "tokens: must be a string or a list of words, found int '3'"),
    "word of a wrong type": wrong(record(tokens=["a", 2, "c"]), "tokens: word 2 must be a string, found int '2'"),
    "empty text": wrong(record(tokens=""), "tokens: is empty; remove the record or give it a text"),
    "text of white space": wrong(record(tokens=" \t\u3000"), "tokens: is empty"),
    "text without words": wrong(record(tokens=["", " "]), "tokens: has no words"),
    "boolean label": wrong(record(intent=True), "intent: must be a label: a string or an integer, found bool 'True'"),
    "label with a fraction": wrong(record(intent=1.5), "intent: must be a label: a string or an integer, found float"),
    "integers among texts as labels": wrong(record(intent=7), "intent: found int '7' after labels of type str"),
    "empty label": wrong(record(intent=""), "intent: is an empty label"),
    "label of 300 characters": wrong(record(intent="x" * 300), "intent: label of 300 characters"),
    "label with a line end": wrong(record(intent="a\nb"), "intent: label 'a\\nb' holds the control character U+000A"),
    "label with an escape sequence": wrong(record(intent="\x1b[2J"), "intent: label '\\x1b[2J' holds the control"),
    "label like a path": handled("a.jsonl", jsonl(record(intent="../../x")), "a name like any other, never a path",
                                 nothing_outside),
    "very large whole number as label": handled("a.jsonl", json.dumps({"text": "a", "intent": 10**40}).encode(),
                                                "the text of its digits", labels(intent=[str(10**40)]), **SINGLE),
    # tags
    "fewer tags than words": wrong(record(tags=["O"]), "tags: 1 tags for 3 words; there must be one tag per word"),
    "tag of a wrong type": wrong(record(tags=["O", 1, "O"]), "tags: tag 2 must be a string, not empty, found int"),
    "entity begins with I-": wrong(record(tags=["I-song", "O", "I-song"]), "tags: I-song at word 1, between the start "
                                   "and O, is illegal in IOB2: it must be B-song; " + ELSEWHERE + " iob1"),
    "entity changes its type": wrong(record(tags=["O", "B-song", "I-time"]), "tags: I-time at word 3, between B-song"),
    "IOBES read as IOB2": wrong(IOBES, "tags: E-song at word 3 is not of IOB2: O, B-x, I-x; " + ELSEWHERE + " iobes"),
    "BMES read as IOB2": wrong(record(tags=["B-song", "M-song", "E-song"]), "tags: M-song at word 2 is not of IOB2: "
                               "O, B-x, I-x; " + ELSEWHERE + " bmes"),
    "IOB2 read as IOBES": refused("a.jsonl", jsonl(), ":1: tags: I-song at word 3, between B-song and the end, is "
                                  "illegal in IOBES: it must be E-song; " + ELSEWHERE + " iob2", tag_scheme="iobes"),
    "IOB2 read as IOB1": refused("a.jsonl", jsonl(), ":1: tags: B-song at word 2, between O and I-song, is illegal in "
                                 "IOB1: it must be I-song; " + ELSEWHERE + " iob2", tag_scheme="iob1"),
    "IOBES": handled("a.jsonl", b"\n".join([json.dumps(IOBES).encode()] * 2), "converted to IOB2",
                     labels(slots=[record()["tags"]] * 2), tag_scheme="iobes"),
    "BMES": handled("a.jsonl", json.dumps(record(tags=["B-a", "M-a", "E-a"])).encode(), "converted to IOB2",
                    labels(slots=[["B-a", "I-a", "I-a"]]), tag_scheme="bmes"),
    "IOB1": handled("a.jsonl", json.dumps(record(tags=["I-a", "B-a", "I-b"])).encode(), "converted to IOB2",
                    labels(slots=[["B-a", "B-a", "B-b"]]), tag_scheme="iob1"),
    "parts of speech, whatever the scheme": handled("a.conll", b"a DT\nb NN-x\n\nc S\n", "stay as they are",
                                                    labels(slots=[["DT", "NN-x"], ["S"]]), tag_scheme="bmes", **WORDS),
    "plain tag in data with entities": wrong(record(tags=["X", "X", "X"]), "tags: found the tag 'X' in data with "
                                             "entities of IOB2; use O for words outside of entities"),
    # lines and encodings
    "byte order mark": handled("a.jsonl", BOM + jsonl(), "dropped", labels(intent=["play", "stop"] * 2)),
    "two byte order marks": handled("a.txt.csv", BOM * 2 + TABLE % b"a,b", "dropped", texts("play it", "a", "stop it"),
                                    **SINGLE),
    "CRLF": handled("a.conll", b"a O\r\nb B-x\r\n\r\nc O\r\n", "read as LF", labels(slots=[["O", "B-x"], ["O"]]),
                    **WORDS),
    "carriage returns alone": refused("a.csv", b"text,intent\ra,b\r", ":1: a carriage return outside quotes", **SINGLE),
    "carriage returns alone in JSON lines": refused("a.jsonl", b"{}\r{}\r", ":1: more text after the object at column "
                                                    "3; write one object per line, convert old Mac line ends"),
    "GB18030": refused("a.csv", "text,intent\n播放,play\n".encode("gb18030"), ":2: not UTF-8 (byte 0xb2 at byte 1 of "
                       "the line); the line decodes as GB18030", **SINGLE),
    "one line that is not UTF-8": wrong(b'{"tokens": ["caf\xe9"]}', "not UTF-8 (byte 0xe9 at byte 17 of the line)"),
    "UTF-16": refused("a.jsonl", jsonl().decode().encode("utf-16"), ":1: this is a UTF-16 file: convert it with"),
    "NUL byte": wrong(b'{"tokens": ["a\0"]}', "NUL byte at byte 15 of the line"),
    "U+2028 inside of a line": handled("a.csv", TABLE % f"{UNICODE_ENDS},x".encode(), "text; no line ends there",
                                       texts("play it", UNICODE_ENDS, "stop it"), **SINGLE),
    "line of 50 MB": wrong(b'{"tokens": "' + b"ab " * 17_000_000 + b'"}', "tokens: has 51,000,000 characters, at most"),
    # files
    "empty file": refused("a.jsonl", b"", ": no records in it; expected one JSON object per line"),
    "blank lines only": refused("a.jsonl", b"\n \n\xe3\x80\x80\r\n", ": no records in it"),
    "header only": refused("a.csv", b"text,intent\n", ": no records in it; expected a header line", **SINGLE),
    "no such file": Kind({}, {}, "arguments: train_file: there is no file {}/a.jsonl"),
    "folder instead of a file": refused("a.jsonl", Path.mkdir, ": this is a folder; expected a file"),
    "unreadable file": refused("a.jsonl", sealed, ": cannot be read: Permission denied"),
    "link to itself": refused("a.jsonl", lambda path: path.symlink_to(path), " (paths count from"),
    "unknown suffix": refused("a.xlsx", b"PK", ": unknown suffix; known suffixes: .jsonl"),
    "pickle": refused("a.pkl", pickle.dumps([record()]), ": pickles are never opened, they can run any code"),
    "pickle named .jsonl": refused("a.jsonl", pickle.dumps([record()]), ": no text: this is a pickle, which is never"),
    "spreadsheet named .csv": refused("a.csv", b"PK\x03\x04\x14", ": no text: this is a zip archive", **SINGLE),
    "gzip": handled("a.jsonl.gz", gzip.compress(jsonl()), "read", labels(intent=["play", "stop"] * 2)),
    ".gz that is no gzip": refused("a.jsonl.gz", jsonl(), ": not a sound gzip file"),
    "gzip cut off": Kind({"a.jsonl.gz": gzip.compress(jsonl())[:-20]}, {}, ": the gzip file is damaged or cut off"),
    "gzip without .gz": refused("a.jsonl", gzip.compress(jsonl()), ": no text: this is a gzip file; add .gz"),
    "Parquet": handled("a.parquet", parquet, "read", labels(intent=["x", "y"]), **SINGLE),
    "Parquet that is none": refused("a.parquet", jsonl(), ": not a readable Parquet file: ArrowInvalid"),
    "Parquet cut off": refused("a.parquet", lambda path: parquet(path, 200), ": not a readable Parquet file"),
    # tables
    "ragged row": refused("a.csv", TABLE % b"a,b,c", ":3: expected 2 columns (text, intent), found 3", **SINGLE),
    "quote that is not closed": refused("a.csv", TABLE % b'"a,b', ":3: a quoted value of the row that starts here is "
                                        "not closed", **SINGLE),
    ".csv separated by tabs": refused("a.csv", b"text\tintent\na\tb\n", ":1: the header is one column, 'text\\tintent'"
                                      "; if '\\t' separates the columns, name the file .tsv", **SINGLE),
    "column twice in the header": refused("a.csv", b"text,text\na,b\n", ":1: the header names the column 'text' twice",
                                          **SINGLE),
    "column without a name": refused("a.csv", b"text,\na,b\n", ":1: column 2 of the header has no name", **SINGLE),
    "no header": refused("a.csv", b"play it,play\nstop it,stop\n", ":2: text: no such column; this record has "
                         "'play it', 'play'", **SINGLE),
    "NA, null and None": handled("a.csv", TABLE % b"NA,null\nNone,NaN", "the texts that they are",
                                 labels(intent=["play", "null", "NaN", "stop"]), **SINGLE),
    "numbers with leading zeros": handled("a.csv", TABLE % b"007,007", "the texts that they are",
                                          labels(intent=["play", "007", "stop"]), **SINGLE),
    # CoNLL
    "no blank lines": refused("a.conll", b"a O\nb B-x\n" * 600, ":1: 1,200 words without a blank line; a blank line "
                              "ends a sentence", **WORDS),
    "varying number of columns": refused("a.conll", b"a X O\nb O\n", ":2: 2 columns, but 3 in the lines", **WORDS),
    "word without a tag": refused("a.conll", b"a O\nb\n", ":2: only one column, 'b'; expected a word", **WORDS),
    # between data and model
    "label only in dev": Kind(
        {"a.jsonl": jsonl(), "dev.jsonl": jsonl(record(intent="new"), record(tags=["O", "O", "B-new"]))},
        {}, "warning; counts as missed", counts_as_missed,
    ),
    "text longer than the model": handled(
        "a.jsonl", json.dumps(record(tokens=["a"] * 10, tags=["B-x"] * 10)).encode(), "cut; lost entities are missed",
        cut_entities_are_missed, max_length=8, **WORDS,
    ),
    "words that the tokenizer drops": handled(
        "a.jsonl", jsonl(record(tokens=["a", "\u200b", "\x01", "b"], tags=["O", "B-song", "I-song", "O"])),
        "the unknown token stands in, no tag shifts", no_tag_shifts,
    ),
    "text of nothing but dropped characters": handled(
        "a.jsonl", jsonl(record(tokens="\u200b", tags="O")), "one unknown token",
        lambda data: data.rows("train")[2]["input_ids"] == [2, 1, 3],
    ),
}  # fmt: skip


def arguments(folder: Path, files: dict[str, Any], **options: Any) -> list[str]:
    """Write the files, and the command line that checks them."""
    for name, content in files.items():
        (folder / name).write_bytes(content) if isinstance(content, bytes) else content(folder / name)
    names = list(files) or ["a.jsonl"]
    values = {"tasks": JOINT, "text_column": "tokens", "train_file": folder / names[0], "check": True, "eval_ratio": 0,
              "model_name_or_path": "scratch:tiny", "scratch_vocab_size": 200, "max_length": 48, "device": "cpu",
              "cache_dir": folder / "cache", "output_dir": folder / "out"}  # fmt: skip
    if names[1:]:
        values["eval_file"] = folder / names[1]
    given = {name: json.dumps(v) if isinstance(v, list) else str(v) for name, v in (values | options).items()}
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def job_of(folder: Path, files: dict[str, Any], **options: Any) -> main.Job:
    """As main.py makes it, up to the data."""
    job = main.build_job(get_args(arguments(folder, files, **options)))
    main.build_data(job)
    return job


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[str]]:
    """Rows of the table that RELIABILITY_TABLE asks for."""
    rows: list[str] = []
    yield rows
    if os.environ.get("RELIABILITY_TABLE"):
        lines = ["| kind | what happens | message |", "|---|---|---|", *rows]
        Path(os.environ["RELIABILITY_TABLE"]).write_text("\n".join(lines) + "\n", encoding="utf-8")


def table_row(folder: Path, kind: str, outcome: str, message: str) -> str:
    shown = message.strip().replace(f"{folder}/", "").replace(str(Path.cwd()), ".").replace("`", "'")
    shown = shown if len(shown) < 300 else f"{shown[:300]} …"
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (kind, outcome, f"`{shown}`" * bool(shown))) + " |"


@pytest.mark.parametrize("name", KINDS)
def test_kind(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], outcomes: list[str]) -> None:
    files, options, outcome, check = KINDS[name]
    if check is not None:
        assert check(job_of(tmp_path, files, **options).data["data"])
        shown = [line for line in capsys.readouterr().out.splitlines() if " WARNING " in line]
        assert bool(shown) == outcome.startswith("warning")
        message = " ".join(line.partition(" WARNING ")[2] for line in shown)
        outcomes.append(table_row(tmp_path, name, f"handled: {outcome}", message))
        return
    assert main.run(arguments(tmp_path, files, **options)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, message
    assert outcome.replace("{}", str(tmp_path)) in message, message
    assert {path.name for path in tmp_path.iterdir()} <= set(files)
    outcomes.append(table_row(tmp_path, name, "refused, exit code 2", message))


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 45


# on_bad_record=skip

SEVEN = [record(tokens=[f"w{n}", "hey", "jude"], intent=["play", "stop"][n % 2]) for n in range(7)]


def seven(**changes: Any) -> bytes:
    """Seven records, JSON lines; of those named n3, n5 … another content."""
    lines = [json.dumps(record).encode() for record in SEVEN]
    for name, line in changes.items():
        lines[int(name[1:])] = line if isinstance(line, bytes) else json.dumps(SEVEN[int(name[1:])] | line).encode()
    return b"\n".join(lines) + b"\n"


BLANK = b"\n".join([b"\xe3\x80\x80", b"\x1c", b"{", b" ", b""])  # only the third of these lines is a record
ROWS = b"text,intent\na0,x\na1\na2,x\n\"a\n3\",x,y\na4,x\na\xff5,x\na6,x\n"
BLOCKS = b"a O\n\nb\n\nc O\nd B-x y\n\ne O\n"

# name -> file, content, options, numbers of the records that are left, what the warning lists
SKIPPED: dict[str, tuple[str, bytes, dict[str, Any], list[int], list[str]]] = {
    "lines that are no JSON": ("a.jsonl", seven(n1=b"{", n6=b"[1]"), {}, [0, 2, 3, 4, 5],
                               ["line 2: truncated JSON", "line 7: expected a JSON object"]),
    "missing and null columns": ("a.jsonl", seven(n0={"tokens": None}, n4=b'{"tokens": ["a"]}'), {}, [1, 2, 3, 5, 6],
                                 ["line 1: tokens: is null", "line 5: intent: no such column"]),
    "wrong types": ("a.jsonl", seven(n2={"intent": True}, n3={"tokens": 3}), {}, [0, 1, 4, 5, 6],
                    ["line 3: intent: must be a label", "line 4: tokens: must be a string"]),
    "labels of another type": ("a.jsonl", seven(n0={"intent": 1, "tags": "O"}, n5={"intent": 1}), {}, [1, 2, 3, 4, 6],
                               ["line 1: tags: 1 tags for 3", "line 6: intent: found"]),
    "fewer tags than words": ("a.jsonl", seven(n6={"tags": ["O"]}), {}, [0, 1, 2, 3, 4, 5], ["line 7: tags: 1 tags"]),
    "empty texts": ("a.jsonl", seven(n1={"tokens": []}, n2={"tokens": " "}), {}, [0, 3, 4, 5, 6],
                    ["line 2: tokens: has no words", "line 3: tokens: is empty"]),
    "illegal tags": ("a.jsonl", seven(n1={"tags": "O O I-x"}), {}, [0, 2, 3, 4, 5, 6], ["line 2: tags: I-x at word 3"]),
    "plain tags beside entities": ("a.jsonl", seven(n0={"tags": "X X X"}, n3={"tags": "S-x O O"}), {},
                                   [1, 2, 4, 5, 6], ["line 1: tags: found the tag 'X'", "line 4: tags: found the tag"]),
    "lines that are no text": ("a.jsonl", seven(n2=b'{"tokens": "\xff"}', n3=b"\0\0"), {}, [0, 1, 4, 5, 6],
                               ["line 3: not UTF-8", "line 4: NUL byte"]),
    "blank lines around a wrong one": ("a.jsonl", seven(n3=BLANK), {}, [0, 1, 2, 4, 5, 6], ["line 6: truncated JSON"]),
    "rows of a table": ("a.csv", ROWS, SINGLE, [0, 2, 4, 6],
                        ["line 3: expected 2 columns", "line 5: expected 2 columns", "line 8: not UTF-8"]),
    "CoNLL blocks": ("a.conll", BLOCKS, WORDS, [0, 3], ["line 3: only one column", "line 6: 3 columns, but 2"]),
    "items of an array": ("a.json", json.dumps([SEVEN[0], 3, SEVEN[1]]).encode(), {}, [0, 2], ["line 1: expected a"]),
    "more than are listed": ("a.jsonl", b"{\n" * 12 + seven(), {}, list(range(12, 19)),
                             [f"line {n}: truncated JSON" for n in range(1, 11)]),
}  # fmt: skip


def same(batches: Any, others: Any) -> bool:
    def flat(batch: Any) -> list[Any]:
        return [*batch["labels"].values(), *(value for name, value in batch.items() if name != "labels")]

    pairs: Any = itertools.zip_longest(batches, others, fillvalue={"labels": {}})
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(flat(one), flat(other), strict=True))


@pytest.mark.parametrize("name", SKIPPED)
def test_skip(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], outcomes: list[str]) -> None:
    """The same records are left out of scan, cache and stream; sample ids are numbers within the file."""
    file, content, options, kept, listed = SKIPPED[name]
    job = job_of(tmp_path, {file: content}, on_bad_record="skip", batch_size=2, **options)
    data = job.data["data"]
    found = data.scans["train"]
    assert list(found.kept) == data.indices["train"] == kept and len(found.strata) == len(kept)
    total = len(kept) + len(found.skipped)
    [line] = [line for line in capsys.readouterr().out.splitlines() if " WARNING " in line]
    message = line.partition(f"{tmp_path}/")[2]
    assert message.startswith(f"{file}: {total - len(kept)} of {total} records skipped: {listed[0]}"), message
    assert all(f": {listed[0]}" in message or f", {part}" in message for part in listed)
    assert message.endswith(" (first 10 listed)") == (len(found.skipped) > 10)
    outcomes.append(table_row(tmp_path, name, f"skipped: {len(kept)} of {total} records are left", message))

    rows, figures = data.rows("train"), data.figures("train")
    assert rows["sample_id"][:] == list(range(total))
    assert [number for number, ids in enumerate(rows["input_ids"][:]) if ids] == kept
    assert (figures["records"], figures["skipped"]) == (len(kept), total - len(kept))
    batches = list(main.build_train_loader(job)(0, 0))
    assert sorted(number for batch in batches for number in batch["sample_id"].tolist()) == kept
    if file.endswith(".jsonl"):
        job.args.streaming = True
        stream = main.build_train_loader(job)
        assert same(stream(0, 0), batches) and same(stream(0, 2), batches[1:])


def test_skipped_records_are_in_no_part_of_a_split(tmp_path: Path) -> None:
    data = job_of(tmp_path, {"a.jsonl": seven(n1=b"{") * 4}, on_bad_record="skip", eval_ratio=0.25).data["data"]
    assert sorted(data.indices["train"] + data.indices["eval"]) == [n for n in range(28) if n % 7 != 1]
    assert (data.figures("train")["records"], data.figures("eval")["records"]) == (18, 6)
    assert sum(data.figures("train")["labels"]["intent"].values()) == 18


def test_the_cache_depends_on_what_is_left_out(tmp_path: Path) -> None:
    """One file, once with needed and once with optional gold labels."""
    options = {"on_bad_record": "skip", "predict_file": tmp_path / "a.jsonl", "do_predict": True}
    job = job_of(tmp_path, {"a.jsonl": seven(n1={"intent": None})}, **options)
    train, predict = job.data["data"].rows("train"), job.data["data"].rows("predict")
    assert (train[1]["input_ids"], len(predict[1]["input_ids"])) == (None, 5)
    assert job.data["data"].figures("predict")["labels"]["intent"] == {"play": 4, "stop": 2}
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 2


FATAL: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "no good record": ("a.jsonl", b"{\n{\n", {}, ": none of its 2 records can be used; the first: line 1: truncated"),
    "UTF-16 without a mark": ("a.jsonl", seven().decode().encode("utf-16-le"), {}, ": none of its 8 records can be used"
                              "; the first: line 1: NUL byte"),
    "UTF-16": ("a.jsonl", seven().decode().encode("utf-16"), {}, ":1: this is a UTF-16 file"),
    "no header": ("a.csv", b"play it,play\nstop it,stop\n", SINGLE, ": none of its 1 records can be used"),
    "lost quote": ("a.csv", TABLE % b'"a,b', SINGLE, ":3: a quoted value"),
    "no gzip": ("a.jsonl.gz", seven(), {}, ": not a sound gzip file"),
    "empty": ("a.jsonl", b"", {}, ": no records in it"),
}  # fmt: skip


@pytest.mark.parametrize("name", FATAL)
def test_the_file_as_a_whole_is_refused_even_so(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], outcomes: list[str]
) -> None:
    file, content, options, outcome = FATAL[name]
    assert main.run(arguments(tmp_path, {file: content}, on_bad_record="skip", **options)) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path / file}{outcome}") and message.count("\n") == 1, message
    assert [path.name for path in tmp_path.iterdir()] == [file]
    outcomes.append(table_row(tmp_path, f"{name}, with on_bad_record=skip", "refused, exit code 2", message))


def test_a_run_with_wrong_records_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training, both kinds of output, and numbers that lead back to the files."""
    files = {"a.jsonl": seven(n2=b"{") * 3, "dev.jsonl": seven(n0={"tags": "O"}), "new.jsonl": seven(n3={"tokens": 3})}
    options = {"eval_file": tmp_path / "dev.jsonl", "predict_file": tmp_path / "new.jsonl", "do_train": True,
               "do_eval": True, "do_predict": True, "check": False, "epochs": 1, "on_bad_record": "skip"}  # fmt: skip
    assert main.run(arguments(tmp_path, files, **options)) == 0
    shown = capsys.readouterr().out
    for text in ("a.jsonl: 3 of 21 records", "dev.jsonl: 1 of 7 records", "new.jsonl: 1 of 7 records"):
        assert f"{text} skipped: line " in shown

    def ids(path: str) -> list[int]:
        return [json.loads(line)["sample_id"] for line in (tmp_path / "out" / path).read_text("utf-8").splitlines()]

    assert ids("predictions/new.jsonl") == [0, 1, 2, 4, 5, 6]
    assert set(ids("errors/eval.jsonl")) <= {1, 2, 3, 4, 5, 6}
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text("utf-8"))
    assert {part: (found["records"], found["skipped"]) for part, found in info.items()} == {
        "train": (18, 3), "eval": (6, 1), "predict": (6, 1)}  # fmt: skip


@pytest.mark.parametrize("scheme", ["iob1", "iobes", "bmes"])
def test_a_file_in_another_scheme_gives_the_same_model_inputs(scheme: str, tmp_path: Path) -> None:
    """Features, gold labels and streamed batches are those of the IOB2 file."""
    tags = ["O B-x I-x", "B-x B-x O", "B-y I-y I-y", "O O B-x"]
    jobs = {}
    for name in ("iob2", scheme):
        lines = [json.dumps(record(tags=from_iob2(line.split(), name))).encode() for line in tags]
        jobs[name] = job_of(tmp_path, {f"{name}.jsonl": b"\n".join(lines)}, tag_scheme=name, batch_size=2)
    ours, plain = jobs[scheme], jobs["iob2"]
    data = [job.data["data"] for job in (ours, plain)]
    assert ours.tasks == plain.tasks
    assert data[0].scans["train"].label_counts == data[1].scans["train"].label_counts
    rows = [part.rows("train").remove_columns("record") for part in data]
    assert list(rows[0]) == list(rows[1])
    gold = [part.references(part.rows("train"))(range(4)) for part in data]
    assert gold[0] == gold[1] and gold[0]["slots"] == [line.split() for line in tags]
    ours.args.streaming = True
    assert same(main.build_train_loader(ours)(0, 0), main.build_train_loader(plain)(0, 0))
