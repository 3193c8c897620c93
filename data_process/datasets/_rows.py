"""Records with named fields, from JSON (one object per line, or one array of them) or from a table of any dialect.

    for where, row in read_rows("train.json", {"text": ("sentence",), "label": ("label",)}, LAYOUTS, notes):
        print(row)      # {"text": "...", "label": "102"}
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from ..readers import parse_jsonl_line
from ..readers.lines import Items
from ._json_documents import read_document, where_of
from ._raw_lines import first_line, read_lines
from ._tables import COMMA, TAB, Fields, Layouts, read_table
from ._values import converted, skip_blank


def read_rows(
    file: str, fields: Fields, layouts: Layouts, notes: Counter[str], separators: Sequence[str] = (TAB, COMMA)
) -> Items:
    """Yield (where, {field: value}); a value of a table is a string, of JSON whatever it is.

    Args: as of `read_table`; names of `fields` are those of JSON keys, too.
    """
    if not is_json(file):
        return read_table(file, fields, layouts, notes, separators)
    return converted(read_objects(file, notes), lambda where, item: _named(where, item, fields))


def is_json(file: str) -> bool:
    """Whether it begins as a JSON object with a key, or an array of them; a text that begins with a bracket is none."""
    return bool(re.match(r'\{\s*("\w+"\s*:|$)|\[\s*(\{\s*"|$)', first_line(file)))


def read_objects(file: str, notes: Counter[str]) -> Items:
    """Yield (where, object) for each line, or each item of an array."""
    if not first_line(file).startswith("["):
        lines = skip_blank(read_lines(file, notes), notes)
        yield from converted(lines, lambda where, line: parse_jsonl_line(line.encode(), where))
        return
    for number, item in enumerate(read_document(file, notes), 1):
        if isinstance(item, dict):
            yield where_of(item), item
        else:
            yield file, DataError(file, f"item {number} of the array must be an object")


def _named(where: str, item: dict[str, Any], fields: Fields) -> dict[str, Any]:
    row = {}
    for field, known in fields.items():
        given = [name for name in known if name in item]
        if len(given) > 1:
            raise DataError(where, f"both {given[0]!r} and {given[1]!r} are there; keep one of them", field)
        if given:
            row[field] = item[given[0]]
    return row
