"""Faults injected into this project's trainer, transformers.Trainer and Lightning; writes docs/reliability.md.

    python -m pytest -m slow tests/test_reliability.py

Outcomes are asserted for this project and recorded for the others; if one is missing, the document stays as it is.
"""

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.faults import report
from tests.faults.__main__ import PEERS, ROWS

ROOT = Path(__file__).parents[1]
MEMORY = Path("/dev/shm")  # a disk that is slow to flush doubles the time, and does not matter to a killed process
EXACT = "finishes, weights identical"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")]


@pytest.fixture(scope="module")
def installed() -> list[str]:
    return [peer for peer in PEERS if all(map(find_spec, import_module(f"tests.faults.{peer}").packages()))]


@pytest.fixture(scope="module")
def found(installed: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A process for each trainer, from which all its runs are forked; row -> trainer -> outcome -> how often."""
    folder, begun = tmp_path_factory.mktemp("faults"), time.monotonic()
    environment = os.environ | ({"TMPDIR": str(MEMORY)} if os.access(MEMORY, os.W_OK) else {})
    command = [sys.executable, "-m", "tests.faults"]
    started = [subprocess.Popen([*command, folder / peer, "--only", peer], cwd=ROOT, env=environment)
               for peer in installed]  # fmt: skip
    assert [process.wait() for process in started] == [0] * len(started)
    each = {peer: json.loads((folder / peer).read_text("utf-8"))["outcomes"] for peer in installed}
    outcomes = {row: {peer: each[peer][row][peer] for peer in installed} for row in ROWS}
    return {"outcomes": outcomes, "seconds": time.monotonic() - begun}


def test_the_outcomes_of_this_project(found: dict[str, Any]) -> None:
    ours = {row: outcomes["ours"] for row, outcomes in found["outcomes"].items()}
    for row in ("kills", "kills_no_dropout", "kills_saving"):
        assert ours[row] == {EXACT: ROWS[row].trials}
    for row in ("half", "bit", "deleted"):
        assert [*ours[row]] == ["goes on from the state before, with a warning, same weights"], ours[row]
    assert {what.partition(",")[0] for what in ours["planted"]} == {"no code run"}
    assert [*ours["full_disk"]] == [f"exit code 1, one line; with space again: {EXACT}"], ours["full_disk"]
    assert [what.startswith("stops, exit code 3, newest state of step 4; said") for what in ours["nan"]] == [True]
    assert ours["early_stopping"] == {"same step": ROWS["early_stopping"].trials}
    for row in ("sigterm", "sigterm_saving"):
        assert [*ours[row]] == [f"exit code 143, newest state of step 5; resumed: {EXACT}"], ours[row]
    assert ours["two"] == {f"{EXACT} / refused, exit code 2; then again: {EXACT}": ROWS["two"].trials}


def test_the_document(found: dict[str, Any], installed: list[str], tmp_path: Path) -> None:
    """Written when the outcomes of this project are as they should be, and all trainers are there."""
    test_the_outcomes_of_this_project(found)
    table = tmp_path / "table.md"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_malformed_data.py"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"RELIABILITY_TABLE": str(table)}, check=True)
    if installed != [*PEERS]:
        pytest.skip("docs/reliability.md is left as it is: accelerate or lightning is not installed")
    report.write(ROOT / "docs" / "reliability.md", found, table.read_text("utf-8"))
