"""Questions with lettered choices, one JSON object per line, as of CommonsenseQA -> questions, choices, number.

    for where, record in read_choices("dev_rand_split.jsonl", notes):
        print(record)       # {"question": "…", "context": "", "choices": ["bank", "library"], "label": 1}

A line is {"id", "answerKey": "B", "question": {"stem", "choices": [{"label": "A", "text": "bank"}, ...]}}; hidden test
sets have no answerKey.
"""

from collections import Counter
from typing import Any

from ..errors import DataError
from ..readers.lines import Items
from ._rows import read_objects
from ._values import clean_text, converted, need, plain_label


def read_choices(file: str, notes: Counter[str]) -> Items:
    """Yield (where, record) per question; without answerKey no label."""
    return converted(read_objects(file, notes), lambda where, item: _record(where, item, notes))


def _record(where: str, item: dict[str, Any], notes: Counter[str]) -> dict[str, Any]:
    question = need(where, item.get("question"), dict, "question")
    choices = [need(where, choice, dict, "choices") for choice in need(where, question.get("choices"), list, "choices")]
    letters = [plain_label(where, choice.get("label"), notes, "choices") for choice in choices]
    record: dict[str, Any] = {
        "question": clean_text(where, question.get("stem"), notes, "question"),
        "context": "",
        "choices": [choice_text(where, choice.get("text"), notes) for choice in choices],
    }
    if len(set(letters)) < len(letters):
        raise DataError(where, f"two choices have the same letter: {', '.join(letters)}", "choices")
    if "answerKey" not in item:
        return record
    letter = plain_label(where, item["answerKey"], notes)
    if letter not in letters:
        raise DataError(where, f"the answer {letter!r} is none of the choices {', '.join(letters)}", "label")
    return record | {"label": letters.index(letter)}


def choice_text(where: str, value: Any, notes: Counter[str]) -> str:
    """The text of a choice. Raises DataError if it is empty."""
    text = clean_text(where, value, notes, "choices")
    if not text:
        raise DataError(where, "a choice is empty", "choices")
    return text
