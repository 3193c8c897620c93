"""data_loader/block_batches.py: what is masked, what is told, and that it is the same for whoever asks."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from data_loader.block_batches import (
    BlockDataset,
    CausalCollator,
    MaskedCollator,
    Turn,
    block_eval_loader,
    block_loader,
)
from data_loader.class_balance import BalancedOrder
from data_loader.masking import Masking
from data_process.packing import PAD, PIECE, TEXT, WORD, BlockEncoder, pack
from data_process.tokenizer import train_tokenizer
from tests.test_blocks import TEXTS

TOKENIZER = train_tokenizer(TEXTS, 60)  # few: most words are several sub-words
IDS, FLAGS = (np.concatenate(x) for x in zip(*pack(BlockEncoder(TOKENIZER, 32)(TEXTS), 32, 0), strict=True))
DATASET = BlockDataset([(IDS[:30], FLAGS[:30]), (IDS[30:], FLAGS[30:])])
RANDOM_IDS = np.setdiff1d(np.arange(len(TOKENIZER)), TOKENIZER.all_special_ids)
N = len(IDS)


def collator(unit: str = "token", rate: float = 0.15, **options: Any) -> MaskedCollator:
    return MaskedCollator(Masking(TOKENIZER.mask_token_id, RANDOM_IDS, rate, seed=5), unit, **options)


def by_sample(batches: Iterable[dict[str, Any]]) -> dict[int, list[Any]]:
    """sample id -> input ids, masked places with their labels."""
    found = {}
    for batch in batches:
        labels = batch["labels"]["mlm"]
        for row, number in enumerate(batch["sample_id"].tolist()):
            known = labels[row] != -100
            places = batch["masked_places"][row][known].tolist()
            found[number] = [batch["input_ids"][row].tolist(), places, labels[row][known].tolist()]
    return found


def loader(unit: str = "word", **options: Any) -> Any:
    return block_loader(DATASET, collator(unit), **{"batch_size": 8, "seed": 3, "total": 2 * N} | options)


@pytest.mark.parametrize("unit", ["token", "word", "ngram"])
def test_the_masks_of_a_block_are_the_same_in_any_batch_rank_worker_and_after_a_resume(unit: str) -> None:
    whole = by_sample(loader(unit)(1, 0))
    assert sorted(whole) == list(range(N))
    assert by_sample(loader(unit, batch_size=5)(1, 0)) == whole
    assert by_sample(loader(unit, num_workers=2)(1, 0)) == whole
    resumed = by_sample(loader(unit)(1, 16))
    assert len(resumed) == N - 16 and all(whole[number] == found for number, found in resumed.items())
    ranks = [by_sample(loader(unit, rank=rank, world_size=2)(1, 0)) for rank in (0, 1)]
    assert {number: found for rank in ranks for number, found in rank.items() if number >= 0} == whole
    other = by_sample(loader(unit)(0, 0))
    assert sum(other[n][1] != whole[n][1] for n in range(N)) > 0.9 * N


def test_ids_places_and_labels_belong_together() -> None:
    for number, (ids, places, labels) in by_sample(loader("word")(0, 0)).items():
        original = IDS[number].copy()
        assert original[places].tolist() == labels and (FLAGS[number, places] & TEXT > 0).all()
        changed = set((np.array(ids) != original).nonzero()[0].tolist())
        assert changed <= set(places)


def words(flags: np.ndarray) -> list[list[int]]:
    """Places of each word of a block."""
    found: list[list[int]] = []
    for place, flag in enumerate(flags.tolist()):
        if flag & TEXT:
            if flag & WORD:
                found.append([])
            found[-1].append(place)
    return found


def test_words_are_masked_whole_or_not_at_all_and_the_share_is_right() -> None:
    masked = longer = total = 0
    for epoch in range(30):
        for number, (_, places, _) in by_sample(loader("word")(epoch, 0)).items():
            taken = set(places)
            for word in words(FLAGS[number]):
                assert len(taken & set(word)) in (0, len(word))
                longer += len(word) > 1 and word[0] in taken
            masked += len(taken)
            total += (FLAGS[number] & TEXT > 0).sum()
    assert longer > 500
    assert abs(masked / total - 0.15) < 0.005


def test_spans_are_whole_words_of_one_text() -> None:
    collate = collator("ngram", span=4.0)
    units = collate.units(FLAGS, np.arange(N), epoch=0)
    lengths = []
    for row in range(N):
        assert (units[row] >= 0).tolist() == (FLAGS[row] & TEXT > 0).tolist()
        of_text = (FLAGS[row] & PIECE > 0).cumsum()
        for unit in set(units[row].tolist()) - {-1}:
            places = (units[row] == unit).nonzero()[0]
            assert len(set(of_text[places])) == 1
            own = [word for word in words(FLAGS[row]) if set(word) & set(places)]
            assert sorted(p for word in own for p in word) == places.tolist()
            lengths.append(len(own))
    assert 2 < np.mean(lengths) < 4 and max(lengths) > 6


def test_the_rate_changes_on_a_straight_line() -> None:
    collate = collator(rate=0.4, last_rate=0.1)
    shares = []
    for progress in (0.0, 0.5, 1.0):
        counts = [(collate(DATASET.__getitems__(Turn(np.arange(N), epoch, progress)))["labels"]["mlm"] != -100).sum()
                  for epoch in range(20)]  # fmt: skip
        shares.append(sum(counts).item() / 20 / (FLAGS & TEXT > 0).sum())
    assert shares == pytest.approx([0.4, 0.25, 0.1], abs=0.005)
    turns = [turn.progress for epoch in (0, 1) for turn in loader()(epoch, 0).batch_sampler]
    assert turns == sorted(turns) and turns[0] == 0 and turns[-1] < 1
    later = [turn.progress for turn in loader()(1, 16).batch_sampler]
    assert later == turns[-len(later) :]


def test_held_out_masks_are_always_the_same_and_every_block_comes_once() -> None:
    first, again = (by_sample(block_eval_loader(DATASET, collator(), batch_size=7)) for _ in range(2))
    assert first == again and sorted(first) == list(range(N))
    assert by_sample(block_eval_loader(DATASET, collator(last_rate=0.5), batch_size=7)) == first
    ranks = [by_sample(block_eval_loader(DATASET, collator(), batch_size=7, rank=r, world_size=2)) for r in (0, 1)]
    real = [{number: block for number, block in rank.items() if number >= 0} for rank in ranks]
    assert real[0] | real[1] == first and not real[0].keys() & real[1].keys()


def test_stand_ins_add_nothing() -> None:
    batch = collator()(DATASET.__getitems__(Turn(np.array([3, ~4]), 0, 0.0)))
    assert batch["sample_id"].tolist() == [3, -1] and (batch["labels"]["mlm"][1] == -100).all()
    causal = CausalCollator()(DATASET.__getitems__(Turn(np.array([3, ~4]), 0, 0.0)))
    assert (causal["labels"]["clm"][1] == -100).all() and (causal["labels"]["clm"][0] != -100).any()


def test_causal_labels_are_the_next_sub_words_of_the_same_text() -> None:
    batch = CausalCollator()(DATASET.__getitems__(Turn(np.arange(N), 0, 0.0)))
    ids, labels = batch["input_ids"].numpy(), batch["labels"]["clm"].numpy()
    for row in range(N):
        for place in range(ids.shape[1]):
            last = place + 1 == ids.shape[1] or FLAGS[row, place + 1] & (PIECE | PAD)
            assert labels[row, place] == (-100 if last else ids[row, place + 1])


def test_what_a_model_is_told_of_texts_and_padding() -> None:
    fetched = DATASET.__getitems__(Turn(np.arange(N), 0, 0.0))
    isolated = collator(token_types=True)(fetched)
    assert "attention_mask" not in isolated and not isolated["token_type_ids"].any()
    assert torch.equal(isolated["pieces"], torch.from_numpy((FLAGS & PIECE > 0).cumsum(1)))
    plain = collator(isolated=False)(fetched)
    assert torch.equal(plain["attention_mask"] == 0, torch.from_numpy(FLAGS & PAD > 0)) and "pieces" not in plain
    full = (FLAGS & PAD == 0).all(1).nonzero()[0]
    assert "attention_mask" not in collator(isolated=False)(DATASET.__getitems__(Turn(full[:4], 0, 0.0)))


def test_corpora_by_weight() -> None:
    order = BalancedOrder(np.repeat([0, 1], [30, N - 30]), shares=[3.0, 1.0])
    found = [number for batch in loader(order=order)(0, 0) for number in batch["sample_id"].tolist()]
    assert len(found) == N and sum(number < 30 for number in found) == pytest.approx(0.75 * N, abs=1)
