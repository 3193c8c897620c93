"""Questions about paragraphs in the JSON of SQuAD 1.1 or 2.0 -> questions with their contexts and answers.

    for where, record in read_squad("dev-v2.0.json", notes):
        print(record)       # {"id", "question", "context", "answers": {"text": ["Rome"], "answer_start": [17]}}

Format: https://rajpurkar.github.io/SQuAD-explorer/. A question with `is_impossible` has no answers, and `where` is the
line of the question.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..errors import DataError, caught
from ..readers.lines import Items
from ._json_documents import read_document, where_of
from ._values import converted, need


def read_squad(file: str, notes: Counter[str]) -> Items:
    """Yield (where, record) per question; without `answers` in the file, as in hidden test sets, none in the record."""
    document = need(file, read_document(file, notes), dict, "document")
    articles = need(where_of(document), document.get("data"), list, "data")
    yield from converted(_questions(file, articles), lambda where, pair: _record(where, pair[0], pair[1]))


def _questions(file: str, articles: list[Any]) -> Iterator[tuple[str, Any]]:
    for article in articles:
        paragraphs = caught(_listed, file, article, "paragraphs")
        if isinstance(paragraphs, DataError):
            yield paragraphs.where, paragraphs
        else:
            yield from questions_of(file, paragraphs)


def questions_of(file: str, paragraphs: list[Any]) -> Iterator[tuple[str, Any]]:
    """(where, (paragraph, question)) of each question, or the error of a paragraph that has none."""
    for paragraph in paragraphs:
        questions = caught(_listed, file, paragraph, "qas")
        if isinstance(questions, DataError):
            yield questions.where, questions
            continue
        for question in questions:
            yield where_of(question) if isinstance(question, dict) else file, (paragraph, question)


def _listed(file: str, parent: Any, key: str) -> list[Any]:
    parent = need(file, parent, dict, f"what holds {key}")
    items: list[Any] = need(where_of(parent), parent.get(key), list, key)
    return items


def _record(where: str, paragraph: dict[str, Any], question: Any) -> dict[str, Any]:
    question = need(where, question, dict, "qas")
    record: dict[str, Any] = {
        "id": need(where, question.get("id"), str, "id"),
        "question": need(where, question.get("question"), str, "question"),
        "context": need(where, paragraph.get("context"), str, "context"),
    }
    impossible = need(where, question.get("is_impossible", False), bool, "is_impossible")
    if "answers" not in question and not impossible:
        return record
    given = need(where, question.get("answers", []), list, "answers")
    answers = [need(where, answer, dict, "answers") for answer in given]
    if impossible and answers:
        raise DataError(where, f"is_impossible, but there are {len(answers)} answers", "answers")
    if "is_impossible" in question and not impossible and not answers:
        raise DataError(where, "there is none, but is_impossible is false", "answers")
    texts = [need(where, answer.get("text"), str, "answers") for answer in answers]
    starts = [need(where, answer.get("answer_start"), int, "answers") for answer in answers]
    return record | {"answers": {"text": texts, "answer_start": starts}}
