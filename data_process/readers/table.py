"""Tables: `.csv` and `.tsv`, a header line and then one row per record.

Values stay the strings they are ("NA", "null", "007" and "" too); a row of another width than the header is refused.
The suffix says how columns are separated; a file that does it otherwise is refused, not guessed at. What is wrong with
the header or with quotes concerns the whole file: behind a lost quote nobody knows where a row begins.

Copy: with lines.py, ../errors.py; needs only Python.
"""

import csv
from collections.abc import Iterator

from ..errors import DataError, caught
from .lines import Items, decode_line, plain_line, raw_lines

# The csv module stops at 128 KiB per field, less than a long document; without a limit one lost quote would
# read the rest of the file into memory.
_MAX_FIELD_CHARS = 16 * 2**20

_Rows = Iterator[tuple[int, list[str] | DataError]]  # (line where the row starts, fields or why they cannot be read)


def read_csv(source: str) -> Items:
    """Yield the rows of a comma-separated file; quoted values may hold commas, line ends, doubled quotes."""
    return _records(source, _csv_rows(source), 'put a value that holds a comma or a line end in "quotes"', "\t;")


def read_tsv(source: str) -> Items:
    """Yield the rows of a tab-separated file; there is no quoting, a quote is an ordinary character."""
    return _records(source, _tsv_rows(source), "a value holds no tab and no line end", ",;")


def _records(source: str, rows: _Rows, hint: str, other_separators: str) -> Items:
    """Check the header and the width of every row, and pair them."""
    start, header = next(rows, (0, []))
    if isinstance(header, DataError):
        raise header
    _check_header(header, f"{source}:{start}", other_separators)
    for start, row in rows:
        where = f"{source}:{start}"
        if isinstance(row, DataError):
            yield where, row
        elif len(row) != len(header):
            columns = f"{len(header)} columns ({', '.join(header)})"
            yield where, DataError(where, f"expected {columns}, found {len(row)}; {hint}")
        else:
            yield where, dict(zip(header, row, strict=True))


def _check_header(header: list[str], where: str, other_separators: str) -> None:
    for name in header:
        if not name.strip():
            message = f"column {header.index(name) + 1} of the header has no name"
            raise DataError(where, message)
        if header.count(name) > 1:
            raise DataError(where, f"the header names the column {name!r} twice; rename one")
    right = {"\t": "name the file .tsv", ",": "name the file .csv", ";": "use commas"}
    for separator in other_separators:
        if len(header) == 1 and separator in header[0]:
            message = f"the header is one column, {header[0][:80]!r}; if {separator!r} separates the columns"
            raise DataError(where, f"{message}, {right[separator]}")


def _tsv_rows(source: str) -> _Rows:
    for number, line in raw_lines(source):
        text = caught(plain_line, line, f"{source}:{number}")
        if isinstance(text, DataError):
            yield number, text
        elif text:
            yield number, text.split("\t")


def _csv_rows(source: str) -> _Rows:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARS))  # one limit per process: only raised
    wrong: list[DataError] = []  # lines of the row at hand that are no text

    def decoded() -> Iterator[str]:
        for number, line in raw_lines(source):
            text = caught(decode_line, line, f"{source}:{number}")
            if isinstance(text, DataError):
                wrong.append(text)
            yield line.decode("utf-8", "replace") if isinstance(text, DataError) else text

    reader = csv.reader(decoded(), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise (wrong or [DataError(f"{source}:{start}", _explain(str(error)))])[0] from None
        if wrong:
            yield start, wrong[0]
            wrong.clear()
        elif row:  # a blank line; a single empty value is written ""
            yield start, row


def _explain(problem: str) -> str:
    if problem.startswith("new-line character"):
        return "a carriage return outside quotes; quote the value, or convert old Mac line ends to \\n"
    return f'a quoted value of the row that starts here is not closed ({problem}); write inner quotes as ""'
