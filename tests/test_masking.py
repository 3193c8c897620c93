"""data_loader/masking.py against plain loops, exact expectations, and chi-square tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from data_loader.masking import IGNORE, Masking, join_words, number_units, uniform

MASK, RANDOM = 4, np.arange(10, 60)


def rows(num_rows: int = 64, length: int = 50, seed: int = 0, share_of_starts: float = 0.6) -> tuple[np.ndarray, ...]:
    """ids, starts, maskable: rows of words, the first and last sub-word special, some padding."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(10, 60, (num_rows, length))
    starts = rng.random((num_rows, length)) < share_of_starts
    maskable = np.arange(length) < rng.integers(3, length, (num_rows, 1))
    maskable[:, 0] = False
    return ids, starts, maskable


def by_loops(masking: Masking, units: np.ndarray, sample_id: int, epoch: int) -> list[bool]:
    """One row: units in the order of their numbers, until the budget is reached."""
    known = sorted(set(units.tolist()) - {-1})
    draw = uniform(masking.seed, epoch, 0, np.array([sample_id]), 99)[0]
    budget, used, taken = masking.rate * sum(unit >= 0 for unit in units), 0, set()
    for unit in sorted(known, key=lambda unit: draw[1 + unit]):
        length = int((units == unit).sum())
        if used + length - length * draw[0] <= budget:
            taken.add(unit)
        used += length
    return [unit in taken for unit in units.tolist()]


@given(st.integers(0, 2**32 - 1), st.integers(0, 50), st.floats(0.01, 1.0))
def test_the_choice_equals_plain_loops_row_by_row(seed: int, epoch: int, rate: float) -> None:
    _, starts, maskable = rows(5, 12, seed)
    units, masking = number_units(starts, maskable), Masking(MASK, RANDOM, rate, seed)
    chosen = masking.choose(units, np.arange(5), epoch, rate)
    for row in range(5):
        assert chosen[row].tolist() == by_loops(masking, units[row], row, epoch)
    assert not chosen[~maskable].any()
    for row, unit in {(r, u) for r in range(5) for u in units[r] if u >= 0}:
        assert len(set(chosen[row][units[row] == unit])) == 1, "a unit is chosen whole or not at all"


def test_a_sample_has_its_mask_whatever_it_is_batched_with() -> None:
    ids, starts, maskable = rows()
    units, masking, numbers = number_units(starts, maskable), Masking(MASK, RANDOM, seed=7), np.arange(64) * 1000
    whole, _, _ = masking(ids, units, numbers, epoch=2)
    for row in range(64):
        alone, _, _ = masking(ids[row : row + 1], units[row : row + 1], numbers[row : row + 1], epoch=2)
        np.testing.assert_array_equal(alone[0], whole[row])
    picked = [5, 3, 60]
    wider = np.pad(ids[picked], ((0, 0), (0, 9))), np.pad(units[picked], ((0, 0), (0, 9)), constant_values=-1)
    some, places, labels = masking(*wider, numbers[picked], epoch=2)
    np.testing.assert_array_equal(some[:, :50], whole[picked])
    for row, source in enumerate(picked):
        real = labels[row] != IGNORE
        np.testing.assert_array_equal(labels[row][real], ids[source][places[row][real]])
        assert (np.diff(places[row][real]) > 0).all() and (places[row][~real] == 0).all()
    other, _, _ = masking(ids, units, numbers, epoch=3)
    assert (other != whole).any(1).mean() > 0.9, "another epoch, another mask"


@pytest.mark.parametrize("share_of_starts", [1.0, 0.6, 0.1])
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_rate_is_met_exactly_on_average(rate: float, share_of_starts: float) -> None:
    """Also for long units in short rows; and each row is off by less than one unit."""
    _, starts, maskable = rows(2000, 40, share_of_starts=share_of_starts)
    units = number_units(starts, maskable)
    chosen = np.stack([Masking(MASK, RANDOM, rate, seed).choose(units, np.arange(2000), 0, rate) for seed in range(20)])
    budget = rate * maskable.sum(1)
    error = chosen.sum(2) - budget  # (20, 2000)
    longest = max(np.bincount(row[row >= 0]).max() for row in units)
    assert abs(error).max() < longest
    deviation = error.std() / np.sqrt(error.size)
    assert abs(error.mean()) < 4 * deviation
    assert abs(chosen.sum() / (20 * maskable.sum()) - rate) < 0.005


def test_shares_of_masks_random_ones_and_kept_ones() -> None:
    ids, starts, maskable = rows(3000, 60)
    masked_ids, places, labels = Masking(MASK, RANDOM, 0.15)(ids, number_units(starts, maskable), np.arange(3000), 0)
    real = labels != IGNORE
    found = np.take_along_axis(masked_ids, places, 1)[real]
    gold, total = labels[real], real.sum()
    for share, count in ((0.8, (found == MASK).sum()), (0.1 / 50 + 0.1, (found == gold).sum())):  # a random one may fit
        assert abs(count / total - share) < 4 * np.sqrt(share * (1 - share) / total)
    counts = np.bincount(found[(found != MASK) & (found != gold)], minlength=60)[10:]
    assert stats.chisquare(counts).pvalue > 0.001
    untouched = masked_ids == ids
    untouched[np.arange(3000)[:, None].repeat(places.shape[1], 1)[real], places[real]] = True
    assert untouched.all(), "what was not chosen stays"


def test_every_unit_is_chosen_as_often_as_any_other_of_its_length() -> None:
    units = np.array([[-1, *range(1, 21), -1]])
    counts = np.zeros(22)
    for epoch in range(40):
        chosen = Masking(MASK, RANDOM, 0.25, 3).choose(units.repeat(200, 0), np.arange(200), epoch, 0.25)
        counts += chosen.sum(0)
    assert counts[0] == counts[-1] == 0
    assert stats.chisquare(counts[1:-1]).pvalue > 0.001 and counts.sum() == 40 * 200 * 5


def test_uniform_numbers_are_uniform_and_independent_of_their_neighbours() -> None:
    draws = uniform(3, 5, 0, np.arange(400), 400)
    assert draws.min() >= 0 and draws.max() < 1
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 0.001
    for shifted in (draws[1:] - draws[:-1], (draws[:, 1:] - draws[:, :-1]).T):
        counts = np.bincount((shifted.ravel() % 1 * 50).astype(int), minlength=50)
        assert stats.chisquare(counts).pvalue > 0.001
    streams = [
        uniform(seed, epoch, stream, np.arange(9), 9) for seed in (0, 1) for epoch in (0, 1) for stream in (0, 1)
    ]
    assert len({array.tobytes() for array in streams}) == 8


def test_spans_have_the_mean_length() -> None:
    starts = np.random.default_rng(0).random((500, 400)) < 0.5
    spans = join_words(starts, np.arange(500), 0, 1, mean=3.0)
    assert not (spans & ~starts).any()
    words, joined = starts.sum(), spans.sum()
    assert abs(joined / words - 1 / 3) < 4 * np.sqrt(2 / 9 / words)


def test_rows_without_anything_to_mask() -> None:
    ids, units = np.full((2, 3), 20), np.full((2, 3), -1)
    masked_ids, places, labels = Masking(MASK, RANDOM)(ids, units, np.arange(2), 0)
    assert (masked_ids == ids).all() and places.shape == labels.shape == (2, 0)
    with pytest.raises(ValueError, match="no shares"):
        Masking(MASK, RANDOM, rate=1.2)
