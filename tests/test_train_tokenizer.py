"""data_process/train_tokenizer.py against the tokenizers library, and the script that trains and reports."""

import hashlib
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import AutoTokenizer

from benchmarks import tokenizer_training
from data_process import tokenizer_pipelines
from data_process.bert_words import count_words
from data_process.errors import DataError
from data_process.tokenizer import load_tokenizer, train_tokenizer
from data_process.train_tokenizer import BYTES, STYLES, learn_tokenizer
from huggingface_hands_on import train_tokenizer_from_scratch

ROOT = Path(__file__).parents[1]
MODELS = ("wordlevel", "wordpiece", "bpe", "byte_level_bpe", "unigram")
LOSSLESS = ("bpe", "byte_level_bpe")
ODD = 'Ill-known: "naïve" ＡＢＣ， 𠮷野家の㈱⼀々〇 don\'t\tstop…\u200b\x07 e\u0301 ½ 🤗 [x]<0x41>  end '
WORDS = ["the", "a", "cat", "cats", "sat", "saturday", "on", "mat", "mats", "don't", "runs", "running", "runner",
         "2024", "3.14", "naïve", "and", "andiron", "(so", "said:", '"yes!"', "well,", "well."]  # fmt: skip
PHRASES = ["我们", "世界", "你好", "今天天气", "不错", "喜欢", "北京大学", "大学生", "生活", "世界杯", "学习", "的",
           "了", "。", "，", "！"]  # fmt: skip


def texts(count: int = 300, seed: int = 0, chinese: bool = True) -> list[str]:
    """Sentences of two languages, with words at any place, glued and not."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        parts = [rng.choice(PHRASES) if chinese and rng.random() < 0.5 else rng.choice(WORDS) + rng.choice((" ", ""))
                 for _ in range(rng.randint(1, 14))]  # fmt: skip
        lines.append("".join(parts) + rng.choice(("", ".", "\n")))
    return lines


MIXED = [*texts(), "我在UCLA学习，2024年去Paris", ODD, ODD]


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    return {name: learn_tokenizer(iter(MIXED), name, 600) for name in MODELS}  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ the library directly


def of_library(model: Any, pre_tokenizer: Any, trainer: Any, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer or normalizers.NFC(), pre_tokenizer
    tokenizer.train_from_iterator(MIXED, trainer)
    return tokenizer


def bert_normalizer() -> Any:
    return normalizers.Sequence([
        normalizers.NFC(), normalizers.BertNormalizer(lowercase=False, strip_accents=False),
    ])  # fmt: skip


def special(style: str = "bert") -> list[str]:
    return list(dict.fromkeys(STYLES[style][0].values()))


def words_of_wordpiece() -> dict[str, int]:
    """As the trainer of the library counts them."""
    trainer = trainers.WordPieceTrainer(vocab_size=0, show_progress=False)
    of_library(models.WordPiece(), pre_tokenizers.BertPreTokenizer(), trainer, bert_normalizer())
    return json.loads(trainer.__getstate__())["WordPieceTrainer"]["bpe_trainer"]["words"]


def test_words_are_counted_as_the_library_counts_them() -> None:
    found = count_words(MIXED, bert_normalizer(), pre_tokenizers.BertPreTokenizer())
    assert found == words_of_wordpiece() and found["我"] > 10 and found["cat"] > 10


@settings(max_examples=150)
@given(st.text(st.sampled_from("ab 我，⼀㈱\u3000\u0301\u3099\u00a0\t\x00豈〇") | st.characters(codec="utf-8")))
def test_words_of_any_text_are_those_of_the_whole_text(text: str) -> None:
    for normalizer in (bert_normalizer(), normalizers.Sequence([
        normalizers.NFKC(), normalizers.BertNormalizer(lowercase=True, strip_accents=True),
    ])):  # fmt: skip
        cut = pre_tokenizers.BertPreTokenizer()
        whole = [word for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(text))]
        assert sorted(count_words([text], normalizer, cut).elements()) == sorted(whole)


def test_wordlevel_is_that_of_the_library(trained: dict[str, Any]) -> None:
    trainer = trainers.WordLevelTrainer(vocab_size=600, min_frequency=2, special_tokens=special(), show_progress=False)
    direct = of_library(models.WordLevel(), pre_tokenizers.BertPreTokenizer(), trainer, bert_normalizer())
    assert trained["wordlevel"].get_vocab() == direct.get_vocab()


def test_wordpiece_is_that_of_the_library_with_its_characters_in_order(trained: dict[str, Any]) -> None:
    inner = sorted({f"##{character}" for word in words_of_wordpiece() for character in word[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=600, min_frequency=2, special_tokens=[*special(), *inner], show_progress=False
    )
    direct = of_library(models.WordPiece(), pre_tokenizers.BertPreTokenizer(), trainer, bert_normalizer())
    assert trained["wordpiece"].get_vocab() == direct.get_vocab()
    ours = learn_tokenizer(MIXED, "wordpiece", 400, unicode_form="none", lowercase=True, strip_accents=True)
    theirs = train_tokenizer(MIXED, 400)
    assert ours.get_vocab() == theirs.get_vocab()
    assert [ours(text)["input_ids"] for text in MIXED] == [theirs(text)["input_ids"] for text in MIXED]


@pytest.mark.parametrize("name", LOSSLESS)
def test_bpe_is_that_of_the_library(name: str, trained: dict[str, Any]) -> None:
    marks: Any = pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False)
    options: dict[str, Any] = {"special_tokens": special() + BYTES}
    if name == "byte_level_bpe":
        marks = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        options = {"special_tokens": special(), "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(tokenizer_pipelines.WORDS), "isolated"), marks])
    trainer = trainers.BpeTrainer(vocab_size=600, min_frequency=2, show_progress=False, **options)
    direct = json.loads(of_library(models.BPE(), cut, trainer).to_str())["model"]
    ours = json.loads(trained[name].backend_tokenizer.to_str())["model"]
    assert (ours["vocab"], ours["merges"]) == (direct["vocab"], direct["merges"])


def test_without_chinese_byte_level_bpe_is_that_of_gpt_2() -> None:
    english = texts(chinese=False)
    direct: Any = ByteLevelBPETokenizer()
    direct.train_from_iterator(english, vocab_size=400, min_frequency=2, special_tokens=special("gpt"),
                               show_progress=False)  # fmt: skip
    ours = learn_tokenizer(english, "byte_level_bpe", 400, style="gpt", unicode_form="none")
    assert ours.get_vocab() == direct.get_vocab()
    for text in [*english, "I'll  go;\n\n 12 x2 ", "don't\t!?  "]:
        assert ours(text)["input_ids"] == direct.encode(text).ids


def test_unigram_has_the_pieces_of_the_library_and_their_scores(trained: dict[str, Any]) -> None:
    cut = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(tokenizer_pipelines.SPACED_WORDS), "isolated"),
        pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False),
    ])  # fmt: skip
    prefix = normalizers.Replace(Regex(r"\A(?=[^\s\p{Han}])"), " ")
    trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=special(), unk_token="[UNK]", show_progress=False)
    direct = of_library(models.Unigram(), cut, trainer, normalizers.Sequence([normalizers.NFC(), prefix]))
    theirs = dict(json.loads(direct.to_str())["model"]["vocab"])
    pieces = json.loads(trained["unigram"].backend_tokenizer.to_str())["model"]["vocab"]
    ours = dict(pieces)
    assert ours.keys() == theirs.keys() and [piece for piece, _ in pieces[:5]] == special()
    steps = 0.0001 * sum(len(piece) == 1 for piece in ours)  # what the library adds to characters without a score
    assert all(0 <= theirs[piece] - ours[piece] + 0.0001 <= steps + 0.0002 for piece in ours)
    assert sum(abs(theirs[piece] - ours[piece]) < 0.0001 for piece in ours) > 0.8 * len(ours) > 200


# --------------------------------------------------------------------------------------------------------- what is cut


def test_no_token_holds_chinese_and_anything_else(trained: dict[str, Any]) -> None:
    for name, tokenizer in trained.items():
        pieces = [tokenizer.backend_tokenizer.decode([i]).removeprefix("##") for i in range(len(tokenizer))]
        chinese = [piece for piece in pieces if re.search(r"[㐀-鿿]", piece)]
        whole = r"[㐀-鿿々〇⼀\U00020000-\U0003ffff\ufffd]+"  # the last one: bytes of a further Chinese character
        assert all(re.fullmatch(whole, piece) for piece in chinese), name
        assert len(chinese) > 20
        assert ("世界" in pieces) == (name not in ("wordlevel", "wordpiece"))


@pytest.mark.parametrize(("name", "text", "tokens"), [
    ("wordpiece", "cats,我们sat", ["cats", ",", "我", "们", "sat"]),
    ("wordlevel", "cats 我们xyz", ["cats", "我", "们", "[UNK]"]),
    ("bpe", "cats sat世界 世界", ["cats", "▁sat", "世界", "▁", "世界"]),
    ("bpe", "龘", ["<0xE9>", "<0xBE>", "<0x98>"]),
    ("byte_level_bpe", "cats sat", ["cats", "Ġsat"]),
    ("unigram", "cats cats世界", ["▁cats", "▁cats", "世界"]),
])  # fmt: skip
def test_examples(name: str, text: str, tokens: list[str], trained: dict[str, Any]) -> None:
    assert trained[name].tokenize(text) == tokens


@settings(max_examples=100)
@given(st.text(st.sampled_from("ab 我，\n'") | st.characters(codec="utf-8", exclude_characters="▁")))
def test_any_text_comes_back(trained: dict[str, Any], text: str) -> None:
    expected = normalizers.NFC().normalize_str(text)
    for name in LOSSLESS:
        assert trained[name].decode(trained[name](text, add_special_tokens=False)["input_ids"]) == expected


def test_known_texts_come_back_from_unigram(trained: dict[str, Any]) -> None:
    for text in texts(seed=1):
        assert trained["unigram"].decode(trained["unigram"](text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("name", MODELS)
def test_normalization(name: str) -> None:
    options: dict[str, Any] = {"unicode_form": "nfkc", "lowercase": True, "strip_accents": True}
    tokenizer = learn_tokenizer(["abcdef, naive"] * 3, name, 300, **options)  # type: ignore[arg-type]
    plain, wide = tokenizer("abcdef, naive")["input_ids"], tokenizer("ＡＢＣＤＥＦ， Naïve")["input_ids"]
    assert plain == wide and tokenizer.unk_token_id not in plain
    cased = learn_tokenizer(["abcdef, naive"] * 3, name, 300)  # type: ignore[arg-type]
    assert cased("abcdef, naive")["input_ids"] != cased("Abcdef, naïve")["input_ids"]


# -------------------------------------------------------------------------------------------------------------- folder

# what stands around one text and around two; whether there are token types
TEMPLATES: dict[str, tuple[list[list[Any]], bool]] = {
    "bert": ([["[CLS]", 0, "[SEP]"], ["[CLS]", 0, "[SEP]", 1, "[SEP]"]], True),
    "roberta": ([["<s>", 0, "</s>"], ["<s>", 0, "</s>", "</s>", 1, "</s>"]], False),
    "gpt": ([[0], [0, 1]], False),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", MODELS)
def test_auto_tokenizer_gives_what_was_trained(name: Any, style: Any, tmp_path: Path) -> None:
    trained = learn_tokenizer(MIXED, name, 600, style=style, special_tokens=["<user>", "cat"], max_length=20)
    trained.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    raw, loaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == raw.get_vocab() == trained.get_vocab() and len(loaded) <= 600
    assert loaded.convert_tokens_to_ids([*special(style), "<user>", "cat"]) == [*range(len(special(style)) + 2)]
    assert {key: getattr(loaded, key) for key in STYLES[style][0]} == STYLES[style][0]
    assert loaded.pad_token_id == (1 if style == "roberta" else 0)
    assert loaded.model_max_length == 20 and load_tokenizer(str(tmp_path)).get_vocab() == raw.get_vocab()
    for text in MIXED[-40:]:
        assert loaded(text)["input_ids"] == raw.encode(text).ids == trained(text)["input_ids"]
        assert loaded(text, "世界 cat")["input_ids"] == raw.encode(text, "世界 cat").ids
    assert loaded.tokenize("a<user>b")[-2] == "<user>" or loaded.tokenize("a<user>b")[-3] == "<user>"

    templates, has_types = TEMPLATES[style]
    for pair, template in zip((["我们"], ["我们", "a 世界"]), templates, strict=True):
        pieces = [loaded(text, add_special_tokens=False)["input_ids"] for text in pair]
        parts = [pieces[p] if isinstance(p, int) else [loaded.convert_tokens_to_ids(p)] for p in template]
        found = loaded(*pair)
        assert found["input_ids"] == [number for part in parts for number in part]
        first = sum(map(len, parts[:3]))  # [CLS] a [SEP]
        types = [0] * first + [1] * (len(found["input_ids"]) - first)
        assert found.get("token_type_ids") == (types if has_types else None)
    batch = loaded(["我", "世世世" * 20], padding=True, truncation=True)
    assert [len(row) for row in batch["input_ids"]] == [20, 20]
    assert batch["input_ids"][0][-1] == loaded.pad_token_id and batch["attention_mask"][0][-1] == 0


# ------------------------------------------------------------------------------------------------------------- chance

PROGRAM = """
import hashlib, json, sys
from copied.tokenizer_report import report
from copied.train_tokenizer import learn_tokenizer
texts = json.load(open("texts.json", encoding="utf-8"))
for name in sys.argv[1:]:
    tokenizer = learn_tokenizer(texts, name, 600)
    assert report(tokenizer, ["cats"])["texts"] == 1
    print(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest())
"""
COPIED = (
    *("train_tokenizer.py", "tokenizer_pipelines.py", "bert_words.py", "errors.py"),
    *("tokenizer_report.py", "word_segments.py"),
)


def test_another_process_trains_the_same_with_copied_files(trained: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "copied").mkdir()
    for name in COPIED:
        shutil.copy(ROOT / "data_process" / name, tmp_path / "copied")
    (tmp_path / "texts.json").write_text(json.dumps(MIXED), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, *MODELS], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    here = [hashlib.sha256(trained[name].backend_tokenizer.to_str().encode()).hexdigest() for name in MODELS]
    assert done.stdout.split() == here, done.stderr


# ------------------------------------------------------------------------------------------------------------- commands


@pytest.fixture
def place(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "data" / "books").mkdir(parents=True)
    lines = [text.strip() for text in texts()]
    (tmp_path / "data" / "books" / "a.txt").write_text("\n".join(lines[:200]), encoding="utf-8")
    (tmp_path / "data" / "books" / "b.txt").write_text("\n".join(lines[200:]), encoding="utf-8")
    rows = [json.dumps({"body": text}) for text in lines[:50]]
    (tmp_path / "data" / "new.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "data" / "wrong.jsonl").write_text("\n".join([*rows, '{"body": 3}']), encoding="utf-8")
    (tmp_path / "data" / "blank.jsonl").write_text('{"body": " "}', encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    return {"tmp": tmp_path, "data": tmp_path / "data"}


def run(command: str, place: dict[str, Any]) -> int:
    return train_tokenizer_from_scratch.main(shlex.split(command.format(**place)))


def test_train_saves_a_tokenizer_with_its_report(
    place: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("DATA_DIR", str(place["data"]))
    assert run("train --corpus 'data/books/*.txt' --model bpe --vocab_size 400 --style gpt --report_texts 30 "
               "--special_tokens '[\"<user>\"]' --output_dir {tmp}/out", place) == 0  # fmt: skip
    out, err = capsys.readouterr()
    assert err == "" and out.endswith(f"{place['tmp']}/out: 400 tokens\n") and out.startswith("texts             30:")
    assert {path.name for path in (place["tmp"] / "out").iterdir()} == {
        "tokenizer.json", "tokenizer_config.json", "report.json", "manifest.json"}  # fmt: skip
    loaded = AutoTokenizer.from_pretrained(place["tmp"] / "out")
    expected = learn_tokenizer([text.strip() for text in texts()], "bpe", 400, style="gpt", special_tokens=["<user>"])
    assert loaded.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    assert run("report --tokenizer {tmp}/out --corpus '[{data}/new.jsonl, data/new.jsonl]' --text_column body "
               "--output_file {tmp}/report.json", place) == 0  # fmt: skip
    report = json.loads((place["tmp"] / "report.json").read_text(encoding="utf-8"))
    saved = json.loads((place["tmp"] / "out" / "report.json").read_text(encoding="utf-8"))
    assert (report["texts"], saved["texts"]) == (50, 30) and report["round_trip"]["exact"] == 1
    assert capsys.readouterr().out.startswith("texts             50:")


def test_a_held_out_part_is_reported(place: dict[str, Any], capsys: Any) -> None:
    assert run("train --corpus {data}/books --vocab_size 400 --report_corpus {data}/books/b.txt --report_texts 0 "
               "--output_dir {tmp}/out", place) == 0  # fmt: skip
    assert capsys.readouterr().out.startswith("texts             100:")


TRAIN = "train --corpus {data}/books --output_dir {tmp}/out"


@pytest.mark.parametrize(("command", "message"), [
    (f"{TRAIN} --model bigrams", 'arguments: Parser key "model": .*wordlevel.*unigram'),
    (f"{TRAIN} --output_dir {{tmp}}/full", "arguments: output_dir: {tmp}/full is there already; remove it"),
    (f"{TRAIN} --corpus {{data}}/none.txt", "arguments: corpus: {data}/none.txt matches no file that can be read"),
    (f"{TRAIN} --corpus {{data}}/new.jsonl", "{data}/new.jsonl:1: text: there is no such column; there are body"),
    (f"{TRAIN} --corpus {{data}}/blank.jsonl --text_column body", "arguments: corpus: there is no text in it"),
    *[(f"{TRAIN} --corpus {{data}}/wrong.jsonl --text_column body --model {name}",
       "{data}/wrong.jsonl:51: body: must be a text, found int") for name in MODELS],
    *[(f"{TRAIN} --vocab_size 12 --model {name}", "arguments: vocab_size: 12 is too small for the special tokens")
      for name in MODELS[1:]],
    (f"{TRAIN} --vocab_size 4 --model wordlevel", "arguments: vocab_size: 4 is too small .*; give at least 5"),
    (f"{TRAIN} --vocab_size many", 'arguments: Parser key "vocab_size": Expected .*int'),
    (f"{TRAIN} --vocab_size -1", "arguments: vocab_size: must be above 0"),
    (f"{TRAIN} --min_frequency 0", "arguments: min_frequency: must be above 0"),
    (f"{TRAIN} --max_length 2", "arguments: max_length: must leave room"),
    (f"{TRAIN} --report_texts -1", "arguments: report_texts: must not be negative"),
    ("report --tokenizer {tmp}/full --corpus {data}/books", "arguments: tokenizer: no tokenizer can be loaded from"),
    ("report --tokenizer {tmp}/gone --corpus {data}/books", "arguments: tokenizer: no tokenizer .*: there is no such"),
    ("report --tokenizer {tmp}/full", "arguments: .*corpus"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(command: str, message: str, place: dict[str, Any], capsys: Any) -> None:
    before = sorted(place["tmp"].rglob("*"))
    assert run(command, place) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"error: {message.format(**place)}.*\n", err), err
    assert out == "" and sorted(place["tmp"].rglob("*")) == before


@pytest.mark.parametrize("name", MODELS)
def test_texts_are_read_once_and_not_kept(name: Any) -> None:
    alive: set[int] = set()
    most = 0

    class Text(str):
        def __del__(self) -> None:
            alive.discard(id(self))

    def read() -> Iterator[str]:
        nonlocal most
        for text in texts(3000):
            made = Text(text)
            alive.add(id(made))
            most = max(most, len(alive))
            yield made

    learn_tokenizer(read(), name, 600)
    assert most <= 1000  # tokenizers takes 256 at once


def test_no_texts_are_refused() -> None:
    with pytest.raises(DataError, match="there is no text in it"):
        learn_tokenizer([], "bpe", 1000)


def test_the_commands_of_the_readme_run(place: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "huggingface_hands_on" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python -m huggingface_hands_on\.train_tokenizer_from_scratch (.*)$", text, re.M)
    assert len(commands) == 2
    new = place["data"] / "new.jsonl"
    new.write_text(new.read_text(encoding="utf-8").replace("body", "text"), encoding="utf-8")
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.chdir(place["tmp"])
    for command in commands:
        assert train_tokenizer_from_scratch.main(shlex.split(command)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_memory_does_not_grow_with_the_same_texts_again(name: str, tmp_path: Path) -> None:
    """The file grows by 19 MB."""
    rows = [json.dumps({"text": text}) for text in texts(20_000)]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    once, often = (
        tokenizer_training.memory_growth(
            name, tokenizer_training.write_copies(str(tmp_path / "texts.jsonl"), tmp_path / "texts.txt", copies), 600
        )
        for copies in (2, 24)
    )
    assert often < once + 12
