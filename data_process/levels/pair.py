"""How alike two texts are: a number, or "0" and "1". Each text is encoded by itself.

Some objectives learn from pairs, or from texts alone, without any gold: such a record counts as a surely alike pair.
"""

import math

from .number import DEPTH, DTYPE, NAMED, check, gold, is_right, names, right, shown

__all__ = ["DEPTH", "DTYPE", "FORM", "NAMED", "check", "encode", "gold", "is_right", "names", "right", "shown"]
FORM = "separate"


def encode(gold: float | None, vocab: None, feature: dict[str, object]) -> float:
    return math.inf if gold is None else gold
