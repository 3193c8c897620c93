"""The English Wikipedia, one text per article, for pretraining.

https://dumps.wikimedia.org/enwiki/; text under CC BY-SA 4.0, see https://en.wikipedia.org/wiki/Wikipedia:Copyrights.

Raw files: enwiki-DATE-pages-articles.xml.bz2, compressed or not; or what wikiextractor made of it, files wiki_00, …,
with <doc …> or --json. All files together are one part "all".
"""

from ._wikipedia import FILES, find
from ._wikipedia import read_articles as read

__all__ = ["FILES", "FORM", "find", "read"]

FORM = "corpus"
