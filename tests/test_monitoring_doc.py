"""docs/monitoring.md is true: its commands run, and its names are those that TensorBoard shows."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard import program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.core.core_plugin import CorePluginLoader

import main
from tests.sample_job import read
from tests.test_readme import blocks, small
from tests.test_trackers import fake

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
COMMANDS = "".join(blocks(TEXT, "sh")).splitlines()
JOBS = [command for command in COMMANDS if command.startswith("python main.py")]
PY_SPY = [command for command in COMMANDS if command.startswith("py-spy")]
SPENDS = "import time\ndef waits_here():\n    while True: sum(range(1000))\nprint(flush=True)\nwaits_here()"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, what all jobs of the page leave behind together."""
    folder = tmp_path_factory.mktemp("monitoring")
    options = [word for job in JOBS for word in shlex.split(job)[2:]]
    quick = ["--logging_steps", "1", "--machine_seconds", "0.01", "--peak_tflops", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        fake("wandb", folder, patch)
        assert main.run([*options, *small(folder), *quick, "--batch_size", "4", "--profile", "1"]) == 0
    return folder


@pytest.mark.slow
def test_the_jobs_run(runs: Path) -> None:
    assert [re.findall(r"--(tracker|profile)", job) for job in JOBS] == [["tracker"], ["profile"]]
    assert (runs / "calls.jsonl").read_text(encoding="utf-8").endswith('["finish"]\n')
    assert (runs / "run/profile/table.txt").exists() and (runs / "run/profile/trace.json.gz").exists()
    assert read(runs / "run" / "tracker.json").keys() == {"wandb"}
    log = (runs / "run" / "train.log").read_text(encoding="utf-8")
    assert "profile of 1 step: " in log and "(MFU " in log


def documented() -> set[str]:
    """Names in TensorBoard, with `<…>` for what differs; the GPUs' columns left out."""
    names: set[str] = set()
    for row in re.findall(r"^\|[^|]*\|([^|]*/[^|]*)\|[^|]*\|$", TEXT.split("## The log")[0], re.M):
        cells = re.findall(r"`([^`]+)`", row)
        first = cells[0].rsplit("/", 1)[0]
        names |= {cell if "/" in cell else f"{first}/{cell}" for cell in cells}
    return {name for name in names if "gpu0" not in name}


@pytest.mark.slow
def test_names_are_those_of_tensorboard(runs: Path) -> None:
    board = EventAccumulator(str(runs / "run" / "tensorboard")).Reload()
    patterns = {name: re.sub(r"<\w+>", r"[^/]+", name) for name in documented()}
    assert "machine/process_cpu_percent" in patterns and "speed/time/checkpoint" in patterns and len(patterns) > 20
    tags = set(board.Tags()["scalars"]) - {"speed/seconds"}
    assert {tag for tag in tags if not any(re.fullmatch(p, tag) for p in patterns.values())} == set()
    unused = [name for name, p in patterns.items() if not any(re.fullmatch(p, tag) for tag in tags)]
    assert unused == []
    columns = read(runs / "run" / "machine.json")["columns"]
    assert {f"machine/{name}" for name in columns} - {"machine/seconds"} <= patterns.keys()


@pytest.mark.slow
def test_tensorboard_finds_the_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [command] = [command for command in COMMANDS if command.startswith("tensorboard")]
    words = shlex.split(command.replace("output", str(runs)))
    board: Any = program.TensorBoard(plugins=[CorePluginLoader()])
    board.configure(argv=[*words, "--inspect"])
    board.main()
    assert "train/grad_norm" in capsys.readouterr().out


@pytest.mark.slow
def test_the_example_of_the_log_has_the_form_of_a_real_one(runs: Path) -> None:
    """Numbers and the middle of long lines may differ."""
    [example] = [block for block in blocks(TEXT, "") if "INFO" in block]
    real = {form(line) for line in (runs / "run" / "train.log").read_text(encoding="utf-8").splitlines()}
    for line in example.splitlines():
        pattern = re.escape(form(line)).replace("…", ".*")
        assert any(re.fullmatch(pattern, other) for other in real), line


def form(line: str) -> str:
    line = re.sub(r" \(MFU .*?\)", "", line).replace("bf16", "fp32")
    return re.sub(r"[\d,.:-]*\d(?:e[-+]\d+)?", "0", line)


@pytest.mark.parametrize("command", PY_SPY)
def test_py_spy_looks_into_a_running_process(command: str, tmp_path: Path) -> None:
    tool = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if tool is None:
        pytest.skip("py-spy is not installed")
    process = subprocess.Popen([sys.executable, "-c", SPENDS], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    picture = tmp_path / "profile.svg"
    places = {"PID": str(process.pid), "profile.svg": str(picture), "30": "1"}
    words = [places.get(word, word) for word in command.split()]
    done = subprocess.run([tool, *words[1:]], capture_output=True, text=True, check=False)
    process.kill()
    process.wait()
    process.stdout.close()
    if "Permission Denied" in done.stderr:
        pytest.skip("may not look into other processes here")
    assert done.returncode == 0, done.stderr
    assert "waits_here" in (picture.read_text(encoding="utf-8") if picture.exists() else done.stdout)


def test_every_command_of_the_page_is_run_here() -> None:
    others = [command for command in COMMANDS if command not in [*JOBS, *PY_SPY]]
    assert others == ["tensorboard --logdir output", "pip install py-spy"]
