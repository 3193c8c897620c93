"""The answer to a question, as a piece of its context: {"text": ["Paris"], "answer_start": [17]}, as in SQuAD.

Several answers are alternatives; without any the question cannot be answered from the context.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DataError, kind
from ..labels import IGNORE

FORM = "context"
NAMED = False
DTYPE, DEPTH = "int64", 1

Answer = tuple[int, int]  # first character in the context, and the one behind the last; (0, 0): no answer


def check(where: str, label: Any, value: Any, record: dict[str, Any], schema: Any) -> None:
    context = record[schema.text_pair_column]
    if not isinstance(context, str):
        raise DataError(where, f"must be a string, in which answers have a place, found {kind(context)}",
                        schema.text_pair_column)  # fmt: skip
    if not isinstance(value, Mapping) or not {"text", "answer_start"} <= value.keys():
        right = '{"text": [...], "answer_start": [...]}'
        raise DataError(where, f"must be answers as {right}, found {kind(value)}", label.column)
    texts, starts = value["text"], value["answer_start"]
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise DataError(where, "text and answer_start must be lists of the same length", label.column)
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text or type(start) is not int:
            message = f"an answer is a text, not empty, and an integer, found {kind(text)} and {kind(start)}"
            raise DataError(where, message, label.column)
        if start < 0 or context[start : start + len(text)] != text:
            found = context[max(start, 0) : max(start, 0) + len(text)]
            elsewhere = context.find(text)
            right = f"it stands at {elsewhere}" if elsewhere >= 0 else "the context does not have it"
            message = f"at {start} the context has {found[:40]!r}, not {text[:40]!r}; {right}"
            raise DataError(where, message, label.column)


def gold(value: Any, record: dict[str, Any], schema: Any) -> dict[str, Any]:
    spans = [(start, start + len(text)) for text, start in zip(value["text"], value["answer_start"], strict=True)]
    return {"context": schema.text_pair(record), "spans": spans}


def names(gold: dict[str, Any]) -> Sequence[str]:
    return ()


def encode(gold: dict[str, Any], vocab: None, feature: dict[str, Any]) -> list[int]:
    """First and last sub-word of the first answer; (0, 0), which is the place of "no answer", if there is none.

    An answer that is not wholly in the input, because the context was cut, is not trained. What the tokenizer swallows
    at the end of an answer (a zero-width mark) is not missed.
    """
    if not gold["spans"]:
        return [0, 0]
    start, end = gold["spans"][0]
    starts, ends = feature["char_starts"], feature["char_ends"]
    inside = [n for n in range(1, len(starts)) if starts[n] < end and ends[n] > start]
    if not inside or (feature["truncated"] and ends[-1] < end):
        return [IGNORE, IGNORE]
    return [inside[0], inside[-1]]


def shown(value: Answer | dict[str, Any], record: dict[str, Any], schema: Any) -> dict[str, Any]:
    """As in the data; a prediction is one answer, or none."""
    spans = value["spans"] if isinstance(value, dict) else [value] * (value != (0, 0))
    context = schema.text_pair(record)
    return {"text": [context[start:end] for start, end in spans], "answer_start": [start for start, _ in spans]}


def is_right(prediction: Answer, gold: dict[str, Any]) -> bool:
    context, (start, end) = gold["context"], prediction
    return context[start:end] in [context[first:last] for first, last in gold["spans"] or [(0, 0)]]


def right(gold: dict[str, Any]) -> Answer:
    return gold["spans"][0] if gold["spans"] else (0, 0)
