"""The memory of tricks/continual/ and the approaches that draw from it: replay, A-GEM, DER++.

Each against its formula, computed in another way; with every kind of head, on features as the cache yields them.
"""

import copy
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor
from transformers import BertConfig, BertModel

from data_loader.collate import Collator
from data_loader.task_batches import TaskCollator
from model_utils.multitask_model import MultiTaskModel, build_model
from tests.test_head_contract import CASES, LABELS, VOCABULARY, Case, features, level
from trainer.checkpoint import load_tree, save_tree
from tricks.continual import approach_class
from tricks.continual.agem import project
from tricks.continual.buffer import Buffer
from tricks.continual.der import logit_error

APPROACHES = ("replay", "agem", "der")
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def sample(number: int, task: str = "a", kind: str = "x", **rest: Any) -> dict[str, Any]:
    return {"key": f"{task} {number}", "task": task, "class": kind, **rest}


# ---------------------------------------------------------------------------------------------------------- memory


def test_every_sample_and_every_pair_of_them_stays_equally_often() -> None:
    offered, seeds = [sample(number) for number in range(20)], 4000
    found: Counter[Any] = Counter()
    for seed in range(seeds):
        buffer = Buffer(5, seed=seed)
        buffer.add(offered)
        kept = sorted(buffer.samples)
        found.update(kept)
        found.update(itertools.combinations(kept, 2))
    keys = sorted(each["key"] for each in offered)
    for group, chance in ((keys, 5 / 20), (list(itertools.combinations(keys, 2)), 5 * 4 / (20 * 19))):
        spread = (seeds * chance * (1 - chance)) ** 0.5
        off = [(found[each] - seeds * chance) / spread for each in group]
        assert max(map(abs, off)) < 4.5 and np.mean(np.square(off)) == pytest.approx(1, abs=0.5)


def in_rounds(sizes: dict[str, int], ranks: dict[str, bytes], size: int) -> Counter[str]:
    """Places of each class: one for each that has a sample left, in the order of their ranks, round after round."""
    places: Counter[str] = Counter()
    while places.total() < min(size, sum(sizes.values())):
        for name in sorted(sizes, key=lambda name: ranks[name]):
            if places[name] < sizes[name] and places.total() < size:
                places[name] += 1
    return places


@pytest.mark.parametrize("class_balanced", [False, True])
def test_what_stays_depends_on_the_set_of_what_was_offered_alone(class_balanced: bool) -> None:
    for trial in range(150):
        rng = random.Random(trial)
        sizes = {f"class {n}": rng.randint(1, rng.choice([2, 10, 40])) for n in range(rng.randint(1, 6))}
        offered = [sample(n, kind=name, task=name) for name, size in sizes.items() for n in range(size)]
        buffers = [Buffer(1 + trial % 23, class_balanced, seed=trial) for _ in range(4)]
        for buffer in buffers:
            stream = rng.choices(offered, k=rng.choice([0, 50])) + rng.sample(offered, len(offered))
            stream += rng.choices(offered, k=rng.choice([0, 50]))
            while stream:
                batch, stream = stream[: (size := rng.randint(1, 9))], stream[size:]
                buffer.add(batch)
        one = buffers[0]
        assert all(buffer.entries() == one.entries() for buffer in buffers[1:])

        ranked = sorted(offered, key=lambda each: one.priority(each["key"]))
        if class_balanced:
            ranks = {name: one.priority(name) for name in sizes}
            quotas = in_rounds(sizes, ranks, one.size)
            rows = {name: [each for each in ranked if each["class"] == name] for name in sizes}
            ranked = [each for name in sizes for each in rows[name][: quotas[name]]]
        assert set(one.samples) == {each["key"] for each in ranked[: one.size]}


def test_quotas_of_classes() -> None:
    buffer = Buffer(100, class_balanced=True)
    buffer.add([sample(n, kind="common") for n in range(1000)])
    assert len(buffer) == 100
    buffer.add([sample(n, "b", "rare") for n in range(7)])
    buffer.add([sample(n, "b", "new") for n in range(300)])
    counts = Counter(each["class"] for each in buffer.samples.values())
    assert counts["rare"] == 7 and sorted(counts.values()) == [7, 46, 47]


def test_draws() -> None:
    buffer, other = Buffer(30, seed=3), Buffer(30, seed=3)
    assert buffer.draw(4) == [] == buffer.draw(4, but="a")
    buffer.add([sample(n) for n in range(20)] + [sample(n, "b") for n in range(10)])
    other.add([sample(n, "b") for n in range(10)] + [sample(n) for n in range(20)])
    other.draws = 2
    found: Counter[str] = Counter()
    for _ in range(3000):
        drawn = buffer.draw(5, but="a")
        assert drawn == other.draw(5, but="a") and {each["task"] for each in drawn} == {"b"}
        keys = [each["key"] for each in drawn]
        assert len(set(keys)) == 5
        found.update(keys)
    chi_square = sum((count - 1500) ** 2 / 750 for count in found.values()) * 9 / 10
    assert len(found) == 10 and chi_square < 27.9  # 1 in 1000 of those with 9 degrees of freedom is above it
    assert len(buffer.draw(50, but="a")) == 10 and len(buffer.draw(50)) == 30 and buffer.draw(2, but="b") != []
    assert [each["key"] for each in buffer.draw(5)] != [each["key"] for each in buffer.draw(5)]


def test_a_sample_is_copied_when_it_stays_and_not_before(tmp_path: Path) -> None:
    np.arange(12, dtype=np.int32).tofile(tmp_path / "rows")
    file = np.memmap(tmp_path / "rows", dtype=np.int32, mode="r+")

    class Refused:
        def __array__(self) -> None:
            raise AssertionError("copied")

    buffer = Buffer(2)
    keys = sorted(range(9), key=lambda n: buffer.priority(f"a {n}"))
    nested: dict[str, Any] = {"labels": {"x": file[3:5], "y": 4, "z": None, "w": [(1, 2)]}, "empty": file[:0]}
    logits = torch.randn(3, 4, requires_grad=True) * 1
    buffer.add([sample(keys[1], ids=file[:3], **nested), sample(keys[5]), sample(keys[0])], logits)
    buffer.add([sample(n, ids=Refused()) for n in (keys[2], keys[7])])
    first = logits[0].detach().clone()
    with torch.no_grad():
        logits.zero_()
    buffer.add([sample(keys[1], ids=np.zeros(3))], torch.ones(1, 4))  # it is there
    file[:] = 77
    kept = buffer.samples[f"a {keys[1]}"]
    assert kept["ids"].tolist() == [0, 1, 2] and kept["ids"].dtype == torch.int32 and kept["empty"].shape == (0,)
    assert kept["labels"]["x"].tolist() == [3, 4]
    assert [kept["labels"][name] for name in "yzw"] == [4, None, [[1, 2]]]
    assert torch.equal(kept["extra"], first) and not kept["extra"].requires_grad
    assert kept["extra"].untyped_storage().nbytes() == 16

    (drawn,) = (each for each in buffer.draw(2) if each["key"] == kept["key"])
    assert isinstance(drawn["ids"], np.ndarray) and drawn["ids"].dtype == np.int32
    assert (drawn["labels"]["x"] == [3, 4]).all() and torch.equal(drawn["extra"], first)


@pytest.mark.parametrize("class_balanced", [False, True])
def test_a_resumed_memory_goes_on_as_one_that_was_never_saved(tmp_path: Path, class_balanced: bool) -> None:
    def batch(number: int) -> tuple[list[dict[str, Any]], list[Any]]:
        rng = np.random.default_rng(number)
        rows = [sample(int(n), kind=str(n % 7), ids=rng.integers(0, 9, 5), labels={"t": None, "s": float("nan")})
                for n in rng.integers(0, 300, 16)]  # fmt: skip
        return rows, [torch.tensor([number, n]) for n in range(16)]

    unbroken, resumed = Buffer(40, class_balanced), Buffer(40, class_balanced)
    for number in range(30):
        if number == 13:
            save_tree(tmp_path / "state", unbroken.state_dict())
            resumed.add(*batch(99))
            resumed.load_state_dict(load_tree(tmp_path / "state"))
        unbroken.add(*batch(number))
        if number >= 13:
            resumed.add(*batch(number))
            for one, other in zip(unbroken.draw(10), resumed.draw(10), strict=True):
                assert one["key"] == other["key"] and torch.equal(one["extra"], other["extra"])
                assert one["ids"].dtype == other["ids"].dtype == np.int64 and (one["ids"] == other["ids"]).all()
        else:
            unbroken.draw(3)
    assert unbroken.entries() == resumed.entries()


# --------------------------------------------------------------------------------------------------- tasks, batches


def rows_of(case: Case, name: str, seed: int, size: int = 6) -> list[dict[str, Any]]:
    """Features of a task as the cache yields them: lists of numbers are arrays."""
    found = []
    for feature in features(case, size, seed):
        if feature["labels"]:
            feature["labels"] = {name: feature["labels"]["task"]}
            found.append(with_arrays(feature))
    return found


def with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: with_arrays(part) for name, part in value.items()}
    flat = isinstance(value, list) and all(isinstance(part, int) for part in value)
    return np.array(value, dtype=np.int32) if flat else value


def model_for(case: Case, *heads: str, dropout: float = 0.0, seed: int = 1) -> MultiTaskModel:
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=64, initializer_range=0.3,
                        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)  # fmt: skip
    encoder = BertModel(config)
    encoder.get_submodule("pooler").requires_grad_(False)
    own = {} if case.kind == "sentence_embedding" else {"dropout": dropout}
    task = {"kind": case.kind, "labels": LABELS.get(level(case), [])} | own | dict(case.options)
    model = build_model(encoder, [task | {"name": head} for head in heads])
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


class Tasks:
    """Batches of each task, and of samples of any."""

    def __init__(self, case: Case, heads: dict[str, str]):
        self.heads = heads
        self.collators = {
            task: TaskCollator(Collator(0, {head: level(case)}), task, head) for task, head in heads.items()
        }

    def batch(self, task: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return self.collators[task](rows)

    def collate(self, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        groups = [[each for each in samples if each["task"] == task] for task in sorted({s["task"] for s in samples})]
        return [self.batch(group[0]["task"], group) | {"share": len(group) / len(samples)} for group in groups]


def gradients(model: MultiTaskModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def gradient_of(model: MultiTaskModel, loss: Tensor) -> dict[str, Tensor]:
    """Zeros where there is none."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    pairs = zip(named.items(), found, strict=True)
    return {name: torch.zeros_like(p) if gradient is None else gradient for (name, p), gradient in pairs}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 1e-4
    for name, gradient in expected.items():
        apart = (found[name] if name in found else torch.zeros_like(gradient)) - gradient
        assert float(apart.abs().max()) < 2e-5 * largest, name


def mean_loss(model: MultiTaskModel, case: Case, head: str, rows: Sequence[dict[str, Any]]) -> Tensor:
    """From the summed loss and the number of items of a plain batch."""
    batch = Collator(0, {head: level(case)})(rows)
    loss = model(batch, {head: 1}).loss
    assert loss is not None
    return loss / model.heads[head].num_items(batch["labels"][head]).clamp(min=1)


class Stage:
    """Samples of two tasks in the memory, and a batch of a third, which shares the head of the first."""

    def __init__(self, case: Case, name: str, **options: Any):
        self.case, self.model = case, model_for(case, "one", "two")
        self.tasks = Tasks(case, {"a": "one", "b": "two", "c": "one"})
        self.rows = {task: rows_of(case, self.tasks.heads[task], seed) for seed, task in enumerate("abc", 3)}
        self.by_key = {f"{task} {row['sample_id']}": row for task in "abc" for row in self.rows[task]}
        self.approach: Any = approach_class(name)(Buffer(8, seed=2), self.tasks.collate, batch_size=6, **options)
        for task in "ab":
            self.extra(task)

    def extra(self, task: str) -> Tensor:
        if hasattr(self.approach, "begin_task"):
            self.approach.begin_task(self.model, SimpleNamespace(name=task, head=self.tasks.heads[task], classes=None))
        batch = self.tasks.batch(task, self.rows[task])
        return self.approach.extra_loss(self.model, batch, self.model(batch))

    def coming_draw(self, before: int = 0, but: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """What the next draw but `before` yields, by task: the features as they were."""
        buffer = copy.deepcopy(self.approach.buffer)
        buffer.draws += before
        found: dict[str, list[dict[str, Any]]] = {}
        for each in buffer.draw(6, but):
            found.setdefault(each["task"], []).append(self.by_key[each["key"]])
        assert sum(map(len, found.values())) == 6
        return found

    def expected(self, drawn: dict[str, list[dict[str, Any]]]) -> Tensor:
        losses = [len(rows) / 6 * mean_loss(self.model, self.case, self.tasks.heads[task], rows)
                  for task, rows in sorted(drawn.items())]  # fmt: skip
        return torch.stack(losses).sum()


# ---------------------------------------------------------------------------------------------------------- replay


@every_case
def test_replay_adds_the_mean_loss_of_earlier_samples(case: Case) -> None:
    stage = Stage(case, "replay", weight=0.7)
    drawn = stage.coming_draw(but="c")
    assert drawn.keys() == {"a", "b"}
    expected = 0.7 * stage.expected(drawn)
    found = stage.extra("c")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert_close(gradient_of(stage.model, found), gradient_of(stage.model, expected))
    assert any(each["task"] == "c" for each in stage.approach.buffer.samples.values())


def test_replay_of_as_many_samples_is_a_joint_batch() -> None:
    """One head for all: half the loss of both halves is the loss of the batch that holds both."""
    case = Case("sequence_classification")
    stage = Stage(case, "replay")
    stage.tasks.heads = dict.fromkeys("abc", "one")
    rows = rows_of(case, "one", 9, size=7)
    stage.approach.buffer = Buffer(6)
    stage.approach.buffer.add(stage.tasks.batch("a", rows)["samples"])
    new = rows_of(case, "one", 10, size=7)
    batch = stage.tasks.batch("c", new)
    output = stage.model(batch)
    both = (output.loss + stage.approach.extra_loss(stage.model, batch, output)) / 2
    joint = stage.model(Collator(0, {"one": "sequence"})([*new, *rows])).loss
    torch.testing.assert_close(both, joint)
    assert_close(gradient_of(stage.model, both), gradient_of(stage.model, joint))


def test_the_first_task_has_no_replay() -> None:
    stage = Stage(Case("word_tagging"), "replay")
    stage.approach.buffer = Buffer(8)
    for _ in range(3):
        assert stage.extra("a").item() == 0
    assert stage.extra("b").item() > 0


# ----------------------------------------------------------------------------------------------------------- A-GEM


def whole(parts: Sequence[Tensor | None]) -> np.ndarray:
    """One vector; None stands for zeros."""
    return np.concatenate([np.zeros(3) if part is None else part.double().numpy() for part in parts])


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_projection_is_the_nearest_vector_that_does_not_go_against_the_reference(scale: float) -> None:
    """x = g + y r with the y >= 0 that makes |x| smallest: the dual of min |x - g| with x . r >= 0."""
    rng, changed = np.random.default_rng(0), 0
    for _ in range(60):
        g, r = ([None if rng.random() < 0.3 else torch.tensor(rng.normal(size=3), dtype=torch.float32)
                 for _ in range(5)] for _ in range(2))  # fmt: skip
        if all(part is None for part in r):
            continue
        before = [None if part is None else part.clone() for part in g]
        found = project(g, [None if part is None else part * scale for part in r])
        flat_g, flat_r, x = map(whole, (g, r, found))
        (y,), _ = nnls(flat_r[:, None], -flat_g)
        np.testing.assert_allclose(x, flat_g + y * flat_r, rtol=1e-5, atol=1e-6)
        assert x @ flat_r >= -1e-5
        changed += y > 0
        for one, reference, new, old in zip(g, r, found, before, strict=True):
            assert (new is None) == (one is None and reference is None)
            assert one is None or (old is not None and torch.equal(one, old))  # not changed in place
            if y == 0 and new is not None:
                assert torch.equal(new, torch.zeros(3) if one is None else one)
    assert 15 < changed < 45


@pytest.mark.parametrize("wrong", [0.0, float("nan"), float("inf"), -float("inf")])
def test_a_reference_that_is_zero_or_not_finite_changes_nothing(wrong: float) -> None:
    g = [torch.tensor([1.0, -2.0]), None, torch.tensor([3.0])]
    r = [torch.tensor([-1.0, 1.0]), torch.tensor([2.0]), torch.tensor([wrong])]
    if wrong == 0:
        r = [0 * part for part in r]
    found = project(g, r)
    assert [None if part is None else part.tolist() for part in found] == [[1.0, -2.0], [0.0], [3.0]]
    for bad in (torch.nan, -torch.inf):  # the update is masked by whoever looks at the gradients
        gradient = torch.tensor([bad, -1.0])
        (kept,) = project([gradient], [torch.ones(2)])
        assert kept is not None and kept.numpy().tobytes() == gradient.numpy().tobytes()


def against(stage: Stage) -> dict[str, Tensor]:
    """Gradients of an update that makes the coming reference worse; the head of `b` has none."""
    new = mean_loss(stage.model, stage.case, "one", stage.rows["c"])
    (new - 3 * stage.expected(stage.coming_draw(but="c"))).backward()
    stage.model.heads["two"].zero_grad()
    return gradients(stage.model)


@every_case
def test_agem_projects_the_gradients_before_the_update(case: Case) -> None:
    stage = Stage(case, "agem")
    assert stage.extra("c").item() == 0
    drawn = stage.coming_draw(but="c")
    assert drawn.keys() == {"a", "b"}
    r = gradient_of(stage.model, stage.expected(drawn))
    before = against(stage)
    g = {name: before.get(name, torch.zeros_like(part)) for name, part in r.items()}
    g_r, r_r = (sum(float((x[name].double() * r[name].double()).sum()) for name in r) for x in (g, r))
    assert g_r < 0
    entered: list[bool] = []
    seen: list[list[bool]] = []

    @contextmanager
    def autocast() -> Iterator[None]:
        entered.append(True)
        yield
        entered.clear()

    stage.model.register_forward_pre_hook(lambda *_: seen.append(list(entered)))
    with torch.no_grad():
        stage.approach.before_step(stage.model, autocast)
    assert seen == [[True], [True]] and entered == []
    found = gradients(stage.model)
    assert_close(found, {name: g[name] - g_r / r_r * r[name] for name in r})
    assert found.keys() == r.keys()  # also of the other heads
    assert abs(sum(float((found[name] * r[name]).sum()) for name in r)) < 1e-4 * (abs(g_r) + r_r)


def test_a_whole_update_of_agem() -> None:
    """By the hook of an optimizer; in SGD without momentum the reference loss does not rise to first order."""
    stage = Stage(Case("sequence_classification"), "agem")
    stage.extra("c")
    r = gradient_of(stage.model, stage.expected(stage.coming_draw(but="c")))
    weights = {name: p.detach().clone() for name, p in stage.model.named_parameters()}
    optimizer = torch.optim.SGD(stage.model.parameters(), lr=0.5)
    optimizer.register_step_pre_hook(lambda *_: stage.approach.before_step(stage.model))
    before = against(stage)
    optimizer.step()
    moved = {name: (p.detach() - weights[name]) / -0.5 for name, p in stage.model.named_parameters()}
    flat = {name: np.concatenate([values.get(key, torch.zeros_like(part)).double().numpy().ravel()
                                  for key, part in r.items()])
            for name, values in (("g", before), ("r", r), ("x", moved))}  # fmt: skip
    (y,), _ = nnls(flat["r"][:, None], -flat["g"])
    assert y > 0
    np.testing.assert_allclose(flat["x"], flat["g"] + y * flat["r"], atol=2e-5 * np.abs(flat["g"]).max())


def test_agem_leaves_the_gradients_alone_in_the_first_task_and_where_the_reference_is_nan() -> None:
    stage = Stage(Case("word_tagging"), "agem")
    stage.approach.buffer = Buffer(8)
    stage.extra("a")
    mean_loss(stage.model, stage.case, "one", stage.rows["a"]).backward()
    before = gradients(stage.model)
    stage.approach.before_step(stage.model)
    assert gradients(stage.model).keys() == before.keys()

    stage.extra("b")
    with torch.no_grad():
        stage.model.heads["one"].classifier.bias[0] = torch.nan
    stage.approach.before_step(stage.model)
    after = gradients(stage.model)
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())
    assert all(gradient.isfinite().all() for gradient in after.values())


# ----------------------------------------------------------------------------------------------------------- DER++


def numbers(model: MultiTaskModel, case: Case, head: str, row: dict[str, Any]) -> Tensor:
    """The logits of a sample alone, so without any padding, in a row; -inf where there is no such span."""
    return model(Collator(0, {head: level(case)})([row])).logits[head].flatten()


@every_case
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.6), (0.3, 0.0), (0.0, 0.6)])
def test_der_compares_logits_of_one_draw_and_labels_of_another(case: Case, alpha: float, beta: float) -> None:
    stage = Stage(case, "der", alpha=alpha, beta=beta)
    before = copy.deepcopy(stage.model)
    with torch.no_grad():
        for parameter in stage.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    expected = torch.zeros(())
    if alpha:
        for task, rows in stage.coming_draw().items():
            pairs = [(numbers(stage.model, case, stage.tasks.heads[task], row),
                      numbers(before, case, stage.tasks.heads[task], row).detach()) for row in rows]  # fmt: skip
            now, then = (torch.cat(side) for side in zip(*pairs, strict=True))
            real = now.isfinite()
            expected = expected + alpha * len(rows) / 6 * (now[real] - then[real]).square().mean()
    if beta:
        expected = expected + beta * stage.expected(stage.coming_draw(before=int(alpha > 0)))
    found = stage.extra("c")
    assert found > 0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    of_found = gradient_of(stage.model, found)
    assert all(gradient.isfinite().all() for gradient in of_found.values())
    if case.kind not in ("span_selection", "global_pointer", "multiple_choice"):  # d(-inf) is NaN by plain indexing
        assert_close(of_found, gradient_of(stage.model, expected))


def test_der_is_0_with_an_empty_memory_and_keeps_the_logits_of_the_first_time() -> None:
    stage = Stage(Case("sequence_classification"), "der")
    stage.approach.buffer = Buffer(8)
    assert stage.extra("a").item() == 0
    kept = [each["extra"].clone() for each in stage.approach.buffer.samples.values()]
    with torch.no_grad():
        stage.model.heads["one"].classifier.weight.add_(1.0)
    assert stage.extra("a").item() > 0
    again = [each["extra"] for each in stage.approach.buffer.samples.values()]
    assert all(torch.equal(one, other) for one, other in zip(kept, again, strict=True))


def test_logits_of_words_are_compared_on_real_words_only() -> None:
    """(B, W, C) in batches of other widths; 99 stands where nothing may be read."""
    logits = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]], [[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]]])
    stored = [torch.tensor([[0.0, 0.0], [0.0, 0.0], [-99.0, 99.0], [-99.0, 99.0]]),
              torch.tensor([[5.0, 5.0], [7.0, 7.0], [9.0, 9.0]])]  # fmt: skip
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert logit_error(logits, stored, mask).item() == pytest.approx((1 + 4 + 9 + 16 + 3 * 1) / 10)
    assert logit_error(logits[:, :2], stored, mask[:, :2]).item() == pytest.approx((1 + 4 + 9 + 16 + 2 * 1) / 8)


def test_a_mask_of_words_is_not_one_of_types_and_nan_now_is_not_hidden() -> None:
    square = torch.zeros(1, 2, 2, 2)  # as many types as words
    mask = torch.tensor([[True, False]])
    assert logit_error(square, [torch.ones(2, 2, 2)], mask).item() == 1
    assert logit_error(torch.zeros(1, 2), [torch.ones(2)], mask).item() == 1
    assert logit_error(torch.tensor([[torch.nan, 0.0]]), [torch.ones(2)]).isnan()
    assert logit_error(torch.zeros(1, 2), [torch.tensor([torch.nan, 3.0])]).item() == 9
    assert logit_error(torch.zeros(1, 2), [torch.tensor([torch.nan, torch.inf])]).item() == 0
    assert logit_error(torch.zeros(2), [torch.tensor(1.0), torch.tensor(3.0)]).item() == 5  # numbers: (B,)


# --------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("class_balanced", [False, True])
@pytest.mark.parametrize("name", APPROACHES)
def test_resumed_training_is_unbroken_training(tmp_path: Path, name: str, class_balanced: bool) -> None:
    """Bit for bit, with dropout, from the middle of the second of three tasks."""
    case = Case("word_tagging", {"decoder": "crf"})
    tasks = Tasks(case, {"a": "one", "b": "two", "c": "one"})
    steps = [(task, rows_of(case, tasks.heads[task], seed)) for task in "abc" for seed in range(4)]

    def built(steps_done: int) -> tuple[MultiTaskModel, Any, Any]:
        model = model_for(case, "one", "two", dropout=0.2, seed=steps_done)
        approach = approach_class(name)(Buffer(9, class_balanced, seed=4), tasks.collate, batch_size=4)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        if hasattr(approach, "before_step"):
            optimizer.register_step_pre_hook(lambda *_: approach.before_step(model))
        return model, approach, optimizer

    def train(model: MultiTaskModel, approach: Any, optimizer: Any, some: Sequence[Any]) -> None:
        for task, rows in some:
            if hasattr(approach, "begin_task"):
                approach.begin_task(model, SimpleNamespace(name=task, head=tasks.heads[task], classes=None))
            batch = tasks.batch(task, rows)
            output = model(batch)
            loss = output.loss + approach.extra_loss(model, batch, output)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    one = built(0)
    train(*one, steps[:6])
    save_tree(tmp_path / "state", {"model": one[0].state_dict(), "approach": one[1].state_dict(),
                                   "optimizer": one[2].state_dict(), "rng": torch.get_rng_state()})  # fmt: skip
    train(*one, steps[6:])
    other, state = built(6), load_tree(tmp_path / "state")
    other[0].load_state_dict(state["model"])
    other[2].load_state_dict(state["optimizer"])
    if hasattr(other[1], "begin_task"):
        other[1].begin_task(other[0], SimpleNamespace(name="b", head="two", classes=None))
    other[1].load_state_dict(state["approach"])
    torch.set_rng_state(state["rng"])
    train(*other, steps[6:])
    weights = other[0].state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in one[0].state_dict().items())
    assert one[1].buffer.entries() == other[1].buffer.entries() and one[1].buffer.draws == other[1].buffer.draws > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Buffer(0), "Buffer: size must be at least 1, found 0"),
        (lambda: approach_class("replay")(None, None, batch_size=0), "replay: batch_size must be at least 1"),
        (lambda: approach_class("replay")(None, None, weight=-1.0), "weight not negative, found 32 and -1.0"),
        (lambda: approach_class("agem")(None, None, batch_size=0), "A-GEM: batch_size must be at least 1, found 0"),
        (lambda: approach_class("der")(None, None, beta=-1.0), "alpha and beta not negative, found 32, 0.1 and -1.0"),
    ],
)
def test_impossible_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
