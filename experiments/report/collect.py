"""What a run folder says, as far as it is there.

    run = collect("output/run")
    run.metrics["test"]["intent/accuracy"], run.history[-1]["eval"]
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

PARTS = ("eval", "test")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


@dataclass
class Collected:
    """Empty where a file is not there."""

    folder: Path
    config: dict[str, Any]
    config_text: str
    info: dict[str, Any]
    """run_info.json: monitored metric, device, versions"""
    data: dict[str, Any]
    """dataset_info.json: part -> figures"""
    history: list[dict[str, Any]]
    """log.json: an entry per evaluation"""
    steps: list[dict[str, Any]]
    """metrics.jsonl: a line per logging step or evaluation"""
    best: dict[str, Any]
    """the entry of the history that best/ is of"""
    metrics: dict[str, dict[str, float]]
    """"eval", "test" -> scores of the best state"""
    reports: dict[str, dict[str, Any]]
    """the same -> task -> figures per class, confusions, calibration"""
    speed: dict[str, float]
    machine: dict[str, Any]
    """machine.json: name -> values over time"""
    check: dict[str, Any]
    """check.json: findings before the run"""
    times: tuple[datetime, datetime] | None
    """first and last line of train.log"""

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """name, kind and options."""
        return self.config.get("tasks") or read_json(self.folder / "best/config.json", {}).get("tasks", [])

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def errors(self) -> list[Path]:
        """Files of wrong records, those of test first."""
        files = sorted((self.folder / "errors").glob("*.jsonl"))
        return sorted(files, key=lambda path: not path.name.startswith("test"))


def collect(folder: str | Path) -> Collected:
    folder = Path(folder)
    config_file = folder / "config.yaml"
    config_text = config_file.read_text(encoding="utf-8") if config_file.is_file() else ""
    return Collected(
        folder=folder,
        config=yaml.safe_load(config_text) or {},
        config_text=config_text,
        info=read_json(folder / "run_info.json", {}),
        data=read_json(folder / "dataset_info.json", {}),
        history=read_json(folder / "log.json", []),
        steps=read_lines(folder / "metrics.jsonl"),
        best=read_json(folder / "best/metrics.json", {}),
        metrics={part: found for part in PARTS if (found := read_json(folder / f"{part}_metrics.json", {}))},
        reports={part: found for part in PARTS if (found := read_json(folder / f"{part}_report.json", {}))},
        speed=read_json(folder / "speed.json", {}),
        machine=read_json(folder / "machine.json", {}),
        check=read_json(folder / "check.json", {}),
        times=log_times(folder / "train.log"),
    )


def read_json(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise


def read_lines(path: Path) -> list[Any]:
    """The last line may still be being written."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def log_times(path: Path) -> tuple[datetime, datetime] | None:
    found = []
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as file:
            found = [match[0] for line in file if (match := TIME.match(line))]
    return (datetime.fromisoformat(found[0]), datetime.fromisoformat(found[-1])) if found else None
