"""The training loop, exact under accumulation, mixed precision and data parallelism.

    trainer = Trainer(model, optimizer, scheduler, train_loader=loader, steps_per_epoch=100, epochs=3)
    trainer.train()
    metrics = trainer.eval(eval_batches, references)
    result = trainer.predict(batches)

Losses are sums over items divided by the number of items of the whole group of micro-batches over all ranks, so
1 x 8 = 2 x 4 = 4 x 2 give the same gradient. Nothing is read back from the device between two log lines.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import distributed
from .checkpoint import load_tree, read_json, save_tree, write_folder, write_json
from .early_stopping import EarlyStopping
from .meter import Meter
from .metrics import joint_metrics
from .prediction import Predictions, predict, to_device
from .progress import figures, progress_bar

logger = logging.getLogger(__name__)


class TrainingDiverged(RuntimeError):
    """A gradient became NaN or infinite. That update was not applied: the weights are the last good ones."""


def plain_loss(model: nn.Module, batch: Mapping[str, Any], num_items: Mapping[str, Any]) -> Any:
    """The default `compute_loss`; returns an object with `loss` and `losses`."""
    return model(batch, num_items)


class Trainer:
    """Trains, evaluates and predicts. Everything it needs comes as an argument; it imports no other room."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Any = None,
        *,
        train_loader: Callable[[int, int], Iterable[dict[str, Any]]] | None = None,
        steps_per_epoch: int = 1,
        epochs: int = 1,
        max_steps: int = 0,
        accumulate: int = 1,
        max_grad_norm: float = 1.0,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        compute_loss: Callable[..., Any] = plain_loss,
        attacks: Sequence[Callable[[Callable[[], Any]], Any]] = (),
        averagers: Sequence[Any] = (),
        callbacks: Sequence[Callable[[str, int, Mapping[str, Any]], None]] = (),
        eval_loader: Iterable[dict[str, Any]] | None = None,
        references: Callable[[Sequence[int]], Mapping[str, Sequence[Any]]] | None = None,
        metric_function: Callable[..., dict[str, float]] | None = None,
        early_stopping: EarlyStopping | None = None,
        eval_steps: int = 0,
        save_steps: int = 0,
        logging_steps: int = 20,
        output_dir: str | Path | None = None,
        save_pretrained: Callable[[Path], None] | None = None,
    ):
        """
        Args:
            model: forward(batch, num_items) -> loss, losses, logits; heads: task -> head; num_items(labels).
            optimizer: fused, so that a non-finite update is masked on the device; None: only eval and predict.
            scheduler: step(), state_dict(), load_state_dict(); steps after each update.
            train_loader: (epoch, samples_seen) -> this rank's micro-batches from there on.
            steps_per_epoch: optimizer steps of a whole epoch, for the progress bar.
            epochs, max_steps: the first of both ends training; max_steps 0 = epochs decide.
            accumulate: micro-batches of an optimizer step.
            max_grad_norm: 0 = no clipping.
            precision: "fp32", "bf16" or "fp16" (with loss scaling).
            compute_loss: (model, batch, num_items) -> output; a trick may wrap it.
            attacks: called as attack(backward) after each backward; add adversarial gradients.
            averagers: update() after each step, applied() as context, state_dict(), load_state_dict().
            callbacks: callback(event, step, values), see monitor.py; called on every rank.
            eval_loader, references, early_stopping: evaluation in training; references(sample_ids) -> task -> gold.
            metric_function: (predictions, references) -> metrics; default: joint_metrics of the model's heads.
            eval_steps, save_steps: optimizer steps between; 0 = at the end of each epoch, after each evaluation.
            output_dir, save_pretrained: where last/ and best/ go, and what writes the model into a folder.
        """
        self.device = torch.device(device)
        self.module = model.to(self.device)
        self.model = distributed.wrap(self.module, self.device) if optimizer is not None else self.module
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer: Any = optimizer
        self.scheduler = scheduler
        self.train_loader: Any = train_loader
        self.steps_per_epoch, self.epochs, self.max_steps = steps_per_epoch, epochs, max_steps or math.inf
        self.accumulate, self.max_grad_norm = accumulate, max_grad_norm or math.inf
        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.autocast = partial(torch.autocast, self.device.type, dtype=dtype, enabled=dtype is not None)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)
        self.compute_loss, self.attacks = compute_loss, list(attacks)
        self.averagers, self.callbacks = list(averagers), list(callbacks)
        self.eval_loader, self.references, self.early_stopping = eval_loader, references, early_stopping
        self.metric_function = metric_function or partial(joint_metrics, self.module.heads)
        self.eval_steps, self.save_steps, self.logging_steps = eval_steps, save_steps, logging_steps
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.save_pretrained = save_pretrained
        self.epoch = self.step = 0
        self.samples_seen = torch.zeros((), dtype=torch.int64, device=self.device)  # in this epoch, by all ranks
        self.nonfinite = torch.zeros((), device=self.device)  # masked updates
        self.window, self.interval = Meter(self.device), Meter(self.device)  # since the last log line, evaluation
        self.history: list[dict[str, Any]] = []

    # ------------------------------------------------------------------ train

    def train(self) -> list[dict[str, Any]]:
        """Train from the current state to the end; returns the history that also stands in log.json."""
        while self.epoch < self.epochs and not self.done:
            self.train_one_epoch()
        return self.history

    def train_one_epoch(self) -> None:
        """The current epoch from `samples_seen` on, then evaluate and save."""
        epoch = self.epoch
        batches = iter(self.train_loader(epoch, int(self.samples_seen)))
        groups = iter(lambda: list(islice(batches, self.accumulate)), [])
        self.model.train()
        title = f"[Epoch {epoch}] [TRAIN]"
        first = self.step % self.steps_per_epoch
        with progress_bar(groups, title, self.steps_per_epoch, first, distributed.rank() == 0) as bar:
            for group in bar:
                self.train_step(group)
                if self.step % self.logging_steps == 0:
                    self.log(title, bar)
                if self.eval_steps and self.step % self.eval_steps == 0:
                    self.evaluate(epoch)
                if self.save_steps and self.step % self.save_steps == 0:
                    self.save_model()
                if self.done:
                    break
            else:
                self.epoch += 1
                self.samples_seen.zero_()
        if not self.history or self.history[-1]["step"] != self.step:
            self.evaluate(epoch)
        self.save_model()

    @property
    def done(self) -> bool:
        return self.step >= self.max_steps or (self.early_stopping is not None and self.early_stopping.should_stop)

    def train_step(self, group: Sequence[dict[str, Any]]) -> None:
        """One optimizer step from a group of micro-batches."""
        num_items = self.count(group)
        for number, batch in enumerate(group, 1):
            batch = to_device(batch, self.device)
            last = number == len(group)
            output = self.backward(batch, num_items, sync=last and not self.attacks)
            for turn, attack in enumerate(self.attacks, 1):
                attack(partial(self.backward, batch, num_items, sync=last and turn == len(self.attacks)))
            self.record(output)
        self.scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.optimizer.found_inf = (~grad_norm.isfinite()).float()  # masks this update on the device
        self.nonfinite += self.optimizer.found_inf
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rates = {group.get("name", str(i)): group["lr"] for i, group in enumerate(self.optimizer.param_groups)}
        self.scheduler.step()
        self.optimizer.zero_grad()
        for averager in self.averagers:
            averager.update()
        self.window.steps += 1
        self.interval.steps += 1
        self.step += 1

    def backward(self, batch: dict[str, Any], num_items: Mapping[str, torch.Tensor], sync: bool) -> Any:
        """Forward and backward of one micro-batch; adds to the gradients and, if `sync`, averages them over ranks."""
        with distributed.gradient_sync(self.model, sync):
            with self.autocast():
                output = self.compute_loss(self.model, batch, num_items)
            # DDP averages over the ranks, while the loss is already divided by the items of all of them
            self.scaler.scale(output.loss * distributed.world_size()).backward()
        return output

    def count(self, group: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Items per task in the group over all ranks (at least 1); also moves `samples_seen` on."""
        counts = [self.module.num_items(batch["labels"]) for batch in group]
        samples = sum(int((batch["sample_id"] >= 0).sum()) for batch in group)
        totals = torch.tensor([*(sum(c[task] for c in counts) for task in self.module.heads), samples])
        totals = distributed.sum_over_ranks(totals.to(self.device, non_blocking=True))
        self.samples_seen += totals[-1]
        return dict(zip(self.module.heads, totals[:-1].clamp(min=1).unbind(), strict=True))

    def record(self, output: Any) -> None:
        zero = torch.zeros((), device=self.device)
        losses = {f"{task}/loss": output.losses.get(task, zero) for task in self.module.heads}
        for meter in (self.window, self.interval):
            meter.add({"loss": output.loss, **losses})

    def log(self, title: str, bar: Any) -> None:
        """The only place of the loop, beside evaluation and saving, where the host waits for the device."""
        self.check_finite()
        values = self.window.mean()
        self.window.reset()
        self.emit("log", values | {f"lr/{name}": rate for name, rate in self.rates.items()})
        short = figures({"loss": values["loss"], "lr": next(iter(self.rates.values()))})
        bar.set_postfix_str(short)
        if bar.disable and distributed.rank() == 0:
            number = (self.step - 1) % self.steps_per_epoch + 1
            logger.info("%s %d/%d %s", title, number, self.steps_per_epoch, short)

    def check_finite(self) -> None:
        """fp16's scaler skips steps on purpose while it looks for its scale; anything else is divergence."""
        masked = int(self.nonfinite)
        if masked and not self.scaler.is_enabled():
            raise TrainingDiverged(f"{masked} non-finite gradient(s) up to step {self.step}; lower --lr or use fp32")

    def emit(self, event: str, values: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            callback(event, self.step, values)

    # ------------------------------------------------- evaluate and predict

    def evaluate(self, epoch: int) -> None:
        """Note the training loss since the last evaluation, evaluate, keep the best state, tell the callbacks."""
        self.check_finite()
        entry: dict[str, Any] = {"epoch": epoch, "step": self.step, "train": self.interval.mean()}
        self.interval.reset()
        if self.eval_loader is not None:
            with ExitStack() as averaged:
                for averager in self.averagers:
                    averaged.enter_context(averager.applied())
                entry["eval"] = self.eval(self.eval_loader, self.references)
                if self.early_stopping is not None and self.early_stopping.update(entry["eval"]):
                    self.save_best(entry)
            self.model.train()
            self.emit("eval", entry["eval"])
        self.history.append(entry)
        self.emit("epoch", {"history": self.history})
        if distributed.rank() == 0:
            logger.info("[Epoch %d] [EVAL] step %d %s", epoch, self.step, figures(entry.get("eval", entry["train"])))

    def eval(self, loader: Iterable[dict[str, Any]], references: Any) -> dict[str, float]:
        """Predict and score. references: sample ids -> task -> gold labels (None where there is none)."""
        return self.score(self.predict(loader), references)

    def predict(self, loader: Iterable[dict[str, Any]], with_confidences: bool = False) -> Predictions:
        """One decoded prediction per record and task, see prediction.py."""
        return predict(self.module, loader, self.device, self.autocast, with_confidences)

    def score(self, result: Predictions, references: Any) -> dict[str, float]:
        """Metrics and losses of predictions; computed once, the same on every rank."""
        if distributed.rank() == 0:
            metrics = self.metric_function(result.labels, references(result.sample_ids))
            metrics |= {f"{task}/loss": loss for task, loss in result.losses.items()}
            if result.losses:
                metrics["loss"] = sum(self.module.loss_weights[task] * loss for task, loss in result.losses.items())
        return distributed.broadcast(metrics if distributed.rank() == 0 else None)

    # -------------------------------------------------------- save and resume

    def save_best(self, entry: Mapping[str, Any]) -> None:
        """best/: the model alone with its metrics; enough to predict."""

        def write(folder: Path) -> None:
            self.save_pretrained(folder)
            write_json(folder / "metrics.json", {k: entry[k] for k in ("epoch", "step", "eval")})

        self.on_rank_0(lambda: write_folder(self.output_dir / "best", write, keep_previous=False))

    def save_model(self) -> None:
        """last/: the model and everything needed to go on exactly here."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        states["averagers"] = [averager.state_dict() for averager in self.averagers]
        states["rng"] = distributed.gather(rng_state(self.device))
        progress = {
            "epoch": self.epoch,
            "step": self.step,
            "samples_seen": int(self.samples_seen),
            "world_size": distributed.world_size(),
            "history": self.history,
        }

        def write(folder: Path) -> None:
            self.save_pretrained(folder)
            save_tree(folder / "trainer.safetensors", states)
            write_json(folder / "trainer_state.json", progress)

        self.on_rank_0(lambda: write_folder(self.output_dir / "last", write))

    def resume(self, folder: str | Path) -> None:
        """Load what `save_model` wrote; the model's own weights must have been loaded from the same folder."""
        progress = read_json(Path(folder) / "trainer_state.json")
        states = load_tree(Path(folder) / "trainer.safetensors")
        for name, part in self.parts().items():
            part.load_state_dict(states[name])
        for averager, state in zip(self.averagers, states["averagers"], strict=True):
            averager.load_state_dict(state)
        if progress["world_size"] == distributed.world_size():
            set_rng_state(states["rng"][distributed.rank()], self.device)
        self.epoch, self.step, self.history = progress["epoch"], progress["step"], progress["history"]
        self.samples_seen.fill_(progress["samples_seen"])

    def parts(self) -> dict[str, Any]:
        """Everything with state_dict and load_state_dict, by its name in trainer.safetensors."""
        parts = {"optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.scaler,
                 "window": self.window, "interval": self.interval}  # fmt: skip
        return parts if self.early_stopping is None else parts | {"early_stopping": self.early_stopping}

    def on_rank_0(self, action: Callable[[], None]) -> None:
        if self.output_dir is not None and distributed.rank() == 0:
            action()
        distributed.barrier()


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """torch's generators, which dropout draws from; nothing else does."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_rng_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
