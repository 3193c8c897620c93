"""Sequential fine-tuning: one task after the other, and nothing against forgetting. The lower bound of the others.

McCloskey, Cohen: Catastrophic interference in connectionist networks, 1989, https://doi.org/10.1016/S0079-7421(08)60536-8.

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[sequential]'

It is also the file to start from for an approach of your own: see docs/continual.md.

Copy: alone; needs only Python.
"""


class Approach:
    """Has none of the members that __init__.py lists."""


if __name__ == "__main__":
    assert [name for name in vars(Approach) if not name.startswith("__")] == []
