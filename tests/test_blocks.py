"""data_process/blocks.py, clean.py, deduplicate.py, parallel.py: what is kept, what is counted, what is reused."""

import json
import logging
import random
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_process.blocks import Blocks, Corpus, Filter, build_blocks, place
from data_process.clean import clean
from data_process.deduplicate import Deduplicator
from data_process.errors import DataError
from data_process.packing import PAD, TEXT, BlockEncoder
from data_process.parallel import in_order
from data_process.tokenizer import train_tokenizer

SENTENCE = "the cat sat on a mat and saw two dogs run to big old house by red sea"
WORDS = SENTENCE.split()
RNG = random.Random(0)
TEXTS = [" ".join(RNG.choices(WORDS, k=RNG.randint(8, 40))) for _ in range(60)]
TOKENIZER = train_tokenizer(TEXTS, 120)


def written(path: Path, texts: list[Any]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def build(tmp_path: Path, *corpora: Corpus, texts: Filter | None = None, **options) -> list[Blocks]:
    return build_blocks(corpora, BlockEncoder(TOKENIZER, 16), tmp_path / "cache", texts, **options)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_figures_are_those_of_the_texts(tmp_path: Path, num_workers: int) -> None:
    [blocks] = build(tmp_path, Corpus("books", [written(tmp_path / "a.jsonl", TEXTS)]), num_workers=num_workers)
    lengths = [len(TOKENIZER(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]
    info = blocks.info
    assert info["texts"] == 60 and info["characters"] == sum(map(len, TEXTS)) and info["tokens"] == sum(lengths)
    assert (blocks.flags & TEXT > 0).sum() == sum(lengths)
    assert (blocks.flags & PAD > 0).sum() == info["padding"] and len(blocks) == info["blocks"]
    assert blocks.ids.dtype == np.uint16 and info["unknown"] == 0
    assert sum(n * count for n, count in enumerate(info["word_lengths"])) == sum(lengths)  # none is so long
    assert info["word_lengths"][1] > info["word_lengths"][2] >= 0


def test_reused_as_long_as_nothing_that_decides_them_changes(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    corpus = Corpus("books", [written(tmp_path / "a.jsonl", TEXTS)])
    [first] = build(tmp_path, corpus)
    [again] = build(tmp_path, corpus)
    assert "blocks taken from" in caplog.text and again.key == first.key
    keys = {first.key}
    keys |= {build(tmp_path, corpus, texts=Filter(min_chars=50))[0].key}
    keys |= {build_blocks([corpus], BlockEncoder(TOKENIZER, 24), tmp_path / "cache")[0].key}
    keys |= {build_blocks([corpus], BlockEncoder(TOKENIZER, 16, crossing=True), tmp_path / "cache")[0].key}
    keys |= {build(tmp_path, corpus, segmenter="jieba")[0].key}
    written(tmp_path / "a.jsonl", TEXTS[1:])
    keys |= {build(tmp_path, corpus)[0].key}
    assert len(keys) == 6
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_what_is_held_out_is_left_out_of_training_also_when_it_is_cached(tmp_path: Path) -> None:
    held = Corpus("held", [written(tmp_path / "held.jsonl", TEXTS[:5])])
    train = Corpus("train", [written(tmp_path / "train.jsonl", [TEXTS[0].upper() + "!", *TEXTS[3:], TEXTS[9]])])
    texts = Filter(similarity=1.0)
    fresh = build(tmp_path, held, train, texts=texts)
    assert fresh[1].info["duplicates"] == 4 and fresh[1].info["texts"] == 55
    for path in (tmp_path / "cache").glob("train-*"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert build(tmp_path, held, train, texts=texts)[1].info == fresh[1].info
    assert build(tmp_path, train, texts=texts)[0].key != fresh[1].key


def test_parts_are_of_the_share_asked_for_and_a_text_stays_in_its_part(tmp_path: Path) -> None:
    many = [f"{text} {number}" for number in range(50) for text in TEXTS]
    file = written(tmp_path / "a.jsonl", [*many, *many[:100]])
    held, rest = build(tmp_path, Corpus("a", [file], part=(0, 0.1)), Corpus("a", [file], part=(0.1, 1)))
    assert held.info["texts"] + rest.info["texts"] == 3100
    assert abs(held.info["texts"] - 310) < 4 * (3100 * 0.1 * 0.9) ** 0.5
    chosen = {text for text in many if place([text]) < 0.1}
    file = written(tmp_path / "chosen.jsonl", sorted(chosen))
    assert build(tmp_path, Corpus("b", [file], part=(0, 0.1)))[0].info["texts"] == len(chosen)
    with pytest.raises(DataError, match="no text is left"):
        build(tmp_path, Corpus("b", [file], part=(0.1, 1)))
    assert place(["a", "b"]) != place(["ab"]) != place(["\ud800"])


def test_a_stop_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    corpus = Corpus("books", [written(tmp_path / "a.jsonl", [*TEXTS, "x", 3])])
    with pytest.raises(DataError, match=r"a\.jsonl:62: text: must be a text, found int"):
        build(tmp_path, corpus)
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(DataError, match="no text is left"):
        build(tmp_path, Corpus("b", [written(tmp_path / "b.jsonl", ["ab"])]), texts=Filter(min_chars=9))


def test_cleaning() -> None:
    assert clean("Cafe\u0301  \u200bau\tlait\ufeff\n") == "Café au lait"
    assert clean("👩\u200d💻 可\u00ad以\x00") == "👩\u200d💻 可以"
    assert clean("a\u3000b\x85c") == "a b c"
    assert clean("\x00\u200b ") == ""


def test_exact_duplicates_but_for_capitals_spaces_and_punctuation() -> None:
    is_new = Deduplicator()
    assert [is_new(t) for t in ("The cat.", "the  cat!", "the cats", "猫。", "猫", "!!", "!!", "!?")] == [
        True, False, True, True, False, True, False, True]  # fmt: skip


def test_near_duplicates_as_brute_force_finds_them() -> None:
    pytest.importorskip("datasketch")
    rng = random.Random(1)
    long = [" ".join(rng.choices(WORDS, k=60)) for _ in range(200)]
    is_new = Deduplicator(0.8)
    assert all(map(is_new, long))
    far = near = overlooked = 0
    for text in long:
        words = text.split()
        for _ in range(rng.choice([0, 1, 12])):
            words[rng.randrange(60)] = "other"
        similarity = jaccard(rows(words), rows(text.split()))
        if similarity > 0.9:
            near += 1
            overlooked += is_new(" ".join(words))
        elif similarity < 0.6:  # more than four standard errors of the estimate below 0.8
            far += 1
            assert is_new(" ".join([*words, "end"])), similarity
    assert near > 40 and far > 40 and overlooked <= 1


def rows(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[n : n + 5]) for n in range(len(words) - 4)}


def jaccard(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def square(number: int) -> int:
    return number * number


def test_workers_give_results_in_order_and_items_are_taken_as_needed() -> None:
    taken = 0

    def items():
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = in_order(square, items(), num_workers=2)
    assert list(islice(results, 10)) == [n * n for n in range(10)]
    assert taken <= 20
    assert list(in_order(square, range(30), 2)) == list(in_order(square, range(30))) == [n * n for n in range(30)]
