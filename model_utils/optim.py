"""Optimizer and learning-rate schedule.

    optimizer = build_optimizer(model, lr=5e-5, head_lr=1e-3, weight_decay=0.01)
    scheduler = build_scheduler("linear", optimizer, warmup_steps=100, total_steps=1000)

Copy: with model_error.py, muon.py; needs torch, transformers.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import SchedulerType, get_scheduler

from .model_error import ModelError
from .muon import MuonAdamW, hidden_matrices


def parameter_groups(
    model: nn.Module, lr: float, head_lr: float | None = None, weight_decay: float = 0.01, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups of encoder and heads, with and without decay; frozen parameters are left out.

    Decay is for weight matrices only: not for biases, norms, and the scores of a CRF.

    Args:
        model: its encoder is the attribute `encoder`; all other parameters belong to the heads.
        head_lr: learning rate of the heads; None = lr.
        layer_decay: below 1 every layer of the encoder has groups of its own, with the learning rate of the layer above
            times this; embeddings are the lowest (Sun et al. 2019, https://arxiv.org/abs/1905.05583); 1 = off.
    """
    num_layers = 1 + max((layer_number(name) for name, _ in model.named_parameters()), default=-1)
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, rate = "heads", lr if head_lr is None else head_lr
        if name.startswith("encoder."):
            part, rate = "encoder", lr
            if layer_decay != 1:
                part, depth = place(name, num_layers)
                rate = lr * layer_decay**depth
        decays = parameter.ndim > 1 and name.endswith("weight")  # the CRF's are called transitions
        group = groups.setdefault(
            (part, decays),
            {
                "name": part + ("" if decays else ", no decay"),
                "params": [],
                "lr": rate,
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def layer_number(name: str) -> int:
    """Of a parameter of an encoder, counted from 0 at the bottom; -1: it is in none of the layers."""
    found = re.search(r"\.(?:layers?|h|blocks?)\.(\d+)\.", name)
    return int(found[1]) if found and name.startswith("encoder.") else -1


def place(name: str, num_layers: int) -> tuple[str, int]:
    """Part of the encoder that a parameter is in, and how many parts are above it."""
    number = layer_number(name)
    if number >= 0:
        return f"layer {number}", num_layers - 1 - number
    is_table = re.search(r"embed|\.shared\.|\.wte\.|\.wpe\.", name) is not None
    return ("embeddings", num_layers) if is_table else ("encoder", 0)


def build_optimizer(
    model: nn.Module,
    lr: float,
    head_lr: float | None = None,
    weight_decay: float = 0.01,
    layer_decay: float = 1.0,
    name: str = "adamw",
) -> torch.optim.Optimizer:
    """AdamW, Adafactor, or Muon for the encoder's matrices and AdamW for the rest; torch's own.

    AdamW is fused (CPU, CUDA, MPS), also because it can then mask an update on the device, see trainer/step.py.
    """
    groups = parameter_groups(model, lr, head_lr, weight_decay, layer_decay)
    if not groups:
        raise ModelError("freeze_layers: no trainable parameter is left")
    if name == "adafactor":
        return torch.optim.Adafactor(groups, lr=lr)
    if name == "muon":
        encoder: Any = model.encoder
        return MuonAdamW(groups, hidden_matrices(encoder))
    if name != "adamw":
        raise ModelError(f"optimizer: unknown {name!r}; there are adamw, adafactor, muon")
    return torch.optim.AdamW(groups, lr=lr, fused=True)


class EvalSchedule:
    """A schedule that follows the monitored metric: `step` (after each update) does nothing, `follow` acts."""

    def __init__(self, schedule: Any):
        self.schedule = schedule
        self.state_dict, self.load_state_dict = schedule.state_dict, schedule.load_state_dict

    def step(self) -> None:
        pass

    def follow(self, monitor: str, event: str, step: int, values: Mapping[str, float]) -> None:
        """A callback of the trainer, once `monitor` is bound with functools.partial."""
        if event == "eval":
            self.schedule.step(values[monitor])


def build_scheduler(
    name: str,
    optimizer: torch.optim.Optimizer,
    warmup_steps: int,
    total_steps: int,
    options: dict[str, Any] | None = None,
    lower_is_better: bool = False,
) -> LRScheduler | EvalSchedule:
    """Any schedule of `transformers.get_scheduler`, by name, as a pure function of the optimizer step.

    Those with warm-up and decay are read one step later and with one step more than transformers does: there the first
    update has learning rate 0 and moves nothing. Here update s of warm-up w has (s + 1) / w, and the last update of a
    linear decay is still above 0. reduce_lr_on_plateau and greedy follow the monitored metric instead, without warm-up.

    Args:
        warmup_steps, total_steps: optimizer steps.
        options: the schedule's own options (`scheduler_specific_kwargs`).
        lower_is_better: direction of the monitored metric.

    Raises: ModelError for an unknown schedule, or for options that are unknown or missing.
    """
    known = [str(kind.value) for kind in SchedulerType]
    if name not in known:
        raise ModelError(f"lr_scheduler: unknown schedule {name!r}; there are {', '.join(known)}")
    options = dict(options or {})
    follows_metric = name in ("reduce_lr_on_plateau", "greedy")
    if follows_metric:
        options.setdefault("mode", "min" if lower_is_better else "max")
        options.setdefault("min_lr", 0.0)  # greedy's own 1e-3 is above a fine-tuning rate, which then only rises
    elif options and name in ("constant", "constant_with_warmup"):  # get_scheduler drops them silently
        raise ModelError(f"lr_scheduler: {name} takes no options; see lr_scheduler_options")
    try:
        theirs = get_scheduler(name, optimizer, warmup_steps, total_steps + 1, scheduler_specific_kwargs=options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"lr_scheduler: {name}: {error}; see lr_scheduler_options") from error
    if follows_metric:
        return EvalSchedule(theirs)
    return LambdaLR(optimizer, [partial(one_later, multiplier) for multiplier in theirs.lr_lambdas])


def one_later(multiplier: Callable[[int], float], step: int) -> float:
    return multiplier(step + 1)
