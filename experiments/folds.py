"""Cross-validation: one run of main.py per fold, each a process of its own, and the mean and spread of their scores.

    python -m experiments.folds --config configs/mine.yaml --folds 5 [any option of main.py]

The runs go to <output_dir>/fold-0 … and go on where they stopped if the command is given again; folds.json in
<output_dir> has the scores of each fold, their mean and sample standard deviation. Weights, tokenizer and thresholds
are made anew in each run, from its own training folds; the names of the labels come from the whole file, and only the
cache of encoded files is shared.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from config import Arguments, get_args

from .runs import Run, run_all


def run_folds(argv: list[str]) -> dict[str, Any]:
    """Train and evaluate every fold; returns what folds.json says. Exits with the code of the first fold that fails."""
    args = settled(argv)
    output = Path(args.output_dir)
    runs = [Run([*argv, "--fold", str(fold)], output / f"fold-{fold}", "eval") for fold in range(args.folds)]
    run_all(runs)
    scores = [run.metrics() for run in runs]
    summary = {
        name: {"mean": statistics.mean(values), "std": statistics.stdev(values)}
        for name in scores[0]
        if len(values := [found[name] for found in scores if name in found]) > 1
    }
    result = {"summary": summary, "folds": scores}
    (output / "folds.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def settled(argv: list[str]) -> Arguments:
    """The arguments, checked; exits with 2 for a mistake. --folds is needed."""
    try:
        args = get_args([*argv, "--do_train"])
    except ValueError as error:
        sys.exit(mistake(str(error)))
    if not args.folds:
        sys.exit(mistake("arguments: folds: give the number of folds, at least 2"))
    return args


def mistake(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    for name, found in run_folds(sys.argv[1:])["summary"].items():
        print(f"{name:40} {found['mean']:.4f} ± {found['std']:.4f}")
