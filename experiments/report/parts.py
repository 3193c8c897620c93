"""What several sections of the page show: names, numbers, times, and buttons that lead to wrong records."""

from datetime import timedelta
from typing import Any

from .markup import Markup, element


def brief(path: str) -> str:
    """The end of a path; the configuration has all of it."""
    return path if len(parts := path.split("/")) <= 3 else f"…/{'/'.join(parts[-3:])}"


def duration(seconds: float) -> str:
    """1 d 2:03:04, 2:03:04, 3:04 min, 4.2 s"""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    clock = f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours or whole.days else f"{rest // 60}:{rest % 60:02} min"
    return f"{whole.days} d {clock}" if whole.days else clock


def number(value: float | None, digits: int = 4) -> Markup:
    return element("td", "–" if value is None else f"{value:.{digits}f}", class_="number")


def bdi(value: str) -> Markup:
    """Text from data, whose direction does not change what stands around it."""
    return element("bdi", value)


def share(value: float) -> Markup:
    """A number and a bar as long as it is large."""
    bar = element("svg", element("rect", width=round(40 * value, 1), height=4, class_="bar"), viewBox="0 0 40 4",
                  class_="bar", aria_hidden="true")  # fmt: skip
    return element("td", f"{value:.3f}", bar, class_="number")


def jump(task: str, gold: str, predicted: str | None, *children: Any, **attributes: Any) -> Markup:
    """A button that shows the records with this mistake."""
    return element("button", *children, type_="button", data_task=task, data_gold=gold, data_predicted=predicted,
                   **attributes)  # fmt: skip
