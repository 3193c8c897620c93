"""From the inputs of a batch to its records, where a record may have several: windows, choices, both texts of a pair.

    words = at_places(hidden, batch["word_starts"], batch)      # (B, W, H), also across windows
    vectors = per_record(vectors, batch)                        # (R, H) -> (B, K, H)
    vectors = record_mean(vectors, batch)                       # (R, H) -> (B, H)

B records, R inputs of the encoder (R = B if each record has one), K most inputs of a record,
T sub-words, W words, H hidden size.

Copy: alone; needs torch.
"""

from collections.abc import Mapping
from typing import Any

import torch


def at_places(hidden: torch.Tensor, places: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """
    Args:
        hidden: (R, T, H).
        places: (B, W), counted over the inputs of each record: place t of its input k is k * T + t.

    Returns: (B, W, H).
    """
    mask = batch.get("input_mask")
    first = torch.arange(places.shape[0], device=places.device) if mask is None else first_inputs(mask)  # (B,)
    return hidden.flatten(0, 1)[first[:, None] * hidden.shape[1] + places]


def per_record(values: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """(R, …) -> (B, K, …); where a record has no such input, `input_mask` is False and the values are of another."""
    mask = batch.get("input_mask")
    if mask is None:
        return values[:, None]
    numbers = first_inputs(mask)[:, None] + torch.arange(mask.shape[1], device=mask.device)
    return values[numbers.clamp(max=values.shape[0] - 1)]


def first_inputs(mask: torch.Tensor) -> torch.Tensor:
    """Number of each record's first input, (B,), from the mask of real inputs (B, K)."""
    counts = mask.sum(1)
    return counts.cumsum(0) - counts


def record_mean(vectors: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """The mean over the inputs of each record: (R, H) -> (B, H)."""
    mask = batch.get("input_mask")
    if mask is None:
        return vectors
    real = mask[:, :, None].to(vectors.dtype)  # (B, K, 1)
    return (per_record(vectors, batch) * real).sum(1) / real.sum(1)
