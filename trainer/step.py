"""One optimizer step from a group of micro-batches, exact under accumulation, mixed precision and data parallelism.

    train_step = TrainStep(model, optimizer, scheduler, device="cuda", precision="bf16", attacks=[FGM(model)])
    losses, samples = train_step([batch, batch, batch])

Losses are sums over items divided by the number of items of the whole group over all ranks, so 1 x 8 = 2 x 4 = 4 x 2
micro-batches give the same gradient. Nothing is read back from the device.

Copy: with device.py, distributed.py, memory.py, sharding.py, speed.py; needs torch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import nn

from . import distributed
from .device import make_autocast, to_device
from .memory import BatchSplitter, num_records, out_of_memory
from .sharding import whole_tensor
from .speed import ALONE, Speed, peak_flops


def plain_loss(model: nn.Module, batch: Mapping[str, Any], num_items: Mapping[str, Any]) -> Any:
    """The default `compute_loss`; returns an object with `loss` and `losses`."""
    return model(batch, num_items)


def single_pass(backward: Callable[[], Any]) -> Any:
    """The default `main_pass`."""
    return backward()


def nothing_of(heads: Sequence[nn.Module]) -> Any:
    """0, with a gradient of zeros for each parameter: ranks that exchange gradients need the same ones."""
    parameters = (p for head in heads for p in head.parameters() if p.requires_grad)
    return sum((0 * parameter.sum() for parameter in parameters), start=0)


class TrainStep:
    """Holds what an update needs: model, optimizer, schedule, loss scale, tricks."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        *,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        max_grad_norm: float = 1.0,
        compute_loss: Callable[..., Any] = plain_loss,
        main_pass: Callable[[Callable[[], Any]], Any] = single_pass,
        attacks: Sequence[Callable[[Callable[[], Any]], Any]] = (),
        averagers: Sequence[Any] = (),
        stateful: Mapping[str, Any] | None = None,
        on_oom: str = "stop",
        tasks_vary: bool = False,
        padded: bool = True,
        peak_tflops: float = 0.0,
    ):
        """
        Args:
            model: forward(batch, num_items) -> loss, losses; heads: task -> head; num_items(labels) -> task -> count.
            optimizer: fused, so that a non-finite update is masked on the device, see `update`; for others, which have
                no such mask, the host waits for the device in each step.
            scheduler: step(), state_dict(), load_state_dict(); steps after each update.
            precision: "fp32", "bf16" or "fp16" (with loss scaling).
            max_grad_norm: 0 = no clipping.
            compute_loss: (model, batch, num_items) -> output; a trick may wrap it.
            main_pass: called as main_pass(backward), adds a micro-batch's gradient and returns what its first backward
                did; a trick (SAM, FreeLB …) may take more than one backward for it.
            attacks: called as attack(backward) after that; add adversarial gradients. They and main_pass may have an
                attribute `passes`, the number of times they call backward, where it is not 1.
            averagers: update() after each step, applied() around evaluations, state_dict(), load_state_dict().
            stateful: name -> whatever else has state_dict() and load_state_dict().
            on_oom: "stop", or "halve": when memory does not suffice, cut the micro-batches and try the group again;
                in a single process only, because the other ranks would wait.
            tasks_vary: micro-batches may lack tasks, so that some parameters have no gradient in them.
            padded: the model works on padding, too; for figures of its speed.
            peak_tflops: what the device can do in this precision, for its MFU; 0 = what is known of it, see speed.py.
        """
        self.device = torch.device(device)
        self.module: Any = model
        self.model = distributed.wrap(model, self.device, tasks_vary)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer: Any = optimizer
        self.masks_on_device = getattr(optimizer, "_step_supports_amp_scaling", False)
        self.scheduler = scheduler
        self.autocast = make_autocast(precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.max_grad_norm = max_grad_norm or math.inf
        self.compute_loss, self.averagers, self.stateful = compute_loss, list(averagers), dict(stateful or {})
        self.gradient_takers = [main_pass, *attacks]
        self.absent_heads_count = tasks_vary and distributed.is_sharded(model)
        self.all_heads = tasks_vary and distributed.is_sharded(model)
        self.on_oom, self.splitter = on_oom, BatchSplitter()
        # the forward pass of a model that is spread begins by fetching weights from the other ranks
        alone = ("data",) if distributed.is_sharded(model) else ALONE
        self.speed = Speed(self.device, padded, alone, 1e12 * peak_tflops or peak_flops(self.device, precision))
        self.masked = self.grad_norm = torch.zeros((), device=self.device)
        self.rates: dict[str, float] = {}

    def __call__(self, group: Sequence[dict[str, Any]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """
        Args:
            group: the micro-batches of this rank, at least one; the last group of an epoch may be short.

        Returns: this rank's share of "loss" and "<task>/loss", and the number of samples over all ranks, on the device.
        """
        losses, samples = self.gradient(group)
        with self.speed("optimizer"):
            self.update()
        return losses, samples

    def gradient(self, group: Sequence[dict[str, Any]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Add the group's gradient, in smaller micro-batches if memory is short; returns what `__call__` does."""
        while True:
            try:
                return self.accumulate(self.splitter(group))
            except torch.OutOfMemoryError:
                self.recover(group)

    def accumulate(self, group: Sequence[dict[str, Any]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """One try of `gradient`."""
        num_items, samples = self.count_items(group)
        losses: dict[str, torch.Tensor] = {}
        with self.speed.counting(self.module, group):
            for number, batch in enumerate(group, 1):
                output = self.all_passes(to_device(batch, self.device), num_items, sync=number == len(group))
                self.add_losses(losses, output)
        if self.all_heads:
            self.forget_absent(group)
        for batch in group:
            self.speed.count(batch)
        return losses, samples

    def all_passes(self, batch: dict[str, Any], num_items: Mapping[str, torch.Tensor], sync: bool) -> Any:
        """A micro-batch's gradient; if `sync`, the last backward averages over the ranks. Returns the main output."""
        number, last = count(1), sum(getattr(taker, "passes", 1) for taker in self.gradient_takers)

        def backward() -> Any:
            is_last = next(number) == last
            return self.backward(batch, num_items, sync and is_last, is_last)

        main_pass, *attacks = self.gradient_takers
        output = main_pass(backward)
        for attack in attacks:
            attack(backward)
        return output

    def recover(self, group: Sequence[dict[str, Any]]) -> None:
        """Drop the group's gradients and cut its micro-batches smaller. Raises OutOfMemory if that is not possible."""
        self.optimizer.zero_grad()
        pieces = self.splitter(group)
        if self.on_oom == "stop" or distributed.world_size() > 1 or all(num_records(piece) == 1 for piece in pieces):
            raise out_of_memory(pieces, self.device) from None
        self.splitter.halve()

    def backward(
        self, batch: dict[str, Any], num_items: Mapping[str, torch.Tensor], sync: bool, is_last: bool
    ) -> Any:
        """Forward and backward of one micro-batch; adds to the gradients and, if `sync`, averages them over ranks.

        is_last: of the passes for this micro-batch.
        """
        with distributed.gradient_sync(self.model, sync, is_last):
            with self.speed("forward"), self.autocast():
                output = self.compute_loss(self.model, batch, num_items)
                if self.all_heads:
                    unused = [head for task, head in self.module.heads.items() if task not in batch["labels"]]
                    output.loss = output.loss + nothing_of(unused)
            # DDP averages over the ranks, while the loss is already divided by the items of all of them.
            # finite: 1, or NaN for a non-finite loss, whose gradients may be finite: it masks the update on all ranks
            finite = 1 + 0 * output.loss.detach()
            with self.speed("backward"):
                self.scaler.scale(output.loss * distributed.world_size() * finite).backward()
        return output

    def update(self) -> None:
        """Clip, step, schedule, zero. A non-finite gradient masks the update on the device, as GradScaler does.

        `masked` is then 1, else 0; `grad_norm` is the norm before it was clipped.
        """
        self.scaler.unscale_(self.optimizer)
        self.grad_norm = whole_tensor(nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm))
        self.masked = (~self.grad_norm.isfinite()).float()
        if self.masks_on_device:
            self.optimizer.found_inf = self.masked
        if self.masks_on_device or self.scaler.is_enabled() or not self.masked:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rates = {group.get("name", str(i)): group["lr"] for i, group in enumerate(self.optimizer.param_groups)}
        self.scheduler.step()
        self.optimizer.zero_grad()
        for averager in self.averagers:
            averager.update()

    def count_items(self, group: Sequence[dict[str, Any]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Items per task (at least 1) and samples of the group over all ranks, without stand-ins (sample_id -1)."""
        counts = [self.module.num_items(batch["labels"]) for batch in group]
        samples = [(batch["sample_id"] >= 0).sum() for batch in group]
        per_batch = torch.stack([torch.stack([*c.values(), s]) for c, s in zip(counts, samples, strict=True)])
        totals = distributed.sum_over_ranks(per_batch.sum(0).to(self.device, non_blocking=True))
        return dict(zip(self.module.heads, totals[:-1].clamp(min=1).unbind(), strict=True)), totals[-1]

    def forget_absent(self, group: Sequence[dict[str, Any]]) -> None:
        """Heads that no rank's group is for have no gradient, as in a single process, instead of zeros."""
        heads = self.module.heads
        present = distributed.max_over_ranks(*(any(task in batch["labels"] for batch in group) for task in heads))
        for head in (head for head, there in zip(heads.values(), present, strict=True) if not there):
            for parameter in head.parameters():
                parameter.grad = None

    def add_losses(self, losses: dict[str, torch.Tensor], output: Any) -> None:
        """Every task gets an entry, so that all ranks hold the same ones."""
        zero = torch.zeros((), device=self.device)
        new = {"loss": output.loss} | {f"{task}/loss": output.losses.get(task, zero) for task in self.module.heads}
        for name, value in new.items():
            losses[name] = losses.get(name, zero) + value.detach()

    @property
    def diverged(self) -> torch.Tensor:
        """1 if the last update was masked; fp16's scaler masks some on purpose: they do not count."""
        return torch.zeros_like(self.masked) if self.scaler.is_enabled() else self.masked

    @property
    def scale(self) -> float:
        """fp16's loss scale, else 1; read from the device."""
        return self.scaler.get_scale()

    def parts(self) -> dict[str, Any]:
        """Everything with state_dict and load_state_dict, by name."""
        averagers = {f"averager {number}": averager for number, averager in enumerate(self.averagers)}
        own = {"optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.scaler}
        return own | {"splitter": self.splitter} | averagers | self.stateful
