"""SNIPS: seven intents of a voice assistant with their slots, English, lower-case words.

Coucke et al. 2018, "Snips Voice Platform", https://arxiv.org/abs/1805.10190; the split of Goo et al. 2018 (Slot-Gated),
https://github.com/monologg/JointBERT/tree/master/data/snips. Licence of the original: CC0 1.0
(https://github.com/sonos/nlu-benchmark).

Raw files: folders train, dev (or valid) and test with `seq.in`, `seq.out` and `label`, line n of each for sentence n;
or train.txt, dev.txt, test.txt with `word tag` lines and the intent on a line of its own below each sentence.
"""

from collections import Counter

from ..readers.lines import Items
from ._joint_format import BESIDE, read_joint

__all__ = ["BESIDE", "FILES", "FORM", "read"]

FORM = "joint"
FILES = ("seq.in", "*.iob", "*.txt")
INTENTS = ("AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook", "SearchCreativeWork",
           "SearchScreeningEvent")  # fmt: skip


def read(file: str, notes: Counter[str]) -> Items:
    return read_joint(file, INTENTS, notes)
