"""tricks/fgm.py against the paper's formula, computed independently on a second model without hooks.

Letters: V rows of the table, H hidden size, B texts, T sub-words.
"""

import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel, BertConfig, GPT2Config, ModernBertConfig, Qwen2Config

from data_loader.collate import Collator
from model_utils.multitask_model import build_model
from model_utils.optim import build_optimizer, build_scheduler
from trainer.step import TrainStep
from tricks.fgm import FGM

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY, HIDDEN, EPSILON = 20, 8, 0.7
TEXTS = torch.tensor([[3, 5, 5, 9], [5, 2, 0, 0]])
OTHER_TEXTS = torch.tensor([[3, 11, 12, 13]])


class Toy(nn.Module):
    """ids (B, T) -> a loss that is not quadratic, so that the adversarial gradient differs from the clean one."""

    def __init__(self, vocabulary: int = VOCABULARY, tied: bool = False, padding_idx: int | None = None):
        super().__init__()
        torch.manual_seed(1)
        self.word_embeddings = nn.Embedding(vocabulary, HIDDEN, padding_idx=padding_idx)
        self.dense = nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, vocabulary, bias=False) if tied else nn.Linear(HIDDEN, 3)
        if tied:
            self.out.weight = self.word_embeddings.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.loss(self.word_embeddings(ids))

    def loss(self, embedded: Tensor) -> Tensor:
        logits = self.out(torch.tanh(self.dense(embedded)))
        return F.cross_entropy(logits.flatten(0, 1), torch.arange(logits[..., 0].numel()) % 3)

    @property
    def table(self) -> Any:
        return self.word_embeddings.weight


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_hand(
    make: Callable[[], Toy], run: Callable[[Toy], Tensor], epsilon: float = EPSILON, rows: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The paper's formula on a model without hooks: r = epsilon * g / ||g|| of the full table.

    Args:
        rows: the only ones that may move; None = all, as the gradient of the others is 0.

    Returns: r (V, H), and the sum of the clean and the adversarial gradients.
    """
    model = make()
    run(model).backward()
    clean = gradients(model)
    gradient = clean["word_embeddings.weight"].double()
    if rows is not None:
        gradient = gradient * torch.zeros(len(gradient), 1).index_fill(0, rows, 1.0)
    step = epsilon * gradient / gradient.pow(2).sum().sqrt()
    model.zero_grad()
    model.table.data += step.float()
    run(model).backward()
    return step, {name: clean[name] + gradient for name, gradient in gradients(model).items()}


def assert_attack(make: Callable[[], Toy], run: Callable[[Toy], Tensor], rows: Tensor | None = None) -> None:
    """The closure moves the table by r, adds the gradients there, and puts everything back."""
    expected_step, expected = by_hand(make, run, rows=rows)
    model = make()
    fgm, before, moved = FGM(model, EPSILON), model.table.detach().clone(), []

    def backward() -> None:
        moved.append(model.table.detach() - before)
        run(model).backward()

    run(model).backward()
    fgm(backward)
    torch.testing.assert_close(moved[0].double(), expected_step, rtol=1e-4, atol=1e-6)
    assert moved[0].norm().item() == pytest.approx(EPSILON, rel=1e-5)
    torch.testing.assert_close(gradients(model), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(model.table, before)


# --------------------------------------------------------------------------------------------------- the formula


def test_the_attack_is_the_papers_formula() -> None:
    assert_attack(Toy, lambda model: model(TEXTS))


def test_rows_that_the_batch_does_not_look_up_stay_bit_for_bit() -> None:
    model = Toy()
    before, fgm = model.table.detach().clone(), FGM(model, EPSILON)
    model(TEXTS).backward()
    fgm.attack()
    changed = (model.table != before).any(1).nonzero().flatten()
    assert changed.tolist() == [0, 2, 3, 5, 9]
    fgm.restore()
    assert torch.equal(model.table, before)


def test_a_longer_step_raises_the_loss_more_and_epsilon_0_moves_nothing() -> None:
    losses = []
    for epsilon in (0.0, 0.01, 0.1, 1.0):
        model = Toy()
        fgm = FGM(model, epsilon)
        model(TEXTS).backward()
        fgm.attack()
        losses.append(model(TEXTS).item())
    assert losses[0] == Toy()(TEXTS).item()
    assert losses == sorted(losses) and losses[-1] > losses[0] + 0.05


def test_two_forward_passes_of_different_texts_before_one_backward() -> None:
    """As in R-Drop or contrastive learning; a row of both moves along the sum."""
    assert_attack(Toy, lambda model: model(TEXTS) + 2 * model(OTHER_TEXTS))


def test_gradients_scaled_by_how_often_a_row_is_looked_up() -> None:
    def make() -> Toy:
        model = Toy()
        model.word_embeddings.scale_grad_by_freq = True
        return model

    assert_attack(make, lambda model: model(TEXTS))


def test_the_padding_row_does_not_move() -> None:
    assert_attack(lambda: Toy(padding_idx=0), lambda model: model(TEXTS))
    model = Toy(padding_idx=0)
    fgm, before = FGM(model, EPSILON), model.table.detach().clone()
    model(TEXTS).backward()
    fgm(lambda: torch.testing.assert_close(model.table[0], before[0], rtol=0, atol=0))


def test_a_tied_output_layer_is_found_and_its_looked_up_rows_move_by_epsilon() -> None:
    model = Toy(tied=True)
    assert model.out.weight is model.table and len(FGM(model).tables) == 1
    rows = TEXTS.unique()
    assert_attack(lambda: Toy(tied=True), lambda model: model(TEXTS), rows)


def test_two_embedding_modules_that_share_a_weight_are_one_table() -> None:
    class Twice(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.second_word_embeddings = nn.Embedding(VOCABULARY, HIDDEN)
            self.second_word_embeddings.weight = self.word_embeddings.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.loss(self.word_embeddings(ids) + self.second_word_embeddings(ids.flip(1)).sin())

    assert_attack(Twice, lambda model: model(TEXTS))


# -------------------------------------------------------------------------------------- this gradient and no other


def test_gradients_accumulated_before_do_not_bend_the_direction() -> None:
    expected_step, expected = by_hand(Toy, lambda model: model(TEXTS))
    model = Toy()
    fgm, before = FGM(model, EPSILON), model.table.detach().clone()
    for _ in range(3):
        (100 * model(OTHER_TEXTS)).backward()
    earlier = gradients(model)
    model(TEXTS).backward()
    fgm.attack()
    torch.testing.assert_close((model.table.detach() - before).double(), expected_step, rtol=1e-4, atol=1e-6)
    model(TEXTS).backward()
    fgm.restore()
    both = {name: earlier[name] + gradient for name, gradient in expected.items()}
    torch.testing.assert_close(gradients(model), both, rtol=1e-5, atol=1e-5)


def test_forward_passes_without_a_backward_change_nothing() -> None:
    """Evaluations with and without gradients, before and after the backward; and they leave nothing behind."""

    def others(model: Toy) -> None:
        model(OTHER_TEXTS)
        for context in (torch.no_grad(), torch.inference_mode()):
            with context:
                model(OTHER_TEXTS)

    for tied in (False, True):
        expected_step, _ = by_hand(partial(Toy, tied=tied), lambda model: model(TEXTS), rows=TEXTS.unique())
        model = Toy(tied=tied)
        fgm, before = FGM(model, EPSILON), model.table.detach().clone()
        others(model)
        loss = model(TEXTS)
        others(model)
        loss.backward()
        others(model)
        fgm.attack()
        torch.testing.assert_close((model.table.detach() - before).double(), expected_step, rtol=1e-4, atol=1e-6)
        others(model)
        fgm.restore()
        assert fgm.tables[0].looked_up == []


def test_each_backward_replaces_the_one_before() -> None:
    expected_step, _ = by_hand(Toy, lambda model: model(TEXTS))
    model = Toy()
    fgm, before = FGM(model, EPSILON), model.table.detach().clone()
    for ids in (OTHER_TEXTS, OTHER_TEXTS, TEXTS):  # the first two without an attack
        model(ids).backward()
    fgm.attack()
    torch.testing.assert_close((model.table.detach() - before).double(), expected_step, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_runs_look_ups_twice_and_changes_nothing(use_reentrant: bool) -> None:
    anchor = torch.zeros((), requires_grad=True)  # the reentrant kind needs an input with gradients

    def run(model: Toy) -> Tensor:
        return checkpoint(lambda _: model(TEXTS), anchor, use_reentrant=use_reentrant)

    assert_attack(Toy, run)
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)  # fmt: skip
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(2)
        encoder = AutoModel.from_config(config).train()
        if checkpointing:
            encoder.activation_checkpointing_enable({"use_reentrant": use_reentrant})
        fgm = FGM(encoder, EPSILON)

        def backward(encoder: Any = encoder) -> None:
            encoder(input_ids=TEXTS).last_hidden_state[..., :4].tanh().sum().backward()

        backward()
        fgm(backward)
        found.append(gradients(encoder))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_a_deep_copy_of_the_model_is_a_stranger() -> None:
    """An average or a teacher: what it computes, and even trains, is not what the attack looks at."""
    make = partial(Toy, tied=True)
    expected_step, expected = by_hand(make, lambda model: model(TEXTS), rows=TEXTS.unique())
    model = make()
    fgm = FGM(model, EPSILON)
    teacher, before = copy.deepcopy(model), model.table.detach().clone()
    teacher(OTHER_TEXTS).backward()
    model(TEXTS).backward()
    teacher(OTHER_TEXTS).backward()
    fgm.attack()
    torch.testing.assert_close((model.table.detach() - before).double(), expected_step, rtol=1e-4, atol=1e-6)
    assert torch.equal(teacher.table, before)
    model(TEXTS).backward()
    fgm.restore()
    torch.testing.assert_close(gradients(model), expected, rtol=1e-4, atol=1e-6)
    assert fgm.tables[0].looked_up == []
    own = FGM(teacher, EPSILON)  # and it can have an attack of its own
    teacher(TEXTS).backward()
    own.attack()
    torch.testing.assert_close((teacher.table.detach() - before).double(), expected_step, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------- precision and scale


def direction(run: Callable[[Toy], Tensor], model: Toy | None = None) -> Tensor:
    model = model or Toy()
    fgm, before = FGM(model, EPSILON), model.table.detach().clone()
    run(model).backward()
    fgm.attack()
    moved = model.table.detach() - before
    fgm.restore()
    assert torch.equal(model.table.detach().isnan(), before.isnan())
    return moved


@pytest.mark.parametrize("scale", [2.0**16, 2.0**-16, 2.0**100, 2.0**-80])
def test_a_loss_scale_changes_not_one_bit_of_the_direction(scale: float) -> None:
    """GradScaler's factor; or a loss divided by many items."""
    assert torch.equal(direction(lambda model: model(TEXTS) * scale), direction(lambda model: model(TEXTS)))


def test_bf16_autocast() -> None:
    def run(model: Toy) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(TEXTS)

    assert Toy().dense.weight.dtype == torch.float32
    assert_attack(Toy, run)
    assert (direction(run) - direction(lambda model: model(TEXTS))).norm() < 0.05 * EPSILON


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_other_dtypes_of_the_whole_model(dtype: torch.dtype, tolerance: float) -> None:
    moved = direction(lambda model: model(TEXTS) * 1000, Toy().to(dtype))
    assert moved.dtype == dtype
    expected, _ = by_hand(Toy, lambda model: model(TEXTS))
    assert (moved.double() - expected).norm() < tolerance * EPSILON


@pytest.mark.parametrize("factor", [0.0, float("nan"), float("inf")])
def test_a_gradient_that_is_zero_or_not_finite_moves_nothing(factor: float) -> None:
    assert not direction(lambda model: model(TEXTS) * factor).any()


def test_one_infinite_number_in_the_gradient_moves_nothing() -> None:
    def run(model: Toy) -> Tensor:
        embedded = model.word_embeddings(TEXTS)
        embedded.register_hook(lambda g: g.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(float("inf"))))
        return model.loss(embedded)

    assert not direction(run).any()


# ------------------------------------------------------------------------------------------------ ways of use


def test_three_ways_of_use_give_the_same_gradients_bit_for_bit() -> None:
    found = []
    for way in ("familiar", "closure", "train step"):
        model = Toy()
        fgm = FGM(model, EPSILON)
        if way == "train step":
            step = TrainStep(Joint(model), torch.optim.SGD(model.parameters(), 0.0), Nothing(), attacks=[fgm])
            step.update = lambda: None  # type: ignore[method-assign]
            step([{"ids": TEXTS, "labels": {}, "sample_id": torch.arange(2)}])
        else:
            model(TEXTS).backward()
            if way == "familiar":
                fgm.attack()
                model(TEXTS).backward()
                fgm.restore()
            else:
                assert fgm(partial(answer, model)) == "result"
        found.append(gradients(model))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=0)
    _, expected = by_hand(Toy, lambda model: model(TEXTS))
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-6)


def answer(model: Toy) -> str:
    model(TEXTS).backward()
    return "result"


class Joint(nn.Module):
    """What TrainStep expects of a model."""

    def __init__(self, model: Toy):
        super().__init__()
        self.model, self.heads = model, nn.ModuleDict()

    def num_items(self, labels: Any) -> dict[str, Any]:
        return {}

    def forward(self, batch: Any, num_items: Any) -> Any:
        return type("Output", (), {"loss": self.model(batch["ids"]), "losses": {}})


class Nothing:
    def step(self) -> None:
        pass


TASKS: list[dict[str, Any]] = [
    {"name": "intent", "kind": "sequence_classification", "labels": ["a", "b", "c"]},
    {"name": "slots", "kind": "word_tagging", "labels": ["O", "B-x", "I-x"], "decoder": "crf", "loss_weight": 0.5},
]


def joint_model() -> Any:
    """With dropout."""
    torch.manual_seed(3)
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                        max_position_embeddings=16)  # fmt: skip
    encoder = AutoModel.from_config(config)
    encoder.pooler.requires_grad_(False)
    return build_model(encoder, TASKS).train()


def joint_batches(number: int) -> list[Any]:
    generator = torch.Generator().manual_seed(4)
    batches = []
    for _ in range(number):
        features = []
        for sample_id in range(3):
            words = torch.randint(5, 20, (int(torch.randint(1, 6, (), generator=generator)),), generator=generator)
            labels = {"intent": int(words[0] % 3), "slots": [int(w % 2) for w in words]}
            features.append({"sample_id": sample_id, "input_ids": [2, *words.tolist(), 3], "num_words": len(words),
                             "word_starts": [*range(1, len(words) + 1)], "labels": labels})  # fmt: skip
        batches.append(Collator(0, {"intent": "sequence", "slots": "word"})(features))
    return batches


def test_the_trainers_step_equals_a_plain_loop_with_familiar_calls() -> None:
    """Three updates of two micro-batches, with dropout, clipping and a schedule: the same weights bit for bit."""
    batches = joint_batches(6)
    groups = [batches[i : i + 2] for i in range(0, 6, 2)]
    weights = []
    for plain in (True, False):
        model = joint_model()
        optimizer = build_optimizer(model, 1e-2)
        scheduler: Any = build_scheduler("linear", optimizer, 1, 3)
        fgm = FGM(model, EPSILON)
        torch.manual_seed(5)
        if not plain:
            step = TrainStep(model, optimizer, scheduler, max_grad_norm=0.5, attacks=[fgm])
            for group in groups:
                step(group)
        else:
            for group in groups:
                counts = [model.num_items(batch["labels"]) for batch in group]
                num_items = {task: counts[0][task] + counts[1][task] for task in ("intent", "slots")}
                for batch in group:
                    model(batch, num_items).loss.backward()
                    fgm.attack()
                    model(batch, num_items).loss.backward()
                    fgm.restore()
                nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 0.5)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        weights.append(model.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    without = joint_model()
    torch.manual_seed(5)
    optimizer = build_optimizer(without, 1e-2)
    step = TrainStep(without, optimizer, build_scheduler("linear", optimizer, 1, 3), max_grad_norm=0.5)
    for group in groups:
        step(group)
    assert any(not torch.equal(value, weights[0][name]) for name, value in without.state_dict().items())


def test_the_rows_are_put_back_when_the_second_pass_fails() -> None:
    model = Toy()
    fgm, before = FGM(model, EPSILON), model.table.detach().clone()
    model(TEXTS).backward()

    def fails() -> None:
        assert not torch.equal(model.table, before)
        model(TEXTS).backward()
        raise MemoryError

    with pytest.raises(MemoryError):
        fgm(fails)
    assert torch.equal(model.table, before)
    model(TEXTS).backward()
    fgm(lambda: (model(OTHER_TEXTS) + model(TEXTS)).backward())  # it goes on working, also with other texts
    assert torch.equal(model.table, before)


def test_calls_out_of_order() -> None:
    model = Toy()
    fgm, before = FGM(model, EPSILON), model.table.detach().clone()
    fgm.restore()
    with pytest.raises(RuntimeError, match="no backward pass"):
        fgm.attack()
    model(TEXTS).backward()
    fgm.attack()
    with pytest.raises(RuntimeError, match=r"before FGM\.restore"):  # it would save the moved rows
        fgm.attack()
    fgm.restore()
    fgm.restore()
    assert torch.equal(model.table, before)
    with pytest.raises(RuntimeError, match="no backward pass"):  # of its own; the last one is used up
        fgm.attack()


def test_a_backward_that_does_not_come_through_the_embeddings_is_refused() -> None:
    model = Toy(tied=True)
    fgm, before = FGM(model, EPSILON), model.table.detach().clone()
    model(TEXTS).backward()
    fgm(lambda: None)
    model.loss(torch.randn(1, 2, HIDDEN)).backward()  # inputs_embeds; the tied weight gets a gradient
    with pytest.raises(RuntimeError, match="no backward pass"):
        fgm(lambda: pytest.fail("must not run"))
    assert torch.equal(model.table, before)


def test_of_two_tables_only_the_one_that_was_used_moves() -> None:
    toys = {"a": Toy(), "b": Toy()}
    fgm = FGM(nn.ModuleDict(toys), EPSILON)
    assert len(fgm.tables) == 2
    for used, other in (("a", "b"), ("b", "a"), ("a", "b")):
        before = {name: toys[name].table.detach().clone() for name in toys}
        toys[used](TEXTS).backward()
        fgm.attack()
        moved = {name: toys[name].table.detach() - before[name] for name in toys}
        assert moved[used].norm().item() == pytest.approx(EPSILON, rel=1e-5) and not moved[other].any()
        fgm.restore()


# --------------------------------------------------------------------------------------------- finding the table

SIZES: dict[str, Any] = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                         "intermediate_size": 16}  # fmt: skip
KINDS: dict[str, Any] = {
    "embeddings.word_embeddings": BertConfig(**SIZES),
    "embeddings.tok_embeddings": ModernBertConfig(**SIZES, pad_token_id=0),
    "wte": GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2),
    "embed_tokens": Qwen2Config(**SIZES, num_key_value_heads=2),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_usual_names_are_found(name: str) -> None:
    """Word embeddings, and neither positions nor types; inside a joint model too."""
    encoder = AutoModel.from_config(KINDS[name])
    for model in (encoder, nn.ModuleDict({"encoder": encoder})):
        (table,) = FGM(model).tables
        assert table.weight is encoder.get_submodule(name).weight
    encoder(input_ids=TEXTS).last_hidden_state[..., :4].tanh().sum().backward()
    before = table.weight.detach().clone()
    FGM(encoder)
    assert torch.equal(table.weight, before)


def test_nothing_to_attack_is_refused_and_what_there_is_is_named() -> None:
    model = nn.ModuleDict({"tokens": nn.Embedding(3, 2), "positions": nn.Embedding(3, 2)})
    with pytest.raises(ValueError, match=r"has word_embeddings or .* in its name; there are tokens, positions$"):
        FGM(model)
    assert len(FGM(model, emb_name="token").tables) == 1
    with pytest.raises(ValueError, match=r"no trainable embedding has types in its name; there are tokens, positions$"):
        FGM(model, emb_name="types")
    with pytest.raises(ValueError, match=r"there are none$"):
        FGM(nn.Linear(2, 2))
    toy = Toy()
    toy.table.requires_grad_(False)
    with pytest.raises(ValueError, match=r"there are word_embeddings \(frozen\)$") as error:
        FGM(toy)
    assert error.value.exit_code == 2  # type: ignore[attr-defined]  # main.py prints one line
    with pytest.raises(ValueError, match="sparse=True"):
        FGM(nn.ModuleDict({"word_embeddings": nn.Embedding(3, 2, sparse=True)}))


# -------------------------------------------------------------------------------------------------------- cost


class Allocations(TorchDispatchMode):
    """Bytes of all tensors made inside, views and results of in-place operations left out."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        old = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in old:
                self.num_bytes += tensor.numel() * tensor.element_size()
        return result


def test_memory_does_not_grow_with_the_vocabulary() -> None:
    """The second backward does not even make the table's gradient anew."""
    extra, attack, second = [], [], []
    for vocabulary in (1_000, 200_000):
        spent = []
        for use_fgm in (False, True):
            model = Toy(vocabulary)
            fgm = FGM(model, EPSILON) if use_fgm else None
            with Allocations() as allocations:
                model(TEXTS).backward()
            spent.append(allocations.num_bytes)
        assert spent[0] > vocabulary * HIDDEN * 4  # the gradient of the table: the measure works
        extra.append(spent[1] - spent[0])
        assert fgm is not None
        with Allocations() as allocations:
            fgm.attack()
        attack.append(allocations.num_bytes)
        with Allocations() as allocations:
            model(TEXTS).backward()
            fgm.restore()
        second.append(allocations.num_bytes)
    assert extra[0] == extra[1] < 1000
    assert attack[0] == attack[1] < 5000
    assert second[0] == second[1] < 20_000


# -------------------------------------------------------------------------------------- other ways to run a model


@pytest.mark.slow
def test_a_compiled_model() -> None:
    torch._dynamo.reset()
    found = []
    for compiled in (False, True):
        model = Toy()
        fgm = FGM(model, EPSILON)
        run: Any = torch.compile(model, backend="aot_eager") if compiled else model
        for ids in (TEXTS, OTHER_TEXTS, TEXTS):
            loss = run(ids)
            loss.backward()
            fgm.attack()
            run(ids).backward()
            fgm.restore()
        found.append(gradients(model))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


DISTRIBUTED = """
import sys, torch
sys.path[:0] = ["tests", "."]
import torch.distributed as dist
from test_fgm import EPSILON, joint_batches, joint_model
from model_utils.optim import build_optimizer, build_scheduler
from trainer.step import TrainStep
from tricks.fgm import FGM

torch.set_num_threads(1)
dist.init_process_group("gloo")
model = joint_model().eval()  # without dropout, which differs between ranks
optimizer = build_optimizer(model, 1e-2)
step = TrainStep(model, optimizer, build_scheduler("linear", optimizer, 1, 2), attacks=[FGM(model, EPSILON)])
batches = joint_batches(8)
for number in (0, 4):
    step(batches[number + dist.get_rank() : number + 4 : 2])
if dist.get_rank() == 0:
    torch.save(model.state_dict(), sys.argv[1])
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_micro_batches(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(DISTRIBUTED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run([*torchrun, tmp_path / "run.py", tmp_path / "weights"], cwd=ROOT, check=True, timeout=300)
    model = joint_model().eval()
    optimizer = build_optimizer(model, 1e-2)
    step = TrainStep(model, optimizer, build_scheduler("linear", optimizer, 1, 2), attacks=[FGM(model, EPSILON)])
    batches = joint_batches(8)
    for number in (0, 4):
        step(batches[number : number + 4])
    state = torch.load(tmp_path / "weights", weights_only=True)
    torch.testing.assert_close(state, model.state_dict(), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------- copying, the README


def test_the_file_alone_checks_itself_in_an_empty_folder(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tricks/fgm.py", tmp_path)
    subprocess.run([sys.executable, "-I", "fgm.py"], cwd=tmp_path, check=True, timeout=120)


def test_the_use_in_the_readme_runs() -> None:
    readme = (ROOT / "tricks/README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    toy = Toy()
    before = toy.table.detach().clone()
    optimizer = torch.optim.SGD(toy.parameters(), 0.1)
    exec(block, {"model": Loss(toy), "optimizer": optimizer, "batches": [TEXTS]})
    _, expected = by_hand(Toy, lambda model: model(TEXTS), epsilon=1.0)
    torch.testing.assert_close(toy.table.detach(), before - 0.1 * expected["word_embeddings.weight"])
    files = [path.name for path in (ROOT / "tricks").glob("*.py") if path.name not in ("__init__.py", "build.py")]
    assert [name for name in files if f"| `{name}` |" not in readme] == []


class Loss(nn.Module):
    """A model of transformers' kind, with its loss in the output."""

    def __init__(self, toy: Toy):
        super().__init__()
        self.toy = toy

    def forward(self, ids: Tensor) -> Any:
        return SimpleNamespace(loss=self.toy(ids))
