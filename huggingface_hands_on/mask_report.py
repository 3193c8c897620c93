"""What the masks of a run are really like, measured on its own blocks before the first step.

    for line in describe(collate, dataset, tokenizer.mask_token_id): print(line)
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from data_loader.block_batches import TEXT, BlockDataset, MaskedCollator, Turn
from data_process.packing import word_numbers

AT_MOST = 2048  # blocks


def measure(collate: MaskedCollator, dataset: BlockDataset, mask_token_id: int) -> dict[str, Any]:
    """Of the first blocks in epoch 0.

    Returns:
        rate: share of the sub-words of texts that are to be guessed.
        mask, random, kept: what stands at their places, shares of them.
        whole: of the words of two sub-words or more that are masked at all, the share that is masked whole.
        word_lengths: words of 1, 2 … sub-words, the last: of 8 or more.
    """
    turn, ids, flags = dataset.__getitems__(Turn(np.arange(min(len(dataset), AT_MOST)), epoch=0, progress=0.0))
    batch = collate((turn, ids, flags))
    labels, places = batch["labels"]["mlm"].numpy(), batch["masked_places"].numpy()
    known = labels != -100
    chosen = np.zeros(ids.shape, bool)
    chosen[known.nonzero()[0], places[known]] = True
    now = batch["input_ids"].numpy()[chosen]
    is_text = flags & TEXT > 0
    word = word_numbers(flags)
    lengths = np.bincount(word)
    masked = np.bincount(word, weights=chosen[is_text])
    longer = (lengths > 1) & (masked > 0)
    return {
        "rate": chosen.sum() / is_text.sum(),
        "mask": (now == mask_token_id).mean(),
        "random": ((now != mask_token_id) & (now != ids[chosen])).mean(),
        "kept": (now == ids[chosen]).mean(),
        "whole": (masked[longer] == lengths[longer]).mean() if longer.any() else 1.0,
        "word_lengths": np.bincount(lengths.clip(max=8), minlength=9)[1:].tolist(),
    }


def describe(collate: MaskedCollator, dataset: BlockDataset, mask_token_id: int) -> Iterator[str]:
    """Lines for people."""
    found = measure(collate, dataset, mask_token_id)
    yield (f"masks: {found['rate']:.2%} of the sub-words; {found['mask']:.1%} of them [MASK], {found['random']:.1%} "
           f"random, {found['kept']:.1%} as they were")  # fmt: skip
    yield f"words of several sub-words: {found['whole']:.1%} of the masked ones are masked whole"
    total = sum(found["word_lengths"])
    for length, count in enumerate(found["word_lengths"], 1):
        more = " or more" if length == len(found["word_lengths"]) else ""
        yield f"  {count / total:6.1%}  {'█' * round(40 * count / total)} words of {length}{more}"
