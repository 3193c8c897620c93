"""Tags of entities as a raw file has them -> IOB2 with known types.

    iob2_tags(["f:1", "f:2"], ["B-nr", "E-nr"], {"nr": "PER"}, "iobes", notes)      # ["B-PER", "I-PER"]
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ..errors import DataError
from ..tag_schemes import LETTERS, is_tag, to_iob2
from ._values import plain_label


def iob2_tags(
    places: Sequence[str], raw: Sequence[str], types: Mapping[str, str] | None, scheme: str, notes: Counter[str]
) -> list[str]:
    """The same entities in IOB2.

    Args:
        places: "file:line" of each tag.
        types: type in the file -> as it is written; None: all types are known.

    Raises: DataError for a tag of another scheme, an unknown type, or an illegal sequence.
    """
    tags = []
    for place, value in zip(places, raw, strict=True):
        tag = plain_label(place, value, notes, "tags")
        if tag != "O" and not is_tag(tag, scheme):
            letters = ", ".join(f"{letter}-x" for letter in LETTERS[scheme])
            raise DataError(place, f"{tag!r} is no tag of {scheme.upper()}: O, {letters}", "tags")
        if tag != "O" and types is not None and tag[2:] not in types:
            raise DataError(place, f"{tag!r} has an unknown type; known: {', '.join(types)}", "tags")
        tags.append(tag if tag == "O" or types is None else tag[:2] + types[tag[2:]])
    try:
        return to_iob2(tags, scheme)
    except ValueError as error:
        message = str(error).partition("; legal with")[0]  # an option of training, not of converting
        raise DataError(places[0], message, "tags") from None


def fewest_illegal(sequences: Iterable[Sequence[str]], schemes: Sequence[str]) -> str:
    """The scheme in which the fewest sequences are illegal, of equal ones the first."""
    wrong = Counter(dict.fromkeys(schemes, 0))
    for tags in sequences:
        for scheme in schemes:
            wrong[scheme] += not _is_legal(tags, scheme)
    return min(schemes, key=lambda scheme: wrong[scheme])


def _is_legal(tags: Sequence[str], scheme: str) -> bool:
    try:
        return all(tag == "O" or is_tag(tag, scheme) for tag in tags) and bool(to_iob2(tags, scheme))
    except ValueError:
        return False
