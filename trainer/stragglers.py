"""Names ranks that are slower than the others, for which all wait in each step.

    stragglers = Stragglers()
    stragglers(work=[0.9, 1.0, 2.4, 1.1], seconds=5.0)      # logs: rank 2 is slow: …

Compared is what each rank needs for itself, see `Speed.work`: the times of whole steps are the same everywhere, since
the fast ranks spend the rest of theirs waiting.

Copy: alone; needs only Python.
"""

import logging
from collections.abc import Sequence
from statistics import median_low

logger = logging.getLogger(__name__)

FACTOR, SHARE = 1.5, 0.1  # of the median rank's work; of all time


class Stragglers:
    """Names a rank when it is slow for the second time in a row; a busy machine makes any rank slow now and then."""

    def __init__(self) -> None:
        self.times: dict[int, int] = {}

    def __call__(self, work: Sequence[float], seconds: float) -> None:
        """work: seconds of each rank's own work, by rank; seconds: that passed meanwhile."""
        self.times = {rank: self.times.get(rank, 0) + 1 for rank in slow_ranks(work, seconds)}
        for rank, times in self.times.items():
            if times == 2:
                logger.warning("rank %d is slow: it worked %.2f s of the last %.2f s, others %.2f s; all wait for it",
                               rank, work[rank], seconds, median_low(work))  # fmt: skip


def slow_ranks(work: Sequence[float], seconds: float) -> list[int]:
    """Ranks that work FACTOR times as long as the median one, or more, if SHARE of the time is lost by it."""
    middle = median_low(work)
    return [rank for rank, own in enumerate(work) if own > FACTOR * middle and own - middle > SHARE * seconds]
