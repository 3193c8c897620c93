"""Which columns of a record mean what. Plain values, handed around by the wiring script.

    schema = Schema("tokens", None, (LabelColumn("intent", "intent", "sequence"), LabelColumn("slots", "tags", "word")))
    schema.text(record), schema.gold(record)
"""

from dataclasses import dataclass
from typing import Any

from .tag_schemes import to_iob2


@dataclass(frozen=True)
class LabelColumn:
    """The gold label of one task."""

    task: str
    column: str
    level: str
    """"sequence": one label per record; "word": one label per word"""


@dataclass(frozen=True)
class Schema:
    """Text column(s) and label columns of a data set."""

    text_column: str
    text_pair_column: str | None
    labels: tuple[LabelColumn, ...]
    tag_scheme: str = "iob2"
    """of the tags in the records; `gold` gives IOB2"""

    @property
    def word_level(self) -> bool:
        return any(label.level == "word" for label in self.labels)

    def text(self, record: dict[str, Any]) -> Any:
        """The text as the encoder wants it: a list of words if any task needs words, else one string."""
        return self._form(record[self.text_column])

    def text_pair(self, record: dict[str, Any]) -> Any:
        return None if self.text_pair_column is None else self._form(record[self.text_pair_column])

    def gold(self, record: dict[str, Any]) -> dict[str, Any]:
        """Gold labels by task, in label names; a task whose column is absent or null is left out."""
        values = {label.task: (record.get(label.column), label.level) for label in self.labels}
        return {task: self._labels(value, level) for task, (value, level) in values.items() if value is not None}

    def _labels(self, value: Any, level: str) -> Any:
        found = names(value, level)
        return found if level != "word" or self.tag_scheme == "iob2" else to_iob2(found, self.tag_scheme)

    def _form(self, text: str | list[str]) -> str | list[str]:
        if isinstance(text, str):
            return text.split() if self.word_level else text
        return text if self.word_level else " ".join(text)


def names(value: Any, level: str) -> Any:
    """Label names of a gold value: integers become text, a string of tags is split at whitespace."""
    if level != "word":
        return str(value)
    return value.split() if isinstance(value, str) else list(value)
