"""Separate models: each task has a model of its own. Nothing is forgotten, and nothing is shared.

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[separate]'

Copy: alone; needs only Python.
"""


class Approach:
    TRAINS = "apart"


if __name__ == "__main__":
    assert Approach.TRAINS == "apart"
