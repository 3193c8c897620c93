"""A model that is spread over the ranks with FSDP2: each holds its part of weights, gradients and optimizer.

    shard(model, "cuda")                             # before the optimizer is built
    with whole(model): model.save_pretrained(...)    # all weights on each rank, for a while
    state = gathered(optimizer.state_dict())         # whole tensors; a collective operation
    optimizer.load_state_dict(spread(state, like=layout(optimizer)))

In training a rank has the weights of one layer beside its part of all (Zhao et al. 2023, arxiv.org/abs/2304.11277). For
evaluation and saving it has all weights, without gradients and optimizer: predictions need no steps in common, and
files are those of a model that is not spread. For such a model all but `shard` does nothing. torch only; its part for
this is imported where it is needed, since that takes a second.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from . import distributed


def shard(model: nn.Module, device: torch.device | str) -> None:
    """In place: each layer by itself, the rest together. The ranks must hold the same weights."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(device).type, (distributed.world_size(),))
    for layer in layers(model):
        fully_shard(layer, mesh=mesh)
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
def whole(model: nn.Module) -> Iterator[None]:
    """All weights on each rank: any rank may then read them, or call the model by itself."""
    parts: list[Any] = [module for module in model.modules() if distributed.is_sharded(module)]
    hooks = [(module, module._state_dict_pre_hooks) for module in model.modules() if parts]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    for module, _ in hooks:  # those of FSDP2 would spread the weights again for each state_dict
        module._state_dict_pre_hooks = OrderedDict()
    try:
        yield
    finally:
        for module, own in hooks:
            module._state_dict_pre_hooks = own
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not model, recurse=False)


def whole_tensor(tensor: Any) -> torch.Tensor:
    """On the device; a collective operation where it is spread."""
    return tensor.full_tensor() if is_spread(tensor) else tensor


def gathered(tree: Any) -> Any:
    """The same dicts and lists with whole tensors, on the CPU where they were spread."""
    if is_spread(tree):
        return whole_tensor(tree).cpu()
    if isinstance(tree, Mapping):
        return {key: gathered(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [gathered(value) for value in tree]
    return tree


def spread(tree: Any, like: Any) -> Any:
    """This rank's part of each tensor for which there is a spread one of that shape at the same place of `like`, or
    above that place."""
    if isinstance(tree, torch.Tensor):
        if not is_spread(like) or tree.shape != like.shape:
            return tree
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tree.to(like.device), like.device_mesh, like.placements)
    if isinstance(tree, Mapping):
        inner = like if isinstance(like, Mapping) else dict.fromkeys(tree, like)
        return {key: spread(value, inner.get(key)) for key, value in tree.items()}
    return tree


def layout(part: Any) -> Any:
    """What the state of an optimizer, or of another part, is spread like."""
    if isinstance(part, torch.optim.Optimizer):
        return {"state": dict(enumerate(p for group in part.param_groups for p in group["params"]))}
    return part.state_dict()
