"""Strict readers: any supported file -> (where, record), one at a time, in constant memory.

    for where, record in read_records("train.jsonl"):
        print(where, record)    # train.jsonl:1 {'text': 'play yesterday', 'intent': 'PlayMusic'}

Our own, because the libraries' readers turn "NA" into None, accept ragged rows and stop without a line.
Tolerant about dialect (byte order marks, CRLF, no final newline), strict about meaning: nothing is repaired,
skipped or guessed. `read_items` goes on behind a wrong record and gives the error in its place, so that whoever
wants to can leave it out; what is wrong with the file as a whole ends both.

Copy: with columnar.py, conll.py, jsonl.py, lines.py, table.py, ../errors.py; needs only Python; can use datasets,
pyarrow.
"""

from collections.abc import Callable
from pathlib import Path

from ..errors import DataError
from .columnar import HUB, read_arrow_folder, read_hub, read_parquet
from .conll import read_conll
from .jsonl import parse_jsonl_line, read_json, read_jsonl
from .lines import Items, Records, parse_text_line, read_text
from .table import read_csv, read_tsv

__all__ = ["is_source", "parse_jsonl_line", "parse_text_line", "read_items", "read_records"]

_Reader = Callable[[str], Items]

_JSONL = (read_jsonl, "one JSON object per line")
_CONLL = (read_conll, "a `word tag` line per word and a blank line after each sentence")
_FORMATS: dict[str, tuple[_Reader, str]] = {  # suffix -> reader, what the file should hold
    ".jsonl": _JSONL,
    ".ndjson": _JSONL,
    ".json": (read_json, "one JSON object per line, or one array of objects"),
    ".csv": (read_csv, "a header line, then one row per record"),
    ".tsv": (read_tsv, "a header line, then one row per record"),
    ".conll": _CONLL,
    ".bio": _CONLL,
    ".iob": _CONLL,
    ".txt": (read_text, "one text per line"),
    ".parquet": (read_parquet, "at least one row"),
}
_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib"}


def read_records(source: str) -> Records:
    """Yield (where, record) for every record of `source`, lazily.

    Args:
        source: a file, whose suffix names the format (.jsonl .ndjson .json .csv .tsv .conll .bio .iob .txt,
            also with .gz, and .parquet), a folder written by `Dataset.save_to_disk`, or
            "hub:NAME?name=CONFIG&split=SPLIT".

    Yields:
        where: "path:line" (of the record's first line), "path:item N" for a JSON array, "path:row N" for
            Arrow data, all counted from 1.
        record: one value per column.

    Raises:
        DataError: at once for a wrong path; while iterating for wrong contents or no contents.
    """
    return _without_errors(read_items(source))


def read_items(source: str) -> Items:
    """As `read_records`, but a record that cannot be read comes as the DataError that says why."""
    reader, expected = _find_reader(source)
    return _at_least_one(source, reader(source), expected)


def is_source(source: str) -> bool:
    """Whether there is such a file, or folder, of a known format; a hub name is not looked up."""
    try:
        _find_reader(source)
    except DataError:
        return False
    return True


def _without_errors(items: Items) -> Records:
    for where, record in items:
        if isinstance(record, DataError):
            raise record
        yield where, record


def _at_least_one(source: str, items: Items, expected: str) -> Items:
    first = next(items, None)
    if first is None:
        raise DataError(source, f"no records in it; expected {expected}")
    yield first
    yield from items


def _find_reader(source: str) -> tuple[_Reader, str]:
    path = Path(source)
    suffixes = [suffix.lower() for suffix in path.suffixes] or [""]
    zipped = suffixes[-1] == ".gz"
    suffix = suffixes[-2] if zipped and len(suffixes) > 1 else suffixes[-1]
    if source.startswith(HUB):
        return read_hub, "at least one row"
    if path.is_dir():
        return _find_folder_reader(path)
    if suffix in _PICKLES:
        raise DataError(source, "pickles are never opened, they can run any code; save the data as .jsonl")
    if suffix not in _FORMATS or (zipped and suffix == ".parquet"):
        known = f"known suffixes: {' '.join(_FORMATS)}, all but .parquet also with .gz"
        raise DataError(source, f"unknown suffix{'' if path.exists() else ' (and no such file)'}; {known}")
    if not path.exists():
        raise DataError(source, f"no such file; {_neighbours(path.parent)}")
    return _FORMATS[suffix]


def _find_folder_reader(path: Path) -> tuple[_Reader, str]:
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return read_arrow_folder, "at least one row"
    if (path / "dataset_dict.json").is_file():
        raise DataError(str(path), f"this folder holds several splits, name one; {_neighbours(path)}")
    right = "expected a file, or a folder written by Dataset.save_to_disk"
    raise DataError(str(path), f"this is a folder; {right}; {_neighbours(path)}")


def _neighbours(folder: Path) -> str:
    if not folder.is_dir():
        return f"the folder {folder} does not exist either"
    names = sorted(entry.name for entry in folder.iterdir())
    return f"{folder} holds {', '.join(names[:8]) or 'nothing'}{', ...' if names[8:] else ''}"
