"""Repeated and leaked texts, counted: planted ones, and any texts against brute force."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_process.fingerprints import Fingerprints, copies, plain, repeats

TEXTS = st.sampled_from(["play it", "Play  it", "ｐｌａｙ it", "stop", "中文", "中 文", ""])
RECORDS = st.lists(st.tuples(TEXTS, st.sampled_from("ab")), max_size=12)


def part(records, source="a.jsonl"):
    found = Fingerprints()
    for line, (text, label) in enumerate(records, 1):
        found.add(text, label, f"{source}:{line}")
    return found


def test_planted_ones():
    train = part([("a", "x"), ("b", "x"), ("a", "x"), ("a", "y"), ("B ", "x"), ("c", "y")], "train.jsonl")
    found = repeats(train)
    assert (found.records, found.exact, found.near, found.other_label) == (6, 2, 1, 3)
    assert found.examples == [["train.jsonl:3", "train.jsonl:1"], ["train.jsonl:4", "train.jsonl:1"]]
    test = part([("d", "x"), ("c", "y"), ("c", "x"), ("a", "x"), ("Ｃ", "y")], "test.jsonl")
    found = copies(train, test)
    assert (found.records, found.exact, found.near, found.other_label, found.share) == (5, 3, 1, 2, 0.6)
    assert found.examples == [["test.jsonl:3", "train.jsonl:6"], ["test.jsonl:4", "train.jsonl:1"],
                              ["test.jsonl:2", "train.jsonl:6"]]  # fmt: skip


def test_near_is_capitals_widths_and_spaces_and_nothing_else():
    assert plain("Play  ＩＴ\u3000now") == "playitnow" and plain("play, it") != plain("play it")


@given(RECORDS, RECORDS)
def test_as_brute_force_counts(one, other):
    train, test = part(one), part(other, "b.jsonl")
    known = [[label for text, label in one if text == own] for own, _ in other]
    near = {plain(text) for text, _ in one}
    found = copies(train, test)
    assert found.exact == sum(map(bool, known))
    pairs = [*zip(known, other, strict=True)]
    assert found.near == sum(not labels and plain(text) in near for labels, (text, _) in pairs)
    assert found.other_label == sum(any(n != own for n in labels) for labels, (_, own) in pairs)
    again = repeats(train)
    assert again.exact == len(one) - len({text for text, _ in one})
    assert again.exact + again.near == len(one) - len(near)
    assert again.other_label == sum(any(t == text and n != label for t, n in one) for text, label in one)
    for here, there in found.examples:
        assert other[int(here.split(":")[1]) - 1][0] == one[int(there.split(":")[1]) - 1][0]


def test_several_sources_one_behind_the_other():
    both = part([("a", "x")] * 2)
    both.extend(part([("b", "x"), ("a", "x")], "b.jsonl"))
    assert [both.where(n) for n in range(4)] == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1", "b.jsonl:2"]
    assert repeats(both).examples == [["a.jsonl:2", "a.jsonl:1"], ["b.jsonl:2", "a.jsonl:1"]]


def test_many_records():
    """Nothing is compared with all others: places are found by sorting."""
    large = Fingerprints()
    numbers = np.arange(10**5, dtype=np.uint64)
    for name in ("texts", "plain", "labels", "lines"):
        getattr(large, name).frombytes((numbers // 2).tobytes())
    large.sources = [(0, "a:")]
    assert repeats(large).exact == 50_000 and copies(large, large).exact == 10**5
