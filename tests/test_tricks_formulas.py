"""Each trick against its paper's formula, computed independently: on a model without hooks, in plain loops.

FGM has a file of its own, the criteria are in test_losses.py. Letters: B texts, T sub-words, H hidden size, C classes.
"""

import math
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_utils.encoder import load_encoder
from tricks.awp import AWP
from tricks.child_tuning import ChildTuning
from tricks.distillation import Distillation, distillation
from tricks.ema import EMA
from tricks.freelb import FreeLB
from tricks.gradual_unfreezing import GradualUnfreezing, NoLayers
from tricks.lookahead import Lookahead
from tricks.mixup import Mixup, mix
from tricks.multi_sample_dropout import MultiSampleDropout
from tricks.neftune import NEFTune
from tricks.pgd import PGD
from tricks.rdrop import RDrop, r_drop
from tricks.reinit import reinit_layers
from tricks.sam import SAM
from tricks.swa import SWA
from tricks.vat import VAT

IDS = torch.tensor([[3, 5, 5, 9], [5, 2, 0, 0], [7, 8, 4, 0]])  # 0 is padding
LABELS = torch.tensor([0, 2, 1])
OTHER_IDS, OTHER_LABELS = torch.tensor([[4, 4], [11, 3]]), torch.tensor([1, 1])


class Toy(nn.Module):
    """The vectors of a text's words, transformed and added up, are scores of 3 classes."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        torch.manual_seed(1)
        self.word_embeddings = nn.Embedding(12, 8, padding_idx=0)
        self.dense, self.dropout, self.classifier = nn.Linear(8, 8), nn.Dropout(dropout), nn.Linear(8, 3)
        self.double()

    def forward(self, batch: Mapping[str, Any], num_items: Any = None) -> Any:
        hidden = self.hidden(self.word_embeddings(batch["input_ids"]), batch["input_ids"])
        return self.heads(hidden, batch)

    def hidden(self, embedded: Tensor, ids: Tensor) -> Tensor:
        return (torch.tanh(self.dense(embedded)) * (ids != 0)[..., None]).sum(1)  # (B, H)

    def heads(self, hidden: Tensor, batch: Mapping[str, Any]) -> Any:
        logits = self.classifier(self.dropout(hidden))  # (B, C)
        loss = F.cross_entropy(logits, batch["labels"]["topic"])
        return SimpleNamespace(loss=loss, logits={"topic": logits}, hidden=hidden)


def batch(ids: Tensor = IDS, labels: Tensor = LABELS) -> dict[str, Any]:
    return {"input_ids": ids, "labels": {"topic": labels}}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def gradient_at(change: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Of the weights and of the embedded texts (B, T, H) where a change is added to these."""
    model = Toy()
    change = change.clone().requires_grad_()
    hidden = model.hidden(model.word_embeddings(IDS) + change, IDS)
    model.heads(hidden, batch()).loss.backward()
    assert change.grad is not None
    return gradients(model), change.grad


def stepped(change: Tensor, gradient: Tensor, alpha: float, epsilon: float) -> Tensor:
    """Each text by itself: a step, then back onto the ball."""
    rows = []
    for r, g in zip(change, gradient, strict=True):
        r = r + alpha * g / g.norm()
        rows.append(r * min(1.0, epsilon / float(r.norm())))
    return torch.stack(rows)


def assert_gradients(model: nn.Module, expected: dict[str, Tensor]) -> None:
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9, msg=name)


def added(*parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]}


def earlier(model: nn.Module) -> dict[str, Tensor]:
    """Accumulate the gradient of another batch."""
    model(batch(OTHER_IDS, OTHER_LABELS)).loss.backward()
    return gradients(model)


# --------------------------------------------------------------------------------------------------------- attacks


@pytest.mark.parametrize("way", ["loop", "closure"])
@pytest.mark.parametrize("steps", [1, 3])
def test_pgd(steps: int, way: str) -> None:
    """Madry et al. 2018, with the l2 ball, on each text."""
    change = torch.zeros(*IDS.shape, 8, dtype=torch.float64)
    clean, gradient = gradient_at(change)
    for _ in range(steps):
        change = stepped(change, gradient, alpha=0.6, epsilon=1.0)
        last, gradient = gradient_at(change)
    assert steps == 1 or change.flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * 3)

    model = Toy()
    pgd, before = PGD(model, epsilon=1.0, alpha=0.6, steps=steps), earlier(model)
    model(batch()).loss.backward()
    if way == "loop":
        for _ in pgd:
            model(batch()).loss.backward()
    else:
        pgd(lambda: model(batch()).loss.backward())
    assert_gradients(model, added(before, clean, last))


def test_pgd_of_no_gradient_and_out_of_order() -> None:
    model = Toy()
    pgd = PGD(model, steps=1)
    with pytest.raises(RuntimeError, match="no backward pass"):
        pgd(lambda: None)
    (0 * model(batch()).loss).backward()
    for _ in pgd:
        assert not pgd.changes[0].any()
        model(batch()).loss.backward()
    with pytest.raises(RuntimeError, match="no backward pass"):  # the last one is used up
        pgd(lambda: None)
    with torch.no_grad():
        model(batch())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_freelb(steps: int) -> None:
    """Zhu et al. 2020, algorithm 1, with the same random start."""
    model = Toy()
    freelb, before, starts = FreeLB(model, epsilon=0.9, alpha=0.6, steps=steps), earlier(model), []

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        starts.append(freelb.changes[0].detach().clone())

    model.word_embeddings.register_forward_hook(watch)
    freelb(lambda: model(batch()).loss.backward())
    change = starts[0]
    lengths = (IDS != 0).sum(1)
    for row, length in zip(change, lengths.tolist(), strict=True):
        assert not row[length:].any() and row[:length].abs().max() <= 0.9 / math.sqrt(8 * length)
        assert row[:length].abs().max() > 0.8 * 0.9 / math.sqrt(8 * length)
    parts = []
    for _ in range(steps):
        gradient_of_weights, gradient = gradient_at(change)
        parts.append({name: g / steps for name, g in gradient_of_weights.items()})
        change = stepped(change, gradient, alpha=0.6, epsilon=0.9)
    assert_gradients(model, added(before, *parts))
    assert not freelb.changes and not freelb.active


def moved(step: Any) -> dict[str, Tensor]:
    """Gradients where `step(name, weight, gradient of it)` has been added to each weight."""
    model = Toy()
    model(batch()).loss.backward()
    steps = {name: step(name, p.detach(), p.grad) for name, p in model.named_parameters()}
    model.zero_grad()
    for name, parameter in model.named_parameters():
        parameter.data += steps[name]
    model(batch()).loss.backward()
    return gradients(model)


@pytest.mark.parametrize("way", ["familiar", "closure"])
def test_sam(way: str) -> None:
    """Foret et al. 2021: the gradient at w + rho g / ||g||, instead of g."""
    clean, _ = gradient_at(torch.zeros(*IDS.shape, 8, dtype=torch.float64))
    length = math.sqrt(sum(float(g.pow(2).sum()) for g in clean.values()))
    expected = moved(lambda name, weight, gradient: 0.3 * gradient / length)
    model = Toy()
    sam, weights = SAM(model, rho=0.3), {name: p.detach().clone() for name, p in model.named_parameters()}
    if way == "familiar":
        model(batch()).loss.backward()
        sam.attack()
        model(batch()).loss.backward()
        sam.restore()
        assert_gradients(model, expected)
    else:
        before = earlier(model)
        sam(lambda: model(batch()).loss.backward())
        assert_gradients(model, added(before, expected))
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("way", ["familiar", "closure"])
def test_awp(way: str) -> None:
    """Wu et al. 2020: gamma ||w|| g / ||g|| of each weight matrix; both gradients count."""
    clean, _ = gradient_at(torch.zeros(*IDS.shape, 8, dtype=torch.float64))
    expected = moved(
        lambda name, weight, gradient: 0.2 * weight.norm() * gradient / gradient.norm() if weight.ndim > 1 else 0.0
    )
    model = Toy()
    awp, weights = AWP(model, gamma=0.2), {name: p.detach().clone() for name, p in model.named_parameters()}
    if way == "familiar":
        model(batch()).loss.backward()
        awp.attack()
        model(batch()).loss.backward()
        awp.restore()
        assert_gradients(model, added(clean, expected))
    else:
        before = earlier(model)
        awp(lambda: model(batch()).loss.backward())
        assert_gradients(model, added(before, clean, expected))
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("build", [SAM, AWP])
def test_weights_that_are_moved_cannot_be_moved_again(build: Any) -> None:
    model = Toy()
    attack = build(model)
    with pytest.raises(RuntimeError, match="backward pass must come first"):
        attack.attack()
    model(batch()).loss.backward()
    attack.attack()
    with pytest.raises(RuntimeError, match="before"):
        attack.attack()
    attack.restore()


# ------------------------------------------------------------------------------------------------ losses of a batch


def kl(p: Tensor, q: Tensor) -> Tensor:
    """(B, C) probabilities -> (B,)."""
    return (p * (p.log() - q.log())).sum(1)


def test_rdrop() -> None:
    """Wu et al. 2021: -log p1 - log p2 + alpha / 2 (KL + KL), of which we take half; both passes' gradients."""
    model, again = Toy(dropout=0.4), Toy(dropout=0.4)
    torch.manual_seed(5)
    output = RDrop(alpha=3.0)(model, batch())
    output.loss.backward()
    torch.manual_seed(5)
    first, second = (again(batch()).logits["topic"].softmax(1) for _ in range(2))
    assert not torch.equal(first, second)
    paper = -first[range(3), LABELS].log() - second[range(3), LABELS].log()
    paper = paper + 3.0 / 2 * (kl(first, second) + kl(second, first))
    (paper.mean() / 2).backward()
    torch.testing.assert_close(output.loss, paper.mean() / 2, check_dtype=False, rtol=1e-6, atol=0)
    for name, gradient in gradients(again).items():
        torch.testing.assert_close(gradients(model)[name], gradient, rtol=1e-5, atol=1e-7)
    found = r_drop(first.log(), second.log(), LABELS, alpha=3.0)
    torch.testing.assert_close(found, paper.mean() / 2, check_dtype=False, rtol=1e-6, atol=0)


def test_distillation() -> None:
    """Hinton et al. 2015: soft targets at temperature T, their part times T^2; no gradient reaches the teacher."""
    student, teacher = Toy(), Toy(dropout=0.5)
    nn.init.normal_(teacher.classifier.weight)
    output = Distillation(teacher, alpha=0.3, temperature=4.0)(student, batch())
    hard, soft = student(batch()).logits["topic"], teacher(batch()).logits["topic"]
    parts = kl((soft / 4).softmax(1), (hard / 4).softmax(1))
    expected = 0.7 * F.cross_entropy(hard, LABELS) + 0.3 * 16 * parts.mean()
    torch.testing.assert_close(output.loss, expected, check_dtype=False, rtol=1e-6, atol=0)
    output.loss.backward()
    assert not teacher.training and gradients(teacher) == {} and gradients(student)
    found = distillation(hard, soft, LABELS, alpha=0.3, temperature=4.0)
    torch.testing.assert_close(found, expected, check_dtype=False, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="alpha"):
        Distillation(teacher, alpha=1.5)


def test_mixup() -> None:
    """Guo et al. 2019: the cross-entropy of mixed sentence vectors against mixed one-hot labels."""
    model = Toy()
    mixup = Mixup({"topic": model.classifier}, lambda output, given, _: model.heads(output.hidden, given), alpha=1.0)
    torch.manual_seed(5)
    output = mixup(model, batch())
    torch.manual_seed(5)
    hidden = model(batch()).hidden
    mixed, other, share = mix(hidden, alpha=1.0)
    assert 0.05 < share < 0.95 and other.tolist() != [0, 1, 2]
    target = share * F.one_hot(LABELS, 3) + (1 - share) * F.one_hot(LABELS[other], 3)
    expected = -(target * model.classifier(mixed).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(output.loss, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(model(batch()).loss, Toy()(batch()).loss)  # elsewhere nothing is mixed
    with pytest.raises(ValueError, match="alpha"):
        Mixup({}, None, alpha=0.0)  # type: ignore[arg-type]


def test_multi_sample_dropout() -> None:
    """Inoue 2019: the mean of the losses of several masks over the same features."""
    model = Toy(dropout=0.5)
    trick = MultiSampleDropout(lambda output, given, _: model.heads(output.hidden, given), samples=3)
    torch.manual_seed(5)
    loss = trick(model, batch()).loss
    torch.manual_seed(5)
    hidden = model(batch()).hidden
    torch.manual_seed(5)
    losses = [F.cross_entropy(model.classifier(model.dropout(hidden)), LABELS) for _ in range(3)]
    assert len({loss.item() for loss in losses}) == 3
    torch.testing.assert_close(loss, sum(losses) / 3)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_vat(dropout: float) -> None:
    """Miyato et al. 2018 with one power iteration, with the same dropout mask everywhere."""
    model = Toy(dropout)
    vat = VAT(model, weight=2.0, epsilon=0.5, xi=0.1)
    randoms: list[Tensor] = []

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if vat.active and not randoms:
            randoms.append(vat.changes[0].detach().clone())

    model.word_embeddings.register_forward_hook(watch)
    torch.manual_seed(5)
    output = vat(model, batch())
    output.loss.backward()

    plain = Toy(dropout)
    torch.manual_seed(5)
    mask = plain.dropout(torch.ones(3, 8, dtype=torch.float64))
    assert dropout == 0 or (mask == 0).any()

    def scores(change: Tensor) -> Tensor:
        return plain.classifier(plain.hidden(plain.word_embeddings(IDS) + change, IDS) * mask)

    (change,) = randoms
    assert change.flatten(1).norm(dim=1).tolist() == pytest.approx([0.1] * 3)
    clean = scores(torch.zeros_like(change)).softmax(1)
    change.requires_grad_()
    (gradient,) = torch.autograd.grad(kl(clean.detach(), scores(change).softmax(1)).sum(), change)
    worst = stepped(torch.zeros_like(gradient), gradient, alpha=0.5, epsilon=1.0)
    expected = F.nll_loss(clean.log(), LABELS) + 2.0 * kl(clean.detach(), scores(worst).softmax(1)).mean()
    expected.backward()
    torch.testing.assert_close(output.loss, expected, check_dtype=False, rtol=1e-5, atol=0)
    for name, value in gradients(plain).items():
        torch.testing.assert_close(gradients(model)[name], value, rtol=1e-3, atol=1e-5)


def test_vat_finds_a_worse_change_than_chance() -> None:
    model = Toy()
    vat = VAT(model, epsilon=0.5)
    torch.manual_seed(5)
    loss = vat(model, batch()).loss - model(batch()).loss
    chance = []
    clean = model(batch()).logits["topic"].softmax(1)
    for _ in range(50):
        change = torch.randn(3, 4, 8, dtype=torch.float64)
        change = 0.5 * change / change.flatten(1).norm(dim=1)[:, None, None]
        hidden = model.hidden(model.word_embeddings(IDS) + change, IDS)
        chance.append(kl(clean, model.classifier(hidden).softmax(1)).mean().item())
    assert loss.item() > max(chance)


def test_neftune() -> None:
    """Jain et al. 2024, algorithm 1: uniform (-1, 1) noise times alpha / sqrt(L d), L without padding."""
    model = Toy()
    big = nn.Embedding(12, 512, padding_idx=0)
    model.word_embeddings = big
    with NEFTune(model, alpha=3.0):
        torch.manual_seed(5)
        noise = big(IDS) - big.weight[IDS]
        assert torch.equal(big.eval()(IDS), big.weight[IDS])
        big.train()
    assert torch.equal(big(IDS), big.weight[IDS])
    for row, length in zip(noise, (IDS != 0).sum(1).tolist(), strict=True):
        bound = 3.0 / math.sqrt(512 * length)
        values = row[:length].flatten() / bound
        assert not row[length:].any() and values.abs().max() <= 1 + 1e-4
        assert values.mean().abs() < 0.08 and values.var().item() == pytest.approx(1 / 3, rel=0.1)


# ---------------------------------------------------------------------------------------------------------- weights


def one_weight() -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(layer.weight, -3.0)
    return layer


def test_ema_is_the_weighted_sum_of_all_weights() -> None:
    layer = one_weight()
    ema = EMA(layer, decay=0.8)
    values = [-3.0] + [float(t * t) for t in range(1, 26)]
    for value in values[1:]:
        nn.init.constant_(layer.weight, value)
        ema.update()
    decays = [min(0.8, t / (t + 9)) for t in range(1, 26)]
    shares = [math.prod(decays)] + [(1 - decays[t]) * math.prod(decays[t + 1 :]) for t in range(25)]
    assert sum(shares) == pytest.approx(1.0)
    with pytest.raises(MemoryError), ema.applied():
        assert layer.weight.item() == pytest.approx(sum(a * b for a, b in zip(shares, values, strict=True)))
        raise MemoryError
    assert layer.weight.item() == 625.0


@pytest.mark.parametrize(("start", "every"), [(0, 1), (4, 3), (30, 1)])
def test_swa_is_the_mean_of_the_chosen_weights(start: int, every: int) -> None:
    layer = one_weight()
    swa = SWA(layer, start, every)
    for t in range(25):
        nn.init.constant_(layer.weight, float(t * t))
        swa.update()
    chosen = [t * t for t in range(start, 25, every)] or [24 * 24]
    with swa.applied():
        assert layer.weight.item() == pytest.approx(sum(chosen) / len(chosen))
    assert layer.weight.item() == 576.0


def test_lookahead_is_the_papers_algorithm_around_adam() -> None:
    """Zhang et al. 2019, algorithm 1, written out over a plain optimizer, whose state goes on."""
    ours, theirs = Toy(), Toy()
    lookahead = Lookahead(ours, k=3, alpha=0.4)
    optimizers = [torch.optim.Adam(model.parameters(), 0.1) for model in (ours, theirs)]
    slow = [p.detach().clone() for p in theirs.parameters()]
    for update in range(1, 9):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(batch()).loss.backward()
            optimizer.step()
        lookahead.update()
        if update % 3 == 0:
            for phi, parameter in zip(slow, theirs.parameters(), strict=True):
                phi += 0.4 * (parameter.detach() - phi)
                parameter.data.copy_(phi)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    with lookahead.applied():
        for one, phi in zip(ours.parameters(), slow, strict=True):
            torch.testing.assert_close(one.detach(), phi)


@pytest.mark.parametrize(("build", "message"), [
    (lambda model: EMA(model, decay=1.0), "decay"), (lambda model: SWA(model, every=0), "every"),
    (lambda model: Lookahead(model, k=0), "k must"), (lambda model: PGD(model, steps=0), "steps"),
    (lambda model: FreeLB(model, steps=0), "steps"), (lambda model: AWP(nn.LayerNorm(3)), "no trainable weight matrix"),
    (lambda model: PGD(model, emb_name="tokens"), "there are word_embeddings$"),
    (lambda model: FreeLB(nn.Linear(2, 2)), "there are none$"),
    (lambda model: VAT(nn.Linear(2, 2)), "there are none$"),
    (lambda model: NEFTune(nn.Linear(2, 2)), "there are none$"),
    (lambda model: reinit_layers(model, 1), "has 0 layers, not 1"),
    (lambda model: GradualUnfreezing(model), "no nn.ModuleList"),
    (lambda model: MultiSampleDropout(model, samples=0), "samples"),
    (lambda model: ChildTuning(torch.optim.SGD(model.parameters()), share=0.0), "share"),
    *((lambda model, kind=kind: kind(model).load_state_dict(kind(nn.Linear(1, 1)).state_dict()), "other weights")
      for kind in (EMA, SWA)),
])  # fmt: skip
def test_impossible_settings_are_named(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Toy())


def test_child_tuning_task_free() -> None:
    """Xu et al. 2021: Bernoulli(p) masks, divided by p, so that the mean gradient stays what it is."""
    weight = nn.Parameter(torch.zeros(200, 200))
    other = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight, other], lr=1.0)
    ChildTuning(optimizer, share=0.2, weights=[weight], seed=1)
    masks = []
    for _ in range(2):
        before = weight.detach().clone()
        weight.grad, other.grad = torch.full_like(weight, 2.0), torch.ones(3)
        optimizer.step()
        moves = before - weight.detach()
        assert sorted(moves.unique().tolist()) == pytest.approx([0.0, 10.0])
        masks.append(moves > 0)
    assert other.tolist() == [-2.0] * 3
    for mask in (masks[0], masks[1]):
        assert mask.float().mean().item() == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / 40000))
    both = (masks[0] & masks[1]).float().mean().item()
    assert both == pytest.approx(0.04, abs=4 * math.sqrt(0.04 / 40000))  # independent


def test_child_tuning_task_driven() -> None:
    """The share p of elements with the largest mean square of the gradient over the batches."""
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    child = ChildTuning(optimizer, share=0.25)
    batches = [batch(), batch(OTHER_IDS, OTHER_LABELS)]
    child.choose(model(given).loss.backward() for given in batches)
    squares = []
    for given in batches:
        model.zero_grad()
        model(given).loss.backward()
        squares.append(torch.cat([p.grad.flatten() ** 2 for p in model.parameters() if p.grad is not None]))
    fisher = torch.stack(squares).mean(0)
    chosen = torch.cat([mask.flatten() for mask in child.chosen])
    assert chosen.sum().item() == round(0.25 * len(fisher))
    assert fisher[chosen].min() > fisher[~chosen].max()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) * chosen
    optimizer.step()
    torch.testing.assert_close(before - torch.cat([p.detach().flatten() for p in model.parameters()]), expected)


def test_gradual_unfreezing_of_a_real_encoder() -> None:
    """ULMFiT: heads, then one layer after the other from the top, then all; what was frozen before stays frozen."""
    encoder = load_encoder("scratch:tiny", vocab_size=30)
    unfreezing = GradualUnfreezing(encoder, every=3)
    found = []
    for _ in range(10):
        names = [name for name, p in encoder.named_parameters() if p.requires_grad]
        found.append(sorted({re.sub(r"^(encoder\.layer\.\d|\w+).*", r"\1", name) for name in names}))
        unfreezing.update()
    top, both = ["encoder.layer.1"], ["encoder.layer.0", "encoder.layer.1"]
    assert found == [[]] * 3 + [top] * 3 + [both] * 3 + [["embeddings", *both]]
    assert not any(p.requires_grad for p in encoder.get_submodule("pooler").parameters())
    with pytest.raises(NoLayers):
        GradualUnfreezing(encoder, every=0)


def test_reinit_draws_what_the_encoder_would_have_begun_with() -> None:
    encoder = load_encoder("scratch:tiny", vocab_size=30)
    for parameter in encoder.parameters():
        nn.init.constant_(parameter, 7.0)
    names = set(reinit_layers(encoder, 1))
    assert names == {n for n, _ in encoder.named_parameters() if n.startswith(("encoder.layer.1.", "pooler."))}
    fresh = dict(load_encoder("scratch:tiny", vocab_size=30).named_parameters())
    for name, parameter in encoder.named_parameters():
        if name not in names:
            assert (parameter == 7).all()
        elif parameter.ndim > 1:
            assert parameter.std().item() == pytest.approx(fresh[name].std().item(), rel=0.1)
        else:
            assert torch.equal(parameter, fresh[name])


# ---------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("kind", [PGD, FreeLB, SAM, AWP, EMA, SWA, Lookahead])
def test_the_calls_of_a_header_run(kind: Any) -> None:
    """Those of "Three ways to use it" that are Python, on a model of transformers' kind."""
    file = Path(__file__).resolve().parents[1] / f"tricks/{kind.__name__.lower()}.py"
    block = file.read_text(encoding="utf-8").split("Three ways to use it")[1].split("\n\n", 1)[1]
    ways = re.split(r"\n\S", block)[0].split("\n\n")
    model, given = Toy(), {"batch": batch()}
    space: dict[str, Any] = {"model": model, "batch": given, kind.__name__: kind, "evaluate": lambda model: None,
                             "optimizer": torch.optim.SGD(model.parameters(), 0.1)}  # fmt: skip
    for way in (way for way in ways if "sh run.sh" not in way and way.strip()):
        space["loss"] = model(**given).loss
        if "loss.backward()\n" not in way.replace("model(**batch).loss.backward()", ""):
            space["loss"].backward()
        exec(textwrap.dedent(way), space)
    assert gradients(model)
