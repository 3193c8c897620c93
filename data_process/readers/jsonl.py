"""JSON records: one object per line (`.jsonl`, `.ndjson`, `.json`), or one top-level array (`.json`).

Stricter than `json.loads`: a key twice, NaN, an infinite number or half a surrogate pair is an error with its
line, because each of them is silently something else a few steps later.

Copy: with lines.py, ../errors.py; needs only Python.
"""

import itertools
import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import DataError, caught
from .lines import Items, decode_line, parsed_lines, raw_lines

MAX_DIGITS = 4300  # Python's own limit

_SPACE = re.compile(r"[ \t\r\n]*")  # white space as JSON defines it
_AFTER_ITEM = re.compile(r"[ \t\r\n]*(?:,[ \t\r\n]*|(\]))")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half a pair, e.g. of an emoji that was cut in two


def read_jsonl(source: str) -> Items:
    """Yield one object per line; blank lines are skipped."""
    return parsed_lines(source, parse_jsonl_line)


def read_json(source: str) -> Items:
    """Yield the objects of one top-level array (read whole), or else one object per line."""
    first = next((line.strip() for _, line in raw_lines(source) if line.strip()), b"")
    return _read_array(source) if first.startswith(b"[") else read_jsonl(source)


def parse_jsonl_line(line: bytes, where: str) -> dict[str, Any] | None:
    """Return the JSON object of one raw line, or None for a blank line.

    Args:
        line: one raw line; a byte order mark before it is dropped.
        where: "path:line" for the message.

    Raises:
        DataError: not UTF-8, not exactly one JSON object, a key twice, NaN or an infinite number.
    """
    text = decode_line(line, where).lstrip("\ufeff").rstrip(" \t\r\n")
    if not text.strip():
        return None
    start = _skip_space(text, 0)
    value, end = decode_json(text, start, lambda position: where)
    record = _as_record(value, text[start:end], where)
    if end < len(text):
        ends = ", convert old Mac line ends to \\n" if text[end] == "\r" else ""
        raise DataError(where, f"more text after the object at column {end + 1}; write one object per line{ends}")
    return record


def _read_array(source: str) -> Items:
    """Decode the items one by one, so that each error knows its line; invalid JSON ends the file."""
    lines = (decode_line(line, f"{source}:{number}") for number, line in raw_lines(source))
    text = "".join(lines).rstrip(" \t\r\n")

    def locate(position: int) -> str:
        return f"{source}:{text.count(chr(10), 0, position) + 1}"

    position = _skip_space(text, _skip_space(text, 0) + 1)  # behind the "["
    if text[position:] == "]":
        return
    for number in itertools.count(1):
        start = position
        value, position = decode_json(text, start, locate)
        yield f"{source}:item {number}", caught(_as_record, value, text[start:position], locate(start))
        after = _AFTER_ITEM.match(text, position)
        if after is None:
            state = "truncated JSON" if position == len(text) else "invalid JSON"
            column = position - text.rfind("\n", 0, position)
            raise DataError(locate(position), f"{state} at column {column}: no , or ] after item {number}")
        position = after.end()
        if after[1]:
            break
    if position < len(text):
        raise DataError(locate(position), "more text after the array; a .json file holds one array")


def decode_json(
    text: str, start: int, locate: Callable[[int], str], decoder: json.JSONDecoder | None = None
) -> tuple[Any, int]:
    """Return the value at `start` and the position behind it; `locate(position)` gives "path:line"."""
    try:
        return (decoder or _DECODER).raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise DataError(locate(error.pos), _explain(error)) from None
    except RecursionError:
        raise DataError(locate(start), "invalid JSON: nested too deeply") from None
    except ValueError as error:  # from the hooks below
        raise DataError(locate(start), str(error)) from None


def _as_record(value: Any, text: str, where: str) -> dict[str, Any]:
    """The value of the JSON `text`, if it is an object without half a surrogate pair."""
    if not isinstance(value, dict):
        kind = "an array" if isinstance(value, list) else json.dumps(value, ensure_ascii=False)[:40]
        raise DataError(where, f'expected a JSON object like {{"text": "..."}}, found {kind}')
    if _SURROGATE.search(text) and not _can_be_utf8(value):
        message = "half a surrogate pair (an emoji cut in two?); it is no character, so remove or complete it"
        raise DataError(where, message)
    return value


def _explain(error: json.JSONDecodeError) -> str:
    """One line with the column; a lost end of the file and a pretty-printed object are the usual causes."""
    truncated = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
    state = "truncated JSON" if truncated else "invalid JSON"
    hint = " (file cut off, or one object over several lines?)" if truncated else ""
    return f"{state} at column {error.colno}: {error.msg}{hint}"


def _can_be_utf8(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None  # the pattern matches the empty string
    return match.end()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:
            raise ValueError(f"duplicate key {json.dumps(key, ensure_ascii=False)}; keep one of them")
        record[key] = value
    return record


def _finite(digits: str) -> float:
    if math.isinf(float(digits)):
        raise ValueError(f"{digits} is too large for a float")
    return float(digits)


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits, at most {MAX_DIGITS} are read; write it in quotes")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write a finite number or null")


STRICT: dict[str, Any] = {"object_pairs_hook": _unique_keys, "parse_float": _finite, "parse_int": _whole,
                          "parse_constant": _no_constant}  # fmt: skip
_DECODER = json.JSONDecoder(**STRICT)
