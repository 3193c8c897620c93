"""Tables: `.csv` and `.tsv`, a header line and then one row per record.

Values stay the strings they are ("NA", "null" and "" too); a row of another width than the header is refused.
"""

import csv
from collections.abc import Iterator

from ..errors import DataError
from .lines import Records, decode_line, raw_lines, text_lines

# The csv module stops at 128 KiB per field, less than a long document; without a limit one lost quote would
# read the rest of the file into memory.
_MAX_FIELD_CHARS = 16 * 2**20

_Rows = Iterator[tuple[int, list[str]]]  # (line where the row starts, fields)


def read_csv(source: str) -> Records:
    """Yield the rows of a comma-separated file; quoted values may hold commas, line ends, doubled quotes."""
    return _records(source, _csv_rows(source), 'put a value that holds a comma or a line end in "quotes"')


def read_tsv(source: str) -> Records:
    """Yield the rows of a tab-separated file; there is no quoting, a quote is an ordinary character."""
    rows = ((number, line.split("\t")) for number, line in text_lines(source) if line)
    return _records(source, rows, "a value holds no tab and no line end")


def _records(source: str, rows: _Rows, hint: str) -> Records:
    """Check the header and the width of every row, and pair them."""
    start, header = next(rows, (0, []))
    for name in header:
        if not name.strip():
            message = f"column {header.index(name) + 1} of the header has no name"
            raise DataError(f"{source}:{start}", message)
        if header.count(name) > 1:
            raise DataError(f"{source}:{start}", f"the header names the column {name!r} twice; rename one")
    for start, row in rows:
        if len(row) != len(header):
            columns = f"{len(header)} columns ({', '.join(header)})"
            raise DataError(f"{source}:{start}", f"expected {columns}, found {len(row)}; {hint}")
        yield f"{source}:{start}", dict(zip(header, row, strict=True))


def _csv_rows(source: str) -> _Rows:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARS))  # one limit per process: only raised
    lines = (decode_line(line, f"{source}:{number}") for number, line in raw_lines(source))
    reader = csv.reader(lines, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{source}:{start}", _explain(str(error))) from None
        if row:  # a blank line; a single empty value is written ""
            yield start, row


def _explain(problem: str) -> str:
    if problem.startswith("new-line character"):
        return "a carriage return outside quotes; quote the value, or convert old Mac line ends to \\n"
    return f'a quoted value of the row that starts here is not closed ({problem}); write inner quotes as ""'
