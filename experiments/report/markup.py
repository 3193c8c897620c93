"""HTML and SVG elements whose contents are escaped unless they are elements themselves.

    element("p", "a < b, ", element("b", "c"), class_="note")     # <p class="note">a &lt; b, <b>c</b></p>
"""

import json
import re
from html import escape
from typing import Any

EMPTY = {"meta", "link", "input", "br", "path", "rect", "line", "circle"}
# HTML has no way to write these; in text they would be errors
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Markup(str):
    """Text that is markup already."""


Section = tuple[str, str, Markup]  # id, title, content


def text(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(escape(UNPRINTABLE.sub("\ufffd", str(value))))


def joined(*children: Any) -> Markup:
    """One after the other; lists are unfolded, None is left out."""
    parts = (joined(*child) if isinstance(child, list) else text(child) for child in children if child is not None)
    return Markup("".join(parts))


def element(name: str, *children: Any, **attributes: Any) -> Markup:
    """attributes: class_="a" is class="a", aria_label is aria-label; None and False are left out, True has no value."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{written}/>" if name in EMPTY else f"<{name}{written}>{joined(*children)}</{name}>")


def json_block(value: Any, identity: str) -> Markup:
    """Data for a script of the page; nothing in it can end the element."""
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    content = re.sub("[\ud800-\udfff\u2028\u2029<]", lambda found: f"\\u{ord(found[0]):04x}", content)
    return Markup(f'<script type="application/json" id="{text(identity)}">{content}</script>')
