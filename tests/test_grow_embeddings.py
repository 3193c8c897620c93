"""model_utils/grow_embeddings.py: new rows are means, and nothing else of the model changes."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from model_utils.encoder import ModelError
from model_utils.grow_embeddings import grow_embeddings, load_whole

VOCABULARY, PIECES = 20, {20: [3, 4], 21: [5, 6, 7], 22: [5, 5, 19]}
BERT = {"vocab_size": VOCABULARY, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 8, "max_position_embeddings": 16, "pad_token_id": 0}  # fmt: skip
END = {"bos_token_id": 1, "eos_token_id": 2}
BART = END | {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "pad_token_id": 0,
              "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "forced_eos_token_id": None,
              "decoder_start_token_id": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 16}  # fmt: skip
MODELS: dict[str, Any] = {
    "encoder": lambda: BertModel(BertConfig(**BERT)),
    "classifier": lambda: BertForTokenClassification(BertConfig(**BERT)),
    "masked, tied": lambda: BertForMaskedLM(BertConfig(**BERT)),
    "masked, untied": lambda: BertForMaskedLM(BertConfig(**BERT, tie_word_embeddings=False)),
    "masked, and next sentence": lambda: BertForPreTraining(BertConfig(**BERT)),
    "masked, another bias": lambda: RobertaForMaskedLM(RobertaConfig(**BERT)),
    "causal, tied": lambda: GPT2LMHeadModel(GPT2Config(
        vocab_size=VOCABULARY, n_positions=16, n_embd=8, n_layer=1, n_head=2, **END)),
    "causal, untied": lambda: LlamaForCausalLM(LlamaConfig(**BERT | END, tie_word_embeddings=False)),
    "encoder-decoder": lambda: T5ForConditionalGeneration(T5Config(
        vocab_size=VOCABULARY, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)),
    "encoder-decoder, shared": lambda: BartForConditionalGeneration(BartConfig(**BART)),
}  # fmt: skip


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()  # they begin as zeros
    return model


def parameters(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters(remove_duplicate=False))


@torch.no_grad()
def outputs(model: Any, ids: list[int]) -> tuple[torch.Tensor, ...]:
    inputs = {"decoder_input_ids": torch.tensor([[1, 2]])} if model.config.is_encoder_decoder else {}
    found = model(input_ids=torch.tensor([ids]), **inputs, output_hidden_states=True)
    hidden = found.get("hidden_states") or found["decoder_hidden_states"] + found["encoder_hidden_states"]
    return *hidden, *([found.logits] if "logits" in found else [])


@pytest.mark.parametrize("kind", MODELS)
def test_new_rows_are_means_and_all_else_is_as_it_was(kind: str) -> None:
    old = model_of(kind)
    new = copy.deepcopy(old)
    grow_embeddings(new, PIECES)
    before, after = parameters(old), parameters(new)
    assert before.keys() == after.keys()
    grown = {name for name in before if before[name].shape != after[name].shape}
    if kind == "masked, untied":
        grown.remove("cls.predictions.bias")  # it is there, and not used
        del before["cls.predictions.bias"]
    for name, value in before.items():
        assert torch.equal(after[name][: len(value)], value), name
        if name in grown:
            assert after[name].shape == (23, *value.shape[1:])
            assert torch.equal(after[name][20:], torch.stack([value[ids].mean(0) for ids in PIECES.values()]))
    tables = [new.get_input_embeddings(), *([new.get_output_embeddings()] if new.get_output_embeddings() else [])]
    assert all(table.weight.shape == (23, 8) for table in tables) and grown
    assert (tables[0].weight is tables[-1].weight) == (old.get_input_embeddings().weight is (
        old.get_output_embeddings() or old.get_input_embeddings()).weight)  # fmt: skip
    assert new.config.vocab_size == 23 and tables[0].padding_idx == old.get_input_embeddings().padding_idx


@pytest.mark.parametrize("kind", MODELS)
def test_texts_without_new_words_have_the_same_hidden_states_and_scores(kind: str) -> None:
    new, ids = model_of(kind), [1, 3, 4, 5, 19, 2]
    before = outputs(new, ids)
    grow_embeddings(new, PIECES)
    after = outputs(new, ids)
    for a, b in zip(before[:-1], after[:-1], strict=True):
        assert torch.equal(a, b)
    scores, old_scores = after[-1], before[-1]
    if scores.shape[-1] == 23:  # the matrix product of another size is rounded in another way
        torch.testing.assert_close(scores[..., :20], old_scores, rtol=0, atol=1e-6)
        means = torch.stack([old_scores[..., ids].mean(-1) for ids in PIECES.values()], -1)
        torch.testing.assert_close(scores[..., 20:], means, rtol=0, atol=1e-5)
    else:
        assert torch.equal(scores, old_scores)


@pytest.mark.parametrize("kind", MODELS)
def test_saved_and_loaded_it_is_the_same_class_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    old = model_of(kind)
    old.save_pretrained(tmp_path / "old")
    new = load_whole(str(tmp_path / "old"))
    assert type(new) is type(old) and all(torch.equal(v, parameters(old)[n]) for n, v in parameters(new).items())
    grow_embeddings(new, PIECES)
    new.save_pretrained(tmp_path / "new")
    loaded = load_whole(str(tmp_path / "new"))
    assert all(torch.equal(value, parameters(new)[name]) for name, value in parameters(loaded).items())


def test_a_table_with_rows_to_spare_keeps_its_size() -> None:
    old = model_of("masked, untied")
    new = copy.deepcopy(old)
    grow_embeddings(new, {18: [3, 4]})
    weight = old.get_input_embeddings().weight
    assert torch.equal(new.get_input_embeddings().weight[18], weight[[3, 4]].mean(0))
    assert torch.equal(new.get_input_embeddings().weight[19], weight[19]) and new.config.vocab_size == 20


def test_a_table_that_is_too_short_for_the_old_tokenizer_is_refused() -> None:
    with pytest.raises(ModelError, match="20 embeddings for 21 sub-words of the tokenizer"):
        grow_embeddings(model_of("encoder"), {21: [3, 4]})


def test_half_precision_becomes_fp32(tmp_path: Path) -> None:
    model_of("encoder").to(torch.bfloat16).save_pretrained(tmp_path)
    assert {value.dtype for value in load_whole(str(tmp_path)).parameters()} == {torch.float32}


def test_models_that_cannot_be_loaded_whole_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no configuration that can be read"):
        load_whole(str(tmp_path))
    model_of("encoder").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name, message in (("MyBert", "is a MyBert, which transformers does not have"),
                          ("BertForMaskedLM", "weights in .* do not fit its config.json")):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": [name]}))
        with pytest.raises(ModelError, match=message):
            load_whole(str(tmp_path))
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert type(load_whole(str(tmp_path))) is BertModel
