"""model_utils/whitening.py against numpy's SVD of the whole matrix, for any split of the data into batches.

Letters: N vectors, H hidden size, K components kept.
"""

import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from model_utils.whitening import Moments, Whitening, WhiteningError


def correlated(n: int = 400, h: int = 12, seed: int = 0) -> np.ndarray:
    """Vectors whose directions have variances from 1 to 1e-3, with a mean; all clearly different, so W is unique."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((h, h)))[0]
    return (rng.standard_normal((n, h)) * np.geomspace(1, 0.03, h)) @ rotation + rng.standard_normal(h)


def by_svd(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, W) from the singular values of the centred data itself; the covariance is never formed."""
    mean = x.mean(axis=0)
    _, s, vt = np.linalg.svd(x - mean, full_matrices=False)
    kept = s > 1e-9 * s[0]
    vt = vt[kept] * np.array([np.sign(row[np.abs(row).argmax()]) for row in vt[kept]])[:, None]
    return mean, vt.T / (s[kept] / np.sqrt(len(x) - 1))


def fit(x: np.ndarray, dim: int | None = None) -> Whitening:
    return Whitening.fit(torch.from_numpy(x).split(64), dim)


def cosines(x: Any) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


# --------------------------------------------------------------------------------------- against the whole matrix


@pytest.mark.parametrize("dim", [None, 12, 5, 1])
def test_mean_and_matrix_equal_those_of_numpys_svd(dim: int | None) -> None:
    x = correlated()
    mean, matrix = by_svd(x)
    whitening = fit(x, dim)
    np.testing.assert_allclose(whitening.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(whitening.matrix, matrix[:, : dim or 12], rtol=0, atol=1e-9)
    assert whitening.matrix.shape == (12, dim or 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_similarities_of_whitened_vectors_equal_numpys_and_their_covariance_is_the_identity(dtype: torch.dtype) -> None:
    x = correlated()
    whitening = Whitening.fit([torch.from_numpy(x).to(dtype)])
    y = whitening.transform(torch.from_numpy(x).to(dtype))
    mean, matrix = by_svd(x)
    exact = dtype == torch.float64
    assert y.dtype == dtype
    np.testing.assert_allclose(cosines(y), cosines((x - mean) @ matrix), atol=1e-11 if exact else 1e-5)
    np.testing.assert_allclose(np.cov(y.double().numpy().T), np.eye(12), atol=1e-11 if exact else 1e-5)
    np.testing.assert_allclose(y.double().mean(0), 0, atol=1e-11 if exact else 1e-5)


def test_the_covariance_is_divided_by_n_minus_1_and_the_first_components_have_the_largest_variance() -> None:
    x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    whitening = Whitening.fit([x])
    expected = torch.diag(torch.tensor([(18 / 3) ** -0.5, (2 / 3) ** -0.5], dtype=torch.float64))
    torch.testing.assert_close(whitening.matrix, expected)


@pytest.mark.parametrize("seed", range(5))
def test_signs_do_not_depend_on_the_order_of_the_vectors(seed: int) -> None:
    x = correlated()
    whitening = fit(x[np.random.default_rng(seed).permutation(len(x))])
    torch.testing.assert_close(whitening.matrix, fit(x).matrix, rtol=0, atol=1e-9)
    largest = whitening.matrix.abs().argmax(0, keepdim=True)
    assert (whitening.matrix.gather(0, largest) > 0).all()


# ------------------------------------------------------------------------------------------------------- in batches


def total(parts: list[Moments], data: st.DataObject) -> Moments:
    """The sum, put together in a drawn order: as a tree, from either side, or anything between."""
    while len(parts) > 1:
        at = data.draw(st.integers(0, len(parts) - 2))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0]


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99), st.sampled_from([0, 1e4]), st.data())
def test_any_split_gives_the_moments_of_one_pass(n: int, h: int, seed: int, offset: float, data: st.DataObject) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, h)) + offset)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=6)))  # equal cuts make empty batches
    parts = [Moments.of(x[a:b]) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    found, whole = total(parts, data), Moments.of(x)
    assert found.count == whole.count == n
    torch.testing.assert_close(found.mean, whole.mean, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(found.scatter, whole.scatter, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(whole.scatter, (x - x.mean(0)).T @ (x - x.mean(0)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 7, 64, 400])
def test_the_batch_size_changes_no_whitening(size: int) -> None:
    x = torch.from_numpy(correlated())
    torch.testing.assert_close(Whitening.fit(x.split(size)).matrix, Whitening.fit([x]).matrix, rtol=0, atol=1e-9)


def test_a_large_mean_costs_no_digits() -> None:
    small = np.random.default_rng(0).standard_normal((500, 6)) * 1e-2
    x = small + 1e4
    covariance = np.cov(small.T)
    moments = sum((Moments.of(part) for part in torch.from_numpy(x).split(50)), Moments.of(torch.empty(0, 6)))
    np.testing.assert_allclose(moments.scatter / 499, covariance, rtol=1e-6, atol=1e-13)
    squares = (x.T @ x - 500 * np.outer(x.mean(0), x.mean(0))) / 499  # what this must not be: the textbook formula
    assert np.abs(squares - covariance).max() > 1e-9
    single = torch.from_numpy(x + 7 * small).float()  # a grid of 1e-3: the vectors are what they are, exactly
    y = Whitening.fit(single.split(50)).transform(single)
    np.testing.assert_allclose(np.cov(y.double().numpy().T), np.eye(6), atol=1e-5)
    np.testing.assert_allclose(y.double().mean(0), 0, atol=1e-6)


def test_batches_are_read_once_and_not_kept() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def batches() -> Iterator[Tensor]:
        for part in torch.from_numpy(correlated()).split(20):
            batch = part.clone()
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            assert sum(ref() is not None for ref in alive) <= 1

    Whitening.fit(batches())
    assert len(alive) == 20


# ------------------------------------------------------------------------------------------------------ lower rank


@pytest.mark.parametrize(("n", "h"), [(2, 12), (5, 12), (12, 12), (13, 12), (30, 200)])
def test_fewer_vectors_than_dimensions_give_n_minus_1_components(n: int, h: int) -> None:
    x = correlated(n, h)
    rank = min(n - 1, h)
    whitening = fit(x)
    assert whitening.matrix.shape == (h, rank)
    np.testing.assert_allclose(whitening.matrix, by_svd(x)[1][:, :rank], rtol=1e-6, atol=1e-9)
    y = whitening.transform(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.cov(y.T), np.eye(rank), atol=1e-9)
    if rank < h:
        with pytest.raises(WhiteningError, match=f"^dim: {n} vectors of {h} dimensions vary in {rank} directions"):
            fit(x, rank + 1)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_dimensions_that_depend_on_each_other_or_never_change_give_no_component(offset: float) -> None:
    """As LayerNorm leaves them: the first 3 sum to a constant, and a dead one always has the same value."""
    x = correlated(300, 8).astype(np.float32).astype(np.float64)
    x[:, 2] = 5 - x[:, 0] - x[:, 1]
    x[:, 3] = 0.1
    whitening = fit(x + offset)
    assert whitening.matrix.shape == (8, 6)
    y = whitening.transform(torch.from_numpy(x + offset)).numpy()
    np.testing.assert_allclose(np.cov(y.T), np.eye(6), atol=1e-6)
    centred = x - x.mean(0)
    np.testing.assert_allclose(y @ y.T, centred @ np.linalg.pinv(np.cov(x.T), 1e-9) @ centred.T, atol=1e-5)


def test_a_direction_of_little_variance_is_kept() -> None:
    x = correlated(300, 2) @ np.diag([1, 3e-5])
    y = fit(x).transform(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.cov(y.T), np.eye(2), atol=1e-6)


@pytest.mark.parametrize("h", [3, 8, 384])
def test_the_direction_that_layer_norm_takes_away_is_left_out_although_float32_rounds_it(h: int) -> None:
    x = torch.nn.functional.layer_norm(torch.from_numpy(correlated(1000, h)).float(), (h,))
    assert x.double().sum(1).std() > 0
    assert Whitening.fit(x.split(100)).matrix.shape == (h, h - 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_vectors_that_are_all_equal_have_no_component(value: float, dtype: torch.dtype) -> None:
    with pytest.raises(WhiteningError, match=r"^dim: 50 vectors of 3 dimensions vary in 0 directions; give more"):
        Whitening.fit(torch.full((50, 3), value, dtype=dtype).split(7))


@pytest.mark.parametrize(("n", "found"), [(0, "0 vectors"), (1, "1 vectors")])
def test_one_vector_is_not_enough(n: int, found: str) -> None:
    with pytest.raises(WhiteningError, match=f"^dim: {found} of 4 dimensions vary in 0 directions; give more vectors"):
        Whitening.fit([torch.randn(n, 4)])


# --------------------------------------------------------------------------------------------------- mistakes, types


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    x = torch.randn(20, 4)
    x[13, 2] = bad
    with pytest.raises(WhiteningError, match=r"^vectors: a batch holds NaN or infinity"):
        Whitening.fit(x.split(8))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "vectors: there are none"),
        (torch.randn(5, 4), r"vectors: expected batches of shape \(B, H\), found \(4,\)"),
        ([torch.randn(5, 4), torch.randn(5, 3)], "vectors: 3 dimensions after 4; expected the same"),
    ],
)
def test_wrong_batches(batches: Any, message: str) -> None:
    with pytest.raises(WhiteningError, match=f"^{message}$"):
        Whitening.fit(batches)


@pytest.mark.parametrize("dim", [0, -1, 13])
def test_a_wrong_dim(dim: int) -> None:
    with pytest.raises(WhiteningError, match=r"^dim: 400 vectors of 12 dimensions vary in 12"):
        fit(correlated(), dim)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_vectors_count_as_the_numbers_they_are(dtype: torch.dtype) -> None:
    half = torch.from_numpy(correlated()).to(dtype)
    whitening = Whitening.fit(half.split(50))
    assert torch.equal(whitening.matrix, Whitening.fit(half.double().split(50)).matrix)
    y = whitening.transform(half)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, whitening.transform(half.double()).float(), rtol=0, atol=0)


def test_transform_takes_any_leading_dimensions_and_lets_gradients_through() -> None:
    whitening = fit(correlated(), 5)
    x = torch.randn(2, 3, 12, requires_grad=True)
    y = whitening.transform(x)
    assert y.shape == (2, 3, 5)
    torch.testing.assert_close(y[1, 2], whitening.transform(x[1, 2]))
    y.sum().backward()
    torch.testing.assert_close(x.grad, whitening.matrix.sum(1).float().expand(2, 3, 12))
    assert not Whitening.fit([torch.randn(9, 4, requires_grad=True)]).matrix.requires_grad
    with pytest.raises(WhiteningError, match=r"^vectors: expected \(\.\.\., 12\), found \(2, 11\)$"):
        whitening.transform(torch.zeros(2, 11))


def test_autocast_changes_nothing() -> None:
    x = torch.from_numpy(correlated()).float()
    expected = Whitening.fit([x])
    with torch.autocast("cpu", torch.bfloat16):
        whitening = Whitening.fit([x])
        y = whitening.transform(x)
    assert torch.equal(whitening.matrix, expected.matrix) and torch.equal(y, expected.transform(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    x = torch.from_numpy(correlated()).float()
    whitening = Whitening.fit(x.cuda().split(50))
    assert torch.equal(whitening.matrix, Whitening.fit(x.split(50)).matrix)
    y = whitening.transform(x.cuda())
    assert y.is_cuda
    torch.testing.assert_close(y.cpu(), whitening.transform(x))


# --------------------------------------------------------------------------------------------------------------- disk


def test_saved_and_loaded_bit_for_bit(tmp_path: Path) -> None:
    whitening = fit(correlated(), 5)
    path = tmp_path / "new" / "w.safetensors"
    fit(correlated(seed=1)).save(path)
    whitening.save(path)
    again = Whitening.load(path)
    assert torch.equal(again.mean, whitening.mean) and torch.equal(again.matrix, whitening.matrix)
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode, "as readable as any other file"


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    fit(correlated()).save(path)
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> None:
        with open(self, "wb") as file:
            file.write(content[:100])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        fit(correlated(), 5).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "cut off", "another file", "folder"])
def test_what_is_no_whitening_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    if damage == "cut off":
        fit(correlated()).save(path)
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "another file":
        save_file({"weight": torch.zeros(3)}, path)
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(WhiteningError) as error:
        Whitening.load(path)
    assert str(error.value).startswith(f"{path}: holds no whitening: ") and "\n" not in str(error.value)
