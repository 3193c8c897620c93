"""What all tests share: one thread and a fixed seed, and property tests without a time limit per example."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # machines are busy
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def one_thread_and_a_fixed_seed():
    """Small matrices gain nothing from threads, and sums in another order would blur exact comparisons."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
