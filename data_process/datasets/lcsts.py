"""LCSTS: Chinese microblogs, whose summaries are to be written.

Hu et al. 2015, https://aclanthology.org/D15-1229; on request at http://icrc.hitsz.edu.cn/Article/show/139.html, for
research.

Raw files: PART_I.txt (train), PART_II.txt (dev) and PART_III.txt (test), which look like XML: <doc id=0>, in II and
III <human_label>5</human_label>, <summary>, <short_text>, </doc>; or tables and JSON that name their columns, such as
train.csv with `summary` and `text`. Records of II and III have `human_label`, 1 to 5, as one more column: results are
reported on those of PART_III from 3 on.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..readers.lines import Items
from ._raw_files import Parts, files_in
from ._raw_files import find as find_parts
from ._raw_lines import first_line, read_lines
from ._summaries import read_summaries
from ._values import converted, number_in

FORM = "generation"
FILES = ("*.txt", "*.csv", "*.tsv", "*.json", "*.jsonl")
FIELDS = {"source": ("text", "content", "short_text", "source", "src"), "target": ("summary", "title", "target", "tgt")}

_PART = re.compile(r"part_(i{1,3})\.txt(\.gz|\.bz2)?", re.IGNORECASE)
_PARTS = {"i": "train", "ii": "dev", "iii": "test"}
_DOC = re.compile(
    r"<doc id=[^<>]*>\s*(?:<human_label>(?P<human_label>[^<]*)</human_label>\s*)?"
    r"<summary>(?P<summary>.*?)</summary>\s*<short_text>(?P<short_text>.*?)</short_text>\s*</doc>",
    re.DOTALL,
)


def find(paths: Sequence[Path]) -> tuple[Parts, list[Path]]:
    """PART_I, II and III, or files that are named for their parts."""
    listed = files_in(paths[0]) if len(paths) == 1 and paths[0].is_dir() else list(paths)
    parts = {_PARTS[match[1].lower()]: [path] for path in listed if (match := _PART.fullmatch(path.name))}
    if not parts:
        return find_parts(paths, FILES)
    return parts, [path for path in listed if [path] not in parts.values()]


def read(file: str, notes: Counter[str]) -> Items:
    if not first_line(file).startswith("<doc"):
        return read_summaries(file, FIELDS, (), notes)
    return converted(_documents(file, notes), lambda where, text: _record(where, text, notes))


def _documents(file: str, notes: Counter[str]) -> Iterator[tuple[str, Any]]:
    """(where, its lines joined) of each <doc>."""
    start = ""
    lines: list[str | DataError] = []
    for where, line in read_lines(file, notes):
        opens = isinstance(line, str) and line.lstrip().startswith("<doc")
        if opens and start:
            yield start, DataError(start, "the <doc> that begins here is not closed before the next one")
        if opens:
            start, lines = where, []
        if start:
            lines.append(line)
        elif isinstance(line, DataError) or line.strip():
            yield where, DataError(where, f"text outside of <doc> and </doc>: {str(line)[:40]!r}")
        if start and isinstance(line, str) and line.rstrip().endswith("</doc>"):
            wrong = next((text for text in lines if isinstance(text, DataError)), None)
            yield start, wrong or "\n".join(map(str, lines))
            start = ""
    if start:
        yield start, DataError(start, "the <doc> that begins here is not closed; is the file cut off?")


def _record(where: str, text: str, notes: Counter[str]) -> dict[str, Any]:
    match = _DOC.fullmatch(text.strip())
    if match is None:
        raise DataError(where, "the <doc> must hold <summary> and <short_text>, and before them at most <human_label>")
    source, target = (_joined(match[name]) for name in ("short_text", "summary"))
    score = match["human_label"]
    scored = {} if score is None else {"human_label": int(number_in(where, score, 1, 5, notes, "human_label"))}
    return {"source": source, "target": target} | scored


def _joined(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().split("\n"))
