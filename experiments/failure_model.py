"""How often to save, and what failures leave of the time: for a job of which any failure ends all processes.

    interval = best_interval(stall=0.5, mean_between=180_000)
    useful_share(interval, 0.5, 180_000, restart=600)          # 0.994…

Failures are independent of each other and of time. Young 1974 (doi.org/10.1145/361147.361115), Daly 2006
(doi.org/10.1016/j.future.2004.11.016). All times in seconds. The standard library only.
"""

import math


def best_interval(stall: float, mean_between: float) -> float:
    """Training between two saves: Daly's equation 37, whose first term, less the stall, is Young's.

    Args:
        stall: training waits so long for a save.
        mean_between: mean time between failures of any process.
    """
    if stall >= 2 * mean_between:
        return mean_between
    ratio = stall / (2 * mean_between)
    return math.sqrt(2 * stall * mean_between) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - stall


def useful_share(interval: float, stall: float, mean_between: float, restart: float, delay: float = 0.0) -> float:
    """Of all time, that of the steps that count.

    Args:
        interval, stall, mean_between: as above.
        restart: from a failure to the first step after it; it may fail, too.
        delay: after a save, until it is on the disk; a failure costs that much more of training, which is counted as a
            longer restart.
    """
    waited = mean_between * math.exp((restart + delay) / mean_between)
    return interval / (waited * math.expm1((interval + stall) / mean_between))
