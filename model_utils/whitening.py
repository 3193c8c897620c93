"""BERT-whitening: vectors without correlations and with equal variances, and fewer dimensions if wanted.

Source: Su, Cao, Liu, Ou, "Whitening Sentence Representations for Better Semantics and Faster Retrieval",
https://arxiv.org/abs/2103.15316

    whitening = Whitening.fit(batches, dim=256)          # any number of (B, H); the corpus need not fit in memory
    vectors = whitening.transform(vectors)               # (..., H) -> (..., 256), to be compared by cosine
    whitening.save("whitening.safetensors"); whitening = Whitening.load("whitening.safetensors")

y = (x - mean) U / sqrt(variances): U are the eigenvectors of the covariance, the largest variance first. As in the
authors' code the covariance is divided by N - 1, and the k dimensions of whitening-k are the first k columns.

B vectors of a batch, H hidden size, K components kept.

Copy: alone; needs torch, numpy, safetensors.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

ROUNDING = 1e-12  # variances that are smaller, relative to the largest, come from rounding


class WhiteningError(ValueError):
    """Vectors or a file that no whitening comes from."""

    exit_code = 2


@dataclass(frozen=True, eq=False)
class Moments:
    """What whitening needs to know of a corpus: count, mean and covariance, in float64 on the CPU.

    `a + b` describes the vectors of both, so batches, shards and processes may each count their own part. It is the
    pairwise formula of Chan, Golub, LeVeque (Stanford STAN-CS-79-773, 1979): deviations are taken from the mean of
    their own batch, so that no digits are lost where the mean is large.
    """

    count: int
    mean: Tensor
    """(H,)"""
    scatter: Tensor
    """(H, H), sum of (x - mean)^T (x - mean): count - 1 times the covariance"""

    @classmethod
    def of(cls, vectors: Tensor) -> "Moments":
        """Of one batch (B, H) of any dtype, on any device. Raises WhiteningError for NaN or infinity."""
        if vectors.ndim != 2:
            raise WhiteningError(f"vectors: expected batches of shape (B, H), found {tuple(vectors.shape)}")
        vectors = vectors.detach().cpu().double()
        if not vectors.isfinite().all():
            raise WhiteningError("vectors: a batch holds NaN or infinity; the encoder that made it is broken")
        mean = vectors.sum(0) / max(len(vectors), 1)
        deviations = vectors - mean
        return cls(len(vectors), mean, deviations.T @ deviations)

    def __add__(self, other: "Moments") -> "Moments":
        if self.mean.shape != other.mean.shape:
            raise WhiteningError(f"vectors: {len(other.mean)} dimensions after {len(self.mean)}; expected the same")
        count = self.count + other.count
        share = other.count / max(count, 1)
        shift = other.mean - self.mean
        scatter = torch.addr(self.scatter + other.scatter, shift, shift, alpha=self.count * share)
        return Moments(count, self.mean + shift * share, scatter)


@dataclass(frozen=True, eq=False)
class Whitening:
    """The transformation (x - mean) @ matrix."""

    mean: Tensor
    """(H,), float64"""
    matrix: Tensor
    """(H, K), float64; of each column the entry that is largest in size is positive, which fixes its sign"""

    @classmethod
    def fit(cls, batches: Iterable[Tensor], dim: int | None = None) -> "Whitening":
        """
        Args:
            batches: (B, H) each; read once.
            dim: K, see `from_moments`.
        """
        parts = map(Moments.of, batches)
        first = next(parts, None)
        if first is None:
            raise WhiteningError("vectors: there are none")
        return cls.from_moments(reduce(add, parts, first), dim)

    @classmethod
    def from_moments(cls, moments: Moments, dim: int | None = None) -> "Whitening":
        """
        Args:
            moments: of the whole corpus.
            dim: components kept, those with the largest variances; None = all that have one. N vectors have N - 1
                such components at most, and fewer if some dimensions depend on others or never change, as LayerNorm
                makes them. In the directions left there is only rounding, which 1 / sqrt(variance) would blow up.

        Raises: WhiteningError if `dim` is above the number of these components, or if there is none.
        """
        variances, directions = torch.linalg.eigh(moments.scatter / max(moments.count - 1, 1))
        variances, directions = variances.flip(0), directions.flip(1)  # the largest first
        # of float32 next to the largest deviation (6e-8, squared), and of the float64 mean of equal vectors
        rounding = ROUNDING * variances[0] + (ROUNDING * moments.mean.abs().max()) ** 2
        rank = int((variances > rounding).sum())
        dim = rank if dim is None else dim
        if not 1 <= dim <= rank:
            found = f"{moments.count} vectors of {len(variances)} dimensions vary in {rank} directions"
            right = f"1 to {rank}, or more vectors" if rank else "more vectors that differ"
            raise WhiteningError(f"dim: {found}; give {right}")
        directions = directions[:, :dim]
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))  # (1, K)
        return cls(moments.mean, (directions * largest.sign() / variances[:dim].sqrt()).contiguous())

    def transform(self, vectors: Tensor) -> Tensor:
        """(..., H) on any device -> (..., K) there, in float32, or float64 if the vectors are."""
        if vectors.shape[-1:] != self.mean.shape:
            raise WhiteningError(f"vectors: expected (..., {len(self.mean)}), found {tuple(vectors.shape)}")
        exact = torch.float32 if vectors.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        mean, matrix = (part.to(vectors.device, exact) for part in (self.mean, self.matrix))
        return ((vectors.to(exact) - mean) @ matrix).to(torch.promote_types(vectors.dtype, torch.float32))

    def save(self, path: str | Path) -> None:
        """One .safetensors file, which is whole or not there."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.tmp")
        # not save_file: since safetensors 0.8 nobody but the owner may read its files (safetensors issue 782)
        unfinished.write_bytes(save({"mean": self.mean, "matrix": self.matrix}))
        unfinished.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> "Whitening":
        """What `save` wrote. Raises WhiteningError."""
        try:
            with safe_open(path, framework="pt") as file:
                return cls(file.get_tensor("mean"), file.get_tensor("matrix"))
        except (OSError, SafetensorError) as error:
            raise WhiteningError(f"{path}: holds no whitening: {error}") from None
