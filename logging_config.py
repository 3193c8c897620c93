"""One logger for console and file.

    setup_logging("output/run/train.log", rank=0)
    logging.getLogger(__name__).info("hello")

Rank 0 speaks; other ranks only warn, with their number. The file is appended to, so a resumed run goes on in the same
log. Without a file (nothing may be written yet) only the console is set up.

Copy: alone; needs only Python.
"""

import logging
import sys
from pathlib import Path

NOISY = ("httpx", "httpcore", "urllib3", "filelock", "fsspec", "matplotlib", "datasets", "torch.distributed")


def setup_logging(log_file: str | Path | None = None, rank: int = 0, level: int = logging.INFO) -> None:
    """Replace the root logger's handlers. May be called again, e.g. once the output folder exists."""
    who = "" if rank == 0 else f"[rank {rank}] "
    formatter = logging.Formatter(f"%(asctime)s %(levelname)s {who}%(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if log_file is not None and rank == 0:
        handlers.append(logging.FileHandler(log_file, mode="a", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=level if rank == 0 else logging.WARNING, handlers=handlers, force=True)
    logging.captureWarnings(True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
