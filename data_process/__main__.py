"""Convert the raw files of a public corpus into records, one JSON Lines file per part.

    python -m data_process --dataset atec                                   what it is, which raw files it needs
    python -m data_process --dataset atec --raw FOLDER --out data/atec      writes data/atec/train.jsonl …

Exit codes: 0 done; 2 wrong argument or data, one line `error: file:line: field: what is wrong` and nothing written; 1
the disk is full; 130 interrupted.
"""

import argparse
import errno
import inspect
import sys
from pathlib import Path
from typing import NoReturn

from .convert import LISTED, Part, convert
from .datasets import load, names, title
from .errors import DataError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DataError("arguments", message)


def main(argv: list[str] | None = None) -> None:
    known = "\n".join(f"  {name:15} {title(name)}" for name in names())
    parser = _Parser(
        prog="python -m data_process", description=(__doc__ or "").partition("\n\n")[0], epilog=f"datasets:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--dataset", required=True, help="name of the corpus; alone it prints what the corpus needs")
    parser.add_argument("--raw", type=Path, nargs="+", help="folder with the raw files, or the files themselves")
    parser.add_argument("--out", type=Path, help="folder that receives a .jsonl file per part")
    on_bad_record = "error: the first wrong one ends it; skip: wrong ones are left out, counted and listed"
    parser.add_argument("--on_bad_record", choices=["error", "skip"], default="error", help=on_bad_record)
    parser.add_argument("--overwrite", action="store_true", help="replace files that are already there")
    args = parser.parse_args(argv)
    module = load(args.dataset)
    if args.raw is None:
        print(inspect.getdoc(module))
        print(f"\nRecords: {module.FORM}")
        print(f"Convert: python -m data_process --dataset {args.dataset} --raw FOLDER_OR_FILES --out FOLDER")
        return
    if args.out is None:
        parser.error("out: name the folder that receives the records")
    parts, unread = convert(args.dataset, args.raw, args.out, args.on_bad_record, args.overwrite)
    for part in parts:
        report(part)
    if unread:
        more = ", …" if len(unread) > LISTED else ""
        print(f"not read: {', '.join(map(str, unread[:LISTED]))}{more} ({len(unread)} files)")


def report(part: Part) -> None:
    sources = f"{part.sources[0]}{f' and {len(part.sources) - 1} more' if len(part.sources) > 1 else ''}"
    print(f"{part.path}: {part.num_written} records of {part.num_records}, {part.num_skipped} skipped, from {sources}")
    for what, count in part.notes.items():
        if count:
            print(f"  found: {what}: {count}")
    for mistake in part.mistakes:
        print(f"  skipped: {mistake}")
    if part.num_skipped > len(part.mistakes):
        print(f"  skipped: … ({part.num_skipped} in all)")


def run(argv: list[str] | None = None) -> int:
    """main; for what is no bug of ours one line and an exit code instead of a traceback."""
    try:
        main(argv)
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        return 130
    except DataError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else 2
    return 0


if __name__ == "__main__":
    sys.exit(run())
