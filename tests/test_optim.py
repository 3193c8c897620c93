"""model_utils/optim.py: which parameter gets which rate and decay, and every schedule against transformers' own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import (
    AutoModel,
    BartConfig,
    BertConfig,
    GPT2Config,
    ModernBertConfig,
    SchedulerType,
    get_scheduler,
)
from transformers.optimization import GreedyLR

from model_utils.encoder import ModelError, freeze
from model_utils.multitask_model import build_model
from model_utils.muon import MuonAdamW, hidden_matrices
from model_utils.optim import EvalSchedule, build_optimizer, build_scheduler, parameter_groups, place
from tests.tiny import collate, tiny_features, tiny_model
from trainer.checkpoint import load_tree, save_tree
from trainer.step import TrainStep

TOTAL, LR, HEAD_LR = 20, 5e-5, 1e-3
SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "cosine": {"num_cycles": 0.5},
    "cosine_with_restarts": {"num_cycles": 2},
    "polynomial": {"power": 2.0, "lr_end": 1e-6},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {"timescale": 7},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2},
    "warmup_stable_decay": {"num_decay_steps": 6},
}
METRIC_SCHEDULES = {"reduce_lr_on_plateau": ReduceLROnPlateau, "greedy": GreedyLR}


def tiny(names: tuple[str, str] = ("intent", "slots"), shared_layers: int = 0) -> Any:
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    tasks = [
        {"name": names[0], "kind": "sequence_classification", "labels": ["a", "b"]},
        {"name": names[1], "kind": "word_tagging", "labels": ["O", "B-x", "I-x"], "decoder": "crf"},
    ]
    return build_model(AutoModel.from_config(config), tasks, shared_layers)


def two_rates() -> torch.optim.Optimizer:
    groups = [{"params": [nn.Parameter(torch.ones(3))], "lr": lr} for lr in (LR, HEAD_LR)]
    return torch.optim.AdamW(groups, lr=LR, fused=True)


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def update(optimizer: torch.optim.Optimizer, number: int) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, 1.0 + number)
    optimizer.step()


# -------------------------------------------------------------------------------------------- parameter groups


def grouped_names(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, set[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {group["name"]: {names[id(p)] for p in group["params"]} for group in groups}


@pytest.mark.parametrize("frozen", [0, 1, -1])
@pytest.mark.parametrize("names", [("intent", "slots"), ("weight", "crf")])
def test_each_trainable_parameter_is_in_exactly_one_group_and_no_frozen_one(names: Any, frozen: int) -> None:
    model = tiny(names, shared_layers=1)
    model.encoder.pooler.requires_grad_(False)
    freeze(model.encoder, frozen)
    groups = parameter_groups(model, LR, HEAD_LR)
    listed = [id(p) for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(groups) == (4 if frozen >= 0 else 2)


@pytest.mark.parametrize("names", [("intent", "slots"), ("weight", "crf"), ("bias", "norm")])
def test_rates_and_decay_by_name(names: tuple[str, str]) -> None:
    model = tiny(names, shared_layers=1)
    groups = parameter_groups(model, LR, HEAD_LR, weight_decay=0.1)
    text, word = (f"heads.{name}" for name in names)
    layer, shared = "encoder.encoder.layer", "shared_layers.0"
    matrices = {
        f"encoder.embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")
    } | {
        f"{layer}.{number}.{name}.weight"
        for number in (0, 1)
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
                     "intermediate.dense", "output.dense")
    } | {"encoder.pooler.dense.weight"}  # fmt: skip
    head_matrices = {f"{text}.classifier.weight", f"{word}.classifier.weight", f"{shared}.linear1.weight",
                     f"{shared}.linear2.weight", f"{shared}.self_attn.in_proj_weight",
                     f"{shared}.self_attn.out_proj.weight"}  # fmt: skip
    everything = {name for name, _ in model.named_parameters()}
    encoder = {name for name in everything if name.startswith("encoder.")}
    assert grouped_names(model, groups) == {
        "encoder": matrices,
        "encoder, no decay": encoder - matrices,
        "heads": head_matrices,
        "heads, no decay": everything - encoder - head_matrices,
    }
    assert {f"{word}.crf.{n}" for n in ("transitions", "start_transitions", "end_transitions")} < (
        everything - encoder - head_matrices
    )
    assert {g["name"]: (g["lr"], g["weight_decay"]) for g in groups} == {
        "encoder": (LR, 0.1),
        "encoder, no decay": (LR, 0.0),
        "heads": (HEAD_LR, 0.1),
        "heads, no decay": (HEAD_LR, 0.0),
    }
    assert {g["lr"] for g in parameter_groups(model, LR)} == {LR}  # head_lr: off
    assert {g["lr"] for g in parameter_groups(model, LR, head_lr=0.0)} == {LR, 0.0}


def test_decay_alone_shrinks_matrices_and_nothing_else() -> None:
    model = tiny()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, lr=0.1, head_lr=0.2, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        lr = 0.1 if name.startswith("encoder.") else 0.2
        decays = name.endswith("weight") and parameter.ndim == 2
        torch.testing.assert_close(parameter.detach(), before[name] * (1 - 0.5 * lr * decays), msg=name)


def test_layer_wise_rates_in_closed_form() -> None:
    """Of 2 layers: lr for the top one and the pooler, lr * d below, lr * d^2 for all embeddings; heads as before."""
    model = tiny(shared_layers=1)
    groups = parameter_groups(model, LR, HEAD_LR, weight_decay=0.1, layer_decay=0.8)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    plain = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, LR, HEAD_LR, weight_decay=0.1)
        for p in group["params"]
    }
    depths = {"encoder.embeddings.": 2, "encoder.encoder.layer.0.": 1, "encoder.encoder.layer.1.": 0}
    for name, (rate, decay) in plain.items():
        depth = next((depth for start, depth in depths.items() if name.startswith(start)), 0)
        assert found[name] == (pytest.approx(rate * 0.8**depth), decay), name
    assert {g["name"].removesuffix(", no decay") for g in groups} == {
        "embeddings", "layer 0", "layer 1", "encoder", "heads",
    }  # fmt: skip


@pytest.mark.parametrize("config", [
    ModernBertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16,
                     pad_token_id=0),
    GPT2Config(vocab_size=20, n_embd=8, n_layer=3, n_head=2, bos_token_id=0, eos_token_id=0),
    BartConfig(vocab_size=20, d_model=8, encoder_layers=3, decoder_layers=3, encoder_attention_heads=2,
               decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16),
], ids=lambda config: config.model_type)  # fmt: skip
def test_layers_are_found_in_other_encoders(config: Any) -> None:
    model = nn.ModuleDict({"encoder": AutoModel.from_config(config)})
    for group in parameter_groups(model, 1.0, layer_decay=0.5):
        part = group["name"].removesuffix(", no decay")
        depth = {"layer 0": 2, "layer 1": 1, "layer 2": 0, "embeddings": 3, "encoder": 0}[part]
        assert group["lr"] == 0.5**depth
    names = [f"encoder.{name}" for name, _ in model["encoder"].named_parameters() if "wte" in name or "embed" in name]
    assert names and {place(name, 3) for name in names} == {("embeddings", 3)}


def test_muon_moves_hidden_matrices_and_adamw_the_rest_as_both_would_alone() -> None:
    """Four updates with a schedule, against two optimizers of torch with the same gradients."""
    ours, theirs = tiny(), tiny()
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(ours, LR, HEAD_LR, weight_decay=0.1, name="muon")
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    matrices = {id(p) for p in hidden_matrices(theirs.encoder)}
    groups = parameter_groups(theirs, LR, HEAD_LR, weight_decay=0.1)
    muon = torch.optim.Muon([p for g in groups for p in g["params"] if id(p) in matrices], LR, 0.1,
                            adjust_lr_fn="match_rms_adamw")  # fmt: skip
    rest = [{**g, "params": [p for p in g["params"] if id(p) not in matrices]} for g in groups]
    adamw = torch.optim.AdamW(rest, lr=LR)
    first = [group["lr"] for group in (*muon.param_groups, *adamw.param_groups)]
    for number in range(4):
        generator = torch.Generator().manual_seed(number)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for group, rate in zip((*muon.param_groups, *adamw.param_groups), first, strict=True):
            group["lr"] = rate / (1 + number)
        optimizer.step(), muon.step(), adamw.step()
        scheduler.step()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7, msg=name)
    named = {id(p): name for name, p in theirs.encoder.named_parameters()}
    assert {named[i].split(".")[0] for i in matrices} == {"encoder", "pooler"}  # no embeddings
    with pytest.raises(ValueError, match="no trainable matrix"):
        MuonAdamW([{"params": [nn.Parameter(torch.ones(2))]}], [])


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_every_optimizer_resumes_bit_for_bit_and_leaves_out_a_broken_update(name: str, tmp_path: Path) -> None:
    def made() -> tuple[Any, TrainStep]:
        model = tiny_model(dropout=0.0)
        optimizer = build_optimizer(model, 1e-2, layer_decay=0.9, name=name)
        return model, TrainStep(model, optimizer, build_scheduler("linear", optimizer, 1, 9))

    batches = [collate()(tiny_features(4, seed=seed)) for seed in range(4)]
    model, step = made()
    step(batches[:1]), step(batches[1:2])
    save_tree(tmp_path / "state", {n: p.state_dict() for n, p in step.parts().items()} | {"model": model.state_dict()})
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    handle = model.encoder.register_forward_hook(
        lambda module, inputs, output: output.last_hidden_state.register_hook(lambda g: g * torch.nan) and None
    )
    step(batches[2:3])
    handle.remove()
    assert step.masked and all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    step(batches[3:])
    assert not step.masked
    again, resumed = made()
    state = load_tree(tmp_path / "state")
    again.load_state_dict(state.pop("model"))
    for part, own in resumed.parts().items():
        own.load_state_dict(state[part])
    resumed.scheduler.step()  # the update that was left out
    resumed(batches[3:])
    for (key, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), key


def test_the_optimizer_can_mask_an_update_on_the_device() -> None:
    """What trainer/step.py relies on."""
    model = tiny()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer: Any = build_optimizer(model, lr=0.1)
    for masked in (1.0, 0.0):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, float("nan") if masked else 1.0)
        optimizer.found_inf = torch.tensor(masked)
        optimizer.step()
        changed = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
        assert len(changed) == (0 if masked else len(before))


def test_nothing_to_train_is_refused() -> None:
    model = tiny()
    model.requires_grad_(False)
    with pytest.raises(ModelError, match=r"^freeze_layers: no trainable parameter is left$"):
        build_optimizer(model, LR)


# --------------------------------------------------------------------------------------------------- schedules


def test_every_schedule_of_transformers_is_tested() -> None:
    assert {*SCHEDULES, *METRIC_SCHEDULES} == {kind.value for kind in SchedulerType}


def ours(name: str, warmup: int) -> list[list[float]]:
    optimizer = two_rates()
    scheduler = build_scheduler(name, optimizer, warmup, TOTAL, SCHEDULES[name])
    found = []
    for number in range(TOTAL):
        found.append(rates(optimizer))
        update(optimizer, number)
        scheduler.step()
    return found


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # theirs is read without training
@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("name", SCHEDULES)
def test_update_s_has_the_rate_that_transformers_gives_at_s_plus_1_of_one_more(name: str, warmup: int) -> None:
    optimizer = two_rates()
    theirs: Any = get_scheduler(name, optimizer, warmup, TOTAL + 1, scheduler_specific_kwargs=SCHEDULES[name])
    expected = []
    for _ in range(TOTAL):
        theirs.step()
        expected.append(rates(optimizer))
    found = ours(name, warmup)
    assert found == [pytest.approx(row, rel=1e-12, abs=0) for row in expected]
    assert min(found[0]) > 0 and min(found[-1]) > 0
    assert all(lr <= full * (1 + 1e-12) for row in found for lr, full in zip(row, (LR, HEAD_LR), strict=True))
    theirs.step()
    if name in ("linear", "cosine", "cosine_with_restarts", "warmup_stable_decay"):
        assert rates(optimizer) == pytest.approx([0.0, 0.0], abs=1e-12)  # and here it would have been 0


def test_warm_up_and_linear_decay_in_closed_form() -> None:
    warmup = 5
    for number, (lr, head_lr) in enumerate(ours("linear", warmup)):
        factor = (number + 1) / warmup if number < warmup else (TOTAL - number) / (TOTAL + 1 - warmup)
        assert (lr, head_lr) == pytest.approx((LR * factor, HEAD_LR * factor), rel=1e-12)
    assert max(ours("linear", warmup)) == ours("linear", warmup)[warmup - 1] == [LR, HEAD_LR]


@pytest.mark.parametrize("name", SCHEDULES)
def test_going_on_from_any_step_is_going_on(name: str, tmp_path: Path) -> None:
    """Through the files that the trainer writes: rates and weights bit for bit."""
    options, warmup = SCHEDULES[name], 5

    def run(optimizer: Any, scheduler: Any, first: int, last: int) -> list[Any]:
        found = []
        for number in range(first, last):
            found.append((rates(optimizer), [g["params"][0].tolist() for g in optimizer.param_groups]))
            update(optimizer, number)
            scheduler.step()
        return found

    optimizer = two_rates()
    unbroken = run(optimizer, build_scheduler(name, optimizer, warmup, TOTAL, options), 0, TOTAL)
    for stop in (0, 1, 4, 5, 6, 13, TOTAL - 1):
        optimizer = two_rates()
        scheduler = build_scheduler(name, optimizer, warmup, TOTAL, options)
        run(optimizer, scheduler, 0, stop)
        save_tree(tmp_path / "state", {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()})
        weights = [group["params"][0].detach().clone() for group in optimizer.param_groups]

        optimizer = two_rates()
        scheduler = build_scheduler(name, optimizer, warmup, TOTAL, options)
        for group, weight in zip(optimizer.param_groups, weights, strict=True):
            group["params"][0].data.copy_(weight)
        state = load_tree(tmp_path / "state")
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        assert run(optimizer, scheduler, stop, TOTAL) == unbroken[stop:], stop


def follow(scheduler: EvalSchedule, value: float) -> None:
    scheduler.step()  # after each update: nothing
    for event in ("log", "eval", "epoch"):  # what the trainer tells its callbacks
        scheduler.follow("dev/f1", event, 7, {"dev/f1": value, "loss": 1 - value} if event == "eval" else {})


@pytest.mark.parametrize("lower_is_better", [False, True])
@pytest.mark.parametrize("name", METRIC_SCHEDULES)
def test_metric_schedules_follow_the_monitored_metric_and_resume(
    name: str, lower_is_better: bool, tmp_path: Path
) -> None:
    options = {"patience": 1, "factor": 0.5, "threshold": 1e-4}
    mode = "min" if lower_is_better else "max"
    values = [0.1, 0.2, 0.3, 0.4, 0.4, 0.3, 0.2, 0.5, 0.1, 0.1, 0.1, 0.1]
    if lower_is_better:
        values = [1 - value for value in values]
    optimizer = two_rates()
    reference: Any = METRIC_SCHEDULES[name](optimizer, mode=mode, min_lr=0.0, **options)
    expected = []
    for value in values:
        reference.step(value)
        expected.append(rates(optimizer))
    assert expected[-1][0] < LR

    for stop in (0, 5, len(values)):
        optimizer = two_rates()
        scheduler: Any = build_scheduler(name, optimizer, 5, TOTAL, options, lower_is_better)
        assert rates(optimizer) == [LR, HEAD_LR]
        for value, row in zip(values[:stop], expected, strict=False):
            follow(scheduler, value)
            assert rates(optimizer) == row
        save_tree(tmp_path / "state", {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()})
        optimizer = two_rates()
        scheduler = build_scheduler(name, optimizer, 5, TOTAL, options, lower_is_better)
        state = load_tree(tmp_path / "state")
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        for value, row in zip(values[stop:], expected[stop:], strict=True):
            follow(scheduler, value)
            assert rates(optimizer) == row


def test_greedy_can_lower_a_fine_tuning_rate() -> None:
    """Its own smallest rate is 1e-3."""
    optimizer = two_rates()
    scheduler: Any = build_scheduler("greedy", optimizer, 0, TOTAL, {"patience": 0})
    for value in (0.5, 0.4, 0.3):
        follow(scheduler, value)
    assert rates(optimizer)[0] == pytest.approx(LR / 0.95 * 0.95**2)
    optimizer = two_rates()
    scheduler = build_scheduler("greedy", optimizer, 0, TOTAL, {"patience": 0, "min_lr": 4.9e-5})  # the user's wins
    for value in (0.5, 0.4, 0.3, 0.2):
        follow(scheduler, value)
    assert rates(optimizer)[0] == pytest.approx(4.9e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lineer", {}, "lr_scheduler: unknown schedule 'lineer'; there are linear, cosine, "),
        ("linear", {"power": 2}, "lr_scheduler: linear: "),
        ("constant", {"power": 2}, "lr_scheduler: constant takes no options; see lr_scheduler_options"),
        ("constant_with_warmup", {"power": 2}, "lr_scheduler: constant_with_warmup takes no options"),
        ("warmup_stable_decay", {}, "lr_scheduler: warmup_stable_decay: "),
        ("cosine_with_min_lr", {}, "lr_scheduler: cosine_with_min_lr: "),
        ("polynomial", {"lr_end": 1.0}, "lr_scheduler: polynomial: "),
        ("reduce_lr_on_plateau", {"factor": 2.0}, "lr_scheduler: reduce_lr_on_plateau: "),
        ("greedy", {"patiense": 2}, "lr_scheduler: greedy: "),
    ],
)
def test_wrong_schedules_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        build_scheduler(name, two_rates(), 0, TOTAL, options)
    assert str(error.value).startswith(message)
