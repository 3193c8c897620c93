"""The one error for wrong input data: it says where, which field, what is wrong and what would be right.

    raise DataError("train.jsonl:17", "expected a string, found 3", field="text")
    # str(error) == "train.jsonl:17: text: expected a string, found 3"

Copy: alone; needs only Python.
"""

from collections.abc import Callable
from typing import Any


class DataError(ValueError):
    """Wrong input data; a typo of the user's, not a bug of ours.

    Args:
        where: file and line ("train.jsonl:17"), or the file alone when all of it is meant.
        message: what is wrong and what would be right.
        field: column or key the message is about; left out of the text when None.
    """

    exit_code = 2

    def __init__(self, where: str, message: str, field: str | None = None) -> None:
        # Unpickling calls DataError(*args): with all three the error survives worker processes.
        super().__init__(where, message, field)
        self.where = where
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.field, self.message) if part is not None)


def caught(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, or the DataError that it raises: one wrong record need not be the end of a file."""
    try:
        return function(*arguments)
    except DataError as error:
        return error


def kind(value: Any) -> str:
    """A wrong value as messages show it."""
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
