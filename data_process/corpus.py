"""Raw texts for pretraining and tokenizers: files, globs and folders, read one text after the other in constant memory.

    files = find_files(["data/books/*.txt", "data/news.jsonl.gz", "data/web"])
    for where, text in read_texts(files, column="text"): ...

What each format is, is said in readers/; a text of white space only is left out.

Copy: with readers/, errors.py; needs only Python; can use datasets, pyarrow.
"""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import DataError
from .readers import is_source, read_records


def find_files(patterns: Sequence[str]) -> list[str]:
    """Sources for `read_texts`: globs and folders become the files in them that can be read, in order of their names.

    A folder written by Dataset.save_to_disk and hub:NAME are sources themselves.

    Raises: DataError for a pattern that matches nothing.
    """
    found: list[str] = []
    for pattern in patterns:
        folder = Path(pattern)
        if is_source(pattern) or (folder.exists() and not folder.is_dir()):  # the second: let the reader refuse it
            matches = [pattern]
        else:
            inner = str(folder / "**") if folder.is_dir() else pattern
            matches = sorted(name for name in glob.glob(inner, recursive=True) if is_source(name))
        if not matches:
            raise DataError("arguments", f"{pattern} matches no file that can be read", "corpus")
        found += [name for name in matches if name not in found]
    return found


def read_texts(files: Sequence[str], column: str = "text") -> Iterator[tuple[str, str]]:
    """(where, text) of every record, in the order of the files. Raises DataError for one without a string there."""
    for where, values in read_columns(files, [column]):
        yield where, values[0]


def read_columns(files: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The same for several columns, such as both texts of a pair; left out if one of them is blank."""
    for file in files:
        for where, record in read_records(file):
            values = [text_of(where, record, column) for column in columns]
            if all(value.strip() for value in values):
                yield where, values


def text_of(where: str, record: dict[str, Any], column: str) -> str:
    text = record.get(column)
    if not isinstance(text, str):
        what = f"must be a text, found {type(text).__name__}" if column in record else (
            f"there is no such column; there are {', '.join(list(record)[:8])}")  # fmt: skip
        raise DataError(where, what, column)
    return text
