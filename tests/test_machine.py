"""trainer/machine.py: the timeline against its definition, resuming, sensors that fail, what it costs."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.machine import Machine, Timeline, cpu_sensors, gpu_sensors, means


def test_a_timeline_keeps_the_means_of_what_it_was_given() -> None:
    """However long: a point is the mean of the values since the point before, and there are never too many."""
    timeline = Timeline(2.0, limit=8)
    for number in range(1, 101):
        timeline.add(2.0 * number, {"a": float(number), "b": None if number % 2 else 1.0})
        assert len(timeline.columns["seconds"]) < 8
    found = timeline.as_dict()
    each = int(found["interval_seconds"] / 2)
    assert each == 16, "2, 4, 8, 16 values in a point"
    starts = range(0, 100 - 100 % each, each)
    assert found["columns"]["seconds"] == [2.0 * (start + each) for start in starts]
    assert found["columns"]["a"] == [pytest.approx(start + (each + 1) / 2) for start in starts]
    assert found["columns"]["b"] == [1.0] * len(starts), "what is missing does not count"


def test_new_and_missing_columns_have_gaps() -> None:
    timeline = Timeline(1.0)
    timeline.add(1.0, {"cpu": 10.0})
    timeline.add(2.0, {"gpu": 20.0})
    assert timeline.as_dict() == {
        "interval_seconds": 1.0, "columns": {"seconds": [1.0, 2.0], "cpu": [10.0, None], "gpu": [None, 20.0]}
    }  # fmt: skip
    assert means([{"a": 1.0, "b": None}, {"a": 2.0}]) == {"a": 1.5, "b": None}


def test_a_timeline_goes_on_after_a_saved_one() -> None:
    """Added in two parts, with what is on the disk in between, as if in one."""
    whole, first = Timeline(1.0, limit=8), Timeline(1.0, limit=8)
    values = [(float(n), {"a": float(n * n)}) for n in range(1, 61)]
    for seconds, value in values:
        whole.add(seconds, value)
    for seconds, value in values[:48]:
        first.add(seconds, value)
    second = Timeline(1.0, json.loads(json.dumps(first.as_dict())), limit=8)
    assert second.end == 48.0 and second.per_point == first.per_point == 8
    for seconds, value in values[48:]:
        second.add(seconds, value)
    assert second.as_dict() == whole.as_dict()


def test_another_interval_after_a_resume_changes_the_later_points_only() -> None:
    saved = {"interval_seconds": 4.0, "columns": {"seconds": [4.0, 8.0], "a": [1.0, 2.0]}}
    assert Timeline(2.0, saved).per_point == 2
    later = Timeline(10.0, saved)
    later.add(18.0, {"a": 3.0})
    assert later.as_dict() == {"interval_seconds": 10.0, "columns": {"seconds": [4, 8, 18], "a": [1, 2, 3]}}


def run(folder: Path, number: int, **options: Any) -> dict[str, Any]:
    """Ends after `number` looks; what is written then."""
    given: list[float] = []

    def count() -> dict[str, float | None]:
        given.append(1.0)
        return {"count": float(len(given))}

    with Machine(folder, 0.02, sensors=[count], **options):
        while len(given) < number + 1:  # the first one is not kept
            time.sleep(0.005)
    return json.loads((folder / "machine.json").read_text(encoding="utf-8"))


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    first = run(tmp_path, 3)["columns"]
    assert first["count"][:3] == [2, 3, 4] and 0.019 < first["seconds"][0] < first["seconds"][1]
    both = run(tmp_path, 2, resumes=True)["columns"]
    end = len(first["seconds"])
    assert both["seconds"][:end] == first["seconds"] and both["count"][:end] == first["count"]
    assert both["seconds"][end] > first["seconds"][-1] + 0.019, "only the time in which it ran"
    assert both["seconds"] == sorted(both["seconds"]) and both["count"][end] == 2
    anew = run(tmp_path, 2)["columns"]
    assert anew["seconds"][0] < both["seconds"][end]


def test_a_damaged_file_is_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "machine.json").write_text('{"interval', encoding="utf-8")
    assert run(tmp_path, 1, resumes=True)["columns"]["count"][0] == 2
    assert len(caplog.records) == 1 and "cannot be read as JSON" in caplog.text


def test_a_sensor_that_fails_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def broken() -> dict[str, float | None]:
        calls.append(1)
        if len(calls) < 4:
            raise RuntimeError("GPU is lost")
        return {"gpu0_percent": 50.0}

    with Machine(tmp_path, 0.02, sensors=[broken, lambda: {"a": 1.0}]):
        while len(calls) < 6:
            time.sleep(0.005)
    columns = json.loads((tmp_path / "machine.json").read_text(encoding="utf-8"))["columns"]
    assert set(columns["a"]) == {1.0} and columns["gpu0_percent"][:3] == [None, None, 50.0]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "GPU is lost; training goes on without" in caplog.text


def test_a_full_disk_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer.machine.write_text", full)
    with Machine(tmp_path, 0.02, sensors=[lambda: {"a": 1.0}]) as machine:
        while len(machine.timeline.columns["seconds"]) < 3:
            time.sleep(0.005)
    assert not machine.thread.is_alive() and caplog.text.count("No space left on device") == 1


def test_figures_since_the_last_log_line_are_told_to_all_callbacks(tmp_path: Path) -> None:
    told = []
    machine = Machine(tmp_path, sensors=[lambda: {"a": 1.0}], emit=lambda event, values: told.append((event, values)))
    for value in (2.0, 4.0, None):
        machine.recent.append({"a": value, "b": None})
    for event in ("log", "speed", "speed"):
        machine(event, 5, {})
    assert told == [("machine", {"a": 3.0})], "nothing where there is nothing new"


def test_sensors_of_the_cpu_tell_what_is_true(tmp_path: Path) -> None:
    cpu, memory, disk = cpu_sensors(tmp_path)
    before, start = time.process_time(), time.perf_counter()
    cpu()
    while time.process_time() - before < 0.3:
        sum(range(1000))
    share = 100 * (time.process_time() - before) / (time.perf_counter() - start)
    found = cpu()
    assert found["process_cpu_percent"] == pytest.approx(share, abs=12)
    assert 0 < (found["cpu_percent"] or 0) <= 100
    few = memory()["memory_gib"] or 0
    kept = torch.ones(2**26)  # a quarter of a GiB
    assert (memory()["memory_gib"] or 0) - few == pytest.approx(0.25, abs=0.05) and kept[0] == 1
    assert (memory()["machine_memory_gib"] or 0) > few and (disk()["disk_free_gib"] or 0) > 0


def test_gpus_are_those_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of torch.cuda, which knows CUDA_VISIBLE_DEVICES; a job on the CPU does not look at GPUs."""
    figures = {"utilization": [90, 10], "device_memory_used": [2**31, 2**30], "power_draw": [300_000, 70_500],
               "temperature": [60, 40]}  # fmt: skip
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, values in figures.items():
        monkeypatch.setattr(torch.cuda, name, values.__getitem__)
    assert gpu_sensors(torch.device("cpu")) == []
    first, second = gpu_sensors(torch.device("cuda", 0))
    assert first() == {"gpu0_percent": 90, "gpu0_memory_gib": 2, "gpu0_watts": 300, "gpu0_celsius": 60}
    assert second() == {"gpu1_percent": 10, "gpu1_memory_gib": 1, "gpu1_watts": 70.5, "gpu1_celsius": 40}


def test_it_costs_less_than_a_thousandth_of_a_core(tmp_path: Path) -> None:
    """Time of a thread's own, so that a busy machine does not count; a look every 5 s, a write every minute."""
    machine = Machine(tmp_path)
    machine.begun = 0.0
    start = time.thread_time()
    for _ in range(2100):  # the longest timeline, and thinning it
        machine.look()
    look = (time.thread_time() - start) / 2100
    start = time.thread_time()
    machine.write()
    assert look / 5 + (time.thread_time() - start) / 60 < 1e-3
