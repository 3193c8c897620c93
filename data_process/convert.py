"""Raw files of a public corpus -> checked records, one JSON Lines file per part; all of them or none.

    for part in convert("atec", [Path("raw")], Path("data/atec")):
        print(part.path, part.num_records, len(part.mistakes), part.notes)

What the corpora are and how another one is added: `datasets/__init__.py`. Files appear under their names when all
parts are complete.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .datasets import load
from .datasets._raw_files import Parts
from .datasets._raw_files import find as find_parts
from .datasets._record_forms import check_form
from .errors import DataError

LISTED = 10  # mistakes of a part that are kept


@dataclass
class Part:
    """What became of the files of a part."""

    path: Path
    """the JSON Lines file"""
    sources: list[Path]
    num_records: int = 0
    """those in the raw files, wrong ones included"""
    num_written: int = 0
    num_skipped: int = 0
    mistakes: list[DataError] = field(default_factory=list)
    """why the first of them were skipped"""
    notes: Counter[str] = field(default_factory=Counter)
    """dialects met, and how often"""


def convert(
    name: str,
    raw: Sequence[Path],
    out: Path,
    on_bad_record: Literal["error", "skip"] = "error",
    overwrite: bool = False,
) -> tuple[list[Part], list[Path]]:
    """Write `out`/<part>.jsonl for every part of the corpus; nothing if any of it fails.

    Args:
        name: of a file in datasets/.
        raw: one folder, or files.
        on_bad_record: "error" raises the first mistake, "skip" leaves wrong records out and counts them.
        overwrite: whether files that are there are replaced.

    Returns: the parts, and the files of the folder that were not read.
    Raises: DataError for an unknown name, wrong paths, files already there, wrong records, or a part without good ones.
    """
    module = load(name)
    parts, unread = find_files(module, raw)
    targets = {part: out / f"{part}.jsonl" for part in parts}
    check_targets(targets.values(), [path for files in parts.values() for path in files], overwrite)
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=out))
    try:
        done = [
            write_part(module, files, targets[part], unfinished / f"{part}.jsonl", on_bad_record)
            for part, files in parts.items()
        ]
        for part, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            (unfinished / f"{part}.jsonl").replace(target)
    finally:
        shutil.rmtree(unfinished)
        if is_new and not any(out.iterdir()):
            out.rmdir()
    return done, unread


def find_files(module: Any, raw: Sequence[Path]) -> tuple[Parts, list[Path]]:
    for path in raw:
        if not path.exists():
            raise DataError(str(path), "no such file or folder")
    if len(raw) > 1 and any(path.is_dir() for path in raw):
        raise DataError("arguments", "give one folder, or files", "raw")
    parts, unread = module.find(raw) if hasattr(module, "find") else find_parts(raw, module.FILES)
    return parts, [path for path in unread if path.name not in getattr(module, "BESIDE", ())]


def check_targets(targets: Iterable[Path], sources: Sequence[Path], overwrite: bool) -> None:
    inputs = {path.resolve() for path in sources}
    for target in targets:
        if target.resolve() in inputs:
            raise DataError(str(target), "is a raw file itself; choose another --out")
        if target.exists() and not overwrite:
            raise DataError(str(target), "is already there; choose another --out, or give --overwrite")


def write_part(
    module: Any, files: Sequence[Path], target: Path, unfinished: Path, on_bad_record: Literal["error", "skip"]
) -> Part:
    part = Part(target, list(files))
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    with open(unfinished, "wb") as file:
        for line in checked_lines(module, part, on_bad_record):
            file.write(line)
            part.num_written += 1
        file.flush()
        os.fsync(file.fileno())
    if not part.num_records:
        raise DataError(", ".join(map(str, files[:3])), "no records in it")
    if not part.num_written:
        message = f"none of its {part.num_records} records can be used; the first: {part.mistakes[0]}"
        raise DataError(str(files[0]), message)
    return part


def checked_lines(module: Any, part: Part, on_bad_record: str) -> Iterator[bytes]:
    """A JSON line per good record; wrong ones are raised, or counted in `part`."""
    columns: set[str] = set()
    for file in part.sources:
        for where, record in module.read(str(file), part.notes):
            part.num_records += 1
            try:
                line = as_line(where, record, module.FORM, columns)
            except DataError as error:
                if on_bad_record == "error":
                    raise
                part.num_skipped += 1
                part.mistakes = [*part.mistakes, error][:LISTED]
            else:
                columns = columns or set(record)
                yield line


def as_line(where: str, record: dict[str, Any] | DataError, form: str, columns: set[str]) -> bytes:
    """Raises DataError for a wrong record.

    Args:
        columns: of the records before; empty if this is the first one.
    """
    if isinstance(record, DataError):
        raise record
    check_form(where, record, form)
    if columns and set(record) != columns:
        different = sorted(columns ^ set(record))[0]
        state = "is missing here, but is" if different in columns else "is here, but is not"
        raise DataError(where, f"{state} in the records before", different)
    try:
        return (json.dumps(record, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        raise DataError(where, "half a surrogate pair (an emoji cut in two?); it is no character") from None
