"""Exact search for the nearest vectors, by cosine or dot product, block by block.

    scores, indices = search(queries, corpus, top_k=5)          # (Q, K) each, the best first
    SearchIndex(corpus, texts).save("index")                    # a folder, which is read where it lies
    hits = SearchIndex.load("index").search(queries, top_k=5)   # hits[0][0] == {"index": 7, "score": 0.83, "item": …}

Memory is that of a few blocks: neither the score matrix nor a copy of the corpus is made. Scores are computed in
float64, cosines are rounded to 2^-24 and dot products to float32, so that what differs with block size, threads and
device goes away (but for dot products that cancel to almost 0). Of equal scores the lower index comes first.

Q queries, N vectors, H dimensions, K hits, B vectors of a block.

Copy: alone; needs torch, numpy, safetensors.
"""

import json
import mmap
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

METRICS = ("cosine", "dot")
LAST = 2**32 - 1  # the highest index that a key has room for
COSINE_STEPS = 2**24  # from 0 to 1; float32 holds each of them


class SearchError(ValueError):
    """Vectors that cannot be searched, or a folder that is no index."""

    exit_code = 2


@torch.no_grad()
def search(
    queries: Tensor, corpus: Tensor, top_k: int = 10, metric: str = "cosine", block_size: int = 1024
) -> tuple[Tensor, Tensor]:
    """
    Args:
        queries: (Q, H), any floating dtype.
        corpus: (N, H), any floating dtype; may lie on the CPU, or in a file, while the queries are on a GPU.
        top_k: K; all N if there are fewer.
        metric: "cosine" (0 for a vector of zeros) or "dot".
        block_size: queries and vectors that are compared at once; 1024 need about 100 MB, 4096 about 700 MB.

    Returns: scores (Q, K) in float32, the best first, and indices (Q, K) into the corpus; where the queries are.

    Raises: SearchError for wrong shapes, an empty corpus, NaN or infinity.
    """
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1] or not 0 < len(corpus) <= LAST:
        raise SearchError(f"expected (Q, H) queries, (N, H) vectors, found {(*queries.shape,)}, {(*corpus.shape,)}")
    if metric not in METRICS or top_k < 1 or block_size < 1:
        known = f"metric one of {', '.join(METRICS)}, top_k and block_size above 0"
        raise SearchError(f"expected {known}; found {metric!r}, {top_k}, {block_size}")
    keys = torch.cat([best_keys(part, corpus, top_k, metric, block_size) for part in queries.split(block_size)])
    bits = (keys >> 32).to(torch.int32)
    return flip_negative(bits).view(torch.float32), LAST - (keys & LAST)


def best_keys(queries: Tensor, corpus: Tensor, top_k: int, metric: str, block_size: int) -> Tensor:
    """(Q, K) whole numbers in which score and index are packed; larger is better."""
    device = queries.device
    queries = prepared(queries, metric, device)
    best = torch.empty(len(queries), 0, dtype=torch.int64, device=device)
    for first in range(0, len(corpus), block_size):
        block = prepared(corpus[first : first + block_size], metric, device)
        scores = queries @ block.T  # (Q, B)
        if metric == "cosine":  # float32 alone would keep the rounding of a cosine that should be 0
            scores = scores.mul_(COSINE_STEPS).round_().div_(COSINE_STEPS)
        scores = scores.float() + 0.0  # -0.0, which has other bits, becomes 0.0
        bits = flip_negative(scores.view(torch.int32)).long()
        indices = torch.arange(first, first + len(block), device=device)
        keys = torch.cat([best, bits * 2**32 + (LAST - indices)], dim=1)
        best = keys.topk(min(top_k, keys.shape[1]), dim=1).values
    return best


def prepared(vectors: Tensor, metric: str, device: torch.device) -> Tensor:
    exact = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    vectors = vectors.to(device, exact)
    if not vectors.isfinite().all():
        raise SearchError("vectors: NaN or infinity among them; the encoder that made them is broken")
    return F.normalize(vectors, dim=1, eps=torch.finfo(vectors.dtype).tiny) if metric == "cosine" else vectors


def flip_negative(bits: Tensor) -> Tensor:
    """The bits of float32 numbers as int32 numbers in the same order, and back: negative floats count downwards."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


class SearchIndex:
    """Vectors (N, H) and what each of them stands for: a text, an id, or any JSON value."""

    def __init__(self, vectors: Tensor, items: Sequence[Any], metric: str = "cosine"):
        if len(vectors) != len(items):
            raise SearchError(f"{len(vectors)} vectors for {len(items)} items; there must be one for each")
        self.vectors, self.items, self.metric = vectors, items, metric

    def search(self, queries: Tensor, top_k: int = 10, block_size: int = 1024) -> list[list[dict[str, Any]]]:
        """For each query (Q, H) its hits {"index", "score", "item"}, the best first. Raises SearchError."""
        found = search(queries, self.vectors, top_k, self.metric, block_size)
        rows = zip(*(part.tolist() for part in found), strict=True)
        return [
            [{"index": i, "score": score, "item": self.items[i]} for score, i in zip(*row, strict=True)] for row in rows
        ]

    def save(self, folder: str | Path) -> None:
        """Write `vectors.safetensors` and `items.jsonl`; the folder appears when it is complete.

        Raises: SearchError if it is there already.
        """
        folder = Path(folder)
        if folder.exists():
            raise SearchError(f"{folder}: is there already; remove it or give another")
        unfinished = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        ends = [0]
        with open(unfinished / "items.jsonl", "wb") as file:
            for item in self.items:
                ends.append(ends[-1] + file.write(json.dumps(item, ensure_ascii=False, default=str).encode() + b"\n"))
        tensors = {"vectors": self.vectors.contiguous(), "ends": torch.tensor(ends)}
        save_file(tensors, unfinished / "vectors.safetensors", {"metric": self.metric})
        # since safetensors 0.8 nobody but the owner may read its files (safetensors issue 782)
        (unfinished / "vectors.safetensors").chmod((unfinished / "items.jsonl").stat().st_mode)
        unfinished.rename(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "SearchIndex":
        """An index whose vectors and items stay in their files, mapped into memory. Raises SearchError."""
        try:
            with safe_open(Path(folder, "vectors.safetensors"), framework="pt") as file:
                vectors, ends, metric = file.get_tensor("vectors"), file.get_tensor("ends"), file.metadata()["metric"]
            return cls(vectors, JsonLines(Path(folder, "items.jsonl"), ends), metric)
        except (OSError, ValueError, SafetensorError) as error:
            raise SearchError(f"{folder}: holds no whole index: {error}") from None


class JsonLines(Sequence[Any]):
    """The values of a file of lines, each read when it is asked for; `ends` (N+1,) are the bytes where lines end."""

    def __init__(self, path: Path, ends: Tensor):
        with open(path, "rb") as file:
            self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self.content) != ends[-1]:
            raise ValueError(f"{path.name} has {len(self.content)} bytes where there were {ends[-1]}")
        self.ends = ends

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, number: Any) -> Any:
        number = range(len(self))[number]
        return json.loads(self.content[self.ends[number] : self.ends[number + 1]])
