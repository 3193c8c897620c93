"""CMRC 2018: questions about paragraphs of the Chinese Wikipedia, answered by a span.

Cui et al. 2019, https://aclanthology.org/D19-1600; https://github.com/ymcui/cmrc2018. CC BY-SA 4.0.

Raw files: cmrc2018_train.json, cmrc2018_dev.json, cmrc2018_trial.json in the form of SQuAD (squad-style-data), or the
original ones (data): an array of {"context_text", "qas": [{"query_id", "query_text", "answers": [text, …]}]}. The
original answers have no offsets: the first place of the answer in its context is taken, and counted where there are
several. In the form of SQuAD 200 answers of the dev part are not at their offset, and a question of the trial part is
empty: `--on_bad_record skip`.
"""

from collections import Counter
from typing import Any

from ..errors import DataError
from ..readers.lines import Items
from ._json_documents import read_document
from ._raw_lines import first_line
from ._squad_format import questions_of, read_squad
from ._values import converted, need

FORM = "question_answering"
FILES = ("*.json",)


def read(file: str, notes: Counter[str]) -> Items:
    if not first_line(file).startswith("["):
        return read_squad(file, notes)
    paragraphs = read_document(file, notes)
    return converted(questions_of(file, paragraphs), lambda where, pair: _record(where, pair[0], pair[1], notes))


def _record(where: str, paragraph: dict[str, Any], question: Any, notes: Counter[str]) -> dict[str, Any]:
    question = need(where, question, dict, "qas")
    context = need(where, paragraph.get("context_text"), str, "context_text")
    record: dict[str, Any] = {
        "id": need(where, question.get("query_id"), str, "query_id"),
        "question": need(where, question.get("query_text"), str, "query_text"),
        "context": context,
    }
    if "answers" not in question:
        return record
    texts = [need(where, text, str, "answers") for text in need(where, question["answers"], list, "answers")]
    absent = [text for text in texts if text not in context or not text]
    if absent:
        raise DataError(where, f"the answer {absent[0][:40]!r} is not in the context", "answers")
    notes["answers that are more than once in their context; the first place was taken"] += sum(
        context.count(text) > 1 for text in texts
    )
    return record | {"answers": {"text": texts, "answer_start": [context.index(text) for text in texts]}}
