"""Which columns of a record mean what. Plain values, handed around by the wiring script.

    schema = Schema("tokens", None, (LabelColumn("intent", "intent", "sequence"), LabelColumn("slots", "tags", "word")))
    schema.text(record), schema.gold(record)

Copy: with levels/, errors.py, labels.py, tag_schemes.py; needs only Python.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .errors import DataError
from .levels import level_of


@dataclass(frozen=True)
class LabelColumn:
    """The gold label of one task."""

    task: str
    column: str
    level: str
    """a file name of levels/"""
    optional: bool = False
    """whether training records may do without it"""


@dataclass(frozen=True)
class Schema:
    """Text column(s) and label columns of a data set."""

    text_column: str
    text_pair_column: str | None
    labels: tuple[LabelColumn, ...]
    tag_scheme: str = "iob2"
    """of the tags in the records; `gold` gives IOB2"""
    choices_column: str | None = None
    """with the choices of multiple choice: a list of texts"""
    prompt: str = "{text}"
    """for text generation: what the model reads, {text} standing for the text"""
    group_column: str | None = None
    """records with the same value in it are never split between training and evaluation"""

    def __post_init__(self) -> None:
        forms = {level_of(label.level).FORM: label.task for label in self.labels}
        forms.pop(None, None)
        if len(forms) > 1:
            (form, task), (other, second) = sorted(forms.items())[:2]
            raise DataError("arguments", f"{task} needs inputs of the form {form!r}, {second} {other!r}; tasks of "
                            "different forms cannot read the same records", "tasks")  # fmt: skip
        if self.form == "context" and self.text_pair_column is None:
            raise DataError("arguments", "needed for the context; text_column has the question", "text_pair_column")
        if self.form == "choices" and self.choices_column is None:
            raise DataError("arguments", "needed: a column with a list of texts to choose from", "choices_column")

    @cached_property
    def form(self) -> str:
        """Of the inputs: "text", or what the levels ask for, see inputs.py."""
        return next((form for label in self.labels if (form := level_of(label.level).FORM)), "text")

    def text(self, record: dict[str, Any]) -> Any:
        """The text as the encoder wants it: a list of words if any task needs words, else one string."""
        return self._form(record[self.text_column])

    def text_pair(self, record: dict[str, Any]) -> Any:
        """The second text; None if the schema has none, or the record, where it may be missing."""
        text = None if self.text_pair_column is None else record.get(self.text_pair_column)
        return None if text is None else self._form(text)

    def choices(self, record: dict[str, Any]) -> list[str]:
        return [] if self.choices_column is None else record[self.choices_column]

    def gold(self, record: dict[str, Any]) -> dict[str, Any]:
        """References by task; a task whose column is absent or null is left out."""
        values = {label.task: (record.get(label.column), label.level) for label in self.labels}
        return {
            task: level_of(level).gold(value, record, self)
            for task, (value, level) in values.items()
            if value is not None
        }

    def _form(self, text: str | list[str]) -> str | list[str]:
        if isinstance(text, str):
            return text.split() if self.form == "words" else text
        return text if self.form == "words" else " ".join(text)
