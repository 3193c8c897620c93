"""Sentences with slot tags and an intent, in the three ways they are published -> tokens, tags, intent.

    for where, record in read_joint("train/seq.in", KNOWN_INTENTS, notes):
        print(record)       # {"tokens": ["play", "it"], "tags": ["O", "B-song"], "intent": "PlayMusic"}

    seq.in, seq.out, label      of one folder: line n of each belongs together (Slot-Gated, JointBERT)
    one line per sentence       BOS play it EOS<tab>O O B-song PlayMusic; the intent stands in place of the last tag
    one line per word           `it B-song`, the intent on a line of its own at the end, then a blank line

Intents of which a sentence has several are written with "#" between them.
"""

from collections import Counter
from collections.abc import Collection
from itertools import zip_longest
from pathlib import Path

from ..errors import DataError
from ..readers.lines import Items
from ._column_format import Block, read_blocks
from ._raw_lines import first_line, read_lines
from ._tags import iob2_tags
from ._values import converted, plain_label, skip_blank

SEQ_IN, BESIDE = "seq.in", ("seq.out", "label")


def read_joint(file: str, intents: Collection[str], notes: Counter[str]) -> Items:
    """Yield (where, {"tokens", "tags", "intent"}); without seq.out and label, tokens only.

    Args:
        intents: the known ones; one that is put together of several has "#" or "+" between them.
    """
    if Path(file).name.startswith(SEQ_IN):
        yield from _read_folder(Path(file), intents, notes)
    elif first_line(file).startswith("BOS "):
        lines = skip_blank(read_lines(file, notes), notes)
        yield from converted(lines, lambda where, line: _parse_line(where, line, intents, notes))
    else:
        blocks = read_blocks(file, notes)
        yield from converted(blocks, lambda where, block: _parse_block(where, block, intents, notes))


def _read_folder(file: Path, intents: Collection[str], notes: Counter[str]) -> Items:
    compressed = file.name.removeprefix(SEQ_IN)
    given = [path for name in BESIDE if (path := file.with_name(name + compressed)).is_file()]
    if len(given) == 1:
        raise DataError(str(file), f"there is {given[0].name} beside it, but not both of {' and '.join(BESIDE)}")
    paths = [file, *given]
    for number, lines in enumerate(zip_longest(*(read_lines(str(path), notes) for path in paths)), 1):
        texts = [line[1] for line in lines if line is not None]
        if not any(isinstance(text, DataError) or text.strip() for text in texts):
            notes["blank lines"] += 1
            continue
        for path, line in zip(paths, lines, strict=True):
            if line is None:
                right = f"line n of {', '.join(p.name for p in paths)} must belong together"
                raise DataError(f"{path}:{number}", f"the file ends before this line, and the others go on; {right}")
        wrong = next((text for text in texts if isinstance(text, DataError)), None)
        yield from converted([(lines[0][0], wrong or lines)], lambda _, lines: _parse_lines(lines, intents, notes))


def _parse_lines(
    lines: tuple[tuple[str, str], ...], intents: Collection[str], notes: Counter[str]
) -> dict[str, list[str] | str]:
    where, words = lines[0]
    if len(lines) == 1:
        return {"tokens": words.split()}
    (tags_at, tags), (intent_at, intent) = lines[1:]
    return _record(where, words.split(), (tags_at, tags.split()), (intent_at, intent), intents, notes)


def _parse_line(where: str, line: str, intents: Collection[str], notes: Counter[str]) -> dict[str, list[str] | str]:
    words, separator, tags = line.partition("\t")
    tokens, (*slots, intent) = words.split(), tags.split() or [""]
    if tokens[:1] != ["BOS"] or tokens[-1:] != ["EOS"] or not separator:
        raise DataError(where, "expected `BOS words EOS`, a tab, and the tags with the intent at the end")
    if slots[:1] != ["O"]:
        raise DataError(where, f"expected O as the tag of BOS, found {slots[:1]}", "tags")
    return _record(where, tokens[1:-1], (where, slots[1:]), (where, intent), intents, notes)


def _parse_block(where: str, block: Block, intents: Collection[str], notes: Counter[str]) -> dict[str, list[str] | str]:
    tokens, tags = [], []
    intent: tuple[str, str] | None = None
    for place, line in block:
        if isinstance(line, DataError):
            raise line
        columns = line.split()
        if len(columns) == 1 and place == block[-1][0]:
            intent = place, columns[0]
        elif len(columns) == 2:
            tokens.append(columns[0])
            tags.append(columns[1])
        else:
            raise DataError(place, f"{len(columns)} columns, expected a word and its tag, or at the end the intent")
    if intent is None:
        raise DataError(block[-1][0], "the sentence ends without a line of its intent", "intent")
    return _record(where, tokens, (where, tags), intent, intents, notes)


def _record(
    where: str,
    tokens: list[str],
    tags: tuple[str, list[str]],
    intent: tuple[str, str],
    intents: Collection[str],
    notes: Counter[str],
) -> dict[str, list[str] | str]:
    if len(tags[1]) != len(tokens):
        raise DataError(tags[0], f"{len(tags[1])} tags for {len(tokens)} words of {where}", "tags")
    iob2 = iob2_tags([tags[0]] * len(tokens), tags[1], None, "iob2", notes)
    name = plain_label(intent[0], intent[1], notes, "intent")
    notes["intents put together by +"] += "+" in name
    name = name.replace("+", "#")
    unknown = [part for part in name.split("#") if part not in intents]
    if unknown:
        raise DataError(intent[0], f"unknown intent {unknown[0]!r}; known: {', '.join(sorted(intents))}", "intent")
    return {"tokens": tokens, "tags": iob2, "intent": name}
