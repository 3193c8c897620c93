"""Pictures of continual learning, of matrices of scores as in task_matrix.py: heat maps, curves, score and cost.

    heat_maps({"sequential": [R, …]}, names, "accuracy in percent", Path("matrix.png"))

`found` is label -> matrices (T + 1, T) of an approach's runs, `what` says what the scores are. Needs matplotlib.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .task_matrix import average_accuracy, learnt_curve, learnt_scores

ANNOTATED = 10  # tasks, at most, whose numbers can be read in a heat map
MARKERS = "osD^v"

Found = Mapping[str, Sequence[np.ndarray]]


def heat_maps(found: Found, names: Sequence[str] | None, what: str, path: Path) -> None:
    """The mean over runs, by place in the order. `names` of the tasks if all orders are the same, else None."""
    means = {label: np.mean(matrices, axis=0) for label, matrices in found.items()}  # NaN where a run has none
    num_tasks = next(iter(means.values())).shape[1]
    annotated = num_tasks <= ANNOTATED
    known = np.concatenate([R[~np.isnan(R)] for R in means.values()])
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    inches = 0.4 if annotated else 0.16
    wide = 0.7 + inches * num_tasks
    columns = max(1, min(len(means), int(15 / wide)))
    rows = -(-len(means) // columns)
    longest = 0.07 * max(map(len, names)) if names else 0.1
    size = (wide * columns + 1.0, rows * (0.7 + 0.7 * inches * (num_tasks + 1)) + longest * min(rows, 2) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    colors = mpl.colormaps["viridis"].with_extremes(bad="0.88")
    small = 7 if annotated else 5
    for place, ((label, R), panel) in enumerate(zip(means.items(), panels, strict=False)):
        image = panel.imshow(R, cmap=colors, vmin=low, vmax=high, aspect="auto")
        panel.set_title(wrapped(label, round(8 * wide)), fontsize=8)
        lowest = place + columns >= len(means)
        ticks = names if names and lowest else [str(number) for number in range(1, num_tasks + 1)]
        panel.set_xticks(range(num_tasks), ticks, fontsize=small, rotation=90 if names and lowest else 0)
        panel.set_yticks(range(num_tasks + 1), [str(number) for number in range(num_tasks + 1)], fontsize=small)
        for number in np.flatnonzero(~np.isnan(learnt_scores(R))):
            panel.add_patch(Rectangle((number - 0.5, number + 0.5), 1, 1, fill=False, edgecolor="black", linewidth=0.6))
        for (row, column), value in np.ndenumerate(R) if annotated else ():
            if not np.isnan(value):
                text = f"{value:.0f}" if high - low > 10 else f"{value:.2f}"
                color = "white" if value < (low + high) / 2 else "black"
                panel.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=figure.axes, aspect=40).ax.tick_params(labelsize=7)
    for panel in panels:
        panel.set_visible(False)
    title(figure, f"{what}; grey: not measured; outlined: just learnt")
    figure.supxlabel("task" if names else "task, by its place in the order", fontsize=8)
    figure.supylabel("tasks learnt", fontsize=8)
    figure.savefig(path, dpi=110)


def curves(found: Found, what: str, path: Path) -> None:
    """A_i, mean score of the tasks learnt so far, with a band of a standard deviation; a panel per approach."""
    means = {label: np.array([learnt_curve(R) for R in matrices]) for label, matrices in found.items()}  # (runs, T)
    columns = min(4, len(means))
    rows = -(-len(means) // columns)
    figure = Figure(figsize=(0.6 + 3.0 * columns, 0.8 + 2.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for place, ((label, own), panel) in enumerate(zip(means.items(), panels, strict=False)):
        learnt = np.arange(1, own.shape[1] + 1)
        for other in means.values():
            panel.plot(learnt, other.mean(0), color="0.85", linewidth=0.8)
        middle = own.mean(0)
        if len(own) > 1:
            spread = own.std(0, ddof=1)
            panel.fill_between(learnt, middle - spread, middle + spread, color="C0", alpha=0.25, linewidth=0)
            if np.isnan(middle[:-1]).all():
                panel.errorbar(learnt[-1:], middle[-1:], spread[-1:], color="C0", capsize=3)
        panel.plot(learnt, middle, "o-", color="C0", markersize=3)
        panel.set_title(wrapped(label, 36), fontsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(panel, labelbottom=place + columns >= len(means))
    for panel in panels:
        panel.set_visible(False)
    title(figure, f"mean of the tasks learnt so far; {what}; band: one standard deviation over runs")
    figure.supxlabel("tasks learnt (tasks trained together: all at once)", fontsize=8)
    figure.savefig(path, dpi=110)


def task_curves(found: Found, order: Sequence[str], what: str, path: Path) -> None:
    """Each task's score as others are learnt: of runs in this order, one per approach where it has such a run."""
    columns = min(5, len(order))
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(0.6 + 2.6 * columns, 1.2 + 1.8 * rows + 0.06 * len(found)), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for number, (task, panel) in enumerate(zip(order, panels, strict=False)):
        for place, (label, matrices) in enumerate(found.items()):
            for R in matrices:
                panel.plot(range(len(R)), R[:, number], label=label, markersize=3, linewidth=1, **style(place))
        panel.axvline(number + 1, color="0.5", linewidth=0.8, linestyle=":")
        panel.set_title(f"{number + 1} {task}", fontsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(panel, labelbottom=number + columns >= len(order))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
    for panel in panels:
        panel.set_visible(False)
    title(figure, f"each task, over the number of tasks learnt; {what}; dotted: it is learnt")
    figure.savefig(path, dpi=110)


def trade(found: Found, spent: Mapping[str, Mapping[str, Any]], what: str, path: Path) -> None:
    """ACC, mean and standard deviation over runs, against time and against what is kept between tasks.

    spent: label -> {"seconds": {"mean"}, "relative_time", "bytes_kept"}; seconds only where no relative time is known.
    """
    figure = Figure(figsize=(11, 4), layout="constrained")
    time, memory = figure.subplots(1, 2, sharey=True)
    relative = any(costs["relative_time"] is not None for costs in spent.values())
    for place, (label, matrices) in enumerate(found.items()):
        scores = np.array([average_accuracy(R) for R in matrices])
        spread = scores.std(ddof=1) if len(scores) > 1 else None
        costs = spent[label]
        look = {"yerr": spread, "label": label, "capsize": 2, "markersize": 6} | style(place) | {"linestyle": "none"}
        if (seconds := costs["relative_time"] if relative else costs["seconds"]["mean"]) is not None:
            time.errorbar(seconds, scores.mean(), **look)
        memory.errorbar(costs["bytes_kept"] / 1e6, scores.mean(), **look)
    time.set_xlabel("time of training, sequential = 1" if relative else "seconds of training", fontsize=8)
    memory.set_xscale("symlog", linthresh=1)
    memory.set_xlim(-0.2, 2 * max(1.0, *(costs["bytes_kept"] / 1e6 for costs in spent.values())))
    memory.xaxis.set_major_formatter("{x:g}")
    memory.set_xlabel("MB kept between tasks", fontsize=8)
    for panel in (time, memory):
        tidy(panel)
    time.set_ylabel(f"ACC: {what}", fontsize=8)
    figure.legend(*memory.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    figure.savefig(path, dpi=110)


def style(place: int) -> dict[str, Any]:
    """Of the approach at this place: ten colours, then the same with other markers."""
    return {"color": f"C{place % 10}", "marker": MARKERS[place // 10 % len(MARKERS)]}


def wrapped(label: str, width: int) -> str:
    return "\n".join(textwrap.wrap(label, width))


def title(figure: Figure, text: str) -> None:
    figure.suptitle(wrapped(text, int(12 * figure.get_figwidth())), fontsize=9)


def tidy(panel: Any, **ticks: Any) -> None:
    panel.tick_params(labelsize=7, **ticks)
    panel.grid(alpha=0.3)
