"""Tables of any dialect -> rows with named fields: which separator, and whether there is a header, is found out.

    FIELDS = {"text": ("sentence", "text_a"), "label": ("label",)}      # field -> names in headers
    LAYOUTS = (("text", "label"),)                                      # columns of files without a header
    for where, row in read_table("dev.csv", FIELDS, LAYOUTS, notes):
        print(row)                                                      # {"text": "...", "label": "1"}

The name of a file says nothing here: many a `.csv` is separated by tabs. Between tabs and other separators a quote is a
character like any other; only values between commas may be quoted. Every row must have the width of its file. The
separator is the one by which most of the first rows have a possible width.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from ..errors import DataError
from ..readers.lines import Items
from ._raw_lines import BOM, read_lines
from ._values import skip_blank

Fields = Mapping[str, Sequence[str]]
Layouts = Sequence[Sequence[str]]
Row = tuple[str, list[str] | DataError]

REST = "..."  # as the last column of a layout: any number of columns that are not read
TAB, COMMA = "\t", ","

_TEXTS = {"text", "text_a", "text_b", "source"}
_SAMPLE = 100
_MAX_FIELD_CHARS = 16 * 2**20


@dataclass
class _Dialect:
    separator: str
    columns: Sequence[str]
    """field of each column, "" for those that are not read"""
    has_header: bool
    fitting: int
    """how many rows of the sample have its width"""


def read_table(
    file: str, fields: Fields, layouts: Layouts, notes: Counter[str], separators: Sequence[str] = (TAB, COMMA)
) -> Items:
    """Yield (where, {field: value}) per row; a value is the string that it is.

    Args:
        fields: field -> names that a header may give it. A header is recognised by the fields of all texts: text,
            text_a, text_b, source.
        layouts: the columns of files without header, each of another width; fields that are not in `fields` are
            left out.

    Raises: DataError if no separator gives rows of a possible width, or for a quote that is not closed.
    """
    lines = read_lines(file, notes)
    head = list(islice(lines, _SAMPLE))
    sample = [line for _, line in head if isinstance(line, str)]
    if head and isinstance(head[0][1], DataError):
        raise head[0][1]  # it may be the header, without which no column has a name
    if not any(line.strip() for line in sample):
        return
    dialect = max((d for s in separators for d in _dialects(sample, s, fields, layouts)), key=_rank, default=None)
    if dialect is None:
        expected = " or ".join(", ".join(layout) for layout in layouts)
        raise DataError(head[0][0], f"no known columns; expected {expected}, or a header that names them")
    notes[f"files separated by {dialect.separator!r}, {'with' if dialect.has_header else 'without'} a header"] += 1
    rows = _rows(chain(head, lines), dialect.separator, notes)
    for where, row in islice(rows, int(dialect.has_header), None):
        if isinstance(row, DataError):
            yield where, row
        elif not _fits(dialect.columns, len(row)):
            expected = ", ".join(column or "-" for column in dialect.columns)
            message = f"{len(row)} columns, expected {len(dialect.columns)} ({expected})"
            yield where, DataError(where, f"{message} between {dialect.separator!r}")
        else:
            named = zip(dialect.columns, row, strict=False)
            yield where, {column: value for column, value in named if column in fields}


def _rank(dialect: _Dialect) -> tuple[bool, int]:
    return dialect.has_header, dialect.fitting


def _dialects(sample: Sequence[str], separator: str, fields: Fields, layouts: Layouts) -> Iterator[_Dialect]:
    """What the sample could be, if this is the separator."""
    numbered = ((str(number), line) for number, line in enumerate(sample))
    rows = [row for _, row in _rows(numbered, separator, Counter(), strict=False) if isinstance(row, list)]
    columns = [_field_of(cell, fields) for cell in rows[0]] if rows else []
    if (_TEXTS & set(fields)) <= set(columns) and all(columns.count(field) < 2 for field in fields):
        yield _Dialect(separator, columns, True, sum(len(row) == len(columns) for row in rows))
    for layout in layouts:
        fitting = sum(_fits(layout, len(row)) for row in rows)
        if fitting:
            yield _Dialect(separator, layout, False, fitting)


def _field_of(name: str, fields: Fields) -> str:
    plain = name.strip().strip(BOM).lower()
    return next((field for field, known in fields.items() if plain in known), "")


def _fits(columns: Sequence[str], width: int) -> bool:
    return width >= len(columns) - 1 if columns[-1:] == (REST,) else width == len(columns)


def _rows(
    lines: Iterable[tuple[str, str | DataError]], separator: str, notes: Counter[str], strict: bool = True
) -> Iterator[Row]:
    if separator == COMMA:
        yield from _comma_rows(lines, notes, strict)
    else:
        for where, line in skip_blank(lines, notes):
            yield where, line.split(separator) if isinstance(line, str) else line


def _comma_rows(
    lines: Iterable[tuple[str, str | DataError]], notes: Counter[str], strict: bool
) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARS))  # one limit per process: only raised
    start: str = ""
    wrong: DataError | None = None

    def texts() -> Iterator[str]:
        nonlocal start, wrong
        for where, line in lines:
            start = start or where
            wrong = wrong or (line if isinstance(line, DataError) else None)
            yield "" if isinstance(line, DataError) else line + "\n"

    reader = csv.reader(texts(), strict=strict)
    while True:
        start, wrong = "", None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            message = f'a quoted value of the row that starts here is not closed ({error}); write inner quotes as ""'
            raise DataError(start, message) from None
        blank = wrong is None and not any(value.strip() for value in row) and len(row) < 2
        notes["blank lines"] += blank
        if not blank:
            yield start, wrong or row
