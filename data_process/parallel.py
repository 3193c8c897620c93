"""A function over many items in several processes: results in order, a bounded number of them in flight.

    for result in in_order(function, items, num_workers=4): ...

Copy: alone; needs only Python.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing import Pool
from typing import Any

_function: Any = None  # of this worker


def in_order(function: Callable[[Any], Any], items: Iterable[Any], num_workers: int = 0) -> Iterator[Any]:
    """function(item) of each item. The items are taken as results are needed, so they may be too many for memory.

    Args:
        function: picklable; it goes to each worker once.
        num_workers: processes; 0 = this one.
    """
    if not num_workers:
        yield from map(function, items)
        return
    remaining = iter(items)
    with Pool(num_workers, start_worker, (function,)) as pool:
        pending = deque(pool.apply_async(call, (item,)) for item in islice(remaining, 2 * num_workers))
        while pending:
            result = pending.popleft().get()
            pending.extend(pool.apply_async(call, (item,)) for item in islice(remaining, 1))
            yield result


def start_worker(function: Callable[[Any], Any]) -> None:
    global _function
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a forked tokenizer must not wait for its parent's threads
    _function = function


def call(item: Any) -> Any:
    return _function(item)
