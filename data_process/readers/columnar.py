"""Arrow data: `.parquet` files, folders written by `Dataset.save_to_disk`, data sets of the Hugging Face Hub.

`pyarrow` and `datasets` are imported by the reader that needs them, so that text files are read without them.

Copy: with lines.py, ../errors.py; needs datasets, pyarrow.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..errors import DataError, caught
from .lines import Items

HUB = "hub:"

_ROWS_AT_A_TIME = 1000


def read_parquet(source: str) -> Items:
    """Yield the rows; memory holds one row group at most."""
    import pyarrow.parquet

    with (
        _as_data_error(source, "not a readable Parquet file"),
        pyarrow.parquet.ParquetFile(source, pre_buffer=False) as file,  # True would keep every row group
    ):
        names = file.schema_arrow.names
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise DataError(source, "two columns of this name; rename one", field=twice[0])
        features = None
        if b"huggingface" in (file.schema_arrow.metadata or {}):  # written by datasets: has the class names
            from datasets import Features

            features = Features.from_arrow_schema(file.schema_arrow)
        batches = file.iter_batches(batch_size=_ROWS_AT_A_TIME)
        yield from _numbered(source, (row for batch in batches for row in batch.to_pylist()), features)


def read_arrow_folder(source: str) -> Items:
    """Yield the rows of a folder written by `Dataset.save_to_disk`; the files are memory-mapped."""
    if not any(Path(source).glob("*.arrow")):  # datasets saves an empty data set so, and cannot load it
        raise DataError(source, "no records in it, no .arrow file; save some rows, or copy the folder again")
    from datasets import load_from_disk

    with _as_data_error(source, "not a readable folder of Dataset.save_to_disk"):
        dataset = load_from_disk(source)
        tables = dataset.with_format("arrow").iter(_ROWS_AT_A_TIME)
        yield from _numbered(source, (row for table in tables for row in table.to_pylist()), dataset.features)


def read_hub(source: str) -> Items:
    """Stream "hub:NAME?name=CONFIG&split=SPLIT"; the part from "?" on may be left out (split: "train")."""
    name, _, query = source.removeprefix(HUB).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not name or not set(options) <= {"name", "split"}:
        raise DataError(source, "expected hub:NAME?name=CONFIG&split=SPLIT (name and split may be left out)")
    from datasets import load_dataset

    with _as_data_error(source, "cannot be loaded (no such name, configuration or split, or no network?)"):
        dataset = load_dataset(name, options.get("name"), split=options.get("split", "train"), streaming=True)
        yield from _numbered(source, dataset, dataset.features)


@contextmanager
def _as_data_error(source: str, problem: str) -> Iterator[None]:
    """Name the source in whatever a library raises: a dozen kinds of error, others in each version."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(source, f"{problem}: {type(error).__name__}: {reason}") from error


def _numbered(source: str, rows: Iterable[dict[str, Any]], features: Any) -> Items:
    """Add where, and turn class numbers into class names. `features`: a `datasets.Features` or None."""
    named = {} if features is None else {name: _class_namer(feature) for name, feature in features.items()}
    for number, row in enumerate(rows, start=1):
        where = f"{source}:row {number}"
        yield where, caught(_name_classes, row, named, where)


def _name_classes(row: dict[str, Any], named: dict[str, Any], where: str) -> dict[str, Any]:
    for name, to_names in named.items():
        try:
            row[name] = row[name] if to_names is None else to_names(row[name])
        except ValueError as error:
            raise DataError(where, str(error), field=name) from None
    return row


def _class_namer(feature: Any) -> Callable[[Any], Any] | None:
    """Return a function that names the class numbers in a value of `feature`; None if it has none."""
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel):
        # -1 is the Hub's "no label", used in test splits.
        return lambda number: None if number is None or number == -1 else feature.int2str(number)
    if isinstance(feature, (List, LargeList)):
        inner = _class_namer(feature.feature)
        return inner and (lambda items: None if items is None else [inner(item) for item in items])
    if isinstance(feature, dict):
        inners = {name: namer for name, part in feature.items() if (namer := _class_namer(part))}
        if inners:
            return lambda part: part and part | {name: namer(part[name]) for name, namer in inners.items()}
    return None
