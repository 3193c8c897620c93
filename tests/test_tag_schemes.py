"""Tag schemes: hand-written cases, and there and back for any legal tags."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_process.tag_schemes import LETTERS, fitting, from_iob2, to_iob2

# One sequence in all schemes: two entities of one type in a row, one of three words, one of another type.
SAME = {
    "iob2": "O B-x B-x I-x O B-y I-y I-y B-x O",
    "iob1": "O I-x B-x I-x O I-y I-y I-y I-x O",
    "iobes": "O S-x B-x E-x O B-y I-y E-y S-x O",
    "bmes": "O S-x B-x E-x O B-y M-y E-y S-x O",
}


@pytest.mark.parametrize("scheme", SAME)
def test_by_hand(scheme):
    assert to_iob2(SAME[scheme].split(), scheme) == SAME["iob2"].split()
    assert from_iob2(SAME["iob2"].split(), scheme) == SAME[scheme].split()


# scheme, tags, number of the first illegal word, what it must be, the schemes in which the tags are legal
ILLEGAL = [
    ("iob2", "O I-x", 2, "B-x", "iob1"),
    ("iob2", "B-x I-y", 2, "B-y", ""),
    ("iob2", "I-x B-x", 1, "B-x", "iob1"),
    ("iob1", "B-x I-x", 1, "I-x", "iob2"),
    ("iob1", "I-x O B-x", 3, "I-x", ""),
    ("iob1", "I-y B-x", 2, "I-x", ""),
    ("iobes", "B-x O", 1, "S-x", "iob2"),
    ("iobes", "B-x I-x O", 2, "E-x", "iob2"),
    ("iobes", "O I-x E-x", 2, "B-x", ""),
    ("iobes", "E-x", 1, "S-x", ""),
    ("iobes", "S-x I-x", 2, "S-x", ""),
    ("iobes", "B-x E-x E-x", 3, "S-x", ""),
    ("iobes", "B-x I-y E-y", 1, "S-x", ""),
    ("bmes", "B-x M-x", 2, "E-x", ""),
    ("bmes", "M-x E-x", 1, "B-x", ""),
    ("bmes", "B-x B-x", 1, "S-x", "iob2"),
]


@pytest.mark.parametrize(("scheme", "tags", "number", "right", "elsewhere"), ILLEGAL)
def test_illegal_words_are_named(scheme, tags, number, right, elsewhere):
    with pytest.raises(ValueError) as error:
        to_iob2(tags.split(), scheme)
    message = str(error.value)
    hint = f"; legal with --tag_scheme {elsewhere}" if elsewhere else ""
    assert message.startswith(f"{tags.split()[number - 1]} at word {number}, between ")
    assert message.endswith(f" is illegal in {scheme.upper()}: it must be {right}{hint}")


@pytest.mark.parametrize(("scheme", "tags", "message"), [
    ("iob2", "B-x E-x", "E-x at word 2 is not of IOB2: O, B-x, I-x; legal with --tag_scheme iobes or bmes"),
    ("iob2", "B-x M-x E-x", "M-x at word 2 is not of IOB2: O, B-x, I-x; legal with --tag_scheme bmes"),
    ("iobes", "B-x M-x E-x", "M-x at word 2 is not of IOBES: O, B-x, I-x, E-x, S-x; legal with --tag_scheme bmes"),
    ("bmes", "B-x I-x", "I-x at word 2 is not of BMES: O, B-x, M-x, E-x, S-x; legal with --tag_scheme iob2"),
    ("iob2", "O B-x NOUN", "NOUN at word 3 is not of IOB2: O, B-x, I-x"),
])  # fmt: skip
def test_tags_of_no_entity_or_of_another_scheme(scheme, tags, message):
    with pytest.raises(ValueError) as error:
        to_iob2(tags.split(), scheme)
    assert str(error.value) == message


@pytest.mark.parametrize("scheme", LETTERS)
@pytest.mark.parametrize("tags", ["", "O O", "NOUN VERB PRP$ B -x", "O NOUN X-1 B-"])
def test_plain_tags_stay(scheme, tags):
    assert to_iob2(tags.split(), scheme) == tags.split() == from_iob2(tags.split(), scheme)
    assert fitting(tags.split()) == []


@st.composite
def iob2(draw):
    """Any legal tags."""
    tags: list[str] = []
    for tag in draw(st.lists(st.sampled_from(["O", "B-x", "B-y", "B-x-y", "I-"]), max_size=12)):
        begins = tag != "I-" or not tags or tags[-1] == "O"
        tags.append((tag if tag != "I-" else "B-x") if begins else "I-" + tags[-1][2:])
    return tags


@given(iob2(), st.sampled_from(list(LETTERS)))
def test_there_and_back(tags, scheme):
    there = from_iob2(tags, scheme)
    assert to_iob2(there, scheme) == tags == to_iob2(tags)
    if set(tags) - {"O"}:
        assert scheme in fitting(there)


@pytest.mark.parametrize("scheme", LETTERS)
def test_exactly_the_images_of_iob2_are_legal(scheme):
    """All sequences of up to four tags: what no IOB2 turns into raises."""
    letters = [f"{letter}-{name}" for letter in LETTERS[scheme] for name in "xy"]
    for size in range(1, 5):
        legal = set()
        for tags in itertools.product(["O", "B-x", "I-x", "B-y", "I-y"], repeat=size):
            pairs = zip(("O", *tags), tags, strict=False)
            if all(tag[0] != "I" or before in (f"B{tag[1:]}", tag) for before, tag in pairs):
                legal.add(tuple(from_iob2(tags, scheme)))
        for tags in itertools.product(["O", *letters], repeat=size):
            if tags in legal:
                assert tuple(from_iob2(to_iob2(tags, scheme), scheme)) == tags
            else:
                with pytest.raises(ValueError, match=r" at word \d"):
                    to_iob2(tags, scheme)
