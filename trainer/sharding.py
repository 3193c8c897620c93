"""A model that is spread over the ranks with FSDP2: each holds its part of weights, gradients and optimizer.

    shard(model, "cuda", "bf16")                     # before the optimizer is built
    with evaluation(model): model(batch)             # each rank calls it as often as the others
    with whole(model): model.generate(batch)         # all weights on each rank, for a while
    state = gathered(optimizer.state_dict())         # whole tensors on rank 0; a collective operation
    optimizer.load_state_dict(spread(state, like=layout(optimizer)))

A rank has the weights of one layer beside its part of all (Zhao et al. 2023, arxiv.org/abs/2304.11277). For a model
that is not spread all but `shard` does nothing. torch's part for this is imported where it is needed, since
that takes a second.

Copy: with distributed.py; needs torch.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn

from . import distributed


def shard(model: nn.Module, device: torch.device | str, precision: str = "fp32") -> None:
    """In place: each layer by itself, the rest together. The ranks must hold the same weights.

    With bf16 the weights of layers travel in bf16, in which autocast multiplies them anyway; their gradients are
    summed in fp32, and so are all of embeddings and heads.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # it is about changing such an output in place, which nothing here does
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(torch.device(device).type, (distributed.world_size(),))
    policy = MixedPrecisionPolicy()
    if precision == "bf16":
        policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh)


def layers(module: nn.Module) -> Iterator[nn.Module]:
    """Members of the outermost lists."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (layer for layer in child if any(True for _ in layer.parameters()))
        else:
            yield from layers(child)


def is_spread(tensor: Any) -> bool:
    return hasattr(tensor, "full_tensor")


@contextmanager
def evaluation(model: Any) -> Iterator[None]:
    """Afterwards a rank has only its part of the weights again, which may be changed then."""
    try:
        yield
    finally:
        if distributed.is_sharded(model):
            model.reshard()


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """All weights on each rank, which may then call the model by itself."""
    parts: list[Any] = [module for module in model.modules() if distributed.is_sharded(module)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not model, recurse=False)


def whole_tensor(tensor: Any) -> torch.Tensor:
    """On the device; a collective operation where it is spread."""
    return tensor.full_tensor() if is_spread(tensor) else tensor


def gathered(tree: Any) -> Any:
    """The same dicts and lists; what was spread is whole, on the CPU of rank 0, and empty on the others.

    A tensor that is there twice, such as a tied weight of `state_dict(keep_vars=True)`, is so afterwards.
    """
    found: dict[int, torch.Tensor] = {}

    def on_rank_0(tensor: Any, _: Any) -> torch.Tensor:
        if not is_spread(tensor):
            return tensor.detach()
        if id(tensor) not in found:
            full = tensor.detach().full_tensor()
            found[id(tensor)] = full.cpu() if distributed.rank() == 0 else full.new_empty(0)
        return found[id(tensor)]

    return each_tensor(tree, None, on_rank_0)


def spread(tree: Any, like: Any) -> Any:
    """This rank's part of each tensor for which there is a spread one of that shape at the same place of `like`, or
    above that place."""

    def part(tensor: torch.Tensor, like: Any) -> torch.Tensor:
        if is_spread(tensor) or not is_spread(like) or tensor.shape != like.shape:
            return tensor
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)

    return each_tensor(tree, like, part)


def each_tensor(tree: Any, like: Any, function: Callable[[torch.Tensor, Any], Any]) -> Any:
    """The same dicts and lists with function(tensor, what is at its place of `like`, or above) for each tensor."""
    if isinstance(tree, torch.Tensor):
        return function(tree, like)
    if isinstance(tree, Mapping):
        inner = like if isinstance(like, Mapping) else dict.fromkeys(tree, like)
        return {key: each_tensor(value, inner.get(key), function) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [each_tensor(value, None, function) for value in tree]
    return tree


def with_part(tensor: Any, part: torch.Tensor) -> Any:
    """A spread tensor on the CPU, of which this rank has a copy of its part."""
    from torch.distributed.tensor import DTensor

    mesh, size = cpu_mesh(distributed.world_size()), {"shape": tensor.shape, "stride": tensor.stride()}
    return DTensor.from_local(part, mesh, tensor.placements, run_check=False, **size)


@cache
def cpu_mesh(size: int) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cpu", (size,))


def layout(part: Any) -> Any:
    """What the state of an optimizer, or of another part, is spread like."""
    if isinstance(part, torch.optim.Optimizer):
        return {"state": dict(enumerate(p for group in part.param_groups for p in group["params"]))}
    return part.state_dict()
