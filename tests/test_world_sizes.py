"""With the same global batches 1, 2 and 4 processes see the same samples, learn the same, and predict the same."""

from pathlib import Path

import pytest

from tests.world_sizes import CASES, NUMBERS, difference, runs


@pytest.mark.slow
def test_one_two_and_four_processes_do_the_same(tmp_path: Path) -> None:
    found = runs(tmp_path)
    for number in NUMBERS[1:]:
        for case in CASES:
            one, other = found[1][case], found[number][case]
            assert difference(one, other) < 1e-5, (number, case)
            assert other["samples"] == one["samples"] and len(set(one["samples"])) == 50, (number, case)
            assert other["sample_ids"] == list(range(20)) and other["labels"] == one["labels"], (number, case)
            for ours, theirs in zip(other["metrics"], one["metrics"], strict=True):
                assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6), (number, case)
    assert len({str((found[1][case]["losses"], found[1][case]["metrics"])) for case in CASES}) == 6  # as they should
