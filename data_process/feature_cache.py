"""Encoded records in one Arrow file, reused as long as file, tokenizer, labels and settings stay the same.

    rows = cached_features("train.jsonl", read_records("train.jsonl"), encoder, folder="cache")
    rows[[5, 3]]                    # features by number, memory-mapped: the data set need not fit in memory

Every row carries the features of `data_process/encode.py` and the record itself as JSON (column `record`).
"""

import hashlib
import json
import logging
import os
import sys
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from .encode import RecordEncoder
from .levels import level_of
from .schema import Schema

logger = logging.getLogger(__name__)
VERSION = 3  # raise it when the meaning of a column changes
CHUNK = 1000
as_json = json.JSONEncoder(ensure_ascii=False, default=str).encode  # str: Parquet has dates


def cached_features(
    source: str,
    records: Iterable[tuple[str, Any]],
    encoder: RecordEncoder,
    folder: str | Path,
    limit: int | None = None,
    skipped: Collection[int] = (),
) -> Any:
    """A `datasets.Dataset` of features, from the cache if it is there.

    Args:
        source: what the records are read from: a file (its content is part of the key) or a name such as hub:NAME.
        records: the records of that source; only iterated if the cache has no entry.
        folder: the cache folder; made if missing.
        limit: only the first so many records.
        skipped: numbers of records that are wrong; their rows hold nothing but the number, and nobody asks for them.
    """
    from datasets import Dataset

    path = Path(folder, f"{Path(source).stem[:40]}-{cache_key(source, encoder, limit, skipped)}.arrow")
    if path.is_file():
        logger.info("%s: encoded features taken from %s", source, path)
    else:
        rows = encode_all(islice(records, limit), encoder, frozenset(skipped))
        write_arrow(path, rows, arrow_schema(encoder.schema, encoder.tokenizer, encoder.inputs.several))
    return Dataset.from_file(str(path))


def encode_all(
    records: Iterable[tuple[str, Any]], encoder: RecordEncoder, skipped: Collection[int] = ()
) -> Iterator[list[dict[str, Any]]]:
    quiet = {} if sys.stderr.isatty() else {"disable": True}  # an explicit disable=None would overrule TQDM_DISABLE
    numbered = iter(tqdm(enumerate(record for _, record in records), desc="encode", unit=" records", **quiet))
    while chunk := list(islice(numbered, CHUNK)):
        good = [(number, record) for number, record in chunk if number not in skipped]
        features = encoder(good) if good else []
        for feature, (_, record) in zip(features, good, strict=True):
            feature["record"] = as_json(record)
        wrong = [{"sample_id": number, "record": "{}"} for number, _ in chunk if number in skipped]
        yield sorted([*features, *wrong], key=lambda row: row["sample_id"])


def write_arrow(path: Path, chunks: Iterator[list[dict[str, Any]]], schema: pa.Schema) -> None:
    """Write under a temporary name, then rename: a reader never sees half a file, two writers do no harm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(unfinished, "wb") as file:
            with pa.ipc.new_stream(file, schema) as writer:
                for chunk in chunks:
                    writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=schema))
            file.flush()
            os.fsync(file.fileno())  # Arrow takes a stream that lost its end for a shorter one
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def arrow_schema(schema: Schema, tokenizer: Any, several: bool) -> pa.Schema:
    """several: whether a record may have several inputs."""
    numbers = pa.list_(pa.int32())
    fields = [("sample_id", pa.int64()), ("input_ids", numbers)]
    if "token_type_ids" in tokenizer.model_input_names:
        fields.append(("token_type_ids", numbers))
    if several:
        fields.append(("row_lengths", numbers))
    if schema.form in ("words", "context"):
        fields.append(("word_starts", numbers))
    if schema.form == "words":
        fields.append(("num_words", pa.int32()))
    if schema.form == "context":
        fields += [("char_starts", numbers), ("char_ends", numbers)]
    labels = [(label.task, label_type(level_of(label.level))) for label in schema.labels]
    return pa.schema([*fields, ("labels", pa.struct(labels)), ("truncated", pa.bool_()), ("record", pa.string())])


def label_type(level: Any) -> pa.DataType:
    found = pa.float64() if level.DTYPE == "float64" else pa.int64()
    for _ in range(level.DEPTH):
        found = pa.list_(found)
    return found


def cache_key(source: str, encoder: RecordEncoder, limit: int | None, skipped: Collection[int] = ()) -> str:
    """Hash of everything that decides the features."""
    settings = {
        "version": VERSION,
        "schema": repr(encoder.schema),
        "labels": {task: vocab.settings for task, vocab in encoder.vocabs.items()},
        "max_length": encoder.max_length,
        "stride": encoder.stride,
        "limit": limit,
        "skipped": sorted(skipped),
        "tokenizer": tokenizer_settings(encoder.tokenizer),
        "inputs": encoder.tokenizer.model_input_names,
        "filler": encoder.inputs.filler,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, ensure_ascii=False).encode())
    digest.update(content_hash(source).encode())
    return digest.hexdigest()[:20]


def tokenizer_settings(tokenizer: Any) -> str:
    """All that decides how a tokenizer cuts texts."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # calls leave both behind, and set them anew
    backend.no_padding()
    return backend.to_str()


def content_hash(source: str) -> str:
    """sha256 of a file, or of all files of a folder; of the name itself if it is neither (hub:NAME)."""
    path = Path(source)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] * path.is_file()
    digest = hashlib.sha256(b"" if files else source.encode())
    for name in files:
        with open(name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def describe(rows: Any, unk_token_id: int | None) -> dict[str, Any]:
    """Figures of an encoded data set: records, lengths in sub-words, share cut, share of unknown sub-words."""
    import numpy as np

    table, lengths = rows.with_format("arrow")[:], lengths_of(rows)
    ids = table.column("input_ids").combine_chunks()
    unknown = int(np.count_nonzero(ids.flatten().to_numpy() == unk_token_id))
    return {
        "records": len(rows),
        "tokens": int(lengths.sum()),
        "mean_tokens": round(float(lengths.mean()), 1),
        "max_tokens": int(lengths.max()),
        "truncated_share": round(float(np.mean(table.column("truncated").to_pylist())), 4),
        "unknown_token_share": round(unknown / max(int(lengths.sum()), 1), 4),
    }


def lengths_of(rows: Any) -> Any:
    """Sub-words of each record, in all its inputs: an array (len(rows),)."""
    table = rows.select_columns("input_ids").with_format("arrow")[:]
    return table.column("input_ids").combine_chunks().value_lengths().to_numpy()


def input_sizes(rows: Any, targets: Sequence[str] = ()) -> tuple[Any, Any]:
    """Sub-words of the longest input of each record, and its number of inputs: arrays (len(rows),).

    targets: tasks of texts to be generated; such a text is one more input.
    """
    import numpy as np

    columns = [name for name in ("row_lengths", "labels") if name in rows.column_names]
    table = rows.select_columns(columns).with_format("arrow")[:]
    longest, num_inputs = lengths_of(rows), np.ones(len(rows), dtype=np.int64)
    if "row_lengths" in table.column_names:
        inputs = table.column("row_lengths").combine_chunks()
        num_inputs = inputs.value_lengths().to_numpy()
        longest = np.maximum.reduceat(inputs.flatten().to_numpy(), np.cumsum(num_inputs) - num_inputs)
    for task in targets:
        texts = table.column("labels").combine_chunks().field(task)
        longest = np.maximum(longest, texts.value_lengths().to_numpy())
        num_inputs = num_inputs + 1
    return longest, num_inputs


def gold_labels(rows: Any, schema: Schema, sample_ids: Sequence[int]) -> dict[str, list[Any]]:
    """task -> gold label of each record, None where there is none. rows: from `cached_features`."""
    records = rows.select_columns("record")[list(sample_ids)]["record"]
    gold = [schema.gold(json.loads(record)) for record in records]
    return {label.task: [labels.get(label.task) for labels in gold] for label in schema.labels}
