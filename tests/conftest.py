"""What all tests share: one thread, a fixed seed, and property tests without a time limit per example.

Small matrices gain nothing from threads, sums in another order would blur exact comparisons, and on a busy machine
threads that wait for each other cost minutes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # also for the processes that tests start

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def a_fixed_seed():
    torch.manual_seed(0)
