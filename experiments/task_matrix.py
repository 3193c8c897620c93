"""Measures of continual learning, of a matrix of scores: what is known at the end, what is forgotten, what helps.

    R = np.array([[0.5, 0.5], [0.9, 0.6], [0.8, 0.7]])
    summary(R)                # {"ACC": 0.75, "BWT": -0.1, "FWT": 0.1, "forgetting": 0.1, "LA": 0.8, "AIA": 0.825}

R: floats (T + 1, T). R[i, j] is the score of task j, in the order of training and counted from 1, when i tasks are
learnt; row 0 is the model before the first task. Higher is better: give scores that should fall negated. NaN where
nothing was measured; a column of NaN alone is a task that does not have this metric, and is left out of all means.

A measure that needs a score that is missing is NaN, and absent from `summary`: no mean is taken over those that happen
to be there. So of tasks trained together (the last row alone) there is ACC, and of separate models (below row 0 the
diagonal alone) there are ACC, LA and the curve, for which such a model stays as it was.

numpy only.
"""

import numpy as np


def average_accuracy(R: np.ndarray) -> float:
    """ACC = mean over j of R[T, j]; of separate models that of R[j, j].

    Lopez-Paz and Ranzato: Gradient Episodic Memory, 2017, https://arxiv.org/abs/1706.08840.
    """
    return mean(final_scores(R)[counted(R)])


def backward_transfer(R: np.ndarray) -> float:
    """BWT = mean over j < T of R[T, j] - R[j, j]: negative where tasks were forgotten.

    Lopez-Paz and Ranzato 2017.
    """
    return mean((R[-1] - learnt_scores(R))[:-1][counted(R)[:-1]])


def forward_transfer(R: np.ndarray) -> float:
    """FWT = mean over j > 1 of R[j - 1, j] - R[0, j]: what earlier tasks bring to one that is not yet learnt.

    Lopez-Paz and Ranzato 2017, who subtract the score of a model with random weights. R[0, j] is that of the model
    before the first task, which may be a pretrained one. A task with a head of its own is guessed until it is learnt.
    """
    return mean((np.diagonal(R) - R[0])[1:][counted(R)[1:]])  # of R as it is the diagonal is R[j - 1, j]


def forgetting(R: np.ndarray) -> float:
    """F = mean over j < T of (max over l = j … T - 1 of R[l, j]) - R[T, j]; negative where all tasks got better.

    Chaudhry, Dokania, Ajanthan, Torr: Riemannian Walk, 2018, https://arxiv.org/abs/1801.10112. Their l begins at 1, but
    they evaluate a task only once it is learnt.
    """
    num_tasks = width(R)
    return mean(np.array([R[j + 1 : -1, j].max() - R[-1, j] for j in range(num_tasks - 1) if counted(R)[j]]))


def learning_accuracy(R: np.ndarray) -> float:
    """LA = mean over j of R[j, j]: how well a task is known right after it was learnt.

    Riemer et al.: Learning to Learn without Forgetting by Maximizing Transfer and Minimizing Interference (MER), 2019,
    https://arxiv.org/abs/1810.11910.
    """
    return mean(learnt_scores(R)[counted(R)])


def learnt_curve(R: np.ndarray) -> np.ndarray:
    """A (T,): A_i = mean over j <= i of R[i, j], of the tasks learnt so far; of separate models that of R[j, j]."""
    rows = np.where(np.isnan(R[1:]), learnt_scores(R), R[1:]) if separate(R) else R[1:]
    return np.array([mean(row[:i][counted(R)[:i]]) for i, row in enumerate(rows, 1)])


def average_incremental_accuracy(R: np.ndarray) -> float:
    """AIA = mean over i of A_i.

    Rebuffi et al.: iCaRL, 2017, https://arxiv.org/abs/1611.07725; there of all records of the classes so far, here of
    tasks, each with the same weight.
    """
    return mean(learnt_curve(R))


MEASURES = {
    "ACC": average_accuracy,
    "BWT": backward_transfer,
    "FWT": forward_transfer,
    "forgetting": forgetting,
    "LA": learning_accuracy,
    "AIA": average_incremental_accuracy,
}


def summary(R: np.ndarray) -> dict[str, float]:
    """Those of MEASURES that are defined."""
    width(R)
    return {name: value for name, measure in MEASURES.items() if not np.isnan(value := measure(R))}


def final_scores(R: np.ndarray) -> np.ndarray:
    """(T,) when all tasks are learnt: the last row, or of separate models the diagonal."""
    return learnt_scores(R) if separate(R) else R[-1]


def learnt_scores(R: np.ndarray) -> np.ndarray:
    """(T,) R[j, j]."""
    return np.diagonal(R[1:])


def separate(R: np.ndarray) -> bool:
    """Whether below row 0 each task was measured when it was learnt, and then only."""
    num_tasks = width(R)
    return bool(num_tasks > 1 and (~np.isnan(R[1:]) == (np.eye(num_tasks, dtype=bool) & counted(R))).all())


def counted(R: np.ndarray) -> np.ndarray:
    """(T,) of bool: tasks that have a score at all."""
    return ~np.isnan(R).all(axis=0)


def width(R: np.ndarray) -> int:
    """T. Raises ValueError if R is no such matrix."""
    if R.ndim != 2 or R.shape[0] != R.shape[1] + 1 or not R.size:
        raise ValueError(f"a matrix of T tasks has the shape (T + 1, T), found {R.shape}")
    return R.shape[1]


def mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
