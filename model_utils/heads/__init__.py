"""Heads, one file per kind of task; the file name is the option, `Head` is the class in it.

A head has these members (B records, T sub-words, H hidden size; `batch` as documented in data_loader/collate.py):

    LABEL_LEVEL                        what a gold label looks like: a file name of data_process/levels
    MONITOR                            its main metric
    LOWER_IS_BETTER                    those of its metrics that should fall
    all_layers                         whether `forward` needs the hidden states of all layers or of the last one only
    forward(hidden_states, batch)      logits; hidden_states is a tuple of (R, T, H), the last layer last
    num_items(labels)                  how many items the loss sums over, a 0-dim tensor
    loss(logits, labels, batch)        sum over items, a 0-dim fp32 tensor
    decode(logits, batch)              one unpadded prediction per record, in label names
    confidences(logits, batch)         a probability per record, or per word, or of each part; None where there is none
    score(predictions, references)     metrics by name, plain floats

and may have these:

    EXACT                              False if equality with the reference says nothing, as for numbers
    gold_optional(**options)           static: whether training records may do without gold labels
    compares_records(**options)        static: whether the loss of a record depends on the others of its micro-batch
    divergence(logits, others, labels)     how far other logits are from these, summed over items: Kullback-Leibler
                                       divergences, or squared differences of numbers
    criterion                          (logits, labels, class weights) -> losses in training, see losses.py
    score_loss(loss)                   metrics that follow from the mean loss
    record_losses(logits, labels, batch)     the terms of `loss` outside training, (B,), NaN where a record has no gold
                                       label; a head whose loss compares records has none
    report(predictions, references, confidences)     more than scores, as JSON: per class, confusions, calibration
    tunes; tune(confidences, references); decide(confidences)    whether and how evaluations in training settle how
                                       confidences become a prediction; what is settled is in buffers

R is the number of inputs of the encoder: B, unless records have several, see model_utils/inputs.py.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

from torch import nn

from ..model_error import ModelError


def head_kinds() -> list[str]:
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def head_class(kind: str) -> Any:
    """The class `Head` of heads/<kind>.py. Raises ModelError naming the known kinds."""
    if kind not in head_kinds():
        raise ModelError(f"unknown kind of task {kind!r}; there are {', '.join(head_kinds())}")
    return importlib.import_module(f"{__name__}.{kind}").Head


def gold_optional(kind: str, options: dict[str, Any]) -> bool:
    """Whether training records of a task may do without gold labels."""
    return getattr(head_class(kind), "gold_optional", lambda **_: False)(**options)


def compares_records(kind: str, options: dict[str, Any]) -> bool:
    """Whether the loss of a record depends on the others of its micro-batch; one alone has none then."""
    return getattr(head_class(kind), "compares_records", lambda **_: False)(**options)


def build_head(kind: str, hidden_size: int, labels: list[str], options: dict[str, Any]) -> nn.Module:
    """A head that remembers how it was built (`head.spec`), so that it can be saved. Raises ModelError.

    options: of the class, and `criterion`, the name (and options) of a loss of tricks/, which the wiring script sets.
    """
    cls = head_class(kind)
    parameters = inspect.signature(cls).parameters
    known = [name for name in parameters if name not in ("hidden_size", "labels")]
    own = {name: value for name, value in options.items() if name != "criterion"}
    unknown = sorted(set(own) - set(known))
    if unknown:
        raise ModelError(f"{kind} has no option {unknown[0]!r}; it takes {', '.join(known)}")
    if not labels and parameters["labels"].default is inspect.Parameter.empty:
        raise ModelError(f"{kind} needs labels, and the training data has none")
    try:
        head = cls(hidden_size, labels, **own)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{kind}: {error}") from error
    if "criterion" in options and not hasattr(head, "criterion"):
        raise ModelError(f"{kind}{' with a CRF' * hasattr(head, 'crf')}: its loss has no other criterion; leave it out")
    head.spec = {"kind": kind, "labels": labels, "options": options}
    return head
