"""Tagged words in columns, a line per word and a blank line after each sentence -> tokens and IOB2 tags.

    for where, record in read_columns("dev.char.bmes", {"NAME": "NAME"}, ("bmes",), notes, characters=True):
        print(record)       # {"tokens": ["高", "勇"], "tags": ["B-NAME", "I-NAME"]}

The first column is the word, the last one the tag; tabs or blanks are between them, and a line is refused that has
another number of columns than the others. With `characters` a word may be a blank itself, and is one character as a
rule. A file of one column is unlabelled. The scheme of the tags is the one of those allowed in which the fewest of the
first sentences are illegal.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from ..errors import DataError
from ..readers.lines import Items
from ._raw_lines import BOM, read_lines
from ._tags import fewest_illegal, iob2_tags
from ._values import converted, plain_label

Block = list[tuple[str, str | DataError]]  # (where, line)

_SAMPLE = 1000  # sentences that decide the dialect of a file
_MAX_WORDS = 10_000
_WORD_OF_BLANKS = re.compile(r"(.)[ \t]([^ \t]+)[ \t]*")
_GLUED = re.compile(r"(.+)[0-9]", re.DOTALL)


@dataclass
class _Dialect:
    characters: bool
    may_be_glued: bool
    width: int = 0
    """number of columns"""
    scheme: str = ""
    glued: bool = False
    """whether a digit, the place of the character in its word, follows each character: 科0 学1"""


def read_columns(
    file: str,
    types: Mapping[str, str],
    schemes: Sequence[str],
    notes: Counter[str],
    characters: bool = False,
    may_be_glued: bool = False,
) -> Items:
    """Yield (where, {"tokens", "tags"}) for each sentence; `where` is its first line.

    Args:
        types: type of entity in the file -> as it is written; any other is an error.
        schemes: of `../tag_schemes.py`, the usual one first.
    """
    blocks = read_blocks(file, notes)
    head = list(islice(blocks, _SAMPLE))
    dialect = _Dialect(characters, may_be_glued)
    _find_out(dialect, [lines for _, lines in head], schemes)
    notes[f"files with tags in {dialect.scheme.upper()}" if dialect.width > 1 else "files without tags"] += bool(head)
    notes["files with a digit glued to each character"] += dialect.glued
    yield from converted(chain(head, blocks), lambda _, lines: _parse(lines, dialect, types, notes))


def read_blocks(file: str, notes: Counter[str]) -> Iterator[tuple[str, Block]]:
    """Cut at blank lines and at -DOCSTART- lines. Yields (where of the first line, lines)."""
    block: Block = []
    for where, line in read_lines(file, notes):
        start_of_document = isinstance(line, str) and line.split()[:1] == ["-DOCSTART-"]
        notes["-DOCSTART- lines"] += start_of_document
        if isinstance(line, DataError) or (line.strip() and not start_of_document):
            block.append((where, line))
        elif block:
            yield block[0][0], block
            block = []
        if len(block) > _MAX_WORDS:
            raise DataError(block[0][0], f"more than {_MAX_WORDS:,} lines without a blank one, which ends a sentence")
    if block:
        yield block[0][0], block


def _find_out(dialect: _Dialect, blocks: Sequence[Block], schemes: Sequence[str]) -> None:
    split = [[_columns(line, dialect) for _, line in block if isinstance(line, str)] for block in blocks]
    words = list(chain.from_iterable(split))
    widths = Counter(len(columns) for columns in words)
    dialect.width = max(widths, key=lambda n: (widths[n], n), default=0)
    tags = [[plain_label("", columns[-1], Counter()) for columns in block] for block in split]
    dialect.scheme = fewest_illegal(tags, schemes)
    with_digit = sum(bool(_GLUED.fullmatch(columns[0])) for columns in words)
    dialect.glued = dialect.may_be_glued and 2 * with_digit > len(words)


def _columns(line: str, dialect: _Dialect) -> list[str]:
    """The columns of a line; one of characters may begin with a blank that is the word."""
    blank_word = _WORD_OF_BLANKS.fullmatch(line) if dialect.characters else None
    if blank_word:
        return [blank_word[1], blank_word[2]]
    # Not str.split(): it would also cut at U+3000, the wide blank, a word of its own in Chinese data.
    return re.split("[ \t]+", line.strip(" \t"))


def _parse(block: Block, dialect: _Dialect, types: Mapping[str, str], notes: Counter[str]) -> dict[str, list[str]]:
    tokens, tags = [], []
    for place, line in block:
        if isinstance(line, DataError):
            raise line
        columns = _columns(line, dialect)
        if len(columns) != dialect.width:
            raise DataError(place, f"{len(columns)} columns in {line!r}, but {dialect.width} in the others of the file")
        token = _token(place, columns[0], dialect, notes)
        notes["words of several characters"] += dialect.characters and len(token) > 1
        tokens.append(token)
        tags.append(columns[-1])
    if dialect.width == 1:
        return {"tokens": tokens}
    return {"tokens": tokens, "tags": iob2_tags([place for place, _ in block], tags, types, dialect.scheme, notes)}


def _token(where: str, token: str, dialect: _Dialect, notes: Counter[str]) -> str:
    if token.strip(BOM) != token and token.strip(BOM):
        token = token.strip(BOM)
        notes["byte order marks"] += 1
    glued = _GLUED.fullmatch(token)
    if dialect.glued and glued:
        return glued[1]
    if dialect.glued or (dialect.may_be_glued and glued):
        message = f"{token!r} {'has no' if dialect.glued else 'has a'} digit behind its character, unlike the others"
        raise DataError(where, message, "tokens")
    return token
