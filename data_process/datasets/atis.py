"""ATIS: requests for flight information with intents and slots, English, lower-case words.

Hemphill et al. 1990, "The ATIS Spoken Language Systems Pilot Corpus", https://aclanthology.org/H90-1021; the split of
Goo et al. 2018 (Slot-Gated), https://github.com/monologg/JointBERT/tree/master/data/atis. The original is distributed
by the LDC (ATIS2: LDC93S5, ATIS3: LDC94S19), under its licence.

Raw files: folders train, dev (or valid) and test with `seq.in`, `seq.out` and `label`, line n of each for sentence n;
or atis-2.train.w-intent.iob and the like, one sentence per line: `BOS words EOS`, a tab, tags, the intent; or
train.txt, dev.txt, test.txt with `word tag` lines and the intent on a line of its own below each sentence.
"""

from collections import Counter

from ..readers.lines import Items
from ._joint_format import BESIDE, read_joint

__all__ = ["BESIDE", "FILES", "FORM", "read"]

FORM = "joint"
FILES = ("seq.in", "*.iob", "*.txt")
INTENTS = tuple(f"atis_{name}" for name in (
    "abbreviation", "aircraft", "airfare", "airline", "airport", "capacity", "cheapest", "city", "day_name", "distance",
    "flight", "flight_no", "flight_time", "ground_fare", "ground_service", "meal", "quantity", "restriction",
))  # fmt: skip


def read(file: str, notes: Counter[str]) -> Items:
    return read_joint(file, INTENTS, notes)
