"""configs/pretraining/*.yaml are valid, and their corpora become full blocks."""

import glob
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

import main
from config import in_data_dir
from data_process.blocks import Blocks
from data_process.corpus import find_files, read_texts
from data_process.tokenizer import train_tokenizer
from huggingface_hands_on import pretraining
from huggingface_hands_on.mask_report import measure
from huggingface_hands_on.pretraining_arguments import ContinueArguments, FromScratchArguments, get_args

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(ROOT.glob("configs/pretraining/*.yaml"))


def arguments(config: Path, *more: str) -> Any:
    has_model = "model_name_or_path" in yaml.safe_load(config.read_text(encoding="utf-8"))
    kind = ContinueArguments if has_model else FromScratchArguments
    return get_args(["--config", str(config), *more], kind, "test", "")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_valid(config: Path) -> None:
    args = arguments(config)
    assert args.output_dir == f"output/{config.stem}" and args.corpus and args.eval_corpus


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_its_corpora_become_full_blocks_and_its_masks_are_whole_words(config: Path, tmp_path: Path) -> None:
    args = arguments(config, "--cache_dir", str(tmp_path))
    files = [file for entry in args.corpus for file in entry["files"]]
    if not all(Path(file).exists() for file in files):
        pytest.skip(f"{files} are not here; DATA_DIR names the folder of the data sets")
    job = main.start_job(args)
    job.tokenizer = train_tokenizer((text for _, text in read_texts(find_files(files))), 12000)
    blocks: dict[str, dict[str, Blocks]] = pretraining.build_corpora(job, pretraining.find_corpora(args))
    for some in blocks.values():
        for own in some.values():
            assert own.info["padding"] < 0.03 * own.ids.size, own.info

    class Model:
        inputs = ()

    collate = pretraining.build_collator(job, Model())
    for dataset in pretraining.build_datasets(blocks).values():
        found = measure(collate, dataset, job.tokenizer.mask_token_id)
        assert abs(found["rate"] - args.mask_rate) < 0.005 and found["whole"] == 1
        assert found["word_lengths"][1] > 100 and found["mask"] == pytest.approx(0.8, abs=0.02)


@pytest.mark.slow
def test_the_tokenizer_of_the_docs_has_room_for_every_character(tmp_path: Path) -> None:
    """The command as it stands there, on the corpora as they are."""
    docs = (ROOT / "docs/pretraining.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^python -m (huggingface_hands_on\.train_tokenizer_from_scratch .+)$", docs, re.MULTILINE)
    argv = shlex.split(command)
    argv[argv.index("--output_dir") + 1] = str(tmp_path / "tokenizer")
    files = glob.glob(in_data_dir(argv[argv.index("--corpus") + 1]))
    if len(files) < 2:
        pytest.skip("the Chinese corpora are not here; DATA_DIR names the folder of the data sets")
    done = subprocess.run([sys.executable, "-m", *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    encoded = tokenizer([text for _, text in read_texts(find_files(files))], truncation=False, verbose=False)
    ids = [number for row in encoded["input_ids"] for number in row]
    assert ids.count(tokenizer.unk_token_id) < 1e-6 * len(ids)  # a web address of over 100 characters
