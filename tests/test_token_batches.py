"""data_loader/token_batches.py: each record once, never too many places, the same batches for any number of ranks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import main
from data_loader.build import map_loader, token_loader
from data_loader.length_groups import GroupedByLength
from data_loader.samplers import BatchSampler, DataChanged
from data_loader.token_batches import BatchTooSmall, TokenBatchSampler
from data_process.build import build_tokenizer, settle_labels
from tests import test_generation_job, test_levels_build
from tests.sample_job import arguments, read
from tests.test_data_build import write
from tests.test_memory import limited
from tests.tiny import collate, dataset, tiny_features, tiny_model, tiny_trainer
from trainer.monitor import RunLog

N = 5003
LENGTHS = np.random.default_rng(0).lognormal(np.log(34), 0.6, N).astype(np.int64).clip(3, 128)


def batches(lengths: Any = LENGTHS, num_inputs: Any = None, batch_tokens: int = 4096, **options: Any) -> Any:
    return list(TokenBatchSampler(lengths, num_inputs, batch_tokens=batch_tokens, **{"seed": 7} | options))


def places(batch: list[int], lengths: Any = LENGTHS, num_inputs: Any = None) -> int:
    inputs = len(batch) if num_inputs is None else sum(num_inputs[n] for n in batch)
    return int(inputs * max(lengths[n] for n in batch))


def flat(some: list[list[int]]) -> list[int]:
    return [number for batch in some for number in batch]


@st.composite
def jobs(draw: Any) -> tuple[list[int], list[int], int]:
    """Lengths, numbers of inputs, and at least as many places as the largest record has."""
    n = draw(st.integers(0, 80))
    lengths = draw(st.lists(st.integers(1, draw(st.sampled_from([3, 20, 64]))), min_size=n, max_size=n))
    num_inputs = draw(st.lists(st.integers(1, draw(st.sampled_from([1, 5]))), min_size=n, max_size=n))
    largest = max((a * b for a, b in zip(lengths, num_inputs, strict=True)), default=1)
    return lengths, num_inputs, largest + draw(st.integers(0, 300))


@settings(max_examples=25)
@given(job=jobs(), seed=st.integers(0, 2**40), step=st.sampled_from([0.0, 0.05, 0.5]), world_size=st.integers(1, 4))
def test_each_record_once_and_no_batch_with_too_many_places(job, seed, step, world_size):
    """In every epoch as many batches of the same sizes; dealt out to the ranks like cards; from any batch on."""
    lengths, num_inputs, most = job
    sizes = []
    for epoch in range(3):
        options = {"seed": seed, "epoch": epoch, "step": step}
        whole = batches(*job, **options)
        assert sorted(flat(whole)) == list(range(len(lengths)))
        assert all(0 < places(batch, lengths, num_inputs) <= most for batch in whole)
        sizes.append(sorted(map(len, whole)))
        stand_ins = [[~whole[0][0]]] * (-len(whole) % world_size) if whole else []
        per_rank = [batches(*job, **options, rank=rank, world_size=world_size) for rank in range(world_size)]
        assert per_rank == [[*whole, *stand_ins][rank::world_size] for rank in range(world_size)]
        done = np.cumsum([0, *map(len, whole)]).tolist()
        for number, start in enumerate(done):
            sampler = TokenBatchSampler(lengths, num_inputs, batch_tokens=most, **options, start=start)
            assert list(sampler) == whole[number:] and len(sampler) == len(whole) - number
        for start in sorted({-1, len(lengths) // 2, len(lengths) + 1} - {*done}):
            with pytest.raises(DataChanged, match=f"{start} samples of epoch {epoch} are done, but no micro-batch beg"):
                batches(*job, **options, start=start)
    assert sizes[0] == sizes[1] == sizes[2]


def test_stand_ins_are_the_same_after_a_resume():
    whole = batches(batch_tokens=1024)
    assert len(whole) % 4 == 2
    start = sum(map(len, whole[:-2]))
    ends = [batches(batch_tokens=1024, start=start, rank=rank, world_size=4) for rank in range(4)]
    assert ends == [[whole[-2]], [whole[-1]], *[[[~whole[0][0]]]] * 2]


def test_as_many_batches_in_twenty_epochs_but_others():
    epochs = [batches(epoch=epoch) for epoch in range(20)]
    assert {len(some) for some in epochs} == {54} and {max(map(places, some)) for some in epochs} == {4096}
    assert len({tuple(sorted(batch)) for some in epochs for batch in some}) == 20 * 54
    assert len({tuple(map(len, some)) for some in epochs}) == 20, "also the order of the batches is another"
    means = np.array([[LENGTHS[batch].mean() for batch in some] for some in epochs])
    assert abs(np.corrcoef(means.ravel(), np.tile(np.arange(54), 20))[0, 1]) < 0.1, "short and long ones in no order"


def test_padding_and_places():
    """Little padding as with GroupedByLength, but full batches of whatever length."""

    def padding(some: list[list[int]]) -> float:
        return 1 - float(LENGTHS.sum()) / sum(map(places, some))

    ours, random = batches(), list(BatchSampler(N, 104, seed=7))
    grouped = list(BatchSampler(N, 104, seed=7, order=GroupedByLength(LENGTHS, 104)))
    assert padding(ours) < 0.11 and padding(random) > 0.6
    assert np.mean([*map(places, ours)]) > 0.98 * 4096 and max(map(places, grouped)) == 104 * 128 > 3 * 4096
    many = LENGTHS.repeat(20)
    assert 1 - many.sum() / sum(places(batch, many) for batch in batches(many)) < 0.025


def meeting(first: list[list[int]], second: list[list[int]]) -> float:
    """Share of those whom a record meets in one epoch that it meets in the next one, too: mean over the records."""
    where = {n: number for number, batch in enumerate(second) for n in batch}
    again = 0.0
    for batch in first:
        counts = np.bincount([where[n] for n in batch])
        again += (counts * (counts - 1)).sum() / max(1, len(batch) - 1)
    return again / len(flat(first))


def test_other_records_meet_in_the_next_epoch():
    ours = meeting(batches(), batches(epoch=1))
    order = GroupedByLength(LENGTHS, 104)
    grouped = meeting(*(list(BatchSampler(N, 104, seed=7, epoch=epoch, order=order)) for epoch in (0, 1)))
    assert 0.15 < ours < 0.25 and ours < grouped
    lasting = {frozenset((a, b)) for batch in batches() for a in batch for b in batch[:5] if a != b}
    for epoch in range(1, 20):
        where = {n: number for number, batch in enumerate(batches(epoch=epoch)) for n in batch}
        lasting = {pair for pair in lasting if len({where[n] for n in pair}) == 1}
    assert not lasting, "nobody always meets"


def test_the_loss_of_an_epoch_is_that_of_plain_batches():
    """At fixed weights, summed over the items: no record is missing, and no padding counts."""
    features = tiny_features(50)
    lengths = [len(feature["input_ids"]) for feature in features]
    model = tiny_model().eval()
    one = {task: torch.tensor(1.0) for task in model.heads}
    loaders = [map_loader(dataset(features), collate(), batch_size=4, seed=7)]
    for rank, world_size in ((0, 1), (0, 3), (1, 3), (2, 3)):
        own = {"lengths": lengths, "batch_tokens": 60, "rank": rank, "world_size": world_size}
        loaders.append(token_loader(dataset(features), collate(), seed=7, **own))  # type: ignore[arg-type]
    with torch.no_grad():
        sums = [sum(model(batch, one).loss.item() for batch in loader(1, 0)) for loader in loaders]
    assert sums[1] == pytest.approx(sums[0], rel=1e-5) and sum(sums[2:]) == pytest.approx(sums[0], rel=1e-5)


def test_halved_batches_take_the_same_steps():
    features = tiny_features(50)
    lengths = [len(feature["input_ids"]) for feature in features]
    weights = []
    for records in (50, 3):
        trainer = tiny_trainer(tiny_model(dropout=0.0), on_oom="halve", accumulate=2, lr=1e-3)
        trainer.train_loader = token_loader(dataset(features), collate(), lengths=lengths, batch_tokens=60, seed=7)
        trainer.steps_per_epoch = -(-len(trainer.train_loader(0, 0)) // 2)
        refused = limited(trainer.train_step, records)
        trainer.train()
        assert trainer.step == 2 * trainer.steps_per_epoch and bool(refused) == (records == 3)
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_wrong_arguments():
    message = "batch_tokens: must be at least 36, found 35: a record has 3 inputs, the longest of 12 sub-words"
    with pytest.raises(BatchTooSmall, match=message) as caught:
        batches([30, 12], [1, 3], 35)
    assert caught.value.exit_code == 2
    for lengths, num_inputs in (([3, 4], [1]), ([3, 0], [1, 1]), ([3, 4], [0, 1])):
        with pytest.raises(ValueError, match="one length and one number of inputs per sample, each at least 1"):
            batches(lengths, num_inputs)


def test_pinned():
    assert batches([5, 9, 2, 9, 4, 6, 7, 3], batch_tokens=18, seed=42, epoch=1) == [[5, 6], [2, 3], [4, 1], [7, 0]]


# from records to batches


SEVERAL = {"answer": 2, "choice": 3, "pair": 2, "text": 2}  # most inputs of a record


@pytest.mark.parametrize("level", test_levels_build.CASES)
def test_sizes_of_records_are_those_of_their_features(level: str, tmp_path: Path) -> None:
    options, records, *_ = test_levels_build.CASES[level]
    data = test_levels_build.read(write(tmp_path / "a.jsonl", records), level, tmp_path, **options)
    settle_labels([data], [{"name": "task"}])
    data.set_encoder(build_tokenizer([data], None, 100), 8, stride=level == "answer")
    data.indices["train"] = [2, 0]
    features = data.encode([(number, records[number]) for number in (2, 0)])
    inputs = [[*feature.get("row_lengths", [len(feature["input_ids"])])] for feature in features]
    if level == "text":
        for own, feature in zip(inputs, features, strict=True):
            own.append(len(feature["labels"]["task"]))
    longest, num_inputs = data.input_sizes("train")
    assert longest.tolist() == [*map(max, inputs)] and num_inputs.tolist() == [*map(len, inputs)]
    assert max(num_inputs) == SEVERAL.get(level, 1)


def loader_of(argv: list[str]) -> Any:
    job = main.build_job(main.get_args(argv))
    main.build_data(job)
    return main.build_train_loader(job)


def test_windows_are_places_too(data, tmp_path):
    options = {"max_length": 12, "stride": 2, "batch_tokens": 240}
    loader = loader_of(arguments(data, tmp_path / "out", **options))
    for epoch in (0, 3):
        found = list(loader(epoch, 0))
        assert sorted(n for batch in found for n in batch["sample_id"].tolist()) == list(range(400))
        assert max(batch["input_ids"].numel() for batch in found) <= 240 and len(found) == len(loader(0, 0))
        assert any(len(batch["input_ids"]) > len(batch["sample_id"]) for batch in found)
        assert sum(batch["input_ids"].numel() for batch in found) / len(found) > 0.9 * 240


@pytest.mark.parametrize("model", ["scratch:tiny", "scratch:gpt-tiny"])
def test_texts_to_be_generated_are_places_too(model, tmp_path):
    """With the source in one row, or in a decoder of their own."""
    options = {"model_name_or_path": model, "batch_tokens": 200}
    found = list(loader_of(test_generation_job.arguments(tmp_path, tmp_path / "out", repeat=10, **options))(0, 0))
    assert sorted(n for batch in found for n in batch["sample_id"].tolist()) == list(range(200))
    assert max(batch["input_ids"].numel() + batch["labels"]["reply"].numel() for batch in found) <= 200


# through main.py

TOKENS = {"batch_tokens": 256, "logging_steps": 1, "accumulate": 2, "save_steps": 6}


def test_a_run_that_was_interrupted_within_an_epoch_ends_as_an_unbroken_one(data, tmp_path, monkeypatch, capsys):
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert main.run(arguments(data, whole, **TOKENS)) == 0
    steps = read(whole / "log.json")[0]["step"]
    assert read(whole / "log.json")[1]["step"] == 2 * steps > 30
    assert f"{2 * steps} steps of 1 x 2 x up to 256 sub-words on cpu" in capsys.readouterr().out
    log = RunLog.__call__

    def interrupt(self: Any, event: str, step: int, values: Any) -> None:
        log(self, event, step, values)
        if step == steps + 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "__call__", interrupt)
        assert main.run(arguments(data, out, **TOKENS)) == 130
    state = read(out / "last" / "trainer_state.json")
    assert state["epoch"] == 1 and 0 < state["samples_seen"] < 400
    for change in ({"batch_tokens": 255}, {"batch_tokens": 0}):
        assert main.run(arguments(data, out, **TOKENS | change)) == 2
        assert f"batch_tokens: is {change['batch_tokens']}, but 256 in the saved run" in capsys.readouterr().err
    assert main.run(arguments(data, out, **TOKENS)) == 0
    for name in ("log.json", "eval_metrics.json", "test_metrics.json", "errors/test.jsonl"):
        assert (out / name).read_text(encoding="utf-8") == (whole / name).read_text(encoding="utf-8"), name
    for name in ("last/trainer.safetensors", "last/encoder/model.safetensors", "best/encoder/model.safetensors"):
        ours, theirs = load_file(out / name), load_file(whole / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_too_few_places_for_a_record_are_refused(data, tmp_path, capsys):
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()[:20]
    long = json.loads(lines[3])
    long["tokens"], long["tags"] = long["tokens"] * 9, long["tags"] * 9
    (tmp_path / "long.jsonl").write_text("\n".join([*lines, json.dumps(long)]), encoding="utf-8")
    options = {"train_file": tmp_path / "long.jsonl", "max_length": 12, "stride": 2, "batch_tokens": 20}
    assert main.run(arguments(data, tmp_path / "out", **options)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: batch_tokens: must be at least ") and message.count("\n") == 1, message
    assert not (tmp_path / "out").exists()
