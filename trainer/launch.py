"""torchrun with our exit codes: 2 wrong input, 3 diverged, 130 and 143 stopped by a signal, as in a single process.

    python -m trainer.launch --standalone --nproc_per_node 2 -- main.py --config configs/snips.yaml

torchrun itself ends with 1 whatever happened. torch only.
"""

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def launch(arguments: list[str]) -> int:
    """The exit code of the process that failed first; 128 + number for a signal."""
    try:
        main(arguments)
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code in (1, None) or code < 0:  # no line of our own tells why
            print(error, file=sys.stderr)
        return code if code and code > 0 else 128 - (code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
