"""A training state that all ranks write at once, each its part, and any number of ranks read, each its part.

    group = new_group()                              # every rank; for a thread, apart from that of training
    save_shards("last.tmp/trainer", tree, group)     # every rank: one safetensors file each, and structure.json
    tree = load_shards("last/trainer", like)         # on as many ranks as there are now, spread like `like`

torch's distributed checkpoint does it (torch.distributed.checkpoint), here with files of safetensors: no pickle. A
tensor that all ranks have is written by one. The ranks need a file system in common.

Copy: with checkpoint.py, distributed.py, sharding.py; needs torch, numpy, safetensors.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .checkpoint import CheckpointError, SaveError, flatten, unflatten, write_json
from .sharding import each_tensor, is_spread

STRUCTURE = "structure.json"


def new_group() -> Any:
    """Of all ranks, for collective operations of a thread: on the CPU, and apart from those of training."""
    return dist.new_group(backend="gloo") if dist.is_initialized() else None


def save_shards(folder: str | Path, tree: Any, group: Any = None) -> None:
    """Nested dicts, lists and tensors, spread or the same on all ranks. Returns when all have written theirs.

    Raises: SaveError on all ranks if the disk of one fails.
    """
    from torch.distributed.checkpoint import CheckpointException, HuggingFaceStorageWriter, save

    structure, tensors = flatten(tree)
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        with quiet_alone():
            save(tensors, storage_writer=writer, process_group=group, no_dist=group is None)
    except CheckpointException as error:
        reasons = "; ".join(sorted({str(reason) for reason, _ in error.failures.values()}))
        raise SaveError(f"{folder}: could not be saved: {reasons}") from error
    if group is None or dist.get_rank(group) == 0:
        write_json(Path(folder, STRUCTURE), structure)


def load_shards(folder: str | Path, like: Any = None) -> Any:
    """What `save_shards` wrote. A collective operation.

    Args:
        like: a tree; a tensor is spread like the one of its shape at the same place, or above it, if that is spread,
            and else whole and on the CPU.

    Raises: CheckpointError.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageReader, load

    def target(tensor: torch.Tensor, like: Any) -> torch.Tensor:
        if is_spread(like) and like.shape == tensor.shape:
            return torch.empty_like(like.detach(), dtype=tensor.dtype)
        return torch.empty(tensor.shape, dtype=tensor.dtype)

    try:
        structure = json.loads(Path(folder, STRUCTURE).read_text(encoding="utf-8"))
        saved: Any = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        shapes = {name: torch.empty(about.size, dtype=about.properties.dtype, device="meta")
                  for name, about in saved.items()}  # fmt: skip
        tree = each_tensor(unflatten(structure, shapes.__getitem__), like, target)
        with quiet_alone():
            load(flatten(tree)[1], storage_reader=HuggingFaceStorageReader(str(folder)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: is no state of a training: {error}") from None
    return tree


@contextmanager
def quiet_alone() -> Iterator[None]:
    """A single process is told, as a warning, that it is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
