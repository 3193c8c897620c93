"""Values of a raw record: texts, labels and numbers, cleaned of what cannot be meant and checked for the rest.

    known_label("dev.tsv:3", "１", {"0": "negative", "1": "positive"}, notes)       # "positive", and a note

What was cleaned is counted in `notes`; what is unclear is a DataError.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..errors import DataError, caught
from ..readers.lines import Items

_INVISIBLE = "\u200b\u2060\ufeff"
_EDGES = re.compile(rf"^[\s{_INVISIBLE}]+|[\s{_INVISIBLE}]+$")
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_ZERO_WIDTH = re.compile(rf"[{_INVISIBLE}\u200c-\u200f]+")


def converted(items: Iterable[tuple[str, Any]], convert: Callable[[str, Any], Any]) -> Items:
    """Yield (where, convert(where, value)); errors, of the reader before or of `convert`, take the record's place."""
    for where, value in items:
        yield where, value if isinstance(value, DataError) else caught(convert, where, value)


def clean_text(where: str, value: Any, notes: Counter[str], field: str) -> str:
    """The text without blanks, byte order marks and zero-width characters at its edges.

    Raises: DataError if it is no string. An empty text is found by the check of record forms.
    """
    if not isinstance(value, str):
        raise DataError(where, f"must be a string, found {shown(value)}", field)
    text = _EDGES.sub("", value)
    notes["values with blanks or invisible characters at their edges"] += text != value
    return text


def known_label(
    where: str, value: Any, labels: Mapping[str, str], notes: Counter[str], field: str = "label"
) -> str:
    """What `labels` maps the raw label to. Raises DataError for any other label."""
    name = plain_label(where, value, notes, field)
    if name not in labels:
        raise DataError(where, f"unknown label {name!r}; known: {', '.join(labels)}", field)
    return labels[name]


def plain_label(where: str, value: Any, notes: Counter[str], field: str = "label") -> str:
    """A label as a string without full-width forms, blanks around it and zero-width characters."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(where, f"must be a label, found {shown(value)}", field)
    name = _ZERO_WIDTH.sub("", unicodedata.normalize("NFKC", str(value))).strip()
    notes["labels with full-width, invisible or blank characters"] += name != str(value)
    return name


def number_in(where: str, value: Any, low: float, high: float, notes: Counter[str], field: str = "label") -> float:
    """A number from `low` to `high`. Raises DataError."""
    digits = repr(value) if isinstance(value, float) else plain_label(where, value, notes, field)
    number = float(digits) if _NUMBER.fullmatch(digits) else math.nan
    if not low <= number <= high:
        raise DataError(where, f"must be a number from {low:g} to {high:g}, found {shown(value)}", field)
    return number


def need(where: str, value: Any, kind: type, field: str) -> Any:
    """The value, if it is of this type. Raises DataError."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = {dict: "an object", list: "an array", str: "a string", int: "a whole number", bool: "true or false"}
        raise DataError(where, f"must be {expected[kind]}, found {shown(value)}", field)
    return value


def shown(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def skip_blank(lines: Iterable[tuple[str, str | DataError]], notes: Counter[str]) -> Iterator[tuple[str, Any]]:
    """The lines that hold more than white space."""
    for where, line in lines:
        blank = isinstance(line, str) and not line.strip()
        notes["blank lines"] += blank
        if not blank:
            yield where, line
