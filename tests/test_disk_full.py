"""A disk that takes no more: one line, the state before is whole, and with space again the run ends as if unbroken."""

import resource
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import main
from tests.processes import forked
from tests.sample_job import arguments, read
from tests.test_kills import assert_same, train
from trainer.checkpoint import SaveError, damaged
from trainer.signals import Interrupted

OPTIONS: dict[str, Any] = {"epochs": 2, "save_steps": 3, "logging_steps": 100}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert forked(partial(train, folder, OPTIONS)) == 0
    return folder


def sizes(folder: Path) -> list[int]:
    return sorted({path.stat().st_size for path in folder.rglob("*") if path.is_file()})


def test_every_file_of_a_state_in_turn_does_not_fit(whole, tmp_path):
    """A limit on the size of files, just below the size of each file of last/ that is larger than the logs."""
    before = tmp_path / "before"

    def six_steps() -> int:
        asked = iter([0] * 5 + [signal.SIGTERM])
        with suppress(Interrupted):
            train(before, OPTIONS | {"stop_signal": lambda: int(next(asked))})
        return 0

    assert forked(six_steps) == 0
    limits = [size - 1 for size in sizes(whole / "last") if size > 6000]
    assert len(limits) >= 2

    for limit in limits:
        folder = shutil.copytree(before, tmp_path / f"limit{limit}")

        def run(folder=folder, limit=limit) -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                train(folder, OPTIONS)
            except SaveError as error:
                assert "what was saved before is whole" in str(error) and "arge" in str(error), error
                return SaveError.exit_code
            return 0

        assert forked(run) == 1
        assert read(folder / "last" / "trainer_state.json")["step"] == 6 and not damaged(folder / "last")
        assert not any(folder.glob("*.tmp")), "the space it took is free again"
        assert forked(partial(train, folder, OPTIONS)) == 0
        assert_same(folder, whole)


def mounted(folder: Path, size: str) -> bool:
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0


def test_a_full_disk_under_main(data, tmp_path, capfd):
    """A real one, of 20 MB, filled up in the middle of the run."""
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    if not mounted(disk, "20m"):
        pytest.skip("mounting a tmpfs needs root")
    try:
        options = {"save_steps": 10, "do_eval": None}
        assert forked(lambda: main.run(arguments(data, disk / "out", **options))) == 0
        used = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
        shutil.rmtree(disk / "out")
        with open(disk / "filler", "wb") as filler:  # leaves room for last/ and best/, not for one more
            filler.write(bytes(20 * 2**20 - used))
        code = forked(lambda: main.run(arguments(data, disk / "out", **options)))
        error = capfd.readouterr().err
        assert code == 1 and "No space left on device" in error and "Traceback" not in error, error
        assert error.splitlines()[-1].startswith("error: ") and "what was saved before is whole" in error
        step = read(disk / "out" / "last" / "trainer_state.json")["step"]
        assert step in (10, 20) and not damaged(disk / "out" / "last")
        (disk / "filler").unlink()
        assert forked(lambda: main.run(arguments(data, disk / "out", **options))) == 0
        assert forked(lambda: main.run(arguments(data, whole, **options))) == 0
        for name in ("last/trainer.safetensors", "last/encoder/model.safetensors", "best/encoder/model.safetensors"):
            assert (disk / "out" / name).read_bytes() == (whole / name).read_bytes(), name
        assert (disk / "out" / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
        assert all(value.isfinite().all() for value in load_file(whole / "best/encoder/model.safetensors").values())
    finally:
        subprocess.run(["umount", str(disk)], check=False)
