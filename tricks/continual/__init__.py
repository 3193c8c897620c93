"""Approaches to continual learning, one file each: the file name is the option, `Approach` is the class in it.

A model is trained on one task after the other. An approach says what keeps it from forgetting the earlier ones. All
members are optional (`task` has `name`, `head` and `classes`, the class numbers it brings to the head or None; `model`
has an `encoder` and `heads`, batches are those of data_loader/task_batches.py):

    begin_task(model, task)              before the optimizer for a task is made: may freeze, copy, add parameters
    extra_loss(model, batch, output)     added to the mean loss of a training batch; output has `logits` by head and
                                         `hidden_states`
    before_step(model, autocast)         right before an update: may change the gradients; forward passes of its own
                                         run inside autocast()
    end_task(model, task, gradients)     with the weights that are kept; gradients(n) yields n times, after it has added
                                         the gradient of one sample's summed loss, without dropout
    select(model, task)                  before a task is trained further or evaluated: puts in what belongs to it
    state_dict(), load_state_dict(state) of tensors, numbers and texts in dicts and lists: all that it needs to go on.
                                         What the task before left is loaded before begin_task; what an interrupted
                                         training left, and nothing else, behind it
    TRAINS                               "in turn" (where absent), "together" (all tasks at once) or "apart" (a model
                                         for each)
    PEFT                                 options of the peft library: adapters are trained instead of the encoder
    NEEDS                                name of an optional member of heads that it does not do without
    NEEDS_SINGLE_LOSSES                  True: not for heads whose loss compares the records of a batch
    NEEDS_PADDING                        True: not for an encoder that leaves out padding

What begin_task adds to the model as a module of its own is saved beside the model. An impossible option, or a model
that it does not work for, is a ValueError.

Its parameters are the user's options, and of these tools those that it names:

    buffer                               a Buffer (buffer.py), of its options size (500) and class_balanced
    collate                              samples -> batches on the device, each of one head, with its `samples` and its
                                         `share` of them all
    divergence                           (head, logits, other logits, labels) -> sum over items
    seed                                 of whatever it draws
"""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARTS = ("buffer",)  # files that are no approach but used by some
BUFFER = ("size", "class_balanced")  # options of a memory, whatever approach has it


def approach_names() -> list[str]:
    here = Path(__file__).parent
    return sorted(p.stem for p in here.glob("*.py") if not p.stem.startswith("_") and p.stem not in PARTS)


def approach_class(name: str) -> Any:
    """The class `Approach` of <name>.py; name: one of `approach_names`."""
    return importlib.import_module(f"{__name__}.{name}").Approach


class ApproachError(ValueError):
    """Options that do not fit."""

    exit_code = 2


def build_approach(name: str, options: Mapping[str, Any], tools: Mapping[str, Any]) -> Any:
    """The approach with the user's options. Raises ApproachError.

    Args:
        tools: collate, divergence and seed; a buffer is made here, of those options that are Buffer's.
    """
    cls, options = approach_class(name), dict(options)
    named = [] if cls.__init__ is object.__init__ else list(inspect.signature(cls).parameters)
    used = {tool: value for tool, value in tools.items() if tool in named}
    known = [option for option in named if option not in ("buffer", *tools)]
    if "buffer" in named:
        known += BUFFER
    if unknown := [option for option in options if option not in known]:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise ApproachError(f"arguments: approaches: {name} has no option {unknown[0]!r}; {takes}")
    try:
        if "buffer" in named:
            own = {"size": 500} | {option: options.pop(option) for option in BUFFER if option in options}
            used["buffer"] = importlib.import_module(f"{__name__}.buffer").Buffer(**own, seed=tools["seed"])
        return cls(**options, **used)
    except (TypeError, ValueError) as error:
        raise ApproachError(f"arguments: approaches: {name}: {error}") from error
