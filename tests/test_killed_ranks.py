"""A rank that is killed, hangs or fails: how soon all end, which rank is named, and what a restart makes of it.

`python -m pytest -m slow tests/test_killed_ranks.py -s` kills a random rank at a random moment 20 times, of a
toy and of main.py.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

import main
from tests import killed_ranks_run
from tests.processes import free_port, in_ranks
from tests.sample_job import arguments, read
from trainer import distributed, launch
from trainer.lost_ranks import RanksLost, explained
from trainer.stragglers import Stragglers, slow_ranks

ROOT = Path(__file__).parents[1]
TRIALS, PATIENCE = 20, 60  # kills of the slow tests; seconds after which all ranks must be gone
OPTIONS = {"epochs": 6, "save_steps": 3, "logging_steps": 5, "step_seconds": 0.02}  # 60 steps

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")


def toy(folder: Path, **options: Any) -> list[str]:
    return ["-m", "tests.killed_ranks_run", str(folder), json.dumps(OPTIONS | options)]


def start(
    folder: Path,
    program: list[str],
    restarts: int = 0,
    processes: int = 2,
    meeting: Sequence[str] = ("--standalone",),
    **env: str,
) -> subprocess.Popen:
    """The launcher, in a session of its own; what is said goes to FOLDER.txt."""
    command = [sys.executable, "-m", "trainer.launch", *meeting, f"--nproc_per_node={processes}",
               f"--max_restarts={restarts}", "--", *program]  # fmt: skip
    with folder.with_suffix(".txt").open("w") as log:
        values = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | env
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=values, start_new_session=True)


def said(folder: Path) -> str:
    return folder.with_suffix(".txt").read_text()


def ranks(launcher: int) -> list[int]:
    """Process numbers of its ranks, in their order."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children")
    if not children.exists():
        pytest.skip("needs /proc to find the processes")
    return [pid for pid in map(int, children.read_text().split()) if b"\0tests.killed" in line(pid) or b"main.py" in
            line(pid)]  # fmt: skip


def line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_for(condition: Any, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, "ended too early, or too slow"
        time.sleep(0.05)


def seconds_to_end(pids: list[int]) -> float:
    begun = time.monotonic()
    while any(line(pid) for pid in pids):
        assert time.monotonic() - begun < PATIENCE, "ranks outlive the one that was killed"
        time.sleep(0.02)
    return time.monotonic() - begun


def assert_same(ours: Path, theirs: Path) -> None:
    """State, weights, best weights and log, all bits."""
    files = sorted(path.relative_to(theirs) for path in theirs.rglob("*.safetensors") if "previous" not in str(path))
    assert files
    for name in files:
        found, expected = load_file(ours / name), load_file(theirs / name)
        assert found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected), name
    for log in ("log.json", "metrics.jsonl"):
        assert (ours / log).read_text() == (theirs / log).read_text(), log


def assert_named(folder: Path, rank: int, pid: int, restarts: int) -> None:
    killed = rf"^launch: rank {rank} \(local rank {rank}, process {pid} on \S+\) was killed by SIGKILL; "
    assert re.search(killed + f"restart 1 of {restarts}$", said(folder), re.MULTILINE), said(folder)[-3000:]


def kill_and_compare(tmp_path: Path, program: Any, trials: int, training_only: bool = False) -> list[dict[str, Any]]:
    """Kill a random rank at a random moment of a run that may restart; then it is to end as an unbroken one.

    Args:
        program: folder -> its command.
        training_only: not before the first state was saved.
    """
    whole, rng = tmp_path / "whole", random.Random()
    begun = time.monotonic()
    process = start(whole, program(whole))
    wait_for((whole / "last").exists, process)
    saved = time.monotonic()
    assert process.wait(timeout=300) == 0, said(whole)[-3000:]
    ended = time.monotonic()
    found: list[dict[str, Any]] = []
    while len(found) < trials:
        folder = tmp_path / f"killed{len(found)}"
        process = start(folder, program(folder), restarts=3)
        try:
            if training_only:
                wait_for((folder / "last").exists, process)
                time.sleep(rng.random() * (ended - saved) * 0.7)
            else:
                wait_for(lambda pid=process.pid: len(ranks(pid)) == 2, process)
                time.sleep(rng.random() * (ended - begun) * 0.8)
            pids, rank = ranks(process.pid), rng.randrange(2)
            if len(pids) == 2:
                state = (folder / "last").exists()
                os.kill(pids[rank], signal.SIGKILL)
                end = seconds_to_end(pids)
            code = process.wait(timeout=300)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        assert code == 0, said(folder)[-5000:]
        if len(pids) == 2:  # else the run was over before
            assert_named(folder, rank, pids[rank], restarts=3)
            assert_same(folder, whole)
            found.append({"rank": rank, "state was saved": state, "seconds": round(end, 2)})
        shutil.rmtree(folder)
    return found


def test_a_killed_rank_is_named_and_the_run_goes_on(tmp_path):
    """Dropout is on; the end is that of an unbroken run, bit for bit."""
    whole, folder, rank = tmp_path / "whole", tmp_path / "out", random.randrange(2)
    in_two_processes(whole)
    process = start(folder, toy(folder), restarts=1)
    wait_for((folder / "last").exists, process)
    time.sleep(random.random())
    pids = ranks(process.pid)
    os.kill(pids[rank], signal.SIGKILL)
    assert seconds_to_end(pids) < PATIENCE and process.wait(timeout=60) == 0, said(folder)[-3000:]
    assert_named(folder, rank, pids[rank], restarts=1)
    assert_same(folder, whole)


def in_two_processes(folder: Path) -> None:
    """The toy without a launcher."""
    assert in_ranks(2, lambda: main.run(toy(folder)[2:], killed_ranks_run.train)) == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "training_only"), [("ddp", False), ("ddp", True), ("fsdp", True)])
def test_many_killed_ranks(tmp_path, parallel, training_only):
    report(kill_and_compare(tmp_path, partial(toy, parallel=parallel), TRIALS, training_only))


@pytest.mark.slow
@pytest.mark.parametrize("training_only", [False, True])
def test_many_killed_ranks_of_main(data, tmp_path, training_only):
    options = {"batch_size": 4, "save_steps": 5, "do_eval": None}

    def program(folder: Path) -> list[str]:
        return ["main.py", *arguments(data, folder, **options)]

    report(kill_and_compare(tmp_path, program, TRIALS, training_only))


def report(found: list[dict[str, Any]]) -> None:
    seconds = sorted(trial["seconds"] for trial in found)
    saved = sum(trial["state was saved"] for trial in found)
    print(f"\n{len(found)} of {len(found)} as unbroken, {saved} of them after the first saved state; all ranks ended "
          f"after {seconds[0]} to {seconds[-1]} s, median {seconds[len(seconds) // 2]} s")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("does", "code", "says"), [
    (["raise", 4, 0], 1, "rank 1 .* ended with exit code 1\n"),
    (["exit", 4, 2], 2, "lost another rank"),
    (["exit", 4, 3], 3, "lost another rank"),
])  # fmt: skip
def test_what_would_end_alike_is_not_started_again(tmp_path, does, code, says):
    folder = tmp_path / "out"
    process = start(folder, toy(folder, rank_does={"1": does}), restarts=3)
    assert process.wait(timeout=120) == code
    text = said(folder)
    assert re.search(says, text) and "restart 1" not in text, text[-3000:]
    assert text.count("error: rank 0 ") == 1, "one start"


@pytest.mark.slow
def test_a_rank_that_hangs_is_named(tmp_path):
    """Three ranks; the two that wait both name the third, and since when, and for what they wait."""
    folder = tmp_path / "out"
    begun = time.monotonic()
    process = start(folder, toy(folder, rank_does={"1": ["sleep", 4, 600]}), processes=3, DIST_TIMEOUT="3")
    wait_for(lambda: said(folder).count("waited in vain") == 2, process)
    pids = ranks(process.pid)
    os.kill(pids[1], signal.SIGKILL)  # the launcher would do that 30 seconds later
    assert process.wait(timeout=60) in (launch.LOST, 137) and time.monotonic() - begun < 60
    waited = re.findall(r"error: rank (\d) \(.*\) waited in vain since [\d:]{8} \(3 s, DIST_TIMEOUT\) for rank 1 at "
                        r"step.py:\d+ in count_items; ", said(folder))  # fmt: skip
    assert sorted(waited) == ["0", "2"], said(folder)[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["all", "launcher"])
def test_sigterm_saves_once_and_the_same_command_goes_on(tmp_path, whom):
    """As SLURM sends it, to the launcher and to all ranks, whom the launcher sends it too; nothing is started again."""
    whole, folder = tmp_path / "whole", tmp_path / "out"
    in_two_processes(whole)
    process = start(folder, toy(folder, step_seconds=0.05), restarts=3)
    wait_for((folder / "metrics.jsonl").exists, process)
    wait_for(lambda: '"step": 15,' in (folder / "metrics.jsonl").read_text(), process)
    for pid in [process.pid, *(ranks(process.pid) if whom == "all" else ())]:
        os.kill(pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 143, said(folder)[-3000:]
    text, stopped = said(folder), read(folder / "last/trainer_state.json")
    assert text.count("SIGTERM: saving after this step") == 2 and "Traceback" not in text and "restart" not in text
    assert text.count("error: stopped by SIGTERM; the same command goes on") == 2
    assert 15 <= stopped["step"] < 60 and stopped["step"] > read(folder / "last.previous/trainer_state.json")["step"]
    in_two_processes(folder)
    assert_same(folder, whole)


def machines(
    folder: Path, elastic: bool, program: list[str], restarts: int, late: float = 4
) -> list[subprocess.Popen]:
    """Two launchers on this machine, each as one of two machines with one rank; they write FOLDER0.txt, FOLDER1.txt.

    late: seconds until the second comes to an elastic run; the first has waited 30 s for more when it starts alone.
    """
    port, found = free_port(), []
    for node in range(2):
        meeting = [f"--node_rank={node}", "--master_addr=127.0.0.1", f"--master_port={port}", "--nnodes=2"]
        if elastic:
            meeting = ["--nnodes=1:2", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}", "--rdzv_id=run"]
        name = folder.with_name(f"{folder.name}{node}")
        found.append(start(name, program, restarts, processes=1, meeting=meeting))
        if elastic and not node:
            time.sleep(late)  # the first has the store
    return found


@pytest.mark.slow
@pytest.mark.parametrize("elastic", [False, True])
@pytest.mark.parametrize("node", [0, 1])
def test_a_rank_is_killed_on_one_of_two_machines(tmp_path, elastic, node):
    """Both start their ranks again, and the end is that of an unbroken run."""
    whole, folder = tmp_path / "whole", tmp_path / "out"
    in_two_processes(whole)
    both = machines(folder, elastic, toy(folder, step_seconds=0.05), restarts=2)
    try:
        wait_for((folder / "last").exists, both[0])
        os.kill(ranks(both[node].pid)[0], signal.SIGKILL)
        codes = [process.wait(timeout=180) for process in both]
    finally:
        end(both)
    texts = [said(folder.with_name(f"out{number}")) for number in range(2)]
    assert codes == [0, 0], texts
    assert re.search(r"launch: rank \d .* was killed by SIGKILL; restart 1 of 2", texts[node]), texts
    assert_same(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("elastic", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_bug_on_one_of_two_machines_ends_both(tmp_path, elastic, rank):
    """Not only there: the other one learns of it, and does not start its ranks again to wait for nobody."""
    folder = tmp_path / "out"
    both = machines(folder, elastic, toy(folder, rank_does={str(rank): ["raise", 5, 0]}), restarts=2)
    try:
        begun = time.monotonic()
        codes = [process.wait(timeout=180) for process in both]
        print(f"\nboth ended after {time.monotonic() - begun:.0f} s with {codes}")
    finally:
        end(both)
    texts = [said(folder.with_name(f"out{number}")) for number in range(2)]
    assert sorted(codes) in ([1, 1], [1, launch.LOST]), texts
    assert sum("a bug on one rank" in text for text in texts) == 1


@pytest.mark.slow
def test_an_elastic_run_goes_on_without_a_machine_that_is_gone(tmp_path):
    """Launcher and rank of the second one are killed; the first goes on alone from the last state, to the end."""
    folder = tmp_path / "out"
    both = machines(folder, True, toy(folder, step_seconds=0.05), restarts=2)
    try:
        wait_for((folder / "last").exists, both[0])
        gone = [*ranks(both[1].pid), both[1].pid]
        for pid in gone:
            os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        assert both[0].wait(timeout=180) == 0, said(folder.with_name("out0"))[-3000:]
        print(f"\nfinished {time.monotonic() - begun:.0f} s later")
    finally:
        end(both)
    state = read(folder / "last/trainer_state.json")
    assert (state["epoch"], state["world_size"]) == (OPTIONS["epochs"], 1)


@pytest.mark.slow
def test_a_machine_that_comes_later_takes_part(tmp_path):
    """The first has begun alone; it saves, and both go on from there."""
    folder = tmp_path / "out"
    both = machines(folder, True, toy(folder, step_seconds=0.5), restarts=0, late=40)
    try:
        assert [process.wait(timeout=180) for process in both] == [0, 0], said(folder.with_name("out0"))[-3000:]
    finally:
        end(both)
    first = said(folder.with_name("out0"))
    assert first.count("error: stopped by SIGTERM; the same command goes on") == 1, "once, before the other took part"
    state = read(folder / "last/trainer_state.json")
    assert (state["epoch"], state["world_size"]) == (OPTIONS["epochs"], 2)


def end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            for pid in [*ranks(process.pid), process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.wait()


# ------------------------------------------------------------------------------------- without processes


class Failure:
    """Of torch's ProcessFailure what is used."""

    def __init__(self, exitcode: int, timestamp: int = 0) -> None:
        self.exitcode, self.timestamp, self.local_rank, self.pid = exitcode, timestamp, 0, 1


@pytest.mark.parametrize(("failures", "rank"), [
    ({0: (4, 0), 1: (-9, 0), 2: (4, 0)}, 1),  # the others lost the killed one
    ({0: (-15, 0), 1: (2, 0)}, 1),
    ({0: (143, 0), 1: (4, 0)}, 1),
    ({0: (1, 0), 1: (-6, 0)}, 1),
    ({0: (4, 0), 1: (-9, 30)}, 0),  # killed by the launcher, because it hung
    ({2: (143, 0), 3: (143, 1)}, 2),
])  # fmt: skip
def test_which_failure_was_first(failures, rank):
    given: Any = {number: Failure(*values) for number, values in failures.items()}
    assert launch.first_failure(given)[0] == rank


def test_the_store_of_an_earlier_try_does_no_harm():
    """Each try has three ranks that meet under one new name, whatever those before have left, also half-way."""
    store = dist.HashStore()
    for key, value in {"asks/1": "dead", "asks/2": "dead", "answer/dead": "old", "old/1": "here"}.items():
        store.set(key, value)
    for number in range(5):
        parts: dict[int, Any] = {}
        threads = [threading.Thread(target=lambda r=r, p=parts: p.update({r: distributed.meet(store, r, 3)}))
                   for r in (1, 2, 0)]  # fmt: skip
        for thread in threads:
            thread.start()
            time.sleep(0.02 * (number % 2))
        for thread in threads:
            thread.join(timeout=20)
        assert len(parts) == 3 and not parts[1].check(["key"])
        parts[2].set("key", str(number))
        assert [part.get("key") for part in parts.values()] == [str(number).encode()] * 3


def test_the_first_rank_of_a_machine_may_take_longer_than_others_wait(monkeypatch):
    """It builds a cache; the second one comes when it is there."""
    monkeypatch.setattr(distributed, "TIMEOUT", timedelta(seconds=2))

    def build() -> int:
        begun = time.monotonic()
        rank, _, _ = distributed.start("cpu")
        with distributed.local_rank_0_first():
            time.sleep(0 if rank else 3)
            waited = time.monotonic() - begun
        distributed.stop()
        return 0 if waited >= 3 else 1

    assert in_ranks(2, build) == [0, 0]


def test_ranks_that_do_not_start_are_named(monkeypatch):
    monkeypatch.setattr(distributed, "TIMEOUT", timedelta(seconds=0.2))
    with pytest.raises(dist.DistStoreError, match="ranks that have not started: 1, 2") as caught:
        distributed.meet(dist.HashStore(), 0, 3)
    found = explained(caught.value)
    assert isinstance(found, RanksLost) and found.exit_code == launch.LOST
    assert "waited in vain since " in str(found) and "\n" not in str(found)


def test_other_errors_stay_what_they_are():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert explained(error) is error


@pytest.mark.parametrize(("work", "slow"), [
    ([1.0], []), ([1.0, 1.0], []), ([1.0, 2.0], [1]), ([2.0, 1.0], [0]), ([1.0, 1.4], []), ([1.0, 1.1, 3.0, 1.0], [2]),
    ([0.01, 0.3], []),  # not worth a word
    ([3.0, 1.0, 3.0, 1.0], [0, 2]), ([3.0, 3.0, 3.0, 1.0], []),  # most of them are no exception
])  # fmt: skip
def test_which_ranks_are_slow(work, slow):
    assert slow_ranks(work, seconds=4.0) == slow


def test_a_rank_that_stays_slow_is_named_once(caplog):
    stragglers, even, slow = Stragglers(), [1.0, 1.0], [1.0, 3.0]
    for work in (even, slow, even, slow, slow, slow, even, slow, slow, [3.0, 1.0], slow):
        stragglers(work, 4.0)
    assert [record.getMessage() for record in caplog.records] == [
        "rank 1 is slow: it worked 3.00 s of the last 4.00 s, others 1.00 s; all wait for it"
    ] * 2


@pytest.mark.slow
def test_a_rank_that_lags_is_named_and_the_one_that_waits_for_it_is_not(tmp_path):
    """Rank 1's data takes 40 ms a step from step 20 on. Both take as long for a step; the waiting is no work."""
    folder = tmp_path / "out"
    process = start(folder, toy(folder, epochs=4, step_seconds=0.002, rank_does={"1": ["slow", 20, 0.04]}))
    assert process.wait(timeout=120) == 0
    said_slow = re.findall(r"rank (\d) is slow: it worked ([\d.]+) s of the last ([\d.]+) s, others ([\d.]+) s",
                           said(folder))  # fmt: skip
    assert len(said_slow) == 1, said(folder)[-3000:]
    rank, work, seconds, others = said_slow[0][0], *map(float, said_slow[0][1:])
    assert rank == "1" and 0.2 <= work <= seconds and others < work / 2
