"""From files to encoded parts: build_data, tokenizers, prediction files, and what README.md promises."""

import json
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import data_process
from data_process import sample_data, sources
from data_process.build import Data, build_data
from data_process.checks import scan
from data_process.errors import DataError
from data_process.predictions import write_predictions
from data_process.readers import read_records
from data_process.schema import LabelColumn, Schema
from data_process.tokenizer import load_tokenizer, train_tokenizer
from tests.texts import TEXTS

ROOM = Path(data_process.__file__).parent
README = (ROOM / "README.md").read_text(encoding="utf-8")
LEVELS = {"intent": "sequence", "slots": "word"}


def joint_tasks(**options: Any) -> list[dict[str, Any]]:
    return [{"name": "intent", "label_column": "intent"} | options, {"name": "slots", "label_column": "tags"}]


def build(files: dict[str, str], tmp_path: Path, tasks: Any = None, **options: Any) -> Data:
    defaults: dict[str, Any] = {"text_column": "tokens", "cache_dir": tmp_path / "cache", "vocab_size": 300}
    return build_data(files, joint_tasks() if tasks is None else tasks, LEVELS, **defaults | options)


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return str(path)


def sample(path: Path, number: int = 200, seed: int = 0, **columns: Any) -> str:
    return write(path, [record | columns for record in sample_data.generate(number, seed)])


# build


def test_parts_rows_labels_and_figures(tmp_path: Path) -> None:
    tasks = joint_tasks()
    files = {"train": sample(tmp_path / "train.jsonl"), "test": sample(tmp_path / "test.jsonl", 30, seed=1)}
    data = build(files, tmp_path, tasks, shares={"eval": 0.2}, seed=7)
    records = {part: [record for _, record in read_records(file)] for part, file in files.items()}
    assert {part: len(numbers) for part, numbers in data.indices.items()} == {"train": 160, "eval": 40}
    assert data.sources == {"train": files["train"], "eval": files["train"], "test": files["test"]}
    assert data.rows("eval") is data.rows("train")
    entities = sorted({tag[2:] for record in records["train"] for tag in record["tags"] if tag != "O"})
    assert tasks[0]["labels"] == sorted({record["intent"] for record in records["train"]})
    assert tasks[1]["labels"] == ["O", *(f"{p}-{entity}" for entity in entities for p in "BI")]

    for part, number in (("eval", 40), ("train", 160), ("test", 30)):
        rows = data.rows(part)
        numbers = data.indices.get(part, range(30))
        own = [records["test" if part == "test" else "train"][i] for i in numbers]
        assert rows["sample_id"][:] == list(range(len(rows)))
        gold = data.references(rows)(numbers)
        assert gold == {"intent": [r["intent"] for r in own], "slots": [r["tags"] for r in own]}
        lengths = [len(rows[i]["input_ids"]) for i in numbers]
        figures = data.figures(part)
        assert figures["records"] == number
        assert (figures["tokens"], figures["max_tokens"]) == (sum(lengths), max(lengths))
        assert figures["labels"] == {
            "intent": Counter(record["intent"] for record in own),
            "slots": Counter(tag for record in own for tag in record["tags"]),
        }
        assert list(figures["labels"]["slots"].values()) == sorted(figures["labels"]["slots"].values(), reverse=True)
        json.dumps(figures)


def test_the_tokenizer_sees_training_texts_only(tmp_path: Path) -> None:
    words = [f"{chr(97 + i)}{chr(97 + j)}" for i in range(10) for j in range(10)]
    records = [{"tokens": [word, word], "tags": "O O", "intent": "x"} for word in words]
    data = build({"train": write(tmp_path / "train.jsonl", records)}, tmp_path, shares={"eval": 0.3}, vocab_size=500)
    known = set(data.tokenizer.get_vocab())
    assert [i for i, word in enumerate(words) if word in known] == data.indices["train"]
    limited = build({"train": write(tmp_path / "train.jsonl", records)}, tmp_path, limit=8, vocab_size=500)
    assert [word for word in words if word in limited.tokenizer.get_vocab()] == words[:8]
    assert len(limited.rows("train")) == 8


def test_records_behind_the_limit_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    sample(path, 10)
    path.write_text(path.read_text(encoding="utf-8") + '{"wrong": 1}\n', encoding="utf-8")
    data = build({"train": str(path)}, tmp_path, limit=10, shares={"eval": 0.2})
    assert (data.figures("train")["records"], data.figures("eval")["records"]) == (8, 2)
    with pytest.raises(DataError, match=r"train.jsonl:11: tokens: no such column; this record has 'wrong'$"):
        build({"train": str(path)}, tmp_path)


def test_pairs_of_strings_and_mixed_texts(tmp_path: Path) -> None:
    records = [{"a": "play the", "b": ["wake", "me"], "y": 1}, {"a": ["wake", "me"], "b": "at", "y": 0}]
    tasks = [{"name": "same", "label_column": "y"}]
    data = build_data({"train": write(tmp_path / "t.jsonl", records)}, tasks, {"same": "sequence"}, text_column="a",
                      text_pair_column="b", cache_dir=tmp_path / "cache")  # fmt: skip
    assert tasks[0]["labels"] == ["0", "1"]
    for row, (a, b) in zip(data.rows("train"), [("play the", "wake me"), ("wake me", "at")], strict=True):
        expected = data.tokenizer(a, b)
        assert row["input_ids"] == expected["input_ids"]
        assert row["token_type_ids"] == expected["token_type_ids"]
    assert [row["labels"]["same"] for row in data.rows("train")] == [1, 0]


def test_given_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = [{"tokens": "play", "tags": "O", "intent": number} for number in (2, 0, 5, 0)]
    file = write(tmp_path / "t.jsonl", records)
    tasks = joint_tasks(labels=[2, 1, 0])
    with caplog.at_level(logging.WARNING):
        data = build({"train": file}, tmp_path, tasks)
    assert tasks[0]["labels"] == ["2", "1", "0"]
    assert [row["labels"]["intent"] for row in data.rows("train")] == [0, 2, -100, 2]
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: intent: not among the trained labels, so they count as missed: 5"
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("ab", "arguments: tasks: labels of intent must be a list, found 'ab'"),
        ([True, "no"], "arguments: tasks: labels of intent: True must be a string or an integer; put it in quotes"),
        ([1.5], "arguments: tasks: labels of intent: 1.5 must be a string or an integer; put it in quotes"),
        (["a", 1, "1"], "arguments: tasks: labels of intent: label names must differ: ['a', '1', '1']"),
    ],
)
def test_wrong_given_labels(labels: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        build({"train": sample(tmp_path / "t.jsonl", 9)}, tmp_path, joint_tasks(labels=labels))
    assert str(error.value) == message


@pytest.mark.parametrize("options", [{}, {"shares": {"eval": 0.1}, "tokenizer_path": "x"}, {"tokenizer_path": "x"}])
def test_without_training_data_there_is_nothing_to_learn_from(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^arguments: train_file: needed to learn labels, splits or a tokenizer from$"):
        build({"eval": sample(tmp_path / "t.jsonl", 9)}, tmp_path, **options)


def test_an_impossible_split_names_the_file(tmp_path: Path) -> None:
    file = sample(tmp_path / "t.jsonl", 4)
    with pytest.raises(DataError) as error:
        build({"train": file}, tmp_path, shares={"eval": 0.1})
    assert str(error.value) == f"{file}: a share of 0.1 of 4 records leaves eval or train empty"


def test_gold_is_needed_but_for_prediction(tmp_path: Path) -> None:
    train = sample(tmp_path / "train.jsonl")
    bare = write(tmp_path / "bare.jsonl", [{"tokens": ["play", "it"]}, {"tokens": "wake me", "intent": None}])
    data = build({"train": train, "predict": bare}, tmp_path)
    assert data.references(data.rows("predict"))([0, 1]) == {"intent": [None, None], "slots": [None, None]}
    assert data.figures("predict")["labels"] == {"intent": {}, "slots": {}}
    with pytest.raises(DataError, match=r"bare.jsonl:1: intent: no such column; this record has 'tokens'$"):
        build({"train": train, "eval": bare}, tmp_path)


def test_nothing_is_written_before_rows_are_asked_for(tmp_path: Path) -> None:
    data = build({"train": sample(tmp_path / "t.jsonl", 9)}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]
    data.rows("train")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "t.jsonl"]


def test_a_change_of_the_sample_corpus_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_data, "generate", lambda: [{"tokens": ["play"], "tags": ["O"], "intent": "x"}])
    copy = tmp_path / "sample_data.py"
    copy.write_text("old")
    monkeypatch.setattr(sources.sample_data, "__file__", str(copy))
    for content in ("old", "old", "new"):
        copy.write_text(content)
        build({"train": "sample:joint"}, tmp_path).rows("train")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_another_process_builds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ranks do: each learns labels, split and tokenizer by itself, and takes the features from one cache."""
    code = """
import json, sys
from data_process.build import build_data
tasks = [{"name": "intent", "label_column": "intent"}, {"name": "slots", "label_column": "tags"}]
data = build_data({"train": "train.jsonl"}, tasks, {"intent": "sequence", "slots": "word"}, text_column="tokens",
                  shares={"eval": 0.1}, vocab_size=1000, cache_dir="cache")
data.rows("train")
state = json.loads(data.tokenizer.backend_tokenizer.to_str())
print(json.dumps([state["model"]["vocab"], data.indices, tasks]))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOM.parent), "PYTHONHASHSEED": "7", "TQDM_DISABLE": "1"}
    sample(tmp_path / "train.jsonl", 1000)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    exec(code, {})
    assert capsys.readouterr().out == other
    assert len(json.loads(other)[0]) == 1000
    assert len(list((tmp_path / "cache").iterdir())) == 1


# trained tokenizers


def test_a_trained_tokenizer(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([*TEXTS, *["Café PLAY 长沙 [UNK] ##x"] * 9], vocab_size=200)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    special = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id]
    assert [*special, tokenizer.mask_token_id] == [0, 1, 2, 3, 4]
    assert len(tokenizer) == 95  # nothing else occurs twice
    assert sorted(tokenizer.get_vocab().values()) == list(range(95))
    assert (len(train_tokenizer(TEXTS, vocab_size=70)), tokenizer.model_max_length) == (70, 512)
    assert tokenizer.tokenize("播放café") == ["播", "放", "cafe"]
    assert tokenizer.tokenize("PLAY yesterday") == tokenizer.tokenize("play yesterday") == ["play", "yesterday"]
    assert tokenizer.tokenize("plays §") == ["play", "##s", "[UNK]"]
    pair = tokenizer("play", "yesterday")
    assert tokenizer.convert_ids_to_tokens(pair["input_ids"]) == ["[CLS]", "play", "[SEP]", "yesterday", "[SEP]"]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]
    assert tokenizer.decode(tokenizer("plays")["input_ids"], skip_special_tokens=True) == "plays"


def test_more_characters_than_entries() -> None:
    tokenizer = train_tokenizer(["abc abd"] * 2, vocab_size=3)
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    others = {"##b": 5, "##c": 6, "##d": 7, "a": 8, "b": 9, "c": 10, "d": 11}
    assert tokenizer.get_vocab() == special | others
    assert train_tokenizer([], vocab_size=10).get_vocab() == special


@pytest.mark.parametrize("config", [None, {"model_type": "bert", "vocab_size": 150}])
def test_saved_and_loaded_it_encodes_the_same(tmp_path: Path, config: dict[str, Any] | None) -> None:
    """Alone, and beside the configuration of a model, which makes AutoTokenizer think of another class."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=150)
    tokenizer.save_pretrained(tmp_path)
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    words = ["Play", "café", "播放", "\u200b", "[UNK]", "xyzzy", "7"]
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(str(tmp_path), in_words=True)):
        assert loaded.get_vocab() == tokenizer.get_vocab()
        for arguments in (("play 播放 it",), ("play", "Yesterday 的"), (words, words)):
            options = {"is_split_into_words": arguments[0] is words, "truncation": True, "max_length": 12}
            assert dict(loaded(*arguments, **options)) == dict(tokenizer(*arguments, **options))
        assert loaded.model_max_length == 512


# loaded tokenizers


def save(folder: Path, tokenizer: Any = None) -> None:
    (tokenizer or train_tokenizer(TEXTS, vocab_size=150)).save_pretrained(folder)


def config(folder: Path, model_type: str) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


def damage(folder: Path, name: str, content: str) -> None:
    save(folder)
    (folder / name).write_text(content)


def without_names(folder: Path) -> None:
    save(folder, PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(TEXTS, 99).backend_tokenizer))


NONE = "no tokenizer can be loaded from {}: "
EMPTY = "the tokenizer in {} has no vocabulary; is tokenizer.json missing?"
REFUSED: dict[str, tuple[Any, str]] = {
    "empty": (lambda folder: None, NONE + "the folder has no tokenizer.json, it holds nothing"),
    "llama": (lambda folder: config(folder, "llama"), NONE + "the folder has no tokenizer.json, it holds config.json"),
    "bert": (lambda folder: config(folder, "bert"), EMPTY),
    "t5": (lambda folder: config(folder, "t5"), EMPTY),
    "deberta": (lambda folder: config(folder, "deberta-v2"), EMPTY),
    "damaged": (lambda folder: damage(folder, "tokenizer.json", "{"), NONE + "JSONDecodeError: Expecting property"),
    "cut off": (lambda folder: damage(folder, "tokenizer_config.json", ""), NONE + "JSONDecodeError: Expecting value"),
    "no padding": (
        without_names,
        "the tokenizer in {} has no padding token; name a pad_token in its tokenizer_config.json",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_tokenizers(make: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(DataError) as error:
        load_tokenizer(str(tmp_path))
    assert str(error.value).startswith(f"arguments: model_name_or_path: {message.format(tmp_path)}")
    assert "\n" not in str(error.value)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_tokenizer(str(tmp_path / "none"))
    missing = f"no tokenizer can be loaded from {tmp_path / 'none'}: there is no such folder"
    assert str(error.value) == f"arguments: model_name_or_path: {missing}"


def byte_level(pre_tokenizer: Any, **names: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


BYTE_LEVEL = {
    "gpt2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "qwen": lambda: pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"'s| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_words_alone_are_encoded_as_in_a_text(kind: str, tmp_path: Path) -> None:
    save(tmp_path / "0", byte_level(BYTE_LEVEL[kind](), eos_token="</s>"))
    words = ["play", "beatles", "的", "it's", "7", "paris"]
    for again in range(2):  # the second time from what the first one saved
        tokenizer = load_tokenizer(str(tmp_path / str(again)), in_words=True)
        assert tokenizer.pad_token == "</s>"
        assert tokenizer(words, is_split_into_words=True)["input_ids"] == tokenizer(" ".join(words))["input_ids"]
        save(tmp_path / str(again + 1), tokenizer)
    plain = load_tokenizer(str(tmp_path / "0"))
    assert plain("play")["input_ids"] != plain(" play")["input_ids"]


def test_bert_and_its_like_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path)
    backend = load_tokenizer(str(tmp_path), in_words=True).backend_tokenizer
    assert isinstance(backend.normalizer, normalizers.BertNormalizer)


def test_extra_tokens(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=150)
    save(tmp_path, tokenizer)
    loaded = load_tokenizer(str(tmp_path), extra_tokens=["<city>", "play"])
    assert len(loaded) == len(tokenizer) + 1
    assert loaded.tokenize("<city> play") == ["<city>", "play"]


def test_extra_tokens_of_a_trained_tokenizer(tmp_path: Path) -> None:
    file = sample(tmp_path / "t.jsonl", 20)
    plain, more = (build({"train": file}, tmp_path, extra_tokens=extra).tokenizer for extra in ((), ["<city>"]))
    assert more.tokenize("<city>") == ["<city>"]
    assert len(more) == len(plain) + 1


# predictions


def test_predictions(tmp_path: Path) -> None:
    file = write(tmp_path / "t.jsonl", [
        {"tokens": ["播", "放"], "tags": ["O", "B-x"], "intent": "a", "id": 17},
        {"tokens": "wake me", "tags": "B-x O", "intent": "b"},
        {"tokens": ["it"], "tags": ["O"], "intent": "a"},
    ])  # fmt: skip
    some: list[dict[str, Any]] = [{"tokens": ["it"]}, {"tokens": "it", "intent": "a"}, {"tokens": "it", "intent": "b"}]
    bare = write(tmp_path / "bare.jsonl", some)
    data = build({"train": file, "predict": bare}, tmp_path)
    labels: dict[str, Any] = {"intent": ["a", "b", "a"], "slots": [["O"], ["O", "B-x"], ["B-x", "O"]]}
    confidences: dict[str, Any] = {"intent": [0.123456, 1.0, 0.5], "slots": [[0.99999], [0.5, 0.25], [0.1, 0.0]]}
    arguments = (data.rows("train"), data.schema, [2, 0, 1], labels, confidences)
    losses: dict[str, Any] = {"slots": [0.123456, 2.5, None]}

    def lines(path: Path) -> list[Any]:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    path = tmp_path / "deep" / "er" / "predictions.jsonl"
    assert write_predictions(path, *arguments, losses) == 3
    expected = [
        {
            "sample_id": 2,
            "tokens": ["it"],
            "predictions": {"intent": "a", "slots": ["O"]},
            "confidences": {"intent": 0.1235, "slots": [1.0]},
            "gold": {"intent": "a", "slots": ["O"]},
            "losses": {"slots": 0.1235},
            "wrong": [],
        },
        {
            "sample_id": 0,
            "tokens": ["播", "放"],
            "predictions": {"intent": "b", "slots": ["O", "B-x"]},
            "confidences": {"intent": 1.0, "slots": [0.5, 0.25]},
            "gold": {"intent": "a", "slots": ["O", "B-x"]},
            "losses": {"slots": 2.5},
            "wrong": ["intent"],
        },
        {
            "sample_id": 1,
            "tokens": "wake me",
            "predictions": {"intent": "a", "slots": ["B-x", "O"]},
            "confidences": {"intent": 0.5, "slots": [0.1, 0.0]},
            "gold": {"intent": "b", "slots": ["B-x", "O"]},
            "losses": {"slots": None},
            "wrong": ["intent"],
        },
    ]
    assert lines(path) == expected
    assert "播" in path.read_text(encoding="utf-8")
    assert write_predictions(path, *arguments, losses, only_wrong=True) == 2
    assert lines(path) == expected[1:]
    assert [entry.name for entry in path.parent.iterdir()] == ["predictions.jsonl"]

    labels = {"intent": ["a", "a", "a"], "slots": [["O"], ["O"], ["O"]]}
    arguments = (data.rows("predict"), data.schema, [0, 1, 2], labels, {})
    assert write_predictions(path, *arguments) == 3
    assert [line.get("gold") for line in lines(path)] == [None, {"intent": "a"}, {"intent": "b"}]
    assert write_predictions(path, *arguments, only_wrong=True) == 1  # without gold nothing is wrong
    assert lines(path)[0]["sample_id"] == 2


# README.md


def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    figures, ids = capsys.readouterr().out.splitlines()
    assert figures.startswith("{'source': 'sample:joint', 'records': 400,")
    assert ids.startswith("[2, ") and ids.endswith(", 3]")


def section_of(title: str) -> str:
    return README.partition(f"\n## {title}")[2].partition("\n## ")[0]


def test_its_records_are_legal_and_say_the_same_in_every_format(tmp_path: Path) -> None:
    _, *sections = re.split(r"\n\*\*", section_of("Records"))
    label, slots = LabelColumn("intent", "intent", "sequence"), LabelColumn("slots", "tags", "word")
    schemas = {  # how many formats each section shows
        Schema("text", None, (label,)): 2,
        Schema("text", "other", (label,)): 2,
        Schema("tokens", None, (slots,)): 3,
        Schema("tokens", None, (label, slots)): 3,
        Schema("text", None, (LabelColumn("t", "topics", "multi_label"),)): 2,
        Schema("text", "other", (LabelColumn("t", "score", "number"),)): 2,
        Schema("tokens", None, (LabelColumn("t", "names", "entities"),)): 1,
        Schema("question", "context", (LabelColumn("t", "answers", "answer"),)): 1,
        Schema("text", "question", (LabelColumn("t", "answer", "choice"),), choices_column="choices"): 1,
        Schema("text", None, (LabelColumn("t", "target", "text"),)): 2,
    }
    for section, (schema, number) in zip(sections, schemas.items(), strict=True):
        found = []
        for suffix, content in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
            path = tmp_path / f"example.{suffix}"
            path.write_text(content, encoding="utf-8")
            assert scan(read_records(str(path)), schema, "required").num_records == 1
            [(_, record)] = read_records(str(path))
            found.append((schema.text(record), schema.text_pair(record), schema.gold(record)))
        assert len(found) == number
        assert all(values == found[0] for values in found)


def test_every_file_has_one_row_in_the_readme() -> None:
    names = re.findall(r"^\| `([\w./]+)` \|.*\|$", section_of("Files"), re.MULTILINE)
    folders = [f"{path.name}/" for path in ROOM.iterdir() if (path / "__init__.py").is_file()]
    files = [path.name for path in ROOM.glob("*.py") if path.name != "__init__.py"]
    assert sorted(names) == sorted(files + folders)
