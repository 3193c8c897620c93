"""One vector per text from the hidden states of an encoder.

    vector = pool(hidden_states, attention_mask, "mean")      # (B, H)

B texts, T sub-words, H hidden size.

Copy: alone; needs torch.
"""

from collections.abc import Sequence

import torch

POOLING = ("cls", "mean", "max", "first_last_mean")


def pool(hidden_states: Sequence[torch.Tensor], attention_mask: torch.Tensor, how: str = "cls") -> torch.Tensor:
    """
    Args:
        hidden_states: one (B, T, H) per layer, the embeddings' output first; only "first_last_mean" (the mean of the
            first and the last layer's means, as in BERT-whitening, Su et al. 2021) needs more than the last one.
        attention_mask: (B, T), 1 = real sub-word.
        how: one of POOLING.

    Returns: (B, H).
    """
    last = hidden_states[-1]
    check_pooling(how)
    if how == "cls":
        return last[:, 0]
    if how == "mean":
        return masked_mean(last, attention_mask)
    if how == "max":
        return last.masked_fill(attention_mask[:, :, None] == 0, float("-inf")).amax(dim=1)
    if len(hidden_states) < 2:
        raise ValueError("first_last_mean needs the hidden states of all layers")
    return (masked_mean(hidden_states[1], attention_mask) + masked_mean(last, attention_mask)) / 2


def check_pooling(how: str) -> str:
    """The name itself. Raises ValueError for an unknown one, with those there are."""
    if how not in POOLING:
        raise ValueError(f"unknown pooling {how!r}; there are {', '.join(POOLING)}")
    return how


def masked_mean(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    mask = attention_mask[:, :, None].to(hidden.dtype)  # (B, T, 1)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)
