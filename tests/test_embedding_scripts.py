"""whiten_embeddings.py and semantic_search.py of huggingface_hands_on/, run in this process with a tiny BERT."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from data_process.tokenizer import train_tokenizer
from huggingface_hands_on import embedding, semantic_search, whiten_embeddings
from huggingface_hands_on.command_line import Pooling
from huggingface_hands_on.embedding import Embedder, Settings
from model_utils.pooling import POOLING
from model_utils.whitening import Whitening
from tests.texts import TEXTS

ROOT = Path(__file__).parents[1]
HIDDEN, LONGEST = 16, 40
WORDS = sorted({word for text in TEXTS for word in text.split()})


def sentences(count: int, seed: int = 0) -> list[str]:
    """Of 1 to 12 words, so that a batch needs padding."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 13))) for _ in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("models") / "bert")
    tokenizer = train_tokenizer(TEXTS, 200)
    torch.manual_seed(1)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=3, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=LONGEST, initializer_range=0.5)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("data") / "corpus.jsonl"
    lines = [json.dumps({"id": 100 + n, "text": text}, ensure_ascii=False) for n, text in enumerate(sentences(120))]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def one_by_one(model: str, texts: list[str], pooling: str, max_length: int = LONGEST) -> torch.Tensor:
    """Vectors by transformers alone, without padding."""
    tokenizer, encoder = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    vectors = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            layers = [layer[0] for layer in encoder(**inputs, output_hidden_states=True).hidden_states]  # (T, H) each
        vectors.append({
            "cls": layers[-1][0], "mean": layers[-1].mean(0), "max": layers[-1].amax(0),
            "first_last_mean": (layers[1].mean(0) + layers[-1].mean(0)) / 2,
        }[pooling])  # fmt: skip
    return torch.stack(vectors)


def run(script: Any, *argv: Any) -> None:
    assert script.main([str(word) for word in argv]) == 0


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ----------------------------------------------------------------------------------------------------------- embedding


def test_the_poolings_are_those_of_model_utils() -> None:
    assert get_args(Pooling) == POOLING


@pytest.mark.parametrize("pooling", POOLING)
def test_vectors_are_those_of_each_text_alone_in_the_order_of_the_texts(model: str, pooling: str) -> None:
    texts = sentences(50)
    expected = one_by_one(model, texts, pooling)
    for batch_size, chunks in ((1, [32, 18]), (7, [50])):
        embedder = Embedder(Settings(model, pooling, LONGEST), device="cpu", batch_size=batch_size)
        found = [*embedder.embed(iter(texts), len(texts))]
        assert [len(part) for part in found] == chunks
        torch.testing.assert_close(torch.cat(found), expected, rtol=0, atol=1e-5)
        assert not any(part.requires_grad for part in found)


def test_long_texts_are_cut_and_counted(model: str, caplog: pytest.LogCaptureFixture) -> None:
    texts = sentences(50)
    embedder = Embedder(Settings(model, "mean", 6), device="cpu", batch_size=8)
    vectors = torch.cat([*embedder.embed(texts, 50)])
    torch.testing.assert_close(vectors, one_by_one(model, texts, "mean", 6), rtol=0, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(model)
    long = sum(len(tokenizer(text)["input_ids"]) > 6 for text in texts)
    assert 0 < long < 50
    assert [record.getMessage() for record in caplog.records] == [f"{long} of 50 texts were cut at max_length=6"]


# ----------------------------------------------------------------------------------------------------------- whitening


@pytest.fixture(scope="module")
def whitening(model: str, corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whitening") / "w"
    run(whiten_embeddings, "fit", "--model", model, "--corpus", corpus, "--dim", 5, "--max_length", LONGEST,
        "--batch_size", 8, "--output_dir", output, "--device", "cpu")  # fmt: skip
    return output


def test_fit_saves_the_whitening_of_the_corpus(model: str, whitening: Path) -> None:
    assert files(whitening) == {"embedding.json", "manifest.json", "whitening.safetensors"}
    expected = Whitening.fit([one_by_one(model, sentences(120), "first_last_mean")], 5)
    found = Whitening.load(whitening / "whitening.safetensors")
    torch.testing.assert_close(found.mean, expected.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.matrix, expected.matrix, rtol=0, atol=1e-3)
    settings = json.loads((whitening / "embedding.json").read_text())
    assert settings == {"model_name_or_path": model, "pooling": "first_last_mean", "max_length": LONGEST}


def test_apply_whitens_texts(model: str, corpus: str, whitening: Path, tmp_path: Path, capsys: Any) -> None:
    argv = ["--corpus", corpus, "--batch_size", 2, "--output_dir", tmp_path / "v"]  # two chunks
    run(whiten_embeddings, "apply", "--whitening", whitening, *argv)
    vectors = load_file(tmp_path / "v" / "vectors.safetensors")["vectors"]
    transform = Whitening.load(whitening / "whitening.safetensors").transform
    expected = transform(one_by_one(model, sentences(120), "first_last_mean"))
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.cov(vectors.double().numpy().T), np.eye(5), atol=1e-4)
    assert capsys.readouterr() == (f"{tmp_path / 'v'}: 120 vectors of 5 numbers\n", "")


def test_dim_0_keeps_all_components_but_the_one_that_layer_norm_takes_away(
    model: str, corpus: str, tmp_path: Path, capsys: Any
) -> None:
    argv = ["--corpus", corpus, "--max_length", LONGEST, "--dim", 0, "--output_dir", tmp_path / "w"]
    run(whiten_embeddings, "fit", "--model_name_or_path", model, *argv)
    assert capsys.readouterr() == (f"{tmp_path / 'w'}: 15 of 16 components, from 120 texts\n", "")


# -------------------------------------------------------------------------------------------------------------- search


def answers(index: Path, queries: list[str], tmp_path: Path, top_k: int = 3) -> list[Any]:
    (tmp_path / "queries.txt").write_text("\n".join(queries) + "\n", encoding="utf-8")
    run(semantic_search, "search", "--index", index, "--query_file", tmp_path / "queries.txt", "--top_k", top_k,
        "--output_file", tmp_path / "hits.jsonl", "--batch_size", 4)  # fmt: skip
    return [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text(encoding="utf-8").splitlines()]


def check(found: list[Any], queries: list[str], expected: torch.Tensor) -> None:
    """Against scores (Q, N) of all queries with all records."""
    scores, indices = expected.topk(3)
    assert [answer["query"] for answer in found] == queries
    texts = sentences(120)
    for answer, best, where in zip(found, scores.tolist(), indices.tolist(), strict=True):
        hits = answer["hits"]
        assert [hit["score"] for hit in hits] == pytest.approx(best, abs=1e-4)
        assert [texts[hit["index"]] for hit in hits] == [texts[i] for i in where]
        assert [hit["item"] for hit in hits] == [{"id": 100 + h["index"], "text": texts[h["index"]]} for h in hits]


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cosine_similarity(a[:, None], b[None], dim=2)


@pytest.fixture(scope="module")
def index(model: str, corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("search") / "index"
    run(semantic_search, "index", "--model", model, "--corpus", corpus, "--max_length", LONGEST, "--output_dir", output)
    return output


def test_hits_are_the_nearest_records_of_the_corpus(model: str, index: Path, tmp_path: Path) -> None:
    queries = sentences(10, seed=1)
    a, b = one_by_one(model, queries, "mean"), one_by_one(model, sentences(120), "mean")
    check(answers(index, queries, tmp_path), queries, cosines(a, b))
    assert files(index) == {"corpus.json", "embedding.json", "index/items.jsonl", "index/vectors.safetensors",
                            "manifest.json"}  # fmt: skip


def test_dot_products(model: str, corpus: str, tmp_path: Path) -> None:
    run(semantic_search, "index", "--model", model, "--corpus", corpus, "--pooling", "cls", "--metric", "dot",
        "--max_length", LONGEST, "--batch_size", 2, "--output_dir", tmp_path / "index")  # fmt: skip
    queries = sentences(10, seed=1)
    scores = one_by_one(model, queries, "cls") @ one_by_one(model, sentences(120), "cls").T
    check(answers(tmp_path / "index", queries, tmp_path), queries, scores)


def test_a_whitening_is_part_of_the_index(model: str, corpus: str, whitening: Path, tmp_path: Path) -> None:
    run(semantic_search, "index", "--whitening", whitening, "--corpus", corpus, "--output_dir", tmp_path / "index")
    queries = sentences(10, seed=1)
    transform = Whitening.load(whitening / "whitening.safetensors").transform
    a, b = (transform(one_by_one(model, texts, "first_last_mean")) for texts in (queries, sentences(120)))
    found = answers(tmp_path / "index", queries, tmp_path)
    check(found, queries, cosines(a, b))
    plain = cosines(one_by_one(model, queries, "first_last_mean"), one_by_one(model, sentences(120), "first_last_mean"))
    assert [answer["hits"][0]["index"] for answer in found] != plain.argmax(1).tolist(), "it made a difference"


def test_a_query_is_answered_in_print(index: Path, capsys: Any) -> None:
    text = sentences(120)[7]
    run(semantic_search, "search", "--index", index, "--query", text, "--top_k", 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == text and len(lines) == 3
    assert lines[1] == f"   1.0000  #7  {text}"
    assert re.fullmatch(r"   0\.\d{4}  #\d+  \S.*", lines[2])


@pytest.mark.parametrize("query", ["null", "[play]", "{a: 1}", "--play", "7"])
def test_a_query_is_a_text_whatever_it_looks_like(query: str, index: Path, capsys: Any) -> None:
    run(semantic_search, "search", "--index", index, f"--query={query}", "--top_k", 1)
    assert capsys.readouterr().out.splitlines()[0] == query


def test_a_model_in_a_relative_folder_is_found_from_elsewhere(
    model: str, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(model).parent)
    argv = ["--corpus", corpus, "--max_length", LONGEST, "--output_dir", tmp_path / "index"]
    run(semantic_search, "index", "--model", "./bert", *argv)
    monkeypatch.chdir(tmp_path)
    run(semantic_search, "search", "--index", "index", "--query", "play")


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.fixture
def place(model: str, corpus: str, whitening: Path, index: Path, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "words.jsonl").write_text('{"text": "play"}\n{"text": ["play", "me"]}\n')
    (tmp_path / "empty.jsonl").write_text('{"text": "play"}\n\n{"text": " "}\n')
    return {"tmp": tmp_path, "model": model, "corpus": corpus, "whitening": whitening, "index": index}


FIT = "fit --model {model} --corpus {corpus} --output_dir {tmp}/out --max_length 40"
INDEX = "index --corpus {corpus} --output_dir {tmp}/out --max_length 40"
SEARCH = "search --index {index}"


@pytest.mark.parametrize(
    ("script", "command", "message"),
    [
        ("whiten", "", 'arguments: expected "subcommand" to be one of {{fit,apply}}'),
        ("whiten", "fit --corpus {corpus} --output_dir {tmp}/out", "arguments: .*model_name_or_path"),
        ("whiten", f"{FIT} --dim few", 'arguments: Parser key "dim": Expected .*int.* few'),
        ("whiten", f"{FIT} --poling cls", "arguments: unrecognized arguments: --poling cls"),
        ("whiten", f"{FIT} --pooling sum", 'arguments: Parser key "pooling": .*first_last_mean'),
        ("whiten", f"{FIT} --output_dir {{tmp}}/full", "arguments: output_dir: {tmp}/full is there already; remove it"),
        ("whiten", f"{FIT} --output_dir {{corpus}}", "arguments: output_dir: {corpus} is there already"),
        ("whiten", f"{FIT} --corpus {{tmp}}/nowhere.jsonl", "{tmp}/nowhere.jsonl: no such file"),
        ("whiten", f"{FIT} --corpus {{tmp}}/words.jsonl", "{tmp}/words.jsonl:2: text: must be a string, found a list"),
        ("whiten", f"{FIT} --corpus {{tmp}}/empty.jsonl", "{tmp}/empty.jsonl:3: text: is empty"),
        ("whiten", f"{FIT} --text_column body", "{corpus}:1: body: no such column; this record has 'id', 'text'"),
        ("whiten", f"{FIT} --model {{tmp}}/nowhere", "model_name_or_path: there is no folder {tmp}/nowhere"),
        ("whiten", f"{FIT} --model {{tmp}}/full", "arguments: model_name_or_path: no tokenizer can be loaded"),
        ("whiten", f"{FIT} --dim 17", "arguments: dim: 120 vectors of 16 numbers have at most 16 components; 0 = all"),
        ("whiten", f"{FIT} --dim -1", "arguments: dim: 120 vectors of 16 numbers have at most 16 components"),
        ("whiten", f"{FIT} --max_length 2", "arguments: max_length: must leave room for two special tokens"),
        ("whiten", f"{FIT} --max_length 41", "max_length: {model} has 40 positions; 41 must not be above that"),
        ("whiten", f"{FIT} --batch_size 0", "arguments: batch_size: must be above 0"),
        ("whiten", f"{FIT} --device gpu", "device: 'gpu' is none of auto, cpu"),
        ("whiten", "apply --whitening {tmp}/full --corpus {corpus} --output_dir {tmp}/out",
         "arguments: whitening: {tmp}/full holds no embedding.json"),
        ("whiten", "apply --whitening {whitening} --corpus {corpus} --output_dir {tmp}/full", "arguments: output_dir:"),
        ("search", f"{INDEX} --model {{model}} --output_dir {{tmp}}/full", "arguments: output_dir: {tmp}/full is"),
        ("search", INDEX, "arguments: model_name_or_path: give either this or a whitening"),
        ("search", f"{INDEX} --model {{model}} --whitening {{whitening}}", "arguments: model_name_or_path: give"),
        ("search", f"{INDEX} --whitening {{whitening}}", "arguments: whitening: pooling and max_length are those of"),
        ("search", f"{INDEX} --model {{model}} --metric l2", 'arguments: Parser key "metric": .*cosine.*dot'),
        ("search", f"{INDEX} --model {{model}} --max_length 0", "arguments: max_length: must leave room"),
        ("search", "search --index {whitening} --query play", "{whitening}/index: holds no whole index"),
        ("search", "search --index {tmp}/nowhere --query play", "arguments: index: {tmp}/nowhere holds no embedding"),
        ("search", SEARCH, "arguments: query: give either this, a text, or query_file"),
        ("search", f"{SEARCH} --query ' '", "arguments: query: give either this, a text, or query_file"),
        ("search", f"{SEARCH} --query play --query_file {{corpus}}", "arguments: query: give either this, a text, or"),
        ("search", f"{SEARCH} --query play --top_k 0", "arguments: top_k: must be above 0"),
        ("search", f"{SEARCH} --query_file {{tmp}}/empty.jsonl", "{tmp}/empty.jsonl:3: text: is empty"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(
    script: str, command: str, message: str, place: dict[str, Any], capsys: Any
) -> None:
    before = files(place["tmp"])
    main = {"whiten": whiten_embeddings.main, "search": semantic_search.main}[script]
    assert main(shlex.split(command.format(**place))) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"error: {message.format(**place)}.*\n", err), err
    assert out == "" and files(place["tmp"]) == before


def test_a_bug_is_not_hidden(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "pool", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        semantic_search.main(["search", "--index", str(index), "--query", "play"])


def test_ctrl_c_is_no_traceback(index: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "pool", interrupted)
    assert semantic_search.main(["search", "--index", str(index), "--query", "play"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


# -------------------------------------------------------------------------------------------------------------- README


def test_the_commands_of_the_readme_run(
    model: str, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "huggingface_hands_on" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python -m huggingface_hands_on\.(whiten_embeddings|semantic_search) (.*)$", text, re.M)
    assert len(commands) == 6
    (tmp_path / "data").mkdir()
    for name in ("corpus.jsonl", "new.jsonl", "faq.jsonl"):
        lines = Path(corpus).read_text(encoding="utf-8")
        (tmp_path / "data" / name).write_text(lines.replace('"text"', '"question"') if name == "faq.jsonl" else lines)
    monkeypatch.chdir(tmp_path)
    mains = {"whiten_embeddings": whiten_embeddings.main, "semantic_search": semantic_search.main}
    for script, command in commands:
        words = shlex.split(command.replace("bert-base-chinese", model).replace("--dim 256", "--dim 8"))
        small = [] if {"--whitening", "--index"} & set(words) else ["--max_length", str(LONGEST)]
        assert mains[script]([*words, *small]) == 0, command
    assert len((tmp_path / "output" / "hits.jsonl").read_text(encoding="utf-8").splitlines()) == 120


def test_help_answers_without_torch() -> None:
    """As a process of its own; torch alone takes seconds to import."""
    program = "import sys; from huggingface_hands_on.semantic_search import main\n"
    program += "try: main(['search', '--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert "python -m huggingface_hands_on.semantic_search" in done.stdout and "hits per query" in done.stdout
    assert done.stdout.endswith("False\n") and done.returncode == 0, done.stderr
