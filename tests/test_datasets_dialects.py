"""Converters of public corpora: any dialect that keeps the meaning gives the same records, any lie is refused.

    python -m pytest tests/test_datasets_dialects.py
"""

import bz2
import gzip
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import raw_writers as raw
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from data_process.convert import convert
from data_process.datasets import names, tnews
from data_process.readers import read_records

ALPHABET = "abZ019 中文字母，。“”\"'[](){}<>!?,;:-#/😀é\u3000|_"
CHINESE = "中文字母的是了在有人"
FEW = settings(max_examples=20)


def texts(without: str = "", extra: str = "", alphabet: str = ALPHABET) -> st.SearchStrategy[str]:
    """Texts that neither begin nor end with a blank."""
    kept = "".join(char for char in alphabet + extra if char not in without)
    return st.text(kept, min_size=1, max_size=12).filter(lambda text: text == text.strip())


def records(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries(values), min_size=1, max_size=5)


@st.composite
def tagged(
    draw: st.DrawFn, types: list[str], tokens: st.SearchStrategy[str], **more: st.SearchStrategy[Any]
) -> list[dict[str, Any]]:
    found = []
    for _ in range(draw(st.integers(1, 4))):
        parts = draw(st.lists(st.tuples(st.sampled_from(["O", *types]), st.integers(1, 3)), min_size=1, max_size=5))
        tags = [tag for name, length in parts for tag in
                (["O"] * length if name == "O" else [f"B-{name}"] + [f"I-{name}"] * (length - 1))]  # fmt: skip
        some = st.lists(tokens, min_size=len(tags), max_size=len(tags))
        words = draw(some.filter(lambda words: any(word.strip() for word in words)))
        found.append({"tokens": words, "tags": tags, **{name: draw(value) for name, value in more.items()}})
    return found


@st.composite
def with_spans(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = draw(tagged(["name", "book"], st.sampled_from(CHINESE)))
    for record in found:
        entities = [{"start": a, "end": b + 1, "label": t} for t, a, b in get_entities(record["tags"])]
        record["entities"] = sorted(entities, key=lambda entity: (entity["start"], entity["end"], entity["label"]))
    return found


@st.composite
def questions(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        context = draw(texts(extra="\n"))
        starts = draw(st.lists(st.integers(0, len(context) - 1), max_size=2))
        answers = [context[start : start + draw(st.integers(1, 5))] for start in starts]
        found.append({"id": f"q{number}", "question": draw(texts()), "context": context,
                      "answers": {"text": answers, "answer_start": starts}})  # fmt: skip
    return found


@st.composite
def choices(draw: st.DrawFn, context: st.SearchStrategy[str]) -> list[dict[str, Any]]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        options = draw(st.lists(texts(), min_size=2, max_size=5, unique=True))
        found.append({"question": draw(texts()), "context": draw(context), "choices": options,
                      "label": draw(st.integers(0, len(options) - 1))})  # fmt: skip
    return found


PAIRS = records(text_a=texts(), text_b=texts(), label=st.sampled_from(["0", "1"]))
SENTIMENT = records(text=texts(), label=st.sampled_from(["negative", "positive"]))
SCORES = records(text_a=texts("|"), text_b=texts("|"), label=st.integers(0, 50).map(lambda n: n / 10))
NUMBERS = {label: number for number, label in tnews.LABELS.items()}
WORDS = st.text("abZ019中,'-#", min_size=1, max_size=4)
CHARACTERS = st.sampled_from(ALPHABET)
NAMES = ["PER", "LOC", "ORG"]
LINES = st.lists(texts("<"), min_size=1, max_size=3).map("\n".join)

Writer = Callable[[list[dict[str, Any]], Path, raw.Dialect], Path]
CASES: list[tuple[str, st.SearchStrategy[list[dict[str, Any]]], Writer]] = [
    *((name, PAIRS, raw.pairs) for name in ("afqmc", "lcqmc", "bq", "atec")),
    ("stsb", SCORES, raw.scores),
    ("sst2", SENTIMENT, raw.sentiment),
    ("chnsenticorp", SENTIMENT, partial(raw.sentiment, label_first=True)),
    ("thucnews", records(text=texts(), label=st.sampled_from(["finance", "realty"])), raw.numbered_topics),
    ("tnews", records(text=texts("_"), label=st.sampled_from(list(NUMBERS))), partial(raw.news, numbers=NUMBERS)),
    ("jd21", records(text=texts(alphabet=CHINESE), label=st.sampled_from(["negative", "positive"])), raw.reviews),
    ("snips", tagged(["a", "b.c"], WORDS, intent=st.sampled_from(["PlayMusic", "RateBook"])), raw.joint),
    ("atis", tagged(["a", "b.c"], WORDS, intent=st.sampled_from(["atis_meal", "atis_city#atis_meal"])), raw.joint),
    *(("conll", tagged(NAMES, WORDS), raw.columns(scheme)) for scheme in ("iob1", "iob2")),
    *(("msra", tagged(NAMES, CHARACTERS), raw.columns(scheme)) for scheme in ("iob2", "bmes")),
    ("msra", tagged(NAMES, st.sampled_from("中a1/，")), raw.cut_out),
    ("peoples_daily", tagged(NAMES, CHARACTERS), raw.columns("iob2")),
    *(("resume_ner", tagged(["NAME", "RACE"], CHARACTERS), raw.columns(s)) for s in ("bmes", "iobes", "iob2")),
    ("weibo_ner", tagged(["PER.NAM", "GPE.NOM"], st.sampled_from("中1😀，")), raw.columns("iob2", glued=True)),
    ("cluener", with_spans(), raw.spans),
    *((name, questions(), raw.squad) for name in ("squad", "drcd", "cmrc")),
    ("c3", choices(LINES), raw.dialogues),
    *((name, choices(st.just("")), raw.choices) for name in ("commonsenseqa", "zh_csqa")),
    ("lcsts", records(source=LINES, target=texts("<")), raw.summaries),
    ("csl", records(source=texts(), target=texts()), raw.titles),
    *((name, records(text=LINES), raw.articles) for name in ("zh_wiki", "en_wiki")),
]
DIALECTS = st.builds(
    raw.Dialect,
    encoding=st.sampled_from(["utf-8", "utf-8", "gb18030"]),
    bom=st.integers(0, 2),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    final_end=st.booleans(),
    compress=st.sampled_from(["", "gz", "bz2"]),
    blank=st.sampled_from([None, None, "", "  ", "\t"]),
    variant=st.integers(0, 11),
    edge=st.sampled_from(["", "", " ", "\ufeff", "\u3000", "\u200b "]),
    full_width=st.booleans(),
)


def can_be_told(dialect: raw.Dialect, path: Path) -> bool:
    """False for a GB18030 file most lines of which are by chance legal in UTF-8, or hardly Chinese."""
    expand: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gz": gzip.decompress, "bz2": bz2.decompress}
    content = expand[dialect.compress](path.read_bytes())
    found = [line for line in content.replace(b"\r", b"\n").split(b"\n") if not line.isascii()]
    legal = [line for line in found if "\ufffd" not in line.decode("utf-8", "replace")]
    others = [[char for char in line.decode("gb18030", "replace") if not char.isascii()] for line in found]
    common = CHINESE + "字母，。“”\u3000é"
    chinese = [chars for chars in others if 2 * sum(char in common for char in chars) > len(chars)]
    return dialect.encoding == "utf-8" or not found or 2 * len(legal) < len(found) < 2 * len(chinese)


def test_every_converter_is_tried() -> None:
    assert {name for name, _, _ in CASES} == set(names())


@pytest.mark.parametrize(("name", "strategy", "write"), CASES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CASES)])
def test_dialects_keep_the_records(
    name: str, strategy: st.SearchStrategy[list[dict[str, Any]]], write: Writer
) -> None:
    @FEW
    @given(strategy, DIALECTS)
    def holds(expected: list[dict[str, Any]], dialect: raw.Dialect) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = write(expected, Path(folder, "raw", "train", "酒.txt"), dialect)
            assume(can_be_told(dialect, path))
            (part,), unread = convert(name, [path], Path(folder, "out"))
            assert [record for _, record in read_records(str(part.path))] == expected
            assert (part.num_records, part.num_written, unread) == (len(expected), len(expected), [])

    holds()
