"""Where records come from: a file or folder, a hub name, or the embedded sample corpus.

Copy: with readers/, errors.py, sample_data.py; needs only Python; can use datasets, pyarrow.
"""

from collections.abc import Iterator
from typing import Any

from . import sample_data
from .errors import DataError
from .readers import read_items

SAMPLE = "sample:joint"


def open_source(source: str) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
    """`(where, record)` of every record; `where` is what an error message names.

    A record that cannot be read is the DataError that says why. Raises DataError for the file as a whole.
    """
    if source == SAMPLE:
        return ((f"{SAMPLE}:{number}", record) for number, record in enumerate(sample_data.generate(), 1))
    return read_items(source)


def origin(source: str) -> str:
    """The file or folder whose content decides the records: of the sample corpus, the code that speaks it."""
    return sample_data.__file__ if source == SAMPLE else source
