"""model_utils/unpadded_encoder.py: the outputs and gradients of the same encoder with padding."""

import copy
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    ElectraConfig,
    ErnieConfig,
    GPT2Config,
    ModernBertConfig,
    RobertaConfig,
)

from data_loader.collate import Collator
from model_utils import cpu_attention
from model_utils.cpu_attention import use_cpu_attention
from model_utils.cpu_dropout import use_cpu_dropout
from model_utils.encoder import ModelError, checkpoint_activations
from model_utils.multitask_model import build_model
from model_utils.unpadded_encoder import WASTE, Row, attend, jagged, rounded_up, row_of, tiles_of, use_unpadding
from trainer.memory import split

SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 70, "pad_token_id": 0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
FAMILY = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES | {"pad_token_id": 1}),
    "electra": ElectraConfig(**SIZES, embedding_size=8),
    "ernie": ErnieConfig(**SIZES),
}
ENDS = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
OTHERS = {
    "causal": GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=70),
    "attention that sees a window": ModernBertConfig(**SIZES, **ENDS, local_attention=8),
    "attention of its own": DebertaV2Config(**SIZES),
}
LENGTHS = torch.tensor([9, 3, 23, 9, 2, 14, 23, 3])


def encoder(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModel.from_config(copy.deepcopy(config), dtype=torch.float32).eval()


def batch_of(config: Any, lengths: torch.Tensor = LENGTHS) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    ids = torch.randint(5, 60, mask.shape).masked_fill_(mask == 0, config.pad_token_id)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.randint(2, mask.shape) * mask}


@pytest.mark.parametrize("kind", FAMILY)
def test_outputs_and_gradients_are_those_with_padding(kind):
    config = FAMILY[kind]
    plain, inputs = encoder(config), batch_of(config)
    if kind == "roberta":  # knows one type
        inputs.pop("token_type_ids")
    own = copy.deepcopy(plain)
    use_unpadding(own)
    real = inputs["attention_mask"].bool()
    expected, found = (model(**inputs, output_hidden_states=True) for model in (plain, own))
    for a, b in zip(expected.hidden_states, found.hidden_states, strict=True):
        torch.testing.assert_close(b[real], a[real], rtol=1e-5, atol=1e-5)
    assert found.last_hidden_state.shape == expected.last_hidden_state.shape
    assert not found.last_hidden_state[~real].any() and found.pooler_output is None
    weights = torch.randn(expected.last_hidden_state.shape) * real[..., None]
    for output in (expected, found):
        (output.last_hidden_state * weights).sum().backward()
    gradients = {name: weight.grad for name, weight in own.named_parameters() if weight.grad is not None}
    assert len(gradients) > 40
    for name, weight in plain.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", OTHERS)
def test_others_are_refused_and_left_alone(kind):
    model = encoder(OTHERS[kind])
    inputs = {"input_ids": torch.arange(5, 25).view(2, 10), "attention_mask": torch.ones(2, 10).long()}
    expected, attention = model(**inputs).last_hidden_state, model.config._attn_implementation
    with pytest.raises(ModelError, match=r"unpad: \w+Model cannot be called without padding; leave it out"):
        use_unpadding(model)
    assert model.config._attn_implementation == attention
    assert torch.equal(model(**inputs).last_hidden_state, expected)


def test_linear_layers_see_real_sub_words_alone():
    model, inputs = encoder(FAMILY["bert"]), batch_of(FAMILY["bert"])
    use_unpadding(model)
    rows = []
    for module in model.encoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda module, given, output: rows.append(given[0].shape[:2].numel()))
    model(**inputs)
    assert rows == [rounded_up(int(LENGTHS.sum()))] * 18


def test_a_batch_of_one_length_and_one_without_a_mask():
    plain = encoder(FAMILY["bert"])
    own = copy.deepcopy(plain)
    use_unpadding(own)
    inputs = batch_of(FAMILY["bert"], torch.tensor([7, 7, 7]))
    for given in (inputs, {"input_ids": inputs["input_ids"]}):
        expected, found = (model(**given).last_hidden_state for model in (plain, own))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_copy_has_weights_of_its_own():
    first = encoder(FAMILY["bert"])
    use_unpadding(first)
    second, inputs = copy.deepcopy(first), batch_of(FAMILY["bert"])
    before = second(**inputs).last_hidden_state
    with torch.no_grad():
        for weight in first.parameters():
            weight.zero_()
    assert torch.equal(second(**inputs).last_hidden_state, before)


def test_the_model_gives_the_same_losses_and_gradients():
    tasks = [{"name": "intent", "kind": "sequence_classification", "labels": ["a", "b", "c"], "pooling": "mean"},
             {"name": "slots", "kind": "word_tagging", "labels": ["O", "B-x", "I-x"]}]  # fmt: skip
    torch.manual_seed(0)
    plain = build_model(encoder(FAMILY["bert"]), tasks, shared_layers=1).eval()
    own = copy.deepcopy(plain)
    use_unpadding(own.encoder)
    features = []
    for i, (row, n) in enumerate(zip(batch_of(FAMILY["bert"])["input_ids"], LENGTHS.tolist(), strict=True)):
        labels = {"intent": i % 3, "slots": [j % 2 for j in range(n - 2)]}
        starts = list(range(1, n - 1))
        features.append({"sample_id": i, "input_ids": row[:n].tolist(), "word_starts": starts, "labels": labels})
    levels = {"intent": "sequence", "slots": "word"}
    batch = Collator(0, levels)(features)
    expected, found = plain(batch), own(Collator(0, levels, real_places=True)(features))
    torch.testing.assert_close(found.losses, expected.losses, rtol=1e-5, atol=1e-5)
    expected.loss.backward()
    found.loss.backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), own.named_parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_places_that_the_collator_gives_are_those_found():
    inputs = batch_of(FAMILY["bert"])
    features = [{"sample_id": 0, "input_ids": row[:n].tolist(), "labels": {}}
                for row, n in zip(inputs["input_ids"], LENGTHS, strict=True)]  # fmt: skip
    batch = Collator(0, {}, real_places=True)(features)
    mask = batch["attention_mask"]
    assert torch.equal(batch["real_places"], mask.flatten().nonzero().flatten())
    row = row_of(mask)
    assert torch.equal(row.places[: row.num_real].sort().values, batch["real_places"])
    assert row.places[row.num_real :].tolist() == [int(row.places[row.num_real - 1])] * (-row.num_real % 8)
    pieces = split(batch, 3)
    assert all("real_places" not in piece for piece in pieces)  # they are of the whole batch
    assert torch.equal(torch.cat([piece["input_ids"] for piece in pieces]), batch["input_ids"])


def test_tiles_waste_little_and_hold_every_sub_word_once():
    """Against brute force; many texts of unlike lengths make few tiles."""
    torch.manual_seed(3)
    for lengths in (LENGTHS.sort().values, torch.randint(1, 128, (64,)).sort().values, torch.full((5,), 7)):
        tiles = tiles_of(lengths)
        longest = [size for texts, size in tiles.shapes for _ in range(texts)]
        assert sum(texts for texts, _ in tiles.shapes) == len(lengths)
        assert all(size >= length for size, length in zip(longest, lengths.tolist(), strict=True))
        row = [(text, place) for text, n in enumerate(lengths.tolist()) for place in range(n)]
        spread = [row[number] for number in tiles.into.tolist()]
        assert [spread[number] for number in tiles.back.tolist()] == row
        wanted = [(text, min(place, int(lengths[text]) - 1)) for text, n in enumerate(longest) for place in range(n)]
        assert spread == wanted
        assert tiles.length == rounded_up(len(row))
        parts = lengths.split([texts for texts, _ in tiles.shapes])
        for (_, size), mask, own in zip(tiles.shapes, tiles.masks, parts, strict=True):
            assert (size**2 - own**2).sum() <= WASTE
            expected = torch.arange(size) < own[:, None]
            assert expected.all() if mask is None else torch.equal(mask[:, 0, 0], expected)
    assert len(tiles_of(torch.arange(1, 129)).shapes) < 50


def test_rows_have_few_lengths_and_little_behind_their_texts():
    lengths = range(1, 2**14)
    rounded = [rounded_up(n) for n in lengths]
    assert all(n <= r < n + max(8, n / 32) for n, r in zip(lengths, rounded, strict=True))
    assert all(sum(2**k <= r < 2 ** (k + 1) for r in set(rounded)) == min(32, 2**k // 8) for k in range(3, 14))


def qkv(heads: int = 2, size: int = 8) -> list[torch.Tensor]:
    torch.manual_seed(2)
    return [torch.randn(1, heads, int(LENGTHS.sum()), size, requires_grad=True) for _ in range(3)]


def in_file_order(mask: torch.Tensor) -> Row:
    """As on a GPU, where texts are not sorted."""
    ends = torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0))
    return Row(mask.flatten().nonzero().flatten(), int(mask.sum()), ends, mask.shape)


def test_nested_tensors_attend_as_the_formula_does():
    mask = batch_of(FAMILY["bert"])["attention_mask"]
    row, (q, k, v) = in_file_order(mask), qkv()
    found = jagged(q, k, v, row, dropout=0.0, scaling=0.3)  # (1, N, A, D)
    number = torch.repeat_interleave(torch.arange(len(LENGTHS)), LENGTHS)
    scores = (0.3 * q @ k.mT).masked_fill(number[:, None] != number, -torch.inf)
    expected = (scores.softmax(-1) @ v).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(found.shape)
    ours = torch.autograd.grad((found * weights).sum(), (q, k, v))
    theirs = torch.autograd.grad((expected * weights).sum(), (q, k, v))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("small", [0, cpu_attention.SMALL])
def test_dropout_in_attention_has_the_right_mean_and_spread(small, monkeypatch):
    monkeypatch.setattr(cpu_attention, "SMALL", small)
    mask = torch.ones(4, 16).long()
    q, k, v = (torch.randn(1, 2, 64, 8) for _ in range(3))
    row = row_of(mask)
    torch.manual_seed(0)
    draws = torch.stack([attend(None, q, k, v, None, row, dropout=0.25)[0] for _ in range(2000)])
    expected = attend(None, q, k, v, None, row)[0]
    shares = (q[0].unflatten(1, (4, 16)) @ k[0].unflatten(1, (4, 16)).mT * 8**-0.5).softmax(-1)
    spread = (shares**2 @ v[0].unflatten(1, (4, 16)) ** 2 * 0.25 / 0.75).sqrt().flatten(1, 2).transpose(0, 1)[None]
    z = (draws.mean(0) - expected) / (spread / 2000**0.5)
    assert z.abs().max() < 5 and 0.9 < z.std() < 1.1
    torch.testing.assert_close(draws.std(0), spread, rtol=0.15, atol=0)


def test_training_draws_dropout_within_texts(monkeypatch):
    monkeypatch.setattr(cpu_attention, "SMALL", 0)
    model = AutoModel.from_config(BertConfig(**SIZES | {"attention_probs_dropout_prob": 0.5}), dtype=torch.float32)
    use_unpadding(model)
    use_cpu_attention(model)  # leaves it as it is
    inputs = batch_of(FAMILY["bert"])
    first, second = (model.train()(**inputs).last_hidden_state for _ in range(2))
    assert not torch.equal(first, second) and torch.isfinite(first).all()
    with torch.no_grad():  # a changed text changes no other one, under the same random numbers
        torch.manual_seed(0)
        first = model(**inputs).last_hidden_state
        changed = inputs | {"input_ids": inputs["input_ids"].clone()}
        changed["input_ids"][2, 1] = 7 if changed["input_ids"][2, 1] != 7 else 8
        torch.manual_seed(0)
        second = model(**changed).last_hidden_state
    differs = (first != second).flatten(1).any(1)
    assert differs.tolist() == [i == 2 for i in range(len(LENGTHS))]


class Kept:
    size = 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        self.size += tensor.nbytes
        return tensor


@pytest.mark.parametrize("unpadded", [False, True])
def test_checkpointed_activations_change_no_gradient_and_keep_less(unpadded, monkeypatch):
    """Bit for bit, with dropout; the second computation draws the same numbers."""
    monkeypatch.setattr(cpu_attention, "SMALL", 0)
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = AutoModel.from_config(BertConfig(**SIZES | {"attention_probs_dropout_prob": 0.2}), dtype=torch.float32)
        if unpadded:
            use_unpadding(model)
        use_cpu_attention(model)
        use_cpu_dropout(model)
        if checkpointed:
            checkpoint_activations(model)
        kept = Kept()
        torch.manual_seed(1)
        with saved_tensors_hooks(kept, lambda tensor: tensor):
            output = model.train()(**batch_of(FAMILY["bert"])).last_hidden_state
        output.pow(2).sum().backward()
        found.append(({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, kept.size))
    (plain, more), (again, less) = found
    assert plain.keys() == again.keys() and all(torch.equal(plain[name], again[name]) for name in plain)
    assert less < 0.5 * more
