"""torchrun with our exit codes, a line that names the rank that failed, and no restart that would end alike.

    python -m trainer.launch --standalone --nproc_per_node 2 --max_restarts 3 -- main.py --config configs/snips.yaml

The exit code is that of the process that failed first: 2 wrong input, 3 diverged, 130 and 143 stopped by a signal, as
in a single process; torchrun itself ends with 1 whatever happened. After these, and after 1 (an exception, memory or
disk full), nothing is started again: the same input gives the same end. After a death by a signal (SIGKILL, SIGSEGV …)
or exit code 4, another rank was lost, all ranks are started again, at most --max_restarts times.

Copy: alone; needs torch.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from torch.distributed import DistError
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher import api
from torch.distributed.run import parse_args, run

LOST = 4
SAME_AGAIN = (1, 2, 3, 130, 143)
TOLD = (2, 3, 130, 143)  # the process itself has printed one line


class Ended(Exception):
    """The ranks of another machine failed for good."""

    def __init__(self, code: int, line: str):
        super().__init__(line)
        self.code = code


class Agent(LocalElasticAgent):
    """torch's own, which watches the ranks of this machine. The machines tell each other of failures by their store."""

    _store: Any  # torch makes it when the machines have met

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if result.is_failed():
            self.failed(*first_failure(result.failures))
        elif result.state == WorkerState.HEALTHY and self.several:
            return self.failed_elsewhere() or result
        return result

    @property
    def several(self) -> bool:
        """Whether there are other machines."""
        return (self._worker_group.group_world_size or 1) > 1

    @property
    def attempt(self) -> str:
        """Key of a failure; all machines restart together, and in an elastic run each round has a store of its own."""
        static = self._rdzv_handler.get_backend() == "static"
        return f"failed/{self._worker_group.spec.max_restarts - self._remaining_restarts}" if static else "failed"

    def failed(self, rank: int, failure: ProcessFailure) -> None:
        """A rank of this machine."""
        line, code = describe(rank, failure), exit_code(failure)
        if failure.exitcode in SAME_AGAIN:
            self._remaining_restarts = 0
        if self._remaining_restarts:
            count = self._worker_group.spec.max_restarts - self._remaining_restarts + 1
            say(f"{line}; restart {count} of {self._worker_group.spec.max_restarts}")
            if self.several:
                self._store.set(self.attempt, line)
            return
        if failure.exitcode not in TOLD:
            say(line)
        if self.several:
            self._store.set("ended", json.dumps([code, line]))
            time.sleep(1)  # this machine may have the store; the others look ten times a second

    def failed_elsewhere(self) -> RunResult | None:
        """What to do with this machine's ranks, which are well but may wait for others for a long time."""
        if self._store.check(["ended"]):
            raise Ended(*json.loads(self._store.get("ended")))
        if not self._store.check([self.attempt]):
            return None
        line = self._store.get(self.attempt).decode()
        if not self._remaining_restarts:
            raise Ended(LOST, line)
        say(f"on another machine: {line}")
        return RunResult(state=WorkerState.UNHEALTHY)  # restarts them


def first_failure(failures: Mapping[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """Global rank and failure of what began it: of those seen first a death by a signal, then an exit of its own
    accord, then what follows from others: a lost rank, or the SIGTERM that the launcher sends to the rest."""

    def order(rank: int) -> tuple[bool, int, int]:
        failure = failures[rank]
        code = failure.exitcode
        kind = 3 if code in (-signal.SIGTERM, 130, 143) else 2 if code == LOST else 1 if code > 0 else 0
        return failure.timestamp > first + 5, kind, failure.timestamp

    first = min(failure.timestamp for failure in failures.values())
    rank = min(failures, key=order)
    return rank, failures[rank]


def describe(rank: int, failure: ProcessFailure) -> str:
    code = failure.exitcode
    how = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    who = f"rank {rank} (local rank {failure.local_rank}, process {failure.pid} on {socket.gethostname()})"
    return f"{who} {how}"


def exit_code(failure: ProcessFailure) -> int:
    """As a shell counts: 128 + number of a signal."""
    return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode


def say(line: str) -> None:
    print(f"launch: {line}", file=sys.stderr, flush=True)


def launch(arguments: list[str]) -> int:
    """The exit code of the process that failed first; 128 + number for a signal."""
    owner: Any = api
    owner.LocalElasticAgent = Agent  # the only way in: launch_agent() makes its agent itself
    options = parse_args(arguments)
    if ":" in options.nnodes:  # else a machine that comes later waits in vain for the address of the ranks' store
        os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    try:
        run(options)
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as error:
        return exit_code(first_failure(error.failures)[1])
    except Ended as ended:
        say(f"on another machine: {ended}")
        return ended.code
    except (RendezvousError, DistError) as error:
        say(f"the other machines are gone, or did not come: {' '.join(str(error).split())}")
        return LOST
    return 0


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
