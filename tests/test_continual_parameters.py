"""Continual learning with weights that belong to tasks: adapters per task, and prompts from a pool."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from data_loader.task_batches import TaskCollator
from model_utils.adapters import add_adapters
from model_utils.encoder import load_encoder
from model_utils.heads import build_head
from model_utils.multitask_model import MultiTaskModel, build_model
from model_utils.optim import build_optimizer
from model_utils.unpadded_encoder import use_unpadding
from tests.tiny import INTENTS, TAGS, VOCABULARY, collate, one_task, tiny_features, tiny_model
from trainer.checkpoint import load_tree, save_tree
from tricks.continual import adapters, approach_class, prompt_pool

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 32,
}  # fmt: skip
HEADS = [
    {"name": "intent", "kind": "sequence_classification", "labels": INTENTS},
    {"name": "slots", "kind": "word_tagging", "labels": TAGS, "decoder": "crf"},
]


def task(name: str, head: str = "") -> Any:
    return SimpleNamespace(name=name, head=head or name, classes=None)


def batches(task: Any, seed: int, number: int = 6) -> list[dict[str, Any]]:
    features = one_task(tiny_features(4 * number, seed), task.head)
    make = TaskCollator(collate(task.head), task.name, task.head)
    return [make(features[4 * n : 4 * n + 4]) for n in range(number)]


def optimizer_of(model: MultiTaskModel) -> torch.optim.Optimizer:
    return build_optimizer(model, lr=1e-2)


def train(model: Any, approach: Any, optimizer: Any, group: list[dict[str, Any]]) -> None:
    model.train()
    for batch in group:
        output = model(batch)
        if hasattr(approach, "extra_loss"):
            output.loss = output.loss + approach.extra_loss(model, batch, output)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def learn(model: Any, approach: Any, task: Any, seed: int) -> None:
    approach.begin_task(model, task)
    torch.manual_seed(seed)
    train(model, approach, optimizer_of(model), batches(task, seed))
    if hasattr(approach, "end_task"):
        approach.end_task(model, task, None)


def scores(model: Any, approach: Any, task: Any) -> Tensor:
    """The logits for texts that no task was trained on, flat."""
    if hasattr(approach, "select"):
        approach.select(model, task)
    model.eval()
    with torch.no_grad():
        return torch.cat([model(b).logits[task.head].flatten() for b in batches(task, 99, 2)])


def weights(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ------------------------------------------------------------------------------------------------- adapters per task


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft", reason="pip install peft")
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(folder := tmp_path_factory.mktemp("base"))
    return folder


def with_adapters(base: Path, approach: Any) -> MultiTaskModel:
    torch.manual_seed(1)
    model = build_model(load_encoder(str(base), VOCABULARY, 32), HEADS)
    add_adapters(model.encoder, {**approach.PEFT, "lora_dropout": 0.1})
    return model


APART = [task("intent"), task("slots")]
TOGETHER = [task("first", "intent"), task("second", "intent")]


@pytest.mark.parametrize("tasks", [APART, TOGETHER], ids=["own heads", "a shared head"])
def test_a_task_stays_bit_for_bit_as_it_was_learnt(base: Path, tasks: list[Any]) -> None:
    approach = adapters.Approach()
    model = with_adapters(base, approach)
    first, second = tasks
    untrained, before = [scores(with_adapters(base, approach), None, each) for each in tasks], weights(model)
    learn(model, approach, first, 1)
    learnt = scores(model, approach, first)
    assert not torch.equal(learnt, untrained[0])
    assert torch.equal(scores(model, approach, second), untrained[1])  # a task not yet learnt
    learn(model, approach, second, 2)
    for _ in range(2):
        assert torch.equal(scores(model, approach, first), learnt)
        assert not torch.equal(scores(model, approach, second), untrained[1])
    alone = with_adapters(base, approach)
    learn(alone, (other := adapters.Approach()), second, 2)
    assert torch.equal(scores(alone, other, second), scores(model, approach, second))  # as if there were only this one
    trained = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert trained and all("lora_" in name or name.startswith("heads.") for name in trained)


def test_learning_goes_on_where_a_task_had_ended(base: Path) -> None:
    approach = adapters.Approach()
    model = with_adapters(base, approach)
    learn(model, approach, TOGETHER[0], 1)
    found = weights(model)
    learn(model, approach, TOGETHER[1], 2)
    approach.begin_task(model, TOGETHER[0])
    assert same(weights(model), found)


@pytest.mark.parametrize("looks", [False, True], ids=["as it is trained", "while another task is in"])
@pytest.mark.parametrize("tasks", [APART, TOGETHER], ids=["own heads", "a shared head"])
def test_adapters_resume_in_the_middle_of_a_task(base: Path, tmp_path: Path, tasks: list[Any], looks: bool) -> None:
    """A look at other tasks changes nothing either."""
    first, second = tasks
    group = batches(second, 2)

    def begin() -> tuple[MultiTaskModel, Any, Any]:
        approach = adapters.Approach()
        model = with_adapters(base, approach)
        learn(model, approach, first, 1)
        approach.begin_task(model, second)
        torch.manual_seed(2)
        return model, approach, optimizer_of(model)

    def outcome(model: MultiTaskModel, approach: Any) -> list[Tensor]:
        approach.end_task(model, second, None)
        return [*weights(model).values(), *(scores(model, approach, each) for each in tasks)]

    model, approach, optimizer = begin()
    train(model, approach, optimizer, group)
    unbroken = outcome(model, approach)

    model, approach, optimizer = begin()
    train(model, approach, optimizer, group[:3])
    state = torch.get_rng_state()
    if looks:
        scores(model, approach, first)
    model.save_pretrained(tmp_path)
    save_tree(tmp_path / "state", {"approach": approach.state_dict(), "optimizer": optimizer.state_dict()})

    model, approach = MultiTaskModel.from_pretrained(tmp_path), adapters.Approach()
    saved = load_tree(tmp_path / "state")
    add_adapters(model.encoder, {})
    approach.begin_task(model, second)
    approach.load_state_dict(saved["approach"])
    optimizer = optimizer_of(model)
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(state)
    train(model, approach, optimizer, group[3:])
    assert all(map(torch.equal, unbroken, outcome(model, approach)))


def test_a_state_from_between_two_tasks_begins_the_next_one(base: Path) -> None:
    approach = adapters.Approach()
    model = with_adapters(base, approach)
    untrained = weights(model)
    learn(model, approach, TOGETHER[0], 1)
    again = adapters.Approach()
    again.begin_task(model, TOGETHER[1])
    again.load_state_dict(approach.state_dict())
    assert same(weights(model), untrained)


def test_heads_may_come_later_and_are_kept_whole(base: Path) -> None:
    """A head that is made for the second task; thresholds, which are no parameters, go with the task."""
    approach = adapters.Approach()
    model = with_adapters(base, approach)
    learn(model, approach, APART[0], 1)
    head: Any = build_head("multi_label_classification", 16, INTENTS, {})
    model.heads["late"] = head
    untrained = weights(head)
    first, second = task("third", "late"), task("fourth", "late")
    for number, each in enumerate([first, second]):
        approach.begin_task(model, each)
        assert same(weights(head), untrained)
        with torch.no_grad():
            head.thresholds.fill_(0.1 * number + 0.2)
            next(head.parameters()).fill_(number)
        approach.end_task(model, each, None)
    found = []
    for each in (first, APART[0], second, task("fifth", "late")):
        approach.select(model, each)
        found.append(round(float(head.thresholds[0]), 4))
    assert found == [0.2, 0.2, 0.3, 0.5]


def test_options_of_peft() -> None:
    assert adapters.Approach().PEFT == approach_class("adapters").PEFT
    given = {"peft_type": "IA3"}
    assert adapters.Approach(given).PEFT == given != adapters.Approach.PEFT
    with pytest.raises(ValueError, match=r"^adapters: peft must be options by name, as {'peft_type': 'LORA', "):
        adapters.Approach("LORA")  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- a pool of prompts


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZES),
    "roberta": ("Roberta", {**SIZES, "pad_token_id": 1}),
    "electra": ("Electra", {**SIZES, "embedding_size": 8}),
    "distilbert": ("DistilBert", {"vocab_size": VOCABULARY, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
}
TEXTS: dict[str, Any] = {
    "input_ids": torch.tensor([[2, 7, 8, 9, 10, 3], [2, 11, 12, 3, 1, 1], [2, 13, 3, 1, 1, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]]),
}


def encoder_of(family: str) -> Any:
    """With weights so large that attention, positions and segments show."""
    torch.manual_seed(0)
    name, sizes = FAMILIES[family]
    encoder = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes)).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(10 if parameter.ndim > 1 else 1)
    return encoder


def with_pool(encoder: Any, **options: Any) -> prompt_pool.PromptPool:
    """Prompts far from each other, and keys that lie so that texts choose different ones."""
    pool = prompt_pool.PromptPool(encoder, **{"size": 6, "length": 3, "chosen": 2, **options})
    with torch.no_grad():
        pool.prompts.normal_(generator=torch.Generator().manual_seed(5))
        queries = encoder(**TEXTS).last_hidden_state[:, 0]
        pool.keys[:3] = queries + 0.05 * torch.randn(3, 16, generator=torch.Generator().manual_seed(6))
    pool.attach(encoder)
    return pool


def by_hand(encoder: Any, pool: prompt_pool.PromptPool, ids: Tensor, first: int) -> tuple[list[int], Any]:
    """Chosen prompts and what the encoder gives for one text without padding, (N * L + T, H), with all layers."""
    query = encoder.forward(input_ids=ids[None]).last_hidden_state[0, 0]
    cosines = [float(query @ key / query.norm() / key.norm()) for key in pool.keys]
    chosen = sorted(range(len(cosines)), key=lambda number: -cosines[number])[: pool.number]
    text = encoder.get_input_embeddings()(ids)
    embedded = torch.cat([*(pool.prompts[number] for number in chosen), text])[None]
    positions = torch.tensor([[first] * pool.places + [first + place for place in range(len(ids))]])
    output = encoder.forward(inputs_embeds=embedded, position_ids=positions, output_hidden_states=True)
    return chosen, output


@pytest.mark.parametrize(("family", "first"), [("bert", 0), ("roberta", 2), ("electra", 0), ("distilbert", 0)])
@torch.no_grad()
def test_each_text_is_encoded_behind_the_prompts_that_fit_it(family: str, first: int) -> None:
    encoder = encoder_of(family)
    pool = with_pool(encoder)
    output = encoder(**TEXTS, output_hidden_states=True, return_dict=True)
    assert output.last_hidden_state.shape == (3, 6, 16) and len(output.hidden_states) == 3
    distances, sets = [], set()
    for row, mask in enumerate(TEXTS["attention_mask"].bool()):
        chosen, expected = by_hand(encoder, pool, TEXTS["input_ids"][row, mask], first)
        assert pool.chosen[row].tolist() == chosen
        sets.add(tuple(chosen))
        for found, layer in zip((output.last_hidden_state, *output.hidden_states),
                                (expected.last_hidden_state, *expected.hidden_states), strict=True):  # fmt: skip
            torch.testing.assert_close(found[row, mask], layer[0, pool.places :], atol=1e-5, rtol=1e-5)
        distances += [1 - F.cosine_similarity(pool.query[row], pool.keys[number], dim=0) for number in chosen]
    torch.testing.assert_close(pool.distance(), torch.stack(distances).mean())
    assert len(sets) == 3


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_prompts_that_are_not_seen_change_nothing(family: str) -> None:
    """So the text has its own positions and segments."""
    encoder = encoder_of(family)
    inputs = TEXTS | ({} if family == "distilbert" else {"token_type_ids": torch.zeros_like(TEXTS["input_ids"])})
    if family in ("bert", "electra"):
        inputs["token_type_ids"][:, 2:] = 1
    real = TEXTS["attention_mask"].bool()
    plain = encoder(**inputs).last_hidden_state[real]
    pool = with_pool(encoder)
    seen = encoder(**inputs).last_hidden_state[real]

    def unseen(encoder: Any, args: Any, inputs: dict[str, Any]) -> Any:
        inputs["attention_mask"][:, : pool.places] = 0
        return args, inputs

    encoder.register_forward_pre_hook(unseen, with_kwargs=True)
    torch.testing.assert_close(encoder(**inputs).last_hidden_state[real], plain, atol=1e-5, rtol=1e-5)
    assert (seen - plain).abs().max() > 0.1


def test_the_query_knows_no_dropout_and_the_encoder_trains_on() -> None:
    encoder = encoder_of("bert")
    pool = with_pool(encoder)
    found = []
    for mode in (False, True, True):
        encoder.train(mode)
        output = encoder(**TEXTS).last_hidden_state
        found.append((pool.query, pool.chosen, output))
        assert all(module.training == mode for module in encoder.modules())
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[1][2], found[2][2])


@torch.no_grad()
def test_keys_are_compared_in_fp32_under_autocast() -> None:
    encoder = encoder_of("bert")
    pool = with_pool(encoder, size=40, chosen=20)
    with torch.autocast("cpu", torch.bfloat16):
        encoder(**TEXTS)
        distance = pool.distance()
    cosines = F.normalize(pool.query.double(), dim=1) @ F.normalize(pool.keys.double(), dim=1).T
    found = cosines.gather(1, pool.chosen)
    torch.testing.assert_close(found, cosines.topk(20).values, atol=1e-6, rtol=0)
    torch.testing.assert_close(distance, (1 - found).mean().float(), atol=1e-6, rtol=0)


def test_only_pool_and_heads_are_trained() -> None:
    """Keys by the distance alone, as in the paper, and the prompts that were chosen by the loss alone."""
    model, approach = tiny_model(), prompt_pool.Approach(prompts=8, length=2, chosen=3, strength=0.7)
    approach.begin_task(model, APART[1])
    pool: Any = model.prompt_pool
    before = weights(model)
    batch = batches(APART[1], 1)[0]
    output = model.train()(batch)
    output.loss.backward(retain_graph=True)
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None} == {"heads", "prompt_pool"}
    assert pool.keys.grad is None
    chosen = sorted({int(number) for number in pool.chosen.flatten()})
    assert pool.prompts.grad.abs().sum((1, 2)).nonzero().flatten().tolist() == chosen
    of_loss = pool.prompts.grad.clone()
    extra = approach.extra_loss(model, batch, output)
    extra.backward()
    assert torch.equal(pool.prompts.grad, of_loss)
    key = pool.keys.detach().clone().requires_grad_()
    rows = zip(pool.query, pool.chosen, strict=True)
    cosines = [F.cosine_similarity(query, key[number], dim=0) for query, chosen in rows for number in chosen]
    (expected := 0.7 * (1 - torch.stack(cosines)).mean()).backward()
    torch.testing.assert_close((extra, pool.keys.grad), (expected, key.grad))
    train(model, approach, (optimizer := optimizer_of(model)), batches(APART[1], 1))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(pool.prompts)] == decays[id(pool.keys)] == 0
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"heads", "prompt_pool"}
    assert {"prompt_pool.prompts", "prompt_pool.keys"} < changed


@torch.no_grad()
def test_heads_see_words_and_texts_as_always() -> None:
    """A CRF over words, and a pooling over two layers."""
    heads = [{**HEADS[0], "pooling": "first_last_mean"}, HEADS[1]]
    model, approach = build_model(encoder_of("bert"), heads).eval(), prompt_pool.Approach(length=3)
    approach.begin_task(model, APART[1])
    pool: Any = approach.pool
    pool.prompts.normal_()
    features = tiny_features(5)
    batch = collate()(features)
    output = model(batch)
    for row, feature in enumerate(features):
        alone = collate()([feature])
        _, expected = by_hand(model.encoder, pool, alone["input_ids"][0], 0)
        layers = tuple(hidden[:, pool.places :] for hidden in expected.hidden_states)
        single = model.apply_heads(layers, alone, None)
        words = feature["num_words"]
        torch.testing.assert_close(output.logits["slots"][row, :words], single.logits["slots"][0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.logits["intent"][row], single.logits["intent"][0], atol=1e-5, rtol=1e-5)
        assert model.heads["slots"].decode(output.logits["slots"], batch)[row] == (
            model.heads["slots"].decode(single.logits["slots"], alone)[0])  # fmt: skip


def test_a_pool_resumes_bit_for_bit(tmp_path: Path) -> None:
    """In the second task, which has the pool of the first; the saved model is without it."""
    group = batches(APART[1], 2)

    def begin(approach: Any) -> Any:
        model = tiny_model()
        learn(model, approach, APART[0], 1)
        approach.begin_task(model, APART[1])
        return model

    approach = prompt_pool.Approach()
    model = begin(approach)
    optimizer = optimizer_of(model)
    torch.manual_seed(3)
    train(model, approach, optimizer, group[:3])
    model.save_pretrained(tmp_path, {n: v for n, v in weights(model).items() if not n.startswith("prompt_pool.")})
    save_tree(tmp_path / "state", {"approach": approach.state_dict(), "optimizer": optimizer.state_dict()})
    state = torch.get_rng_state()
    train(model, approach, optimizer, group[3:])
    unbroken = weights(model) | {"scores": scores(model, approach, APART[0])}

    resumed, again = MultiTaskModel.from_pretrained(tmp_path), prompt_pool.Approach(seed=8)
    saved = load_tree(tmp_path / "state")
    again.begin_task(resumed, APART[1])
    optimizer = optimizer_of(resumed)
    again.load_state_dict(saved["approach"])
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(state)
    train(resumed, again, optimizer, group[3:])
    assert same(unbroken, weights(resumed) | {"scores": scores(resumed, again, APART[0])})


def test_the_pool_is_drawn_by_the_seed() -> None:
    encoder = encoder_of("electra")
    one, same_one, other = (prompt_pool.PromptPool(encoder, seed=seed) for seed in (1, 1, 2))
    assert same(one.state_dict(), same_one.state_dict()) and not same(one.state_dict(), other.state_dict())
    table = encoder.get_input_embeddings().weight
    assert one.prompts.shape == (10, 5, 8) and one.keys.shape == (10, 16)
    assert all((table == row).all(1).any() for row in one.prompts.flatten(0, 1))


def test_mistakes_with_a_pool_are_said() -> None:
    for options in ({"chosen": 11}, {"chosen": 0}, {"length": 0}):
        with pytest.raises(ValueError, match=r"^prompt_pool: length must be 1 or more, chosen between 1 and pr"):
            prompt_pool.Approach(**options)
    with pytest.raises(ValueError, match=r"^prompt_pool: strength must not be negative, found -1"):
        prompt_pool.Approach(strength=-1)
    use_unpadding((model := tiny_model()).encoder)
    with pytest.raises(ValueError, match=r"^prompt_pool: not for an encoder without padding; leave out unpad$"):
        prompt_pool.Approach().begin_task(model, APART[0])
    small = transformers.T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.raises(ValueError, match=r"^prompt_pool: T5EncoderModel takes no position_ids, which prompts need$"):
        prompt_pool.PromptPool(transformers.T5EncoderModel(small))
