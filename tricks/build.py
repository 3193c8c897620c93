"""The tricks that a job asks for, checked against each other and ready for the trainer.

    tricks = build_tricks(model, optimizer, {"fgm": {"epsilon": 1.0}, "ema": {"decay": 0.999}}, total_steps=1000)
    step = TrainStep(model, optimizer, scheduler, **tricks.places)
    tricks.begin(gradients)

`model` is one of model_utils: its parts `encoder`, `heads` (with `divergence` and `criterion`), `loss_weights` and
`apply_heads` are what some tricks need. A trick alone needs none of this: see its file.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from torch import Tensor, nn

from .awp import AWP
from .child_tuning import ChildTuning
from .dice import Dice
from .distillation import Distillation
from .ema import EMA
from .fgm import FGM
from .focal import Focal
from .freelb import FreeLB
from .ghm import GHM
from .gradual_unfreezing import GradualUnfreezing
from .label_smoothing import LabelSmoothing
from .lookahead import Lookahead
from .mixup import Mixup
from .multi_sample_dropout import MultiSampleDropout
from .neftune import NEFTune
from .pgd import PGD
from .rdrop import RDrop
from .sam import SAM
from .swa import SWA
from .vat import VAT

CRITERIA: dict[str, Any] = {"label_smoothing": LabelSmoothing, "focal": Focal, "dice": Dice, "ghm": GHM}
MAIN_PASSES: dict[str, Any] = {"sam": SAM, "awp": AWP, "freelb": FreeLB}
ATTACKS: dict[str, Any] = {"fgm": FGM, "pgd": PGD}
AVERAGERS: dict[str, Any] = {"lookahead": Lookahead, "ema": EMA, "swa": SWA}
CONFLICTS = [  # no two of a line go together
    (("fgm", "pgd", "freelb"), "each of them attacks the word embeddings"),
    (("sam", "awp", "freelb"), "each of them takes the plain pass for itself"),
    (("ema", "swa"), "only one average can be evaluated"),
    (tuple(CRITERIA), "each of them is the loss of an item"),
    *((("vat", name), "both change what the embeddings return") for name in ("pgd", "freelb")),
    *((("mixup", name), "the one mixes texts, the other compares predictions of unmixed ones")
      for name in ("rdrop", "vat", "distillation")),
    *((("gradual_unfreezing", name), "the one freezes the embeddings, the other attacks them")
      for name in ("fgm", "pgd", "freelb")),
]  # fmt: skip


class TrickError(ValueError):
    """Tricks that do not fit each other or the model: a wrong setting, not a bug."""

    exit_code = 2


@dataclass
class Tricks:
    """Where each trick plugs in; without any, `places` is empty."""

    places: dict[str, Any] = field(default_factory=dict)
    """arguments of the trainer's step: compute_loss, main_pass, attacks, averagers, stateful"""
    beginnings: Sequence[Callable[[Iterable[Any]], None]] = ()

    def begin(self, gradients: Iterable[Any]) -> None:
        """Call it when the trainer's step has been made: data parallelism must have seen every parameter before.

        Args:
            gradients: adds the gradient of another micro-batch each time that an item is taken; none where a saved
                state will be loaded.
        """
        for beginning in self.beginnings:
            beginning(gradients)


def build_tricks(
    model: Any,
    optimizer: Any,
    chosen: Mapping[str, Mapping[str, Any]],
    *,
    total_steps: int = 1,
    seed: int = 0,
    teacher: nn.Module | None = None,
) -> Tricks:
    """
    Args:
        chosen: name of a trick's file -> options of its class; swa's `start` as a share of all steps.
        total_steps: updates of the whole training.
        seed: of masks that all processes share.
        teacher: for distillation.

    Raises: TrickError, or another ValueError with an exit_code of 2.
    """
    refuse_conflicts(chosen)
    stateful = set_criteria(model, chosen)
    places: dict[str, Any] = {}
    # the attacks come first: their hooks must see what the embeddings return before other tricks change it
    if attacks := [made(chosen, name, build, model) for name, build in ATTACKS.items() if name in chosen]:
        places["attacks"] = attacks
    for name, build in MAIN_PASSES.items():
        if name in chosen:
            places["main_pass"] = made(chosen, name, build, model)
    if "neftune" in chosen:
        made(chosen, "neftune", NEFTune, model)
    if (compute_loss := build_loss(model, chosen, teacher)) is not plain_loss:
        places["compute_loss"] = compute_loss
    options = dict(chosen)
    if "swa" in chosen:
        options["swa"] = {**chosen["swa"], "start": round(chosen["swa"]["start"] * total_steps)}
    averagers = [made(options, name, build, model) for name, build in AVERAGERS.items() if name in chosen]
    beginnings: list[Callable[[Iterable[Any]], None]] = []
    if "child_tuning" in chosen:
        batches = chosen["child_tuning"]["batches"]
        options["child_tuning"] = {"share": chosen["child_tuning"]["share"], "seed": seed}
        weights = [weight for weight in model.encoder.parameters() if weight.requires_grad]
        child = stateful["child_tuning"] = made(options, "child_tuning", ChildTuning, optimizer, weights=weights)
        if batches:
            beginnings.append(lambda gradients: child.choose(islice(gradients, batches)))
    if "gradual_unfreezing" in chosen:
        unfreezing = made(chosen, "gradual_unfreezing", GradualUnfreezing, model.encoder)
        unfreezing.stage(len(unfreezing.layers) + 1)
        averagers.append(unfreezing)
        beginnings.append(lambda _: unfreezing.stage(0))
    if averagers:
        places["averagers"] = averagers
    if stateful:
        places["stateful"] = stateful
    return Tricks(places, beginnings)


def made(chosen: Mapping[str, Mapping[str, Any]], name: str, build: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """A trick with its options; an impossible one is a mistake of the user's."""
    try:
        return build(*args, **chosen[name], **more)
    except ValueError as error:
        raise TrickError(f"arguments: use_{name}: {error}") from error


def refuse_conflicts(chosen: Mapping[str, Any]) -> None:
    for names, reason in CONFLICTS:
        found = [f"use_{name}" for name in names if name in chosen]
        if len(found) > 1:
            raise TrickError(f"arguments: {' and '.join(found)} do not go together: {reason}; give one of them")


def set_criteria(model: Any, chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Give each head its criterion; returns those that have a state."""
    default = next((name for name in CRITERIA if name in chosen), None)
    stateful, used = {}, False
    for task, head in model.heads.items():
        wanted = head.spec["options"].get("criterion", default)
        if wanted is None or not hasattr(head, "criterion"):
            continue
        used = True
        name, options = (wanted, chosen.get(wanted, {})) if isinstance(wanted, str) else named(task, wanted)
        if name not in CRITERIA:
            raise TrickError(f"tasks: {task}: no criterion {name!r}; there are {', '.join(CRITERIA)}")
        try:
            head.criterion = CRITERIA[name](**options)
        except (TypeError, ValueError) as error:
            raise TrickError(f"tasks: {task}: criterion: {error}") from error
        if hasattr(head.criterion, "state_dict"):
            stateful[f"criterion of {task}"] = head.criterion
    if default is not None and not used:
        raise TrickError(f"arguments: use_{default}: no task here has a loss over classes that it could replace")
    return stateful


def named(task: str, wanted: Any) -> tuple[Any, dict[str, Any]]:
    if not isinstance(wanted, Mapping) or "name" not in wanted:
        raise TrickError(f"tasks: {task}: criterion must be a name, or {{name: …, options}}, found {wanted!r}")
    return wanted["name"], {key: value for key, value in wanted.items() if key != "name"}


def plain_loss(model: Any, batch: Mapping[str, Any], num_items: Any = None) -> Any:
    return model(batch, num_items)


def build_loss(model: Any, chosen: Mapping[str, Mapping[str, Any]], teacher: nn.Module | None) -> Callable[..., Any]:
    """The `compute_loss` of all tricks that have one, each around the one before."""

    def divergence(task: str, logits: Tensor, others: Tensor, labels: Tensor) -> Tensor:
        return model.heads[task].divergence(logits, others, labels)

    def again(output: Any, batch: Mapping[str, Any], num_items: Any) -> Any:
        return model.apply_heads(output.hidden_states, batch, num_items)

    compute_loss: Callable[..., Any] = plain_loss
    for name in ("multi_sample_dropout", "mixup"):
        if name in chosen and not hasattr(model, "apply_heads"):
            raise TrickError(f"arguments: use_{name}: a model that generates texts has no heads that could run again")
    if "multi_sample_dropout" in chosen:
        compute_loss = made(chosen, "multi_sample_dropout", MultiSampleDropout, again, compute_loss=compute_loss)
    if "mixup" in chosen:
        classifiers = {task: head.classifier for task, head in model.heads.items() if head.LABEL_LEVEL == "sequence"}
        if not classifiers:
            raise TrickError("arguments: use_mixup: no task here is of kind sequence_classification")
        compute_loss = made(chosen, "mixup", Mixup, classifiers, again, compute_loss=compute_loss)
    for name in ("rdrop", "distillation", "vat"):
        without = [task for task, head in model.heads.items() if not hasattr(head, "divergence")]
        if name in chosen and without:
            kind = model.heads[without[0]].spec["kind"]
            raise TrickError(f"arguments: use_{name}: it compares predictions, which is not defined for {kind} "
                             f"(task {without[0]})")  # fmt: skip
    compared = {"divergence": divergence, "weights": model.loss_weights}
    if "rdrop" in chosen:
        compute_loss = made(chosen, "rdrop", RDrop, compute_loss=compute_loss, **compared)
    if "distillation" in chosen:
        if teacher is None:
            raise TrickError("arguments: use_distillation: give distillation_teacher, the folder of a trained model")
        options = {"distillation": {k: v for k, v in chosen["distillation"].items() if k != "teacher"}}
        compute_loss = made(options, "distillation", Distillation, teacher, compute_loss=compute_loss, **compared)
    if "vat" in chosen:
        compute_loss = made(chosen, "vat", VAT, model, compute_loss=compute_loss, **compared)
    return compute_loss
