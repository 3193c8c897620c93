"""Articles of a Wikipedia, from its XML dump or from text that was extracted before -> one text per article.

    for where, record in read_articles("zhwiki-pages-articles.xml.bz2", notes):
        print(record)       # {"text": "..."}

    <mediawiki …>       a dump "pages-articles" (https://www.mediawiki.org/wiki/Help:Export); read in constant memory,
                        articles only, markup removed simply, without title
    <doc id=… >         files of wikiextractor (https://github.com/attardi/wikiextractor)
    {"text": …}         one JSON object per line: wikiextractor --json, wiki_zh of nlp_chinese_corpus

Redirects, pages that are no articles, and articles of which no text is left are counted, not written.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..errors import DataError
from ..readers.lines import Items
from ._raw_files import Parts
from ._raw_files import find as find_parts
from ._raw_lines import first_line, raw_lines, read_lines
from ._rows import read_objects
from ._values import clean_text, converted
from ._wikitext import plain_text

FILES = ("*.xml", "*.xml-p*", "wiki_*", "*.json", "*.jsonl")

_DOC = re.compile(r'<doc id="[^"]*".*>')


def find(paths: Sequence[Path]) -> tuple[Parts, list[Path]]:
    """All files together are one part; there are hundreds of extracted ones."""
    return find_parts(paths, FILES, together=True)


def read_articles(file: str, notes: Counter[str]) -> Items:
    """Yield (where, {"text"}) per article."""
    start = first_line(file)
    if start.startswith(("<mediawiki", "<?xml")):
        articles: Iterator[tuple[str, Any]] = _dump(file, notes)
    elif start.startswith("<doc "):
        articles = _extracted(file, notes)
    else:
        articles = converted(read_objects(file, notes), lambda where, item: item.get("text"))
    for where, text in converted(articles, lambda where, text: clean_text(where, text, notes, "text")):
        notes["articles without text, not written"] += text == ""
        if text != "":
            yield where, text if isinstance(text, DataError) else {"text": text}


def _extracted(file: str, notes: Counter[str]) -> Iterator[tuple[str, Any]]:
    start = ""
    lines: list[str | DataError] = []
    for where, line in read_lines(file, notes):
        if not start and isinstance(line, str) and _DOC.fullmatch(line.strip()):
            start = where
        elif start and isinstance(line, str) and line.strip() == "</doc>":
            wrong = next((text for text in lines if isinstance(text, DataError)), None)
            yield start, wrong or "\n".join(map(str, lines))
            start, lines = "", []
        elif start:
            lines.append(line)
        elif isinstance(line, DataError) or line.strip():
            raise DataError(where, f"text outside of <doc …> and </doc>: {str(line)[:40]!r}")
    if start:
        raise DataError(start, "the <doc …> that begins here is not closed; is the file cut off?")


def _dump(file: str, notes: Counter[str]) -> Iterator[tuple[str, Any]]:
    parser: Any = ElementTree.XMLPullParser(("start", "end"))
    where, root, number = "", None, 0
    for number, line in raw_lines(file):
        try:
            parser.feed(line + b"\n")
            events = list(parser.read_events())
        except ElementTree.ParseError as error:
            raise DataError(f"{file}:{number}", f"no XML, or damaged: {error}") from None
        for event, element in events:
            root = element if root is None else root
            if _name(element) != "page":
                continue
            if event == "start":
                where = f"{file}:{number}"
            else:
                yield from _article(where, element, notes)
                root.clear()  # or the tree grows with the file
    if root is None or _name(root) != "mediawiki":
        raise DataError(file, "no MediaWiki dump: its first element must be <mediawiki>")
    try:
        parser.close()
    except ElementTree.ParseError as error:
        raise DataError(f"{file}:{number}", f"the dump is cut off: {error}") from None


def _article(where: str, page: ElementTree.Element, notes: Counter[str]) -> Iterator[tuple[str, Any]]:
    parts = {_name(child): child for child in page}
    revisions = [child for child in page if _name(child) == "revision"]
    if "ns" in parts and parts["ns"].text != "0":
        notes["pages that are no articles, not written"] += 1
    elif "redirect" in parts:
        notes["redirects, not written"] += 1
    elif len(revisions) != 1:
        message = f"the page has {len(revisions)} revisions, expected one; take the dump pages-articles"
        yield where, DataError(where, message)
    else:
        text = next((child.text for child in revisions[0] if _name(child) == "text"), None)
        yield where, plain_text(text or "")


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
