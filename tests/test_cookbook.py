"""The recipes of docs/cookbook.md run as they stand there, beside nothing but the files that their `cp` lines copy.

    python -m pytest tests/test_cookbook.py
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.copies import HEADS, MARK, ROOT, advertised, run, stated, table

ENGLISH, CHINESE = ((ROOT / document).read_text(encoding="utf-8") for document in HEADS)
RECIPES = {}  # title -> `cp` lines, Python
for section in re.split(r"^### \d+\. ", ENGLISH, flags=re.MULTILINE)[1:]:
    title, *blocks = [section.split("\n")[0], *re.findall(r"^```(?:sh|python)\n(.+?)^```", section, re.M | re.S)]
    RECIPES[title] = tuple(blocks)


def test_every_recipe_is_found_and_shows_a_number() -> None:
    assert len(RECIPES) == ENGLISH.count("\n### ") == CHINESE.count("\n### ") >= 10
    for title, (_, block) in RECIPES.items():
        assert re.search(r"assert .*[=<>]|torch\.testing\.assert_close|torch\.equal", block), title
        assert block.count("\n") <= 45 and max(map(len, block.splitlines())) <= 120, title


def test_both_languages_have_the_same_blocks() -> None:
    blocks = [re.findall(r"^```\w*\n(.+?)^```", text, re.M | re.S) for text in (ENGLISH, CHINESE)]
    assert blocks[0] == blocks[1]
    assert [re.findall(r"\d[\d.]* %", text) for text in (ENGLISH, CHINESE)] == [["94 %", "57 %", "30 %"]] * 2


@pytest.mark.parametrize("document", HEADS)
def test_the_table_is_of_now(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert text[text.index(MARK) :] == MARK + table(document), "write it anew: python -m tests.copies"


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_copies_all_that_its_files_need_and_no_more(title: str) -> None:
    lines, block = RECIPES[title]
    files = {word for line in lines.splitlines() for word in line.split()[1:-1]}
    named = {file for file in files if f"from parts.{Path(file).stem} import " in block}
    companions: set[str] = set()
    for file in named:
        header = stated(file)
        assert header is not None and file in advertised()
        companions |= header.files
    assert files == named | companions


def cooked(titles: list[str], folder: Path, packages: set[str]) -> dict[str, str]:
    """Title -> traceback, or "" if it ran; each in a folder of its own."""
    names = {}
    for number, title in enumerate(titles):
        lines, block = RECIPES[title]
        project = folder / str(number)
        (project / "parts").mkdir(parents=True)
        subprocess.run(["sh", "-e", "-c", lines], cwd=ROOT, env=os.environ | {"PROJECT": str(project)}, check=True)
        (project / "recipe.py").write_text(block, encoding="utf-8")
        names[str(project)] = title
    return {names[place]: result for (place, _), result in
            run([(place, "recipe.py", "__main__") for place in names], packages).items()}  # fmt: skip


def test_recipes_run(tmp_path: Path) -> None:
    failed = cooked([*RECIPES], tmp_path, {"torch", "transformers"})
    assert len(failed) == len(RECIPES) and not any(failed.values()), "\n".join(failed.values())


def test_a_wrong_recipe_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "wrong", ("cp data_loader/samplers.py $PROJECT/parts/\n", "import parts.samplers\n"))
    assert cooked(["wrong"], tmp_path, set())["wrong"].endswith("No module named 'parts.order'\n")
