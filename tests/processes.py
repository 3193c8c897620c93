"""Functions called in forked processes, which start at once because their parent is warm, and may be killed."""

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable


def forked(function: Callable[[], object], kill_after: float | None = None) -> int | None:
    """The exit code of a function (what it returns, else 0) in a process and session of its own; None if killed."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)  # a process that hangs ends, and its exit code says so
        code = 99  # an exception; its traceback is lost with the process
        try:
            os.setsid()
            code = int(function() or 0)  # type: ignore[call-overload]
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.killpg(pid, signal.SIGKILL)  # its workers too
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if code == -signal.SIGKILL else code


def in_ranks(number: int, function: Callable[[], object]) -> list[int]:
    """Exit codes of so many ranks that call it, without a launcher; imports would take longer than all the rest."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(number)}
    pids = []
    for rank in range(number):
        pids.append(os.fork())
        if not pids[-1]:
            signal.alarm(300)
            code = 99
            try:
                os.environ.update(address | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
                code = int(function() or 0)  # type: ignore[call-overload]
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def torchrun(processes: int, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={processes}",
        *arguments,
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False)
