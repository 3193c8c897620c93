"""From files to encoded data sets, in one call; everything is checked before anything is written.

    tasks = [{"name": "intent", "label_column": "label"}]
    data = build_data({"train": "train.jsonl"}, tasks, {"intent": "sequence"}, shares={"eval": 0.1})
    data.rows("train"), data.indices["eval"], data.encode, data.tokenizer, tasks[0]["labels"]
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from .checks import DataInfo, check_file
from .encode import RecordEncoder
from .errors import DataError
from .feature_cache import cached_features, content_hash, describe, gold_labels
from .labels import LabelVocab
from .schema import LabelColumn, Schema
from .sources import open_source, origin
from .splits import stratified_split
from .tokenizer import load_tokenizer, train_tokenizer

logger = logging.getLogger(__name__)


@dataclass
class Data:
    """Parts are "train", "eval", "test" and "predict"."""

    schema: Schema
    scans: dict[str, DataInfo]
    """part with a file of its own -> what was found in it"""
    sources: dict[str, str]
    """part -> where its records come from"""
    indices: dict[str, list[int]]
    """part -> its record numbers within the source; all where absent. Left-out records are in no part, but count"""
    cache_dir: str | Path
    limit: int | None = None
    tokenizer: Any = None
    encode: Any = None
    _rows: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def rows(self, part: str) -> Any:
        """Features of the whole source of a part, as a `datasets.Dataset`; row number = sample id."""
        source, skipped = self.sources[part], self.scan_of(part).skipped
        key = (source, *map(str, skipped))
        if key not in self._rows:
            records = open_source(source)
            self._rows[key] = cached_features(origin(source), records, self.encode, self.cache_dir, self.limit, skipped)
        return self._rows[key]

    def scan_of(self, part: str) -> DataInfo:
        """What was found in the file of a part, which is the training file for parts split off."""
        return self.scans.get(part) or self.scans["train"]

    def references(self, rows: Any) -> Any:
        """The function sample ids -> task -> gold labels."""
        return partial(gold_labels, rows, self.schema)

    def figures(self, part: str, streamed: bool = False) -> dict[str, Any]:
        """For dataset_info.json: records, lengths and label counts of a part; of a streamed one without encoding it.

        "skipped": records of its file that were left out, if any.
        """
        skipped = {"skipped": len(self.scan_of(part).skipped)} if self.scan_of(part).skipped else {}
        if streamed:
            counts = {task: dict(found.most_common()) for task, found in self.scans[part].label_counts.items()}
            records = len(self.indices.get(part, range(self.scans[part].num_records)))
            return {"source": self.sources[part], "records": records, **skipped, "labels of the source": counts}
        rows = self.rows(part)
        rows = rows.select(self.indices[part]) if part in self.indices else rows
        labels = {task: dict(found.most_common()) for task, found in self.label_counts(part).items()}
        found = describe(rows, self.tokenizer.unk_token_id)
        return {"source": self.sources[part], **found, **skipped, "labels": labels}

    def label_counts(self, part: str) -> dict[str, Counter[str]]:
        if part not in self.indices:
            return self.scans[part].label_counts
        gold = gold_labels(self.rows(part), self.schema, self.indices[part])
        counts = {}
        for label in self.schema.labels:
            values = [value for value in gold[label.task] if value is not None]
            counts[label.task] = Counter(chain.from_iterable(values) if label.level == "word" else values)
        return counts


def build_data(
    files: Mapping[str, str],
    tasks: Sequence[dict[str, Any]],
    levels: Mapping[str, str],
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    tag_scheme: str = "iob2",
    on_bad_record: Literal["error", "skip"] = "error",
    shares: Mapping[str, float] | None = None,
    seed: int = 42,
    tokenizer_path: str | None = None,
    vocab_size: int = 8000,
    extra_tokens: Sequence[str] = (),
    max_length: int = 128,
    cache_dir: str | Path = "cache",
    limit: int | None = None,
    trust_remote_code: bool = False,
) -> Data:
    """
    Args:
        files: part -> file; gold labels are required but for "predict".
        tasks: {name, label_column, labels?, …}; `labels` is filled in from the training data where it is missing.
        levels: task -> label level of its head.
        text_column, text_pair_column: columns with the text(s).
        tag_scheme: of word-level tags in the files; see tag_schemes.py. Everything behind knows IOB2 only.
        on_bad_record: "skip" leaves wrong records out, with a warning per file; else the first one is an error.
        shares: part -> share split off the training file, stratified by the first sequence-level label.
        seed: of the split.
        tokenizer_path: None trains one with `vocab_size` entries on the training texts.
        extra_tokens: added to the tokenizer.
        max_length: in sub-words, special tokens included.
        cache_dir: folder of encoded data sets.
        limit: only the first so many records of each file.

    Raises: DataError.
    """
    columns = tuple(LabelColumn(task["name"], task["label_column"], levels[task["name"]]) for task in tasks)
    schema = Schema(text_column, text_pair_column, columns, tag_scheme)
    if "train" not in files and (shares or tokenizer_path is None or not all(task.get("labels") for task in tasks)):
        raise DataError("arguments", "needed to learn labels, splits or a tokenizer from", "train_file")
    scans = {}
    for part, file in files.items():
        gold: Literal["required", "optional"] = "optional" if part == "predict" else "required"
        scans[part] = check_file(file, partial(open_source, file), schema, gold, limit, on_bad_record)
    indices = {part: list(found.kept) for part, found in scans.items() if found.skipped}
    data = Data(schema, scans, dict(files), indices, cache_dir, limit)
    if shares:
        try:
            parts = stratified_split(scans["train"].strata, shares, seed)
        except ValueError as error:
            raise DataError(files["train"], str(error)) from error
        kept = scans["train"].kept
        data.indices |= {part: [kept[i] for i in numbers] for part, numbers in parts.items()}
        data.sources |= dict.fromkeys(shares, files["train"])
    vocabs = {}
    for task in tasks:
        name = task["name"]
        vocabs[name] = given_labels(task) or LabelVocab.from_counts(scans["train"].label_counts[name], levels[name])
        task["labels"] = vocabs[name].names
    warn_unseen(data, vocabs)
    if tokenizer_path is None:
        data.tokenizer = train_tokenizer(training_texts(data), vocab_size)
        data.tokenizer.add_tokens(list(extra_tokens))
    else:
        data.tokenizer = load_tokenizer(tokenizer_path, extra_tokens, schema.word_level, trust_remote_code)
    data.encode = RecordEncoder(data.tokenizer, schema, vocabs, max_length)
    return data


def checksum(source: str) -> str:
    """sha256 of what decides the records of a source."""
    return content_hash(origin(source))


def given_labels(task: Mapping[str, Any]) -> LabelVocab | None:
    """Labels named in the configuration; integers become text, as those of the data do."""
    labels = task.get("labels") or []
    if not isinstance(labels, list):
        raise DataError("arguments", f"labels of {task['name']} must be a list, found {labels!r}", "tasks")
    for label in labels:
        if isinstance(label, bool) or not isinstance(label, str | int):  # YAML reads yes, no, on and off as booleans
            message = f"labels of {task['name']}: {label!r} must be a string or an integer; put it in quotes"
            raise DataError("arguments", message, "tasks")
    try:
        return LabelVocab([str(label) for label in labels]) if labels else None
    except ValueError as error:
        raise DataError("arguments", f"labels of {task['name']}: {error}", "tasks") from error


def warn_unseen(data: Data, vocabs: Mapping[str, LabelVocab]) -> None:
    for part, found in data.scans.items():
        for task, vocab in vocabs.items():
            extra = vocab.unknown(found.label_counts[task])
            if extra:
                logger.warning("%s: %s: not among the trained labels, so they count as missed: %s",
                               data.sources[part], task, ", ".join(extra))  # fmt: skip


def training_texts(data: Data) -> Iterator[str]:
    """Texts of the training part only, words joined by spaces."""
    chosen = set(data.indices["train"]) if "train" in data.indices else None
    for number, (_, record) in enumerate(islice(open_source(data.sources["train"]), data.limit)):
        if not isinstance(record, DataError) and (chosen is None or number in chosen):
            for text in (data.schema.text(record), data.schema.text_pair(record)):
                if text is not None:
                    yield text if isinstance(text, str) else " ".join(text)
