"""Functions called in forked processes, which start at once because their parent is warm, and may be killed."""

import os
import signal
import time
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
