"""What the trainer needs of torch.distributed; every function does nothing special in a single process.

rank, local_rank, world_size = start("cuda")     # reads torchrun's environment
total = sum_over_ranks(tensor)
"""

import atexit
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


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
        dist.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo")
        atexit.register(stop)
    return dist.get_rank(), local_rank, world_size


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
    """Each machine's first process alone, then its others: what the first leaves in a cache they find there."""
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if not first:
        barrier()
    yield
    if first:
        barrier()


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
    # buffers are alike anyway; copying them before each forward would change those of a pass whose backward is to come
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
    found: tuple[Any, Exception | None] = None, None
    if rank() == 0:
        try:
            found = function(), None
        except Exception as error:
            found = None, error
    value, failure = broadcast(found)
    if failure is not None:
        raise failure
    return value


def barrier(group: Any = None) -> None:
    """group: None = all ranks"""
    if world_size() > 1:
        dist.barrier(group)
