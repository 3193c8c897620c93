"""Hyperparameter search with Optuna: trials of main.py, hopeless ones stopped early, the best one kept.

    python -m experiments.search --config configs/snips.yaml --space space.yaml --trials 30 [any option of main.py]

`space.yaml` has what may vary; a list is a choice, low and high are a range (of whole numbers if both are):

    lr: {low: 1.0e-5, high: 1.0e-3, log: true}
    epochs: {low: 2, high: 6}
    batch_size: [16, 32, 64]
    use_fgm: [false, true]

A trial is worth the best value of the monitored metric on its dev data. It is stopped when its best value so far is
worse than the median of the earlier trials after as many evaluations (Optuna's MedianPruner, once there are 5). The
study is in <output_dir>/study.log; the same command goes on with it, and what was interrupted begins again. Of the
trials only the best one keeps its weights; search.json lists all of them. Needs: pip install optuna
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

import yaml

import main
from config import Arguments, ConfigError, get_args

WEIGHTS = ("best", "last", "last.previous", "states")


def search(argv: Sequence[str], space: Mapping[str, Any], trials: int, seed: int = 0) -> dict[str, Any]:
    """Run what is missing of `trials`; returns what search.json says. Raises ConfigError."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise ConfigError("experiments.search needs optuna: pip install optuna") from None
    check(space)
    output = Path(get_args([*argv, "--do_train"]).output_dir)
    output.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(output / "study.log")))
    study = optuna.create_study(storage=storage, study_name="search", load_if_exists=True, direction="maximize")
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))  # a resumed one must not repeat itself
    repeat_interrupted(study)

    def objective(trial: Any) -> float:
        folder, evaluations = output / f"trial-{trial.number}", count()

        def judge(job: main.Job, event: str, step: int, values: Mapping[str, Any]) -> None:
            if event == "eval":
                trial.report(worth(job, values), next(evaluations))
                if trial.should_prune():
                    raise optuna.TrialPruned

        job = main.run_args(get_args([*argv, *chosen(trial, space), "--do_train", "--output_dir", str(folder)]), judge)
        if not job.monitor[0]:
            raise ConfigError("arguments: eval_file: a search needs dev data to choose by")
        trial.set_user_attr("metrics", json.loads((folder / "best/metrics.json").read_text(encoding="utf-8"))["eval"])
        return worth(job, trial.user_attrs["metrics"])

    def keep_best(study: Any, trial: Any) -> None:
        finished = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
        best = study.best_trial.number if finished else None
        for folder in output.glob("trial-*"):
            if folder.name != f"trial-{best}":
                for name in WEIGHTS:
                    shutil.rmtree(folder / name, ignore_errors=True)
        write(output, study)

    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    missing = trials - len(study.get_trials(states=ended))
    if missing > 0:
        study.optimize(objective, n_trials=missing, callbacks=[keep_best])
    return write(output, study)


def check(space: Mapping[str, Any]) -> None:
    """Raises ConfigError."""
    known = {field.name for field in fields(Arguments)}
    for name, values in space.items():
        if name not in known:
            raise ConfigError(f"space: {name}: unknown option; --help of main.py lists the options")
        is_range = isinstance(values, Mapping) and {"low", "high"} <= set(values) <= {"low", "high", "log"}
        # YAML reads 1e-5, without a point, as a text
        numbers = is_range and all(isinstance(values[end], int | float) for end in ("low", "high"))
        if not (numbers and values["low"] < values["high"]) and not (isinstance(values, list) and values):
            raise ConfigError(f"space: {name}: give a list, or {{low: …, high: …, log: true}}, found {values!r}")
    if not space:
        raise ConfigError("space: it is empty; name the options that may vary")


def chosen(trial: Any, space: Mapping[str, Any]) -> list[str]:
    """The options of a trial."""
    words = []
    for name, values in space.items():
        if isinstance(values, list):
            value = trial.suggest_categorical(name, values)
        else:
            whole = isinstance(values["low"], int) and isinstance(values["high"], int)
            suggest = trial.suggest_int if whole else trial.suggest_float
            value = suggest(name, values["low"], values["high"], log=values.get("log", False))
        words += [f"--{name}", json.dumps(value)]
    return words


def worth(job: main.Job, metrics: Mapping[str, float]) -> float:
    """Higher is better."""
    name, lower_is_better = job.monitor
    return -metrics[name] if lower_is_better else metrics[name]


def repeat_interrupted(study: Any) -> None:
    """Trials that did not come to an end are tried again first, once each."""
    from optuna.trial import TrialState

    repeated = {trial.user_attrs.get("repeats") for trial in study.trials}
    for trial in study.get_trials(states=(TrialState.RUNNING, TrialState.FAIL)):
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        if trial.params and trial.number not in repeated:
            study.enqueue_trial(trial.params, user_attrs={"repeats": trial.number})


def write(output: Path, study: Any) -> dict[str, Any]:
    trials = [
        {"trial": t.number, "state": t.state.name.lower(), "params": t.params, "metrics": t.user_attrs.get("metrics")}
        for t in study.trials
    ]
    complete = [t for t in study.trials if t.state.name == "COMPLETE"]
    best = max(complete, key=lambda t: t.value).number if complete else None
    result = {"best": best, "trials": trials}
    (output / "search.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", required=True, help="YAML file")
    parser.add_argument("--trials", type=int, default=20, help="finished ones count")
    given, rest = parser.parse_known_args(argv)
    try:
        space = yaml.safe_load(Path(given.space).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"space: {error}") from error
    found = search(rest, space if isinstance(space, dict) else {}, given.trials)
    for trial in found["trials"]:
        mark = "*" if trial["trial"] == found["best"] else " "
        print(f"{mark} trial {trial['trial']:3} {trial['state']:9} {trial['params']}")


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
