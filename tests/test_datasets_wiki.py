"""Wikitext to plain text, memory that does not grow with a file, and which file makes which part.

    python -m pytest tests/test_datasets_wiki.py
"""

import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_process.datasets import load
from data_process.datasets._raw_files import part_of
from data_process.datasets._wikitext import plain_text

PLAIN: list[tuple[str, str]] = [
    ("'''Rome''' is ''old''.", "Rome is old."),
    ("It's [[Italy|the south]] of [[Europe]].", "It's the south of Europe."),
    ("[[:Category:Cities]] [[Category:Cities]][[de:Rom]][[zh-classical:羅馬]]x", "Category:Cities x"),
    ("a [[File:x.jpg|thumb|the [[river]] Tiber]] b", "a b"),
    ("甲[[文件:x.png|缩略图|在[[罗马]]]]乙[[分类:城市]]", "甲乙"),
    ("a{{cite|x={{y|[[z]]}}}} b", "a b"),
    ("a\n{| class=x\n|-\n| {{b}} || c\n{| \n|}\n|}\nd", "a\n\nd"),
    ("{{box\n| a = 1\n|}} text", "text"),
    ("a<ref name=x>see [[b]]</ref> b<ref name=x /> c", "a b c"),
    ("x<br/>y <span class=a>z</span>", "xy z"),
    ("1 < 2 && 3 > 2 &lt;b&gt; &nbsp;5", "1 < 2 && 3 > 2 <b> 5"),
    ("[https://a.b/c the site] [http://a.b/c]", "the site"),
    ("== A ==\ntext\n=== B: c ===\n* one\n** two\n: three", "A\ntext\nB: c\none\ntwo\nthree"),
    ("<!-- a\n{{ -->b __NOTOC__", "b"),
    ("-{zh-hans:软件; zh-hant:軟體;}-和-{R|简}-和-{着}-", "软件和简和着"),
    ("a\n\n\n\nb\n \nc", "a\n\nb\n\nc"),
    ("<math>\\frac{{a}}{b}</math>x<gallery>\nFile:a.jpg\n</gallery>", "x"),
    # what is never closed stays, and the rest of the page with it
    ("a {{b c", "a {{b c"),
    ("a [[b c", "a [[b c"),
    ("a {{b}} c {{d", "a c {{d"),
    ("a }} b ]] c", "a }} b ]] c"),
    ("", ""),
]


@pytest.mark.parametrize(("wikitext", "text"), PLAIN)
def test_markup_is_removed(wikitext: str, text: str) -> None:
    assert plain_text(wikitext) == text


@given(st.lists(st.sampled_from("中文 a1，。()?!\"/%+")).map("".join))
def test_text_without_markup_stays(text: str) -> None:
    assert plain_text(text) == " ".join(text.split(" ")).strip() or "  " in text
    assert plain_text(text).replace(" ", "") == text.replace(" ", "")


UNITS = ["{{", "}}", "[[", "]]", "{{a|", "[[a|", "<ref>", "<!--", "{|\n", "'''", "==", "-{", "[http://a "]


@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_with_the_length(unit: str) -> None:
    """A damaged page of 200 KB; in quadratic time it took half a minute."""
    start = time.process_time()
    plain_text(unit * (200_000 // len(unit)))
    assert time.process_time() - start < 5


# ------------------------------------------------------------------------ memory


def dump(pages: int) -> Iterator[str]:
    yield "<mediawiki>\n"
    for number in range(pages):
        yield f"<page><title>{number}</title><ns>0</ns><revision><text>{'text ' * 50}</text></revision></page>\n"
    yield "</mediawiki>\n"


LONG: list[tuple[str, str, Callable[[int], Iterator[str]]]] = [
    ("zh_wiki", "a.xml", dump),
    ("zh_wiki", "wiki_00", lambda n: (f'<doc id="{i}" url="" title="">\n{"text " * 50}\n</doc>\n' for i in range(n))),
    ("lcqmc", "a.tsv", lambda n: (f"{'text ' * 25}\t{'text ' * 25}\t1\n" for _ in range(n))),
    ("lcqmc", "a.csv", lambda n: (f"{'text ' * 25},{'text ' * 25},1\n" for _ in range(n))),
    ("lcqmc", "mac.tsv", lambda n: (f"{'text ' * 25}\t{'text ' * 25}\t1\r" for _ in range(n))),
    ("afqmc", "a.json", lambda n: (f'{{"sentence1": "{"text " * 50}", "sentence2": "b"}}\n' for _ in range(n))),
    ("lcsts", "PART_I.txt", lambda n: (
        f"<doc id={i}>\n<summary>s</summary>\n<short_text>\n{'text ' * 50}</short_text>\n</doc>\n" for i in range(n))),
    ("peoples_daily", "a.train", lambda n: ("中 B-LOC\n国 I-LOC\n，\tO\n\n" for _ in range(n))),
]  # fmt: skip


QUICK = ("a.xml", "a.tsv", "a.train")


@pytest.mark.parametrize(("name", "file", "content"), [
    pytest.param(*case, marks=[] if case[1] in QUICK else pytest.mark.slow, id=f"{case[0]}-{case[1]}") for case in LONG
])  # fmt: skip
def test_memory_does_not_grow_with_the_file(
    name: str, file: str, content: Callable[[int], Iterator[str]], tmp_path: Path
) -> None:
    peaks = []
    for size in (1_000, 4_000):
        path = tmp_path / str(size) / file
        path.parent.mkdir()
        with path.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(content(size))
        tracemalloc.start()
        assert sum(1 for _ in load(name).read(str(path), Counter())) == size
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**18, peaks


# ------------------------------------------------------------------------- parts


@pytest.mark.parametrize(("path", "part"), [
    ("raw/train.txt", "train"), ("raw/cnews.val.txt", "dev"), ("raw/eng.testa", "dev"), ("raw/eng.testb", "test"),
    ("raw/weiboNER_2nd_conll.train", "train"), ("raw/DRCD_training.json", "train"), ("raw/testright1.txt", "test"),
    ("raw/atis-2.dev.w-intent.iob", "dev"), ("raw/dev-v2.0.json", "dev"), ("raw/cmrc2018_trial.json", "trial"),
    ("raw/valid/seq.in", "dev"), ("raw/test/x/酒.txt", "test"), ("raw/test/train.txt", "train"),
    ("raw/latest.txt", None), ("raw/evaluation.txt", None), ("raw/train_dev.txt", None), ("train/x.txt", None),
])  # fmt: skip
def test_names_tell_the_part(path: str, part: str | None) -> None:
    assert part_of(Path(path), Path("raw") if path.startswith("raw") else Path("train/..")) == part
