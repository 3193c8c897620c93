"""The forms of records that converters write, and the check that every record passes.

    check_form("train.txt:7", {"text": "play it", "label": "music"}, "classification")      # or DataError

    classification      {"text", "label"}
    pairs               {"text_a", "text_b", "label"}           label "0", "1", or a float
    tagging             {"tokens", "tags"}                      IOB2; "entities" too where the raw format has overlaps:
                        [{"start", "end", "label"}], in tokens, the end exclusive
    joint               {"tokens", "tags", "intent"}
    question_answering  {"id", "question", "context", "answers": {"text": [], "answer_start": []}}   no answer: empty
    multiple_choice     {"question", "context", "choices", "label"}     label is the number of the right choice, from 0
    generation          {"source", "target"}
    corpus              {"text"}

Unlabelled files have none of the label columns, which are the last ones of each form but `corpus`.
"""

from collections.abc import Callable
from typing import Any

from ..errors import DataError
from ..record_checks import check_text
from ..tag_schemes import to_iob2

_COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # form -> its inputs, its labels
    "classification": (("text",), ("label",)),
    "pairs": (("text_a", "text_b"), ("label",)),
    "tagging": (("tokens",), ("tags", "entities")),
    "joint": (("tokens",), ("tags", "intent")),
    "question_answering": (("id", "question", "context"), ("answers",)),
    "multiple_choice": (("question", "context", "choices"), ("label",)),
    "generation": (("source",), ("target",)),
    "corpus": (("text",), ()),
}
_MAY_BE_EMPTY = {("multiple_choice", "context")}
_OPTIONAL = {"entities"}


def check_form(where: str, record: dict[str, Any], form: str) -> None:
    """Raises DataError if a column is missing, empty, or does not fit the others."""
    inputs, labels = _COLUMNS[form]
    for column in inputs:
        if (form, column) not in _MAY_BE_EMPTY or record.get(column) != "":
            check_text(where, record, column)
    given = [column for column in labels if column in record]
    missing = [column for column in labels if column not in record and column not in _OPTIONAL]
    if given and missing:
        raise DataError(where, f"is missing, but there is {given[0]!r}", missing[0])
    for column in given:
        _CHECKS.get((form, column), check_label)(where, record, column)


def check_label(where: str, record: dict[str, Any], column: str) -> None:
    if not isinstance(record[column], float):
        check_text(where, record, column)


def check_tags(where: str, record: dict[str, Any], column: str) -> None:
    tokens, tags = record["tokens"], record[column]
    if len(tags) != len(tokens):
        raise DataError(where, f"{len(tags)} tags for {len(tokens)} words; there must be one tag per word", column)
    try:
        to_iob2(tags)
    except ValueError as error:
        raise DataError(where, str(error), column) from None


def check_entities(where: str, record: dict[str, Any], column: str) -> None:
    for entity in record[column]:
        if not 0 <= entity["start"] < entity["end"] <= len(record["tokens"]):
            raise DataError(where, f"{entity} is not within the {len(record['tokens'])} tokens", column)


def check_answers(where: str, record: dict[str, Any], column: str) -> None:
    answers, context = record[column], record["context"]
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        found = context[start : start + len(text)]
        if start < 0 or found != text or not text:
            message = f"the answer {text[:40]!r} is not at character {start} of the context: there is {found[:40]!r}"
            raise DataError(where, message, column)


def check_choice(where: str, record: dict[str, Any], column: str) -> None:
    if not 0 <= record[column] < len(record["choices"]):
        raise DataError(where, f"{record[column]} is none of the {len(record['choices'])} choices", column)


_CHECKS: dict[tuple[str, str], Callable[[str, dict[str, Any], str], None]] = {
    ("tagging", "tags"): check_tags,
    ("tagging", "entities"): check_entities,
    ("joint", "tags"): check_tags,
    ("question_answering", "answers"): check_answers,
    ("multiple_choice", "label"): check_choice,
}
