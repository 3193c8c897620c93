"""Which of the languages that can be told by their script or their smallest words some texts are in.

    languages_of(["今天天气怎么样", "what is the weather like"])      # ["en", "zh"]

Chinese by its characters without kana, Japanese by kana, Korean by hangul, Russian by Cyrillic, English by words that
half of its sentences have. Others are not guessed.

Copy: alone; needs only Python.
"""

import re
from collections.abc import Iterable

SHARE = 0.1  # of the texts, from which on a language is named
SIGNS = {
    "en": re.compile(r"\b(?:the|and|what|this|that|you|with|my|are)\b", re.I),
    "ja": re.compile("[\u3041-\u30fa]"),
    "ko": re.compile("[\uac00-\ud7a3]"),
    "ru": re.compile("[\u0400-\u04ff]"),
    "zh": re.compile("[\u4e00-\u9fff]"),
}


def languages_of(texts: Iterable[str]) -> list[str]:
    """ISO 639-1 codes, sorted."""
    counts, total = dict.fromkeys(SIGNS, 0), 0
    for text in texts:
        found = {code for code, sign in SIGNS.items() if sign.search(text)}
        for code in found - {"zh"} if "ja" in found else found:
            counts[code] += 1
        total += 1
    return [code for code, count in counts.items() if count and count >= SHARE * total]
