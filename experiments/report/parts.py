"""What several sections of the page show: names, numbers and times."""

from datetime import timedelta

from .markup import Markup, element


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
