"""Records -> raw files of public corpora, the converters the other way round, in any dialect that keeps the meaning.

    write_raw("lcqmc", records, folder, "train", Dialect(encoding="gb18030", bom=0, end="\r\n"))    # the paths
"""

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_process.tag_schemes import from_iob2

Record = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """Lies of a raw file that keep its meaning."""

    encoding: str = "utf-8"
    bom: int = 0
    end: str = "\n"
    final_end: bool = True
    compress: str = ""
    blank: str | None = None
    """a blank line, put between all others where the format allows it"""
    variant: int = 0
    """which of the ways to write the format; any number"""
    edge: str = ""
    """put around values that are texts"""
    full_width: bool = False
    """digits of labels as １"""

    def write(self, path: Path, lines: Iterable[str], may_have_blanks: bool = True) -> Path:
        between = self.end if self.blank is None or not may_have_blanks else f"{self.end}{self.blank}{self.end}"
        text = between.join(lines) + (self.end if self.final_end else "")
        content = ("\ufeff" * self.bom + text).encode(self.encoding)
        squeeze: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gz": gzip.compress, "bz2": bz2.compress}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(squeeze[self.compress](content))
        return path

    def label(self, value: str) -> str:
        return value.translate({ord("0") + n: ord("０") + n for n in range(10)}) if self.full_width else value

    def text(self, value: str) -> str:
        return self.edge + value + self.edge


def table(rows: list[list[str]], header: list[str], d: Dialect) -> list[str]:
    """By tabs without and with a header, or by commas with one."""
    if d.variant % 3 < 2:
        return ["\t".join(row) for row in [header, *rows][d.variant % 3 == 0 :]]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue().removesuffix("\n").split("\n")


def json_lines(items: Iterable[Any]) -> list[str]:
    return [json.dumps(item, ensure_ascii=False) for item in items]


def pairs(records: list[Record], path: Path, d: Dialect) -> Path:
    if d.variant % 4 == 3:
        items = ({"sentence1": d.text(r["text_a"]), "sentence2": d.text(r["text_b"]), "label": d.label(r["label"])}
                 for r in records)  # fmt: skip
        return d.write(path, json_lines(items))
    rows = [[d.text(r["text_a"]), d.text(r["text_b"]), d.label(r["label"])] for r in records]
    header = ["sentence1", "sentence2", "label"]
    if d.variant % 2:
        rows, header = [[str(n), *row] for n, row in enumerate(rows)], ["id", *header]
    return d.write(path, table(rows, header, d))


def scores(records: list[Record], path: Path, d: Dialect) -> Path:
    rows = [[str(n), d.text(r["text_a"]), d.text(r["text_b"]), d.label(str(r["label"]))] for n, r in enumerate(records)]
    if d.variant % 2:
        return d.write(path, ["||".join(row) for row in rows])
    return d.write(path, ["\t".join(["main", "MSR", "2012", "1", row[3], row[1], row[2]]) for row in rows])


def sentiment(records: list[Record], path: Path, d: Dialect, label_first: bool = False) -> Path:
    rows = [[d.text(r["text"]), d.label(str(int(r["label"] == "positive")))] for r in records]
    header = ["text_a", "label"]
    if label_first:
        rows, header = [row[::-1] for row in rows], header[::-1]
    return d.write(path, table(rows, header, d))


def numbered_topics(records: list[Record], path: Path, d: Dialect) -> Path:
    names = sorted({r["label"] for r in records})
    d.write(path.with_name("class.txt"), names)
    return d.write(path, [f"{d.text(r['text'])}\t{d.label(str(names.index(r['label'])))}" for r in records])


def columns(scheme: str, glued: bool = False) -> Callable[[list[Record], Path, Dialect], Path]:
    def write(records: list[Record], path: Path, d: Dialect) -> Path:
        lines: list[str] = []
        for record in records:
            tags = from_iob2(record["tags"], scheme)
            pairs = zip(record["tokens"], tags, strict=True)
            digits = [str(n % 10) if glued and d.variant % 2 else "" for n in range(len(tags))]
            separator = "\t" if d.variant % 3 else " "
            lines += [f"{t}{n}{separator}{tag}" for (t, tag), n in zip(pairs, digits, strict=True)] + [d.blank or ""]
        return d.write(path, lines, may_have_blanks=False)

    return write


def cut_out(records: list[Record], path: Path, d: Dialect) -> Path:
    """MSRA, one sentence per line: 李白/nr 来/o."""
    short = {"PER": "nr", "LOC": "ns", "ORG": "nt"}
    lines = []
    for record in records:
        pieces: list[list[str]] = []
        for token, tag in zip(record["tokens"], record["tags"], strict=True):
            if tag[:2] == "I-" or (tag == "O" and pieces and pieces[-1][1] == "o"):
                pieces[-1][0] += token
            else:
                pieces.append([token, "o" if tag == "O" else short[tag[2:]]])
        lines.append(" ".join(f"{text}/{name}" for text, name in pieces))
    return d.write(path, lines)


def joint(records: list[Record], path: Path, d: Dialect) -> Path:
    """The three forms; paths without suffix become a folder."""
    if d.variant % 3 == 0:
        parts = {"seq.in": "tokens", "seq.out": "tags", "label": "intent"}
        for name, column in parts.items():
            values = [r[column] if column == "intent" else " ".join(r[column]) for r in records]
            d.write(path.with_suffix("") / name, values)
        return path.with_suffix("") / "seq.in"
    if d.variant % 3 == 1:
        lines = [f"BOS {' '.join(r['tokens'])} EOS\tO {' '.join(r['tags'])} {r['intent']}" for r in records]
        return d.write(path, lines)
    lines = []
    for r in records:
        words = [f"{t} {tag}" for t, tag in zip(r["tokens"], r["tags"], strict=True)]
        lines += [*words, r["intent"], d.blank or ""]
    return d.write(path, lines, may_have_blanks=False)


def spans(records: list[Record], path: Path, d: Dialect) -> Path:
    """CLUENER2020; entities of the same type and text share a list."""
    items = []
    for record in records:
        text, label = "".join(record["tokens"]), dict[str, dict[str, list[list[int]]]]()
        for entity in record["entities"]:
            mention = text[entity["start"] : entity["end"]]
            label.setdefault(entity["label"], {}).setdefault(mention, []).append([entity["start"], entity["end"] - 1])
        items.append({"text": text, "label": label})
    return d.write(path, json_lines(items))


def document(value: Any, path: Path, d: Dialect) -> Path:
    text = json.dumps(value, ensure_ascii=bool(d.variant % 2), indent=[None, 1][d.variant // 2 % 2])
    return d.write(path, text.split("\n"))


def squad(records: list[Record], path: Path, d: Dialect) -> Path:
    paragraphs = []
    for r in records:
        texts, starts = r["answers"]["text"], r["answers"]["answer_start"]
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
        impossible = {"is_impossible": not texts} if d.variant % 3 else {}
        question = {"id": r["id"], "question": r["question"], "answers": answers} | impossible
        paragraphs.append({"context": r["context"], "qas": [question]})
    return document({"version": "x", "data": [{"title": "t", "paragraphs": paragraphs}]}, path, d)


def dialogues(records: list[Record], path: Path, d: Dialect) -> Path:
    items = [[r["context"].split("\n"), [{"question": r["question"], "choice": r["choices"],
                                         "answer": r["choices"][r["label"]]}], str(n)]
             for n, r in enumerate(records)]  # fmt: skip
    return document(items, path, d)


def choices(records: list[Record], path: Path, d: Dialect) -> Path:
    letters = "ABCDEFGH"
    items = [{"id": str(n), "answerKey": letters[r["label"]], "question": {
                  "stem": d.text(r["question"]),
                  "choices": [{"label": a, "text": d.text(t)} for a, t in zip(letters, r["choices"], strict=False)]}}
             for n, r in enumerate(records)]  # fmt: skip
    return d.write(path, json_lines(items))


def summaries(records: list[Record], path: Path, d: Dialect) -> Path:
    if d.variant % 2:
        lines: list[str] = []
        for n, r in enumerate(records):
            lines += [f"<doc id={n}>", f"    <summary>{r['target']}</summary>", "    <short_text>",
                      *r["source"].split("\n"), "    </short_text>", "</doc>"]  # fmt: skip
        return d.write(path, lines, may_have_blanks=False)
    return d.write(path, json_lines({"text": d.text(r["source"]), "summary": d.text(r["target"])} for r in records))


def titles(records: list[Record], path: Path, d: Dialect) -> Path:
    rows = [["to title", d.text(r["source"]), d.text(r["target"])] for r in records]
    return d.write(path, table(rows, ["prompt", "abst", "title"], d))


def news(records: list[Record], path: Path, d: Dialect, numbers: dict[str, str]) -> Path:
    rows = [[str(n), d.label(numbers[r["label"]]), r["label"], d.text(r["text"]), "a,b"] for n, r in enumerate(records)]
    if d.variant % 2:
        return d.write(path, ["_!_".join(row) for row in rows])
    return d.write(path, json_lines({"label": row[1], "label_desc": row[2], "sentence": row[3]} for row in rows))


def reviews(records: list[Record], path: Path, d: Dialect) -> Path:
    short = {"positive": "POS", "negative": "NEG"}
    rows = [f"{n}\tx\t{short[r['label']]}\t5\t{' '.join(r['text'])} " for n, r in enumerate(records)]
    return d.write(path, rows)


def articles(records: list[Record], path: Path, d: Dialect) -> Path:
    if d.variant % 2:
        lines: list[str] = []
        for n, r in enumerate(records):
            lines += [f'<doc id="{n}" url="u" title="t">', *r["text"].split("\n"), "</doc>"]
        return d.write(path, lines, may_have_blanks=False)
    return d.write(path, json_lines({"id": str(n), "text": d.text(r["text"])} for n, r in enumerate(records)))
