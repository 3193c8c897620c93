"""The data of text generation: prompts, targets, left padding, and a tokenizer that loses nothing."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AutoTokenizer, GPT2Config, T5Config

from data_loader.collate import Collator, blank
from data_process.build import build_tokenizer, read_data
from data_process.encode import RecordEncoder, TargetEncoder
from data_process.errors import DataError
from data_process.inputs import Source
from data_process.lossless_tokenizer import train_lossless_tokenizer
from data_process.schema import LabelColumn, Schema
from tests.tiny_generation import TEXTS, tokenizer_of

ROOT = Path(__file__).resolve().parents[1]
KINDS = ["wordpiece", "unigram", "bytes", "lossless"]
REPLY = (LabelColumn("reply", "target", "text"),)


def source_of(kind: str, prompt: str = "{text}", max_length: int = 100) -> Source:
    return Source(tokenizer_of(kind), Schema("source", None, REPLY, prompt=prompt), max_length)


def texts_of(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)


# ------------------------------------------------------------------------------------------------- what the model reads


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["{text}", "reply to: {text} ->", "你好 {text}"])
def test_a_prompt_that_fits_is_read_as_one_text(kind: str, prompt: str) -> None:
    tokenizer = tokenizer_of(kind)
    for text in [*TEXTS, ["hello", "world"]]:
        [feature] = source_of(kind, prompt)([{"source": text}])
        plain = text if isinstance(text, str) else " ".join(text)
        assert feature["input_ids"] == tokenizer(prompt.replace("{text}", plain))["input_ids"]
        assert feature["truncated"] is False and "row_lengths" not in feature


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_prompt_only_the_text_is_cut(kind: str) -> None:
    """Its last sub-words go, one by one, and all that stands before and behind stays."""
    tokenizer = tokenizer_of(kind)
    prompt, text = "play {text} 再弹 weather", "what is the weather in paris my friend"
    whole = tokenizer(prompt.replace("{text}", text))["input_ids"]
    ends = [texts_of(tokenizer, whole[n:]).replace(" ", "") for n in range(len(whole))]
    first = ends.index("再弹weather")  # the first sub-word behind the text
    least = len(tokenizer(prompt.replace("{text}", ""))["input_ids"]) + 1
    for length in range(least, len(whole) + 1):
        [feature] = source_of(kind, prompt, length)([{"source": text}])
        lost = len(whole) - length
        assert feature["input_ids"] == whole[: first - lost] + whole[first:]
        assert feature["truncated"] == (lost > 0)
    with pytest.raises(DataError, match=f"max_length: must be at least {least}: special tokens, those of the prompt"):
        source_of(kind, prompt, least - 1)


def test_windows_are_refused() -> None:
    with pytest.raises(DataError, match="stride: must be 0: only single texts"):
        Source(tokenizer_of("unigram"), Schema("source", None, REPLY), 20, stride=3)


# ------------------------------------------------------------------------------------------------ what the model writes


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_targets_end_once(kind: str, causal: bool) -> None:
    """Encoder-decoder models get what the tokenizer makes of a target; causal ones the bare text and the end."""
    tokenizer = tokenizer_of(kind)
    end = tokenizer.sep_token_id if kind == "wordpiece" else tokenizer.eos_token_id
    encoder = TargetEncoder(tokenizer, 100, with_special=not causal)
    for text in TEXTS:
        bare = tokenizer(text, add_special_tokens=False)["input_ids"]
        expected = [tokenizer.cls_token_id, *bare, end] if kind == "wordpiece" and not causal else [*bare, end]
        assert encoder.encode(text) == expected
        if not causal and kind != "bytes":
            assert expected == tokenizer(text_target=text)["input_ids"]
        for length in range(len(expected) - len(bare) + 1, len(expected) + 2):
            short = TargetEncoder(tokenizer, length, with_special=not causal).encode(text)
            head = expected[: len(expected) - 1 - max(0, len(expected) - length)]
            assert short == [*head, end]


def test_special_tokens_behind_the_end_stay_in_place() -> None:
    """As mBART's, whose targets end with the end token and the language."""
    tokenizer = copy.deepcopy(tokenizer_of("unigram"))
    tokenizer.add_special_tokens({"extra_special_tokens": ["en_XX"]})
    language = tokenizer.convert_tokens_to_ids("en_XX")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s> en_XX", special_tokens=[("</s>", 1), ("en_XX", language)]
    )
    bare = tokenizer("hello world", add_special_tokens=False)["input_ids"]
    assert TargetEncoder(tokenizer, 100, True).encode("hello world") == [*bare, 1, language]
    assert TargetEncoder(tokenizer, 5, True).encode("hello world") == [*bare[:3], 1, language]
    assert TargetEncoder(tokenizer, 5, False).encode("hello world") == [*bare[:4], 1]


def test_what_is_refused() -> None:
    tokenizer = copy.deepcopy(tokenizer_of("unigram"))
    for special in (True, False):
        with pytest.raises(DataError, match="max_target_length: must be at least 2: special tokens and a sub-word"):
            TargetEncoder(tokenizer, 1, special)
    with pytest.raises(DataError, match="max_target_length: must be at least 3"):
        TargetEncoder(tokenizer_of("wordpiece"), 2, True)
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="the tokenizer has neither eos_token nor sep_token"):
        TargetEncoder(tokenizer, 100, True)


def test_settings_of_the_cache_tell_encodings_apart() -> None:
    settings_ = [
        TargetEncoder(tokenizer_of("wordpiece"), length, special).settings
        for length, special in ((9, True), (9, False), (8, True), (8, False))
    ]
    assert len({json.dumps(one) for one in settings_}) == 4


def test_records_without_a_target_have_none() -> None:
    tokenizer = tokenizer_of("unigram")
    encoder = RecordEncoder(tokenizer, Schema("source", None, REPLY), {"reply": TargetEncoder(tokenizer, 9, True)}, 9)
    found = encoder([(4, {"source": "hello"}), (5, {"source": "hello", "target": " world\n"})])
    assert [feature["labels"] for feature in found] == [{}, {"reply": tokenizer("world")["input_ids"]}]
    assert encoder.schema.gold({"source": "a", "target": " world\n"}) == {"reply": "world"}


# ---------------------------------------------------------------------------------------------------------- padding

FEATURES = st.lists(
    st.fixed_dictionaries({
        "input_ids": st.lists(st.integers(1, 99), min_size=1, max_size=9),
        "label": st.none() | st.lists(st.integers(1, 99), min_size=1, max_size=9),
    }), min_size=1, max_size=5,
)  # fmt: skip


@given(rows=FEATURES, multiple=st.sampled_from([1, 4]), side=st.sampled_from(["left", "right"]))
def test_a_batch_against_a_loop(rows: list[dict[str, Any]], multiple: int, side: str) -> None:
    """Sources are padded on the side that is asked for, targets always behind."""
    some: list[dict[str, Any]] = [
        {"sample_id": n, "input_ids": row["input_ids"], "token_type_ids": [n % 2] * len(row["input_ids"]),
         "labels": {"reply": row["label"]}} for n, row in enumerate(rows)
    ]  # fmt: skip
    batch = Collator(0, {"reply": "text"}, multiple, side)(some)
    width = batch["input_ids"].shape[1]
    longest = max(len(row["input_ids"]) for row in rows)
    assert width == -(-longest // multiple) * multiple
    for n, row in enumerate(rows):
        pads = width - len(row["input_ids"])
        first = pads if side == "left" else 0
        for place in range(width):
            inside = first <= place < first + len(row["input_ids"])
            assert batch["input_ids"][n, place] == (row["input_ids"][place - first] if inside else 0)
            assert batch["attention_mask"][n, place] == inside
            assert batch["token_type_ids"][n, place] == (n % 2 if inside else 0)
    targets = [row["label"] or [] for row in rows]
    if all(row["label"] is None for row in rows):
        assert batch["labels"] == {}
        return
    most = max(map(len, targets))
    expected = [target + [-100] * (most - len(target)) for target in targets]
    assert batch["labels"]["reply"].tolist() == expected and batch["labels"]["reply"].dtype == torch.int64
    stand_in = Collator(0, {"reply": "text"}, multiple, side)([*some, blank(some[0])])
    assert stand_in["sample_id"][-1] == -1 and (stand_in["labels"]["reply"][-1] == -100).all()
    assert torch.equal(stand_in["input_ids"][-1], stand_in["input_ids"][0])


# --------------------------------------------------------------------------------------- a tokenizer that loses nothing

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=20)
PIECES = st.lists(st.sampled_from([*TEXTS, "  ", "\n", "It's ", "“", "Ω", "😀", "<", "0x41>"])).map("".join)


@settings(max_examples=200)
@given(text=ANY_TEXT | PIECES)
def test_every_text_comes_back(text: str) -> None:
    tokenizer = tokenizer_of("lossless")
    ids = tokenizer(text)["input_ids"]
    assert texts_of(tokenizer, ids) == text.replace("</s>", "").replace("<pad>", "")
    assert ids[-1] == tokenizer.eos_token_id


def test_its_vocabulary() -> None:
    texts = ["Play it again, Sam.", "play again", "再弹一次，再弹"] * 5
    tokenizer = train_lossless_tokenizer(texts, 285)
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    assert names[:4] == ["<pad>", "</s>", "<0x00>", "<0x01>"] and names[257] == "<0xFF>" and len(names) == 285
    characters = set("".join(texts)) - {" "}
    assert characters <= set(names) and not any(len(name) > 1 and "再" in name for name in names[258:])
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
    assert tokenizer.unk_token is tokenizer.sep_token is None
    assert tokenizer.tokenize("再弹 again,") == ["再", "弹", "▁again", ","]
    small = train_lossless_tokenizer(texts, 10)
    assert len(small) == 258 + len(characters | {"▁"}), "all characters, however few entries were asked for"
    assert texts_of(train_lossless_tokenizer([], 300), small("")["input_ids"]) == ""


@pytest.mark.parametrize("config", [None, T5Config(), GPT2Config()], ids=["alone", "t5", "gpt2"])
def test_saved_and_loaded_it_is_the_same(config: Any, tmp_path: Path) -> None:
    tokenizer = tokenizer_of("lossless")
    tokenizer.save_pretrained(tmp_path)
    if config:
        config.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert dict(loaded("It's 再弹 Ω")) == dict(tokenizer("It's 再弹 Ω"))
    assert texts_of(loaded, loaded("It's  再弹 Ω")["input_ids"]) == "It's  再弹 Ω"
    assert (loaded.pad_token_id, loaded.eos_token_id, len(loaded)) == (0, 1, len(tokenizer))


def test_every_process_trains_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import hashlib; from data_process.lossless_tokenizer import train_lossless_tokenizer as train;"
        "from data_process.sample_data import generate;"
        "texts = [' '.join(record['tokens']) for record in generate(200)];"
        "print(hashlib.sha256(train(texts, 700).backend_tokenizer.to_str().encode()).hexdigest())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    exec(code, {})
    assert capsys.readouterr().out == other and len(other) == 65


def test_text_generation_trains_it_on_sources_and_targets(tmp_path: Path) -> None:
    records = [{"source": "Übung", "target": "再弹"}, {"source": "Ωmega", "target": "BIG"}]
    file = tmp_path / "train.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    data = read_data({"train": str(file)}, REPLY, text_column="source", cache_dir=tmp_path / "cache")
    tokenizer = build_tokenizer([data], None, 400)
    assert set("ÜbungΩme再弹BIG") <= tokenizer.get_vocab().keys()
    data.set_encoder(tokenizer, 16, max_target_length=8)
    figures = data.figures("train")
    assert (figures["records"], figures["unknown_token_share"]) == (2, 0.0)
    assert texts_of(tokenizer, data.rows("train")[1]["labels"]["reply"]) == "BIG"
