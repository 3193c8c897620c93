"""From files to encoded data sets, in one call; everything is checked before anything is written.

    tasks = [{"name": "intent", "label_column": "label"}]
    data = build_data({"train": "train.jsonl"}, tasks, {"intent": "sequence"}, shares={"eval": 0.1})
    data.rows("train"), data.indices["eval"], data.encode, data.tokenizer, tasks[0]["labels"]
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .checks import DataInfo, check_file
from .encode import RecordEncoder, TargetEncoder
from .errors import DataError
from .feature_cache import cached_features, content_hash, describe, gold_labels, input_sizes, lengths_of
from .labels import LabelVocab
from .levels import level_of
from .lossless_tokenizer import train_lossless_tokenizer
from .parts import SplitPlan
from .schema import LabelColumn, Schema
from .sources import open_source, origin
from .tokenizer import load_tokenizer, train_tokenizer

logger = logging.getLogger(__name__)
NEEDED = "needed to learn labels, splits or a tokenizer from"


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
    vocabs: dict[str, LabelVocab] = field(default_factory=dict)
    """task -> its labels, where labels have names"""
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

    def lengths(self, part: str) -> Any:
        """Sub-words of the records of a part, in the order of `numbers`."""
        return lengths_of(self.own_rows(part))

    def input_sizes(self, part: str) -> tuple[Any, Any]:
        """Sub-words of the longest input of each record of a part, and its number of inputs, in the same order."""
        targets = [label.task for label in self.schema.labels if label.level == "text"]
        return input_sizes(self.own_rows(part), targets)

    def own_rows(self, part: str) -> Any:
        """Features of the records of a part alone; those that were left out have none."""
        rows = self.rows(part)
        return rows.select(self.indices[part]) if part in self.indices else rows

    def scan_of(self, part: str) -> DataInfo:
        """What was found in the file of a part, which is the training file for parts split off."""
        return self.scans.get(part) or self.scans["train"]

    def references(self, rows: Any) -> Any:
        """The function sample ids -> task -> references."""
        return partial(gold_labels, rows, self.schema)

    def numbers(self, part: str) -> Sequence[int]:
        """Record numbers of a part within its source."""
        return self.indices.get(part, range(self.scan_of(part).num_records))

    def classes(self, part: str) -> list[Any]:
        """The first label, or list of labels, of each record of a part; "" where there is none."""
        found = self.scan_of(part)
        places = np.searchsorted(found.kept, self.numbers(part)).tolist()
        return [found.strata[place] for place in places]

    def figures(self, part: str, streamed: bool = False) -> dict[str, Any]:
        """For dataset_info.json: records, lengths and label counts of a part; of a streamed one without encoding it.

        "skipped": records of its file that were left out, if any.
        """
        skipped = {"skipped": len(self.scan_of(part).skipped)} if self.scan_of(part).skipped else {}
        if streamed:
            counts = {task: dict(found.most_common()) for task, found in self.scan_of(part).label_counts.items()}
            records = len(self.numbers(part))
            return {"source": self.sources[part], "records": records, **skipped, "labels of the source": counts}
        labels = {task: dict(found.most_common()) for task, found in self.label_counts(part).items()}
        found = describe(self.own_rows(part), self.tokenizer.unk_token_id)
        return {"source": self.sources[part], **found, **skipped, "labels": labels}

    def label_counts(self, part: str) -> dict[str, Counter[str]]:
        if part not in self.indices:
            return self.scans[part].label_counts
        gold = gold_labels(self.rows(part), self.schema, self.indices[part])
        counts = {}
        for label in self.schema.labels:
            names = level_of(label.level).names
            counts[label.task] = Counter(chain.from_iterable(names(v) for v in gold[label.task] if v is not None))
        return counts

    def set_encoder(
        self, tokenizer: Any, max_length: int, stride: int = 0, max_target_length: int = 128, causal: bool = False
    ) -> None:
        """Settle how records become features.

        Args:
            max_length: of an input, in sub-words, special tokens included.
            stride: sub-words that two windows of a long text share; 0: it is cut.
            max_target_length: of a text to be generated, in sub-words, special tokens included.
            causal: texts are generated by a model that goes on with its own input.

        Raises: DataError.
        """
        vocabs: dict[str, Any] = dict(self.vocabs)
        for label in self.schema.labels:
            if label.level == "text":
                vocabs[label.task] = TargetEncoder(tokenizer, max_target_length, with_special=not causal)
        self.tokenizer = tokenizer
        self.encode = RecordEncoder(tokenizer, self.schema, vocabs, max_length, stride)


def build_data(
    files: Mapping[str, str],
    tasks: Sequence[dict[str, Any]],
    levels: Mapping[str, str],
    *,
    tokenizer_path: str | None = None,
    vocab_size: int = 8000,
    extra_tokens: Sequence[str] = (),
    trust_remote_code: bool = False,
    max_length: int = 128,
    stride: int = 0,
    shares: Mapping[str, float] | None = None,
    seed: int = 42,
    **options: Any,
) -> Data:
    """One data set with a tokenizer of its own: the four steps below in turn.

    Args:
        tasks: {name, label_column, labels?, …}; `labels` is filled in from the training data where it is missing.
        levels: task -> label level of its head.
        shares, seed: what is split off the training file, stratified.
        options: of `read_data`.
    """
    if "train" not in files and (tokenizer_path is None or shares):
        raise DataError("arguments", NEEDED, "train_file")
    columns = [LabelColumn(task["name"], task["label_column"], levels[task["name"]]) for task in tasks]
    data = read_data(files, columns, plan=SplitPlan(shares or {}, seed), **options)
    settle_labels([data], tasks)
    tokenizer = build_tokenizer([data], tokenizer_path, vocab_size, extra_tokens, trust_remote_code)
    data.set_encoder(tokenizer, max_length, stride)
    return data


def read_data(
    files: Mapping[str, str],
    labels: Sequence[LabelColumn],
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    choices_column: str | None = None,
    prompt: str = "{text}",
    tag_scheme: str = "iob2",
    on_bad_record: Literal["error", "skip"] = "error",
    group_column: str | None = None,
    classes: Collection[str] = (),
    plan: SplitPlan | None = None,
    cache_dir: str | Path = "cache",
    limit: int | None = None,
) -> Data:
    """Check all files of a data set and split.

    Args:
        files: part -> file; gold labels are required but for "predict".
        labels: columns with the gold labels of the tasks.
        text_column, text_pair_column: columns with the text(s).
        choices_column: column with the choices of multiple choice.
        prompt: for text generation, what the model reads, {text} standing for the text.
        tag_scheme: of word-level tags in the files; see tag_schemes.py. Everything behind knows IOB2 only.
        on_bad_record: "skip" leaves wrong records out, with a warning per file; else the first one is an error.
        group_column: records with the same value in it stay in one part.
        classes: only records with these labels, of the first task with one label per record, are in "train", "eval" and
            "test"; none: all.
        plan: what is split off the training file, and how much of it is used.
        cache_dir: folder of encoded data sets.
        limit: only the first so many records of each file.

    Raises: DataError.
    """
    schema = Schema(text_column, text_pair_column, tuple(labels), tag_scheme, choices_column, prompt, group_column)
    scans = {}
    for part, file in files.items():
        gold: Literal["required", "optional"] = "optional" if part == "predict" else "required"
        scans[part] = check_file(file, partial(open_source, file), schema, gold, limit, on_bad_record)
    chosen = {part: places_of(files[part], found, () if part == "predict" else classes)
              for part, found in scans.items()}  # fmt: skip
    numbers = {part: chosen_of(scans[part].kept, places) for part, places in chosen.items()}
    indices = {part: list(own) for part, own in numbers.items() if len(own) < scans[part].num_records}
    data = Data(schema, scans, dict(files), indices, cache_dir, limit)
    if plan and "train" in files:
        found, places, own = scans["train"], chosen["train"], numbers["train"]
        try:
            parts = plan.parts(chosen_of(found.strata, places), chosen_of(found.groups, places) or None)
        except ValueError as error:
            raise DataError(files["train"], str(error)) from error
        data.indices |= {part: [own[i] for i in picked] for part, picked in parts.items()}
        data.sources |= dict.fromkeys(parts, files["train"])
    return data


def places_of(file: str, found: DataInfo, classes: Collection[str]) -> Sequence[int]:
    """Places of the records with one of the classes among the good ones; all where there are no classes."""
    if not classes:
        return range(len(found.strata))
    places = [place for place, label in enumerate(found.strata) if label in classes]
    missing = sorted({*classes} - {label for label in found.strata.labels if isinstance(label, str)})
    if missing:
        right = "they are labels of the first task with one label per record"
        raise DataError(file, f"no record has the class {missing[0]!r}; {right}", "classes")
    return places


def chosen_of(values: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
    """The values at some places, or all of them as they are."""
    return values if len(places) == len(values) or not values else [values[place] for place in places]


def settle_labels(data: Sequence[Data], tasks: Sequence[dict[str, Any]]) -> None:
    """Fill in the `labels` of the tasks, as they are given or from all training files that have the task."""
    levels = {label.task: label.level for part in data for label in part.schema.labels}
    for task in tasks:
        name = task["name"]
        task.setdefault("labels", [])
        if name not in levels or not level_of(levels[name]).NAMED:
            continue
        vocab = given_labels(task)
        if vocab is None:
            trained = [part.scans["train"].label_counts for part in data if "train" in part.scans]
            if not any(name in counts for counts in trained):
                raise DataError("arguments", NEEDED, "train_file")
            found = set().union(*(counts.get(name, {}) for counts in trained))
            vocab = LabelVocab.from_counts(found, levels[name])
        task["labels"] = vocab.names
        for part in data:
            if any(label.task == name for label in part.schema.labels):
                part.vocabs[name] = vocab
    for part in data:
        warn_unseen(part)


def build_tokenizer(
    data: Sequence[Data],
    path: str | None,
    vocab_size: int = 8000,
    extra_tokens: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> Any:
    """One tokenizer for all data sets: loaded from `path`, or with None trained on their training texts."""
    if path is not None:
        in_words = any(part.schema.form == "words" for part in data)
        return load_tokenizer(path, extra_tokens, in_words, trust_remote_code)
    texts = chain.from_iterable(training_texts(part) for part in data if "train" in part.sources)
    generates = any(part.schema.form == "source" for part in data)
    tokenizer = (train_lossless_tokenizer if generates else train_tokenizer)(texts, vocab_size)
    tokenizer.add_tokens(list(extra_tokens))
    return tokenizer


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


def warn_unseen(data: Data) -> None:
    for part, found in data.scans.items():
        for task, vocab in data.vocabs.items():
            extra = vocab.unknown(found.label_counts[task])
            if extra:
                logger.warning("%s: %s: not among the trained labels, so they count as missed: %s",
                               data.sources[part], task, ", ".join(extra))  # fmt: skip


def training_texts(data: Data) -> Iterator[str]:
    """Everything that is read or generated in the training part only, words joined by spaces."""
    chosen = set(data.indices["train"]) if "train" in data.indices else None
    schema = data.schema
    for number, (_, record) in enumerate(islice(open_source(data.sources["train"]), data.limit)):
        if isinstance(record, DataError) or (chosen is not None and number not in chosen):
            continue
        texts = [schema.text(record), schema.text_pair(record), *schema.choices(record)]
        texts += [record.get(label.column) for label in schema.labels if label.level == "text"]
        yield from (text if isinstance(text, str) else " ".join(text) for text in texts if text is not None)
