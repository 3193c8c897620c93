"""model_utils/cpu_dropout.py and cpu_attention.py against torch's own formulas, and their masks against chance."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel, BartConfig, BertConfig, GPT2Config, LlamaConfig, ModernBertConfig, T5Config

from model_utils import cpu_attention
from model_utils.cpu_attention import NAME, attention_forward, use_cpu_attention
from model_utils.cpu_dropout import CPUDropout, dropout, fill_kept, scale, use_cpu_dropout
from model_utils.pieces import Isolation
from tests.test_pieces import ENDS, SIZES

attend: Any = attention_forward
sdpa: Any = F.scaled_dot_product_attention
NO_LEVEL = 1e-6  # a rate above 0 that rounds to none of 65,536 levels: nothing is dropped


@pytest.fixture(autouse=True)
def attention_of_few_texts_too(monkeypatch):
    monkeypatch.setattr(cpu_attention, "SMALL", 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_what_stays_is_binomial_and_scaled(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    x = torch.full((401, 499), 2.0, dtype=dtype, requires_grad=True)  # a number of elements that four do not divide
    y = dropout(x, p)
    stays = y != 0
    assert stats.binomtest(int((~stays).sum()), x.numel(), p).pvalue > 1e-3
    assert y[stays].unique().tolist() == [torch.tensor(2.0, dtype=dtype).mul(scale(p)).item()]
    assert scale(p) == pytest.approx(1 / (1 - p), rel=2e-5 / (1 - p))
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, stays * torch.tensor(1.0, dtype=dtype).mul(scale(p)))


def test_neighbours_do_not_know_of_each_other() -> None:
    """Four elements share one number of torch's generator: neither rows nor columns nor the four correlate."""
    torch.manual_seed(2)
    kept = fill_kept(torch.empty(1000, 1000), 0.3) - 0.7
    flat = kept.flatten()
    for lag in (1, 2, 3, 4, 5, 1000, 1001):
        correlation = (flat[:-lag] * flat[lag:]).mean().item() / 0.21
        assert abs(correlation) < 4 / math.sqrt(len(flat)), lag
    for own in range(4):
        assert abs(flat[own::4].mean().item()) < 4 * math.sqrt(0.21 / len(flat) * 4)


def test_the_same_seed_gives_the_same_mask_also_in_a_recomputed_pass() -> None:
    x = torch.randn(50, 7, requires_grad=True)
    torch.manual_seed(3)
    first, state = dropout(x, 0.4), torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.4), first)
    later = dropout(x, 0.4)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x, 0.4), later) and not torch.equal(later, first)
    module = CPUDropout(0.4)
    out: Any = checkpoint(module, x, use_reentrant=False)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient != 0, out != 0)


def test_modules_are_replaced_in_place() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.3), nn.Dropout1d(0.1)))
    model.append(nn.Dropout(0.5, inplace=True))
    names = list(model.state_dict())
    use_cpu_dropout(model.eval())
    kinds = [type(module).__name__ for module in model.modules()]
    assert kinds == ["Sequential", "Linear", "CPUDropout", "Sequential", "CPUDropout", "Dropout1d", "Dropout"]
    assert (model[1].p, model[1].training, list(model.state_dict())) == (0.2, False, names)
    x = torch.randn(4, 3)
    assert torch.equal(model[1](x), x)
    assert not torch.equal(model[1].train()(x), x)
    assert torch.equal(CPUDropout(0.0).train()(x), x) and torch.equal(CPUDropout(1.0).train()(x), torch.zeros(4, 3))


# ------------------------------------------------------------------------------------------------- attention

B, H, T, S, D = 3, 4, 10, 14, 8


def explicit(inputs: Any, mask: Any, kept: Any, p: float) -> Any:
    """The formula, a head for each group of them, with the mask of dropout given; returns (B, T, H, D)."""
    query = inputs[0]
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in inputs[1:])
    scores = query @ key.mT * 0.3
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return (scores.softmax(-1) * kept * scale(p) @ value).transpose(1, 2)


def drawn(tile: int, p: float, columns: int) -> torch.Tensor:
    """The mask that is drawn tile by tile."""
    kept = torch.empty(B, H, T, columns)
    for own in cpu_attention.tiles(kept):
        fill_kept(kept[own], p)
    return kept


MASKS = {
    "none": None,
    "of texts": torch.rand(B, 1, T, S, generator=torch.Generator().manual_seed(0)) > 0.3,
    "of heads": torch.rand(1, H, T, S, generator=torch.Generator().manual_seed(0)) > 0.3,
    "padding": (torch.arange(S) < torch.tensor([14, 9, 2])[:, None])[:, None, None],
    "numbers": torch.randn(B, 1, T, S, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("tile", [1, 3 * T * S, 9 * T * S, 2**19], ids=["a head", "some heads", "texts", "all"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("p", [NO_LEVEL, 0.3])
def test_attention_and_its_gradient_are_the_formula(
    p: float, mask: Any, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_attention, "TILE", tile)
    torch.manual_seed(0)
    inputs: Any = [torch.randn(B, H, size, D).requires_grad_() for size in (T, S, S)]
    state, module = torch.get_rng_state(), SimpleNamespace(is_causal=False)
    found, weights = attend(module, *inputs, mask, dropout=p, scaling=0.3)
    torch.set_rng_state(state)
    expected = explicit(inputs, mask, drawn(tile, p, S), p)
    assert weights is None
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad((out * weight).sum(), inputs) for out in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if p == NO_LEVEL and mask is not None and mask.dtype == torch.bool:
        torch.testing.assert_close(found.transpose(1, 2), sdpa(*inputs, mask, scale=0.3))


def test_causal_attention_with_fewer_keys_than_heads() -> None:
    torch.manual_seed(0)
    inputs: Any = [torch.randn(B, heads, T, D).requires_grad_() for heads in (H, 2, 2)]
    state, module = torch.get_rng_state(), SimpleNamespace(is_causal=True, num_key_value_groups=2)
    found, _ = attend(module, *inputs, None, dropout=0.3, scaling=0.3)
    torch.set_rng_state(state)
    expected = explicit(inputs, torch.ones(T, T, dtype=torch.bool).tril(), drawn(2**19, 0.3, T), 0.3)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(out.square().sum(), inputs) for out in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_bf16_is_as_near_to_fp32_as_sdpa_is() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(4, 6, 64, 32, dtype=torch.float64) * 2 for _ in range(3)]
    mask = torch.rand(4, 1, 64, 64) > 0.2
    weight = torch.randn(4, 6, 64, 32, dtype=torch.float64)
    module = SimpleNamespace(is_causal=False)

    def results(attention: Any, dtype: torch.dtype) -> list[torch.Tensor]:
        own = [x.to(dtype).requires_grad_() for x in inputs]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = attention(own)
        assert out.dtype == dtype
        return [out.double(), *(x.double() for x in torch.autograd.grad(out, own, weight.to(dtype)))]

    def torchs(own: Any) -> Any:
        return sdpa(*own, mask, dropout_p=NO_LEVEL)

    def ours(own: Any) -> Any:
        return attend(module, *own, mask, dropout=NO_LEVEL)[0].transpose(1, 2)

    exact = results(torchs, torch.float64)
    errors = [
        [(a - b).norm() / b.norm() for a, b in zip(results(attention, torch.bfloat16), exact, strict=True)]
        for attention in (ours, torchs)
    ]
    assert all(own < max(1.3 * other, 5e-3) for own, other in zip(*errors, strict=True)), errors


def test_without_dropout_sdpa_itself_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(cpu_attention, "sdpa_attention_forward", lambda *_, **options: calls.append(options))
    inputs = [torch.randn(1, 2, 3, 4) for _ in range(3)]
    given: list[Any] = [{}, {"dropout": 1.0}, {"dropout": 0.1, "position_bias": torch.zeros(1, 2, 3, 3)}]
    for options in given:
        attend(SimpleNamespace(), *inputs, None, **options)
    assert [options["dropout"] for options in calls] == [0.0, 1.0, 0.1]


CONFIGS = {
    "bert": BertConfig(**SIZES, hidden_dropout_prob=NO_LEVEL, attention_probs_dropout_prob=NO_LEVEL),
    "modernbert": ModernBertConfig(**SIZES, **ENDS, local_attention=8, attention_dropout=NO_LEVEL),
    "gpt2": GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=70, attn_pdrop=NO_LEVEL,
                       embd_pdrop=NO_LEVEL, resid_pdrop=NO_LEVEL),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=1, attention_dropout=NO_LEVEL),
    "bart": BartConfig(vocab_size=60, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
                       decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, dropout=NO_LEVEL,
                       attention_dropout=NO_LEVEL, max_position_embeddings=70),
    "t5": T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=NO_LEVEL),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_models_train_as_before_where_nothing_is_dropped(kind: str, tmp_path: Any) -> None:
    """Loss, gradients, and the saved configuration, with padding, and with packed texts where a model takes them."""
    torch.manual_seed(0)
    model = AutoModel.from_config(CONFIGS[kind], dtype=torch.float32, attn_implementation="sdpa").train()
    ids = torch.randint(5, 60, (3, 40))
    inputs = [{"input_ids": ids, "attention_mask": (torch.arange(40) < torch.tensor([40, 30, 7])[:, None]).long()}]
    if kind in ("bart", "t5"):
        inputs = [given | {"decoder_input_ids": ids[:, :9]} for given in inputs]
    else:
        inputs.append({"input_ids": ids} | Isolation(model, kind in ("gpt2", "llama"))(ids.cumsum(1) // 400))

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        for given in inputs:
            model(**given).last_hidden_state.square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradients()
    use_cpu_attention(model)
    use_cpu_dropout(model)
    assert model.config._attn_implementation == NAME
    for ours, theirs in zip(gradients(), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    model.save_pretrained(tmp_path)
    assert NAME not in json.dumps(json.loads((tmp_path / "config.json").read_text(encoding="utf-8")))
    assert AutoModel.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_a_model_with_another_attention_stays_as_it_is() -> None:
    model = AutoModel.from_config(CONFIGS["bert"], dtype=torch.float32, attn_implementation="eager")
    use_cpu_attention(model)
    assert model.config._attn_implementation == "eager"
