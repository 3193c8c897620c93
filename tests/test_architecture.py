"""docs/architecture.md: its values are those of a run, its names exist, its picture has all rooms."""

import re
import shlex
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest

from data_process.sample_data import generate
from tests.test_docs_commands import ROOT, blocks
from tests.test_laws import ROOMS, WIRING
from tests.walk import OPTIONS, walk

TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"<!-- walk: (\w+) -->\n```\w+\n(.*?)\n```$", TEXT, re.M | re.S))
NUMBER = r"-?\d+\.\d+"


def same(shown: str, found: str) -> bool:
    """The same text; decimals may differ in their last digits, between processors."""
    decimals = [[float(number) for number in re.findall(NUMBER, text)] for text in (shown, found)]
    return re.sub(NUMBER, "x", shown) == re.sub(NUMBER, "x", found) and decimals[0] == pytest.approx(
        decimals[1], abs=2e-3
    )


def check(found: dict[str, str]) -> None:
    different = {stage: (SHOWN.get(stage), text) for stage, text in found.items() if not same(SHOWN[stage], text)}
    assert not different


def test_a_record_up_to_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = walk(tmp_path, to_the_end=False)
    check(found)
    assert [*found] == ["record", "features", "batch", "output", "loss"] == [*SHOWN][:5]


@pytest.mark.slow
def test_a_record_up_to_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = walk(tmp_path)
    check(found)
    assert [*found] == [*SHOWN]


def test_the_command_and_the_sums_of_the_page() -> None:
    ((_, command),) = [block for block in blocks(TEXT) if block[0] == "sh"]
    words = shlex.split(command.replace("\\\n", " "))
    assert words == ["python", "main.py", *OPTIONS.split(), "--output_dir", "output/walk"]
    sums = re.findall(r"\((\d+\.\d+) \+\s+(\d+\.\d+)\) / (\d+) = (\d+\.\d+)", TEXT)
    assert len(sums) == 2
    for first, second, items, mean in sums:
        assert round((float(first) + float(second)) / int(items), 3) == float(mean)
        assert all(number in SHOWN["loss"] for number in (first, second, items)) and mean[:4] in SHOWN["step"]
    words = generate(60)[59]["tokens"]
    assert words[4] == "thai" and '"thai"' in TEXT and "word_starts [1, 2, 3, 4, 7" in SHOWN["features"]


def test_every_name_exists() -> None:
    named = re.findall(r"`([\w/]+)\.py`: `([\w.]+)`", TEXT)
    assert len(named) > 15
    for file, name in named:
        room = next(iter(re.findall(rf"^\| `(\w+)/` .*`{file}\.py`: `{name}`", TEXT, re.M)), "")
        found = import_module(f"{room}.{file}".strip(".").replace("/", "."))
        for part in name.split("."):
            found = getattr(found, part)


@pytest.mark.parametrize("name", ["architecture.svg", "architecture.zh-CN.svg"])
def test_the_picture_has_all_rooms_and_fits_a_page(name: str) -> None:
    root = ElementTree.parse(ROOT / "docs" / name).getroot()
    texts = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    rooms = ROOMS - {"config", "logging_config"}
    assert {f"{room}/" for room in rooms} | {"config.py", "logging_"} < {*texts}
    scripts = WIRING - {"main", "tests"}
    assert all(f"{script}/" in texts or f"{script}.py" in texts for script in scripts)
    assert root.get("viewBox") == "0 0 720 1120" and root.find("{http://www.w3.org/2000/svg}title") is not None


def test_both_pictures_are_drawn_alike() -> None:
    pictures = [(ROOT / "docs" / name).read_text("utf-8") for name in ("architecture.svg", "architecture.zh-CN.svg")]
    drawn = [re.findall(r"<(?:rect|path|text|marker)[^>]*>", picture) for picture in pictures]
    assert drawn[0] == drawn[1]
