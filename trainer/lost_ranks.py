"""One line and exit code 4 where torch has a long error because another rank is gone, or did not come in time.

    try:
        train()
    except Exception as error:
        raise explained(error)

A rank that waited in vain says since when, for which ranks, and at which line of ours. A launcher may start all ranks
again after this exit code: what ended them was elsewhere.

Copy: with distributed.py; needs torch.
"""

import os
import re
import socket
import time
import traceback
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist

from . import distributed

ROOT = Path(__file__).resolve().parents[1]
GRACE = 3.0  # seconds; ranks that wait together give up together


class RanksLost(RuntimeError):
    """A collective operation failed for a reason that lies with another rank."""

    exit_code = 4


def explained(error: Exception) -> Exception:
    """RanksLost, if the error comes from a collective operation or the store of the ranks; else the error itself."""
    text = str(error)
    if not isinstance(error, dist.DistError) and "gloo/transport" not in text:
        return error
    own = os.environ.get("RANK", "0")
    who = f"rank {own} (process {os.getpid()} on {socket.gethostname()})"
    reason = re.sub(r"^\[[^]]*\] ", "", text.strip()).split(". ")[0]  # without torch's own file and its guesses
    if "timed out" not in text.lower() and "timeout" not in text.lower():
        return RanksLost(f"{who} lost another rank at {place(error)}; what ended that one is told elsewhere: {reason}")
    seconds = distributed.TIMEOUT.total_seconds()
    since = time.strftime("%H:%M:%S", time.localtime(time.time() - seconds))
    return RanksLost(
        f"{who} waited in vain since {since} ({seconds:.0f} s, DIST_TIMEOUT) for {absent()} at {place(error)}; where a "
        f"rank hangs: py-spy dump --pid, and on GPUs TORCH_NCCL_DUMP_ON_TIMEOUT=1 with torchfrtrace: {reason}"
    )


def place(error: BaseException) -> str:
    """The innermost line of ours that led to the error, and that says what for."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if ROOT in Path(frame.filename).parents and "site-packages" not in frame.filename]
    telling = [frame for frame in ours if Path(frame.filename).name != "distributed.py"]
    frame = [*frames, *ours, *telling][-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def absent() -> str:
    """The ranks that do not wait: each that does says so in the store, and looks who else has."""
    missing: list[str] = []
    with suppress(Exception):  # the store may be gone, too
        store = dist.group.WORLD.get_group_store()  # type: ignore[union-attr]
        store.set(f"waits/{dist.get_rank()}", "")
        time.sleep(GRACE)
        missing = [str(rank) for rank in range(dist.get_world_size()) if not store.check([f"waits/{rank}"])]
    return f"rank {', '.join(missing)}" if missing else "the other ranks"
