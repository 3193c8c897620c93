"""What the trainer needs of torch.distributed; every function does nothing special in a single process.

rank, local_rank, world_size = start("cuda")     # reads torchrun's environment
total = sum_over_ranks(tensor)

DIST_TIMEOUT is how many seconds a rank waits for the others; then lost_ranks.py says who did not come.

Copy: alone; needs torch.
"""

import atexit
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# A rank may be late for good reasons: metrics of a large evaluation, a state on a slow disk.
TIMEOUT = timedelta(seconds=float(os.environ.get("DIST_TIMEOUT") or 1800))


def start(device_type: str) -> tuple[int, int, int]:
    """Join the process group if torchrun (or a launcher that sets the same variables) started us; leave it at exit.

    Returns: rank, local rank, world size.
    """
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if world_size == 1:
        return 0, 0, 1
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
    if not dist.is_initialized():
        own = int(os.environ["RANK"])
        shared, _, _ = next(dist.rendezvous("env://", own, world_size, timeout=TIMEOUT))
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        store = meet(shared, own, world_size)
        dist.init_process_group(backend, store=store, rank=own, world_size=world_size, timeout=TIMEOUT)
        atexit.register(stop)
    return dist.get_rank(), local_rank, world_size


def meet(store: dist.Store, rank: int, world_size: int) -> dist.Store:
    """A part of the store that no earlier try has written to, the same on all ranks.

    torchrun starts failed processes again with the store that they had, where new ones would take the addresses of the
    dead for their peers'. Counts of restarts differ between machines, so rank 0 makes up a name, tells it to whoever
    asks, and goes on when all have confirmed it.

    Raises: DistStoreError, which names the ranks that did not come.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"asks/{rank}", own)
        name = store.get(f"answer/{own}").decode()  # waits; nobody else knows that key
        store.set(f"{name}/{rank}", "here")
        return dist.PrefixStore(name, store)
    missing, end = [*range(1, world_size)], time.monotonic() + TIMEOUT.total_seconds()
    while missing:
        for other in missing:
            if store.check([f"asks/{other}"]):
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", own)
        missing = [other for other in missing if not store.check([f"{own}/{other}"])]
        if time.monotonic() > end:
            raise dist.DistStoreError(f"timeout: ranks that have not started: {', '.join(map(str, missing))}")
        time.sleep(0.01)
    return dist.PrefixStore(own, store)


def stop() -> None:
    """Leave the process group.

    gloo's worker threads need Python's lock to free the tensors of a collective that has just ended. A process that
    ends before they have done so is aborted (github.com/pytorch/pytorch/pull/179291), so they get a moment.
    """
    if dist.is_initialized():
        time.sleep(0.1)
        dist.destroy_process_group()


@contextmanager
def local_rank_0_first() -> Iterator[None]:
    """Each machine's first process alone, then its others: what the first leaves in a cache they find there.

    The others wait as long as it takes.
    """
    if world_size() == 1:
        yield
        return
    patient = dist.new_group(backend="gloo", timeout=timedelta(days=30))
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if not first:
        dist.barrier(patient)
    yield
    if first:
        dist.barrier(patient)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def wrap(model: nn.Module, device: torch.device, find_unused: bool = False) -> nn.Module:
    """The model itself, or DDP around it, unless it is spread already (sharding.py).

    find_unused: whether a rank may leave out parameters in a backward pass; DDP then looks for them each time.
    """
    if world_size() == 1 or is_sharded(model):
        return model
    device_ids = [device.index] if device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the option's new name is unknown to older versions
        # buffers are alike anyway; copied before each forward they would change under a pass whose backward is to come
        return DistributedDataParallel(
            model, device_ids=device_ids, find_unused_parameters=find_unused, broadcast_buffers=False
        )


def is_sharded(module: Any) -> bool:
    """Whether FSDP2 holds its weights, see sharding.py."""
    return hasattr(module, "set_requires_gradient_sync")


def gradient_sync(model: Any, on: bool, is_last: bool = True) -> AbstractContextManager:
    """A context in which backward does or does not average gradients over the ranks.

    is_last: no other pass over the same batch follows. Before one, a spread model keeps what is whole of it outside of
    its layers, for tricks that move weights until then: the next pass sees what they did, and nobody else does.
    """
    if is_sharded(model):
        model.set_requires_gradient_sync(on)
        model.set_reshard_after_backward(is_last, recurse=False)
    return nullcontext() if on or not isinstance(model, DistributedDataParallel) else model.no_sync()


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """In place; returns the tensor."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def max_over_ranks(*values: int) -> list[int]:
    """The largest of each number over the ranks. Goes through the CPU: no rank waits for its device."""
    if world_size() == 1:
        return list(values)
    box = torch.tensor(values)
    dist.all_reduce(box, dist.ReduceOp.MAX)
    return box.tolist()


def gather(value: Any) -> list[Any]:
    """The values of all ranks, on every rank. For small things: they are pickled on their way between our processes."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def from_rank_0(function: Callable[[], Any]) -> Any:
    """What it returns on rank 0, on every rank; each of them raises what it raises there."""
    value, problem = None, None
    if rank() == 0:
        try:
            value = function()
        except Exception as error:
            problem = error
    value, problem = broadcast((value, problem))
    if problem is not None:
        raise problem
    return value


def barrier(group: Any = None) -> None:
    """group: None = all ranks"""
    if world_size() > 1:
        dist.barrier(group)
