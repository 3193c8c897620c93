"""How well a tokenizer fits texts: fertility, unknown tokens, coverage, round trip, lengths, speed.

    figures = report(tokenizer, texts)      # any fast tokenizer of transformers; texts are read once
    print(as_table(figures))

Special tokens are added nowhere. A character is a code point. Chinese ones are ideographs, punctuation is not. The
words of the rest are runs of letters and digits, and each other sign but white space by itself.

- fertility: tokens per Chinese character and, with jieba, per word that it finds in the runs of Chinese characters;
  tokens per word of the rest. A token that stands for any part of a Chinese character counts as Chinese.
- unknown: share of tokens that are the unknown one; the characters that were never anything else, with their counts.
- coverage: share of distinct characters that were part of a known token at least once; share of running characters
  that are, white space not counted; share of the vocabulary that occurs.
- round trip: share of texts that decode(encode(text)) gives back exactly; the same when both are compared behind the
  tokenizer's normalizer and without white space.
- lengths: tokens per text; pN is the least number that N % of the texts do not exceed.
- speed: of encode_batch of tokenizers, on all cores unless TOKENIZERS_PARALLELISM=false.

Copy: with errors.py, word_segments.py; needs numpy, tokenizers; can use jieba.
"""

import copy
import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import accumulate, islice
from typing import Any

from tokenizers.decoders import ByteLevel

from .word_segments import jieba_tokenizer

BATCH, LISTED = 256, 10  # texts that are encoded at once; characters and tokens that are named
_HAN = "々〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
CHINESE = re.compile(f"[{_HAN}]+")
WORD = re.compile(rf"[^\W_{_HAN}]+|[^\w\s]|_")


@dataclass
class Counts:
    """Sums over texts; memory grows with what is distinct only."""

    tokens: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    unknown_characters: Counter[str] = field(default_factory=Counter)
    num_bytes: int = 0
    chinese_tokens: int = 0
    chinese_words: int = 0
    other_words: int = 0
    exact: int = 0
    alike: int = 0
    seconds: float = 0.0


def report(tokenizer: Any, texts: Iterable[str]) -> dict[str, Any]:
    """The figures, as JSON holds them. Shares are between 0 and 1; None where there is nothing to divide by."""
    counts = count(tokenizer, texts)
    num_texts, num_tokens, num_characters = (c.total() for c in (counts.lengths, counts.tokens, counts.characters))
    visible = {character: n for character, n in counts.characters.items() if not character.isspace()}
    never_known = {character: n for character, n in visible.items() if counts.unknown_characters[character] == n}
    num_known = sum(n - counts.unknown_characters[character] for character, n in visible.items())
    num_chinese = sum(n for character, n in visible.items() if CHINESE.match(character))
    return {
        "texts": num_texts,
        "characters": num_characters,
        "bytes": counts.num_bytes,
        "tokens": num_tokens,
        "vocab_size": len(tokenizer),
        "fertility": {
            "chinese_character": ratio(counts.chinese_tokens, num_chinese),
            "chinese_word": ratio(counts.chinese_tokens, counts.chinese_words),
            "other_word": ratio(num_tokens - counts.chinese_tokens, counts.other_words),
        },
        "per_token": {"characters": ratio(num_characters, num_tokens), "bytes": ratio(counts.num_bytes, num_tokens)},
        "unknown": {
            "tokens": ratio(counts.tokens[tokenizer.unk_token_id], num_tokens),
            "characters": most_common(never_known),
        },
        "coverage": {
            "distinct_characters": ratio(len(visible) - len(never_known), len(visible)),
            "running_characters": ratio(num_known, sum(visible.values())),
            "vocabulary": ratio(len(counts.tokens), len(tokenizer)),
        },
        "round_trip": {"exact": ratio(counts.exact, num_texts), "normalized": ratio(counts.alike, num_texts)},
        "lengths": {"mean": ratio(num_tokens, num_texts), **percentiles(counts.lengths)},
        "longest_tokens": longest_tokens(tokenizer),
        "most_frequent_tokens": [[shown(tokenizer, i), n] for i, n in most_common(counts.tokens)],
        "speed": {
            "megabytes_per_second": ratio(counts.num_bytes / 1e6, counts.seconds),
            "texts_per_second": ratio(num_texts, counts.seconds),
        },
    }


def count(tokenizer: Any, texts: Iterable[str]) -> Counts:
    backend = copy.deepcopy(tokenizer.backend_tokenizer)  # saved ones may cut and pad
    backend.no_truncation()
    backend.no_padding()
    unknown, cut_words = tokenizer.unk_token_id, chinese_words()
    counts, remaining = Counts(), iter(texts)
    while batch := list(islice(remaining, BATCH)):
        began = time.perf_counter()
        encodings = backend.encode_batch(batch, add_special_tokens=False)
        counts.seconds += time.perf_counter() - began
        decoded = backend.decode_batch([encoding.ids for encoding in encodings], skip_special_tokens=False)
        for text, encoding, again in zip(batch, encodings, decoded, strict=True):
            counts.tokens.update(encoding.ids)
            counts.lengths[len(encoding.ids)] += 1
            counts.characters.update(text)
            counts.num_bytes += len(text.encode())
            counts.other_words += len(WORD.findall(text))
            if CHINESE.search(text):
                counts.chinese_words += sum(len(cut_words(run)) for run in CHINESE.findall(text))
                counts.chinese_tokens += sum(bool(CHINESE.search(text, *span)) for span in encoding.offsets)
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                if token == unknown:
                    counts.unknown_characters.update(text[start:end])
            counts.exact += text == again
            counts.alike += text == again or bare(text, backend) == bare(again, backend)
    return counts


def chinese_words() -> Callable[[str], list[str]]:
    """jieba's cut; without jieba there are no words."""
    return (lambda run: []) if find_spec("jieba") is None else jieba_tokenizer().lcut


def bare(text: str, backend: Any) -> str:
    return "".join((backend.normalizer.normalize_str(text) if backend.normalizer else text).split())


def ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def most_common(counts: Mapping[Any, int]) -> list[list[Any]]:
    """[[what, count], …], the largest first; equal ones in order."""
    return [[what, counts[what]] for what in sorted(counts, key=lambda what: (-counts[what], what))[:LISTED]]


def percentiles(texts_of_length: Mapping[int, int]) -> dict[str, int]:
    lengths = sorted(texts_of_length)
    reached = list(accumulate(texts_of_length[length] for length in lengths))
    wanted = {"p50": 50, "p95": 95, "p99": 99, "max": 100} if lengths else {}
    return {name: lengths[bisect_left(reached, share * reached[-1] / 100)] for name, share in wanted.items()}


def longest_tokens(tokenizer: Any) -> list[str]:
    ids = set(range(len(tokenizer))) - set(tokenizer.all_special_ids)
    return sorted({shown(tokenizer, i) for i in ids}, key=lambda token: (-len(token), token))[:LISTED]


def shown(tokenizer: Any, i: int) -> str:
    """The token; for a byte-level tokenizer, whose tokens spell bytes with odd letters, what it decodes to."""
    backend = tokenizer.backend_tokenizer
    return backend.decode([i]) if isinstance(backend.decoder, ByteLevel) else backend.id_to_token(i)


def as_table(figures: Mapping[str, Any]) -> str:
    """For the console; a dash where there is nothing to count."""
    fertility, unknown, coverage = (figures[name] for name in ("fertility", "unknown", "coverage"))
    per, trip, speed = (figures[name] for name in ("per_token", "round_trip", "speed"))
    never = ", ".join(f"{character!r} {count:,}" for character, count in unknown["characters"])
    rows = {
        "texts": f"{figures['texts']:,}: {figures['characters']:,} characters, {figures['bytes']:,} bytes, "
                 f"{figures['tokens']:,} tokens",
        "fertility": f"{short(fertility['chinese_character'])} tokens per Chinese character, "
                     f"{short(fertility['chinese_word'])} per word of jieba, "
                     f"{short(fertility['other_word'])} per word of the rest",
        "per token": f"{short(per['characters'])} characters, {short(per['bytes'])} bytes",
        "unknown": f"{percent(unknown['tokens'])} of the tokens" + (f"; never known: {never}" if never else ""),
        "coverage": f"{percent(coverage['distinct_characters'])} of the distinct characters, "
                    f"{percent(coverage['running_characters'])} of the running ones, "
                    f"{percent(coverage['vocabulary'])} of a vocabulary of {figures['vocab_size']:,}",
        "round trip": f"{percent(trip['exact'])} of the texts exactly, "
                      f"{percent(trip['normalized'])} but for normalization and spaces",
        "tokens of a text": ", ".join(f"{name} {short(value)}" for name, value in figures["lengths"].items()),
        "longest tokens": " ".join(map(repr, figures["longest_tokens"])),
        "most frequent": ", ".join(f"{token!r} {count:,}" for token, count in figures["most_frequent_tokens"]),
        "speed": f"{short(speed['megabytes_per_second'])} MB/s, {short(speed['texts_per_second'])} texts/s",
    }  # fmt: skip
    return "\n".join(f"{name:18}{row}" for name, row in rows.items())


def short(value: float | None) -> str:
    decimals = 2 if isinstance(value, float) and value < 100 else 0
    return "-" if value is None else f"{value:,.{decimals}f}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
