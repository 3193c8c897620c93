"""The one decoding path: evaluation, prediction files and error analysis all come from `predict`.

    result = predict(model, batches, device="cpu")
    result.labels["intent"]         # one label per record, in the order of the sample ids

Copy: with device.py, distributed.py, progress.py; needs torch, tqdm.
"""

import math
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from . import distributed
from .device import sum_dtype, to_device
from .progress import progress_bar


@dataclass
class Predictions:
    """Of all records of all ranks, in the order of their sample ids; the same on every rank."""

    sample_ids: list[int]
    labels: dict[str, list[Any]]
    """task -> one decoded prediction per record; None for records that are not for this task"""
    confidences: dict[str, list[Any]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    """task -> mean loss over its items with gold labels"""
    record_losses: dict[str, list[float | None]] = field(default_factory=dict)
    """task -> loss of each record, None where it has no gold label; only of heads that have such losses"""

    def between(self, ids: range, tasks: Collection[str]) -> "Predictions":
        """Those of some tasks for records whose ids follow one another, numbered from 0, without losses."""
        here = [place for place, number in enumerate(self.sample_ids) if number in ids]

        def chosen(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
            return {task: [found[task][place] for place in here] for task in tasks if task in found}

        return Predictions([self.sample_ids[place] - ids.start for place in here], chosen(self.labels),
                           chosen(self.confidences), record_losses=chosen(self.record_losses))  # fmt: skip


@torch.no_grad()
def predict(
    model: Any,
    loader: Any,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    with_confidences: bool = False,
    progress: bool = True,
) -> Predictions:
    """Decode every record once.

    Args:
        model: a MultiTaskModel or one with the same `heads`; left in eval mode.
        loader: batches of this rank, with a length; with gold labels, losses are computed too.
        autocast: makes the precision context.
        with_confidences: also the probability of each decision, and the losses of each record.
        progress: show a bar on a terminal.
    """
    model.eval()
    heads = model.heads
    rows: list[tuple[int, dict[str, Any], dict[str, Any], dict[str, Any]]] = []
    sums = torch.zeros(len(heads), 2, dtype=sum_dtype(device), device=device)  # loss, items
    ones = dict.fromkeys(heads, 1)  # a divisor of 1: losses stay sums
    for batch in progress_bar(loader, "[EVAL]", len(loader)) if progress else loader:
        batch = to_device(batch, device)
        with autocast():
            output = model(batch, ones)
            labels = {task: heads[task].decode(logits, batch) for task, logits in output.logits.items()}
        sure = {t: heads[t].confidences(logits, batch) for t, logits in output.logits.items() if with_confidences}
        lost = record_losses(heads, output, batch) if with_confidences else {}
        for i, sample_id in enumerate(batch["sample_id"].tolist()):
            if sample_id >= 0:  # no stand-in
                rows.append((sample_id, *({t: v[i] for t, v in found.items()} for found in (labels, sure, lost))))
        for number, (task, head) in enumerate(heads.items()):
            if task in output.losses:
                sums[number, 0] += output.losses[task]
                sums[number, 1] += head.num_items(batch["labels"][task])
    totals = distributed.sum_over_ranks(sums).tolist()
    rows = sorted((row for part in distributed.gather(rows) for row in part), key=lambda row: row[0])
    return Predictions(
        sample_ids=[row[0] for row in rows],
        labels={task: [labels.get(task) for _, labels, _, _ in rows] for task in heads},
        confidences={task: [sure.get(task) for _, _, sure, _ in rows] for task in heads} if with_confidences else {},
        losses={task: loss / items for task, (loss, items) in zip(heads, totals, strict=True) if items},
        record_losses={t: [lost.get(t) for *_, lost in rows] for t in heads if any(t in lost for *_, lost in rows)},
    )


def record_losses(heads: Any, output: Any, batch: Any) -> dict[str, list[float | None]]:
    """task -> loss of each record of a batch; of heads that have such losses, where there is gold."""
    found = {
        task: heads[task].record_losses(output.logits[task], gold, batch).tolist()
        for task, gold in batch.get("labels", {}).items()
        if hasattr(heads[task], "record_losses")
    }
    return {task: [loss if math.isfinite(loss) else None for loss in losses] for task, losses in found.items()}
