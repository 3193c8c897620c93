"""Checks before anything is written: the exact message for each mistake, and what a correct file holds."""

import random
from collections import Counter
from typing import Any

import pytest

from data_process.checks import Strata, scan
from data_process.errors import DataError
from data_process.schema import LabelColumn, Schema

INTENT = LabelColumn("intent", "label", "sequence")
SLOTS = LabelColumn("slots", "tags", "word")
TEXT = Schema("text", None, ())
SINGLE = Schema("text", None, (INTENT,))
WORDS = Schema("text", None, (SLOTS,))
PAIR = Schema("text", "other", ())
PLAIN = "in data with entities of IOB2; use O for words outside of entities"


def record(**columns: Any) -> dict[str, Any]:
    return {"text": "a b", **columns}


def tags(*value: Any) -> dict[str, Any]:
    return {"text": [f"w{i}" for i in range(len(value))], "tags": list(value)}


BAD: list[tuple[Schema, dict[str, Any], str]] = [
    # texts
    (TEXT, {}, "text: no such column; this record has none"),
    (TEXT, {"Text": "a", "id": 1}, "text: no such column; this record has 'Text', 'id'"),
    (TEXT, {"text": None}, "text: is null; a text is needed here"),
    (TEXT, {"text": ""}, "text: is empty; remove the record or give it a text"),
    (TEXT, {"text": " \t\u3000\n"}, "text: is empty; remove the record or give it a text"),
    (TEXT, {"text": []}, "text: has no words; remove the record or give it a text"),
    (TEXT, {"text": ["", " "]}, "text: has no words; remove the record or give it a text"),
    (TEXT, {"text": 3}, "text: must be a string or a list of words, found int '3'"),
    (TEXT, {"text": {"a": "b"}}, """text: must be a string or a list of words, found dict "{'a': 'b'}\""""),
    (TEXT, {"text": ["a", None]}, "text: word 2 must be a string, found null"),
    (TEXT, {"text": ["a", 3, None]}, "text: word 2 must be a string, found int '3'"),
    (PAIR, record(), "other: no such column; this record has 'text'"),
    (PAIR, record(other=None), "other: is null; a text is needed here"),
    (PAIR, record(other=" "), "other: is empty; remove the record or give it a text"),
    # one label per record
    (SINGLE, record(), "label: no such column; this record has 'text'"),
    (SINGLE, record(label=None), "label: is null; a gold label is needed here"),
    (SINGLE, record(label=True), "label: must be a label: a string or an integer, found bool 'True'"),
    (SINGLE, record(label=1.0), "label: must be a label: a string or an integer, found float '1.0'"),
    (SINGLE, record(label=["a"]), """label: must be a label: a string or an integer, found list "['a']\""""),
    (SINGLE, record(label=" "), "label: is an empty label"),
    (SINGLE, record(label=""), "label: is an empty label"),
    (SINGLE, record(label="a\nb"), r"label: label 'a\nb' holds the control character U+000A; remove it"),
    (SINGLE, record(label="x" * 300),
     "label: label of 300 characters, at most 256 are usual; is this the right column?"),
    (WORDS, tags("O\x00"), r"tags: tag 'O\x00' holds the control character U+0000; remove it"),
    (TEXT, {"text": "ab" * 600_000},
     "text: has 1,200,000 characters, at most 1,000,000 are read; are line ends lost? Else split it"),
    # one label per word
    (WORDS, record(), "tags: no such column; this record has 'text'"),
    (WORDS, record(tags=None), "tags: is null; a gold label is needed here"),
    (WORDS, record(tags=3), "tags: must be a list of tags, one per word, found int '3'"),
    (WORDS, record(tags={"O": 1}), """tags: must be a list of tags, one per word, found dict "{'O': 1}\""""),
    (WORDS, record(tags=["O", 1]), "tags: tag 2 must be a string, not empty, found int '1'"),
    (WORDS, record(tags=["", "O"]), "tags: tag 1 must be a string, not empty, found str ''"),
    (WORDS, record(tags=[None, None]), "tags: tag 1 must be a string, not empty, found null"),
    (WORDS, record(tags=["O"]), "tags: 1 tags for 2 words; there must be one tag per word"),
    (WORDS, record(tags=[]), "tags: 0 tags for 2 words; there must be one tag per word"),
    (WORDS, record(tags="O O O"), "tags: 3 tags for 2 words; there must be one tag per word"),
    (WORDS, tags("I-x"),
     "tags: I-x at word 1, between the start and the end, is illegal in IOB2: it must be B-x; "
     "legal with --tag_scheme iob1"),
    (WORDS, tags("B-x", "O", "I-x"),
     "tags: I-x at word 3, between O and the end, is illegal in IOB2: it must be B-x"),
    (WORDS, tags("B-x", "I-y"), "tags: I-y at word 2, between B-x and the end, is illegal in IOB2: it must be B-y"),
    (WORDS, tags("O", "B-x", "E-x"),
     "tags: E-x at word 3 is not of IOB2: O, B-x, I-x; legal with --tag_scheme iobes or bmes"),
    (WORDS, tags("B-x", "NOUN"), "tags: NOUN at word 2 is not of IOB2: O, B-x, I-x"),
    (WORDS, tags("B-x", "B-"), "tags: B- at word 2 is not of IOB2: O, B-x, I-x"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "wrong", "message"), BAD)
def test_mistakes(schema: Schema, wrong: dict[str, Any], message: str) -> None:
    """The second record is wrong; nothing behind it is read."""

    def records() -> Any:
        yield "data.jsonl:1", {"text": ["a"], "other": "a", "label": "A", "tags": ["O"]}
        yield "data.jsonl:7", wrong
        pytest.fail("read on after a mistake")

    with pytest.raises(DataError) as error:
        scan(records(), schema, "required")
    assert str(error.value) == f"data.jsonl:7: {message}"


@pytest.mark.parametrize("first", [1, "1"])
def test_labels_of_two_types(first: Any) -> None:
    second = str(first) if isinstance(first, int) else int(first)
    records = [("f:1", record(label=first)), ("f:2", record(label=first)), ("f:3", record(label=second))]
    found = f"{type(second).__name__} '1' after labels of type {type(first).__name__}"
    with pytest.raises(DataError, match=rf"^f:3: label: found {found}; use one type$"):
        scan(records, SINGLE, "required")


def test_another_scheme_is_reported_where_it_begins() -> None:
    """Single-word entities of BIOES may come up long before the first B-."""
    records = [("f:1", tags("O", "S-x")), ("f:4", tags("S-x")), ("f:9", tags("B-x"))]
    hint = "in data with entities of IOB2; use --tag_scheme iobes or bmes"
    for some in (records, records[:2]):
        with pytest.raises(DataError, match=rf"^f:1: tags: found the tag 'S-x' {hint}$"):
            scan(some, WORDS, "required")


def test_plain_tags_beside_entities_are_known_at_the_end() -> None:
    records = [("f:1", tags("O", "NOUN")), ("f:4", tags("VERB")), ("f:9", tags("B-x"))]
    with pytest.raises(DataError) as error:
        scan(records, WORDS, "required")
    assert str(error.value) == f"f:1: tags: found the tag 'NOUN' {PLAIN}"
    found = scan(records, WORDS, "required", on_bad_record="skip")
    assert (found.mixed, found.skipped) == ({"slots"}, [])
    found = scan(records, WORDS, "required", on_bad_record="skip", entities=found.mixed)
    assert (found.skipped, found.kept, found.label_counts) == ([0, 1], [2], {"slots": {"B-x": 1}})
    assert [str(mistake) for mistake in found.mistakes] == [
        f"f:1: tags: found the tag 'NOUN' {PLAIN}",
        f"f:4: tags: found the tag 'VERB' {PLAIN}",
    ]


def test_left_out_records_leave_no_trace() -> None:
    """A wrong record teaches neither labels nor their type; the numbers of the others stay."""
    both = Schema("text", None, (INTENT, SLOTS))
    good = {"text": ["a"], "label": "A", "tags": ["B-x"]}
    records = [("f:1", good | {"label": 7, "tags": ["I-x"]}), ("f:2", good), ("f:3", DataError("f:3", "broken"))]
    records += [("f:4", good | {"label": 3}), ("f:5", good | {"label": "B"})]
    found = scan(records, both, "required", on_bad_record="skip")
    assert (found.num_records, found.skipped, found.kept, [*found.strata]) == (5, [0, 2, 3], [1, 4], ["A", "B"])
    assert found.label_counts == {"intent": {"A": 1, "B": 1}, "slots": {"B-x": 2}}
    with pytest.raises(DataError, match=r"^f:3: broken$"):
        scan(records[1:], both, "required")


LEGAL: list[tuple[Schema, dict[str, Any], dict[str, dict[str, int]]]] = [
    (TEXT, {"text": "NA"}, {}),
    (TEXT, {"text": "\u200b"}, {}),  # a zero-width mark is no white space
    (TEXT, {"text": ["", "a b", " ", "\u200b"], "label": None}, {}),
    (PAIR, {"text": ["a"], "other": "b"}, {}),
    (SINGLE, record(label=0), {"intent": {"0": 1}}),
    (SINGLE, record(label=-1), {"intent": {"-1": 1}}),
    (SINGLE, record(label=" a "), {"intent": {" a ": 1}}),
    (WORDS, tags("B-x", "B-x", "I-x", "I-x", "O", "B-y"), {"slots": {"B-x": 2, "I-x": 2, "O": 1, "B-y": 1}}),
    (WORDS, tags("B-a-b", "I-a-b"), {"slots": {"B-a-b": 1, "I-a-b": 1}}),
    (WORDS, tags("NOUN", "S-1", "PRP$", "B"), {"slots": {"NOUN": 1, "S-1": 1, "PRP$": 1, "B": 1}}),
    (WORDS, {"text": " a\u3000b ", "tags": "O  B-x"}, {"slots": {"O": 1, "B-x": 1}}),
    (WORDS, {"text": ["a b", " "], "tags": "O O"}, {"slots": {"O": 2}}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "legal", "counts"), LEGAL)
def test_legal_records(schema: Schema, legal: dict[str, Any], counts: dict[str, dict[str, int]]) -> None:
    info = scan([("f:1", legal)], schema, "required")
    assert (info.num_records, info.label_counts) == (1, counts)


def test_counts_and_strata_against_counting_again() -> None:
    rng = random.Random(5)
    topic = LabelColumn("topic", "topic", "sequence")
    schema = Schema("text", None, (SLOTS, INTENT, topic))
    records: list[dict[str, Any]] = []
    for number in range(300):
        size = rng.randint(1, 6)
        records.append(
            {
                "text": ["w"] * size,
                "tags": rng.choice([None, [rng.choice(["O", "B-x", "B-y"]) for _ in range(size)]]),
                "label": rng.choice([None, 1, 2, 3]),
                "topic": rng.choice([None, "a", "b"]),
                "id": number,
            }
        )
    for limit in (None, 0, 17, 300, 1000):
        info = scan(((f"f:{i}", r) for i, r in enumerate(records, 1)), schema, "optional", limit)
        read = records[:limit]
        assert info.num_records == len(read)
        assert info.label_counts == {
            "slots": Counter(tag for r in read for tag in r["tags"] or []),
            "intent": Counter(str(r["label"]) for r in read if r["label"]),
            "topic": Counter(r["topic"] for r in read if r["topic"]),
        }
        assert [*info.strata] == [str(r["label"] or r["topic"] or "") for r in read]


def test_optional_gold_is_checked_where_it_is_there() -> None:
    assert scan([("f:1", record()), ("f:2", record(label=None))], SINGLE, "optional").label_counts == {"intent": {}}
    with pytest.raises(DataError, match=r"^f:1: label: is an empty label$"):
        scan([("f:1", record(label=""))], SINGLE, "optional")


def test_strata_are_a_list_that_keeps_equal_labels_once() -> None:
    labels: list[Any] = ["a", ["a"], "", ["a", "b"], [], "a", ["b", "a"], ["a", "b"]] * 100
    strata = Strata()
    for label in labels:
        strata.append(label)
    assert [*strata] == labels and [strata[n] for n in range(len(strata))] == labels and strata[-1] == ["a", "b"]
    assert len(strata.labels) == 6 and strata.of_record.itemsize == 4


def test_nothing_behind_the_limit_is_read() -> None:
    def records() -> Any:
        yield "f:1", record()
        yield "f:2", record()
        pytest.fail("read on behind the limit")

    assert scan(records(), TEXT, "required", limit=2).num_records == 2
