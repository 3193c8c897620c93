"""model_utils/generation_model.py, heads/text_generation.py: teacher forcing, generation, saving, against references.

Letters: B texts, S sub-words of the longest source, L of the target, V entries of the vocabulary.
"""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, BloomConfig, BloomForCausalLM
from transformers.trainer_pt_utils import LabelSmoother

from model_utils.build import saved_model
from model_utils.encoder import ModelError, freeze
from model_utils.generation_model import GenerationModel, build_generation_model, without_spaces
from model_utils.heads import build_head
from model_utils.optim import build_optimizer, build_scheduler
from tests.tiny_generation import (
    CAUSAL,
    FAMILIES,
    MAX_LENGTH,
    MAX_TARGET_LENGTH,
    PAIRS,
    SEQ2SEQ,
    TASK,
    collate,
    features,
    saved_language_model,
    tokenizer_of,
)
from trainer.prediction import predict
from trainer.step import TrainStep
from tricks.fgm import FGM, NoEmbedding

LEARNED = ("t5", "gpt2", "llama")  # kinds of models that know PAIRS
EXACT: Any = {"rtol": 1e-9, "atol": 1e-9}  # for float64
ROUNDED: Any = {"rtol": 1e-5, "atol": 1e-6}  # for losses, which are summed in float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kind of model -> a folder of transformers."""
    steps = dict.fromkeys(LEARNED, 40)
    return cache(lambda kind: saved_language_model(kind, tmp_path_factory.mktemp(kind), steps.get(kind, 0)))


@pytest.fixture
def load(folder: Any) -> Any:
    def load(kind: str, dtype: torch.dtype = torch.float64, **options: Any) -> GenerationModel:
        """In eval mode; options of the head."""
        task = TASK | options
        path, tokenizer = folder(kind), tokenizer_of(FAMILIES[kind])
        return build_generation_model(path, tokenizer, task, MAX_LENGTH, MAX_TARGET_LENGTH).to(dtype).eval()

    return load


def batch_of(model: GenerationModel, pad_to_multiple_of: int = 1) -> dict[str, Any]:
    return collate(model, features(model), pad_to_multiple_of)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# --------------------------------------------------------------------------------------------------- teacher forcing


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_loss_and_logits_are_those_of_transformers(kind: str, load: Any) -> None:
    """M2M100 has no prepare_decoder_input_ids_from_labels: ours stands in for it."""
    model = load(kind)
    assert hasattr(model.encoder, "prepare_decoder_input_ids_from_labels") == (kind != "m2m_100")
    batch = batch_of(model)
    labels = batch["labels"]["reply"]
    assert (labels == -100).any()
    theirs = model.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels)
    ours = model(batch)
    torch.testing.assert_close(ours.logits["reply"], theirs.logits, **EXACT)
    torch.testing.assert_close(ours.loss.double(), theirs.loss, **ROUNDED)
    assert torch.equal(ours.losses["reply"], ours.loss)


@pytest.mark.parametrize("kind", CAUSAL)
def test_the_loss_of_a_causal_model_is_that_of_single_texts_without_padding(kind: str, load: Any) -> None:
    model = load(kind)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for feature in features(model):
        source, target = feature["input_ids"], feature["labels"]["reply"]
        logits = model.encoder(input_ids=torch.tensor([source + target])).logits[0]
        chances = logits.log_softmax(-1)
        total -= sum(chances[len(source) + n - 1, number] for n, number in enumerate(target))
        count += len(target)
    batch = batch_of(model)
    assert (batch["attention_mask"][:, 0] == 0).any(), "padded on the left"
    torch.testing.assert_close(model(batch).loss.double(), total / count, **ROUNDED)
    assert model.num_items(batch["labels"])["reply"] == count


@pytest.mark.parametrize("kind", FAMILIES)
def test_padding_changes_no_logit(kind: str, load: Any) -> None:
    model = load(kind)
    together = model(batch_of(model, pad_to_multiple_of=32)).logits["reply"]
    for logits, feature in zip(together, features(model), strict=True):
        alone = model(collate(model, [feature])).logits["reply"][0]
        torch.testing.assert_close(logits[: len(alone)], alone, **EXACT)


def test_a_model_that_counts_positions_by_itself() -> None:
    """BLOOM takes no position_ids; its attention knows distances only."""
    tokenizer = tokenizer_of("bytes")
    torch.manual_seed(0)
    language_model = BloomForCausalLM(BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=2, n_head=2))
    model = GenerationModel(language_model.eval(), tokenizer, "reply", build_head("text_generation", 0, [], {}))
    assert "position_ids" not in model.accepted
    together = model(batch_of(model)).logits["reply"]
    for logits, feature in zip(together, features(model), strict=True):
        ids = torch.tensor([feature["input_ids"] + feature["labels"]["reply"]])
        alone = language_model(input_ids=ids).logits[0, len(feature["input_ids"]) - 1 : -1]
        torch.testing.assert_close(logits[: len(alone)], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CAUSAL)
def test_only_the_logits_of_the_targets_are_computed(kind: str, load: Any) -> None:
    model = load(kind)
    batch = batch_of(model)
    widths: list[int] = []
    model.encoder.get_output_embeddings().register_forward_hook(lambda m, i, output: widths.append(output.shape[1]))
    few = model(batch).logits["reply"]
    model.accepted.remove("logits_to_keep")
    torch.testing.assert_close(model(batch).logits["reply"], few, **EXACT)
    num_sources, num_targets = batch["input_ids"].shape[1], batch["labels"]["reply"].shape[1]
    assert widths == [num_targets + 1, num_sources + num_targets]


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_training_keeps_no_cache_of_keys_and_values(kind: str, load: Any) -> None:
    model, seen = load(kind).train(), []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output.past_key_values))
    model(batch_of(model))
    assert seen == [None]


def test_label_smoothing_is_that_of_transformers(load: Any) -> None:
    model = load("t5", label_smoothing=0.1)
    batch = batch_of(model)
    output = model(batch)
    theirs = LabelSmoother(epsilon=0.1)({"logits": output.logits["reply"]}, batch["labels"]["reply"])
    torch.testing.assert_close(output.loss.double(), theirs, **ROUNDED)
    plain = load("t5")(batch).loss
    assert abs(output.loss - plain) > 0.1 * plain


def test_weights_and_divisors_of_the_loss(load: Any) -> None:
    plain, weighted = load("gpt2"), load("gpt2", loss_weight=0.3)
    batch = batch_of(plain)
    output = weighted(batch, {"reply": 7})
    items = plain.num_items(batch["labels"])["reply"]
    assert int(items) == sum(len(feature["labels"]["reply"]) for feature in features(plain))
    torch.testing.assert_close(output.losses["reply"], plain(batch).loss * items / 7)
    torch.testing.assert_close(output.loss, 0.3 * output.losses["reply"])
    nothing = torch.full_like(batch["labels"]["reply"], -100)  # a stand-in
    assert plain(batch | {"labels": {"reply": nothing}}).loss == 0
    assert plain.num_items({})["reply"] == 0


class Sizes(TorchDispatchMode):
    """Numbers of elements of the fp32 tensors that are made."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dtype == torch.float32:
            self.found.append(made.numel())
        return made


def test_no_fp32_copy_of_all_logits(load: Any) -> None:
    head = load("t5").heads["reply"]
    logits = torch.randn(5, 7, 50).bfloat16().requires_grad_()
    labels = torch.randint(50, (5, 7)).masked_fill(torch.rand(5, 7) < 0.3, -100)
    with Sizes() as sizes:
        loss = head.loss(logits, labels, {})
        loss.backward()
    assert max(sizes.found) == 7 * 50
    assert loss.dtype == torch.float32
    expected = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_micro_batches_give_the_gradient_of_the_big_batch(kind: str, load: Any) -> None:
    def run(sizes: list[int]) -> tuple[dict[str, torch.Tensor], Any]:
        model = load(kind).train()
        some, optimizer = features(model), build_optimizer(model, 1e-3)
        step = TrainStep(model, optimizer, build_scheduler("linear", optimizer, 0, 9))
        step.update = lambda: None  # type: ignore[method-assign]
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        group = [collate(model, some[start : start + size]) for start, size in zip(starts, sizes, strict=True)]
        losses, samples = step(group)
        assert samples == len(PAIRS)
        return gradients(model), losses

    big, big_losses = run([6])
    largest = max(gradient.abs().max() for gradient in big.values())
    for sizes in ([3, 3], [2, 2, 1, 1], [1] * 6):
        found, losses = run(sizes)
        assert found.keys() == big.keys()
        for name, gradient in found.items():  # the loss is summed in float32
            assert (gradient - big[name]).abs().max() < 1e-5 * largest, (sizes, name)
        torch.testing.assert_close(losses, big_losses, **ROUNDED)
    model = load(kind).train()
    some = features(model)
    for part in (some[:4], some[4:]):  # means of means are something else
        (model(collate(model, part)).loss / 2).backward()
    naive = gradients(model)
    assert max((naive[name] - gradient).abs().max() for name, gradient in big.items()) > 0.01 * largest


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_fgm_moves_the_words_of_source_and_target(kind: str, load: Any) -> None:
    """Against a step by hand; the embedding is tied to the output layer, and the rows that are looked up move."""
    epsilon = 0.5
    reference = load(kind).train()
    batch = batch_of(reference)
    labels = batch["labels"]["reply"]
    pad = reference.tokenizer.pad_token_id
    known = torch.where(labels == -100, pad, labels)
    read = [known] if kind == "gpt2" else [torch.full_like(known[:, :1], pad), known[:, :-1]]
    rows = torch.cat([batch["input_ids"].flatten(), torch.cat(read, 1).flatten()]).unique()
    weight = reference.encoder.get_input_embeddings().weight
    assert weight is reference.encoder.get_output_embeddings().weight and len(rows) < len(weight)
    reference(batch).loss.backward()
    moved = weight.grad[rows]
    with torch.no_grad():
        weight[rows] += epsilon * moved / moved.norm()
    adversarial = reference(batch).loss
    adversarial.backward()

    model = load(kind).train()
    fgm = FGM(model, epsilon)
    before = model.encoder.get_input_embeddings().weight.detach().clone()
    clean = model(batch).loss
    clean.backward()
    losses = []

    def backward() -> None:
        losses.append(model(batch).loss)
        losses[0].backward()

    fgm(backward)
    assert losses[0] > clean
    torch.testing.assert_close(losses[0], adversarial, **ROUNDED)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, dict(reference.named_parameters())[name].grad, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.encoder.get_input_embeddings().weight, before)


# ---------------------------------------------------------------------------------------------------------- freezing


@pytest.mark.parametrize(("kind", "layer"), [
    ("t5", "encoder.encoder.block"), ("bart", "encoder.model.encoder.layers"), ("gpt2", "encoder.transformer.h"),
    ("llama", "encoder.model.layers"),
])  # fmt: skip
def test_frozen_are_the_embeddings_and_the_lowest_layers_of_what_reads(kind: str, layer: str, load: Any) -> None:
    model = load(kind).train()
    freeze(model.encoder, 1)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    lowest = {name for name, _ in model.named_parameters() if name.startswith(f"{layer}.0.")}
    assert lowest and lowest <= frozen
    tables = [model.get_submodule(name.rpartition(".")[0]) for name in frozen - lowest]
    assert tables and all(isinstance(table, torch.nn.Embedding) for table in tables)
    model(batch_of(model)).loss.backward()
    assert all(name in gradients(model) for name, p in model.named_parameters() if name not in frozen)
    with pytest.raises(NoEmbedding, match="frozen"):
        FGM(model)
    with pytest.raises(ModelError, match="freeze_layers: the encoder has 2 layers, not 3"):
        freeze(model.encoder, 3)
    freeze(model.encoder, -1)
    with pytest.raises(ModelError, match="freeze_layers: no trainable parameter is left"):
        build_optimizer(model, 1e-3)


# -------------------------------------------------------------------------------------------------------- generation


def by_hand(model: GenerationModel, feature: dict[str, Any], **options: Any) -> str:
    """transformers' own generate on one text without padding."""
    source = torch.tensor([feature["input_ids"]])
    ids = model.encoder.generate(input_ids=source, attention_mask=torch.ones_like(source), **options)[0].tolist()
    ids = ids[len(feature["input_ids"]) :] if model.causal else ids
    text = model.tokenizer.decode(ids, skip_special_tokens=True).strip()
    return without_spaces(text) if model.tokenizer is tokenizer_of("wordpiece") else text


@pytest.mark.parametrize(("kind", "num_beams"), [
    ("t5", 1), ("bart", 1), ("m2m_100", 1), ("gpt2", 1), ("llama", 1), ("t5", 3), ("gpt2", 3),
])  # fmt: skip
def test_a_batch_generates_what_each_text_does_alone(kind: str, num_beams: int, load: Any) -> None:
    model = load(kind, generation={"num_beams": num_beams})
    some = features(model)
    together = model.generate(collate(model, some, pad_to_multiple_of=32))
    options = {"num_beams": num_beams, "max_new_tokens": MAX_TARGET_LENGTH}
    assert together == [by_hand(model, feature, **options) for feature in some]
    known = [target for _, target in PAIRS]
    if kind in LEARNED:
        assert sum(text == target for text, target in zip(together, known, strict=True)) >= 4, together


def test_max_new_tokens_is_the_head_s_or_the_longest_target(load: Any) -> None:
    for kind in ("t5", "gpt2"):
        lengths = []
        for options in ({}, {"generation": {"max_new_tokens": 3}}):
            model = load(kind, **options)
            model.encoder.generation_config.eos_token_id = None  # never ends
            made: list[int] = []
            generate = model.encoder.generate

            def count(generate: Any = generate, made: list[int] = made, **given: Any) -> torch.Tensor:
                ids = generate(**given)
                made.append(ids.shape[1])
                return ids

            model.encoder.generate = count
            batch = batch_of(model)
            model.generate(batch)
            lengths.append(made[0] - (batch["input_ids"].shape[1] if kind == "gpt2" else 1))
        assert lengths == [MAX_TARGET_LENGTH, 3]


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_each_sub_word_passes_the_decoder_once(kind: str, load: Any) -> None:
    """Greedy where nothing is said, and with the cache of keys and values, also if the configuration says otherwise."""
    model = load(kind)
    model.encoder.generation_config.update(use_cache=False, num_beams=2, do_sample=True)
    model.encoder.generation_config.eos_token_id = None
    sizes: list[tuple[int, int]] = []
    decoder = model.encoder.get_decoder() if kind == "t5" else model.encoder.transformer
    decoder.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output[0].shape[:2])))
    batch = batch_of(model)
    model.generate(batch)
    first = batch["input_ids"].shape[1] if kind == "gpt2" else 1
    assert sizes == [(len(PAIRS), first)] + [(len(PAIRS), 1)] * (MAX_TARGET_LENGTH - 1)
    found = model.generate(batch)
    model.encoder.generation_config.update(num_beams=1, do_sample=False)
    assert found == model.generate(batch)


def test_sampled_texts_are_a_function_of_the_batch(load: Any) -> None:
    for kind in ("t5", "gpt2"):
        model = load(kind, generation={"do_sample": True, "temperature": 3.0})
        batches = [collate(model, part) for part in (features(model)[:3], features(model)[3:])]
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = [model.generate(batch) for batch in batches]
        assert torch.equal(torch.get_rng_state(), before), "nothing was drawn from torch's generator"
        torch.manual_seed(2)
        torch.rand(5)
        assert [model.generate(batch) for batch in reversed(batches)] == first[::-1], "neither seed nor order count"
        other = batches[0] | {"sample_id": batches[0]["sample_id"] + 1}
        assert model.generate(other) != first[0] != load(kind).generate(batches[0])
        stand_in = batches[0] | {"sample_id": torch.full((3,), -1)}
        assert len(model.generate(stand_in)) == 3


def test_without_targets_nothing_is_forced_and_texts_are_the_same(load: Any) -> None:
    model = load("gpt2")
    batch = batch_of(model)
    texts = model.heads["reply"].decode(None, batch)
    runs: list[int] = []
    model.encoder.transformer.register_forward_hook(lambda module, inputs, output: runs.append(output[0].shape[1]))
    bare = {name: value for name, value in batch.items() if name != "labels"} | {"labels": {}}
    output = model(bare)
    assert (output.loss, output.losses, output.logits, runs) == (None, {}, {"reply": None}, [])
    assert model.heads["reply"].decode(output.logits["reply"], bare) == texts
    assert model.heads["reply"].confidences(None, bare) == [None] * len(PAIRS)


class Batches(list[Any]):
    """A loader."""


def test_predict_generates_as_precisely_as_it_scores(load: Any) -> None:
    """In bf16 all passes are, with the cache and without; one pass more per batch for the loss, none without gold."""
    model = load("gpt2", torch.float32)
    batch = batch_of(model)
    found: list[tuple[torch.dtype, int]] = []
    head = model.encoder.get_output_embeddings()
    head.register_forward_hook(lambda module, inputs, output: found.append((output.dtype, output.shape[1])))
    result = predict(model, Batches([batch]), autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    assert {dtype for dtype, _ in found} == {torch.bfloat16}
    assert [width for _, width in found] == [batch["labels"]["reply"].shape[1] + 1] + [1] * (len(found) - 1)
    assert result.sample_ids == list(range(len(PAIRS))) and 1 < len(found) <= MAX_TARGET_LENGTH + 1
    with_gold = len(found)
    found.clear()
    predict(model, Batches([batch | {"labels": {}}]), autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    assert len(found) == with_gold - 1
    exact = predict(load("gpt2"), Batches([batch]))
    torch.testing.assert_close(exact.losses["reply"], load("gpt2")(batch).loss.item())
    assert exact.labels["reply"] == load("gpt2").generate(batch)


def test_losses_of_the_texts_add_up_to_that_of_the_batch(load: Any) -> None:
    """And a text has the same loss beside others as alone."""
    model = load("gpt2")
    batch = batch_of(model)
    result = predict(model, Batches([batch]), with_confidences=True)
    found, items = result.record_losses["reply"], model.heads["reply"].num_items(batch["labels"]["reply"]).item()
    assert sum(loss or 0 for loss in found) == pytest.approx(result.losses["reply"] * items, rel=1e-5)
    bare = batch | {"labels": {"reply": batch["labels"]["reply"].index_fill(0, torch.tensor([1]), -100)}}
    others = predict(model, Batches([bare]), with_confidences=True).record_losses["reply"]
    assert others == [None if n == 1 else pytest.approx(loss, rel=1e-5) for n, loss in enumerate(found)]


def test_a_copy_generates_with_its_own_weights(load: Any) -> None:
    model = load("gpt2")
    other = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    batch = batch_of(model)
    assert other.heads["reply"].decode(None, batch) == load("gpt2").generate(batch) != model.generate(batch)


# -------------------------------------------------------------------------------------------- spaces between characters


CHINESE = st.sampled_from("你好世界，。！“”…—·\U00020000３")
LATIN = st.sampled_from(["play", "it's", "3", "A.", "naïve", "—", "…", "가방"])


GAPS = st.lists(st.sampled_from(["", " ", "  ", "\n", "\t", "\u3000"]))


@given(parts=st.lists(CHINESE | LATIN, max_size=12), gaps=GAPS)
def test_only_spaces_are_removed_and_none_beside_a_latin_word(parts: list[str], gaps: list[str]) -> None:
    gaps = [gaps[n % len(gaps)] if gaps else "" for n in range(len(parts))]
    text = "".join(part + gap for part, gap in zip(parts, gaps, strict=True))
    found = without_spaces(text)
    assert found.replace(" ", "") == text.replace(" ", "")
    assert without_spaces(found) == found
    for n, (part, gap) in enumerate(zip(parts[:-1], gaps, strict=False)):
        if gap == " " and (part.isascii() or parts[n + 1].isascii() or "가방" in (part, parts[n + 1])):
            assert f"{part} {parts[n + 1]}" in found


def test_spaces() -> None:
    spaced = "他 说 ： “ 我 有 3 个 apple pie … … ” 再 见 — — Sam"
    assert without_spaces(spaced) == "他说：“我有 3 个 apple pie …… ”再见—— Sam"
    assert without_spaces("he said — “ no ” … and left\n\n 第 一 行\n第 二 行") == (
        "he said — “ no ” … and left\n\n 第一行\n第二行"
    )


def test_only_a_tokenizer_that_adds_spaces_has_them_removed(load: Any) -> None:
    text = "再弹 一次 hello"  # a space that was written
    for kind, expected in (("llama", "再弹一次 hello"), ("t5", text), ("gpt2", text), ("m2m_100", text)):
        model = load(kind)
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        model.encoder.generate = lambda input_ids, ids=ids, **_: torch.cat(
            [input_ids[:, : input_ids.shape[1] if model.causal else 0], torch.tensor([ids])], 1  # noqa: B023
        )
        assert model.generate(collate(model, features(model)[:1])) == [expected], kind


# --------------------------------------------------------------------------------------------------- saving, loading


@pytest.mark.parametrize("kind", ["t5", "bart", "gpt2"])
def test_saved_and_loaded_it_is_the_same(kind: str, load: Any, tmp_path: Path) -> None:
    options = {"label_smoothing": 0.1, "language": "zh", "loss_weight": 0.5, "generation": {"num_beams": 2}}
    model = load(kind, torch.float32, **options)
    model.save_pretrained(tmp_path, max_length=MAX_LENGTH)
    for place in (tmp_path, tmp_path / "encoder"):
        model.tokenizer.save_pretrained(place)
    again = saved_model(tmp_path)
    assert isinstance(again, GenerationModel) and not again.training
    batch = batch_of(model)
    assert torch.equal(again(batch).loss, model(batch).loss)
    assert torch.equal(again(batch).logits["reply"], model(batch).logits["reply"])
    texts = model.generate(batch)
    assert again.generate(batch) == texts
    assert (again.max_target_length, again.task, again.loss_weights) == (MAX_TARGET_LENGTH, "reply", {"reply": 0.5})
    assert again.heads["reply"].spec == model.heads["reply"].spec

    auto_class: Any = AutoModelForCausalLM if kind in CAUSAL else AutoModelForSeq2SeqLM
    alone, info = auto_class.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    model.encoder = alone.eval()
    assert model.generate(batch) == texts


def test_a_folder_without_some_weights_is_refused(load: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = load("gpt2", torch.float32)
    model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "encoder" / "model.safetensors"
    state = load_file(file)
    del state["transformer.h.1.mlp.c_fc.weight"]
    save_file(state, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"do not fit its config\.json: transformer\.h\.1\.mlp\.c_fc\.weight"):
        saved_model(tmp_path)
