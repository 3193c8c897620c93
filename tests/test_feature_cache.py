"""The cache gives exactly what the encoder makes, and only while nothing that decides it has changed."""

import dataclasses
import datetime
import json
import math
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from data_process import feature_cache
from data_process.encode import RecordEncoder
from data_process.errors import DataError
from data_process.feature_cache import cached_features, content_hash, describe, gold_labels
from data_process.labels import LabelVocab
from data_process.readers import read_records
from data_process.schema import LabelColumn, Schema
from data_process.tokenizer import train_tokenizer
from tests.texts import TEXTS

SCHEMA = Schema("tokens", None, (LabelColumn("intent", "intent", "sequence"), LabelColumn("slots", "tags", "word")))
VOCABS = {"intent": LabelVocab(["a", "b"]), "slots": LabelVocab(["O", "B-x", "I-x"])}


def make_records(number: int) -> list[dict[str, Any]]:
    rng = random.Random(number)
    records: list[dict[str, Any]] = []
    for i in range(number):
        tokens = rng.choice(TEXTS).split()[: rng.randint(1, 6)]
        record: dict[str, Any] = {"tokens": tokens, "id": i}
        record["intent"] = rng.choice(["a", "b", "new", None])
        record["tags"] = rng.choice([None, [rng.choice(["O", "B-x", "B-new"]) for _ in tokens]])
        records.append({name: value for name, value in record.items() if value is not None or rng.random() < 0.5})
    return records


def write(path: Path, records: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def make_encoder(max_length: int = 6, vocab_size: int = 120, **changes: Any) -> RecordEncoder:
    schema = dataclasses.replace(SCHEMA, **changes)
    return RecordEncoder(train_tokenizer(TEXTS, vocab_size), schema, VOCABS, max_length)


def untouched() -> Iterator[Any]:
    pytest.fail("records were read although the cache has them")
    yield


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def full(feature: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """A feature as a row: no gold is null, and the record is there."""
    labels = {task: feature["labels"].get(task) for task in VOCABS}
    return {**feature, "labels": labels, "record": json.dumps(record, ensure_ascii=False)}


# rows


def test_rows_are_what_the_encoder_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "CHUNK", 7)
    records = make_records(30)
    encoder = make_encoder()
    source = write(tmp_path / "train.jsonl", records)
    rows = cached_features(source, read_records(source), encoder, tmp_path / "cache")
    expected = [full(f, r) for f, r in zip(encoder(list(enumerate(records))), records, strict=True)]
    assert list(rows) == expected
    assert any(row["truncated"] for row in expected) and any(row["labels"]["slots"] is None for row in expected)
    numbers = [29, 0, 7, 6, 7]
    assert rows.__getitems__(numbers) == [expected[number] for number in numbers]
    assert entries(tmp_path / "cache") == [Path(rows.cache_files[0]["filename"]).name]


def test_plain_and_byte_level_rows_have_no_columns_of_others(tmp_path: Path) -> None:
    schema = Schema("text", None, (LabelColumn("intent", "intent", "sequence"),))
    encoder = RecordEncoder(train_tokenizer(TEXTS, 120), schema, VOCABS, 9)
    encoder.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    rows = cached_features("hub:none", [("r:1", {"text": "play", "intent": "b"})], encoder, tmp_path)
    assert rows.column_names == ["sample_id", "input_ids", "labels", "truncated", "record"]
    assert rows[0] | {"record": ""} == encoder([(0, {"text": "play", "intent": "b"})])[0] | {"record": ""}


def test_records_of_other_types_than_json_has(tmp_path: Path) -> None:
    others = {"day": [datetime.date(2024, 2, 29)] * 2, "raw": [b"\xff"] * 2, "x": [math.nan] * 2}
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["play", "wake"], **others}), path)
    encoder = RecordEncoder(train_tokenizer(TEXTS, 120), Schema("text", None, ()), {}, 9)
    rows = cached_features(str(path), read_records(str(path)), encoder, tmp_path / "cache")
    assert [json.loads(record)["day"] for record in rows["record"]] == ["2024-02-29"] * 2


# reuse


def test_the_second_call_reads_the_cache(tmp_path: Path) -> None:
    source = write(tmp_path / "train.jsonl", make_records(20))
    first = cached_features(source, read_records(source), make_encoder(), tmp_path / "cache")
    [path] = (tmp_path / "cache").iterdir()
    before = path.stat()
    encoder = make_encoder()
    encoder.tokenizer(TEXTS, padding="max_length", truncation=True, max_length=3)  # leaves its state in the tokenizer
    second = cached_features(source, untouched(), encoder, tmp_path / "cache")
    assert list(second) == list(first)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert len(entries(tmp_path / "cache")) == 1

    os.utime(source, (0, 0))  # not when a file was written counts, but what is in it
    (tmp_path / "moved").mkdir()
    moved = Path(source).rename(tmp_path / "moved" / "train.jsonl")
    cached_features(str(moved), untouched(), encoder, tmp_path / "cache")


def test_every_change_gives_a_new_entry(tmp_path: Path) -> None:
    records = make_records(20)
    source = write(tmp_path / "train.jsonl", records)
    folder = tmp_path / "cache"

    def number_of_entries(encoder: RecordEncoder, limit: int | None = None) -> int:
        cached_features(source, read_records(source), encoder, folder, limit)
        return len(entries(folder))

    swapped = (SCHEMA.labels[0], dataclasses.replace(SCHEMA.labels[1], column="other"))
    assert number_of_entries(make_encoder()) == 1
    assert number_of_entries(make_encoder()) == 1
    assert number_of_entries(make_encoder(), limit=5) == 2
    assert number_of_entries(make_encoder(), limit=6) == 3
    assert number_of_entries(make_encoder(max_length=7)) == 4
    assert number_of_entries(make_encoder(vocab_size=60)) == 5
    assert number_of_entries(make_encoder(labels=swapped)) == 6
    assert number_of_entries(make_encoder(labels=SCHEMA.labels[:1])) == 7
    encoder = make_encoder()
    encoder.vocabs = VOCABS | {"intent": LabelVocab(["b", "a"])}
    assert number_of_entries(encoder) == 8
    encoder = make_encoder()
    encoder.tokenizer.add_tokens(["yesterday"])
    assert number_of_entries(encoder) == 9
    encoder = make_encoder()
    encoder.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert number_of_entries(encoder) == 10
    write(tmp_path / "train.jsonl", [*records[:-1], records[-1] | {"id": -1}])
    assert number_of_entries(make_encoder()) == 11
    write(tmp_path / "train.jsonl", records)
    assert number_of_entries(make_encoder()) == 11


def test_limit(tmp_path: Path) -> None:
    records = make_records(20)
    source = write(tmp_path / "train.jsonl", records)
    rows = cached_features(source, read_records(source), make_encoder(), tmp_path, limit=5)
    assert rows["sample_id"][:] == [0, 1, 2, 3, 4]
    assert [json.loads(record) for record in rows["record"]] == records[:5]


# content


def test_content_hash(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", "1"), ("b.jsonl", "2"), ("folder/x.arrow", "1"), ("folder/deep/y.json", "2")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    a, b, folder = (content_hash(str(tmp_path / name)) for name in ("a.jsonl", "b.jsonl", "folder"))
    assert len({a, b, folder, content_hash("hub:x"), content_hash("hub:y")}) == 5
    assert content_hash(str(tmp_path / "a.jsonl")) == a
    (tmp_path / "folder/deep/y.json").write_text("3")
    assert content_hash(str(tmp_path / "folder")) != folder


# crashes


def test_a_crash_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "CHUNK", 2)
    source = write(tmp_path / "train.jsonl", make_records(20))

    def breaks_off() -> Iterator[Any]:
        for number, pair in enumerate(read_records(source)):
            if number == 11:
                assert len(entries(tmp_path / "cache")) == 1  # there is something half written
                raise DataError("train.jsonl:12", "broken")
            yield pair

    with pytest.raises(DataError, match=r"^train.jsonl:12: broken$"):
        cached_features(source, breaks_off(), make_encoder(), tmp_path / "cache")
    assert entries(tmp_path / "cache") == []
    assert len(cached_features(source, read_records(source), make_encoder(), tmp_path / "cache")) == 20


def test_two_writers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two ranks do: the second one begins and ends while the first one is writing."""
    monkeypatch.setattr(feature_cache, "CHUNK", 2)
    source = write(tmp_path / "train.jsonl", make_records(20))
    encoder, folder = make_encoder(), tmp_path / "cache"

    def interrupted() -> Iterator[Any]:
        for number, pair in enumerate(read_records(source)):
            if number == 9:
                assert len(cached_features(source, read_records(source), encoder, folder)) == 20
            yield pair

    rows = cached_features(source, interrupted(), encoder, folder)
    assert rows["sample_id"][:] == list(range(20))
    assert len(entries(folder)) == 1


# figures and gold labels


def test_figures_by_hand(tmp_path: Path) -> None:
    schema = Schema("text", None, ())
    tokenizer = train_tokenizer(["a b c"] * 3, 20)
    encoder = RecordEncoder(tokenizer, schema, {}, 6)
    texts = ["a", "a b c", "a b c a b", "z a", "z z z z z z z"]  # with [CLS] and [SEP]: 3, 5, 6 cut, 4, 6 cut
    records = [(f"f:{i}", {"text": text}) for i, text in enumerate(texts)]
    rows = cached_features("hub:none", records, encoder, tmp_path)
    assert describe(rows, tokenizer.unk_token_id) == {
        "records": 5,
        "tokens": 24,
        "mean_tokens": 4.8,
        "max_tokens": 6,
        "truncated_share": 0.4,
        "unknown_token_share": round(5 / 24, 4),
    }
    assert describe(rows.select([3, 0]), tokenizer.unk_token_id) == {
        "records": 2,
        "tokens": 7,
        "mean_tokens": 3.5,
        "max_tokens": 4,
        "truncated_share": 0.0,
        "unknown_token_share": round(1 / 7, 4),
    }
    assert describe(rows, None)["unknown_token_share"] == 0.0


def test_gold_labels_are_whole_and_in_the_order_asked_for(tmp_path: Path) -> None:
    records = make_records(40)
    rows = cached_features("hub:none", ((f"f:{i}", r) for i, r in enumerate(records)), make_encoder(), tmp_path)
    numbers = [39, 3, 3, 0]
    assert gold_labels(rows, SCHEMA, numbers) == {
        "intent": [records[number].get("intent") for number in numbers],
        "slots": [records[number].get("tags") for number in numbers],
    }
    everything = gold_labels(rows, SCHEMA, range(40))
    assert everything["slots"] == [record.get("tags") for record in records]
