"""Where records come from: a file or folder, a hub name, or the embedded sample corpus."""

from collections.abc import Iterator
from typing import Any

from .readers import read_records
from .sample_data import generate

SAMPLE = "sample:joint"


def open_source(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """`(where, record)` of every record; `where` is what an error message names. Raises DataError."""
    if source == SAMPLE:
        return ((f"{SAMPLE}:{number}", record) for number, record in enumerate(generate(), 1))
    return read_records(source)
