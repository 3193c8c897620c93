"""C3: questions with up to four choices about Chinese dialogues (d) and texts of mixed genres (m).

Sun et al. 2020, https://aclanthology.org/2020.tacl-1.10; https://github.com/nlpdata/c3. For non-commercial research
only.

Raw files: c3-d-train.json, c3-m-train.json and the same of dev and test; both kinds together make a part, to have one
alone name its files. Each holds an array of [[paragraph, …], [{"question", "choice": [...], "answer"}, …], id].
Paragraphs, or turns, are joined by a line break.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..readers.lines import Items
from ._choice_format import choice_text
from ._json_documents import read_document, where_of
from ._raw_files import Parts
from ._raw_files import find as find_parts
from ._values import clean_text, converted, need

FORM = "multiple_choice"
FILES = ("*.json",)


def find(paths: Sequence[Path]) -> tuple[Parts, list[Path]]:
    """Dialogues and mixed genres together, but one file of each in a part."""
    parts, unread = find_parts(paths, FILES, together=True)
    for files in parts.values():
        kinds = [next((kind for kind in ("d", "m") if kind in path.stem.lower().split("-")), "") for path in files]
        if len(set(kinds)) < len(kinds) and len(paths) == 1:
            named = ", ".join(path.name for path in files)
            raise DataError(str(paths[0]), f"of {named} at most one per kind makes a part; name the files themselves")
    return parts, unread


def read(file: str, notes: Counter[str]) -> Items:
    documents = need(file, read_document(file, notes), list, "document")
    return converted(_questions(file, documents), lambda where, pair: _record(where, pair[0], pair[1], notes))


def _questions(file: str, documents: list[Any]) -> Iterator[tuple[str, Any]]:
    for number, document in enumerate(documents, 1):
        match document:
            case [list(paragraphs), list(questions), _]:
                for question in questions:
                    yield where_of(question) if isinstance(question, dict) else file, (paragraphs, question)
            case _:
                yield file, DataError(file, f"item {number} must be [[paragraph, …], [question, …], id]")


def _record(where: str, paragraphs: list[Any], question: Any, notes: Counter[str]) -> dict[str, Any]:
    question = need(where, question, dict, "question")
    record: dict[str, Any] = {
        "question": clean_text(where, question.get("question"), notes, "question"),
        "context": "\n".join(need(where, paragraph, str, "context") for paragraph in paragraphs),
        "choices": [choice_text(where, text, notes) for text in need(where, question.get("choice"), list, "choices")],
    }
    if "answer" not in question:
        return record
    answer = clean_text(where, question["answer"], notes, "label")
    if answer not in record["choices"]:
        raise DataError(where, f"the answer {answer!r} is none of the choices {record['choices']}", "label")
    notes["answers that are two equal choices; the first was taken"] += record["choices"].count(answer) > 1
    return record | {"label": record["choices"].index(answer)}
