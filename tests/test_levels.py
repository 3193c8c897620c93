"""Gold labels of every level: the exact line for each mistake, references, encodings, what is written to files."""

import importlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from data_loader.collate import LEVELS
from data_process import levels
from data_process.checks import scan
from data_process.errors import DataError
from data_process.feature_cache import label_type
from data_process.labels import IGNORE, LabelVocab
from data_process.levels import level_of
from data_process.levels.entities import spans
from data_process.schema import LabelColumn, Schema
from data_process.tag_schemes import from_iob2
from model_utils.heads import head_class, head_kinds

NAMES = sorted(path.stem for path in Path(levels.__file__).parent.glob("[a-z]*.py"))


def label(level: str, optional: bool = False) -> LabelColumn:
    return LabelColumn("task", "gold", level, optional)


TOPICS = Schema("text", None, (label("multi_label"),))
NUMBER = Schema("text", None, (label("number"),))
ENTITIES = Schema("text", None, (label("entities"),))
BMES = Schema("text", None, (label("entities"),), tag_scheme="bmes")
ANSWER = Schema("text", "context", (label("answer"),))
CHOICE = Schema("text", None, (label("choice"),), choices_column="options")
PAIR = Schema("text", "other", (label("pair"),))
UNSCORED = Schema("text", "other", (label("pair", optional=True),))
TEXT = Schema("text", None, (label("text"),))


def topics(value: Any) -> dict[str, Any]:
    return {"text": "a b", "gold": value}


def entities(*values: Any, words: Any = ("in", "new", "york")) -> dict[str, Any]:
    return {"text": list(words), "gold": list(values)}


def entity(start: Any, end: Any, name: Any = "city") -> dict[str, Any]:
    return {"start": start, "end": end, "label": name}


def answer(text: Any, start: Any, context: Any = "He was born in Paris, in 1900.") -> dict[str, Any]:
    return {"text": "Where?", "context": context, "gold": {"text": text, "answer_start": start}}


def choice(value: Any, options: Any = ("yes", "no", "no")) -> dict[str, Any]:
    return {"text": "Is it?", "options": list(options) if isinstance(options, tuple) else options, "gold": value}


WANTED = "must be a list of labels, or a string with | between them"
SPANS = 'must be a list of entities as [{"start": 0, "end": 2, "label": "city"}], or a list of tags'
RIGHT = "right is 0 <= start < end <= 3 words"
ANSWERS = 'must be answers as {"text": [...], "answer_start": [...]}'
FINITE = "must be a finite number, below 3.4e38"
ONE_OF = "must be exactly one of the choices, or its number, counted from 0"

BAD: list[tuple[Schema, dict[str, Any], str]] = [
    # any number of labels
    (TOPICS, {"text": "a"}, "gold: no such column; this record has 'text'"),
    (TOPICS, topics(None), "gold: is null; a gold label is needed here"),
    (TOPICS, topics(3), f"gold: {WANTED}, found int '3'"),
    (TOPICS, topics({"a": 1}), f"""gold: {WANTED}, found dict "{{'a': 1}}\""""),
    (TOPICS, topics(["a", True]), "gold: label 2 must be a string or an integer, not empty, found bool 'True'"),
    (TOPICS, topics(["a", 1.5]), "gold: label 2 must be a string or an integer, not empty, found float '1.5'"),
    (TOPICS, topics([None]), "gold: label 1 must be a string or an integer, not empty, found null"),
    (TOPICS, topics(["a", " "]), "gold: label 2 must be a string or an integer, not empty, found str ' '"),
    (TOPICS, topics("a||b"), "gold: label 2 must be a string or an integer, not empty, found str ''"),
    (TOPICS, topics("a|"), "gold: label 2 must be a string or an integer, not empty, found str ''"),
    (TOPICS, topics(["b", "a", "b"]), "gold: has the label 'b' twice"),
    (TOPICS, topics("1 | 2 | 1"), "gold: has the label '1' twice"),
    (TOPICS, topics([1, "1"]), "gold: has the label '1' twice"),
    (TOPICS, topics(["a\nb"]), r"gold: label 'a\nb' holds the control character U+000A; remove it"),
    (TOPICS, topics(["x" * 257]), "gold: label of 257 characters, at most 256 are usual; is this the right column?"),
    # numbers
    (NUMBER, topics(None), "gold: is null; a gold label is needed here"),
    (NUMBER, topics("high"), f"gold: {FINITE}, found str 'high'"),
    (NUMBER, topics(""), f"gold: {FINITE}, found str ''"),
    (NUMBER, topics(True), f"gold: {FINITE}, found bool 'True'"),
    (NUMBER, topics([1]), f"gold: {FINITE}, found list '[1]'"),
    (NUMBER, topics(math.nan), f"gold: {FINITE}, found float 'nan'"),
    (NUMBER, topics("-inf"), f"gold: {FINITE}, found str '-inf'"),
    (NUMBER, topics(-1e39), f"gold: {FINITE}, found float '-1e+39'"),
    (NUMBER, topics(10**400), f"gold: {FINITE}, found int '1{'0' * 39}'"),
    # entities
    (ENTITIES, topics(7), f"gold: {SPANS}, found int '7'"),
    (ENTITIES, topics({"start": 0}), f"""gold: {SPANS}, found dict "{{'start': 0}}\""""),
    (ENTITIES, entities(entity(0, 1), 5), "gold: entity 2 needs start, end and label, found int '5'"),
    (ENTITIES, entities({"start": 0, "end": 1}),
     """gold: entity 1 needs start, end and label, found dict "{'start': 0, 'end': 1}\""""),
    (ENTITIES, entities(entity(0, 4)), f"gold: entity 1: start 0, end 4; {RIGHT}"),
    (ENTITIES, entities(entity(-1, 2)), f"gold: entity 1: start -1, end 2; {RIGHT}"),
    (ENTITIES, entities(entity(0, 1), entity(2, 2)), f"gold: entity 2: start 2, end 2; {RIGHT}"),
    (ENTITIES, entities(entity("0", 1)), f"gold: entity 1: start '0', end 1; {RIGHT}"),
    (ENTITIES, entities(entity(0, True)), f"gold: entity 1: start 0, end True; {RIGHT}"),
    (ENTITIES, entities(entity(0, 1.0)), f"gold: entity 1: start 0, end 1.0; {RIGHT}"),
    (ENTITIES, entities(entity(0, 1, None)), "gold: entity 1: label must be a string, not empty, found null"),
    (ENTITIES, entities(entity(0, 1, " ")), "gold: entity 1: label must be a string, not empty, found str ' '"),
    (ENTITIES, entities(entity(0, 1, 3)), "gold: entity 1: label must be a string, not empty, found int '3'"),
    (ENTITIES, entities(entity(0, 1, "a\tb")),
     r"gold: label 'a\tb' holds the control character U+0009; remove it"),
    # entities as tags
    (ENTITIES, entities("O", "B-city"), "gold: 2 tags for 3 words; there must be one tag per word"),
    (ENTITIES, topics(""), "gold: 0 tags for 2 words; there must be one tag per word"),
    (ENTITIES, entities("O", 3, "O"), "gold: tag 2 must be a string, not empty, found int '3'"),
    (ENTITIES, entities("O", "B-city", "I-person"),
     "gold: I-person at word 3, between B-city and the end, is illegal in IOB2: it must be B-person"),
    (ENTITIES, entities("O", "NOUN", "O"), "gold: NOUN at word 2 is not of IOB2: O, B-x, I-x"),
    (ENTITIES, entities("I-", "O", "O"), "gold: I- at word 1 is not of IOB2: O, B-x, I-x"),
    (ENTITIES, entities("O", "S-city", "O"),
     "gold: S-city at word 2 is not of IOB2: O, B-x, I-x; legal with --tag_scheme iobes or bmes"),
    (BMES, entities("O", "B-city", "I-city"),
     "gold: I-city at word 3 is not of BMES: O, B-x, M-x, E-x, S-x; legal with --tag_scheme iob2"),
    # answers
    (ANSWER, answer(["Paris"], [15], ["Paris"]),
     """context: must be a string, in which answers have a place, found list "['Paris']\""""),
    (ANSWER, {**answer([], []), "gold": "Paris"}, f"gold: {ANSWERS}, found str 'Paris'"),
    (ANSWER, {**answer([], []), "gold": {"text": ["Paris"]}},
     f"""gold: {ANSWERS}, found dict "{{'text': ['Paris']}}\""""),
    (ANSWER, answer("Paris", 15), "gold: text and answer_start must be lists of the same length"),
    (ANSWER, answer(["Paris"], []), "gold: text and answer_start must be lists of the same length"),
    (ANSWER, answer(["Paris", ""], [15, 0]),
     "gold: an answer is a text, not empty, and an integer, found str '' and int '0'"),
    (ANSWER, answer([None], [15]), "gold: an answer is a text, not empty, and an integer, found null and int '15'"),
    (ANSWER, answer(["Paris"], ["15"]),
     "gold: an answer is a text, not empty, and an integer, found str 'Paris' and str '15'"),
    (ANSWER, answer(["Paris"], [14]), "gold: at 14 the context has ' Pari', not 'Paris'; it stands at 15"),
    (ANSWER, answer(["Paris"], [-1]), "gold: at -1 the context has 'He wa', not 'Paris'; it stands at 15"),
    (ANSWER, answer(["1900"], [-5]), "gold: at -5 the context has 'He w', not '1900'; it stands at 25"),
    (ANSWER, answer(["1900."], [28]), "gold: at 28 the context has '0.', not '1900.'; it stands at 25"),
    (ANSWER, answer(["1900", "London"], [25, 15]),
     "gold: at 15 the context has 'Paris,', not 'London'; the context does not have it"),
    # choices
    (CHOICE, choice(0, None), "options: is null; a list of texts to choose from is needed here"),
    (CHOICE, choice(0, "yes"), "options: must be a list of at least two texts, found str 'yes'"),
    (CHOICE, choice(0, ["yes"]), """options: must be a list of at least two texts, found list "['yes']\""""),
    (CHOICE, choice(0, ["yes", " "]), "options: choice 2 must be a text, not empty, found str ' '"),
    (CHOICE, choice(0, ["yes", 3]), "options: choice 2 must be a text, not empty, found int '3'"),
    (CHOICE, choice("maybe"), f"gold: 'maybe' {ONE_OF}"),
    (CHOICE, choice("no"), f"gold: 'no' {ONE_OF}"),
    (CHOICE, choice("0"), f"gold: '0' {ONE_OF}"),
    (CHOICE, choice(True), "gold: must be the number of a choice, or its text, found bool 'True'"),
    (CHOICE, choice(1.0), "gold: must be the number of a choice, or its text, found float '1.0'"),
    (CHOICE, choice(3), "gold: is choice 3 of 3; they are counted from 0"),
    (CHOICE, choice(-1), "gold: is choice -1 of 3; they are counted from 0"),
    # pairs of texts
    (PAIR, {"text": "a", "other": "b"}, "gold: no such column; this record has 'text', 'other'"),
    (PAIR, {"text": "a", "other": "b", "gold": "alike"}, f"gold: {FINITE}, found str 'alike'"),
    (PAIR, {"text": "a", "other": " ", "gold": 1}, "other: is empty; remove the record or give it a text"),
    (UNSCORED, {"text": "a", "other": "b", "gold": "alike"}, f"gold: {FINITE}, found str 'alike'"),
    (UNSCORED, {"text": "a", "other": 3}, "other: must be a string or a list of words, found int '3'"),
    # texts to be generated
    (TEXT, topics(None), "gold: is null; a gold label is needed here"),
    (TEXT, topics(" "), "gold: must be a text, not empty, found str ' '"),
    (TEXT, topics(["a"]), """gold: must be a text, not empty, found list "['a']\""""),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "wrong", "message"), BAD)
def test_mistakes(schema: Schema, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        scan([("data.jsonl:7", wrong)], schema, "required")
    assert str(error.value) == f"data.jsonl:7: {message}"


CITY = LabelVocab(["city", "state"])
TAGGED = entities("O", "B-city", "I-city")
NESTED = entities(entity(1, 3), entity(1, 3, "state"), entity(1, 3), entity(0, 3, "river"))
WORDS = {"word_starts": [1, 2, 3]}
CUT = {"word_starts": [1, 2]}
PLACES = {"char_starts": [0, 0, 3, 7], "char_ends": [0, 2, 6, 11], "truncated": False}
TWO = answer(["was", "He was"], [3, 0])

LEGAL: list[tuple[Schema, dict[str, Any], Any, dict[str, int], Any, dict[str, Any], Any, Any]] = [
    # schema, record, reference, label counts, vocabulary, inputs, encoded, as it is written
    (TOPICS, topics("b | a"), ["a", "b"], {"a": 1, "b": 1}, LabelVocab(["b", "a"]), {}, [-1, 1, 0], ["a", "b"]),
    (TOPICS, topics([2, "x|y"]), ["2", "x|y"], {"2": 1, "x|y": 1}, LabelVocab(["2"]), {}, [-1, 0], ["2", "x|y"]),
    (TOPICS, topics(" "), [], {}, LabelVocab(["a"]), {}, [-1], []),
    (TOPICS, topics([]), [], {}, LabelVocab(["a"]), {}, [-1], []),
    (NUMBER, topics(3), 3.0, {}, None, {}, 3.0, 3.0),
    (NUMBER, topics(" -1.23456e1 "), -12.3456, {}, None, {}, -12.3456, -12.3456),
    (NUMBER, topics(0.123456), 0.123456, {}, None, {}, 0.123456, 0.1235),
    (ENTITIES, TAGGED, [(1, 3, "city")], {"city": 1}, CITY, WORDS, [(-1, -1, -1), (0, 1, 2)],
     [{"start": 1, "end": 3, "label": "city", "words": ["new", "york"]}]),
    (ENTITIES, TAGGED, [(1, 3, "city")], {"city": 1}, CITY, CUT, [(-1, -1, -1)],
     [{"start": 1, "end": 3, "label": "city", "words": ["new", "york"]}]),
    (ENTITIES, NESTED, [(0, 3, "river"), (1, 3, "city"), (1, 3, "state")], {"river": 1, "city": 1, "state": 1}, CITY,
     WORDS, [(-1, -1, -1), (0, 1, 2), (1, 1, 2)],
     [{"start": 0, "end": 3, "label": "river", "words": ["in", "new", "york"]},
      *({"start": 1, "end": 3, "label": name, "words": ["new", "york"]} for name in ("city", "state"))]),
    (ENTITIES, entities(), [], {}, CITY, WORDS, [(-1, -1, -1)], []),
    (ENTITIES, {"text": "in new york", "gold": "O B-city I-city"}, [(1, 3, "city")], {"city": 1}, CITY, WORDS,
     [(-1, -1, -1), (0, 1, 2)], [{"start": 1, "end": 3, "label": "city", "words": ["new", "york"]}]),
    (BMES, entities("S-city", "B-city", "E-city"), [(0, 1, "city"), (1, 3, "city")], {"city": 2}, CITY, WORDS,
     [(-1, -1, -1), (0, 0, 0), (0, 1, 2)],
     [{"start": 0, "end": 1, "label": "city", "words": ["in"]},
      {"start": 1, "end": 3, "label": "city", "words": ["new", "york"]}]),
    (ANSWER, TWO, {"context": TWO["context"], "spans": [(3, 6), (0, 6)]}, {}, None, PLACES, [2, 2],
     {"text": ["was", "He was"], "answer_start": [3, 0]}),
    (ANSWER, answer([], []), {"context": TWO["context"], "spans": []}, {}, None, PLACES, [0, 0],
     {"text": [], "answer_start": []}),
    (CHOICE, choice("yes"), 0, {}, None, {}, 0, {"number": 0, "text": "yes"}),
    (CHOICE, choice(2), 2, {}, None, {}, 2, {"number": 2, "text": "no"}),
    (PAIR, {"text": "a", "other": "b", "gold": "0"}, 0.0, {}, None, {}, 0.0, 0.0),
    (UNSCORED, {"text": "a", "other": "b", "gold": 0.25}, 0.25, {}, None, {}, 0.25, 0.25),
    (TEXT, topics(" a\nb "), "a\nb", {}, LabelVocab([]), {}, [], "a\nb"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "record", "gold", "counts", "vocab", "feature", "encoded", "shown"), LEGAL)
def test_legal_records(
    schema: Schema,
    record: dict[str, Any],
    gold: Any,
    counts: dict[str, int],
    vocab: Any,
    feature: dict[str, Any],
    encoded: Any,
    shown: Any,
) -> None:
    level = level_of(schema.labels[0].level)
    assert scan([("f:1", record)], schema, "required").label_counts == {"task": counts}
    assert schema.gold(record) == {"task": gold}
    read_again = json.loads(json.dumps(record))
    assert schema.gold(read_again) == {"task": gold}
    if schema is not TEXT:  # its vocabulary is a TargetEncoder, see test_encode.py
        found = level.encode(gold, vocab, feature)
        assert found == encoded and type(found) is type(encoded)
        assert pa.array([found, None], label_type(level)).to_pylist()[1] is None
        as_lists = json.loads(json.dumps(encoded))
        assert pa.array([found], label_type(level)).to_pylist() == [as_lists]
    assert level.shown(gold, record, schema) == shown
    json.dumps(level.shown(gold, record, schema))
    assert level.is_right(level.right(gold), gold) == (schema.labels[0].level not in ("number", "pair"))


def test_wrong_predictions_are_wrong() -> None:
    cases: list[tuple[str, Any, Any]] = [
        ("sequence", "a", "b"),
        ("multi_label", ["a"], ["a", "b"]),
        ("word", ["O"], ["B-x"]),
        ("entities", [(0, 1, "x")], [(0, 1, "y")]),
        ("entities", [], [(0, 1, "y")]),
        ("answer", (0, 2), {"context": "abc", "spans": [(0, 1), (1, 3)]}),
        ("answer", (0, 0), {"context": "abc", "spans": [(0, 1)]}),
        ("answer", (0, 1), {"context": "abc", "spans": []}),
        ("choice", 1, 0),
        ("text", "a", "a "),
        ("number", 1.0, 1.0),  # equality says nothing: all records are listed
        ("pair", 1.0, 1.0),
    ]
    assert {level for level, _, _ in cases} == set(NAMES)
    assert [level for level, prediction, gold in cases if level_of(level).is_right(prediction, gold)] == []


def test_an_answer_is_right_wherever_its_text_stands() -> None:
    gold = {"context": "no, no", "spans": [(0, 2)]}
    assert level_of("answer").is_right((4, 6), gold)
    assert level_of("answer").is_right((0, 0), {"context": "no, no", "spans": []})


def test_predictions_as_they_are_written() -> None:
    record = {"text": ["Where", "?"], "context": ["In", "Paris"]}  # without gold, a context may be words
    assert level_of("answer").shown((3, 8), record, ANSWER) == {"text": ["Paris"], "answer_start": [3]}
    assert level_of("answer").shown((0, 0), record, ANSWER) == {"text": [], "answer_start": []}
    assert level_of("number").shown(1.23456, {}, NUMBER) == 1.2346
    assert level_of("choice").shown(1, choice(0), CHOICE) == {"number": 1, "text": "no"}


def test_alike_texts_need_neither_gold_nor_a_second_text() -> None:
    for record in ({"text": "a"}, {"text": "a", "other": None}, {"text": "a", "other": "b", "gold": None}):
        assert scan([("f:1", record)], UNSCORED, "required").num_records == 1
        assert UNSCORED.gold(record) == {}
    assert level_of("pair").encode(None, None, {}) == math.inf


# entities and tags


@given(st.lists(st.sampled_from(["O", "B-x", "B-y", "go on"]), max_size=12), st.sampled_from(["iob2", "iobes", "bmes"]))
def test_entities_of_tags_against_seqeval(drawn: list[str], scheme: str) -> None:
    tags: list[str] = []
    for tag in drawn:
        last = tags[-1] if tags else "O"
        tags.append(tag if tag != "go on" else "O" if last == "O" else f"I-{last[2:]}")
    expected = [(start, end + 1, name) for name, start, end in get_entities(tags)]
    assert spans(tags) == expected
    schema = Schema("text", None, (label("entities"),), tag_scheme=scheme)
    record = {"text": ["w"] * len(tags), "gold": from_iob2(tags, scheme)}
    assert schema.gold(record) == {"task": expected}


@given(st.data())
def test_encoded_entities_against_a_loop(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    place = st.integers(0, size - 1)
    drawn = data.draw(st.lists(st.tuples(place, place, st.sampled_from(["city", "state", "new"])), max_size=6))
    gold = sorted({(min(a, b), max(a, b) + 1, name) for a, b, name in drawn})
    kept = data.draw(st.integers(0, size))
    expected = [(-1, -1, -1)]
    for start, end, name in gold:
        if name != "new" and all(word < kept for word in range(start, end)):
            expected.append((CITY.names.index(name), start, end - 1))
    assert level_of("entities").encode(gold, CITY, {"word_starts": [1] * kept}) == expected


# the place of answers among sub-words


@given(st.data())
def test_encoded_answers_against_the_characters(data: st.DataObject) -> None:
    """The fewest sub-words that hold all characters of the answer that the tokenizer keeps, or none."""
    sizes = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=8))
    starts, ends, behind = [0], [0], 0
    for gap, size in sizes:  # characters that the tokenizer drops, characters of the sub-word
        starts.append(behind + gap)
        behind += gap + size
        ends.append(behind)
    start = data.draw(st.integers(0, behind + 2))
    end = data.draw(st.integers(start + 1, behind + 3))
    kept = data.draw(st.just(len(sizes)) | st.integers(0, len(sizes)))
    feature = {"char_starts": starts[: kept + 1], "char_ends": ends[: kept + 1], "truncated": kept < len(sizes)}
    holding = [n for n in range(1, len(starts)) if set(range(starts[n], ends[n])) & set(range(start, end))]
    lost = any(n > kept for n in holding) or (kept < len(sizes) and end > ends[kept])
    expected = [IGNORE, IGNORE] if lost or not holding else [holding[0], holding[-1]]
    gold = {"context": "", "spans": [(start, end), (0, 1)]}
    assert level_of("answer").encode(gold, None, feature) == expected


# the levels together


def test_every_level_has_every_member_and_is_known_where_it_must_be() -> None:
    found = re.findall(r"^    (\w+)(?:, (\w+))?[( ]", levels.__doc__ or "", re.MULTILINE)
    contract = {name for names in found for name in names if name}
    assert {"FORM", "DTYPE", "DEPTH", "check", "right"} <= contract and len(contract) == 11
    for name in NAMES:
        assert contract <= set(dir(importlib.import_module(f"data_process.levels.{name}"))), name
    assert sorted(LEVELS) == NAMES
    assert {head_class(kind).LABEL_LEVEL for kind in head_kinds()} == set(NAMES)


FORMS: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    ((), {}, "text"),
    (("sequence", "number", "multi_label"), {}, "text"),
    (("sequence", "word", "entities"), {}, "words"),
    (("answer", "number"), {"text_pair_column": "context"}, "context"),
    (("choice", "sequence"), {"choices_column": "options"}, "choices"),
    (("pair",), {}, "separate"),
    (("text",), {}, "source"),
]


def schema_of(found: tuple[str, ...], **columns: Any) -> Schema:
    labels = tuple(LabelColumn(f"{name} task", name, name) for name in found)
    return Schema("text", columns.pop("text_pair_column", None), labels, **columns)


@pytest.mark.parametrize(("found", "columns", "form"), FORMS)
def test_the_form_of_the_inputs(found: tuple[str, ...], columns: dict[str, Any], form: str) -> None:
    assert schema_of(found, **columns).form == form


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (("word", "pair"), "tasks: pair task needs inputs of the form 'separate', word task 'words'; tasks of "
         "different forms cannot read the same records"),
        (("sequence", "answer"), "text_pair_column: needed for the context; text_column has the question"),
        (("choice",), "choices_column: needed: a column with a list of texts to choose from"),
    ],
)  # fmt: skip
def test_what_a_form_needs(found: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as error:
        schema_of(found)
    assert str(error.value) == f"arguments: {message}"
