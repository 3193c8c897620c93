"""The best path of a linear-chain CRF in NumPy, for servers without torch: what `crf.decode` of crf.py finds.

    save_scores("crf.npz", crf)                                  # once, where torch is: forbidden transitions included
    paths = viterbi(emissions, mask, **np.load("crf.npz"))       # (B, T, C), (B, T) -> one tag number per kept word

The same steps in the same order of additions as crf.py, in fp32, all rows at once. Viterbi, "Error bounds for
convolutional codes", IEEE Transactions on Information Theory 1967. B rows, T words, C tags.

Copy: alone; needs numpy.
"""

from pathlib import Path
from typing import Any

import numpy as np


def viterbi(
    emissions: np.ndarray, mask: np.ndarray, start: np.ndarray, end: np.ndarray, pairs: np.ndarray
) -> list[list[int]]:
    """
    Args:
        emissions: (B, T, C) scores of each tag at each word.
        mask: (B, T), non-zero = keep; may have holes.
        start, end: (C,) scores of tags at both ends.
        pairs: (C, C), pairs[i, j] = score of tag j behind tag i.
    """
    order = np.argsort(mask == 0, axis=1, kind="stable")  # kept words first
    keep = np.take_along_axis(mask != 0, order, axis=1)
    emissions = np.take_along_axis(emissions.astype(np.float32), order[:, :, None], axis=1)
    highest = emissions.max(2, keepdims=True)
    emissions = emissions - (highest + np.log(np.exp(emissions - highest).sum(2, keepdims=True)))
    score, backward = start + emissions[:, 0], pairs.T[None]  # (B, C) best path to each word that ends in tag j
    scores = [score]
    for word in range(1, emissions.shape[1]):
        longer = (score[:, None] + backward).max(2) + emissions[:, word]  # (B, C, C) -> (B, C)
        score = np.where(keep[:, word, None], longer, score)
        scores.append(score)
    tags = (score + end).argmax(1)  # (B,)
    path = [tags]  # the last word first
    for word in range(emissions.shape[1] - 1, 0, -1):
        tags = np.where(keep[:, word], (scores[word - 1] + pairs[:, tags].T).argmax(1), tags)
        path.append(tags)
    rows = np.stack(path[::-1], axis=1).tolist()
    return [row[:length] for row, length in zip(rows, keep.sum(1).tolist(), strict=True)]


def save_scores(path: str | Path, crf: Any) -> None:
    """start, end and pairs of a CRF of crf.py, as `viterbi` takes them."""
    start, end, pairs = (scores.detach().cpu().numpy() for scores in crf.decoding_scores())
    np.savez(path, start=start, end=end, pairs=pairs)
