"""All tricks, alone and in pairs, in the trainer's step: their own gradient, resuming, failures, conflicts.

What each one computes is held against its paper in test_tricks_formulas.py, test_losses.py and test_fgm.py.
"""

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from config import Arguments, TrickArguments
from model_utils.optim import build_optimizer, build_scheduler
from tests.test_train_step import CountHostReads
from tests.tiny import collate, tiny_features, tiny_model
from trainer.checkpoint import load_tree, save_tree
from trainer.step import TrainStep
from tricks.build import CONFLICTS, TrickError, build_tricks

ROOT = Path(__file__).resolve().parents[1]
OPTIONS: dict[str, dict[str, Any]] = {  # strong, so that each one shows
    "fgm": {"epsilon": 0.5}, "pgd": {"epsilon": 0.5, "alpha": 0.3, "steps": 2}, "freelb": {"steps": 2},
    "awp": {"gamma": 0.05}, "sam": {"rho": 0.1}, "vat": {"epsilon": 2.0, "weight": 3.0}, "neftune": {"alpha": 5.0},
    "rdrop": {"alpha": 4.0}, "mixup": {"alpha": 1.0}, "multi_sample_dropout": {"samples": 3},
    "label_smoothing": {"amount": 0.2}, "focal": {"gamma": 2.0}, "dice": {"alpha": 0.6}, "ghm": {"bins": 4},
    "distillation": {"alpha": 0.5, "temperature": 2.0}, "ema": {"decay": 0.9}, "swa": {"start": 0.2, "every": 1},
    "lookahead": {"k": 2, "alpha": 0.5}, "gradual_unfreezing": {"every": 2},
    "child_tuning": {"share": 0.5, "batches": 0},
}  # fmt: skip
AT_THE_START = {"reinit"}  # before there is an optimizer
every_trick = pytest.mark.parametrize("name", OPTIONS)


def in_conflict(one: str, other: str) -> bool:
    return any({one, other} <= set(names) for names, _ in CONFLICTS)


PAIRS = [pair for pair in combinations(OPTIONS, 2) if not in_conflict(*pair)]


class Run:
    """A tiny joint model with dropout, and its trainer's step with some tricks."""

    def __init__(
        self,
        *names: str,
        dropout: float = 0.1,
        lr: float = 1e-2,
        decoder: str = "linear",
        tasks_vary: bool = False,
        precision: str = "fp32",
    ):
        torch.manual_seed(2)
        self.model = tiny_model(dropout=dropout, decoder=decoder).train()
        optimizer = build_optimizer(self.model, lr)
        teacher = tiny_model(dropout=dropout, decoder=decoder) if "distillation" in names else None
        chosen = {name: OPTIONS[name] for name in names}
        tricks = build_tricks(self.model, optimizer, chosen, total_steps=6, seed=3, teacher=teacher)
        scheduler = build_scheduler("linear", optimizer, 1, 100)
        self.step = TrainStep(
            self.model,
            optimizer,
            scheduler,
            max_grad_norm=1.0,
            precision=precision,
            tasks_vary=tasks_vary,
            **tricks.places,
        )
        tricks.begin(self.step.gradient([batch]) for batch in BATCHES)
        optimizer.zero_grad()
        torch.manual_seed(4)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    def save(self, path: Path) -> dict[str, Any]:
        """As the trainer does, and back from the file."""
        parts = {name: part.state_dict() for name, part in self.step.parts().items()}
        save_tree(path, {"model": self.model.state_dict(), "parts": parts, "rng": torch.get_rng_state()})
        return load_tree(path)

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for name, part in self.step.parts().items():
            part.load_state_dict(state["parts"][name])
        torch.set_rng_state(state["rng"])


FEATURES = tiny_features(24)
BATCHES = [collate()(FEATURES[start : start + 4]) for start in range(0, 24, 4)]
GROUPS = [BATCHES[:2], BATCHES[2:4], BATCHES[4:]]


def test_every_trick_has_a_file_a_row_a_flag_and_its_place_here() -> None:
    files = {path.stem for path in (ROOT / "tricks").glob("*.py")} - {"__init__", "build"}
    assert files == set(OPTIONS) | AT_THE_START
    readme = (ROOT / "tricks/README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)\.py` \|", readme, re.MULTILINE)) == sorted(files)
    flags = {name.removeprefix("use_") for name in vars(TrickArguments()) if name.startswith("use_")}
    assert flags == files
    for name in files:
        header = (ROOT / f"tricks/{name}.py").read_text(encoding="utf-8").split('\n"""\n')[0]
        assert f"sh run.sh --use_{name}" in header and "Cost:" in header and "onflicts" in header
        assert re.search(r"https://(arxiv|doi)\.org/", header), name
        options = re.findall(r"--(\w+)", " ".join(re.findall(r"sh run\.sh ([^#\n]+)", header)))
        assert set(options) <= set(vars(Arguments())), name


# ------------------------------------------------------------------------------------------------ alone and in pairs


ALONE = [pytest.param((name,), id=name) for name in OPTIONS]
IN_PAIRS = [  # a sixth of them each time, so that every trick meets several others; all with --slow
    pytest.param(pair, id="+".join(pair), marks=[pytest.mark.slow] if number % 6 else [])
    for number, pair in enumerate(PAIRS)
]


@pytest.mark.parametrize("names", [*ALONE, *IN_PAIRS])
def test_resumed_is_unbroken_bit_for_bit(names: tuple[str, ...], tmp_path: Path) -> None:
    """Three updates of two micro-batches, with dropout; then the last one again from what was saved before it."""
    run = Run(*names)
    start = run.weights()
    for group in GROUPS[:2]:
        run.step(group)
    saved = run.save(tmp_path / "state")
    losses, _ = run.step(GROUPS[2])
    run.save(tmp_path / "unbroken")
    assert losses["loss"].isfinite() and not run.step.masked
    moved = run.weights()
    assert all(weight.isfinite().all() for weight in moved.values())
    assert any(not torch.equal(moved[name], start[name]) for name in start)

    again = Run(*names)
    again.load(saved)
    again.step(GROUPS[2])
    again.save(tmp_path / "resumed")
    assert (tmp_path / "unbroken").read_bytes() == (tmp_path / "resumed").read_bytes()
    for averager in again.step.averagers:
        with averager.applied():
            assert all(weight.isfinite().all() for weight in again.weights().values())
    assert all(torch.equal(weight, moved[name]) for name, weight in again.weights().items())


@every_trick
def test_it_changes_what_is_learned(name: str) -> None:
    """Otherwise the other tests would hold for a trick that does nothing."""
    found = []
    for names in ((), (name,)):
        run = Run(*names)
        for group in GROUPS:
            run.step(group)
        found.append(run.weights())
    plain, tricked = found
    if name in ("ema", "swa"):  # training itself goes on as before
        assert all(torch.equal(plain[key], tricked[key]) for key in plain)
        with run.step.averagers[0].applied():
            tricked = run.weights()
    assert any(not torch.allclose(plain[key], tricked[key], atol=1e-5) for key in plain)


@every_trick
def test_it_learns_a_few_records_by_heart(name: str) -> None:
    features = tiny_features(6, seed=5)
    run, batch = Run(name, dropout=0.0, lr=3e-2), collate()(features)
    assert share_right(run, batch) < 0.7
    for _ in range(120 if name in ("sam", "vat") else 40):  # these are slower
        run.step([batch])
    with contextlib.ExitStack() as averaged:
        for averager in run.step.averagers:
            averaged.enter_context(averager.applied())
        assert share_right(run, batch) >= (0.8 if name == "dice" else 1)  # where p is near 0 dice has no gradient


def share_right(run: Run, batch: dict[str, Any]) -> float:
    """Of intents and tags."""
    with torch.no_grad():
        logits = run.model.eval()(batch).logits
    run.model.train()
    pairs = [(logits[task].argmax(-1), batch["labels"][task]) for task in ("intent", "slots")]
    right = [(found == gold)[gold != -100] for found, gold in pairs]
    return torch.cat(right).float().mean().item()


def test_child_tuning_chooses_by_the_gradients_of_the_first_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part is settled before the first update, goes into the state, and nothing else of the encoder moves."""
    monkeypatch.setitem(OPTIONS, "child_tuning", {"share": 0.25, "batches": 3})
    run = Run("child_tuning", dropout=0.0)
    weights = [p for p in run.model.encoder.parameters() if p.requires_grad]
    fisher = [torch.zeros_like(p) for p in weights]
    for batch in BATCHES[:3]:
        run.model.zero_grad()
        run.model(batch).loss.backward()
        for total, weight in zip(fisher, weights, strict=True):
            total += weight.grad**2
    run.model.zero_grad()
    every = torch.cat([values.flatten() for values in fisher])
    chosen = torch.cat([mask.flatten() for mask in run.step.stateful["child_tuning"].chosen])
    assert chosen.sum().item() == round(0.25 * len(every))
    assert every[chosen].min() > every[~chosen].max()
    before = run.weights()
    for group in run.step.optimizer.param_groups:
        group["weight_decay"] = 0.0  # it goes on for all, as in the paper
    for batches in GROUPS:
        run.step(batches)
    names = [name for name, p in run.model.encoder.named_parameters() if p.requires_grad]
    masks = run.step.stateful["child_tuning"].chosen
    for name, mask in zip(names, masks, strict=True):
        old, new = before[f"encoder.{name}"], run.weights()[f"encoder.{name}"]
        assert torch.equal(old[~mask], new[~mask]), name
    assert any(not torch.equal(before[f"encoder.{name}"], run.weights()[f"encoder.{name}"]) for name in names)


# ------------------------------------------------------------------------------------------------- its own gradient


def gradients(run: Run) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}


@every_trick
def test_of_a_micro_batch_only_its_own_gradient_counts(name: str) -> None:
    """Accumulated over a group, it is the sum of what each micro-batch gives alone, with the same random numbers."""
    batches = BATCHES[:3]
    together, alone = Run(name, decoder="crf"), Run(name, decoder="crf")
    num_items, _ = together.step.count_items(batches)
    torch.manual_seed(6)
    together.step.accumulate(batches)
    torch.manual_seed(6)
    expected: dict[str, torch.Tensor] = {}
    for batch in batches:
        alone.step.all_passes(batch, num_items, sync=True)
        for key, gradient in gradients(alone).items():
            expected[key] = expected.get(key, 0) + gradient
        alone.model.zero_grad()
    found = gradients(together)
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-6, msg=key)


@every_trick
def test_a_loss_scale_changes_nothing_but_the_scale(name: str) -> None:
    """As fp16 has one: no direction, norm, histogram or divergence may depend on it."""
    found = []
    for scale in (1.0, 1024.0):
        run = Run(name)
        run.step.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        run.step.accumulate(GROUPS[0])
        run.step.scaler.unscale_(run.step.optimizer)
        found.append(gradients(run))
    assert found[0].keys() == found[1].keys()
    for key in found[0]:
        torch.testing.assert_close(found[0][key], found[1][key], rtol=1e-5, atol=1e-7, msg=key)


@every_trick
def test_bf16_autocast_is_near_fp32(name: str) -> None:
    """Both without dropout; weights, their gradients and what tricks keep stay in fp32."""
    found = []
    for precision in ("fp32", "bf16"):
        run = Run(name, dropout=0.0, precision=precision)
        run.step.accumulate(GROUPS[0])
        found.append(torch.cat([gradient.flatten() for gradient in gradients(run).values()]))
        assert found[-1].dtype == torch.float32
        run.step(GROUPS[1])
        assert not run.step.masked and all(weight.isfinite().all() for weight in run.weights().values())
    assert torch.cosine_similarity(found[0], found[1], dim=0) > 0.98


WHOLE_BATCH = {"fgm": "one norm", "awp": "one norm", "sam": "one norm", "mixup": "partners", "ghm": "counts",
               "freelb": "random numbers", "vat": "random numbers", "neftune": "random numbers"}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - set(WHOLE_BATCH)))
def test_how_a_batch_is_cut_does_not_matter(name: str) -> None:
    """Without dropout; what concerns the whole micro-batch is left out, see WHOLE_BATCH."""
    features = tiny_features(8)
    found = []
    for size in (8, 2):
        run = Run(name, dropout=0.0)
        run.step.accumulate([collate()(features[start : start + size]) for start in range(0, 8, size)])
        found.append(gradients(run))
    assert found[0].keys() == found[1].keys()
    for key in found[0]:
        torch.testing.assert_close(found[0][key], found[1][key], rtol=1e-4, atol=1e-6, msg=key)


# -------------------------------------------------------------------------------------------------------- failures


class Failing:
    """Wraps a model's forward so that call number `fails` raises."""

    def __init__(self, forward: Callable[..., Any], fails: int):
        self.forward, self.fails, self.calls = forward, fails, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == self.fails:
            raise MemoryError
        return self.forward(*args, **kwargs)


@every_trick
def test_a_failed_pass_leaves_weights_and_earlier_gradients_as_they_were(name: str) -> None:
    run = Run(name)
    run.step.accumulate(BATCHES[:1])
    before, accumulated, trainable = run.weights(), gradients(run), [p.requires_grad for p in run.model.parameters()]
    model: Any = run.model
    forward, counting = model.forward, Failing(model.forward, fails=-1)
    model.forward = counting
    num_items, _ = run.step.count_items(BATCHES[1:2])
    run.step.all_passes(BATCHES[1], num_items, sync=True)
    for fails in range(1, counting.calls + 1):
        run.model.zero_grad()
        for key, weight in run.model.named_parameters():
            weight.grad = accumulated[key].clone() if key in accumulated else None
        model.forward = Failing(forward, fails)
        with pytest.raises(MemoryError):
            run.step.all_passes(BATCHES[1], num_items, sync=True)
        assert all(torch.equal(weight, before[key]) for key, weight in run.weights().items())
        assert [p.requires_grad for p in run.model.parameters()] == trainable
        if name not in ("fgm", "pgd"):  # these add to a plain pass, which has succeeded
            assert all(torch.equal(gradient, accumulated[key]) for key, gradient in gradients(run).items())
    model.forward = forward
    model.zero_grad()
    run.step(BATCHES[1:2])  # and it goes on
    assert not run.step.masked


@every_trick
def test_a_non_finite_gradient_moves_nothing(name: str) -> None:
    run = Run(name)
    run.step(GROUPS[0])
    before = run.weights()
    handle = run.model.heads["intent"].classifier.register_forward_hook(
        lambda module, inputs, output: output.register_hook(lambda g: g * torch.nan) and None
    )
    run.step([BATCHES[2]])
    handle.remove()
    assert run.step.masked
    averaged = name == "lookahead"  # it steps back whatever the update was
    assert averaged or all(torch.equal(weight, before[key]) for key, weight in run.weights().items())
    run.step(GROUPS[1])
    assert not run.step.masked and all(weight.isfinite().all() for weight in run.weights().values())


ON_THE_CPU = {"mixup", "vat"}  # they draw a number there, for which no device has to wait


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - ON_THE_CPU))
def test_a_step_reads_nothing_back(name: str) -> None:
    run = Run(name)
    run.step(GROUPS[0])
    with CountHostReads() as counter:
        run.step(GROUPS[1])
    assert counter.reads == 0


# ------------------------------------------------------------------------------------------------------- conflicts


@pytest.mark.parametrize(("names", "reason"), CONFLICTS, ids=lambda value: "+".join(value) if value else "")
def test_what_does_not_go_together_is_refused_with_the_reason(names: tuple[str, ...], reason: str) -> None:
    for pair in combinations(names, 2):
        with pytest.raises(TrickError, match=f"do not go together: {reason}") as error:
            Run(*pair)
        assert error.value.exit_code == 2


def test_conflicts_are_those_of_the_headers() -> None:
    """Each header names what its trick does not go with."""
    titles = {"fgm": "FGM", "pgd": "PGD", "freelb": "FreeLB", "awp": "AWP", "sam": "SAM", "vat": "VAT",
              "mixup": "mixup", "rdrop": "R-Drop", "distillation": "distillation", "ema": "EMA", "swa": "SWA",
              "label_smoothing": "label smoothing", "focal": "focal", "dice": "dice", "ghm": "GHM",
              "gradual_unfreezing": "gradual unfreezing"}  # fmt: skip
    for one, other in combinations(titles, 2):
        for name, title in ((one, titles[other]), (other, titles[one])):
            header = " ".join((ROOT / f"tricks/{name}.py").read_text(encoding="utf-8").split('\n"""\n')[0].split())
            listed = header.partition("Conflicts")[2].partition("Imports torch")[0]
            assert (title in listed) == in_conflict(one, other), f"{name}.py and {title}"


# -------------------------------------------------------------------------------------------------- several processes

DISTRIBUTED = """
import sys, torch
sys.path[:0] = ["."]
import torch.distributed as dist
from tests.test_tricks import BATCHES, CERTAIN, Run

torch.set_num_threads(1)
dist.init_process_group("gloo")
found = {}
for name in CERTAIN:
    run = Run(name, dropout=0.0, tasks_vary=name == "gradual_unfreezing")
    for first in (0, 4):
        run.step(BATCHES[first + dist.get_rank() : first + 4 : 2])
    found[name] = run.weights()
if dist.get_rank() == 0:
    torch.save(found, sys.argv[1])
dist.barrier()
dist.destroy_process_group()
"""
# those whose random numbers are not drawn by each process for itself
CERTAIN = [name for name in OPTIONS if name not in ("freelb", "vat", "neftune", "mixup", "ghm")]


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_micro_batches(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(DISTRIBUTED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run([*torchrun, tmp_path / "run.py", tmp_path / "weights"], cwd=ROOT, check=True, timeout=300)
    found = torch.load(tmp_path / "weights", weights_only=True)
    for name in CERTAIN:
        run = Run(name, dropout=0.0)
        for first in (0, 4):
            run.step(BATCHES[first : first + 4])
        for key, weight in run.weights().items():
            torch.testing.assert_close(found[name][key], weight, rtol=1e-4, atol=2e-5, msg=f"{name}: {key}")
