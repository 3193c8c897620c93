"""Does an option help? Runs of a job with and without it over several seeds, and a test of the difference.

    python -m experiments.ablate --config configs/snips.yaml --toggle use_fgm,use_ema,use_rdrop --seeds 5
    python -m experiments.ablate --config configs/mine.yaml --toggle use_fgm,optimizer=muon --folds 5 --parallel 4

What --toggle may say is in variants.py; every other option is one of main.py. The best state of a run is chosen on its
dev data; test metrics are reported (with --folds those of the fold that was held out, on which the state was chosen,
too). The runs go to <output_dir>/<variant>/seed-1 …; the same command goes on where it stopped. The weights of finished
runs are deleted: twenty options with five seeds are a hundred models. In <output_dir> come ablation.json, ablation.md
and ablation.png.

p: a paired bootstrap (Efron and Tibshirani 1993) over seeds and records at once. Its null hypothesis is that a variant
gets as many records wholly right as the base. Where records are not right or wrong (numbers, texts), it is over the
seeds alone and of the first metric, or that of --monitor. Many variants need a smaller p: by chance one in twenty is
below 0.05.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import main
from config import ConfigError, get_args

from .cost import ratios, step_seconds
from .runs import Run, run_all
from .variants import folder_name, split_toggles

EXACT = "sentence_accuracy"


def ablate(argv: Sequence[str], seeds: int = 5, parallel: int = 1) -> dict[str, Any]:
    """Run what is not finished; returns what ablation.json says."""
    rest, variants = split_toggles(argv)
    args = get_args([*rest, "--do_train"])
    output, folds = Path(args.output_dir), args.folds
    if seeds < 2 and not folds:
        raise ConfigError("command line: seeds: give at least 2, a single one shows no spread")
    places = [("fold", str(i)) for i in range(folds)] or [("seed", str(i)) for i in range(1, seeds + 1)]
    part = "eval" if folds else "test"
    runs = {
        name: [
            Run([*rest, *options, f"--{kind}", value], output / folder_name(name) / f"{kind}-{value}", part)
            for kind, value in places
        ]
        for name, options in variants.items()
    }
    run_all([run for turn in zip(*runs.values(), strict=True) for run in turn], parallel, keep_weights=False)
    cost = ratios(step_seconds(rest, variants))
    found = {}
    for name, own in runs.items():
        p = paired_bootstrap(scores(own, args.monitor) - scores(runs["base"], args.monitor)) if name != "base" else None
        found[name] = {"runs": [run.metrics() for run in own], "p": p, "cost": cost[name]}
    (output / "ablation.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (output / "ablation.md").write_text(table(found) + "\n", encoding="utf-8")
    plot(found, output / "ablation.png")
    return found


def scores(runs: Sequence[Run], monitor: str | None) -> np.ndarray:
    """(S runs, N records) of 1 for those wholly right; (S, 1) of a metric where records are not right or wrong."""
    metrics = [run.metrics() for run in runs]
    if EXACT not in metrics[0] or not runs[0].wrong_file.exists():
        return np.array([[found[monitor or next(iter(found))]] for found in metrics])
    found = [run.right() for run in runs]
    right = np.zeros((len(runs), max(map(len, found))))  # folds may differ by a record, and each has other ones anyway
    for row, values in zip(right, found, strict=True):
        row[: len(values)] = values
    return right


def paired_bootstrap(differences: np.ndarray, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of the mean difference (S, N) being 0, over rows and columns drawn with replacement."""
    rng = np.random.default_rng(seed)
    num_runs, num_records = differences.shape
    mean = differences.mean()
    as_far = 0
    for _ in range(resamples // 100):
        of_records = rng.multinomial(num_records, np.full(num_records, 1 / num_records), 100) / num_records  # (100, N)
        of_runs = rng.multinomial(num_runs, np.full(num_runs, 1 / num_runs), 100) / num_runs  # (100, S)
        means = (of_records @ differences.T * of_runs).sum(1)
        as_far += int((np.abs(means - mean) >= abs(mean)).sum())
    return (as_far + 1) / (resamples + 1)


def columns(found: dict[str, Any]) -> list[str]:
    """Metrics but losses, and but those that say the same as another one."""
    names = [name for name in found["base"]["runs"][0] if not name.endswith("loss")]
    by_values: dict[tuple[float, ...], str] = {}
    for name in names:
        by_values.setdefault(tuple(run[name] for own in found.values() for run in own["runs"]), name)
    return list(by_values.values())


def spread(runs: Sequence[dict[str, float]], metric: str) -> tuple[float, float]:
    """Mean and sample standard deviation, in percent."""
    values = [100 * run[metric] for run in runs]
    return statistics.mean(values), statistics.stdev(values)


def table(found: dict[str, Any]) -> str:
    names = columns(found)
    lines = ["| | " + " | ".join(names) + " | p | cost |", "|---|" + "---|" * (len(names) + 2)]
    for variant, own in found.items():
        cells = ["{:.1f} ± {:.1f}".format(*spread(own["runs"], name)) for name in names]
        p = "" if own["p"] is None else f"{own['p']:.3f}" if own["p"] >= 0.001 else "< 0.001"
        lines.append(f"| {variant} | " + " | ".join(cells) + f" | {p} | {own['cost']:.2f} x |")
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    """Each variant's difference to the base with the same seed: a stroke per run, mean and standard deviation."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no {path.name}: pip install matplotlib", file=sys.stderr)
        return
    names, variants = columns(found), [name for name in found if name != "base"]
    width, height = min(4, len(names)), -(-len(names) // 4)
    figure = Figure(figsize=(2.5 + 2.6 * width, (1.0 + 0.3 * len(variants)) * height + 0.3), layout="constrained")
    panels = figure.subplots(height, width, sharey=True, squeeze=False).flat
    rows = range(len(variants), 0, -1)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel, metric in zip(panels, names, strict=False):
        base = [100 * run[metric] for run in found["base"]["runs"]]
        panel.axvline(0, color="0.7", linewidth=1)
        for row, variant in zip(rows, variants, strict=True):
            own = [100 * run[metric] - plain for run, plain in zip(found[variant]["runs"], base, strict=True)]
            panel.plot(own, [row - 0.25] * len(own), "|", color="0.5", markersize=5)
            panel.errorbar(statistics.mean(own), row, xerr=statistics.stdev(own), fmt="o", color="C0", capsize=3)
        panel.set_xscale("symlog", linthresh=1)  # what breaks training would hide everything else
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_title(f"{metric}, base {statistics.mean(base):.1f}", fontsize=9)
        panel.set_yticks(list(rows), variants)
        panel.set_ylim(0.4, len(variants) + 0.6)
        panel.tick_params(labelsize=8)
    figure.supxlabel("points above the base with the same seed: mean, standard deviation, single runs", fontsize=8)
    figure.savefig(path, dpi=110)


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each variant, with seeds 1 to this")
    parser.add_argument("--parallel", type=int, default=1, help="runs at the same time; each sees one GPU")
    given, rest = parser.parse_known_args(argv)
    print(table(ablate(rest, given.seeds, given.parallel)))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
