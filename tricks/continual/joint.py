"""Joint training: one model on all tasks at once, mixed as main.py mixes data sets. The upper bound of the others.

Caruana: Multitask learning, Machine Learning 28, 1997, https://doi.org/10.1023/A:1007379606734.

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[joint]'

Copy: alone; needs only Python.
"""


class Approach:
    TRAINS = "together"


if __name__ == "__main__":
    assert Approach.TRAINS == "together"
