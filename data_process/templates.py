"""Special tokens around one text or two, what is kept of texts that are too long, and windows over them.

    template = Template(tokenizer, num_texts=2)
    template.fill([[7, 8], [9]])                    # ids and type ids of [CLS] 7 8 [SEP] 9 [SEP]
    cut([100, 20], room=60)                         # [40, 20]
    spans = windows(1000, room=384, overlap=128)    # [(0, 384), (256, 640), (512, 896), (768, 1000)]
    owners(spans)                                   # for each of the 1000 the window in which it has most context

Copy: alone; needs numpy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Template:
    """The special tokens before, between and behind the texts, taken from an example."""

    def __init__(self, tokenizer: Any, num_texts: int):
        example = [tokenizer.unk_token or tokenizer.pad_token] * num_texts  # whatever it knows
        encoding = tokenizer(*example, truncation=False, padding=False).encodings[0]
        self.special: list[list[int]] = [[] for _ in range(num_texts + 1)]
        self.special_types: list[list[int]] = [[] for _ in range(num_texts + 1)]
        self.text_types = [0] * num_texts
        part = 0  # number of texts so far
        for number, type_id, text in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
            if text is None:
                self.special[part].append(number)
                self.special_types[part].append(type_id)
            else:
                self.text_types[text] = type_id
                part = text + 1
        self.num_special = sum(map(len, self.special))

    def fill(self, texts: Sequence[list[int]]) -> tuple[list[int], list[int]]:
        """Ids and type ids of the texts with special tokens."""
        ids, type_ids = list(self.special[0]), list(self.special_types[0])
        for number, text in enumerate(texts):
            ids += text + self.special[number + 1]
            type_ids += [self.text_types[number]] * len(text) + self.special_types[number + 1]
        return ids, type_ids


def cut(lengths: Sequence[int], room: int) -> list[int]:
    """How much is kept of one text or two; of two the longer one is cut first, as `longest_first` of transformers."""
    if sum(lengths) <= room:
        return list(lengths)
    if len(lengths) == 1:
        return [room]
    first, second = lengths
    shorter = min(first, second, room // 2)
    return [room - shorter, shorter] if first > second else [shorter, room - shorter]


def windows(length: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """First place and the one behind the last of pieces of at most `room` that cover `length` places.

    overlap: places that two neighbours share; below `room`.
    """
    last = max(0, -(-(length - room) // (room - overlap)))
    return [(n * (room - overlap), min(n * (room - overlap) + room, length)) for n in range(last + 1)]


def owners(spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """The window of each place that gives it most context on its poorer side, as in Devlin et al. 2019 for SQuAD.

    spans: neither start nor end of a window is before that of the window in front of it.
    """
    starts, ends = np.array(spans).T
    places = np.arange(ends[-1])
    # only windows whose middles are next to the place: all windows x all places would not fit in memory
    after = np.searchsorted(starts + ends - 1, 2 * places)
    near = np.clip([after - 1, after], 0, len(spans) - 1)  # (2, places)
    context = np.minimum(places - starts[near], ends[near] - 1 - places) + 0.01 * (ends - starts)[near]
    context[(places < starts[near]) | (places >= ends[near])] = -np.inf
    return np.where(context[1] > context[0], *near[::-1])
