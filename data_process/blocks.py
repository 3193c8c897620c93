"""Corpora as blocks of sub-words on disk: encoded and packed once, reused as long as nothing that decides them changes.

    [train] = build_blocks([Corpus("books", ["books.jsonl"])], BlockEncoder(tokenizer, 128), folder="cache")
    train.ids[[5, 3]], train.flags[[5, 3]]      # (2, 128) each, memory-mapped: the corpus need not fit in memory
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .clean import clean
from .corpus import read_columns
from .deduplicate import Deduplicator
from .errors import DataError
from .feature_cache import content_hash, tokenizer_settings
from .packing import PAD, BlockEncoder, pack, word_numbers
from .parallel import in_order

logger = logging.getLogger(__name__)
VERSION = 2  # raise it when the meaning of a file changes
CHUNK = 500  # texts that a worker encodes at once
LONGEST = 8  # words of so many sub-words or more are counted together


@dataclass(frozen=True)
class Corpus:
    """Files that are read one after the other."""

    name: str
    files: Sequence[str]
    columns: Sequence[str] = ("text",)
    """one, or the two of a pair"""
    part: tuple[float, float] = (0.0, 1.0)
    """only texts whose hash, as a number from 0 to 1, is in it: (0, 0.01) and (0.01, 1) share no text"""


@dataclass(frozen=True)
class Filter:
    """What is done to texts before they are encoded."""

    clean: bool = False
    """see clean.py"""
    min_chars: int = 0
    """shorter texts are left out"""
    similarity: float = 0.0
    """texts that are so similar to one before, also to one of another corpus, are left out; 1 = the same, 0 = none"""


class Blocks:
    """Memory-mapped: ids (N, T), flags (N, T) as in packing.py, and figures."""

    def __init__(self, folder: Path):
        self.key = folder.stem  # another one for other texts or settings
        self.info: dict[str, Any] = json.loads((folder / "info.json").read_text(encoding="utf-8"))
        shape = (self.info["blocks"], self.info["length"])
        self.ids = np.memmap(folder / "ids.bin", self.info["dtype"], "r", shape=shape)
        self.flags = np.memmap(folder / "flags.bin", np.uint8, "r", shape=shape)

    def __len__(self) -> int:
        return len(self.ids)


def build_blocks(
    corpora: Sequence[Corpus],
    encode: BlockEncoder,
    folder: str | Path,
    texts: Filter | None = None,
    segmenter: str = "",
    num_workers: int = 0,
) -> list[Blocks]:
    """
    Args:
        corpora: where near ones are left out, what is in an earlier one is left out of a later one.
        folder: the cache; made if missing.
        segmenter: what decides the segmenter of `encode`, for the key of the cache.
        num_workers: processes that encode; 0 = this one, in which the tokenizer uses all cores.

    Raises: DataError for wrong files, and where no text is left.
    """
    texts = texts or Filter()
    keys = list(cache_keys(corpora, encode, texts, segmenter))
    paths = [Path(folder, f"{corpus.name}-{key}.blocks") for corpus, key in zip(corpora, keys, strict=True)]
    is_new = Deduplicator(texts.similarity) if texts.similarity else None
    last_missing = max((number for number, path in enumerate(paths) if not path.is_dir()), default=-1)
    for number, (corpus, path) in enumerate(zip(corpora, paths, strict=True)):
        counts = dict.fromkeys(("texts", "characters", "too_short", "duplicates"), 0)
        kept = kept_texts(corpus, texts, is_new, counts)
        if not path.is_dir():
            write_blocks(path, in_chunks(kept), encode, counts, num_workers)
        else:
            logger.info("%s: blocks taken from %s", corpus.name, path)
            if is_new and number < last_missing:  # what later ones must not repeat
                sum(1 for _ in kept)
    return [Blocks(path) for path in paths]


def cache_keys(corpora: Sequence[Corpus], encode: BlockEncoder, texts: Filter, segmenter: str) -> Iterator[str]:
    """Hash of everything that decides the blocks of each corpus; with deduplication also the corpora before it."""
    settings = {
        "version": VERSION,
        "tokenizer": tokenizer_settings(encode.tokenizer),
        "special": [encode.tokenizer.all_special_ids, [template.special for template in encode.templates]],
        "encoder": [encode.length, encode.causal, encode.crossing, segmenter],
        "texts": repr(texts),
    }
    before = ""
    for corpus in corpora:
        parts = [settings, corpus.columns, corpus.part, [content_hash(file) for file in corpus.files], before]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:20]
        before = key if texts.similarity else ""
        yield key


def kept_texts(
    corpus: Corpus, texts: Filter, is_new: Deduplicator | None, counts: dict[str, int]
) -> Iterator[list[str]]:
    """The columns of each text that is kept; the others are counted."""
    quiet = {} if sys.stderr.isatty() else {"disable": True}  # an explicit disable=None would overrule TQDM_DISABLE
    first, end = corpus.part
    for _, columns in tqdm(read_columns(corpus.files, corpus.columns), desc=corpus.name, unit=" texts", **quiet):
        if not first <= place(columns) < end:
            continue
        found = [clean(text) for text in columns] if texts.clean else columns
        if min(map(len, found)) < max(texts.min_chars, 1):
            counts["too_short"] += 1
        elif is_new and not is_new("\n".join(found)):
            counts["duplicates"] += 1
        else:
            counts["texts"] += 1
            counts["characters"] += sum(map(len, found))
            yield found


def place(columns: Sequence[str]) -> float:
    """A number of [0, 1) that only these texts decide, not the files and texts around them."""
    digest = hashlib.blake2b("\n".join(columns).encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def in_chunks(texts: Iterator[list[str]]) -> Iterator[list[Any]]:
    while chunk := list(islice(texts, CHUNK)):
        yield [text if len(text) > 1 else text[0] for text in chunk]


def write_blocks(
    path: Path, chunks: Iterable[list[Any]], encode: BlockEncoder, counts: dict[str, int], num_workers: int
) -> None:
    """Under a temporary name, then renamed: a reader never sees half a corpus, two writers do no harm."""
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    unfinished.mkdir(parents=True)
    dtype = np.uint16 if len(encode.tokenizer) <= 2**16 else np.uint32
    pad_id, unk_id = encode.tokenizer.pad_token_id, encode.tokenizer.unk_token_id
    figures = Figures(unk_id)
    try:
        pieces = chain.from_iterable(in_order(encode, chunks, num_workers))
        with open(unfinished / "ids.bin", "wb") as ids_file, open(unfinished / "flags.bin", "wb") as flags_file:
            for ids, flags in pack(pieces, encode.length, pad_id, encode.crossing):
                ids_file.write(ids.astype(dtype).tobytes())
                flags_file.write(flags.tobytes())
                figures.add(ids, flags)
            for file in (ids_file, flags_file):
                file.flush()
                os.fsync(file.fileno())
        if not figures.blocks:
            raise DataError(path.stem.rpartition("-")[0], f"no text is left of it: {counts}", "corpus")
        info = {"length": encode.length, "dtype": np.dtype(dtype).name} | counts | figures.all()
        (unfinished / "info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        if not path.is_dir():
            unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


class Figures:
    """Counts over blocks."""

    def __init__(self, unk_id: int | None):
        self.unk_id = unk_id
        self.blocks = self.tokens = self.padding = self.unknown = 0
        self.word_lengths = np.zeros(LONGEST + 1, np.int64)

    def add(self, ids: np.ndarray, flags: np.ndarray) -> None:
        lengths = np.bincount(word_numbers(flags))
        self.blocks += len(ids)
        self.tokens += int(lengths.sum())
        self.padding += int((flags & PAD > 0).sum())
        self.unknown += int((ids == self.unk_id).sum()) if self.unk_id is not None else 0
        self.word_lengths += np.bincount(lengths.clip(max=LONGEST), minlength=LONGEST + 1)

    def all(self) -> dict[str, Any]:
        """word_lengths[n]: words of n sub-words; the last: of so many or more."""
        return {"blocks": self.blocks, "tokens": self.tokens, "padding": self.padding, "unknown": self.unknown,
                "word_lengths": self.word_lengths.tolist()}  # fmt: skip
