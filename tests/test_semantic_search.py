"""model_utils/semantic_search.py against sklearn and plain Python, for every block size, in memory and from disk.

Letters: Q queries, N vectors, H dimensions, K hits.
"""

import json
import math
import struct
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model_utils.semantic_search import SearchError, SearchIndex, flip_negative, search

TEXTS = ["play yesterday", "播放 周杰伦", "wake me at \u2028 seven", "", 'a "quoted"\nline', "last"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain_search(queries: Any, corpus: Any, top_k: int, metric: str) -> list[list[tuple[float, int]]]:
    """(score, index) in plain Python: exact sums, rounded once, all of them sorted."""

    def score(a: list[float], b: list[float]) -> float:
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        if metric == "cosine":
            norm = math.hypot(*a) * math.hypot(*b)
            dot = round(dot / norm * 2**24) / 2**24 if norm else 0.0
        return float(np.float32(dot))

    rows = [[(score(q, c), i) for i, c in enumerate(corpus)] for q in queries]
    return [sorted(row, key=lambda hit: (-hit[0], hit[1]))[:top_k] for row in rows]


def pairs(found: tuple[Tensor, Tensor]) -> list[list[tuple[float, int]]]:
    scores, indices = found
    return [list(zip(*row, strict=True)) for row in zip(scores.tolist(), indices.tolist(), strict=True)]


# ------------------------------------------------------------------------------------------------------- the same hits


@pytest.mark.parametrize("block_size", [64, 1024])
@pytest.mark.parametrize("top_k", [1, 10])
def test_equals_sklearn_on_random_vectors(top_k: int, block_size: int) -> None:
    queries, corpus = random(50, 24, seed=1), random(3000, 24)
    distances, expected = NearestNeighbors(n_neighbors=top_k, metric="cosine").fit(corpus.numpy()).kneighbors(queries)
    scores, indices = search(queries, corpus, top_k, block_size=block_size)
    assert torch.equal(indices, torch.from_numpy(expected))
    torch.testing.assert_close(scores, torch.from_numpy(1 - distances).float(), rtol=0, atol=1e-6)


def test_dot_products_equal_a_sorted_score_matrix() -> None:
    queries, corpus = random(50, 24, seed=1), random(3000, 24)
    scores = queries.double() @ corpus.double().T
    found, indices = search(queries, corpus, 7, "dot", block_size=100)
    assert torch.equal(indices, scores.argsort(1, descending=True)[:, :7])
    assert torch.equal(found, scores.sort(1, descending=True).values[:, :7].float())


matrices = st.integers(1, 4).flatmap(
    lambda h: st.tuples(*(st.lists(st.lists(st.integers(-2, 2), min_size=h, max_size=h), min_size=1, max_size=size)
                          for size in (4, 20)))
)  # fmt: skip


@given(matrices, st.integers(1, 25), st.integers(1, 25), st.sampled_from(["cosine", "dot"]))
def test_equals_plain_python_where_most_scores_are_tied(
    both: tuple[list[list[int]], list[list[int]]], top_k: int, block_size: int, metric: str
) -> None:
    """Small whole numbers: many equal scores of both signs, parallel vectors, vectors of zeros."""
    queries, corpus = (torch.tensor(rows, dtype=torch.float32) for rows in both)
    assert pairs(search(queries, corpus, top_k, metric, block_size)) == plain_search(*both, top_k, metric)


sizes = st.integers(1, 40)


@given(sizes, sizes, st.integers(1, 90), st.integers(0, 9), st.sampled_from(["cosine", "dot"]))
def test_the_block_size_changes_no_bit(n: int, top_k: int, block_size: int, seed: int, metric: str) -> None:
    """Every vector is there twice, so that there are ties, mostly between blocks."""
    corpus = random(n, 33, seed=seed).repeat(2, 1)
    queries = random(5, 33, seed=seed + 100)
    scores, indices = search(queries, corpus, top_k, metric, block_size)
    whole_scores, whole_indices = search(queries, corpus, top_k, metric, 2 * n + 5)
    assert torch.equal(scores, whole_scores) and torch.equal(indices, whole_indices)


def test_equal_vectors_come_in_the_order_of_their_numbers() -> None:
    corpus = random(7, 300).repeat(40, 1)  # 280 vectors, each 40 times
    _, indices = search(corpus[:7], corpus, 40, block_size=13)
    assert torch.equal(indices, torch.arange(7)[:, None] + 7 * torch.arange(40))


def test_zeros_of_both_signs_are_equal() -> None:
    corpus = torch.tensor([[-1e-30], [0.0], [1e-30], [-0.0]])  # products of 1e-60 are 0 or -0 in float32
    scores, indices = search(torch.tensor([[1e-30]]), corpus, 4, "dot")
    assert indices.tolist() == [[0, 1, 2, 3]]
    assert [math.copysign(1, score) for score in scores[0].tolist()] == [1, 1, 1, 1]


def test_a_vector_of_zeros_has_cosine_0_and_a_tiny_one_the_cosine_of_its_direction() -> None:
    corpus = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [3e-38, 0.0], [3e38, 3e38]])
    scores, indices = search(torch.tensor([[1e-38, 0.0], [0.0, 0.0]]), corpus, 4)
    assert indices.tolist() == [[2, 3, 1, 0], [0, 1, 2, 3]]
    torch.testing.assert_close(scores, torch.tensor([[1.0, 0.5**0.5, 0.0, -1.0], [0.0] * 4]))


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2))
def test_packed_bits_have_the_order_of_the_numbers(values: list[float]) -> None:
    numbers = torch.tensor(values) + 0.0
    bits = numbers.view(torch.int32)
    packed = flip_negative(bits)
    assert torch.equal(flip_negative(packed), bits)
    assert torch.equal(packed[:, None] < packed, numbers[:, None] < numbers)
    first = struct.unpack("<i", struct.pack("<f", values[0] + 0.0))[0]
    assert packed[0] == (first if first >= 0 else first ^ 0x7FFFFFFF)


def test_more_hits_than_vectors_and_no_queries() -> None:
    assert search(random(2, 3), random(4, 3), 9, block_size=3)[1].sort(1).values.tolist() == [[0, 1, 2, 3]] * 2
    scores, indices = search(torch.empty(0, 3), random(4, 3), 2)
    assert scores.shape == indices.shape == (0, 2)
    assert (scores.dtype, indices.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_vectors_of_any_dtype_count_as_the_numbers_they_are(dtype: torch.dtype) -> None:
    queries, corpus = random(5, 8, seed=1), random(100, 8).to(dtype)
    for found, expected in zip(search(queries, corpus), search(queries.double(), corpus.double()), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_queries_on_a_gpu_and_the_corpus_on_either_side() -> None:
    queries, corpus = random(50, 24, seed=1), random(3000, 24)
    scores, indices = search(queries, corpus)
    for vectors in (corpus, corpus.cuda()):
        found, where = search(queries.cuda(), vectors, block_size=100)
        assert where.is_cuda and torch.equal(where.cpu(), indices) and torch.equal(found.cpu(), scores)


# -------------------------------------------------------------------------------------------------------------- memory


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation returns."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, list | tuple) else [results]:
            if isinstance(result, Tensor) and result._base is None:  # a view takes no memory
                self.bytes = max(self.bytes, result.nbytes)
        return results


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_nothing_larger_than_a_block_is_made(metric: str) -> None:
    queries, corpus = random(300, 16), random(5000, 16)
    with Largest() as largest:
        search(queries, corpus, 5, metric, block_size=50)
    assert largest.bytes <= 50 * (50 + 5) * 8  # scores or keys of a block; all of them would be 300 * 5000 * 4
    with Largest() as largest:
        search(queries, corpus, 5, metric, block_size=5000)
    assert largest.bytes >= 300 * 5000 * 8  # this does see the matrix where there is one


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("queries", "corpus", "options", "message"),
    [
        (random(3), random(5, 3), {}, r"expected \(Q, H\) queries, \(N, H\) vectors, found \(3,\), \(5, 3\)"),
        (random(2, 3), random(5, 4), {}, r"expected .*, found \(2, 3\), \(5, 4\)"),
        (random(2, 3), random(0, 3), {}, r"expected .*, found \(2, 3\), \(0, 3\)"),
        (random(2, 3), random(5, 3), {"metric": "l2"}, "expected metric one of cosine, dot, .* found 'l2', 10, 1024"),
        (random(2, 3), random(5, 3), {"top_k": 0}, "expected .*, top_k and block_size above 0; found 'cosine', 0, "),
        (random(2, 3), random(5, 3), {"block_size": 0}, "expected .*; found 'cosine', 10, 0"),
        (random(2, 3), random(5, 3) * math.inf, {}, "vectors: NaN or infinity among them"),
        (random(2, 3) * math.nan, random(5, 3), {"metric": "dot"}, "vectors: NaN or infinity among them"),
    ],
)
def test_wrong_arguments(queries: Tensor, corpus: Tensor, options: Any, message: str) -> None:
    with pytest.raises(SearchError, match=f"^{message}"):
        search(queries, corpus, **options)


def test_one_item_per_vector() -> None:
    with pytest.raises(SearchError, match=r"^3 vectors for 2 items; there must be one for each$"):
        SearchIndex(random(3, 4), ["a", "b"])


# --------------------------------------------------------------------------------------------------------------- index


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    SearchIndex(random(6, 4), TEXTS).save(tmp_path / "new" / "index")
    return tmp_path / "new" / "index"


def test_hits_of_an_index_in_memory_and_of_the_same_from_disk(saved: Path) -> None:
    queries = random(3, 4, seed=1)
    hits = SearchIndex.load(saved).search(queries, top_k=4, block_size=2)
    assert hits == SearchIndex(random(6, 4), TEXTS).search(queries, top_k=4)
    expected = plain_search(queries.tolist(), random(6, 4).tolist(), 4, "cosine")
    assert [[(hit["score"], hit["index"]) for hit in row] for row in hits] == expected
    assert all(hit["item"] == TEXTS[hit["index"]] for row in hits for hit in row)
    assert {type(value) for row in hits for hit in row for value in hit.values()} == {int, float, str}


def test_files_of_an_index(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["items.jsonl", "vectors.safetensors"]
    lines = (saved / "items.jsonl").read_bytes().decode().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == TEXTS and lines[-1] == ""
    assert lines[1] == '"播放 周杰伦"', "people can read it"
    assert torch.equal(load_file(saved / "vectors.safetensors")["vectors"], random(6, 4))
    (saved / "plain").touch()
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1, "as readable as any other file"
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


def test_items_are_any_values_and_the_metric_is_kept(tmp_path: Path) -> None:
    items: list[Any] = [{"id": 7, "text": "好"}, None, [1.5, "x"]]
    vectors = torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.0, 2.0]])
    SearchIndex(vectors.half(), items, metric="dot").save(tmp_path / "a")
    index = SearchIndex.load(tmp_path / "a")
    assert [*index.items] == items and index.items[-1] == items[-1] and index.vectors.dtype == torch.float16
    hits = index.search(torch.tensor([[1.0, 0.0]]), 3)[0]
    assert [(hit["score"], hit["item"]) for hit in hits] == [(5.0, None), (1.0, items[0]), (0.0, items[2])]
    with pytest.raises(IndexError):
        index.items[3]
    index.save(tmp_path / "b")
    for name in ("items.jsonl", "vectors.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what is mapped")
def test_vectors_and_items_stay_in_their_files(saved: Path) -> None:
    index = SearchIndex.load(saved)
    mapped = {line.split()[-1]: line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines()}
    assert {str(saved / "items.jsonl"), str(saved / "vectors.safetensors")} <= mapped.keys()
    start, end = (int(number, 16) for number in mapped[str(saved / "vectors.safetensors")].split("-"))
    assert start <= index.vectors.data_ptr() < end


def test_values_that_json_does_not_have_become_texts(tmp_path: Path) -> None:
    SearchIndex(random(1, 4), [{"day": date(2024, 2, 29)}]).save(tmp_path / "index")  # as Parquet files have them
    assert SearchIndex.load(tmp_path / "index").items[0] == {"day": "2024-02-29"}


def test_an_index_never_replaces_a_folder_and_appears_when_it_is_complete(saved: Path) -> None:
    before = (saved / "items.jsonl").read_bytes()
    with pytest.raises(SearchError, match=r"index: is there already; remove it or give another$"):
        SearchIndex(random(1, 4), ["x"]).save(saved)
    assert (saved / "items.jsonl").read_bytes() == before

    class Broken(list):
        def __iter__(self) -> Any:
            yield "a"
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        SearchIndex(random(2, 4), Broken(["a", "b"])).save(saved.parent / "other")
    assert not (saved.parent / "other").exists()
    SearchIndex(random(2, 4), ["a", "b"]).save(saved.parent / "other")
    assert sorted(path.name for path in saved.parent.iterdir()) == ["index", "other"]


@pytest.mark.parametrize("damage", ["missing", "no items", "cut vectors", "cut items", "other items", "other vectors"])
def test_what_is_no_index_is_refused_in_one_line(damage: str, saved: Path) -> None:
    vectors, items = saved / "vectors.safetensors", saved / "items.jsonl"
    if damage == "missing":
        saved = saved.with_name("nowhere")
    elif damage == "no items":
        items.unlink()
    elif damage == "cut vectors":
        vectors.write_bytes(vectors.read_bytes()[:-1])
    elif damage == "cut items":
        items.write_bytes(items.read_bytes()[:-1])
    elif damage == "other items":
        items.write_text('"one more"\n' + items.read_text())
    else:
        save_file({"weight": torch.zeros(3)}, vectors)
    with pytest.raises(SearchError) as error:
        SearchIndex.load(saved)
    assert str(error.value).startswith(f"{saved}: holds no whole index: ") and "\n" not in str(error.value)
