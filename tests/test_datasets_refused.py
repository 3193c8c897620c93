"""Converters of public corpora: a lie that changes the meaning is refused with file and line, or skipped and counted.

    python -m pytest tests/test_datasets_refused.py
"""

import bz2
import random
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_process.convert import convert
from data_process.errors import DataError
from data_process.readers import read_records

GOOD_PAIR, GOOD_WORDS = "a\tb\t1\n", "李 B-PER\n白 I-PER\n\n"
GOOD_SPAN = '{"text": "李白", "label": {"name": {"李白": [[0, 1]]}}}\n'
CLUE = '{"sentence1": "a", "sentence2": "b", "label": "1"}\n'
GOOD_DOC = "<doc id=0>\n<summary>s</summary>\n<short_text>t</short_text>\n</doc>\n"
IMPOSSIBLE = '{"id": "1", "question": "q", "answers": [], "is_impossible": false}'
GOOD_QUESTION = '{"id": "1", "question": "q", "answers": [{"text": "b", "answer_start": 1}]}'
GOOD_C3 = '[["t"], [{"question": "q", "choice": ["a", "b"], "answer": "a"}], "1"]'
WRONG_C3, EMPTY_C3 = GOOD_C3.replace('answer": "a', 'answer": "c'), GOOD_C3.replace('"b"', '" "')
GOOD_CHOICE = ('{"answerKey": "A", "question": {"stem": "s", "choices": [{"label": "A", "text": "a"}, '
               '{"label": "B", "text": "b"}]}}\n')  # fmt: skip


def paragraphs(*questions: str) -> str:
    """One question per line, from line 3 on."""
    return '{"data": [{"paragraphs": [\n{"context": "abc", "qas": [\n' + ",\n".join(questions) + "\n]}]}]}"


def page(wikitext: str) -> str:
    return f"<page><title>t</title><ns>0</ns><revision><text>{wikitext}</text></revision></page>\n"


# (corpus, file, content, line, regular expression for the message): a good record, and one that is refused on its own
# fmt: off
REFUSED: list[tuple[str, str, str | bytes, int, str]] = [
    # fields
    ("lcqmc", "a.tsv", GOOD_PAIR + "c\td\n", 2, r"2 columns, expected 3 \(text_a, text_b, label\) between '\\t'"),
    ("lcqmc", "a.tsv", GOOD_PAIR + "c\td\te\t1\n", 2, r"4 columns, expected 3"),
    ("atec", "a.csv", "1\ta\tb\n2\tc\td\t1\n3\te\tf\t0\n", 1, r"3 columns, expected 4 \(id, text_a, text_b, label\)"),
    ("lcqmc", "a.tsv", "sentence1\tsentence2\tlabel\n" + GOOD_PAIR + "1\ta\tb\t1\n", 3, r"4 columns, expected 3"),
    ("lcqmc", "a.csv", "sentence1,sentence2,label\na,b,1\nc,d,1,\n", 3, r"4 columns, expected 3"),
    ("lcqmc", "a.tsv", GOOD_PAIR + " \td\t1\n", 2, r"text_a: is empty"),
    ("afqmc", "a.json", CLUE + '{"sentence1": "a", "label": "1"}\n', 2,
     r"text_b: must be a string, found null"),
    ("afqmc", "a.json", CLUE + '{"sentence1": "a", "sentence2": 3, "label": 1}\n',
     2, r"text_b: must be a string, found int '3'"),
    ("afqmc", "a.json", CLUE + '{"sentence1": "a", "text_a": "x", "sentence2": "b", "label": 1}\n', 2,
     r"text_a: both 'sentence1' and 'text_a'"),
    ("afqmc", "a.json", CLUE + '{"sentence1": "a", \n', 2,
     r"truncated JSON"),
    ("afqmc", "a.json", f'[{CLUE},{{"sentence1": "a", "sentence2": "b"}}]', 2,
     r"label: is missing here, but is in the records before"),
    ("csl", "a.tsv", "to title\ta\tb\nto keywords\tc\td\n", 2, r"task: the task is 'to keywords', not 'to title'"),
    ("stsb", "a.txt", "1||a||b||5\n2||a||b\n", 2, r"3 columns, expected 4"),
    ("jd21", "酒.txt", "1\t酒\tPOS\t5\t好\n2\t酒\tNEG\t差\n", 2, r"4 columns, expected 5"),
    # labels
    ("lcqmc", "a.tsv", GOOD_PAIR + "c\td\t2\n", 2, r"label: unknown label '2'; known: 0, 1"),
    ("lcqmc", "a.tsv", GOOD_PAIR + "c\td\t\n", 2, r"label: unknown label ''"),
    ("afqmc", "a.json", CLUE + '{"sentence1": "a", "sentence2": "b", "label": true}\n',
     2, r"label: must be a label, found bool 'True'"),
    ("stsb", "a.txt", "1||a||b||5\n2||a||b||5.1\n", 2, r"label: must be a number from 0 to 5, found str '5.1'"),
    ("stsb", "a.txt", "1||a||b||5\n2||a||b||nan\n", 2, r"label: must be a number from 0 to 5"),
    ("tnews", "a.json", '{"label": "102", "sentence": "a"}\n{"label": "105", "sentence": "a"}\n', 2,
     r"unknown label '105'"),
    ("tnews", "a.json",
     '{"label": "102", "sentence": "a"}\n{"label": "102", "label_desc": "news_car", "sentence": "a"}\n',
     2, r"label: 102 means news_entertainment, but label_desc is 'news_car'"),
    ("jd21", "酒.txt", "1\t酒\tPOS\t5\t好\n2\t酒\tNEU\t3\t差\n", 2, r"unknown label 'NEU'; known: POS, NEG"),
    ("thucnews", "cnews.train.txt", "体育\ta\n天气\tb\n", 2, r"label: unknown label '天气'; known: 体育,"),
    ("snips", "a.txt", "a O\nPlayMusic\n\nb O\nplaymusic\n", 5, r"intent: unknown intent 'playmusic'; known: AddTo"),
    ("atis", "a.iob", "BOS a EOS\tO O atis_meal\nBOS a EOS\tO O atis_meal#atis_x\n", 2,
     r"intent: unknown intent 'atis_x'"),
    # tags
    ("peoples_daily", "a.train", GOOD_WORDS + "京 B-GPE\n", 4,
     r"tags: 'B-GPE' has an unknown type; known: PER, LOC, ORG"),
    ("peoples_daily", "a.train", GOOD_WORDS + "到 O\n京 I-LOC\n", 4,
     r"tags: I-LOC at word 2, between O and the end, is illegal in IOB2: it must be B-LOC$"),
    ("peoples_daily", "a.train", GOOD_WORDS + "到 0\n", 4, r"tags: '0' is no tag of IOB2: O, B-x, I-x"),
    ("peoples_daily", "a.train", GOOD_WORDS + "O\n", 4, r"1 columns in 'O', but 2 in the others of the file"),
    ("peoples_daily", "a.train", GOOD_WORDS + " O\n", 4, r"1 columns in ' O', but 2 in the others"),
    ("peoples_daily", "a.train", GOOD_WORDS + "到 了 O\n", 4, r"3 columns in '到 了 O', but 2"),
    ("resume_ner", "a.bmes", "高 B-NAME\n勇 E-NAME\n\n男 S-RACE\n高 B-NAME\n： O\n", 4,
     r"B-NAME at word 2, .* must be S-NAME$"),
    ("conll", "eng.train", "EU NNP I-NP I-ORG\n\nUN NNP B-ORG\n", 3, r"3 columns in 'UN NNP B-ORG', but 4"),
    ("conll", "eng.train", "EU NNP I-NP I-ORG\n\nUN NNP I-NP B-ORG\n", 3, r"B-ORG at word 1, .* illegal in IOB1"),
    ("weibo_ner", "a.dev", "男0\tO\n友1\tO\n\n友\tO\n", 4, r"tokens: '友' has no digit behind its character, unlike"),
    ("weibo_ner", "a.dev", "男\tO\n友\tO\n\n友1\tO\n", 4, r"tokens: '友1' has a digit behind its character, unlike"),
    ("msra", "train1.txt", "李白/nr 来/o\n李白/nr 来\n", 2, r"tags: '来' is not of the form characters/tag"),
    ("msra", "train1.txt", "李白/nr 来/o\n李白/nx\n", 2, r"tags: '李白/nx' is not of the form"),
    ("snips", "a.txt", "a O\nPlayMusic\n\nb O\n", 4, r"intent: the sentence ends without a line of its intent"),
    ("snips", "a.txt", "a O\nPlayMusic\n\nb O x\nPlayMusic\n", 4, r"3 columns, expected a word and its tag"),
    ("atis", "a.iob", "BOS a EOS\tO O atis_meal\nBOS a b EOS\tO O atis_meal\n", 2, r"tags: 1 tags for 2 words"),
    ("atis", "a.iob", "BOS a EOS\tO O atis_meal\na EOS\tO atis_meal\n", 2, r"expected `BOS words EOS`"),
    ("atis", "a.iob", "BOS a EOS\tO O atis_meal\nBOS a EOS\tB-x O atis_meal\n", 2,
     r"tags: expected O as the tag of BOS"),
    # spans
    ("cluener", "a.json", GOOD_SPAN + '{"text": "李白", "label": {"name": {"李": [[1, 1]]}}}\n', 2,
     r"label: '李' is not at \[1, 1\] of the text: there is '白'"),
    ("cluener", "a.json", GOOD_SPAN + '{"text": "李白", "label": {"name": {"白": [[-1, -1]]}}}\n', 2,
     r"'白' is not at \[-1, -1\]"),
    ("cluener", "a.json", GOOD_SPAN + '{"text": "李白", "label": {"name": {"李白": [[0, 2]]}}}\n', 2,
     r"'李白' is not at \[0, 2\]"),
    ("cluener", "a.json", GOOD_SPAN + '{"text": "李白", "label": {"name": {"李白": [0, 1]}}}\n', 2,
     r"must be \[first, last\]"),
    ("cluener", "a.json", GOOD_SPAN + '{"text": "李白", "label": {"person": {"李白": [[0, 1]]}}}\n', 2,
     r"unknown type 'person'"),
    ("squad", "a.json", paragraphs(GOOD_QUESTION, GOOD_QUESTION.replace(": 1}", ": 0}")), 4,
     r"answers: the answer 'b' is not at character 0 of the context: there is 'a'"),
    ("squad", "a.json", paragraphs(GOOD_QUESTION, GOOD_QUESTION.replace(": 1}", ": true}")), 4,
     r"answers: must be a whole number, found bool 'True'"),
    ("squad", "a.json", paragraphs(GOOD_QUESTION, GOOD_QUESTION.replace(": 1}", ": -2}")), 4, r"not at character -2"),
    ("squad", "a.json", paragraphs(GOOD_QUESTION, GOOD_QUESTION.replace('"b"', '""')), 4,
     r"answers: the answer '' is not"),
    ("squad", "a.json", paragraphs(GOOD_QUESTION, GOOD_QUESTION[:-1] + ', "is_impossible": true}'), 4,
     r"answers: is_impossible, but there are 1 answers"),
    ("squad", "a.json", paragraphs(GOOD_QUESTION, IMPOSSIBLE), 4,
     r"answers: there is none, but is_impossible is false"),
    ("squad", "a.json", paragraphs(GOOD_QUESTION, '{"id": "1", "answers": []}'), 4,
     r"question: must be a string, found null"),
    ("squad", "a.json", paragraphs(GOOD_QUESTION).removesuffix("]}]}") + ',\n{"context": "x"}]}]}', 5,
     r"qas: must be an array, found null"),
    ("cmrc", "a.json", '[{"context_text": "ab", "qas": [{"query_id": "1", "query_text": "q", "answers": ["b"]},\n'
     '{"query_id": "2", "query_text": "q", "answers": ["c"]}]}]', 2, r"answers: the answer 'c' is not in the context"),
    ("c3", "a.json", f"[{GOOD_C3},\n{WRONG_C3}]", 2, r"label: the answer 'c' is none of"),
    ("c3", "a.json", f"[{GOOD_C3},\n{EMPTY_C3}]", 2, r"choices: a choice is empty"),
    ("commonsenseqa", "a.jsonl", GOOD_CHOICE + GOOD_CHOICE.replace('Key": "A"', 'Key": "C"'), 2,
     r"'C' is none of the choices A, B"),
    ("commonsenseqa", "a.jsonl", GOOD_CHOICE + GOOD_CHOICE.replace('"B"', '"A"'), 2,
     r"two choices have the same letter: A, A"),
    # documents
    ("lcsts", "a.txt", GOOD_DOC + "<doc id=1>\n<summary>s</summary>\n</doc>\n", 5, r"the <doc> must hold <summary>"),
    ("lcsts", "a.txt", GOOD_DOC + "<doc id=1>\n<summary>s</summary>\n", 5, r"is not closed; is the file cut off"),
    ("lcsts", "a.txt", "<doc id=1>\n<summary>s</summary>\n" + GOOD_DOC, 1, r"is not closed before the next one"),
    ("lcsts", "a.txt", GOOD_DOC + "x\n", 5, r"text outside of <doc> and </doc>: 'x'"),
    ("lcsts", "a.csv", "summary,text\na,b\nc,\n", 3, r"source: is empty"),
    ("zh_wiki", "a.xml", "<mediawiki>\n" + page("a") + page("a").replace("<revision>", "<revision/><revision>")
     + "</mediawiki>", 3, r"the page has 2 revisions, expected one"),
    ("zh_wiki", "wiki_00", '{"text": "a"}\n{"title": "a"}\n', 2, r"text: must be a string, found null"),
    # bytes
    ("lcqmc", "a.tsv", "中\tb\t1\n文\tb\t1\n".encode() + b"caf\xe9\tb\t1\n", 3, r"not UTF-8 \(byte 0xe9 at byte 4"),
    ("sst2", "a.tsv", b"a cafe\t1\na caf\xe9s visit\xe9s\t1\n", 2, r"not UTF-8 \(byte 0xe9 .*; the line decodes as GB"),
    ("lcqmc", "a.tsv", "中文\tb\t1\n文字\tb\t1\n".encode("gb18030") + b"\xff\tb\t1\n", 3,
     r"not GB18030, as the other lines are"),
    ("lcqmc", "a.tsv", GOOD_PAIR + "c\rx\td\t1\n", 2, r"carriage return at column 2"),
    ("lcqmc", "a.tsv", GOOD_PAIR + "c\0\td\t1\n", 2, r"NUL byte"),
    ("lcqmc", "a.tsv", "中文\tb\t1\n文\0字\tb\t1\n".encode("gb18030"), 2, r"NUL byte"),
    ("afqmc", "a.json", CLUE + '{"sentence1": "\\ud83d", "sentence2": "b", "label": "1"}\n', 2,
     r"half a surrogate pair"),
    ("squad", "a.json", paragraphs(GOOD_QUESTION, GOOD_QUESTION.replace('"q"', '"\\ud83d"')), 4,
     r"half a surrogate pair"),
]

# the file as a whole
BROKEN: list[tuple[str, dict[str, str | bytes], str, str]] = [
    ("lcqmc", {"a.csv": 'sentence1,sentence2,label\na,b,1\n"c,d,1\ne,f,1\n'}, "a.csv:3",
     r"a quoted value .* is not closed"),
    ("lcqmc", {"a.tsv": "a\n"}, "a.tsv:1", r"no known columns; expected text_a, text_b, label or id, text_a"),
    ("lcsts", {"a.csv": "a,b\n"}, "a.csv:1", r"no known columns; expected .*a header that names them"),
    ("lcqmc", {"a.tsv": b"\xff\xfea\0"}, "a.tsv:1", r"this is a UTF-16 file"),
    ("lcqmc", {"a.tsv": b"\x1f\x8b\x08broken"}, "a.tsv", r"the compressed file is damaged|cannot be read"),
    ("lcqmc", {"a.tsv": bz2.compress(b"a\tb\t1\n" * 9)[:-9]}, "a.tsv", r"the compressed file is damaged or cut off"),
    ("lcqmc", {"a.tsv": b"\xff\n" + GOOD_PAIR.encode()}, "a.tsv:1", r"not UTF-8"),
    ("lcqmc", {"a.tsv": b"PK\x03\x04"}, "a.tsv", r"no text: this is a zip archive"),
    ("squad", {"a.json": paragraphs(GOOD_QUESTION)[:-2]}, "a.json:4", r"JSON"),
    ("squad", {"a.json": paragraphs(GOOD_QUESTION) + "\n{}"}, "a.json:5", r"more text after the document"),
    ("squad", {"a.json": '{"data": 1, "data": 2}'}, "a.json:1", r'duplicate key "data"'),
    ("squad", {"a.json": "[]"}, "a.json", r"document: must be an object, found list"),
    ("squad", {"a.json": "\n{}"}, "a.json:2", r"data: must be an array, found null"),
    ("thucnews", {"train.txt": "a\t0\n"}, "train.txt", r"the names of its class numbers must be in .*class\.txt"),
    ("snips", {"seq.in": "a\nb\n", "seq.out": "O\nO\n", "label": "PlayMusic\n"}, "label:2",
     r"the file ends before this line"),
    ("snips", {"seq.in": "a\n", "seq.out": "O\n"}, "seq.in", r"there is seq\.out beside it, but not both of"),
    ("zh_wiki", {"a.xml": "<mediawiki>\n" + page("a") + "<page><title>"}, "a.xml:3", r"the dump is cut off"),
    ("zh_wiki", {"a.xml": "<mediawiki>\n<page></x></page></mediawiki>"}, "a.xml:2",
     r"no XML, or damaged: mismatched tag"),
    ("zh_wiki", {"a.xml": "<?xml version='1.0'?>\n<html></html>"}, "a.xml", r"first element must be <mediawiki>"),
    ("zh_wiki", {"wiki_00": '<doc id="1" url="" title="">\na\n'}, "wiki_00:1", r"is not closed; is the file cut off"),
    ("zh_wiki", {"wiki_00": '<doc id="1" url="" title="">\na\n</doc>\nb\n'}, "wiki_00:4", r"text outside of <doc …>"),
]
# fmt: on


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / "train" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(("name", "file", "content", "line", "message"), REFUSED,
                         ids=[f"{case[0]}-{number}" for number, case in enumerate(REFUSED)])  # fmt: skip
def test_a_lie_is_refused_and_may_be_skipped(
    name: str, file: str, content: str | bytes, line: int, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, file, content)
    with pytest.raises(DataError) as refused:
        convert(name, [path], tmp_path / "out")
    assert refused.value.where == f"{path}:{line}"
    assert re.search(message, str(refused.value).removeprefix(refused.value.where)), str(refused.value)
    assert not (tmp_path / "out").exists()
    (part,), _ = convert(name, [path], tmp_path / "out", on_bad_record="skip")
    assert [str(mistake) for mistake in part.mistakes] == [str(refused.value)]
    assert part.num_records == part.num_written + part.num_skipped and part.num_skipped == 1
    assert len(list(read_records(str(part.path)))) == part.num_written >= 1


@pytest.mark.parametrize(("name", "files", "where", "message"), BROKEN,
                         ids=[f"{case[0]}-{number}" for number, case in enumerate(BROKEN)])  # fmt: skip
def test_what_concerns_the_whole_file_is_refused_also_with_skip(
    name: str, files: dict[str, str | bytes], where: str, message: str, tmp_path: Path
) -> None:
    first, *_ = [write(tmp_path, file, content) for file, content in files.items()]
    for on_bad_record in ("error", "skip"):
        with pytest.raises(DataError) as refused:
            convert(name, [first], tmp_path / "out", on_bad_record)
        assert refused.value.where == str(tmp_path / "train" / where)
        assert re.search(message, str(refused.value)), str(refused.value)
        assert not (tmp_path / "out").exists()


def test_a_header_is_believed_also_where_all_rows_have_another_width(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "sentence1\tsentence2\tlabel\n1\ta\tb\t1\n2\ta\tb\t0\n")
    with pytest.raises(DataError, match=r":2: 4 columns, expected 3 \(text_a, text_b, label\)"):
        convert("lcqmc", [path], tmp_path / "out")
    with pytest.raises(DataError, match=r"none of its 2 records can be used; the first: .*:2: 4 columns, expected 3"):
        convert("lcqmc", [path], tmp_path / "out", on_bad_record="skip")


GOOD = st.lists(st.sampled_from(["a\tb\t1", "\ufeffa\tb\t０", ""]), min_size=4, max_size=20)
BAD = st.lists(st.sampled_from(["c\td", "c\td\t9", "\td\t1", "c\td\te\t1", "c\rx\td\t1"]), max_size=2)


@settings(max_examples=25)
@given(GOOD.filter(any), BAD, st.randoms(use_true_random=False))
def test_every_record_is_written_or_skipped(good: list[str], bad: list[str], order: random.Random) -> None:
    good = ["a\tb\t1"] * 2 + good  # the width of most
    lines = good + bad
    order.shuffle(lines)
    lines.insert(0, "a\tb\t1")  # what cannot be decoded here might be a header, and ends the file
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), "a.txt", "\n".join(lines) + "\n")
        (part,), _ = convert("lcqmc", [path], Path(folder, "out"), on_bad_record="skip")
        found = [record["label"] for _, record in read_records(str(part.path))]
    assert found == ["1" if line.endswith("1") else "0" for line in lines if line in good and line]
    assert (part.num_records, part.num_written, part.num_skipped) == (len(found) + len(bad), len(found), len(bad))
    assert part.notes["blank lines"] == lines.count("")
