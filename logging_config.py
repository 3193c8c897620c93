"""One logger for console and file.

    setup_logging("output/run/train.log", rank=0)
    logging.getLogger(__name__).info("hello")

Rank 0 speaks; other ranks only warn, with their number. The file is appended to, so a resumed run goes on in the same
log. Without a file (nothing may be written yet) only the console is set up, and what is said goes into the file later.
Lines with `extra={"console": False}` are for the file alone.

Copy: alone; needs only Python.
"""

import logging
import sys
from logging.handlers import MemoryHandler
from pathlib import Path

NOISY = ("httpx", "httpcore", "urllib3", "filelock", "fsspec", "matplotlib", "datasets", "torch.distributed")


def setup_logging(log_file: str | Path | None = None, rank: int = 0, level: int = logging.INFO) -> None:
    """Replace the root logger's handlers. May be called again, e.g. once the output folder exists."""
    who = "" if rank == 0 else f"[rank {rank}] "
    formatter = logging.Formatter(f"%(asctime)s %(levelname)s {who}%(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    console = logging.StreamHandler(sys.stdout)
    console.addFilter(lambda record: getattr(record, "console", True))
    handlers: list[logging.Handler] = [console]
    early: list[logging.LogRecord] = []
    if rank == 0 and log_file is None:
        handlers.append(MemoryHandler(capacity=0))  # it has no target, so it keeps all
    elif rank == 0 and log_file is not None:
        handlers.append(logging.FileHandler(log_file, mode="a", encoding="utf-8"))
        for before in logging.getLogger().handlers:
            early += before.buffer if isinstance(before, MemoryHandler) else []
    for handler in handlers:
        handler.setFormatter(formatter)
    for record in early:
        handlers[-1].handle(record)
    logging.basicConfig(level=level if rank == 0 else logging.WARNING, handlers=handlers, force=True)
    logging.captureWarnings(True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
