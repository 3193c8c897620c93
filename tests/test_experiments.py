"""experiments/: which variants there are, whether a difference is one, what a step costs, and the runs behind them."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import main
from experiments import ablate as ablation
from experiments import search
from experiments.ablate import ablate, paired_bootstrap, report
from experiments.cost import ratios, step_seconds
from experiments.variants import folder_name, split_toggles
from tests.sample_job import arguments, in_this_process, read


def job(data: Path, out: Path, **options: Any) -> list[str]:
    return arguments(data, out, **{"debug": True, "do_train": None, "do_eval": None, "epochs": 1, **options})


def test_variants_of_a_job(data: Path, tmp_path: Path) -> None:
    given = job(data, tmp_path / "out", use_fgm=True)
    rest, variants = split_toggles([*given, "--toggle", "use_fgm,use_ema+ema_decay=0.9,optimizer=muon"])
    assert rest == given
    assert folder_name("use_distillation+distillation_teacher=a/b") == "use_distillation+distillation_teacher=a_b"
    assert variants == {
        "base": [],
        "use_fgm": ["--use_fgm", "false"],
        "use_ema+ema_decay=0.9": ["--use_ema", "true", "--ema_decay", "0.9"],
        "optimizer=muon": ["--optimizer", "muon"],
    }


@pytest.mark.parametrize(("toggle", "message"), [
    ("", "toggle: give the options to be tried"), ("use_fmg", "toggle: use_fmg: unknown option"),
    ("lr", "toggle: lr: is not on or off; give lr=VALUE"), ("lr=fast", "command line: lr: "),
])  # fmt: skip
def test_wrong_toggles_are_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], toggle: str, message: str
) -> None:
    assert main.run([*job(data, tmp_path / "out"), "--toggle", toggle], report) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_the_bootstrap_is_that_of_all_resamples() -> None:
    """Small enough to enumerate: every choice of 3 runs and of 2 records."""
    differences = np.array([[1.03, 0.01], [0.57, -1.11], [2.09, 0.43]])  # no ties
    mean = differences.mean()
    means = [
        differences[np.ix_(runs, records)].mean()
        for runs in itertools.product(range(3), repeat=3)
        for records in itertools.product(range(2), repeat=2)
    ]
    exact = np.mean([abs(value - mean) >= abs(mean) for value in means])
    assert 0.1 < exact < 0.9
    assert paired_bootstrap(differences, resamples=40_000) == pytest.approx(exact, abs=0.01)


def test_the_bootstrap_is_rarely_wrong_and_finds_what_is_there() -> None:
    rng = np.random.default_rng(1)
    nothing = [paired_bootstrap(rng.normal(size=(5, 200)), resamples=1000, seed=i) for i in range(200)]
    assert np.mean(np.array(nothing) < 0.05) < 0.12
    assert paired_bootstrap(rng.normal(0.3, 1.0, (5, 200))) < 0.01
    assert paired_bootstrap(np.zeros((5, 200))) == 1.0


def test_an_ablation(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib.figure")  # which looks for fonts with subprocess.run
    monkeypatch.setattr("experiments.runs.subprocess.run", in_this_process)
    seconds = {"base": [1.0, 3.0], "use_ema+ema_decay=0.5": [2.0, 6.0]}
    monkeypatch.setattr(ablation, "step_seconds", lambda *given: seconds)
    out = tmp_path / "out"
    given = [*job(data, out, epochs=2), "--toggle", "use_ema+ema_decay=0.5"]
    found = ablate(given, seeds=2)
    assert read(out / "ablation.json") == found
    for variant, own in found.items():
        for seed, metrics in enumerate(own["runs"], 1):
            assert read(out / variant / f"seed-{seed}" / "test_metrics.json") == metrics
    assert found["base"]["runs"] != found["use_ema+ema_decay=0.5"]["runs"]
    assert found["base"]["cost"] == 1 and found["use_ema+ema_decay=0.5"]["cost"] == 2
    assert 0 < found["use_ema+ema_decay=0.5"]["p"] <= 1
    rows = (out / "ablation.md").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"\| base \| (\d+\.\d ± \d+\.\d \| )+ \| 1\.00 x \|", rows[2])
    assert (out / "ablation.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(out.rglob("*.safetensors")) and not list(out.rglob("last.previous")), "weights would fill a disk"
    right = ablation.scores([ablation.Run([], out / "base/seed-1")], None)
    assert right.mean() == pytest.approx(found["base"]["runs"][0]["sentence_accuracy"])

    monkeypatch.setattr("experiments.runs.subprocess.run", lambda *_, **__: pytest.fail("all runs are finished"))
    assert ablate(given, seeds=2) == found
    with pytest.raises(ValueError, match="at least 2"):
        ablate(given, seeds=1)


def test_a_step_of_eight_passes_costs_several_times_as_much(data: Path, tmp_path: Path) -> None:
    variants = {"base": [], "freelb": ["--use_freelb", "--freelb_steps", "8"], "again": []}
    seconds = step_seconds(job(data, tmp_path / "out", do_train=True), variants, rounds=6, warmup=1)
    assert all(len(found) == 6 for found in seconds.values())
    found = ratios(seconds)
    assert found["base"] == 1 and 3 < found["freelb"] < 20 and 0.4 < found["again"] < 2.5
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------ search

SPACE = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "epochs": {"low": 1, "high": 2}, "use_ema": [True, False]}


def test_a_search_goes_on_where_it_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (tmp_path / "space.yaml").write_text(json.dumps(SPACE), encoding="utf-8")
    out = tmp_path / "out"
    given = [*job(data, out, epochs=None), "--space", str(tmp_path / "space.yaml")]
    seen: list[dict[str, Any]] = []
    run_args = main.run_args

    def watched(args: Any, *callbacks: Any) -> main.Job:
        seen.append({"lr": args.lr, "epochs": args.epochs, "use_ema": args.use_ema})
        if len(seen) == 3:
            raise KeyboardInterrupt
        return run_args(args, *callbacks)

    monkeypatch.setattr(main, "run_args", watched)
    monkeypatch.setattr("optuna.trial.Trial.should_prune", lambda trial: trial.number == 1)
    assert main.run([*given, "--trials", "4"], search.report) == 130
    assert main.run([*given, "--trials", "4"], search.report) == 0
    found = read(out / "search.json")
    assert [trial["state"] for trial in found["trials"]] == ["complete", "pruned", "fail", "complete", "complete"]
    assert [trial["params"] for trial in found["trials"]] == seen, "the third one was repeated"
    assert seen[3] == seen[2] and len({trial["lr"] for trial in seen}) == 4
    values = {n: trial["metrics"]["sentence_accuracy"] for n, trial in enumerate(found["trials"]) if trial["metrics"]}
    assert found["best"] == max(values, key=lambda n: values[n]) and values.keys() == {0, 3, 4}
    assert [path.parent.name for path in out.glob("*/best")] == [f"trial-{found['best']}"]
    best = read(out / f"trial-{found['best']}" / "best/metrics.json")["eval"]
    assert best == found["trials"][found["best"]]["metrics"]
    assert main.run([*given, "--trials", "4"], search.report) == 0 and len(seen) == 5
    assert f"* trial   {found['best']} complete" in capsys.readouterr().out


@pytest.mark.parametrize(("space", "message"), [
    ("{}", "space: it is empty"), ("{lrr: [1]}", "space: lrr: unknown option"),
    ("{lr: 3}", "space: lr: give a list, or"),
    ("{lr: {low: 2, high: 1}}", "space: lr: give a list, or"),
    ("{lr: {low: 1e-5, high: 1e-6}}", "found {'low': '1e-5'"),
    ("{lr: [}", "space: while parsing"),
    ("{epochs: [some]}", "epochs: "),
])  # fmt: skip
def test_wrong_spaces_are_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], space: str, message: str
) -> None:
    pytest.importorskip("optuna").logging.set_verbosity(40)
    (tmp_path / "space.yaml").write_text(space, encoding="utf-8")
    given = [*job(data, tmp_path / "out"), "--space", str(tmp_path / "space.yaml")]
    assert main.run([*given, "--trials", "1"], search.report) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and message in line
