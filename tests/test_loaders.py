"""Map-style and streaming loaders give the same batches, whoever asks, in constant memory, without global random state.

    python -m pytest tests/test_loaders.py
"""

import json
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loader import samplers, stream_dataset
from data_loader.build import MapDataset, build_line_index, eval_loader, map_loader, stream_loader
from data_loader.collate import Collator
from data_loader.order import longest_first
from data_loader.samplers import BatchSampler, DataChanged
from data_loader.stream_dataset import StreamDataset, count_lines, read_line
from data_process.errors import DataError, caught
from data_process.readers import parse_jsonl_line, parse_text_line, read_items, read_records

ROOT = Path(__file__).resolve().parent.parent
BOM = b"\xef\xbb\xbf"
COLLATE = Collator(0, {"intent": "sequence", "slots": "word"}, pad_to_multiple_of=4)
BIG = 2**20


def encode(records: list[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """One sub-word per character, one word per piece between spaces; labels made from the text."""
    features = []
    for sample_id, record in records:
        words = record["text"].split(" ")
        starts = np.cumsum([0] + [len(word) + 1 for word in words])[:-1]
        features.append(
            {
                "sample_id": sample_id,
                "input_ids": [ord(c) for c in record["text"]],
                "word_starts": starts.tolist(),
                "num_words": len(words),
                "labels": {"intent": len(record["text"]) % 7, "slots": [len(word) for word in words]},
            }
        )
    return features


def json_lines(count: int) -> list[bytes]:
    texts = [" ".join(f"{'wört' * (i % 3)}{j}" for j in range(i % 5)) + f" {i}" for i in range(count)]
    return [json.dumps({"text": text}, ensure_ascii=bool(i % 2)).encode() for i, text in enumerate(texts)]


LINES = json_lines(43)
FILES = {
    "plain.jsonl": b"\n".join(LINES) + b"\n",
    "no_final_newline.jsonl": b"\n".join(LINES),
    "crlf.jsonl": b"\r\n".join(LINES) + b"\r\n",
    "bom.jsonl": BOM + b"\n".join(LINES) + b"\n",
    "blank.jsonl": b"\n \n" + b"\n\r\n\t\n\n".join(LINES) + b"\n\n\n",
    "long.jsonl": b"\n".join([*LINES[:20], json.dumps({"text": "ab " * (BIG // 3)}).encode(), *LINES[20:]]),
    "text.txt": b"\n".join(LINES),
    "mixed.txt": BOM + b"\r\n\xe3\x80\x80\n\r\n".join(LINES) + b"\n\xe3\x80\x80\n\n" + BOM + b"\n",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def parser(path: Path) -> Any:
    return partial(parse_text_line if path.suffix == ".txt" else parse_jsonl_line, where=path.name)


def index_of(path: Path) -> str:
    return build_line_index(path, path.with_suffix(f"{path.suffix}.lines"))


def records_of(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in read_records(str(path))]


def mapped(path: Path, indices: Any = None, batch_size: int = 4, seed: int = 11, **options: Any) -> Any:
    rows = encode(list(enumerate(records_of(path))))
    dataset = MapDataset(lambda numbers: [rows[n] for n in numbers], len(rows), indices)
    return map_loader(dataset, COLLATE, batch_size=batch_size, seed=seed, **options)


def streamed(path: Path, indices: Any = None, batch_size: int = 4, seed: int = 11, **options: Any) -> Any:
    return stream_loader(str(path), index_of(path), parse=parser(path), encode=encode, collate=COLLATE,
                         batch_size=batch_size, seed=seed, indices=indices, **options)  # fmt: skip


def flat(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in batch.items() if k != "labels"} | {f"labels/{k}": v for k, v in batch["labels"].items()}


def assert_same(found: Iterable[dict[str, Any]], expected: Iterable[dict[str, Any]]) -> None:
    for a, b in zip(map(flat, found), map(flat, expected), strict=True):
        assert list(a) == list(b)
        for name in a:
            assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


def sample_ids(batches: Iterable[dict[str, Any]]) -> list[list[int]]:
    return [batch["sample_id"].tolist() for batch in batches]


# --------------------------------------------------------- the same batches


@pytest.mark.parametrize("name", FILES)
def test_streamed_equals_mapped(files, name):
    stream, num_records = streamed(files / name), 44 if name == "long.jsonl" else 43
    for start in ((0, 0), (3, 8)):
        assert_same(stream(*start), mapped(files / name)(*start))
    whole = [n for ids in sample_ids(stream(1, 0)) for n in ids]
    assert sorted(whole) == list(range(num_records)) != whole


@pytest.mark.parametrize("indices", [None, [40, 3, 3, 17, 5, 29, 8, 1, 0, 42, 31], range(10, 35)])
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_any_number_of_workers(files, num_workers, indices):
    path = files / "mixed.txt"
    for epoch, samples_seen in ((0, 0), (2, 4)):
        expected = list(mapped(path, indices)(epoch, samples_seen))
        for loader in (mapped, streamed):
            assert_same(loader(path, indices, num_workers=num_workers)(epoch, samples_seen), expected)
    if indices is not None:
        assert sorted(n for ids in sample_ids(expected) for n in ids) != sorted(indices)  # 4 of them were skipped
        whole = sample_ids(streamed(path, indices, num_workers=num_workers)(2, 0))
        assert sorted(n for ids in whole for n in ids) == sorted(indices)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("count", [37, 43])  # 10 micro-batches; 11, so that rank 1 ends with a stand-in
def test_two_ranks_see_what_one_sees(files, num_workers, count):
    path, indices = files / "crlf.jsonl", range(count)
    alone = list(mapped(path, indices)(1, 0))
    per_rank = []
    for rank in (0, 1):
        options = {"rank": rank, "world_size": 2, "num_workers": num_workers}
        found = list(streamed(path, indices, **options)(1, 0))
        assert_same(mapped(path, indices, **options)(1, 0), found)
        assert len(found) == len(streamed(path, indices, **options)(1, 0)) == (len(alone) + 1) // 2
        per_rank.append(found)
    together = [batch for step in zip(*per_rank, strict=True) for batch in step]
    assert_same(together[: len(alone)], alone)
    for batch in together[len(alone) :]:
        first = alone[0]
        length = int(first["attention_mask"][0].sum())
        assert batch["sample_id"].tolist() == [-1]
        assert batch["input_ids"][0, :length].tolist() == first["input_ids"][0, :length].tolist()
        assert batch["labels"].keys() == first["labels"].keys()
        assert all(bool((gold == -100).all()) for gold in batch["labels"].values())
    assert len(together) - len(alone) == len(alone) % 2


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("loader", [mapped, streamed])
def test_going_on_in_the_middle(files, loader, num_workers):
    whole = list(loader(files / "plain.jsonl")(5, 0))
    for done in (1, 4, 10, 11):
        samples_seen = sum(len(batch["sample_id"]) for batch in whole[:done])
        assert_same(loader(files / "plain.jsonl", num_workers=num_workers)(5, samples_seen), whole[done:])


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_each_sample_once_in_order(files, world_size, num_workers):
    rows = encode(list(enumerate(records_of(files / "plain.jsonl"))))
    dataset = MapDataset(lambda numbers: [rows[n] for n in numbers], len(rows), range(2, 43))
    options = {"batch_size": 4, "world_size": world_size, "num_workers": num_workers}
    per_rank = [sample_ids(eval_loader(dataset, COLLATE, rank=rank, **options)) for rank in range(world_size)]
    batches = [list(range(i, min(i + 4, 43))) for i in range(2, 43, 4)]
    batches += [[-1]] * (-len(batches) % world_size)  # stand-ins
    assert per_rank == [batches[rank::world_size] for rank in range(world_size)]


@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluation_may_begin_with_the_longest(files, world_size):
    """Each sample once; what is batched together has about the same length, and ties keep their order."""
    rows = encode(list(enumerate(records_of(files / "plain.jsonl"))))
    dataset = MapDataset(lambda numbers: [rows[n] for n in numbers], len(rows), range(2, 43))
    lengths = [len(rows[n]["input_ids"]) for n in range(2, 43)]
    options = {"batch_size": 4, "world_size": world_size, "order": longest_first(lengths)}
    per_rank = [sample_ids(eval_loader(dataset, COLLATE, rank=rank, **options)) for rank in range(world_size)]
    turns = [per_rank[turn % world_size][turn // world_size] for turn in range(-(-41 // 4))]
    assert [n for batch in turns for n in batch] == sorted(range(2, 43), key=lambda n: (-len(rows[n]["input_ids"]), n))
    assert len(set(lengths)) > 3


def test_other_seeds_and_epochs_are_other_orders(files):
    orders = [sample_ids(streamed(files / "plain.jsonl", seed=s)(e, 0)) for s in (0, 1, 2) for e in (0, 1, 2)]
    assert all(a != b for a, b in combinations(orders, 2))


def test_one_sample_by_its_number():
    dataset = MapDataset(lambda numbers: encode([(n, {"text": f"a {n}"}) for n in numbers]), 9, [5, 7])
    assert len(dataset) == 2
    assert dataset[1]["sample_id"] == 7 and dataset[~1]["sample_id"] == -1
    assert dataset[~1]["input_ids"] == dataset[1]["input_ids"]
    assert dataset[~1]["labels"] == {"intent": -100, "slots": [-100, -100]}


# ------------------------------------------------------- global random state


def random_states() -> list[Any]:
    numpy_state = np.random.get_state(legacy=False)["state"]
    return [torch.get_rng_state().tolist(), random.getstate(), numpy_state["key"].tolist(), numpy_state["pos"]]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("loader", [mapped, streamed])
def test_global_random_state_is_neither_read_nor_changed(files, loader, num_workers):
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = random_states()
        orders.append(sample_ids(loader(files / "plain.jsonl", num_workers=num_workers)(0, 0)))
        assert random_states() == before
    assert orders[0] == orders[1]


# ------------------------------------------------------------- the line index


def indexed_records(path: Path) -> list[dict[str, Any]]:
    index = index_of(path)
    with open(path, "rb") as data, open(index, "rb") as offsets:
        lines = [read_line(data.fileno(), offsets.fileno(), n) for n in range(count_lines(index))]
    return [parser(path)(line) for line in lines]


def indexed_items(path: Path) -> list[Any]:
    """Records, and None for what is none: the wrong ones must count, too."""
    index = index_of(path)
    with open(path, "rb") as data, open(index, "rb") as offsets:
        lines = [read_line(data.fileno(), offsets.fileno(), n) for n in range(count_lines(index))]
    return [none_if_wrong(caught(parser(path), line)) for line in lines]


def items_of(path: Path) -> list[Any]:
    items = caught(list, read_items(str(path)))
    return [] if isinstance(items, DataError) else [none_if_wrong(record) for _, record in items]  # no record at all


def none_if_wrong(record: Any) -> Any:
    return None if isinstance(record, DataError) else record


@pytest.mark.parametrize("name", FILES)
def test_the_index_finds_the_records_of_the_reader(files, name):
    assert indexed_records(files / name) == records_of(files / name)


PIECES = ["\n", "\r\n", "\r", "\ufeff", "\u3000", " ", "\t", "\x0b", "\x1c", "\x85", "\u2028", "a", "中"]


@settings(deadline=None)
@given(text=st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_index_finds_the_lines_of_any_text(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "any.txt"
    path.write_bytes(text.encode())
    assert indexed_items(path) == items_of(path)


@settings(deadline=None)
@given(
    lines=st.lists(st.sampled_from([b"", b" \t", BOM, b"\x1c", "\u3000".encode(), b"\xff", b"\0", b"{", b"[]",
                                    b'{"a": 1}', BOM + b'{"b": 2}', b' {"c":\t[2]} ']), max_size=9),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
)
def test_the_index_finds_the_lines_of_any_json(tmp_path_factory, lines, end, last):
    path = tmp_path_factory.mktemp("json") / "any.jsonl"
    path.write_bytes(end.join([*lines, b'{"z": 0}']) + end * last)
    assert indexed_items(path) == items_of(path)


@settings(deadline=None)
@given(
    content=st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n", b" ", b"\xff"]), max_size=30).map(b"".join),
    buffered=st.sampled_from([1, 2, 3, 1 << 16]),
)
def test_the_index_against_a_slow_reference(tmp_path_factory, content, buffered):
    path = tmp_path_factory.mktemp("index") / "data"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_dataset, "BUFFERED_OFFSETS", buffered)
        index = build_line_index(path, path.parent / "new" / "folder" / "index")
    expected, start = [], 0
    for position, byte in enumerate(content):
        if byte == ord("\n") or position == len(content) - 1:
            if content[start : position + 1].strip(b" \n"):
                expected.append(start)
            start = position + 1
    assert np.fromfile(index, dtype=np.uint64).tolist() == [*expected, len(content)]
    assert count_lines(index) == len(expected)
    assert [p.name for p in Path(index).parent.iterdir()] == ["index"]


def test_the_index_is_built_once(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\n")
    index = build_line_index(path, tmp_path / "a.lines")
    before = os.stat(index)
    path.unlink()
    assert build_line_index(path, tmp_path / "a.lines") == index
    assert (os.stat(index).st_mtime_ns, os.stat(index).st_ino) == (before.st_mtime_ns, before.st_ino)


def test_several_processes_may_build_it_at_once(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"line\n\n" * 20_000)
    with ThreadPoolExecutor(8) as pool:
        found = {pool.submit(build_line_index, path, tmp_path / "a.lines") for _ in range(8)}
    assert {future.result() for future in found} == {str(tmp_path / "a.lines")}
    assert np.fromfile(tmp_path / "a.lines", dtype=np.uint64).tolist() == [*range(0, 120_000, 6), 120_000]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.lines", "a.txt"]


def test_two_processes_do_not_write_into_the_same_file(tmp_path, monkeypatch):
    """Also with the same process number, as in containers: another one finishes while we are about to."""
    path, index, replace = tmp_path / "a.txt", tmp_path / "a.lines", Path.replace
    path.write_bytes(b"one\ntwo\n")

    def late(unfinished: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        build_line_index(path, index)
        return replace(unfinished, target)

    monkeypatch.setattr(Path, "replace", late)
    assert count_lines(build_line_index(path, index)) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.lines", "a.txt"]


def test_a_failure_leaves_no_index(tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError("disk full")

    path = tmp_path / "a.txt"
    for content in (None, b"one\n"):
        if content:
            path.write_bytes(content)
            monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError):
            build_line_index(path, tmp_path / "cache" / "index")
        assert list((tmp_path / "cache").iterdir()) == []


# -------------------------------------------------------------------- errors


@pytest.mark.parametrize("content", [FILES["plain.jsonl"] + b"\n", FILES["plain.jsonl"][:-1], b""])
def test_a_changed_file_is_noticed_before_its_first_batch(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(FILES["plain.jsonl"])
    loader = streamed(path, num_workers=2)
    loader(0, 0)
    path.write_bytes(content)
    with pytest.raises(DataChanged, match=r"a\.jsonl has changed since its line index .*a\.jsonl\.lines was made"):
        loader(1, 0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_a_worker_raises_keeps_its_text(tmp_path, num_workers):
    """torch can rebuild exceptions of one string only; DataError has two or three."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a b"}\n' * 9 + b'{"text": \n')
    with pytest.raises((DataError, RuntimeError), match=r"a\.jsonl: truncated JSON at column 9"):
        list(streamed(path, num_workers=num_workers)(0, 0))


def test_start_behind_the_end(files):
    for loader in (mapped, streamed):
        with pytest.raises(DataChanged, match="44 samples of epoch 1 are done, but the data set has 43") as caught:
            loader(files / "plain.jsonl")(1, 44)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("number", [43, 44, 10**6])
def test_a_record_that_is_not_there(files, number):
    with pytest.raises(IndexError, match=f"record {number} is not in the file"):
        list(streamed(files / "plain.jsonl", indices=[0, number])(0, 0))


def test_the_data_sets_go_to_a_worker(files):
    """Python 3.14 no longer forks: what a worker needs is pickled."""
    path = files / "plain.jsonl"
    stream = StreamDataset(path, index_of(path), parse=parser(path), encode=encode, collate=COLLATE,
                           sampler=BatchSampler(43, 4, seed=11))  # fmt: skip
    assert_same(pickle.loads(pickle.dumps(stream)), streamed(path)(0, 0))
    dataset = MapDataset(LINES.__getitem__, 5, [1, 2])  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(dataset)).indices == [1, 2]


# -------------------------------------------------------------------- memory


def write_numbered(path: Path, count: int) -> Path:
    path.write_bytes(b"".join(b'{"text": "number %09d and some more words"}\n' % i for i in range(count)))
    return path


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_dataset, "BUFFERED_OFFSETS", 1000)
    monkeypatch.setattr(samplers, "BLOCK", 1000)

    def peak(path: Path) -> int:
        tracemalloc.start()
        index = index_of(path)
        loader = stream_loader(str(path), index, parse=json.loads, encode=lambda records: [{} for _ in records],
                               collate=len, batch_size=32, seed=0)  # fmt: skip
        assert sum(loader(0, 0)) == count_lines(index)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(write_numbered(tmp_path / "first.jsonl", 100))  # what is allocated once
    small = peak(write_numbered(tmp_path / "small.jsonl", 2_000))
    large = peak(write_numbered(tmp_path / "large.jsonl", 32_000))  # 16 times: as many numbers fall outside the domain
    assert large - small < 30_000 / 2  # bytes: the 30,000 further records take less than half a byte each


RESIDENT = """
import sys, torch
sys.path.insert(0, {root!r})
from tests.test_loaders import Path, streamed
torch.set_num_threads(1)
for name in ("small.jsonl", "large.jsonl"):
    for batch in streamed(Path(name), batch_size=64)(0, 0):
        pass
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to read the peak of a process")
def test_resident_memory_does_not_grow_with_the_file(tmp_path):
    write_numbered(tmp_path / "small.jsonl", 2_000)
    write_numbered(tmp_path / "large.jsonl", 20_000)
    command = [sys.executable, "-c", RESIDENT.format(root=str(ROOT))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    small, large = map(int, done.stdout.split())
    assert large < 1.03 * small


# ------------------------------------------------------------- in the real job


def test_streaming_flag_changes_nothing_but_the_way(tmp_path):
    """main.py's loaders with the real reader, tokenizer, cache and collator; a part of the file is split off."""
    import main
    from data_process.sample_data import generate

    path = tmp_path / "train.jsonl"
    records = islice(generate(), 300)
    path.write_text("\n\n".join(json.dumps(r, ensure_ascii=False) for r in records) + "\n\n", encoding="utf-8")
    tasks = [{"name": "intent", "kind": "sequence_classification", "label_column": "intent"},
             {"name": "slots", "kind": "word_tagging", "label_column": "tags"}]  # fmt: skip
    options = {"tasks": json.dumps(tasks), "text_column": "tokens", "train_file": path, "eval_ratio": 0.2,
               "max_length": 12, "batch_size": 16, "model_name_or_path": "scratch:tiny", "scratch_vocab_size": 300,
               "do_train": True, "cache_dir": tmp_path / "cache", "output_dir": tmp_path / "output"}  # fmt: skip
    loaders = {}
    for streaming in (False, True):
        given = options | {"streaming": streaming, "num_workers": 2 if streaming else 0}
        job = main.build_job(main.get_args([f"--{name}={value}" for name, value in given.items()]))
        main.build_data(job)
        loaders[streaming] = main.build_train_loader(job)
        assert len(job.data["data"].indices["train"]) == 240
    for start in ((0, 0), (1, 32)):
        assert_same(loaders[True](*start), loaders[False](*start))
