"""Out of memory: say what did not fit, or go on with smaller micro-batches.

    splitter = BatchSplitter()
    pieces = splitter(group)            # the group itself
    splitter.halve()                    # after an OutOfMemoryError
    pieces = splitter(group)            # twice as many micro-batches, now and from now on

Losses are normalised over the whole group (step.py), so halves give the gradient of the whole, up to rounding. Dropout
draws other masks, an attack that normalises by micro-batch (FGM) takes other directions, and a loss that compares the
records of a micro-batch (contrastive ones) has fewer to compare.

Copy: alone; needs torch.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch

logger = logging.getLogger(__name__)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OF_ALL = ("real_places",)  # say something of the batch as a whole, which can be found again


class OutOfMemory(RuntimeError):
    """The device's memory does not hold a batch."""

    exit_code = 1


class BatchSplitter:
    """Cuts micro-batches into `parts` pieces of equal size, up to one record."""

    def __init__(self) -> None:
        self.parts = 1

    def __call__(self, group: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [piece for batch in group for piece in split(batch, self.parts)]

    def halve(self) -> None:
        self.parts *= 2
        logger.warning("out of memory: micro-batches are cut into %d from here on", self.parts)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": self.parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts = state["parts"]


def split(batch: dict[str, Any], parts: int) -> list[dict[str, Any]]:
    """Pieces of a batch along its records: the first dimension of every tensor, also of nested dicts.

    Where records have several inputs ("input_mask"), the first dimension of the encoder's inputs counts these.
    """
    parts = min(parts, num_records(batch))
    if parts == 1:
        return [batch]
    masks = batch["input_mask"].tensor_split(parts) if "input_mask" in batch else ()
    num_inputs = [int(mask.sum()) for mask in masks]

    def cut(name: str, value: Any, number: int) -> Any:
        if isinstance(value, dict):
            return {inner: cut(inner, tensor, number) for inner, tensor in value.items()}
        if num_inputs and name in INPUTS:
            return value.split(num_inputs)[number]
        return value.tensor_split(parts)[number]

    kept = {name: value for name, value in batch.items() if name not in OF_ALL}
    return [{name: cut(name, value, number) for name, value in kept.items()} for number in range(parts)]


def num_records(batch: dict[str, Any]) -> int:
    return len(batch["sample_id"])


def out_of_memory(batches: Sequence[dict[str, Any]], device: torch.device) -> OutOfMemory:
    """The error to raise: the largest batch, the peak, what to lower."""
    largest = max(batches, key=lambda batch: batch["input_ids"].numel())
    records, length = largest["input_ids"].shape[:2]
    peak = f", peak {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else ""
    return OutOfMemory(
        f"out of memory on {device} in a batch of {records} records x {length} sub-words{peak}; lower --batch_size or "
        "--batch_tokens and raise --accumulate as much, lower --max_length, or give --on_oom halve (one process)"
    )
