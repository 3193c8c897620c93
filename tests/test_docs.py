"""The documents hold together: links and pictures exist, and a page and its Chinese one say the same."""

import re
from pathlib import Path

import pytest

from tests.test_docs_commands import PAGES, ROOT, blocks, english

CHINESE = [page for page in PAGES if page.name.endswith(".zh-CN.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


def prose(page: Path) -> str:
    """Without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")


def broken(page: Path) -> list[str]:
    found = []
    for link in (first or second for first, second in LINK.findall(prose(page))):
        place, _, part = link.partition("#")
        target = page.parent / place if place else page
        if not re.match(r"https?://", link) and not (target.exists() and has_part(target, part)):
            found.append(link)
    return found


def has_part(page: Path, part: str) -> bool:
    return not part or part in map(anchor, re.findall(r"^#+ (.+)$", prose(page), re.M))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_exist(page: Path) -> None:
    assert broken(page) == []


def test_broken_ones_would_be_found(tmp_path: Path) -> None:
    links = '[a](a.md) [b](#one-thing) ![c](c.png) [d](a.md#two) <img src="e.svg">'
    (tmp_path / "a.md").write_text(f"# One thing\n{links}\n```\n[f](f.md)\n```\n")
    assert broken(tmp_path / "a.md") == ["c.png", "a.md#two", "e.svg"]


def figures(text: str) -> list[str]:
    """Numbers of more than one digit; smaller ones may be words."""
    return sorted(set(re.findall(r"\d+(?:[.,:]\d+)+|\d{2,}", text)))


def codes(page: Path) -> list[tuple[str, str]]:
    """Fenced blocks without comments and what is quoted."""
    return [(language, re.sub(r"\s*#.*", "", content)) for language, content in blocks(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_and_its_chinese_one_say_the_same(page: Path) -> None:
    both = [english(page), page]
    levels = [re.findall(r"^(#+) ", prose(each), re.M) for each in both]
    assert levels[0] == levels[1]
    rows = [len(re.findall(r"^\|", prose(each), re.M)) for each in both]
    assert rows[0] == rows[1]
    targets = [sorted(re.sub(r"\.zh-CN", "", a or b) for a, b in LINK.findall(prose(each)) if "#" not in (a or b))
               for each in both]  # fmt: skip
    assert targets[0] == targets[1]
    if page.parent == ROOT:
        return  # its blocks and figures: tests/test_readme.py
    assert codes(both[0]) == codes(both[1])
    by_hand = [prose(each).partition("<!-- written by ")[0] for each in both]  # tables of files are in English
    assert figures(by_hand[0]) == figures(by_hand[1])
    spans = [re.findall(r"`([^`]+)`", re.sub(r"\s+", " ", text)) for text in by_hand]
    inline = [sorted({span for span in own if re.search("[a-z_]{3}", span)}) for own in spans]
    assert inline[0] == inline[1]
    assert re.search("[一-鿿]", prose(page)) and f"({page.name})" in both[0].read_text(encoding="utf-8")
