"""How long records are before they are cut, what cutting loses, and which characters a tokenizer does not know.

    found = measure(data, records)          # records: [(number, record), …], a sample of survey.py
    found.lengths, found.truncated, found.lost["slots"], found.unknown.most_common(5)
    fitting_length(found.lengths)           # 48: 99 % of the records are no longer
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .build import Data
from .encode import RecordEncoder, TargetEncoder
from .labels import IGNORE
from .schema import LabelColumn
from .survey import texts_of

CHUNK = 500  # records that are encoded at once
WHOLE = 10**7  # sub-words: nothing is as long


@dataclass
class Lengths:
    """Of some records."""

    lengths: list[int] = field(default_factory=list)
    """sub-words of the longest input of each record, special tokens included, as if nothing were cut"""
    targets: list[int] = field(default_factory=list)
    """the same of the texts to be generated"""
    truncated: int = 0
    """records that were cut"""
    gold: Counter[str] = field(default_factory=Counter)
    """task -> gold labels that cutting can lose: entities, else words with a tag; answers; texts to be generated"""
    lost: Counter[str] = field(default_factory=Counter)
    """task -> of these, those that were lost, or in part"""
    num_tokens: int = 0
    """without special tokens"""
    num_unknown: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    """what the tokenizer does not know -> how often"""


def measure(data: Data, records: Sequence[tuple[int, dict[str, Any]]]) -> Lengths:
    """The features are made anew, once as the run makes them and once whole."""
    found = Lengths()
    whole = RecordEncoder(data.tokenizer, data.schema, {}, WHOLE).inputs
    for start in range(0, len(records), CHUNK):
        chunk = records[start : start + CHUNK]
        features = data.encode(chunk)
        for feature, uncut, (_, record) in zip(features, whole([r for _, r in chunk]), chunk, strict=True):
            found.lengths.append(max(uncut.get("row_lengths", [len(uncut["input_ids"])])))
            found.truncated += feature["truncated"]
            gold = data.schema.gold(record)
            for label in data.schema.labels:
                if label.task in gold:
                    count_gold(found, data, label, gold[label.task], feature)
        count_unknown(found, data, [record for _, record in chunk])
    return found


def count_gold(found: Lengths, data: Data, label: LabelColumn, gold: Any, feature: dict[str, Any]) -> None:
    total = lost = 0
    if label.level in ("word", "entities"):
        total, lost = lost_words(gold, len(feature["word_starts"]), label.level)
    elif label.level == "answer":
        total = bool(gold["spans"])
        lost = total and feature["labels"][label.task][0] == IGNORE
    elif label.level == "text":
        target: TargetEncoder = data.encode.vocabs[label.task]
        length = len(target.tokenizer(text_target=gold, add_special_tokens=False, verbose=False)["input_ids"])
        found.targets.append(length + len(target.before) + len(target.behind))
        total, lost = 1, length > target.room
    found.gold[label.task] += total
    found.lost[label.task] += lost


def lost_words(gold: Sequence[Any], kept: int, level: str) -> tuple[int, int]:
    """Entities, or tags where there are none, and those that are not wholly among the kept words."""
    if level == "entities":
        return len(gold), sum(end > kept for _, end, _ in gold)
    begun = [place for place, tag in enumerate(gold) if tag.startswith("B-")]
    if not begun and all(tag == "O" for tag in gold):
        return 0, 0
    if not begun:
        return len(gold), max(0, len(gold) - kept)
    after = [next((n for n in range(start + 1, len(gold)) if gold[n][:2] != "I-"), len(gold)) for start in begun]
    return len(begun), sum(end > kept for end in after)


def count_unknown(found: Lengths, data: Data, records: Sequence[dict[str, Any]]) -> None:
    """Also in texts to be generated."""
    tokenizer, schema, in_words = data.tokenizer, data.schema, data.schema.form == "words"
    texts = [text for record in records for text in texts_of(record, schema)]
    texts += [record[n.column] for record in records for n in schema.labels if n.level == "text" and n.column in record]
    encodings = tokenizer(texts, is_split_into_words=in_words, add_special_tokens=False, verbose=False).encodings
    for text, encoding in zip(texts, encodings, strict=True):
        found.num_tokens += len(encoding.ids)
        if tokenizer.unk_token_id is None or tokenizer.unk_token_id not in encoding.ids:
            continue
        for number, word, (start, end) in zip(encoding.ids, encoding.word_ids, encoding.offsets, strict=True):
            if number == tokenizer.unk_token_id:
                found.num_unknown += 1
                found.unknown[(text[word] if in_words else text)[start:end]] += 1


def fitting_length(lengths: Sequence[int], share: float = 0.99) -> int:
    """The least multiple of 8 that is enough for so many of them."""
    ordered = sorted(lengths)
    return -(-ordered[min(len(ordered) - 1, int(share * len(ordered)))] // 8) * 8


def histogram(lengths: Sequence[int], most: int = 8) -> list[tuple[int, int, int]]:
    """At most so many steps of equal width, (first, last, how many); the last step is open if few are much longer."""
    top = min(max(lengths), 2 * fitting_length(lengths))
    width = max(1, -(-top // most))
    counts = Counter(min((length - 1) // width, (top - 1) // width) for length in lengths)
    last = max(counts)
    return [
        (n * width + 1, max(lengths) if n == last else (n + 1) * width, counts[n]) for n in range(min(counts), last + 1)
    ]
