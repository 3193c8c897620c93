"""Findings, and how they are shown: a table for the terminal, in which Chinese characters take two columns.

    print(as_table([Finding("warning", "data", "leakage", "26 of 700 records …")], width=88))

ok: nothing to do; note: good to know; warning: look at it before you train; error: this run cannot be what you want.
"""

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LEVELS = ("ok", "note", "warning", "error")
COLOURS = {"ok": "32", "note": "36", "warning": "33", "error": "1;31"}
NARROWEST, WIDEST = 60, 100  # columns
MUCH = 0.01  # share from which on something is more than a note


@dataclass
class Finding:
    """One row."""

    level: str
    area: str
    """"data", "model" or "forecast"""
    what: str
    """a word or two"""
    message: str
    """lines that begin with a space stay as they are"""
    figures: dict[str, Any] = field(default_factory=dict)
    """the numbers in it, for check.json"""


def worst(findings: Sequence[Finding]) -> str:
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")


def as_table(findings: Sequence[Finding], width: int, colour: bool = False) -> str:
    """Level, what, message; a heading for each area."""
    first = max(map(len, LEVELS)) + 2
    second = max((columns(finding.what) for finding in findings), default=0) + 2
    lines: list[str] = []
    for number, finding in enumerate(findings):
        if number == 0 or findings[number - 1].area != finding.area:
            lines += ["", f"{finding.area.upper()} {'─' * (width - len(finding.area) - 1)}"]
        level = f"\033[{COLOURS[finding.level]}m{finding.level}\033[0m" if colour else finding.level
        head = level + " " * (first - len(finding.level)) + finding.what + " " * (second - columns(finding.what))
        for line in wrapped(finding.message, width - first - second):
            lines.append((head + line).rstrip())
            head = " " * (first + second)
    counts = {level: sum(finding.level == level for finding in findings) for level in reversed(LEVELS)}
    return "\n".join([*lines, "", ", ".join(f"{count} {level}" for level, count in counts.items() if count)])


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many columns, broken at spaces, or inside what is longer than a line or wide."""
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith(" "):
            lines.append(line[1:])
            continue
        current = ""
        for piece in pieces(line, width):
            if current and columns(current + piece.rstrip(" ")) > width:
                lines.append(current.rstrip(" "))
                current = ""
            current += piece
        lines.append(current.rstrip(" "))
    return lines


def pieces(line: str, width: int) -> list[str]:
    """What a line may be broken between: words with the space behind them, wide characters, parts of long words."""
    found: list[str] = []
    for character in line:
        before = found[-1] if found else " "
        if before[-1] == " " or is_wide(character) or is_wide(before[-1]) or columns(before) >= width:
            found.append(character)
        else:
            found[-1] += character
    return found


def columns(text: str) -> int:
    """Of a terminal."""
    return sum(0 if unicodedata.combining(character) else 1 + is_wide(character) for character in text)


def is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def clean(text: str) -> str:
    """A piece of data as a terminal may show it: without control characters, which could do anything there."""
    shown = (c if c.isprintable() else f"U+{ord(c):04X}" for c in text)
    return "".join(shown)


def terminal_width() -> int:
    return min(WIDEST, max(NARROWEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def in_colour() -> bool:
    """Only for people: https://no-color.org"""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def bars(steps: Sequence[tuple[int, int, int]], width: int = 30) -> list[str]:
    """A histogram: first, last, how many."""
    most, total = max(count for *_, count in steps), sum(count for *_, count in steps)
    digits = len(str(steps[-1][1]))
    lines = []
    for first, last, count in steps:
        bar = "█" * round(width * count / most) or ("▏" if count else "")
        lines.append(f" {first:{digits}}-{last:<{digits}} {bar:{width}} {percent(count / total):>7}")
    return lines


def percent(share: float) -> str:
    """Never 0 % for something, nor 100 % for less than all."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{100 * (min(share, 0.999) if share < 1 else 1):.{0 if share in (0, 1) else 1}f} %"


def size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB" if num_bytes < 1000 else f"{num_bytes / 1000:.1f} TB"


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    for unit, limit in (("s", 90), ("min", 90), ("h", 48)):
        if seconds < limit:
            return f"{seconds:.{1 if seconds < 10 else 0}f} {unit}"
        seconds /= 60 if unit != "h" else 24
    return f"{seconds:.1f} days"


def place(where: str) -> str:
    """file:line with no more of the path than tells files apart."""
    return "/".join(where.split("/")[-2:])


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(clean, names[:most])) + more
