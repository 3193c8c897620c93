"""From files to encoded data sets, in one call; everything is checked before anything is written.

    data = build_data({"train": "train.jsonl"}, tasks, levels, text_column="text", shares={"eval": 0.1}, seed=42, …)
    data.rows("train"), data.indices.get("eval"), data.encode, data.tokenizer
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .checks import DataInfo, scan, unseen_labels
from .encode import RecordEncoder
from .errors import DataError
from .feature_cache import cached_features, describe, gold_labels
from .labels import LabelVocab
from .schema import LabelColumn, Schema
from .sources import open_source
from .splits import stratified_split
from .tokenizer import load_tokenizer, train_tokenizer

logger = logging.getLogger(__name__)


@dataclass
class Data:
    """Parts are "train", "eval", "test" and "predict"."""

    schema: Schema
    scans: dict[str, DataInfo]
    sources: dict[str, str]
    """part -> where its records come from"""
    indices: dict[str, list[int]]
    """part -> its record numbers within the source; all where absent"""
    cache_dir: str | Path
    limit: int | None = None
    tokenizer: Any = None
    encode: Any = None
    _rows: dict[str, Any] = field(default_factory=dict)

    def rows(self, part: str) -> Any:
        """Features of the whole source of a part, as a `datasets.Dataset`; row number = sample id."""
        source = self.sources[part]
        if source not in self._rows:
            self._rows[source] = cached_features(source, open_source(source), self.encode, self.cache_dir, self.limit)
        return self._rows[source]

    def references(self, rows: Any) -> Any:
        """The function sample ids -> task -> gold labels."""
        return partial(gold_labels, rows, self.schema)

    def figures(self, part: str) -> dict[str, Any]:
        """For dataset_info.json: records and labels of the source, lengths of the encoded part."""
        counts = {task: dict(found.most_common()) for task, found in self.scans[part].label_counts.items()} if part in self.scans else {}
        rows = self.rows(part)
        rows = rows.select(self.indices[part]) if part in self.indices else rows
        return {"source": self.sources[part], **describe(rows, self.tokenizer.unk_token_id), "labels": counts}


def build_data(
    files: Mapping[str, str],
    tasks: Sequence[dict[str, Any]],
    levels: Mapping[str, str],
    *,
    text_column: str,
    text_pair_column: str | None,
    shares: Mapping[str, float],
    seed: int,
    tokenizer_path: str | None,
    vocab_size: int,
    extra_tokens: Sequence[str],
    max_length: int,
    cache_dir: str | Path,
    limit: int | None = None,
    trust_remote_code: bool = False,
) -> Data:
    """
    Args:
        files: part -> file; gold labels are required but for "predict".
        tasks: {name, label_column, labels?, …}; `labels` is filled in from the training data where it is missing.
        levels: task -> label level of its head.
        shares: part -> share split off the training file, stratified by the first sequence-level label.
        tokenizer_path: None trains one with `vocab_size` entries on the training texts.
        limit: only the first so many records of each file.

    Raises: DataError.
    """
    schema = Schema(text_column, text_pair_column, tuple(LabelColumn(t["name"], t["label_column"], levels[t["name"]]) for t in tasks))
    scans = {
        part: scan(open_source(file), schema, "optional" if part == "predict" else "required", limit)
        for part, file in files.items()
    }
    data = Data(schema, scans, dict(files), {}, cache_dir, limit)
    if shares:
        try:
            data.indices = stratified_split(scans["train"].strata, shares, seed)
        except ValueError as error:
            raise DataError(files["train"], str(error)) from error
        data.sources |= dict.fromkeys(shares, files["train"])
    for task in tasks:
        if not task.get("labels"):
            task["labels"] = LabelVocab.from_counts(scans["train"].label_counts[task["name"]], levels[task["name"]]).names
    warn_unseen(data, {task["name"]: task["labels"] for task in tasks})
    if tokenizer_path is None:
        data.tokenizer = train_tokenizer(training_texts(data), vocab_size)
    else:
        data.tokenizer = load_tokenizer(tokenizer_path, extra_tokens, schema.word_level, trust_remote_code)
    vocabs = {task["name"]: LabelVocab(task["labels"]) for task in tasks}
    data.encode = RecordEncoder(data.tokenizer, schema, vocabs, max_length)
    return data


def warn_unseen(data: Data, labels: Mapping[str, list[str]]) -> None:
    for part, found in data.scans.items():
        for task, extra in unseen_labels(labels, found):
            logger.warning("%s: %s: not among the trained labels, so they count as missed: %s",
                           data.sources[part], task, ", ".join(extra))  # fmt: skip


def training_texts(data: Data) -> Any:
    """Texts of the training part only, words joined by spaces."""
    chosen = set(data.indices["train"]) if "train" in data.indices else None
    for number, (_, record) in enumerate(open_source(data.sources["train"])):
        if chosen is None or number in chosen:
            for text in (data.schema.text(record), data.schema.text_pair(record)):
                if text is not None:
                    yield text if isinstance(text, str) else " ".join(text)
