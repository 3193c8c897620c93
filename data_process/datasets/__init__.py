"""Converters of public corpora, one file per corpus; the file name is the option, nothing is registered.

A corpus's file has these members; its docstring says what the corpus is, who made it, under which licence, and which
raw files are expected (`python -m data_process --dataset NAME` prints it):

    FORM                the form of its records, see `_record_forms.py`
    FILES               glob patterns of the names of its raw files, without .gz or .bz2
    read(file, notes)   yield (where, record) for the records of a raw file, in constant memory for formats of lines;
                        `where` is "file:line". A wrong record comes as the DataError that says why; what is wrong with
                        the file as a whole is raised. notes[what] counts the dialects met, which are printed
    BESIDE              optional: names of files that `read` opens beside its own
    find(paths)         optional, instead of FILES: {"train": [files], ...}; see `_raw_files.py`

Dialect is accepted and counted; where the meaning is unclear nothing is guessed. Files that start with `_` are formats
that several corpora share.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

from ..errors import DataError


def names() -> list[str]:
    """The known corpora."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def load(name: str) -> Any:
    """The module of a corpus. Raises DataError that names the known ones."""
    if name not in names():
        raise DataError("arguments", f"unknown name {name!r}; known: {', '.join(names())}", "dataset")
    return importlib.import_module(f"{__name__}.{name}")


def title(name: str) -> str:
    """The first line about a corpus."""
    return (inspect.getdoc(load(name)) or "").partition("\n")[0]
