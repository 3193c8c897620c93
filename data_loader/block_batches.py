"""Blocks of packed texts (data_process/blocks.py) -> batches for a masked or causal language model.

    dataset = BlockDataset([(blocks.ids, blocks.flags)])
    collate = MaskedCollator(Masking(103, random_ids, rate=0.15, seed=42), unit="word")
    train_loader = block_loader(dataset, collate, batch_size=32, seed=42, total=epochs * len(dataset))
    for batch in train_loader(3, 640): ...

B blocks, T sub-words, M masked sub-words of a block:

    sample_id      (B,)    int64  number of the block, -1 for a stand-in
    input_ids      (B, T)  int64
    token_type_ids (B, T)  int64  1 = second text of a pair; only for models that have them
    pieces         (B, T)  int64  number of the text in the block; only if attention stays inside the texts
    attention_mask (B, T)  int64  0 = padding; else, and only if there is any
    masked_places  (B, M)  int64  only of masked models; 0 where a block has fewer
    labels["mlm"]  (B, M)  int64  what stood there, -100 where a block has fewer
    labels["clm"]  (B, T)  int64  of causal models: the next sub-word of the same text, -100 where there is none
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .build import Loader, torch_loader
from .masking import IGNORE, Masking, join_words, number_units
from .order import file_order, shuffled
from .samplers import BatchSampler, Order

WORD, PIECE, SECOND, TEXT, PAD = 1, 2, 4, 8, 16  # see data_process/packing.py
UNITS = ("token", "word", "ngram")


@dataclass
class Turn:
    """What a batch is made of."""

    numbers: np.ndarray
    """(B,) of the blocks; ~number for a stand-in"""
    epoch: int
    progress: float
    """share of the whole training that comes before"""


class Turns:
    """A BatchSampler's batches with the time when they come."""

    def __init__(self, sampler: BatchSampler, total: int = 0):
        """total: samples of the whole training; 0 = there is none, and no progress."""
        self.sampler, self.total = sampler, total

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Turn]:
        own = self.sampler
        for turn, numbers in enumerate(own):
            first = own.start + (turn * own.world_size + own.rank) * own.batch_size
            seen = own.epoch * own.size + min(first, own.size)
            yield Turn(np.array(numbers), own.epoch, min(1.0, seen / self.total) if self.total else 0.0)


class BlockDataset:
    """Several corpora, one behind the other; whole batches are fetched at once."""

    def __init__(self, corpora: Sequence[tuple[np.ndarray, np.ndarray]]):
        """corpora: ids (N, T) and flags (N, T) of each; may be memory-mapped."""
        self.corpora = corpora
        self.ends = np.cumsum([len(ids) for ids, _ in corpora])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitems__(self, turn: Turn) -> tuple[Turn, np.ndarray, np.ndarray]:
        """(turn, ids (B, T), flags (B, T))."""
        numbers = np.where(turn.numbers < 0, ~turn.numbers, turn.numbers)
        which = np.searchsorted(self.ends, numbers, side="right")
        length = self.corpora[0][0].shape[1]
        ids, flags = np.empty((len(numbers), length), np.int64), np.empty((len(numbers), length), np.uint8)
        for number in np.unique(which):
            own = which == number
            rows = numbers[own] - (self.ends[number] - len(self.corpora[number][0]))
            ids[own], flags[own] = (array[rows] for array in self.corpora[number])
        return turn, ids, flags


def block_loader(
    dataset: BlockDataset,
    collate: Callable[..., Any],
    *,
    batch_size: int,
    seed: int,
    total: int,
    order: Order = shuffled,
    rank: int = 0,
    world_size: int = 1,
    **options: Any,
) -> Loader:
    """Training batches: (epoch, samples seen in it) -> those from there on.

    Args:
        collate: one of the collators below.
        total: blocks of the whole training, all ranks together, for what changes on its way.
        order: which block comes when: `shuffled`, or a BalancedOrder that mixes corpora by weight.
        options: num_workers, pin_memory.
    """

    def load(epoch: int, samples_seen: int = 0) -> Any:
        sampler = BatchSampler(len(dataset), batch_size, seed=seed, epoch=epoch, start=samples_seen, order=order,
                               rank=rank, world_size=world_size)  # fmt: skip
        return torch_loader(dataset, batch_sampler=Turns(sampler, total), collate_fn=collate, **options)

    return load


def block_eval_loader(
    dataset: BlockDataset,
    collate: Callable[..., Any],
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    **options: Any,
) -> Any:
    """Every block exactly once over all ranks, always with the masks of epoch 0."""
    sampler = BatchSampler(len(dataset), batch_size, order=file_order, rank=rank, world_size=world_size)
    return torch_loader(dataset, batch_sampler=Turns(sampler), collate_fn=collate, **options)


class MaskedCollator:
    """Masks single sub-words, whole words, or spans of words."""

    def __init__(
        self,
        masking: Masking,
        unit: str = "token",
        *,
        last_rate: float | None = None,
        span: float = 3.0,
        isolated: bool = True,
        token_types: bool = False,
    ):
        """
        Args:
            unit: "token", "word", or "ngram": spans of words whose mean number is `span` at most.
            last_rate: the share that is masked at the end of training, reached on a straight line; None = no change.
            isolated: attention stays inside the texts.
            token_types: the model has them.
        """
        if unit not in UNITS:
            raise ValueError(f"unknown unit {unit!r}; there are {', '.join(UNITS)}")
        self.masking, self.unit, self.span = masking, unit, span
        self.last_rate = masking.rate if last_rate is None else last_rate
        self.isolated, self.token_types = isolated, token_types

    def __call__(self, fetched: tuple[Turn, np.ndarray, np.ndarray]) -> dict[str, Any]:
        turn, ids, flags = fetched
        sample_ids = np.where(turn.numbers < 0, ~turn.numbers, turn.numbers)
        units = self.units(flags, sample_ids, turn.epoch)
        rate = self.masking.rate + turn.progress * (self.last_rate - self.masking.rate)
        masked_ids, places, labels = self.masking(ids, units, sample_ids, turn.epoch, rate)
        labels[turn.numbers < 0] = IGNORE
        batch = common(turn, masked_ids, flags, self.isolated, self.token_types)
        return batch | {"masked_places": torch.from_numpy(places), "labels": {"mlm": torch.from_numpy(labels)}}

    def units(self, flags: np.ndarray, sample_ids: np.ndarray, epoch: int) -> np.ndarray:
        """(B, T), see `number_units`; none goes from one text into the next."""
        maskable = flags & TEXT > 0
        if self.unit == "token":
            return number_units(maskable, maskable)
        starts = flags & WORD > 0
        if self.unit == "ngram":
            first_of_text = maskable & ~np.pad(maskable, ((0, 0), (1, 0)))[:, :-1]
            starts = join_words(starts, sample_ids, epoch, self.masking.seed, self.span) | first_of_text
        return number_units(starts, maskable)


class CausalCollator:
    """Labels are the next sub-words of the same text."""

    def __init__(self, isolated: bool = True):
        """isolated: attention stays inside the texts."""
        self.isolated = isolated

    def __call__(self, fetched: tuple[Turn, np.ndarray, np.ndarray]) -> dict[str, Any]:
        turn, ids, flags = fetched
        labels = np.full_like(ids, IGNORE)
        follows = (flags[:, 1:] & (PIECE | PAD) == 0) & (turn.numbers >= 0)[:, None]
        labels[:, :-1][follows] = ids[:, 1:][follows]
        return common(turn, ids, flags, self.isolated, False) | {"labels": {"clm": torch.from_numpy(labels)}}


def common(turn: Turn, ids: np.ndarray, flags: np.ndarray, isolated: bool, token_types: bool) -> dict[str, Any]:
    """What every batch has."""
    batch = {"sample_id": torch.from_numpy(np.where(turn.numbers < 0, -1, turn.numbers)),
             "input_ids": torch.from_numpy(ids)}  # fmt: skip
    if token_types:
        batch["token_type_ids"] = torch.from_numpy((flags & SECOND > 0).astype(np.int64))
    padding = flags & PAD > 0
    if isolated:
        batch["pieces"] = torch.from_numpy((flags & PIECE > 0).cumsum(1))
    elif padding.any():
        batch["attention_mask"] = torch.from_numpy((~padding).astype(np.int64))
    return batch
