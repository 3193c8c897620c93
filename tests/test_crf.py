"""model_utils/crf.py against brute-force enumeration of all paths and against pytorch-crf itself.

Run: .venv/bin/python -m pytest tests/test_crf.py
Letters: B batch, T words, C tags.
"""

import copy
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchcrf
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from model_utils import crf as crf_file
from model_utils.crf import CRF, DEEPEST, ScaledSums, allowed_transitions, words_to_turn

BIO = ["O", "B-x", "I-x", "B-y", "I-y"]
IOBES = ["O", "B-x", "I-x", "E-x", "S-x"]
BMES = ["B", "M", "E", "S"]
SCHEMES = [None, BIO, IOBES, BMES]
PARAMETERS = ["start_transitions", "end_transitions", "transitions"]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_crf(labels: list[str] | None, num_tags: int = 4, batch_first: bool = True) -> CRF:
    """Random transitions of the size trained ones have; the initial ones are within 0.1."""
    crf = CRF(len(labels) if labels else num_tags, batch_first=batch_first, labels=labels)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf


def legal(path: tuple[int, ...], labels: list[str] | None) -> bool:
    if labels is None:
        return True
    start, end, pairs = (rule.tolist() for rule in allowed_transitions(labels))
    return start[path[0]] and end[path[-1]] and all(pairs[a][b] for a, b in itertools.pairwise(path))


def legal_path_scores(crf: CRF, row: Tensor, labels: list[str] | None) -> dict[tuple[int, ...], float]:
    """Score of every legal path over one row of kept words (T, C), in double precision and plain Python."""
    start, end, pairs = (getattr(crf, name).double().tolist() for name in PARAMETERS)
    words = row.double().tolist()
    scores = {}
    for path in itertools.product(range(crf.num_tags), repeat=len(words)):
        if legal(path, labels):
            steps = sum(pairs[a][b] for a, b in itertools.pairwise(path))
            emitted = sum(word[tag] for word, tag in zip(words, path, strict=True))
            scores[path] = start[path[0]] + end[path[-1]] + steps + emitted
    return scores


def random_batch(crf: CRF, labels: list[str] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Emissions (7, 5, C), one legal gold path per row (7, 5), mask (7, 5) with 1 to 4 words and holes."""
    emissions = 2 * torch.randn(7, 5, crf.num_tags)
    tags, mask = torch.full((7, 5), -1), torch.zeros(7, 5, dtype=torch.bool)
    for row in range(7):
        length = int(torch.randint(1, 5, ()))
        mask[row, torch.randperm(5)[:length]] = True
        paths = list(legal_path_scores(crf, emissions[row, mask[row]], labels))
        tags[row, mask[row]] = torch.tensor(paths[int(torch.randint(len(paths), ()))])
    return emissions, tags, mask


def lengths_to_mask(lengths: list[int], size: int) -> Tensor:
    return torch.arange(size) < torch.tensor(lengths)[:, None]


# ---- against brute force

@pytest.mark.parametrize("labels", SCHEMES, ids=["none", "BIO", "IOBES", "BMES"])
def test_everything_equals_brute_force(labels):
    torch.manual_seed(0)
    crf = make_crf(labels)
    emissions, tags, mask = random_batch(crf, labels)
    likelihood = crf(emissions, tags, mask, reduction="none")
    paths, marginals = crf.decode(emissions, mask), crf.marginals(emissions, mask)
    for row in range(len(emissions)):
        kept = emissions[row, mask[row]]
        scores = legal_path_scores(crf, kept, labels)
        log_z = torch.tensor(list(scores.values()), dtype=torch.double).logsumexp(0).item()

        all_on = torch.ones(len(kept), 1, dtype=torch.bool)
        assert crf._compute_normalizer(kept.unsqueeze(1), all_on).item() == pytest.approx(log_z, abs=1e-4)
        gold = tuple(int(tag) for tag in tags[row, mask[row]])
        assert likelihood[row].item() == pytest.approx(scores[gold] - log_z, abs=1e-4)
        best = max(scores, key=scores.__getitem__)
        assert paths[row] == list(best)

        expected = torch.zeros(len(kept), crf.num_tags, dtype=torch.double)  # (T, C)
        for path, score in scores.items():
            expected[range(len(kept)), path] += torch.tensor(score - log_z, dtype=torch.double).exp()
        torch.testing.assert_close(marginals[row, mask[row]].double(), expected, atol=1e-5, rtol=0)
        assert marginals[row, ~mask[row]].eq(0).all()


@pytest.mark.parametrize("labels", [BIO, IOBES, BMES], ids=["BIO", "IOBES", "BMES"])
def test_probability_lies_on_legal_paths_only(labels):
    """Legal paths sum to 1; every other path has likelihood 0 in fp32, but a finite loss and gradient."""
    torch.manual_seed(1)
    crf = make_crf(labels)
    all_paths = list(itertools.product(range(crf.num_tags), repeat=3))
    emissions = (3 * torch.randn(1, 3, crf.num_tags)).expand(len(all_paths), -1, -1)
    likelihood = crf(emissions, torch.tensor(all_paths), reduction="none")
    is_legal = torch.tensor([legal(path, labels) for path in all_paths])
    assert 0 < is_legal.sum() < len(all_paths)
    assert likelihood[is_legal].exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert likelihood[~is_legal].exp().eq(0).all()
    gradients = torch.autograd.grad(likelihood.sum(), list(crf.parameters()))
    assert likelihood.isfinite().all() and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("labels", [BIO, IOBES, BMES], ids=["BIO", "IOBES", "BMES"])
def test_forbidden_transitions_are_never_decoded(labels):
    torch.manual_seed(2)
    crf = make_crf(labels)
    emissions, mask = 30 * torch.randn(200, 12, crf.num_tags), torch.rand(200, 12) < 0.7
    mask[:, 3] = True
    assert all(legal(tuple(path), labels) for path in crf.decode(emissions, mask))
    unconstrained = CRF(crf.num_tags)
    unconstrained.load_state_dict(crf.state_dict())
    assert not all(legal(tuple(path), labels) for path in unconstrained.decode(emissions, mask))
    start, _, _ = allowed_transitions(labels)
    assert crf.marginals(emissions)[:, 0, ~start].eq(0).all()


# ---- against pytorch-crf

@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "token_mean"])
def test_equals_pytorch_crf_on_masks_without_holes(reduction, batch_first):
    torch.manual_seed(3)
    ours = make_crf(None, num_tags=6, batch_first=batch_first)
    theirs = torchcrf.CRF(6, batch_first=batch_first)
    theirs.load_state_dict(ours.state_dict())
    emissions, tags = torch.randn(5, 9, 6), torch.randint(6, (5, 9))
    mask = lengths_to_mask([9, 1, 4, 7, 2], 9)
    if not batch_first:
        emissions, tags, mask = emissions.transpose(0, 1), tags.T, mask.T
    results = []
    for crf in (ours, theirs):
        leaf = emissions.clone().requires_grad_()
        likelihood = crf(leaf, tags, mask, reduction=reduction)
        likelihood.sum().backward()
        results.append([likelihood, leaf.grad, *(getattr(crf, name).grad for name in PARAMETERS)])
    torch.testing.assert_close(results[0], results[1], atol=2e-5, rtol=1e-5)
    assert ours.decode(emissions, mask) == theirs.decode(emissions, mask)
    all_on = torch.ones_like(mask)
    assert ours.decode(emissions) == theirs.decode(emissions, all_on)
    torch.testing.assert_close(ours(emissions, tags), theirs(emissions, tags, all_on))


def test_state_dict_is_exchangeable_both_ways():
    torch.manual_seed(4)
    ours, theirs = make_crf(BIO), torchcrf.CRF(len(BIO), batch_first=True)
    ours(torch.randn(2, 3, 5), torch.zeros(2, 3, dtype=torch.long)).backward()  # penalties exist by now
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict()) == sorted(PARAMETERS)
    assert not list(ours.buffers())
    theirs.load_state_dict(ours.state_dict(), strict=True)
    fresh = CRF(len(BIO), labels=BIO)
    fresh.load_state_dict(theirs.state_dict(), strict=True)
    for name in PARAMETERS:
        assert torch.equal(getattr(fresh, name), getattr(ours, name))


# ---- masks

@pytest.mark.parametrize("labels", [None, BIO], ids=["none", "BIO"])
def test_holes_are_the_same_as_gathering_by_hand(labels):
    torch.manual_seed(5)
    crf = make_crf(labels, num_tags=5)
    emissions, tags, mask = torch.randn(6, 10, 5), torch.randint(5, (6, 10)), torch.rand(6, 10) < 0.5
    mask[:, 0], mask[:, 4] = False, True  # [CLS] is off, at least one word is on
    emissions.requires_grad_()
    likelihood = crf(emissions, tags, mask, reduction="none")
    by_hand = [crf(emissions[row, on][None], tags[row, on][None]) for row, on in enumerate(mask)]
    torch.testing.assert_close(likelihood, torch.stack(by_hand), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(likelihood.sum(), emissions, retain_graph=True),
                               torch.autograd.grad(sum(by_hand), emissions), atol=1e-5, rtol=1e-5)
    paths, marginals = crf.decode(emissions, mask), crf.marginals(emissions, mask)
    for row, on in enumerate(mask):
        assert paths[row] == crf.decode(emissions[row, on][None])[0]
        torch.testing.assert_close(marginals[row, on], crf.marginals(emissions[row, on][None])[0])
    time_first = CRF(5, batch_first=False, labels=labels)
    time_first.load_state_dict(crf.state_dict())
    swapped = emissions.transpose(0, 1)
    assert torch.equal(time_first(swapped, tags.T, mask.T, reduction="none"), likelihood)
    assert time_first.decode(swapped, mask.T) == paths
    assert torch.equal(time_first.marginals(swapped, mask.T).transpose(0, 1), marginals)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "token_mean"])
def test_minus_100_counts_as_masked(reduction):
    torch.manual_seed(6)
    crf = make_crf(None)
    emissions, tags, mask = torch.randn(4, 8, 4), torch.randint(4, (4, 8)), torch.rand(4, 8) < 0.6
    mask[:, 2] = True
    expected = crf(emissions, tags, mask, reduction=reduction)
    ignored = tags.masked_fill(~mask, -100)
    assert torch.equal(crf(emissions, ignored, None, reduction=reduction), expected)
    assert torch.equal(crf(emissions, ignored, torch.ones_like(mask), reduction=reduction), expected)
    assert torch.equal(crf(emissions, tags.masked_fill(~mask, -1), mask, reduction=reduction), expected)


def test_row_without_kept_words_is_zero_without_gradient():
    torch.manual_seed(7)
    crf = make_crf(BIO)
    emissions, tags = torch.randn(3, 4, 5), torch.tensor([[0, 1, 2, 0], [-100] * 4, [1, 2, 2, 0]])
    emissions[1] = float("nan")  # whatever a kernel leaves on padding
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    leaf = emissions.clone().requires_grad_()
    likelihood = crf(leaf, tags, mask, reduction="none")
    gradients = torch.autograd.grad(likelihood.sum(), [leaf, *crf.parameters()])
    assert likelihood[1:].eq(0).all() and gradients[0][1:].eq(0).all()

    alone = emissions[:1].clone().requires_grad_()
    expected = crf(alone, tags[:1], mask[:1], reduction="none")
    torch.testing.assert_close(likelihood[:1], expected)
    expected_gradients = torch.autograd.grad(expected.sum(), [alone, *crf.parameters()])
    torch.testing.assert_close((gradients[0][:1], *gradients[1:]), expected_gradients)
    torch.testing.assert_close(crf(emissions, tags, mask, reduction="mean"), expected[0] / 3)
    torch.testing.assert_close(crf(emissions, tags, mask, reduction="token_mean"), expected[0] / 3)

    nothing = torch.zeros(3, 4, dtype=torch.bool)
    assert crf.decode(emissions, nothing) == [[], [], []]
    assert crf.marginals(emissions, nothing).eq(0).all()
    assert crf(emissions, tags, nothing, reduction="token_mean").item() == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.int32, torch.float32])
def test_mask_of_any_dtype_is_boolean(dtype):
    torch.manual_seed(8)
    crf = make_crf(BIO)
    emissions, tags, mask = torch.randn(4, 6, 5), torch.zeros(4, 6, dtype=torch.long), torch.rand(4, 6) < 0.5
    assert torch.equal(crf(emissions, tags, mask.to(dtype)), crf(emissions, tags, mask))
    assert crf.decode(emissions, mask.to(dtype)) == crf.decode(emissions, mask)
    assert torch.equal(crf.marginals(emissions, mask.to(dtype)), crf.marginals(emissions, mask))


# ---- precision

@pytest.mark.parametrize("labels", [None, BIO], ids=["none", "BIO"])
def test_autocast_and_bf16_give_the_fp32_loss(labels):
    torch.manual_seed(9)
    crf = make_crf(labels, num_tags=5)
    rounded = (3 * torch.randn(3, 200, 5)).bfloat16()
    tags = torch.zeros(3, 200, dtype=torch.long)
    results = []
    full = rounded.float()
    for emissions, autocast in ((full, False), (full, True), (rounded, True), (rounded, False)):
        leaf = emissions.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = -crf(leaf, tags)
            results.append((loss, crf.decode(leaf), crf.marginals(leaf)))
        gradient = torch.autograd.grad(loss, leaf)[0]
        assert loss.dtype == torch.float32 and gradient.dtype == emissions.dtype
        assert torch.equal(loss, results[0][0]) and results[-1][1] == results[0][1]
        assert torch.equal(results[-1][2], results[0][2])


def test_bf16_parameters_are_used_in_fp32():
    torch.manual_seed(10)
    half = make_crf(BIO).bfloat16()
    full = copy.deepcopy(half).float()
    emissions, tags = torch.randn(2, 300, 5), torch.zeros(2, 300, dtype=torch.long)
    assert torch.equal(half(emissions, tags), full(emissions, tags))
    assert half.decode(emissions) == full.decode(emissions)


def test_long_confident_rows_keep_their_digits():
    """T=512: the plain fp32 recursion errs by 1e-2 here, because path scores reach thousands."""
    torch.manual_seed(11)
    crf = make_crf(None, num_tags=8)
    emissions, tags = 20 * torch.randn(2, 512, 8), torch.randint(8, (2, 512))
    double, theirs = emissions.double().requires_grad_(), torchcrf.CRF(8, batch_first=True)
    theirs.load_state_dict(crf.state_dict())
    theirs.double()
    all_on = torch.ones(2, 512, dtype=torch.bool)
    log_z = theirs._compute_normalizer(double.transpose(0, 1), all_on.T)
    expected = torch.autograd.grad(log_z.sum(), double)[0]
    torch.testing.assert_close(crf.marginals(emissions).double(), expected, atol=5e-5, rtol=0)
    torch.testing.assert_close(crf.marginals(emissions).sum(-1), torch.ones(2, 512), atol=1e-6, rtol=0)
    assert crf.marginals(20 * torch.randn(2, 2000, 8)).max() <= 1  # probabilities, also of a long text in windows
    torch.testing.assert_close(crf(emissions, tags).double(), theirs(double, tags, all_on), rtol=1e-6, atol=0)


def in_fp64(crf: CRF, emissions: Tensor, tags: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Log likelihood and gradients by pytorch-crf in double precision; masks without holes. Forbidden ones are -1e4."""
    theirs = torchcrf.CRF(crf.num_tags, batch_first=True).double()
    start, end, pairs = (scores.double() for scores in crf._transition_scores())
    for parameter, scores in zip(theirs.parameters(), (start, end, pairs), strict=True):
        parameter.data = scores.detach().clone()
    words = emissions.double().requires_grad_()
    likelihood = theirs(words, tags, mask, reduction="none")
    return likelihood, list(torch.autograd.grad(likelihood.sum(), [*theirs.parameters(), words]))


@pytest.mark.parametrize("labels", SCHEMES)
@pytest.mark.parametrize(("scale", "kind"), [(1, torch.float32), (15, torch.float64), (300, None), (3000, None)])
def test_sums_of_probabilities_are_taken_where_they_are_safe_and_right_everywhere(labels, scale, kind):
    """Scores that are unlikely beyond any floating-point number, and forbidden transitions: never NaN, never wrong."""
    torch.manual_seed(18)
    crf = make_crf(labels)
    emissions, lengths = scale * torch.randn(6, 30, crf.num_tags), torch.tensor([30, 1, 17, 29, 2, 30])
    tags = torch.randint(crf.num_tags, (6, 30))
    mask = torch.arange(30) < lengths[:, None]
    aligned = crf._left_align(emissions, mask)[0]
    chosen = crf._dtype_of_sums(*crf._transition_scores(), aligned)
    assert chosen == kind or scale in (15, 300), "the middle ones lie where fp32, fp64 and logarithms meet"
    expected, gradients = in_fp64(crf, emissions, tags, mask)
    ours = emissions.clone().requires_grad_()
    found = crf(ours, tags, mask, reduction="none")
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    digits = 1e-3 if chosen is None else 2e-5  # logarithms in fp32 of paths that score thousands
    for own, other in zip(torch.autograd.grad(found.sum(), [*crf.parameters(), ours]), gradients, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=1e-4, atol=digits)


@pytest.mark.parametrize("labels", SCHEMES)
def test_every_kind_of_sum_gives_the_same_as_far_as_it_is_said_to(labels):
    """Up to the depth where another type takes over; the scores are as adverse as this depth allows."""
    torch.manual_seed(19)
    crf = make_crf(labels)
    mask = torch.ones(4, 40, dtype=torch.bool)
    for dtype, deepest in DEEPEST.items():
        emissions = torch.where(torch.rand(4, 40, crf.num_tags) < 0.5, 0.0, -1.0)  # as far apart as can be
        low, high = 0.0, 1e3
        for _ in range(40):  # the largest factor with which this type is still taken
            middle = (low + high) / 2
            aligned = crf._left_align(middle * emissions, mask)[0]
            kinds = [*DEEPEST, None]
            taken = crf._dtype_of_sums(*crf._transition_scores(), aligned)
            low, high = (middle, high) if kinds.index(taken) <= kinds.index(dtype) else (low, middle)
        tags = torch.randint(crf.num_tags, (4, 40))
        ours = (low * emissions).requires_grad_()
        assert low > deepest / 10
        found = crf(ours, tags, mask, reduction="none")
        expected, gradients = in_fp64(crf, ours.detach(), tags, mask)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
        for own, other in zip(torch.autograd.grad(found.sum(), [*crf.parameters(), ours]), gradients, strict=True):
            torch.testing.assert_close(own.double(), other, rtol=1e-4, atol=5e-5)


def test_a_row_without_words_where_no_tag_may_begin_and_end() -> None:
    torch.manual_seed(21)
    crf = make_crf(["B", "M", "E"])
    emissions, tags = torch.randn(2, 3, 3, requires_grad=True), torch.tensor([[-100, -100, -100], [0, 1, 2]])
    assert crf._dtype_of_sums(*crf._transition_scores(), emissions.transpose(0, 1)) is torch.float32
    found = torch.autograd.grad(crf(emissions, tags), [emissions, *crf.parameters()])
    alone = make_crf(["B", "M", "E"])
    alone.load_state_dict(crf.state_dict())
    row = emissions[1:].detach().requires_grad_()
    expected = torch.autograd.grad(alone(row, tags[1:]), [row, *alone.parameters()])
    assert not found[0][0].any()
    for own, other in zip([found[0][1:], *found[1:]], expected, strict=True):
        torch.testing.assert_close(own, other)


def test_the_gradient_of_the_sums_is_that_of_small_differences():
    torch.manual_seed(20)
    keep = torch.arange(5)[:, None] < torch.tensor([5, 1, 3])
    start, end, pairs, words = (
        torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((3,), (3,), (3, 3), (5, 3, 3))
    )
    weights = torch.rand(3, dtype=torch.float64)

    def weighted(*scores: Tensor) -> Tensor:
        return (ScaledSums.apply(*scores, keep, torch.float64) * weights).sum()

    assert torch.autograd.gradcheck(weighted, (start, end, pairs, words))
    with torch.no_grad():
        assert weighted(start, end, pairs, words) == pytest.approx(weighted(start, end, pairs, words).item())


def test_words_until_any_tag_can_follow():
    """By brute force over all paths; a scheme in which only every second word can be B-x never gets there."""
    for labels in (BIO, IOBES, BMES, ["B-x", "E-x"], ["O", "B-x", "E-x"], ["I-x", "I-y", "O"]):
        found = words_to_turn(allowed_transitions(labels)[2])
        pairs = allowed_transitions(labels)[2].tolist()
        for number in range(1, 6):
            reached = {
                (path[0], path[-1])
                for path in itertools.product(range(len(labels)), repeat=number + 1)
                if all(pairs[a][b] for a, b in itertools.pairwise(path))
            }
            assert (len(reached) == len(labels) ** 2) == (number >= found), labels
    assert words_to_turn(allowed_transitions(["B-x", "E-x"])[2]) == float("inf")


# ---- callers and surroundings

def test_marginals_do_not_depend_on_the_callers_grad_mode():
    torch.manual_seed(12)
    crf = make_crf(BIO)
    emissions, mask = torch.randn(3, 6, 5), torch.rand(3, 6) < 0.6
    expected = crf.marginals(emissions.clone().requires_grad_(), mask)
    torch.testing.assert_close(expected.sum(-1), mask.float())
    assert not expected.requires_grad and all(parameter.grad is None for parameter in crf.parameters())
    with torch.no_grad():
        assert torch.equal(crf.marginals(emissions, mask), expected)
    with torch.inference_mode():
        assert torch.equal(crf.marginals(emissions.clone(), mask.clone()), expected)


def test_first_use_in_inference_mode_then_training():
    torch.manual_seed(13)
    crf, tags = make_crf(BIO), torch.zeros(2, 4, dtype=torch.long)
    emissions = torch.randn(2, 4, 5)
    with torch.inference_mode():
        before = crf(emissions, tags).item()
    likelihood = crf(emissions, tags)
    likelihood.backward()
    assert likelihood.item() == before and crf.transitions.grad.abs().sum() > 0


def test_built_on_meta_device_then_loaded():
    """As transformers' from_pretrained does: built under the meta device, then filled from a state dict."""
    torch.manual_seed(14)
    source, emissions = make_crf(BIO), torch.randn(20, 6, 5)
    with torch.device("meta"):
        crf = CRF(len(BIO), labels=BIO)
    crf = crf.to_empty(device="cpu")
    crf.load_state_dict(source.state_dict())
    assert crf.decode(emissions) == source.decode(emissions)
    copied = copy.deepcopy(crf)  # after first use: the penalty is copied with it
    assert copied.decode(emissions) == source.decode(emissions)
    assert torch.equal(copied.marginals(emissions), source.marginals(emissions))


def test_penalty_follows_the_device():
    torch.manual_seed(15)
    crf, emissions = make_crf(BIO), torch.randn(2, 3, 5)
    expected = crf.marginals(emissions)
    state = copy.deepcopy(crf.state_dict())
    crf.to("meta")  # the only second device that every machine has
    assert [scores.device.type for scores in crf._transition_scores()] == ["meta"] * 3
    crf.to_empty(device="cpu").load_state_dict(state)
    assert torch.equal(crf.marginals(emissions), expected)


def test_distributed_data_parallel_gives_the_same_gradients():
    torch.manual_seed(17)
    crf, emissions, tags = make_crf(BIO), torch.randn(2, 3, 5), torch.zeros(2, 3, dtype=torch.long)
    expected = torch.autograd.grad(crf(emissions, tags), list(crf.parameters()))
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        torch.nn.parallel.DistributedDataParallel(crf)(emissions, tags).backward()
    finally:
        torch.distributed.destroy_process_group()
    for parameter, gradient in zip(crf.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_loss_reads_no_value_on_the_host_of_a_gpu(monkeypatch):
    """Fake tensors have shapes but no values: .item(), a data-dependent shape or branch would raise."""
    torch.manual_seed(16)
    crf = make_crf(BIO)
    elsewhere = torch.empty(6, 3, 5, device="meta")
    assert crf._dtype_of_sums(*crf._transition_scores(), elsewhere) is None
    monkeypatch.setattr(CRF, "_dtype_of_sums", lambda *_: None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        emissions, tags, mask = torch.randn(3, 6, 5), torch.zeros(3, 6, dtype=torch.long), torch.ones(3, 6)
        with pytest.raises(DataDependentOutputException):
            mask.sum().item()
        assert crf(emissions, tags, mask, reduction="none").shape == (3,)
        assert crf.marginals(emissions, mask).shape == (3, 6, 5)


# ---- the rule itself, and errors

def test_allowed_transitions_bio():
    start, end, pairs = allowed_transitions(BIO)
    assert start.tolist() == [True, True, False, True, False] and end.all()
    assert {(BIO[i], BIO[j]) for i, j in (~pairs).nonzero().tolist()} == {
        ("O", "I-x"), ("B-y", "I-x"), ("I-y", "I-x"), ("O", "I-y"), ("B-x", "I-y"), ("I-x", "I-y")}


def test_allowed_transitions_iobes():
    labels = ["O", "B-x", "I-x", "E-x", "S-x", "S-y"]
    start, end, pairs = allowed_transitions(labels)
    begins, closes = ["O", "B-x", "S-x", "S-y"], ["O", "E-x", "S-x", "S-y"]
    assert start.tolist() == [label in begins for label in labels]
    assert end.tolist() == [label in closes for label in labels]
    expected = {*itertools.product(["B-x", "I-x"], ["I-x", "E-x"]), *itertools.product(closes, begins)}
    assert {(labels[i], labels[j]) for i, j in pairs.nonzero().tolist()} == expected


def test_allowed_transitions_bmes_with_and_without_type():
    expected = [[False, True, True, False], [False, True, True, False],
                [True, False, False, True], [True, False, False, True]]
    for labels in (BMES, ["B-w", "M-w", "E-w", "S-w"]):
        start, end, pairs = allowed_transitions(labels)
        assert start.tolist() == [True, False, False, True] and end.tolist() == [False, False, True, True]
        assert pairs.tolist() == expected


def test_allowed_transitions_of_incomplete_schemes():
    assert all(rule.all() for rule in allowed_transitions(["O", "I-x", "I-y"]))  # IO: nothing is forbidden
    start, end, pairs = allowed_transitions(["O", "B-x", "I-x", "S-x"])  # BIOS: B-x and I-x may be the last
    assert start.tolist() == [True, True, False, True] and end.all()
    assert (~pairs).nonzero().tolist() == [[0, 2], [3, 2]]
    start, _, pairs = allowed_transitions(["O", "B-a-b", "I-a-b", "[CLS]"])  # type "a-b"; [CLS] is like O
    assert start.tolist() == [True, True, False, True]
    assert (~pairs).nonzero().tolist() == [[0, 2], [3, 2]]


@pytest.mark.parametrize("labels", [["NN", "VB", "O"], ["Ix", "Bx", ""], ["O", "b-x"], ["O", "S-shirt"]])
def test_labels_without_scheme_are_refused(labels):
    with pytest.raises(ValueError, match=r"BIO, IOBES or BMES names such as O, B-x, I-x \(labels=None"):
        CRF(len(labels), labels=labels)


def test_wrong_arguments_are_named():
    crf, emissions, tags = CRF(5, labels=BIO), torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="num_tags=4 names, got 5"):
        CRF(4, labels=BIO)
    with pytest.raises(ValueError, match="invalid number of tags"):
        CRF(0)
    with pytest.raises(ValueError, match=r"emissions: .* 5, got \(2, 3, 4\)"):
        crf(emissions[..., :4], tags)
    with pytest.raises(ValueError, match=r"emissions: .* 3 dimensions"):
        crf.decode(emissions[0])
    with pytest.raises(ValueError, match=r"tags: expected \(2, 3\).* got \(2, 2\)"):
        crf(emissions, tags[:, :2])
    with pytest.raises(ValueError, match=r"mask: expected \(2, 3\).* got \(1, 3\)"):
        crf.marginals(emissions, tags[:1])
    with pytest.raises(ValueError, match="none, sum, mean or token_mean, got 'avg'"):
        crf(emissions, tags, reduction="avg")
    with pytest.raises(RuntimeError, match="out of bounds"):
        crf(emissions, tags - 3)  # pytorch-crf wraps a negative tag without a word


def test_file_copied_alone_runs(tmp_path):
    shutil.copy(Path(crf_file.__file__), tmp_path / "crf.py")
    done = subprocess.run([sys.executable, "crf.py"], cwd=tmp_path, capture_output=True, text=True,
                          env={"PATH": "", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok") and done.stderr == ""
