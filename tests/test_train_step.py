"""One optimizer step: accumulation, masking of non-finite updates, FGM inside a group, no host sync."""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model_utils.crf import CRF
from tests.tiny import collate, tiny_features, tiny_model, tiny_trainer


def micro_batches(features, sizes):
    start, batches = 0, []
    for size in sizes:
        batches.append(collate()(features[start : start + size]))
        start += size
    return batches


def gradients(sizes, *, use_fgm=False, decoder="crf", drop_labels=()):
    """Gradients of one group, before clipping."""
    features = tiny_features(8)
    for number, task in drop_labels:
        del features[number]["labels"][task]
    model = tiny_model(dropout=0.0, decoder=decoder).double()
    step = tiny_trainer(model, use_fgm=use_fgm).train_step
    model.train()
    step.update = lambda: None
    losses, samples = step(micro_batches(features, sizes))
    assert int(samples) == 8
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, losses


@pytest.mark.parametrize("decoder", ["linear", "crf"])
@pytest.mark.parametrize("drop_labels", [(), ((0, "slots"), (3, "slots"), (5, "intent"))])
@pytest.mark.parametrize("sizes", [(4, 4), (2, 2, 2, 2), (3, 3, 2), (1,) * 8])
def test_accumulated_gradients_equal_those_of_the_big_batch(sizes, drop_labels, decoder):
    big, big_losses = gradients((8,), decoder=decoder, drop_labels=drop_labels)
    parts, losses = gradients(sizes, decoder=decoder, drop_labels=drop_labels)
    assert big.keys() == parts.keys()
    for name in big:  # the CRF computes in fp32, so not to the last digit of fp64
        torch.testing.assert_close(parts[name], big[name], rtol=1e-4, atol=1e-6, msg=name)
    for name in big_losses:
        torch.testing.assert_close(losses[name], big_losses[name], rtol=1e-5, atol=1e-6)


def test_mean_of_means_would_be_wrong_here():
    """The check above can fail: averaging micro-batch means gives another gradient when label counts differ."""
    features = tiny_features(8)
    model = tiny_model(dropout=0.0).double().train()
    for batch in micro_batches(features, (6, 2)):
        (model(batch).loss / 2).backward()
    naive = model.encoder.embeddings.word_embeddings.weight.grad
    exact = gradients((6, 2))[0]["encoder.embeddings.word_embeddings.weight"]
    assert (naive - exact).abs().max() > 1e-3 * exact.abs().max()


def test_fgm_adds_each_micro_batch_own_adversarial_gradient():
    """Against a hand-written loop over fresh copies: clean + adversarial gradient of each micro-batch, summed."""
    features, sizes, epsilon = tiny_features(8), (3, 5), 0.5
    batches = micro_batches(features, sizes)
    reference = tiny_model(dropout=0.0).double().train()
    weight = reference.encoder.embeddings.word_embeddings.weight
    items = {"intent": 8, "slots": sum(len(f["labels"]["slots"]) for f in features)}
    trained = {n: p for n, p in reference.named_parameters() if p.requires_grad}
    expected = {n: torch.zeros_like(p) for n, p in trained.items()}
    for batch in batches:
        clean = torch.autograd.grad(reference(batch, items).loss, list(trained.values()), allow_unused=True)
        own = dict(zip(expected, clean, strict=True))["encoder.embeddings.word_embeddings.weight"]
        original = weight.detach().clone()
        with torch.no_grad():
            weight += epsilon * own / own.norm()
        adversarial = torch.autograd.grad(reference(batch, items).loss, list(trained.values()), allow_unused=True)
        with torch.no_grad():
            weight.copy_(original)
        for name, a, b in zip(expected, clean, adversarial, strict=True):
            if a is not None:
                expected[name] += a + b
    found, _ = gradients(sizes, use_fgm=True)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_non_finite_gradient_changes_nothing():
    model = tiny_model()
    step = tiny_trainer(model).train_step
    model.train()
    good = micro_batches(tiny_features(8), (8,))
    step(good)
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    moments = {k: v.clone() for s in step.optimizer.state.values() for k, v in s.items() if k == "step"}
    step.compute_loss = lambda model, batch, items: poisoned(model(batch, items))
    step(good)
    assert step.masked == step.diverged == 1
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name]), name
    for state in step.optimizer.state.values():
        assert state["step"] == moments["step"] and state["exp_avg"].isfinite().all()


def poisoned(output):
    output.loss = output.loss * float("nan")
    return output


class CountHostReads(TorchDispatchMode):
    """Counts `.item()`, `.tolist()`, `bool(tensor)` …: each makes the host wait for the device.

    One per forward is transformers' own (`padding_mask.all()` in masking_utils) and not counted.
    """

    reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.reads += not any("masking_utils" in frame.filename for frame in traceback.extract_stack())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("use_fgm", [False, True])
@pytest.mark.parametrize("decoder", ["linear", "crf"])
def test_a_step_reads_nothing_back(use_fgm, decoder, monkeypatch):
    monkeypatch.setattr(CRF, "_dtype_of_sums", lambda *_: None)  # as it is on a GPU
    model = tiny_model(decoder=decoder)
    step = tiny_trainer(model, use_fgm=use_fgm).train_step
    model.train()
    group = micro_batches(tiny_features(8), (4, 4))
    step(group)
    with CountHostReads() as counter:
        step(group)
        assert counter.reads == 0
        torch.ones(()).item()
    assert counter.reads == 1
