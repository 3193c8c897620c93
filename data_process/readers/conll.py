"""CoNLL blocks (`.conll`, `.bio`, `.iob`): a line per word (first column word, last column tag), a blank line
between sentences.

    # intent = PlayMusic
    play B-action
    yesterday B-song

gives {"tokens": ["play", "yesterday"], "tags": ["B-action", "B-song"], "intent": "PlayMusic"}.

Copy: with lines.py, ../errors.py; needs only Python.
"""

import re
from collections.abc import Iterator
from typing import Any

from ..errors import DataError, caught
from .lines import Items, plain_line, raw_lines

_Block = list[tuple[int, bytes]]  # (line number, line)

MAX_WORDS = 1000

# Strict about the blanks, because "# O" and "#tag O" are a word and its tag.
_COMMENT = re.compile(r"# +(\S+) +=(?: +(.*))?")


def read_conll(source: str) -> Items:
    """Yield one record per block; `# name = value` lines before its first word become columns, too."""
    for block in _blocks(source):
        yield f"{source}:{block[0][0]}", caught(_parse_block, source, block)


def _blocks(source: str) -> Iterator[_Block]:
    """Cut at blank lines and at -DOCSTART- lines."""
    block: _Block = []
    for number, line in raw_lines(source):
        if line.strip(b" \t\r\n") and line.split()[:1] != [b"-DOCSTART-"]:
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _parse_block(source: str, block: _Block) -> dict[str, Any]:
    tokens: list[str] = []
    tags: list[str] = []
    record: dict[str, Any] = {"tokens": tokens, "tags": tags}
    width = 0
    for number, raw_line in block:
        where = f"{source}:{number}"
        line = plain_line(raw_line, where)
        comment = None if tokens else _COMMENT.fullmatch(line)
        if comment:
            _add_comment(record, comment, where)
            continue
        columns = _columns(line)
        width = width or len(columns)
        if len(columns) < 2:
            raise DataError(where, f"only one column, {line!r}; expected a word, a blank or tab, and its tag")
        if len(columns) != width:
            raise DataError(where, f"{len(columns)} columns, but {width} in the lines above it")
        if not columns[0] or not columns[-1]:
            raise DataError(where, f"word or tag is empty in {line!r}; two tabs in a row, or one at the end?")
        tokens.append(columns[0])
        tags.append(columns[-1])
    if len(tokens) > MAX_WORDS:
        right = "a blank line ends a sentence; documents as long as this are read from .jsonl"
        raise DataError(f"{source}:{block[0][0]}", f"{len(tokens):,} words without a blank line; {right}")
    if not tokens:
        raise DataError(f"{source}:{block[0][0]}", "a comment without words; remove the blank line below it")
    return record


def _columns(line: str) -> list[str]:
    """Columns between tabs if there are any, else between blanks."""
    if "\t" in line:
        *columns, tag = line.split("\t")  # here a blank may be part of the word, or all of it
        return [*columns, tag.strip(" ")]
    # Not str.split(): it would also cut at U+3000, the wide blank, a word of its own in Chinese data.
    return re.split(" +", line.strip(" "))


def _add_comment(record: dict[str, Any], comment: re.Match[str], where: str) -> None:
    name, value = comment.group(1), comment.group(2) or ""
    if name in record:
        raise DataError(where, "the block already has a column of this name; rename it", field=name)
    record[name] = value.strip(" ")
