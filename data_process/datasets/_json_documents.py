"""One JSON document per file, whose objects know the line where they begin.

    for question in read_document("train-v2.0.json", notes)["data"][0]["paragraphs"][0]["qas"]:
        print(where_of(question))       # train-v2.0.json:17

As strict as `../readers/jsonl.py`: a key twice or NaN is an error. The file is read whole.
"""

import json
import json.decoder
import json.scanner
import re
from bisect import bisect_left
from collections import Counter
from typing import Any

from ..errors import DataError
from ..readers.jsonl import STRICT, decode_json
from ._raw_lines import read_whole


class Located(dict[str, Any]):
    """An object of a document."""

    where: str


def where_of(item: dict[str, Any]) -> str:
    """ "file:line" of an object that `read_document` gave."""
    assert isinstance(item, Located)
    return item.where


def read_document(file: str, notes: Counter[str]) -> Any:
    """The value in a file. Raises DataError if it is not one JSON value."""
    text = read_whole(file, notes).rstrip()
    line_ends = [match.start() for match in re.finditer("\n", text)]

    def locate(position: int) -> str:
        return f"{file}:{bisect_left(line_ends, position) + 1}"

    if not text:
        raise DataError(file, "no records in it")
    start = len(text) - len(text.lstrip())
    value, end = decode_json(text, start, locate, _Decoder(locate))
    if end < len(text):
        behind = len(text) - len(text[end:].lstrip())
        raise DataError(locate(behind), "more text after the document; a file holds one JSON value")
    return value


class _Decoder(json.JSONDecoder):
    """Python's own decoder, in its pure-Python form, which can be told to note positions."""

    def __init__(self, locate: Any) -> None:
        super().__init__(**STRICT)

        def parse_object(state: tuple[str, int], *rest: Any) -> tuple[Located, int]:
            value, end = json.decoder.JSONObject(state, *rest)  # type: ignore[attr-defined]
            located = Located(value)
            located.where = locate(state[1])
            return located, end

        self.parse_object = parse_object
        self.scan_once = json.scanner.py_make_scanner(self)  # type: ignore[attr-defined]
