"""model_utils/language_model.py and build.py: which models generate, what is refused, and where texts end."""

import copy
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, DistilBertConfig, DPRConfig

from model_utils.build import new_model
from model_utils.encoder import ModelError
from model_utils.generation_model import GenerationModel, build_generation_model
from model_utils.language_model import end_token, is_causal, load_language_model
from tests.tiny_generation import (
    FAMILIES,
    MAX_TARGET_LENGTH,
    PAIRS,
    TASK,
    collate,
    features,
    saved_language_model,
    tokenizer_of,
)

TOKENIZER = tokenizer_of("lossless")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Kind -> a folder of transformers."""
    steps = {"bart": 0, "m2m_100": 0, "opt": 0, "llama": 30}
    return {kind: saved_language_model(kind, tmp_path_factory.mktemp(kind), n) for kind, n in steps.items()}


def test_which_models_go_on_with_their_input(folders: dict[str, str], tmp_path: Path) -> None:
    found = {kind: is_causal(folder) for kind, folder in folders.items()}
    assert found == {"bart": False, "m2m_100": False, "opt": True, "llama": True}
    assert not is_causal("scratch:small") and is_causal("scratch:gpt-small")
    BertConfig(is_decoder=True).save_pretrained(tmp_path)
    assert is_causal(str(tmp_path)), "a BERT that sees what is before it only"
    (tmp_path / "best" / "encoder").mkdir(parents=True)
    (tmp_path / "best" / "labels.json").write_text("{}")
    shutil.copy(Path(folders["opt"], "config.json"), tmp_path / "best" / "encoder")
    assert is_causal(str(tmp_path / "best")), "a model that we saved"


@pytest.mark.parametrize("config", [BertConfig(), DistilBertConfig(), DPRConfig()], ids=lambda c: c.model_type)
def test_an_encoder_does_not_generate(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"{config.model_type}.*reads texts and writes none; text_generation needs"):
        new_model(str(tmp_path), [TASK], TOKENIZER, 16)


def test_a_bert_would_see_the_words_that_it_should_predict() -> None:
    """The reason for the refusal above: transformers loads it as a causal model, and it is none."""
    model = BertLMHeadModel(BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).eval()
    first, second = (model(input_ids=torch.tensor([[5, 6, last]])).logits[0, 0] for last in (7, 8))
    assert not torch.allclose(first, second)


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"{re.escape(str(tmp_path))} has no configuration that can be read: "):
        load_language_model(str(tmp_path), TOKENIZER)


@pytest.mark.parametrize(("kind", "lengths", "message"), [
    ("opt", (40, 24), None), ("opt", (41, 24), "has 64 positions for input and target together, not 41 + 24"),
    ("bart", (64, 64), None), ("bart", (65, 8), "has 64 positions for the input and as many for the target, not 65"),
    ("bart", (8, 65), "has 64 positions for the input and as many for the target, not 8 and 65"),
])  # fmt: skip
def test_models_with_too_few_positions(
    kind: str, lengths: tuple[int, int], message: str | None, folders: dict[str, str]
) -> None:
    """What is accepted runs, and one position more does not; the head's own max_new_tokens counts, too."""
    tokenizer = tokenizer_of(FAMILIES[kind])
    if message:
        with pytest.raises(ModelError, match=f"^max_length: .*{re.escape(message)}"):
            load_language_model(folders[kind], tokenizer, *lengths)
        task = TASK | {"generation": {"max_new_tokens": lengths[1]}}
        with pytest.raises(ModelError, match=f"^max_length: .*{re.escape(message)}"):
            new_model(folders[kind], [task], tokenizer, lengths[0], max_target_length=1)
        return
    model = load_language_model(folders[kind], tokenizer, *lengths)
    for more, fits in ((0, True), (1, False)):
        ids = torch.full((1, sum(lengths) + more if kind == "opt" else lengths[0] + more), 5)
        others = {} if kind == "opt" else {"decoder_input_ids": ids}
        try:
            model(input_ids=ids, attention_mask=torch.ones_like(ids), **others)
            ran = True
        except IndexError:
            ran = False
        assert ran == fits


def test_models_from_scratch_have_the_positions_that_are_needed() -> None:
    model: Any = new_model("scratch:gpt-tiny", [TASK], TOKENIZER, 600, max_target_length=100)
    assert model.encoder.config.n_positions == 700 and model.causal
    model = new_model("scratch:tiny", [TASK], TOKENIZER, 600, max_target_length=100)
    assert not model.causal and isinstance(model, GenerationModel)
    assert model.encoder.generation_config.decoder_start_token_id == end_token(TOKENIZER)
    assert model.encoder.config.max_position_embeddings == 600


def test_texts_end_where_targets_do_whatever_the_configuration_says(
    folders: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Some models name an end token that their tokenizer has not, or has as a word, and a greatest length."""
    logging.getLogger("transformers").addHandler(caplog.handler)
    tokenizer = tokenizer_of("wordpiece")
    right = build_generation_model(folders["llama"], tokenizer, TASK, 0, MAX_TARGET_LENGTH).eval()
    batch = collate(right, features(right))
    texts = right.generate(batch)
    assert texts == [target for _, target in PAIRS]
    for end in (50256, tokenizer.convert_tokens_to_ids("好"), [4, 5]):
        folder = shutil.copytree(folders["llama"], tmp_path / str(end))
        for name, more in (("config.json", {}), ("generation_config.json", {"max_length": 4})):
            content = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(content | {"eos_token_id": end, "pad_token_id": 7} | more))
        model = build_generation_model(str(folder), tokenizer, TASK, 0, MAX_TARGET_LENGTH).eval()
        caplog.clear()
        assert model.generate(batch) == texts
        assert caplog.messages == [], "a warning for each batch"
    logging.getLogger("transformers").removeHandler(caplog.handler)


def test_embeddings_grow_with_the_tokenizer(folders: dict[str, str]) -> None:
    tokenizer = tokenizer_of(FAMILIES["opt"])
    before = load_language_model(folders["opt"], tokenizer)
    assert before.get_input_embeddings().num_embeddings == len(tokenizer)
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["<a>", "<b>"])
    after = load_language_model(folders["opt"], grown)
    assert after.get_input_embeddings().num_embeddings == len(tokenizer) + 2
    ids = torch.tensor([[5, 6, 7]])
    logits = [model.eval()(input_ids=ids).logits[..., : len(tokenizer)] for model in (before, after)]
    torch.testing.assert_close(*logits)


@pytest.mark.parametrize(("options", "message"), [
    ({"generation": {"num_beam": 2}}, "generation: there is no option 'num_beam'"),
    ({"generation": {"max_length": 9}}, "generation: there is no option 'max_length'; for example max_new_tokens"),
    ({"generation": {"num_beams": 2, "num_return_sequences": 2}}, "generation: there is no option 'num_return_seq"),
    ({"generation": {"top_p": 0.5}}, "generation: `top_p`: `do_sample` is not set to `True`"),
    ({"generation": {"max_new_tokens": 0}}, "generation: `max_new_tokens` must be greater than 0"),
    ({"generation": {"max_new_tokens": "9"}}, "generation: '<=' not supported between instances of 'str' and 'int'"),
    ({"generation": "greedy"}, "text_generation: "),
    ({"language": "fr"}, "text_generation: unknown language 'fr'; there are en, zh"),
    ({"beams": 2}, "text_generation has no option 'beams'; it takes language, label_smoothing, generation"),
    ({"name": "keys"}, "tasks: torch itself needs the name 'keys'"),
])  # fmt: skip
def test_wrong_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        new_model("scratch:tiny", [TASK | options], TOKENIZER, 16)


@pytest.mark.parametrize(("options", "message"), [
    ({"shared_layers": 1}, "shared_layers: not for reply, which generates texts"),
    ({"uncertainty": True}, "loss_weighting: not for reply, which generates texts"),
])  # fmt: skip
def test_what_belongs_to_encoders_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        new_model("scratch:tiny", [TASK], TOKENIZER, 16, **options)


def test_no_other_task_beside_it() -> None:
    other = {"name": "topic", "kind": "sequence_classification", "labels": ["a", "b"]}
    with pytest.raises(ModelError, match=r"^tasks: reply generates texts and needs a model of its own, without other"):
        new_model("scratch:tiny", [other, TASK], TOKENIZER, 16)
    with pytest.raises(ModelError, match="scratch:gpt-tiny only generates texts"):
        new_model("scratch:gpt-tiny", [other], TOKENIZER, 16)
