"""JD21: Chinese product reviews of JD.com in 21 domains, positive or negative; a sequence of tasks.

https://github.com/ws719547997/continual-learning-framework-for-NLP, without reference or licence; name and number of
domains are those of Lv et al. 2019, "Sentiment Classification by Leveraging the Shared Knowledge from a Sequence of
Domains" (DASFAA).

Raw files: data/train, data/dev and data/test, each with <domain>.txt: number, domain, POS or NEG, stars and the text
with a blank between characters, separated by tabs. Every domain becomes a folder, 01_electric_toothbrush to
21_xiaomi_phone.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

from ..errors import DataError
from ..readers.lines import Items
from ._raw_files import Parts, files_in, part_of
from ._tables import TAB, Fields, read_table
from ._values import clean_text, converted, known_label

FORM = "classification"
FILES = ("*.txt",)
LABELS = {"POS": "positive", "NEG": "negative"}
DOMAINS = {
    "电动牙刷": "01_electric_toothbrush", "洗面奶": "02_face_wash", "游戏机": "03_game_console",
    "吹风机": "04_hair_dryer", "iPhone": "05_iphone", "酒": "06_liquor", "MacBook": "07_macbook",
    "褪黑素": "08_melatonin", "蛋白粉": "09_protein_powder", "红米手机": "10_redmi_phone", "修复霜": "11_repair_cream",
    "海鲜": "12_seafood", "护肤品": "13_skin_care", "智能手环": "14_smart_band", "智能手表": "15_smart_watch",
    "运动鞋": "16_sports_shoes", "平板电脑": "17_tablet", "电视": "18_television", "维生素": "19_vitamins",
    "无线耳机": "20_wireless_earphones", "小米手机": "21_xiaomi_phone",
}  # fmt: skip
FIELDS: Fields = {"label": (), "text": ()}
LAYOUTS = (("id", "domain", "label", "stars", "text"),)

_BLANK_BETWEEN = re.compile(r"(?<=[\u4e00-\u9fff]) +(?=[\u4e00-\u9fff])")


def find(paths: Sequence[Path]) -> tuple[Parts, list[Path]]:
    """A part per domain and split, named <domain>/<split>."""
    folder = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    listed = files_in(folder) if folder else list(paths)
    parts: Parts = {}
    for path in listed:
        domain, split = DOMAINS.get(normalize("NFC", path.stem)), part_of(path, folder)
        if domain and split and path.suffix == ".txt":
            parts.setdefault(f"{domain}/{split}", []).append(path)
    if not parts:
        raise DataError(str(paths[0]), "none of the raw files expected: train/<domain>.txt, dev/…, test/…")
    for name, files in parts.items():
        if folder and len(files) > 1:
            raise DataError(str(folder), f"{files[0]} and {files[1]} are both of {name}; name the files themselves")
    read = {path for files in parts.values() for path in files}
    return parts, [path for path in listed if path not in read]


def read(file: str, notes: Counter[str]) -> Items:
    rows = read_table(file, FIELDS, LAYOUTS, notes, (TAB,))
    return converted(rows, lambda where, row: {
        "text": _BLANK_BETWEEN.sub("", clean_text(where, row["text"], notes, "text")),
        "label": known_label(where, row["label"], LABELS, notes),
    })  # fmt: skip
