"""Wikitext -> plain text, simply: templates, tables, files and references go, links and headings keep their words.

    plain_text("'''Rome''' is a [[city]] in [[Italy|the south]].{{citation needed}}")
    # "Rome is a city in the south."

Nothing is expanded, so that what a template would say (units, dates, pronunciations) is missing. What is opened and
never closed stays as it is: one lost brace does not swallow an article. Markup:
https://www.mediawiki.org/wiki/Help:Formatting.

Copy: alone; needs only Python.
"""

import html
import re
from collections.abc import Iterator

_WITHOUT_WORDS = ("ref", "gallery", "math", "chem", "timeline", "imagemap", "score", "syntaxhighlight", "source",
                  "graph", "hiero", "templatestyles")  # fmt: skip
_SELF_CLOSED = re.compile(rf"<(?:{'|'.join(_WITHOUT_WORDS)})\b[^<>]*/>", re.IGNORECASE)
_ENCLOSED = [
    (re.compile(opening, re.IGNORECASE), re.compile(closing, re.IGNORECASE))
    for opening, closing in [("<!--", "-->"), *((rf"<{tag}\b[^<>]*>", rf"</{tag}\s*>") for tag in _WITHOUT_WORDS)]
]
_BRACES = re.compile(r"\{\{|\}\}|^[ \t:]*\{\||^[ \t]*\|\}(?!\})", re.MULTILINE)
_EXTERNAL_LINK = re.compile(r"\[(?:https?:|ftp:)?//[^\s\]]+ ?([^\[\]\n]*)\]")
_INNERMOST_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_DEEPEST = 8
_NO_WORDS = re.compile(  # files, categories, the same article in other languages
    r"(?:file|image|media|category|文件|檔案|档案|图像|圖像|图片|圖片|媒体|媒體|分类|分類)\s*:"
    r"|[a-z]{2,3}(?:-[a-z]+)*:",
    re.IGNORECASE,
)
_VARIANT = re.compile(r"-\{(?:[a-zA-Z;\- ]*\|)?([^{}]*)\}-")
_ANY_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*>")
_SWITCH = re.compile(r"__[A-Z]+__")
_HEADING = re.compile(r"^[ \t]*(={2,6})[ \t]*(.+?)[ \t]*\1[ \t]*$", re.MULTILINE)
_LIST_MARK = re.compile(r"^[*#:;]+[ \t]*", re.MULTILINE)
_RULE = re.compile(r"^-{4,}", re.MULTILINE)
_QUOTES = re.compile(r"'{2,5}")
_BLANKS = re.compile(r"[ \t\xa0]+")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


def plain_text(wikitext: str) -> str:
    """The readable words of a page; paragraphs are separated by a blank line."""
    text = _SELF_CLOSED.sub("", wikitext)
    for opening, closing in _ENCLOSED if "<" in text else ():
        text = _without(text, opening, closing)
    text = _without_braces(text)
    text = _EXTERNAL_LINK.sub(r"\1", text)
    for _ in range(_DEEPEST):  # links in the captions of files, from the inside out
        text = _INNERMOST_LINK.sub(lambda match: _words(match[1]), text)
    text = _VARIANT.sub(lambda match: _first_variant(match[1]), text)
    for pattern, words in ((_ANY_TAG, ""), (_SWITCH, ""), (_HEADING, r"\2"), (_LIST_MARK, ""), (_RULE, "")):
        text = pattern.sub(words, text)
    text = _BLANKS.sub(" ", html.unescape(_QUOTES.sub("", text)))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _without(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str:
    """Without what is enclosed; one regular expression for both would take quadratic time on a damaged page."""
    kept, position = [], 0
    while (start := opening.search(text, position)) and (end := closing.search(text, start.end())):
        kept.append(text[position : start.start()])
        position = end.end()
    return "".join([*kept, text[position:]])


def _without_braces(text: str) -> str:
    """Without {{templates}} and {|tables|}, however they are nested."""
    kept, position = [], 0
    for start, end in sorted(_pairs(text)):
        if start >= position:  # not within the pair before
            kept.append(text[position:start])
            position = end
    return "".join([*kept, text[position:]])


def _pairs(text: str) -> Iterator[tuple[int, int]]:
    opened: list[re.Match[str]] = []
    for match in _BRACES.finditer(text):
        mark = match[0].strip(" \t:")
        if mark in ("{{", "{|"):
            opened.append(match)
        elif opened and opened[-1][0].strip(" \t:") == {"}}": "{{", "|}": "{|"}[mark]:
            yield opened.pop().start(), match.end()


def _words(link: str) -> str:
    target, _, label = link.partition("|")
    if target.startswith(":"):
        target = target[1:]
    elif _NO_WORDS.match(target.strip()):
        return ""
    return label.rpartition("|")[2] or target


def _first_variant(text: str) -> str:
    """-{zh-hans:A; zh-hant:B}- says A or B, by the reader's script."""
    first = text.partition(";")[0]
    return first.partition(":")[2].strip() if re.match(r"\s*zh[a-z-]*\s*:", first) else text
