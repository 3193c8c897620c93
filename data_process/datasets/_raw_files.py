"""Which raw files make which part: told by the names of files, else by those of their folders.

    find([Path("raw")], ("*.tsv",))     # ({"train": [Path("raw/train.tsv")], "dev": [Path("raw/dev.tsv")]}, [])

A part is named train, dev, test or trial; files of which no name says so are the part "all".
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import DataError

Parts = dict[str, list[Path]]

_WORDS = {
    "train": ("train", "training", "trainset", "trn"),
    "dev": ("dev", "devset", "develop", "development", "valid", "validation", "val", "testa"),
    "test": ("test", "testset", "testing", "tst", "testb", "testright"),
    "trial": ("trial",),
}
_PARTS = {word: part for part, words in _WORDS.items() for word in words}


def find(paths: Sequence[Path], patterns: Sequence[str], together: bool = False) -> tuple[Parts, list[Path]]:
    """The files of each part, and those that are not read.

    Args:
        paths: one folder, or files, which are taken whatever their names are; those of one part are joined.
        patterns: of file names, lower case, without .gz or .bz2.
        together: whether several files of a folder make one part.

    Raises: DataError if there is no such file, or one cannot tell which of several is meant.
    """
    folder = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    listed = files_in(folder) if folder else list(paths)
    fitting = [path for path in listed if folder is None or _fits(path, patterns)]
    parts: defaultdict[str, list[Path]] = defaultdict(list)
    for path in fitting:
        parts[part_of(path, folder) or "all"].append(path)
    if folder and len(parts) > 1:
        parts.pop("all", None)  # a README.txt beside train.txt
    if not fitting:
        held = ", ".join(str(path.relative_to(folder or path.parent)) for path in listed[:8]) or "nothing"
        raise DataError(str(folder), f"none of the raw files expected ({' '.join(patterns)}); it holds {held}")
    for part, files in parts.items():
        if folder and len(files) > 1 and not together:
            which = "are named for no part" if part == "all" else f"look like the {part} file"
            message = f"{files[0]} and {files[1]} {which}; name the files themselves: --raw FILE FILE …"
            raise DataError(str(folder), message)
    read = {path for files in parts.values() for path in files}
    return dict(parts), [path for path in listed if path not in read]


def files_in(folder: Path) -> list[Path]:
    """All files below a folder but hidden ones, in a fixed order."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def part_of(path: Path, folder: Path | None = None) -> str | None:
    """train, dev, test or trial; None where the names of the file and of the folders above it (up to `folder`) are
    silent or contradict themselves."""
    path = path.absolute()
    above = path.relative_to(folder.absolute().parent).parts[-2::-1] if folder else (path.parent.name,)
    for name in (path.name, *above):
        found = {_PARTS[word] for word in re.findall("[a-z]+", name.lower()) if word in _PARTS}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _fits(path: Path, patterns: Sequence[str]) -> bool:
    name = path.name.lower().removesuffix(".gz").removesuffix(".bz2")
    return any(fnmatchcase(name, pattern) for pattern in patterns)
