"""Frozen encoder, L2 to the start, EWC and LwF against their papers' formulas; every kind of head; resumed = unbroken.

The models are those of test_head_contract.py with two heads, `old` and `new`: first one is trained, then the other.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, vmap
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from data_loader.collate import Collator
from data_loader.task_batches import TaskCollator
from model_utils.heads import build_head, head_class
from model_utils.multitask_model import MultiTaskModel, build_model
from tests.test_head_contract import CASES, LABELS, VOCABULARY, Case, compares_records, every_case, features, level
from tests.test_train_step import CountHostReads
from tests.tiny import tiny_model
from trainer.checkpoint import flatten, load_tree, save_tree
from tricks.continual import approach_class, approach_names
from tricks.continual.ewc import Approach as EWC
from tricks.continual.ewc import diagonal_fisher, merged
from tricks.continual.frozen import Approach as Frozen
from tricks.continual.l2_start import Approach as L2
from tricks.continual.l2_start import squared_distance
from tricks.continual.lwf import Approach as LwF

OLD, NEW = (SimpleNamespace(name=f"{head} task", head=head, classes=None) for head in ("old", "new"))
OF_SEQUENCE = Case("sequence_classification")
WITH_DIVERGENCE = [case for case in CASES if hasattr(head_class(case.kind), "divergence")]


def described(case: Case, head: str) -> dict[str, Any]:
    """No loss of tricks/ and no counted weights here: neither is the approach's business."""
    options = {k: v for k, v in case.options.items() if k != "criterion" and v != "balanced"}
    return {"name": head, "kind": case.kind, "labels": LABELS.get(level(case), []), **options}


def model_of(case: Case, *heads: str, dropout: float = 0.1, seed: int = 1) -> MultiTaskModel:
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=64, initializer_range=0.3,
                        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)  # fmt: skip
    encoder = BertModel(config)
    encoder.get_submodule("pooler").requires_grad_(False)
    model = build_model(encoder, [described(case, head) for head in heads])
    for parameter in model.heads.parameters():
        nn.init.normal_(parameter, std=0.3)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = dropout
    return model.train()


def collated(case: Case, head: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return TaskCollator(Collator(0, {head: level(case)}), f"{head} task", head)(rows)


def batch_of(case: Case, head: str, size: int = 6, seed: int = 0) -> dict[str, Any]:
    """As the driver's: of one task, with the samples that it was made from; the label of the second one is unknown."""
    rows = features(case, size, seed)
    labels = [{name.replace("task", head): gold for name, gold in row["labels"].items()} for row in rows]
    return collated(case, head, [row | {"labels": own} for row, own in zip(rows, labels, strict=True)])


def gradients_of(model: Any, case: Case, head: str, seed: int = 0) -> Any:
    """gradients(n), as the driver makes it."""

    def gradients(number: int) -> Iterator[None]:
        was_training = model.training
        model.eval()
        rows = batch_of(case, head, size=number + 1, seed=seed)["samples"]
        for row in [row for row in rows if row["labels"]][:number]:
            model(collated(case, head, [row]) | {"tasks": (head,)}, {head: 1}).loss.backward()
            yield
        model.train(was_training)

    return gradients


def divergence_of(model: Any) -> Any:
    """The tool that the driver gives."""
    return lambda head, logits, others, labels: model.heads[head].divergence(logits, others, labels)


def loss_of(model: Any, approach: Any, batch: dict[str, Any], share: float = 1.0) -> Tensor:
    """As the driver's, with no more than what an approach has."""
    output = model(batch)
    loss = share * output.loss
    if hasattr(approach, "extra_loss"):
        loss = loss + share * approach.extra_loss(model, batch, output)
    return loss


def extra(approach: Any, model: Any, batch: dict[str, Any]) -> Tensor:
    return approach.extra_loss(model, batch, model(batch))


def move(model: nn.Module, by: float, seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.add_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype), alpha=by)


def gradient_of(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """By name, without those that have none."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    return {name: value for name, value in zip(weights, found, strict=True) if value is not None}


# ----------------------------------------------------------------------------------------------------------- options


def test_the_files_are_options() -> None:
    assert {"frozen", "l2_start", "ewc", "lwf"} <= set(approach_names()) and approach_class("ewc") is EWC


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (L2, {"strength": -1.0}, "L2: strength must not be negative, found -1.0"),
        (L2, {"strength": math.nan}, "L2: strength must not be negative, found nan"),
        (EWC, {"strength": -1.0}, "EWC: strength must not be negative, found -1.0"),
        (EWC, {"samples": 0}, "EWC: samples must be above 0, found 0"),
        (EWC, {"online": True, "decay": 2}, "EWC: decay must be above 0 and at most 1, and 1 if not online, found 2"),
        (EWC, {"decay": 0.5}, "EWC: decay must be above 0 and at most 1, and 1 if not online, found 0.5"),
        (LwF, {"strength": -1.0}, "LwF: strength must not be negative, found -1.0"),
        (LwF, {"temperature": 0.0}, "LwF: temperature must be above 0, found 0.0"),
    ],
)
def test_impossible_options(cls: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        cls(**options)
    assert str(raised.value) == message


# ------------------------------------------------------------------------------------------------------------ frozen


@every_case
def test_a_frozen_encoder_stays_bit_for_bit_while_the_head_learns(case: Case) -> None:
    model, approach = model_of(case, "old"), Frozen()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    approach.begin_task(model, OLD)
    batch = batch_of(case, "old")
    if case.kind == "sentence_embedding":  # its head has no parameters: nothing is left to train
        assert not any(weight.requires_grad for weight in model.parameters())
        return
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5)
    losses = []
    for _ in range(30):
        loss = loss_of(model.eval(), approach, batch)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) or name.startswith("heads.")
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


# ---------------------------------------------------------------------------------------------------------------- L2


@every_case
def test_l2_pulls_the_encoder_to_the_start_of_the_sequence(case: Case) -> None:
    model, approach = model_of(case, "old", "new").eval(), L2(strength=0.3)
    approach.begin_task(model, OLD)
    start = deepcopy(dict(model.encoder.named_parameters()))
    assert extra(approach, model, batch_of(case, "old")).item() == 0
    move(model, 0.1)
    approach.begin_task(model, NEW)  # the second task does not begin anew
    penalty = extra(approach, model, batch_of(case, "new"))
    apart = {n: w.detach() - start[n] for n, w in model.encoder.named_parameters() if w.requires_grad}
    torch.testing.assert_close(penalty, 0.15 * torch.stack([d.square().sum() for d in apart.values()]).sum())
    found = gradient_of(penalty, model)
    assert found.keys() == {f"encoder.{name}" for name in apart} and len(found) > 20
    for name, difference in apart.items():
        torch.testing.assert_close(found[f"encoder.{name}"], 0.3 * difference)


def test_l2_as_familiar_calls_and_of_an_encoder_that_is_not_trained() -> None:
    layer = nn.Linear(3, 2).double()
    start = {"weight": torch.zeros(2, 3, dtype=torch.float64)}
    torch.testing.assert_close(squared_distance(layer, start), layer.weight.square().sum(), rtol=1e-14, atol=0)
    model = model_of(OF_SEQUENCE, "old")
    Frozen().begin_task(model, OLD)
    with pytest.raises(ValueError, match="L2: no weight of the encoder is trained"):
        L2().begin_task(model, OLD)


# --------------------------------------------------------------------------------------------------------------- EWC


class Toy(nn.Module):
    """tanh layer and linear heads in fp64; batch: x (B, 3), labels of one head (B,)."""

    def __init__(self, *heads: str):
        super().__init__()
        self.encoder, self.heads = nn.Linear(3, 4), nn.ModuleDict({head: nn.Linear(4, 3) for head in heads})
        self.double()

    def forward(self, batch: dict[str, Any]) -> Any:
        hidden = self.encoder(batch["x"]).tanh()
        return SimpleNamespace(hidden_states=(hidden,), logits={h: self.heads[h](hidden) for h in batch["labels"]})

    def loss(self, x: Tensor, labels: Tensor, head: str) -> Tensor:
        return F.cross_entropy(self({"x": x, "labels": {head: labels}}).logits[head], labels, reduction="sum")


def toy_data(seed: int, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (size,), generator=generator)


def toy_gradients(model: Toy, head: str, seed: int) -> Any:
    def gradients(number: int) -> Iterator[None]:
        for x, label in zip(*(part[:number] for part in toy_data(seed)), strict=True):
            model.loss(x[None], label[None], head).backward()
            yield

    return gradients


def toy_fisher(model: Toy, head: str, seed: int, number: int) -> dict[str, Tensor]:
    """From all samples at once, by torch.func."""
    weights = dict(model.named_parameters())

    def loss(weights: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, weights, ({"x": x[None], "labels": {head: None}},)).logits[head]
        return -logits.log_softmax(-1)[0].gather(0, label[None])[0]

    x, labels = (part[:number] for part in toy_data(seed))
    detached = {name: weight.detach() for name, weight in weights.items()}
    each = vmap(grad(loss), in_dims=(None, 0, 0))(detached, x, labels)
    return {name: values.square().mean(0) for name, values in each.items()}


def close(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-12, atol: float = 1e-15) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=atol)


def largest(values: dict[str, Tensor]) -> float:
    return max(value.abs().max().item() for value in values.values())


@pytest.mark.parametrize("samples", [1, 8, 12])
def test_fisher_is_the_mean_square_of_the_gradients_of_single_samples(samples: int) -> None:
    model = Toy("old", "new")
    approach = EWC(samples=samples)
    approach.end_task(model, OLD, toy_gradients(model, "old", seed=1))
    expected = toy_fisher(model, "old", 1, samples)
    close(approach.fisher, expected)
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(expected[f"heads.new.{name}"].any() for name in ("weight", "bias"))
    x, labels = (part[:samples] for part in toy_data(1))
    of_mean = gradient_of(model.loss(x, labels, "old") / samples, model)
    of_mean_squared = of_mean["encoder.weight"].square()
    assert (samples == 1) == torch.allclose(of_mean_squared, expected["encoder.weight"])  # what copies take for it


def logistic(x: Tensor, labels: Tensor, weight: Tensor) -> dict[str, Tensor]:
    def backwards() -> Iterator[None]:
        for one, label in zip(x, labels, strict=True):
            F.binary_cross_entropy_with_logits(one @ weight, label).backward()
            yield

    return diagonal_fisher({"w": weight}, backwards())


def test_fisher_of_logistic_regression_in_closed_form() -> None:
    """The gradient of a sample is (p - y) x. Where labels are as often 1 as the model says, it is p (1 - p) x x^T."""
    weight = nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))
    x, y = toy_data(3, size=40)[0], (toy_data(4, size=40)[1] > 0).double()
    p = (x @ weight).sigmoid().detach()
    torch.testing.assert_close(logistic(x, y, weight)["w"], ((p - y)[:, None] * x).square().mean(0), rtol=1e-12, atol=0)

    x = x - (x @ weight.detach() - math.log(3))[:, None] * weight.detach() / weight.detach().square().sum()  # p = 3/4
    x, y = x.repeat(4, 1), torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64).repeat_interleave(40)

    def loss(w: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(x @ w, y)

    found = logistic(x, y, weight)["w"]
    torch.testing.assert_close(found, 3 / 16 * x.square().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(found, hessian(loss)(weight.detach()).diag(), rtol=1e-12, atol=0)
    mistaken = logistic(x, 1 - y, weight)["w"]  # the criticism: not the Fisher information, which has no labels
    assert (mistaken > 2 * found).all()


def test_fisher_of_gradients_that_are_not_finite() -> None:
    weight, other = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(4)  # left over: is not a sample's
    factors = [torch.tensor([2.0, math.nan, math.inf, 1e30]), torch.tensor([4.0, 2.0, 2.0, 2.0])]

    def backwards() -> Iterator[None]:
        for factor in factors:
            assert weight.grad is None
            (weight * factor).sum().backward()
            yield

    found = diagonal_fisher({"weight": weight, "other": other}, backwards())
    assert found["weight"].tolist() == [10.0, 2.0, 2.0, 2.0] and found["other"].tolist() == [0.0]
    assert weight.grad is None and diagonal_fisher({"weight": weight}, iter(()))["weight"].tolist() == [0.0] * 4


def test_two_parabolas_are_one() -> None:
    held, center, fisher, weight = torch.rand(4, 1000, dtype=torch.float64)
    held[:300], fisher[200:500] = 0.0, 0.0
    total, mean, constant = merged(held, center, fisher, weight)
    assert torch.equal(mean[200:300], center[200:300]) and not total[200:300].any()
    torch.testing.assert_close(mean[:200], weight[:200], rtol=1e-14, atol=1e-15)
    for x in torch.randn(3, 1000, dtype=torch.float64):
        explicit = (held * (x - center).square() + fisher * (x - weight).square()).sum()
        torch.testing.assert_close((total * (x - mean).square()).sum() + constant, explicit, rtol=1e-13, atol=0)


def explicit_sum(tasks: list[tuple[dict[str, Tensor], dict[str, Tensor]]], model: nn.Module) -> Tensor:
    """sum over tasks and weights of F (theta - theta*)^2; tasks: (F, theta*) by name."""
    weights = dict(model.named_parameters())
    each = [(f[n] * (weights[n] - kept[n]).square()).sum() for f, kept in tasks for n in f]
    return torch.stack(each).sum()


def run_toy(approach: EWC) -> tuple[Toy, list[tuple[dict[str, Tensor], dict[str, Tensor]]]]:
    """Four tasks; the third's head is made on demand, the fourth has the first's. Returns F and theta* of each, too."""
    model, tasks = Toy("a", "b"), []
    batch = {"x": toy_data(1)[0], "labels": {"a": toy_data(1)[1]}}
    for number, head in enumerate("abca"):
        if head not in model.heads:
            model.heads[head] = nn.Linear(4, 3).double()
        task = SimpleNamespace(name=str(number), head=head, classes=None)
        approach.begin_task(model, task)
        if number == 0:
            assert approach.extra_loss(model, batch, None).item() == 0
        approach.end_task(model, task, toy_gradients(model, head, seed=number))
        kept = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        tasks.append((toy_fisher(model, head, number, approach.samples), kept))
        move(model, 0.3, seed=number)
    return model, tasks


def test_penalty_is_the_explicit_sum_over_the_tasks() -> None:
    approach = EWC(strength=3.0, samples=7)
    model, tasks = run_toy(approach)
    expected = 1.5 * explicit_sum(tasks, model)
    gradient = gradient_of(expected, model)
    for head in "abc":
        found = approach.extra_loss(model, {"labels": {head: None}}, None)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        reached = {n: g for n, g in gradient.items() if n.startswith(("encoder.", f"heads.{head}."))}
        close(gradient_of(found, model), reached)  # the other heads have none
    move(model, 10.0)  # far away, too
    found = approach.extra_loss(model, {"labels": {"a": None}}, None)
    torch.testing.assert_close(found, 1.5 * explicit_sum(tasks, model), rtol=1e-12, atol=0)
    assert len(approach.state_dict()["fisher"]) == len(list(model.parameters()))  # of four tasks


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_online_penalty_is_the_papers_recursion(decay: float) -> None:
    approach = EWC(strength=3.0, samples=7, online=True, decay=decay)
    model, tasks = run_toy(approach)
    fisher: dict[str, Tensor] = {}
    for of_task, _ in tasks:
        fisher = {name: decay * fisher.get(name, 0.0) + value for name, value in of_task.items()}
    close(approach.fisher, fisher)
    newest = tasks[-1][1]
    expected = 1.5 * explicit_sum([(fisher, newest)], model)
    found = approach.extra_loss(model, {"labels": {"a": None, "b": None, "c": None}}, None)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    close(gradient_of(found, model), gradient_of(expected, model))


def test_an_idle_head_does_not_decay() -> None:
    model, approach = Toy("old", "new"), EWC(samples=5)
    approach.end_task(model, OLD, toy_gradients(model, "old", seed=1))
    kept = deepcopy(model.heads["old"].state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    x, labels = toy_data(2)
    for _ in range(3):
        penalty = approach.extra_loss(model, {"labels": {"new": labels}}, None)
        (model.loss(x, labels, "new") + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(value, kept[name]) for name, value in model.heads["old"].state_dict().items())


def test_ewc_keeps_what_sequential_training_forgets() -> None:
    """The loss of the first task after the second has been trained."""

    def after(strength: float) -> float:
        torch.manual_seed(0)
        model, approach = Toy("old", "new"), EWC(strength=strength, samples=12)
        for task, seed in ((OLD, 1), (NEW, 2)):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
            x, labels = toy_data(seed)
            for _ in range(300):
                penalty = approach.extra_loss(model, {"labels": {task.head: labels}}, None)
                (model.loss(x, labels, task.head) + penalty).backward()
                optimizer.step()
                optimizer.zero_grad()
            approach.end_task(model, task, toy_gradients(model, task.head, seed))
        return model.loss(*toy_data(1), "old").item()

    assert after(100.0) < 0.7 * after(0.0)


@every_case
def test_ewc_of_every_kind_of_head(case: Case) -> None:
    """Fisher and penalty against sums over single samples and over tasks."""
    model, approach = model_of(case, "old", "new").eval(), EWC(strength=2.0, samples=5)
    tasks = []
    for task in (OLD, NEW):
        if compares_records(case):
            with pytest.raises(ValueError, match=f"EWC: no single sample of task '{task.name}' has a gradient"):
                approach.end_task(model, task, gradients_of(model, case, task.head))
            return
        rows = [row for row in batch_of(case, task.head)["samples"] if row["labels"]]
        assert len(rows) == 5
        fisher = {name: torch.zeros_like(w) for name, w in model.named_parameters() if w.requires_grad}
        for row in rows:
            batch = collated(case, task.head, [row]) | {"tasks": (task.head,)}
            for name, value in gradient_of(model(batch, {task.head: 1}).loss, model).items():
                fisher[name] += value.square() / 5
        approach.begin_task(model, task)
        approach.end_task(model, task, gradients_of(model, case, task.head))
        tasks.append((fisher, {name: w.detach().clone() for name, w in model.named_parameters()}))
        if task is OLD:
            close(approach.fisher, fisher, rtol=1e-5, atol=1e-7 * largest(fisher))
        move(model, 0.1)
    assert any(value.any() for value in tasks[0][0].values())
    batch = batch_of(case, "new") | {"tasks": ("new",)}
    expected = explicit_sum(tasks, model)
    found = extra(approach, model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    gradient = {n: g for n, g in gradient_of(expected, model).items() if not n.startswith("heads.old.")}
    close(gradient_of(found, model), gradient, rtol=1e-3, atol=1e-6 * largest(gradient))


# --------------------------------------------------------------------------------------------------------------- LwF


def kl(scores: Tensor, others: Tensor) -> Tensor:
    """KL of two softmax distributions, by its definition in fp64: a sum over all but the last dimension."""
    p, q = scores.double().softmax(-1), others.double().softmax(-1)
    return (p * (p / q).log()).sum()


def after_one_task(case: Case, *heads: str, task: Any = OLD, **options: Any) -> tuple[MultiTaskModel, Any, LwF]:
    """Model, teacher and approach at the second task, its weights moved since it began; no dropout."""
    model = model_of(case, *heads, dropout=0.0).eval()
    approach = LwF(**options, divergence=divergence_of(model))
    approach.begin_task(model, task)
    assert extra(approach, model, batch_of(case, task.head)).item() == 0
    approach.end_task(model, task, None)
    approach.begin_task(model, NEW)
    teacher = deepcopy(model)
    move(model, 0.05)
    return model, teacher, approach


def by_definition(case: Case, taught: Tensor, scores: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """T^2 * divergence of the items that have a label, from the heads' documentation."""
    soft, hard = taught.detach() / temperature, scores.detach() / temperature
    if level(case) == "number":
        known = ~labels.isnan()
        return temperature**2 * (soft[known] - hard[known]).double().square().sum()
    if level(case) == "multi_label":
        known = labels[:, 0] != -100
        p, q = (torch.stack([x[known], torch.zeros_like(x[known])], -1) for x in (soft, hard))
        return temperature**2 * kl(p, q) / 3
    if level(case) == "answer":
        known = labels[:, 0] != -100
        soft, hard = (x[known].transpose(1, 2).flatten(0, 1) for x in (soft, hard))  # of starts and of ends
    else:
        soft, hard = (x[labels != -100] for x in (soft, hard))
    each = [kl(p[p.isfinite()], q[p.isfinite()]) for p, q in zip(soft, hard, strict=True)]  # -inf: no such choice
    return temperature**2 * torch.stack(each).sum() / (2 if level(case) == "answer" else 1)


@pytest.mark.parametrize("case", WITH_DIVERGENCE, ids=str)
def test_lwf_is_the_definition_for_every_kind_of_head(case: Case) -> None:
    """Of the old head on the new one's batch; a gradient for encoder and old head, none for the new one."""
    model, teacher, approach = after_one_task(case, "old", "new", strength=0.7, temperature=3.0)
    batch = batch_of(case, "new")
    found = extra(approach, model, batch)
    labels = batch["labels"]["new"]
    taught, scores = (each({**batch, "labels": {}, "tasks": ("old",)}).logits["old"] for each in (teacher, model))
    items = model.heads["new"].num_items(labels)
    expected = 0.7 * by_definition(case, taught, scores, labels, 3.0) / items
    assert expected > 1e-4
    torch.testing.assert_close(found.double(), expected, rtol=2e-4, atol=1e-6)
    gradient = gradient_of(found, model)
    heads = {name.split(".")[1] for name in gradient if name.startswith("heads.")}
    assert heads == {"old"} and gradient["encoder.embeddings.word_embeddings.weight"].any()


@pytest.mark.parametrize("decoder", ["linear", "crf"])
def test_lwf_compares_a_crfs_emissions(decoder: str) -> None:
    """Words with a tag, by a loop; both decoders alike."""
    case = Case("word_tagging", {"decoder": decoder})
    model, teacher, approach = after_one_task(case, "old", "new", strength=1.0, temperature=2.0)
    batch = batch_of(case, "new")
    labels, total, items = batch["labels"]["new"], 0.0, 0
    taught, scores = (each({**batch, "labels": {}, "tasks": ("old",)}).logits["old"] / 2 for each in (teacher, model))
    for text, word in (labels != -100).nonzero().tolist():
        total += kl(taught[text, word], scores[text, word]).item()
        items += 1
    assert items > 10 and extra(approach, model, batch).item() == pytest.approx(4 * total / items, rel=1e-4)


def test_lwf_of_a_head_that_is_trained_further_compares_the_earlier_classes_only() -> None:
    """Class-incremental: the softmax is over classes 0 and 2; 1 has no part in it, nor a gradient."""
    first = SimpleNamespace(name="first", head="new", classes=[2, 0])
    model, teacher, approach = after_one_task(OF_SEQUENCE, "new", task=first, temperature=2.0, strength=1.5)
    assert approach.trained == {"new": [0, 2]}
    batch = batch_of(OF_SEQUENCE, "new")
    output = model(batch)
    taught, known = teacher(batch).logits["new"], batch["labels"]["new"] != -100
    p, q = ((logits[known][:, [0, 2]] / 2).softmax(-1) for logits in (taught, output.logits["new"]))
    found = approach.extra_loss(model, batch, output)
    torch.testing.assert_close(found, 1.5 * 4 * (p * (p / q).log()).sum(-1).mean())
    (of_logits,) = torch.autograd.grad(found, output.logits["new"])
    assert not of_logits[:, 1].any() and of_logits[known][:, [0, 2]].all() and not of_logits[~known].any()


def test_lwf_of_several_labels_that_are_trained_further() -> None:
    case = Case("multi_label_classification")
    first = SimpleNamespace(name="first", head="new", classes=[1])
    model, teacher, approach = after_one_task(case, "new", task=first, strength=1.0, temperature=2.0)
    batch = batch_of(case, "new")
    output, known = model(batch), batch["labels"]["new"][:, 0] != -100
    p, q = ((x.logits["new"][known][:, 1] / 2).sigmoid() for x in (teacher(batch), output))
    apart = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(approach.extra_loss(model, batch, output), 4 * apart.mean() / 3, rtol=1e-4, atol=1e-7)


def test_lwf_remembers_which_classes_a_head_was_trained_on() -> None:
    approach, model = LwF(), model_of(OF_SEQUENCE, "a", "b")
    for head, classes, expected in [("a", [2], [2]), ("a", [0], [0, 2]), ("b", None, None), ("b", [1], None),
                                    ("a", None, None), ("a", [1], None)]:  # fmt: skip
        approach.end_task(model, SimpleNamespace(name="", head=head, classes=classes), None)
        assert approach.trained[head] == expected


def test_lwf_asks_only_heads_that_can_read_the_batch() -> None:
    """Of intents and slots neither reads the other's batches; the own head is compared, with all classes."""
    model = tiny_model(dropout=0.0)
    approach = LwF(divergence=divergence_of(model))
    approach.end_task(model, SimpleNamespace(name="", head="slots", classes=None), None)
    approach.begin_task(model, SimpleNamespace(name="", head="intent", classes=None))
    assert [*approach.teacher.heads] == ["slots"]
    move(model, 0.1)
    for head, case in (("intent", OF_SEQUENCE), ("slots", Case("word_tagging"))):
        assert (extra(approach, model.train(), batch_of(case, head)) > 0) == (head == "slots")



def test_the_own_divergence_is_that_of_a_softmax_head() -> None:
    model, _, approach = after_one_task(OF_SEQUENCE, "old", "new")
    batch = batch_of(OF_SEQUENCE, "new")
    tool = extra(approach, model, batch)
    approach.divergence = LwF().divergence
    assert tool > 0 and torch.equal(extra(approach, model, batch), tool)


def test_the_teacher_stays_as_it_was() -> None:
    """However the model is trained; and it takes no random numbers from dropout."""
    model = model_of(OF_SEQUENCE, "old", "new")
    approach = LwF(divergence=divergence_of(model))
    approach.end_task(model, OLD, None)
    approach.begin_task(model, NEW)
    before = deepcopy(approach.state_dict()["teacher"])
    assert {name.split(".")[1] for name in before if name.startswith("heads.")} == {"old"}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for number in range(3):
        batch = batch_of(OF_SEQUENCE, "new", seed=number)
        loss_of(model, approach, batch).backward()
        optimizer.step()
    assert not approach.teacher.training and not any(w.requires_grad for w in approach.teacher.parameters())
    assert_same(approach.state_dict()["teacher"], before)
    assert not any(torch.equal(w, before[n]) for n, w in model.named_parameters() if n in before and w.requires_grad)
    state = torch.get_rng_state()
    approach.teacher({**batch, "labels": {}, "tasks": ("old",)})
    assert torch.equal(torch.get_rng_state(), state)


def test_a_state_from_between_two_tasks_has_no_teacher_of_the_one_before() -> None:
    """The third task's teacher is the model as it then is."""
    model, _, approach = after_one_task(OF_SEQUENCE, "old", "new")
    approach.end_task(model, NEW, None)
    resumed = LwF()
    resumed.begin_task(model, OLD)
    resumed.load_state_dict(approach.state_dict())
    approach.begin_task(model, OLD)
    assert_same(resumed.state_dict(), approach.state_dict())
    assert_same(resumed.state_dict()["teacher"], model.state_dict())


# ---------------------------------------------------------------------------------------------------- in the training

APPROACHES: dict[str, Any] = {
    "frozen": lambda model: Frozen(),
    "l2_start": lambda model: L2(strength=0.5),
    "ewc": lambda model: EWC(strength=50.0, samples=4),
    "ewc online": lambda model: EWC(strength=50.0, samples=4, online=True, decay=0.9),
    "lwf": lambda model: LwF(strength=2.0, divergence=divergence_of(model)),
}
every_approach = pytest.mark.parametrize("name", APPROACHES)


def assert_same(one: Any, other: Any) -> None:
    """Two states, bit for bit."""
    (structure, tensors), (other_structure, other_tensors) = flatten(one), flatten(other)
    assert structure == other_structure
    for name, value in tensors.items():
        assert torch.equal(value, other_tensors[name]), name


def train(model: Any, approach: Any, optimizer: Any, case: Case, head: str, numbers: range) -> None:
    for number in numbers:
        loss_of(model, approach, batch_of(case, head, seed=number)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def call(approach: Any, member: str, *arguments: Any) -> Any:
    return getattr(approach, member, lambda *_: {})(*arguments)


def optimizer_of(model: nn.Module, name: str) -> Any:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(weights, lr=0.01, momentum=0.9)
    return torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1)


@pytest.mark.parametrize("second", ["new", "old"])  # a head of its own, made on demand; or the first one's further
@pytest.mark.parametrize(
    ("case", "optimizer_name"), [(OF_SEQUENCE, "adamw"), (Case("word_tagging", {"decoder": "crf"}), "sgd")], ids=str
)
@every_approach
def test_resumed_is_unbroken(name: str, case: Case, second: str, optimizer_name: str, tmp_path: Path) -> None:
    """In the middle of the second task, by way of the disk; and right before it."""
    first, task = deepcopy(OLD), SimpleNamespace(name="second", head=second, classes=None)
    if second == "old":
        first.classes = [0, 1]
    model = model_of(case, "old")
    approach = APPROACHES[name](model)
    call(approach, "begin_task", model, first)
    train(model, approach, optimizer_of(model, optimizer_name), case, "old", range(3))
    call(approach, "end_task", model, first, gradients_of(model, case, "old"))
    if second == "new":
        description = described(case, "new")
        kind, labels = description.pop("kind"), description.pop("labels")
        model.heads["new"] = build_head(kind, 16, labels, {k: v for k, v in description.items() if k != "name"}).train()
        model.loss_weights["new"] = 1.0

    def save(path: Path, optimizer: Any) -> None:
        parts = {"model": model, "approach": approach, "optimizer": optimizer}
        states = {part: call(each, "state_dict") for part, each in parts.items() if each is not None}
        save_tree(path, {**states, "random": torch.get_rng_state()})

    save(tmp_path / "between", None)
    call(approach, "begin_task", model, task)
    optimizer = optimizer_of(model, optimizer_name)
    train(model, approach, optimizer, case, second, range(10, 12))
    save(tmp_path / "inside", optimizer)
    train(model, approach, optimizer, case, second, range(12, 15))
    call(approach, "end_task", model, task, gradients_of(model, case, second))
    expected = [model.state_dict(), call(approach, "state_dict")]

    for place, numbers in (("inside", range(12, 15)), ("between", range(10, 15))):
        model = model_of(case, *dict.fromkeys(("old", second)), seed=9)
        state = load_tree(tmp_path / place)
        model.load_state_dict(state["model"])
        approach = APPROACHES[name](model)
        call(approach, "begin_task", model, task)
        call(approach, "load_state_dict", state["approach"])
        optimizer = optimizer_of(model, optimizer_name)
        if place == "inside":
            optimizer.load_state_dict(state["optimizer"])
            assert_same(call(approach, "state_dict"), state["approach"])
        torch.set_rng_state(state["random"])
        train(model, approach, optimizer, case, second, numbers)
        call(approach, "end_task", model, task, gradients_of(model, case, second))
        assert_same([model.state_dict(), call(approach, "state_dict")], expected)


@pytest.mark.parametrize("name", ["l2_start", "ewc", "ewc online", "lwf"])
def test_accumulated_micro_batches_are_the_big_batch(name: str) -> None:
    """Shares are those of items; of the second text the label is unknown."""
    model = model_of(OF_SEQUENCE, "old", "new", dropout=0.0)
    approach = begun(name, model, OF_SEQUENCE)
    whole = batch_of(OF_SEQUENCE, "new")
    expected = gradient_of(loss_of(model, approach, whole), model)
    for part, share in ((whole["samples"][:3], 2 / 5), (whole["samples"][3:], 3 / 5)):
        loss_of(model, approach, collated(OF_SEQUENCE, "new", part), share).backward()
    found = {n: w.grad for n, w in model.named_parameters() if w.grad is not None}
    close(found, expected, rtol=1e-4, atol=1e-6 * largest(expected))
    without = gradient_of(model(whole).loss, model)["encoder.embeddings.word_embeddings.weight"]
    assert not torch.allclose(expected["encoder.embeddings.word_embeddings.weight"], without, rtol=1e-3)


def begun(name: str, model: MultiTaskModel, case: Case) -> Any:
    """An approach in the middle of the second task."""
    approach = APPROACHES[name](model)
    call(approach, "begin_task", model, OLD)
    call(approach, "end_task", model, OLD, gradients_of(model, case, "old"))
    call(approach, "begin_task", model, NEW)
    move(model, 0.05)
    return approach


@every_approach
def test_a_step_reads_nothing_back(name: str) -> None:
    model = model_of(OF_SEQUENCE, "old", "new")
    approach, batch = begun(name, model, OF_SEQUENCE), batch_of(OF_SEQUENCE, "new")
    with CountHostReads() as counter:
        loss_of(model, approach, batch).backward()
        assert counter.reads == 0


@every_approach
def test_under_autocast(name: str) -> None:
    model = model_of(OF_SEQUENCE, "old", "new", dropout=0.0)
    approach, batch = begun(name, model, OF_SEQUENCE), batch_of(OF_SEQUENCE, "new")
    exact = loss_of(model, approach, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(model, approach, batch)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact.item(), rel=0.05)
