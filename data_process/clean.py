"""Cleaning of raw texts, for those who ask for it.

    clean("Caf\\u0065\\u0301  \\u200bau\\tlait\\ufeff")     # "Café au lait"

Copy: alone; needs only Python.
"""

import re
import unicodedata

SPACES = re.compile(r"\s+")
UNSEEN = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffd-\uffff]"
)


def clean(text: str) -> str:
    """Composed characters (NFC), one space for each row of white space, none at the ends, and nothing that is not seen:
    control and formatting characters, soft hyphens, the mark for undecodable bytes. Joiners, which some scripts and
    emoji need, stay."""
    return SPACES.sub(" ", UNSEEN.sub("", unicodedata.normalize("NFC", text))).strip()
