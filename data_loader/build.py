"""Loaders of both styles behind one call: `loader(epoch, samples_seen)` gives the batches from there on.

    train_loader = map_loader(dataset, collate, batch_size=32, seed=42)
    for batch in train_loader(3, 640): ...
    for batch in eval_loader(dataset, collate, batch_size=64): ...
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from .map_dataset import MapDataset
from .mixing import MixedBatchSampler, MixedCollator, MixedDataset
from .order import file_order, shuffled
from .samplers import BatchSampler, Order
from .stream_dataset import StreamDataset, build_line_index, count_lines
from .token_batches import TokenBatchSampler

__all__ = ["Chained", "MapDataset", "build_line_index", "eval_loader", "map_loader", "mixed_loader", "stream_loader",
           "token_loader"]  # fmt: skip

Loader = Callable[[int, int], DataLoader]  # (epoch, samples_seen) -> the batches from there on


def map_loader(
    dataset: MapDataset,
    collate: Callable[..., Any],
    *,
    batch_size: int,
    seed: int,
    order: Order = shuffled,
    rank: int = 0,
    world_size: int = 1,
    **options: Any,
) -> Loader:
    """Training batches of a map-style data set; `options` (num_workers, pin_memory) go to `torch_loader`."""

    def load(epoch: int, samples_seen: int = 0) -> DataLoader:
        sampler = BatchSampler(len(dataset), batch_size, seed=seed, epoch=epoch, start=samples_seen, order=order,
                               rank=rank, world_size=world_size)  # fmt: skip
        return torch_loader(dataset, batch_sampler=sampler, collate_fn=collate, **options)

    return load


def token_loader(
    dataset: MapDataset,
    collate: Callable[..., Any],
    *,
    lengths: Sequence[int] | np.ndarray,
    num_inputs: Sequence[int] | np.ndarray | None = None,
    batch_tokens: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    **options: Any,
) -> Loader:
    """The same in micro-batches of about as many sub-words, padding included; see token_batches.py."""

    def load(epoch: int, samples_seen: int = 0) -> DataLoader:
        sampler = TokenBatchSampler(lengths, num_inputs, batch_tokens=batch_tokens, seed=seed, epoch=epoch,
                                    start=samples_seen, rank=rank, world_size=world_size)  # fmt: skip
        return torch_loader(dataset, batch_sampler=sampler, collate_fn=collate, **options)

    return load


def stream_loader(
    path: str,
    index: str,
    *,
    parse: Callable[..., Any],
    encode: Callable[..., Any],
    collate: Callable[..., Any],
    batch_size: int,
    seed: int,
    order: Order = shuffled,
    indices: Sequence[int] | None = None,
    rank: int = 0,
    world_size: int = 1,
    **options: Any,
) -> Loader:
    """The same batches, in the same order, from a file that is read and encoded on the fly."""
    size = count_lines(index) if indices is None else len(indices)

    def load(epoch: int, samples_seen: int = 0) -> DataLoader:
        sampler = BatchSampler(size, batch_size, seed=seed, epoch=epoch, start=samples_seen, order=order,
                               rank=rank, world_size=world_size)  # fmt: skip
        stream = StreamDataset(path, index, parse=parse, encode=encode, collate=collate,
                               sampler=sampler, indices=indices)  # fmt: skip
        return torch_loader(stream, batch_size=None, **options)

    return load


def mixed_loader(
    datasets: Sequence[MapDataset],
    collates: Sequence[Callable[..., Any]],
    *,
    batch_sizes: Sequence[int],
    seed: int,
    mixing: str = "proportional",
    temperature: float = 5.0,
    epochs: int = 1,
    orders: Sequence[Order] | None = None,
    rank: int = 0,
    world_size: int = 1,
    **options: Any,
) -> Loader:
    """Training batches of several data sets, each batch from one of them; see mixing.py for the ways of mixing."""
    if len(collates) != len(datasets):
        raise ValueError(f"one collate per data set, found {len(collates)} for {len(datasets)}")

    def load(epoch: int, samples_seen: int = 0) -> DataLoader:
        sampler = MixedBatchSampler([len(dataset) for dataset in datasets], batch_sizes, mixing=mixing,
                                    temperature=temperature, epochs=epochs, orders=orders, seed=seed,
                                    epoch=epoch, start=samples_seen, rank=rank, world_size=world_size)  # fmt: skip
        mixed = MixedDataset(datasets)
        return torch_loader(mixed, batch_sampler=sampler, collate_fn=MixedCollator(collates), **options)

    return load


def eval_loader(
    dataset: MapDataset,
    collate: Callable[..., Any],
    *,
    batch_size: int,
    order: Order = file_order,
    rank: int = 0,
    world_size: int = 1,
    **options: Any,
) -> DataLoader:
    """Every sample exactly once over all ranks, in the order of the file or another, such as `longest_first`.

    All ranks have as many batches: the last one of some is a stand-in, with the sample id -1.
    """
    sampler = BatchSampler(len(dataset), batch_size, order=order, rank=rank, world_size=world_size)
    return torch_loader(dataset, batch_sampler=sampler, collate_fn=collate, **options)


class Chained:
    """Loaders of several data sets one after the other; each batch says which `tasks` it is for."""

    def __init__(self, loaders: Sequence[DataLoader], tasks: Sequence[Sequence[str]]):
        """tasks: names of the tasks of each data set."""
        self.loaders, self.tasks = loaders, tasks

    def __len__(self) -> int:
        return sum(map(len, self.loaders))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for loader, tasks in zip(self.loaders, self.tasks, strict=True):
            yield from (batch | {"tasks": tasks} for batch in loader)


def torch_loader(dataset: Any, *, num_workers: int = 0, pin_memory: bool = False, **options: Any) -> DataLoader:
    """A DataLoader with a generator of its own: the default draws from torch's global one and so changes dropout."""
    return DataLoader(
        dataset,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),
        worker_init_fn=start_worker,
        **options,
    )


def start_worker(_: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a forked tokenizer must not wait for its parent's threads
    torch.set_num_threads(1)
    # Ctrl-C and schedulers signal all processes, but the main one still finishes its step and then ends the workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ignore_once)


def ignore_once(number: int, _: Any) -> None:
    signal.signal(number, signal.SIG_DFL)
