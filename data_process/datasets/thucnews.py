"""THUCNews: Chinese news by topic: titles (10 topics), texts (cnews, 10 topics) or all documents (14 topics).

Sun et al. 2016, "THUCTC: An Efficient Chinese Text Classifier", http://thuctc.thunlp.org/. Free for research;
commercial use needs the permission of Tsinghua University.

Raw files: train.txt, dev.txt, test.txt with `title<tab>number` and class.txt with the name of number n on line n + 1
(https://github.com/649453932/Bert-Chinese-Text-Classification-Pytorch); or cnews.train.txt, cnews.val.txt,
cnews.test.txt with `topic<tab>text`; or the folder THUCNews with a folder per topic and a file per document, which
becomes one part "all".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import DataError, caught
from ..readers.lines import Items
from ._raw_files import Parts, files_in
from ._raw_files import find as find_parts
from ._raw_lines import first_line, read_lines, read_whole
from ._tables import TAB, read_table
from ._values import clean_text, converted, known_label, skip_blank

FORM = "classification"
FILES = ("*.txt", "*.tsv")
TOPICS = {name: name for name in (
    "体育", "娱乐", "家居", "彩票", "房产", "教育", "时尚", "时政", "星座", "游戏", "社会", "科技", "股票", "财经",
)}  # fmt: skip
BESIDE = ("class.txt",)
FIELDS = {"text": ("text_a", "text", "title", "content"), "label": ("label",)}


def find(paths: Sequence[Path]) -> tuple[Parts, list[Path]]:
    """A folder per topic, or the files of the parts."""
    files = files_in(paths[0]) if len(paths) == 1 and paths[0].is_dir() else []
    documents = [path for path in files if _is_document(path)]
    if documents:
        return {"all": documents}, [path for path in files if not _is_document(path)]
    return find_parts(paths, FILES)


def read(file: str, notes: Counter[str]) -> Items:
    path = Path(file)
    if _is_document(path):
        document = [(f"{file}:1", caught(read_whole, file, notes))]
        yield from converted(document, lambda where, text: {
            "text": clean_text(where, text, notes, "text"), "label": TOPICS[path.parent.name],
        })  # fmt: skip
        return
    topic_first = first_line(file).partition(TAB)[0] in TOPICS
    labels = TOPICS if topic_first else _numbered_names(path)
    layout = ("label", "text") if topic_first else ("text", "label")
    rows = read_table(file, FIELDS, (layout,), notes, (TAB,))
    yield from converted(rows, lambda where, row: {
        "text": clean_text(where, row["text"], notes, "text"),
        "label": known_label(where, row["label"], labels, notes),
    })  # fmt: skip


def _is_document(path: Path) -> bool:
    return path.parent.name in TOPICS and path.suffix == ".txt"


def _numbered_names(file: Path) -> Mapping[str, str]:
    """The names of class numbers from class.txt; topics of a file with a header are their own names."""
    names = file.with_name(BESIDE[0])
    if first_line(str(file)).split(TAB)[-1:] == ["label"]:
        return TOPICS
    if not names.is_file():
        raise DataError(str(file), f"the names of its class numbers must be in {names}, one per line")
    lines = list(skip_blank(read_lines(str(names), Counter()), Counter()))
    return {str(number): clean_text(where, line, Counter(), "label") for number, (where, line) in enumerate(lines)}
