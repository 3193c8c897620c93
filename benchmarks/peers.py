"""The same steps of training in the loops of others: ten lines by hand, transformers.Trainer, accelerate, Lightning.

    work = Work(job, model, batches)
    go = bare(work, steps=8)            # or trainer, accelerated, lightning
    clock, tokens = go()

All get the same model, batches in the same order, optimizer, schedule, clipping and precision, each its own way.
Needs: pip install accelerate lightning
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

import main
from model_utils.optim import build_optimizer, build_scheduler
from trainer.device import make_autocast, to_device

from .rounds import WARM_UP, Clock, Go

TOTAL = 1_000_000  # steps of the schedule

@dataclass
class Work:
    """What there is to train."""

    job: main.Job
    model: Any
    """of model_utils"""
    batches: Iterator[dict[str, Any]]
    """without end"""

    def __post_init__(self) -> None:
        args = self.job.args
        self.model.to(self.job.device).train()
        self.optimizer = build_optimizer(self.model, args.lr, args.head_lr, args.weight_decay)
        self.scheduler: Any = build_scheduler("linear", self.optimizer, 0, TOTAL)


class WithLoss(torch.nn.Module):
    """Our model as others call it."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, batch: Any) -> dict[str, Any]:
        return {"loss": self.model(batch).loss}


class Steps:
    """The batches of a round; its clock runs from the end of the last step that does not count."""

    def __init__(self, batches: Iterator[dict[str, Any]], steps: int):
        self.batches, self.steps = batches, steps
        self.clock, self.tokens, self.taken = Clock(), list[int](), 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _ in range(WARM_UP + self.steps):
            batch = next(self.batches)
            self.tokens.append(batch.pop("real_tokens") if "real_tokens" in batch else real_tokens(batch))
            yield batch

    def end_step(self) -> None:
        self.taken += 1
        if self.taken == WARM_UP:
            self.clock.start()
        if self.taken == WARM_UP + self.steps:
            self.clock.stop()

    def one_by_one(self) -> Iterator[dict[str, Any]]:
        """For loops that ask for a batch when they are done with the one before."""
        for batch in self:
            yield batch
            self.end_step()

    def result(self) -> tuple[Clock, float]:
        assert self.taken == WARM_UP + self.steps
        return self.clock, sum(self.tokens[WARM_UP:])


def real_tokens(batch: dict[str, Any]) -> int:
    return int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel()


def ours(work: Work, steps: int) -> Go:
    """trainer/trainer.py, with its log lines."""
    from trainer.step import TrainStep

    job, args = work.job, work.job.args
    step = TrainStep(work.model, work.optimizer, work.scheduler, device=job.device, precision=job.precision,
                     max_grad_norm=args.max_grad_norm)  # fmt: skip
    trainer = main.build_trainer(job, work.model, train_step=step, logging_steps=args.logging_steps, epochs=10**9,
                                 steps_per_epoch=10**9, eval_steps=10**9)  # fmt: skip
    trainer.saved = 0.0

    def go() -> tuple[Clock, float]:
        turn = Steps(work.batches, steps)
        trainer.train_loader = lambda *_: turn.one_by_one()
        trainer.take_steps()
        return turn.result()

    return go


def bare(work: Work, steps: int) -> Go:
    model, optimizer, scheduler, args = work.model, work.optimizer, work.scheduler, work.job.args
    autocast = make_autocast(work.job.precision, work.job.device)

    def go() -> tuple[Clock, float]:
        turn = Steps(work.batches, steps)
        for batch in turn.one_by_one():
            with autocast():
                loss = model(to_device(batch, work.job.device)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        return turn.result()

    return go


def accelerated(work: Work, steps: int) -> Go:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision otherwise
    job = work.job
    mixed = {"fp32": "no"}.get(job.precision, job.precision)
    accelerator = Accelerator(cpu=job.device.type == "cpu", mixed_precision=mixed)
    model, optimizer, scheduler = accelerator.prepare(WithLoss(work.model), work.optimizer, work.scheduler)

    def go() -> tuple[Clock, float]:
        turn = Steps(work.batches, steps)
        for batch in turn.one_by_one():
            loss = model(to_device(batch, accelerator.device))["loss"]
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), job.args.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        return turn.result()

    return go


class Stream(IterableDataset):
    """Batches as a data set, for loops that want one."""

    def __init__(self, batches: Any, wrap: Callable[[Any], Any]):
        self.batches, self.wrap = batches, wrap

    def __iter__(self) -> Iterator[Any]:
        return map(self.wrap, self.batches)


def trainer(work: Work, steps: int) -> Go:
    from transformers import Trainer, TrainerCallback

    class OnBatches(Trainer):
        def get_train_dataloader(self) -> DataLoader:
            return DataLoader(Stream(turn, lambda batch: {"batch": batch}), batch_size=None)

    class EndStep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            turn.end_step()

    turn = Steps(work.batches, steps)

    def go() -> tuple[Clock, float]:
        nonlocal turn
        turn = Steps(work.batches, steps)
        with tempfile.TemporaryDirectory() as folder:
            quietly(OnBatches(model=WithLoss(work.model), args=trainer_arguments(work.job, folder, steps),
                              train_dataset=[0], optimizers=(work.optimizer, work.scheduler),
                              callbacks=[EndStep()]))  # fmt: skip
        return turn.result()

    return go


def quietly(loop: Any) -> None:
    """Train; a Trainer without progress bars prints its figures instead, where ours go."""
    from transformers import PrinterCallback

    loop.remove_callback(PrinterCallback)
    loop.train()


def trainer_arguments(job: main.Job, folder: str, steps: int, **options: Any) -> Any:
    """TrainingArguments of the job that neither save nor log."""
    from accelerate.state import AcceleratorState
    from transformers import TrainingArguments

    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision otherwise
    args = job.args
    return TrainingArguments(
        output_dir=folder, max_steps=WARM_UP + steps, per_device_train_batch_size=args.batch_size,
        learning_rate=args.lr, weight_decay=args.weight_decay, max_grad_norm=args.max_grad_norm,
        use_cpu=job.device.type == "cpu", bf16=job.precision == "bf16", fp16=job.precision == "fp16",
        save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
        **options,
    )  # fmt: skip


def lightning(work: Work, steps: int) -> Go:
    import lightning

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    job = work.job
    groups = [{name: group[name] for name in ("params", "lr", "weight_decay")} for group in work.optimizer.param_groups]
    optimizer = torch.optim.AdamW(groups)  # not fused, with which it does not clip in half precision
    scheduler: Any = build_scheduler("linear", optimizer, 0, TOTAL)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = work.model

        def training_step(self, batch: Any, _: int) -> Any:
            return self.model(batch).loss

        def configure_optimizers(self) -> Any:
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

        def on_train_batch_end(self, *_: Any) -> None:
            turn.end_step()

    module = Module()
    turn = Steps(work.batches, steps)

    def go() -> tuple[Clock, float]:
        nonlocal turn
        turn = Steps(work.batches, steps)
        loop = lightning.Trainer(
            accelerator="cpu" if job.device.type == "cpu" else "gpu", devices=1, max_steps=WARM_UP + steps,
            precision={"bf16": "bf16-mixed", "fp16": "16-mixed"}.get(job.precision, "32-true"), logger=False,
            gradient_clip_val=job.args.max_grad_norm, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few workers, no length
            loop.fit(module, DataLoader(Stream(turn, lambda batch: batch), batch_size=None))
        return turn.result()

    return go


LOOPS: dict[str, Callable[[Work, int], Go]] = {
    "a bare loop": bare, "transformers.Trainer": trainer, "accelerate": accelerated, "Lightning": lightning,
}  # fmt: skip


def check_losses(runs: Mapping[str, tuple[Work, Callable[[Work, int], Go]]], steps: int = 3) -> None:
    """The loops take the same steps: without dropout they have the same losses, one after the other."""
    losses: dict[str, list[float]] = {}
    for name, (work, loop) in runs.items():
        for module in work.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        found = losses[name] = []
        work.model.register_forward_hook(lambda _, __, output, found=found: found.append(float(output.loss)))
        loop(work, steps)()
    first = next(iter(losses.values()))
    for name, found in losses.items():
        torch.testing.assert_close(found, first, rtol=1e-3, atol=1e-4, msg=f"losses of {name}: {found}, not {first}")
