"""Epochs, evaluation, the best state, resuming.

    trainer = Trainer(model, TrainStep(model, optimizer, scheduler), train_loader=loader, epochs=3)
    trainer.train()
    metrics = trainer.eval(eval_batches, references)
    result = trainer.predict(batches)

Between two log lines the host never waits for the device.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from . import distributed
from .device import make_autocast, rng_state, set_rng_state
from .early_stopping import EarlyStopping
from .meter import Meter
from .metrics import joint_metrics, loss_metrics, tune
from .nonfinite import NonfinitePolicy, TrainingDiverged
from .prediction import Predictions, predict
from .progress import duration, figures, progress_bar
from .run_folder import RunFolder, read_state
from .sharding import evaluation, layout, spread, whole
from .signals import Interrupted
from .speed import describe
from .step import TrainStep
from .stragglers import Stragglers

logger = logging.getLogger(__name__)


class Trainer:
    """Trains, evaluates and predicts. Everything it needs comes as an argument; it imports no other room."""

    def __init__(
        self,
        model: Any,
        train_step: TrainStep | None = None,
        *,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        train_loader: Callable[[int, int], Iterable[dict[str, Any]]] | None = None,
        steps_per_epoch: int = 1,
        epochs: int = 1,
        max_steps: int = 0,
        accumulate: int = 1,
        callbacks: Sequence[Callable[[str, int, Mapping[str, Any]], None]] = (),
        eval_loader: Iterable[dict[str, Any]] | None = None,
        references: Callable[[Sequence[int]], Mapping[str, Sequence[Any]]] | None = None,
        metric_function: Callable[..., dict[str, float]] | None = None,
        early_stopping: EarlyStopping | None = None,
        eval_steps: int = 0,
        save_steps: int = 0,
        save_minutes: float = 0.0,
        logging_steps: int = 20,
        run_folder: RunFolder | None = None,
        nonfinite: NonfinitePolicy | None = None,
        stop_signal: Callable[[], int] = int,
    ):
        """
        Args:
            model: heads: task -> head; loss_weights: task -> factor; see model_utils.
            train_step: one optimizer step, see step.py; None: only eval and predict.
            precision: "fp32", "bf16" or "fp16", of evaluation; the training step has its own.
            train_loader: (epoch, samples_seen) -> this rank's micro-batches from there on.
            steps_per_epoch: optimizer steps of a whole epoch, for the progress bar.
            epochs, max_steps: the first of both ends training; max_steps 0 = epochs decide.
            accumulate: micro-batches of an optimizer step.
            callbacks: callback(event, step, values), see monitor.py; called on every rank.
            eval_loader, references: evaluation in training; references(sample_ids) -> task -> gold labels.
            metric_function: (predictions, references) -> metrics; default: joint_metrics of the model's heads.
            early_stopping: chooses the best state and ends training.
            eval_steps, save_steps: optimizer steps between; 0 = at the end of each epoch, after each evaluation.
            save_minutes: save also when so much time has passed since the last save; 0 = off.
            run_folder: where last/ and best/ go; None: nothing is saved.
            nonfinite: what a non-finite loss or gradient does; None: the first one ends training.
            stop_signal: number of a signal that ends training after this step, 0 = none; see signals.py.
        """
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.train_step: Any = train_step
        self.autocast = make_autocast(precision, self.device)
        self.train_loader: Any = train_loader
        self.steps_per_epoch, self.epochs, self.max_steps = steps_per_epoch, epochs, max_steps or math.inf
        self.accumulate, self.callbacks = accumulate, list(callbacks)
        self.eval_loader: Any = eval_loader
        self.references: Any = references
        self.early_stopping = early_stopping
        self.metric_function = metric_function or partial(joint_metrics, model.heads)
        self.eval_steps = eval_steps or math.inf
        self.save_steps = save_steps or self.eval_steps
        self.save_seconds = 60 * save_minutes or math.inf
        self.logging_steps, self.run_folder = logging_steps, run_folder
        self.nonfinite, self.stop_signal = nonfinite or NonfinitePolicy(), stop_signal
        self.epoch = self.step = 0
        self.samples_seen = torch.zeros((), dtype=torch.int64, device=self.device)  # in this epoch, by all ranks
        self.window, self.interval = Meter(self.device), Meter(self.device)  # since the last log line, evaluation
        self.stragglers = Stragglers()
        self.history: list[dict[str, Any]] = []

    def train(self) -> list[dict[str, Any]]:
        """Train from the current state to the end; returns the history that also stands in log.json.

        Raises: TrainingDiverged; SaveError; Interrupted, when the state has been saved after a stop signal.
        """
        self.saved = time.monotonic()
        for name in ("training", "log"):
            self.train_step.speed.since(name)
        begins = self.logged = self.step
        try:
            while not self.finished:
                self.train_one_epoch()
        finally:
            self.wait_for_disk()
        distributed.barrier()
        if self.step > begins:
            self.tell_end()
        return self.history

    @property
    def finished(self) -> bool:
        """No step is left, and the last one is evaluated."""
        return self.stopped and bool(self.history) and self.history[-1]["step"] == self.step

    @property
    def stopped(self) -> bool:
        """No step is left."""
        stopping = self.early_stopping is not None and self.early_stopping.should_stop
        return self.epoch >= self.epochs or self.step >= self.max_steps or stopping

    def train_one_epoch(self) -> None:
        """The steps that are left of the current epoch, then evaluate and save."""
        epoch = self.epoch
        if not self.stopped:
            self.take_steps()
        if not self.history or self.history[-1]["step"] != self.step:
            self.evaluate(epoch)
        self.save_model()

    def take_steps(self) -> None:
        """The current epoch from `samples_seen` on."""
        self.model.train()
        batches = iter(self.train_loader(self.epoch, int(self.samples_seen)))
        groups = self.timed(iter(lambda: list(islice(batches, self.accumulate)), []))
        first = self.step % self.steps_per_epoch
        with progress_bar(groups, f"[Epoch {self.epoch}] [TRAIN]", self.steps_per_epoch, first) as bar:
            for group in bar:
                self.take_step(group)
                if self.step % self.logging_steps == 0:
                    self.log(bar)
                if self.step % self.eval_steps == 0:
                    self.evaluate(self.epoch)
                self.save_if_due()
                if self.stopped:
                    return
        self.epoch += 1
        self.samples_seen.zero_()

    def timed(self, groups: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """The same; waiting for them counts as time of the data."""
        while True:
            with self.train_step.speed("data"):
                group = next(groups, None)
            if group is None:
                return
            yield group

    def take_step(self, group: Sequence[dict[str, Any]]) -> None:
        losses, samples = self.train_step(group)
        self.step += 1
        self.samples_seen += samples
        counts, norm = 1 - self.train_step.masked, self.train_step.grad_norm
        share = {"grad_norm": norm / distributed.world_size()}  # every rank has the whole norm
        self.window.add(losses | share, counts, most={"grad_norm_max": norm})
        self.interval.add(losses, counts)
        ids = [i for batch in group for i in batch["sample_id"].tolist() if i >= 0]  # of a batch still on the host
        self.nonfinite.add(self.step, self.train_step.diverged, ids)

    def save_if_due(self) -> None:
        """Save after save_steps or save_minutes, and when a signal came; all ranks decide alike."""
        if self.run_folder is not None:
            self.run_folder.check()
        late = time.monotonic() - self.saved >= self.save_seconds
        number, any_late = distributed.max_over_ranks(self.stop_signal(), late)
        if self.step % self.save_steps == 0 or any_late or number:
            self.save_model()
        if number:
            self.wait_for_disk()
            distributed.barrier()  # a launcher ends all ranks when one ends
            raise Interrupted(number)

    def log(self, bar: Any) -> None:
        """Beside evaluation and saving the only place where the host waits for the device."""
        self.check_finite()
        values = self.window.mean()
        self.window.reset()
        rates = self.train_step.rates
        self.emit("log", values | {f"lr/{name}": rate for name, rate in rates.items()})
        speed = self.train_step.speed.since("log")
        self.emit("speed", speed)
        if distributed.rank() == 0:
            self.stragglers(self.train_step.speed.work, speed["seconds"])
        loss, norm = (values.get(name, math.nan) for name in ("loss", "grad_norm"))
        short = figures({"loss": loss, "lr": next(iter(rates.values())), "grad_norm": norm})
        bar.set_postfix_str(short)
        number = (self.step - 1) % self.steps_per_epoch + 1
        rest = (self.last_step - self.step) * speed["seconds"] / (self.step - self.logged)
        self.logged = self.step
        logger.info("[Epoch %d] [TRAIN] %d/%d %s, %.0f records/s, %s left", self.epoch, number, self.steps_per_epoch,
                    short, speed["samples/s"], duration(rest), extra={"console": bar.disable})  # fmt: skip

    @property
    def last_step(self) -> int:
        """If it is not stopped before."""
        return int(min(self.epochs * self.steps_per_epoch, self.max_steps))

    def tell_end(self) -> None:
        """What training came to, as lines and to the callbacks."""
        found = self.train_step.speed.since("training")
        stopping = self.early_stopping
        if stopping is not None and stopping.should_stop:
            logger.info("[TRAIN] stopped at step %d: patience %d is used up", self.step, stopping.patience)
        logger.info("[TRAIN] %s", describe(found))
        self.emit("total", found)

    def check_finite(self) -> None:
        """Where the host waits anyway, and before anything is saved."""
        self.nonfinite.check()
        if self.train_step.scale < 1:
            raise TrainingDiverged(f"fp16's loss scale fell below 1 up to step {self.step}; try bf16 or fp32")

    def emit(self, event: str, values: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            callback(event, self.step, values)

    def evaluate(self, epoch: int) -> None:
        """Note the mean training loss since the last time, evaluate, keep the best state, tell the callbacks."""
        self.check_finite()
        entry: dict[str, Any] = {"epoch": epoch, "step": self.step, "train": self.interval.mean()}
        self.interval.reset()
        with ExitStack() as averaged:
            for averager in self.train_step.averagers:
                averaged.enter_context(averager.applied())
            best = bool(self.train_step.averagers)  # without evaluation best/ has the newest averages
            if self.eval_loader is not None:
                with self.train_step.speed("eval"):
                    entry["eval"] = self.tuned_eval()
                best = self.early_stopping is not None and self.early_stopping.update(entry["eval"])
            if best and self.run_folder is not None:
                with self.train_step.speed("checkpoint"):
                    self.run_folder.save_best(entry)
        if self.eval_loader is not None:
            self.model.train()
            self.emit("eval", entry["eval"])
        self.history.append(entry)
        self.emit("epoch", {"history": self.history})
        standing = self.early_stopping.standing if "eval" in entry and self.early_stopping is not None else ""
        logger.info("[Epoch %d] [EVAL] step %d %s%s", epoch, self.step, figures(entry.get("eval", entry["train"])),
                    standing and f"; {standing}")  # fmt: skip

    def eval(self, loader: Iterable[dict[str, Any]], references: Any) -> dict[str, float]:
        """Predict and score. references: sample ids -> task -> gold labels (None where there is none)."""
        return self.score(self.predict(loader), references)

    def tuned_eval(self) -> dict[str, float]:
        """`eval` in training: heads that learn from evaluations how to decide do so first; the same on every rank."""
        heads = self.model.heads
        result = self.predict(self.eval_loader, any(getattr(head, "tunes", False) for head in heads.values()))
        if result.confidences:
            tune(heads, result, self.references(result.sample_ids))
        return self.score(result, self.references)

    def predict(self, loader: Iterable[dict[str, Any]], with_confidences: bool = False) -> Predictions:
        """One decoded prediction per record and task, see prediction.py."""
        with whole(self.model) if hasattr(self.model, "generate") else evaluation(self.model):
            return predict(self.model, loader, self.device, self.autocast, with_confidences)

    def score(self, result: Predictions, references: Any) -> dict[str, float]:
        """Metrics and losses of predictions, computed on rank 0 and told to the others."""
        metrics: dict[str, float] = {}
        if distributed.rank() == 0:
            metrics = self.metric_function(result.labels, references(result.sample_ids))
            metrics |= loss_metrics(self.model.heads, result.losses, self.model.loss_weights)
        return distributed.broadcast(metrics)

    def save_model(self) -> None:
        """last/: the model and everything needed to go on exactly here."""
        self.check_finite()
        if self.run_folder is not None:
            with self.train_step.speed("checkpoint"):
                self.run_folder.save_last(self.state_dict())
        self.saved = time.monotonic()

    def wait_for_disk(self) -> None:
        """Until what was saved is written."""
        if self.run_folder is not None:
            with self.train_step.speed("checkpoint"):
                self.run_folder.wait()

    def resume(self, folder: str | Path) -> None:
        """Go on from last/; the model's own weights must have been loaded from the same folder."""
        self.load_state_dict(read_state(folder, {name: layout(part) for name, part in self.parts().items()}))

    def state_dict(self) -> dict[str, Any]:
        """Everything but the model's weights; a collective operation."""
        progress = {
            "epoch": self.epoch,
            "step": self.step,
            "samples_seen": int(self.samples_seen),
            "world_size": distributed.world_size(),
            "history": self.history,
        }
        tensors = {name: part.state_dict() for name, part in self.parts().items()}
        return {"progress": progress, "tensors": tensors | {"rng": distributed.gather(rng_state(self.device))}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        progress, tensors = state["progress"], state["tensors"]
        for name, part in self.parts().items():
            part.load_state_dict(spread(tensors[name], layout(part)))
        if progress["world_size"] == distributed.world_size():
            set_rng_state(tensors["rng"][distributed.rank()], self.device)
        self.epoch, self.step, self.history = progress["epoch"], progress["step"], progress["history"]
        self.samples_seen.fill_(progress["samples_seen"])

    def parts(self) -> dict[str, Any]:
        own = {"window": self.window, "interval": self.interval, "nonfinite": self.nonfinite}
        parts = self.train_step.parts() | own
        return parts if self.early_stopping is None else parts | {"early_stopping": self.early_stopping}
