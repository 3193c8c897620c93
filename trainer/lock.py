"""One run owns an output folder.

    with owned("output/run"):
        train()

The operating system holds the lock (flock, through the filelock library) and drops it when the process ends, however
it ends: no stale lock has to be deleted by hand. The file only says whose it is.

Copy: alone; needs filelock.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


class OutputError(ValueError):
    """An output folder that cannot be had."""

    exit_code = 2


class InUse(OutputError):
    """Another process owns it."""


@contextmanager
def owned(folder: str | Path, name: str = ".lock") -> Iterator[None]:
    """Hold the folder; made if missing, and gone again if nothing was put into it. Raises OutputError, InUse."""
    folder = Path(folder)
    file = folder / name
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        take(lock, file)
        file.write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")
    except Timeout:
        pid, host = owner(file)
        right = "wait for it, stop it, or give another --output_dir"
        raise InUse(f"output_dir: {folder} is in use by process {pid} on {host}; {right}") from None
    except OSError as error:
        raise OutputError(f"output_dir: cannot write to {folder}: {error.strerror}") from None
    try:
        yield
    finally:
        if folder in missing and [*folder.iterdir()] == [file]:
            file.unlink()
        lock.release()
        with suppress(OSError):  # not empty
            for path in missing:
                path.rmdir()


def take(lock: FileLock, file: Path) -> None:
    """Raises Timeout. The workers of a killed process hold its lock for some seconds until they notice."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid, host = owner(file)
        if host != socket.gethostname() or alive(pid):
            raise
        lock.acquire(timeout=15)


def owner(file: Path) -> tuple[str, str]:
    pid, _, host = file.read_text(encoding="utf-8").strip().partition(" ")
    return pid or "?", host or "?"


def alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
