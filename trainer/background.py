"""Functions called one after the other in a thread, each with a copy of what it is to write.

    background = Background()
    background("last", write, state)        # write(copy of state); the copy is taken before this returns
    background.check()                      # raises what one of them has raised
    background.wait()                       # returns when all are done, or raises that

When one has failed, those after it are not called.

Copy: with snapshot.py; needs torch; can use distributed.py, sharding.py.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .snapshot import Snapshot


class Background:
    """One thread, and the copies' memory, which is kept for each name."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background")
        self.snapshots: dict[str, Snapshot] = {}
        self.calls: dict[str, Future[None]] = {}  # the last one of each name
        self.last: Future[None] | None = None

    def __call__(self, name: str, function: Callable[[Any], object], tree: Any) -> None:
        """Waits for the call before it under this name, whose copy it overwrites; raises what `check` does."""
        self.check()
        if name in self.calls:
            self.calls[name].result()
        snapshot = self.snapshots.setdefault(name, Snapshot())
        self.last = self.calls[name] = self.thread.submit(run, self.last, snapshot, function, snapshot(tree))

    def check(self) -> None:
        if self.last is not None and self.last.done():
            self.last.result()

    def wait(self) -> None:
        if self.last is not None:
            self.last.result()


def run(before: Future[None] | None, snapshot: Snapshot, function: Callable[[Any], object], copy: Any) -> None:
    if before is not None:
        before.result()  # it is done; raises again if it failed
    snapshot.wait()
    function(copy)
