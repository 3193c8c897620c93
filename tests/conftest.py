"""What all tests share: one thread, a fixed seed, and property tests without a time limit per example.

Small matrices gain nothing from threads, sums in another order would blur exact comparisons, and on a busy machine
threads that wait for each other cost minutes.
"""

import json
import os

os.environ["OMP_NUM_THREADS"] = "1"  # also for the processes that tests start

import pytest
import torch
from hypothesis import settings

from data_process.sample_data import generate

torch.set_num_threads(1)
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def a_fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """train.jsonl, dev.jsonl, test.jsonl of the sample corpus."""
    folder = tmp_path_factory.mktemp("data")
    records = generate(600)
    for name, part in (("train", records[:400]), ("dev", records[400:500]), ("test", records[500:])):
        lines = [json.dumps(record, ensure_ascii=False) for record in part]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
