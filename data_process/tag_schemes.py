"""Entity tags of four schemes -> IOB2, and back; an illegal sequence is an error that names the word.

    to_iob2(["B-x", "E-x", "O", "S-y"], "iobes")        # ["B-x", "I-x", "O", "B-y"]
    from_iob2(["B-x", "I-x", "O", "B-y"], "bmes")       # ["B-x", "E-x", "O", "S-y"]

    iob2    B- begins every entity, I- goes on
    iob1    I- everywhere; B- only where an entity follows another of its type at once
    iobes   B- I- E- for the first, inner and last word, S- for an entity of one word (also known as BIOES)
    bmes    the same with M- instead of I-

Copy: alone; needs only Python.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

LETTERS = {"iob2": "BI", "iob1": "BI", "iobes": "BIES", "bmes": "BMES"}


@lru_cache(4096)  # a file has few tags, many times each
def is_tag(tag: str, scheme: str) -> bool:
    """Whether this is a tag of an entity in the scheme, as B-x."""
    return tag[1:2] == "-" and len(tag) > 2 and tag[0] in LETTERS[scheme]


def to_iob2(tags: Sequence[str], scheme: str = "iob2") -> list[str]:
    """The same entities in IOB2; tags among which there is none of an entity (parts of speech) stay as they are.

    Raises: ValueError that names the first illegal word, counted from 1, and what would be right.
    """
    if not any(is_tag(tag, scheme) for tag in tags):
        return list(tags)
    refuse_plain(tags, scheme)
    found = mended(tags)
    if scheme == "iob2" and found == tags:
        return found
    for number, (tag, right) in enumerate(zip(tags, from_iob2(found, scheme), strict=True), 1):
        if tag != right:
            before, after = (["the start", *tags][number - 1], [*tags, "the end"][number])
            place = f"{tag} at word {number}, between {before} and {after}"
            raise ValueError(f"{place}, is illegal in {scheme.upper()}: it must be {right}{elsewhere(tags)}")
    return found


def refuse_plain(tags: Sequence[str], scheme: str) -> None:
    """Raises ValueError that names the first tag that is neither O nor of an entity in the scheme."""
    for number, tag in enumerate(tags, 1):
        if tag != "O" and not is_tag(tag, scheme):
            known = ", ".join(f"{letter}-x" for letter in LETTERS[scheme])
            raise ValueError(f"{tag} at word {number} is not of {scheme.upper()}: O, {known}{elsewhere(tags)}")


def from_iob2(tags: Sequence[str], scheme: str) -> list[str]:
    """Legal IOB2 in another scheme."""
    if scheme == "iob2":
        return list(tags)
    ended, out = ["O", *tags], []
    for before, tag, after in zip(ended, tags, [*tags[1:], "O"], strict=False):
        first, last = tag[:2] == "B-", after != f"I-{tag[2:]}"
        if not is_tag(tag, "iob2"):
            out.append(tag)
        elif scheme == "iob1":
            out.append(("B" if first and before[2:] == tag[2:] else "I") + tag[1:])
        else:
            begins, inner, ends, single = tuple(LETTERS[scheme])
            out.append(((single if last else begins) if first else (ends if last else inner)) + tag[1:])
    return out


def mended(tags: Sequence[str]) -> list[str]:
    """Any tags read as IOB2, with the entities that they probably mean."""
    out, before = [], "O"
    for tag in tags:
        begins = tag[0] in "BS" or before[0] in "OES" or before[2:] != tag[2:]
        out.append(tag if tag == "O" else ("B" if begins else "I") + tag[1:])
        before = tag
    return out


def fitting(tags: Iterable[str]) -> list[str]:
    """The schemes that have all of these tags; none if there is no tag of an entity among them."""
    entities = set(tags) - {"O"}
    return [scheme for scheme in LETTERS if entities and all(is_tag(tag, scheme) for tag in entities)]


def elsewhere(tags: Sequence[str]) -> str:
    """A hint at the option, where another scheme would make these tags legal."""
    legal = [scheme for scheme in fitting(tags) if from_iob2(mended(tags), scheme) == list(tags)]
    return f"; legal with --tag_scheme {' or '.join(legal)}" if legal else ""
