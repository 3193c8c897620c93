"""SIGTERM and SIGINT end a run in order: the step is finished, the state saved, the exit code is 143 or 130.

    with StopSignals() as stop_signal:
        for batch in batches:
            train_step(batch)
            if stop_signal():
                save()
                raise Interrupted(stop_signal())

A second signal, a second or more later, ends the process at once.

Copy: alone; needs only Python.
"""

import os
import signal
import time
from types import FrameType
from typing import Any, Self

DEBOUNCE = 1.0  # seconds; Ctrl-C and schedulers often signal a process twice, directly and through its launcher


class Interrupted(Exception):
    """Stopped by a signal, after the state was saved."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}; the same command goes on from the saved state")
        self.exit_code = 128 + number


class StopSignals:
    """Remembers the first SIGTERM or SIGINT while it is entered; called, it gives that signal's number, else 0."""

    def __init__(self) -> None:
        self.received = 0
        self.time = 0.0
        self.handlers: dict[int, Any] = {}

    def __call__(self) -> int:
        return self.received

    def __enter__(self) -> Self:
        self.handlers = {number: signal.signal(number, self.handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def handle(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self.time = number, now
            # print and logging are not safe here: the signal may have come while they hold their buffers
            os.write(2, f"\n{signal.Signals(number).name}: saving after this step; again: stop at once\n".encode())
        elif now - self.time > DEBOUNCE:
            os._exit(128 + number)
