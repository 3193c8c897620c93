"""Out of memory: a line that says what to lower, or the same gradient from smaller micro-batches."""

import pytest
import torch

from data_loader.collate import Collator
from model_utils.inputs import at_places
from tests.test_train_step import micro_batches
from tests.tiny import collate, tiny_features, tiny_model, tiny_trainer
from trainer.memory import BatchSplitter, OutOfMemory, split


def limited(train_step, records):
    """A device on which only so many records fit; counts the refusals."""
    plain = train_step.compute_loss
    refused = []

    def compute_loss(model, batch, num_items):
        output = plain(model, batch, num_items)
        if len(batch["sample_id"]) > records:
            refused.append(len(batch["sample_id"]))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return output

    train_step.compute_loss = compute_loss
    return refused


def test_pieces_hold_every_record_once():
    (batch,) = micro_batches(tiny_features(7), (7,))
    for parts in (1, 2, 3, 7, 9):
        pieces = split(batch, parts)
        assert len(pieces) == min(parts, 7)
        assert [i for piece in pieces for i in piece["sample_id"].tolist()] == list(range(7))
        for name in ("input_ids", "word_mask"):
            assert torch.equal(torch.cat([piece[name] for piece in pieces]), batch[name])
        for task, labels in batch["labels"].items():
            assert torch.equal(torch.cat([piece["labels"][task] for piece in pieces]), labels)


def test_halving_leaves_the_gradient_and_the_loss_unchanged():
    group = micro_batches(tiny_features(16), (8, 8))
    results = []
    for records in (8, 3):
        model = tiny_model(dropout=0.0)
        train_step = tiny_trainer(model, on_oom="halve").train_step
        model.train()
        refused = limited(train_step, records)
        train_step.update = lambda: None
        losses, samples = train_step(group)
        assert samples == 16
        results.append((losses["loss"], [p.grad for p in model.parameters() if p.grad is not None]))
    assert refused == [8, 4] and train_step.splitter.parts == 4
    torch.testing.assert_close(results[1][0], results[0][0])
    assert len(results[0][1]) == len(results[1][1]) > 20
    for ours, theirs in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    train_step.splitter.load_state_dict(BatchSplitter().state_dict())
    assert train_step.splitter.parts == 1


def test_later_groups_and_a_resumed_run_are_cut_at_once(tmp_path):
    trainer = tiny_trainer(tiny_model(), tmp_path, on_oom="halve", batch_size=8, epochs=1)
    refused = limited(trainer.train_step, 4)
    trainer.train()
    assert refused == [8]
    again = tiny_trainer(tiny_model(), on_oom="halve", batch_size=8, epochs=2)
    again.resume(tmp_path / "last")
    refused = limited(again.train_step, 4)
    again.train()
    assert refused == []


def several(features, tokens=5):
    """The same records, cut into inputs of at most so many sub-words; also with a label of each shape."""
    cut = []
    for number, feature in enumerate(features):
        whole, rest = divmod(len(feature["input_ids"]), tokens)
        lengths = [tokens] * whole + [rest] * bool(rest)
        more = {"score": float(number), "types": [-1] * (number % 3 + 1), "names": [[number, 0, 0]] * (number % 2 + 1)}
        cut.append({**feature, "row_lengths": lengths, "labels": {**feature["labels"], **more}})
    return cut


def test_records_with_several_inputs_are_cut_between_records():
    """Each piece holds its records' inputs, and the place of each word is still its sub-word."""
    features = several(tiny_features(7))
    levels = {"intent": "sequence", "slots": "word", "score": "number", "types": "multi_label", "names": "entities"}
    batch = Collator(0, levels)(features)
    expected = at_places(batch["input_ids"][..., None], batch["word_starts"], batch)
    counts = [len(feature["row_lengths"]) for feature in features]
    assert len(set(counts)) > 1
    for parts in (1, 2, 3, 7, 9):
        pieces = split(batch, parts)
        assert [piece["sample_id"].tolist() for piece in pieces] == [
            part.tolist() for part in torch.arange(7).tensor_split(min(parts, 7))
        ]
        for piece in pieces:
            own = sum(counts[number] for number in piece["sample_id"].tolist())
            assert {len(piece[name]) for name in ("input_ids", "attention_mask", "token_type_ids")} == {own}
            assert piece["input_mask"].sum() == own
        found = [at_places(piece["input_ids"][..., None], piece["word_starts"], piece) for piece in pieces]
        assert torch.equal(torch.cat(found), expected)
        for name in ("input_ids", "attention_mask", "token_type_ids", "input_mask", "word_mask"):
            assert torch.equal(torch.cat([piece[name] for piece in pieces]), batch[name])
        for task, labels in batch["labels"].items():
            assert torch.equal(torch.cat([piece["labels"][task] for piece in pieces]), labels)


def test_halving_windows_leaves_the_gradient_unchanged():
    batch = collate()([{**feature, "labels": tiny["labels"]} for feature, tiny in zip(
        several(tiny_features(8)), tiny_features(8), strict=True)])  # fmt: skip
    gradients = []
    for parts in (1, 4):
        model = tiny_model(dropout=0.0).double().train()
        for piece in split(batch, parts):
            model(piece, model.num_items(batch["labels"])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for name in gradients[0]:  # the CRF computes in fp32
        torch.testing.assert_close(gradients[1][name], gradients[0][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("on_oom", "fits"), [("stop", 4), ("halve", 0)])
def test_the_message_names_the_batch_and_what_to_lower(on_oom, fits):
    trainer = tiny_trainer(tiny_model(), train=tiny_features(8), on_oom=on_oom, batch_size=8)
    limited(trainer.train_step, fits)
    length = max(len(feature["input_ids"]) for feature in tiny_features(8))
    records = 8 if on_oom == "stop" else 1
    with pytest.raises(OutOfMemory, match=f"on cpu in a batch of {records} records x {length} sub-words; low"):
        trainer.train()
    assert OutOfMemory.exit_code == 1
