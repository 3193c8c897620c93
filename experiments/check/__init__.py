"""The doctor before a run: what is wrong with the data, whether the model can learn, what the training will take.

    python main.py --config configs/snips.yaml --check

Prints a table and writes `<output_dir>/check.json` (the findings with their numbers, and the figures of the data), and
nothing else but the cache. Exit code 2 and a line on stderr if there is an error. docs/data_findings.md says what each
finding means and what to do about it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_process.errors import DataError

from .data import data_findings, wrong
from .surveys import take_surveys
from .table import Finding, as_table, in_colour, terminal_width, worst


class CheckFailed(Exception):
    """There is an error among the findings."""

    exit_code = 2


def check_data(job: Any, output_dir: str) -> None:
    """Of a job whose data is built, what concerns data alone. Raises CheckFailed."""
    about_data = figures(job)
    finish(output_dir, data_findings(job, take_surveys(job), about_data), about_data)


def check_job(job: Any) -> None:
    """The whole check of a job of main.py. Raises CheckFailed, and what is raised for wrong arguments and data."""
    import main

    try:
        main.build_data(job)
    except DataError as error:
        show_wrong_records(job, error)
        raise
    if job.rank != 0:
        return
    surveys, about_data = take_surveys(job), figures(job)
    findings = data_findings(job, surveys, about_data) + model_findings(job, surveys)
    finish(job.args.output_dir, findings, about_data)


def model_findings(job: Any, surveys: Any) -> list[Finding]:
    """Of the model, and the forecast."""
    import main
    from config import seed_everything

    from .forecast import forecast
    from .model import gradients, not_tried, overfit, small_batches

    seed_everything(job.args.seed)
    model = main.build_model(job)
    if job.world_size > 1 or not job.data.having("train"):
        return [not_tried(job)]
    batches = small_batches(job, surveys)
    found = collected("model", gradients(job, model, batches))
    found += collected("model", overfit(job, model, batches))
    return found + collected("forecast", forecast(job, model, surveys))


def collected(area: str, findings: Iterable[Finding]) -> list[Finding]:
    """All of them; arguments that do not fit, which are found out only here, are an error beside the others."""
    found = []
    try:
        for finding in findings:
            found.append(finding)
    except Exception as error:
        if getattr(error, "exit_code", None) != 2:
            raise
        found.append(Finding("error", area, "arguments", str(error)))
    return found


def finish(output_dir: str, findings: Sequence[Finding], about_data: dict[str, Any]) -> None:
    """Show and write. Raises CheckFailed."""
    from trainer.checkpoint import write_json

    print(as_table(findings, terminal_width(), in_colour()))
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    rows = [asdict(finding) for finding in findings]
    write_json(output / "check.json", {"level": worst(findings), "findings": rows, "data": about_data})
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        first = " ".join(errors[0].message.split())
        more = f" (and {len(errors) - 1} more)" if errors[1:] else ""
        raise CheckFailed(f"check: {errors[0].what}: {first}{more}; see {output / 'check.json'}")


def figures(job: Any) -> dict[str, Any]:
    """As dataset_info.json has them; what is in a streamed file is not encoded."""
    streamed = {
        (name, part)
        for name, data in job.data.items()
        for part in data.sources
        if job.args.streaming and data.sources[part] == data.sources.get("train")
    }
    return {job.data.part_name(name, part): data.figures(part, (name, part) in streamed)
            for name, data in job.data.items() for part in data.sources}  # fmt: skip


def show_wrong_records(job: Any, error: DataError) -> None:
    """All wrong records, where the first one ends the run."""
    import main

    if not re.search(r":(?:item |row )?\d+$", error.where) or job.rank != 0:
        return
    for options in (vars(job.args), *job.args.datasets):
        options["on_bad_record"] = "skip"
    try:
        main.build_data(job)
    except ValueError:  # of something else, which comes up when this one is repaired
        return
    print(as_table([*wrong(job, "error")], terminal_width(), in_colour()))
