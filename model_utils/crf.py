"""Linear-chain CRF with pytorch-crf's parameters, but any mask, always fp32 and only legal transitions.

Source: Lafferty, McCallum, Pereira, "Conditional Random Fields", ICML 2001; names and arguments of
https://github.com/kmkurn/pytorch-crf (0.7.2), with which checkpoints are exchangeable in both directions.

    crf = CRF(len(labels), labels=labels)                # batch_first=True, unlike pytorch-crf
    loss = -crf(emissions, tags, mask, reduction="sum")  # (B, T, C), (B, T), (B, T) -> (); tags may hold -100
    paths = crf.decode(emissions, mask)                  # B lists of tag ids, one per kept word

- Any mask: any dtype, off at the first word, with holes (sub-words), rows that are off completely.
- `labels` excludes the transitions that BIO / IOBES / BMES forbid, from the likelihood and from decoding.
- fp32 also under autocast and for half-precision emissions; on a GPU no host sync but the one that ends `decode`.
- Fast on a CPU: sums of probabilities with a gradient of their own, where scores are moderate (see ScaledSums).

Letters: B batch, T words, C tags. Public methods take (B, T, ...), or (T, B, ...) with batch_first=False;
inside it is always (T, B, ...), and `keep` is a boolean mask whose True values come first in every row.

Copy: alone; needs torch, pytorch-crf.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torchcrf
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["CRF", "allowed_transitions"]

IGNORE_INDEX = -100
# Added to forbidden transitions. exp(-1e4) is 0 in fp32: no probability is left. Finite, because with -inf a
# gold path that breaks the rules has an infinite loss, and logsumexp over only -inf has a NaN gradient.
FORBIDDEN = -1e4
# Of ScaledSums: how far below the largest sum one may be, as a logarithm, so that its product with another such sum
# is still a normal number.
DEEPEST = {torch.float32: 40.0, torch.float64: 300.0}


def allowed_transitions(labels: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Which tags may begin a row, end a row and follow each other, read from the label names.

    B-x begins an entity of type x, I-x and M-x continue it, E-x ends it, S-x is a whole one; "B", "I" ...
    without a type are understood too; any other name ("O", "X", "[CLS]") is outside. An entity must begin
    with B-x if there is a B-x, and end with E-x if there is an E-x; so BIO, IO, BIOS, IOBES and BMES fit.

    Returns:
        start (C,), end (C,), pairs (C, C) with pairs[i, j] = "j may follow i"; bool, True = allowed.
    """
    parts = [name.partition("-") for name in labels]
    split = [(part, kind) if part in {*"BIMES"} else ("O", "") for part, _, kind in parts]
    if not {"B", "I"} & {part for part, _ in split}:
        raise ValueError("labels: expected BIO, IOBES or BMES names such as O, B-x, I-x "
                         f"(labels=None for tags without such a scheme), got {list(labels)}")
    has_begin = {kind for part, kind in split if part == "B"}
    has_end = {kind for part, kind in split if part == "E"}

    starts = [part in "OBS" or kind not in has_begin for part, kind in split]
    ends = [part in "OES" or kind not in has_end for part, kind in split]
    inside = [[a in "BIM" and b in "IME" and kind_a == kind_b for b, kind_b in split] for a, kind_a in split]
    start, end, within = torch.tensor(starts), torch.tensor(ends), torch.tensor(inside)
    return start, end, within | (end[:, None] & start[None, :])


class CRF(torchcrf.CRF):
    """Conditional random field over the kept words of each row.

    Args:
        num_tags: C.
        batch_first: inputs are (B, T, ...); False: (T, B, ...).
        labels: the C names in the order of their ids, to exclude forbidden transitions; None = allow all.
    """

    def __init__(self, num_tags: int, batch_first: bool = True, labels: Sequence[str] | None = None) -> None:
        super().__init__(num_tags, batch_first=batch_first)
        if labels is not None:
            if len(labels) != num_tags:
                raise ValueError(f"labels: expected num_tags={num_tags} names, got {len(labels)}")
            allowed_transitions(labels)  # a wrong scheme stops here and not in the first batch
        self.labels = None if labels is None else tuple(labels)
        # No buffer: from_pretrained leaves garbage in buffers that are not in the checkpoint.
        self._penalties: tuple[Tensor, ...] | None = None
        self._allowed: tuple[Tensor, ...] | None = None
        self._turn = 1.0  # words until any tag can be followed by any tag

    def forward(
        self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None, reduction: str = "sum"
    ) -> Tensor:
        """Log likelihood of `tags` (negate it for a loss). A row without a kept word gives 0 and no gradient.

        Args:
            emissions: (B, T, C) scores, any floating dtype.
            tags: (B, T); a word tagged -100 counts as masked.
            mask: (B, T), non-zero = keep; None = all.
            reduction: "none" (B,), "sum", "mean" over the B rows, "token_mean" over kept words. All are fp32.
        """
        self._validate(emissions, tags, mask)
        if reduction not in ("none", "sum", "mean", "token_mean"):
            raise ValueError(f"reduction: expected none, sum, mean or token_mean, got {reduction!r}")
        mask = tags != IGNORE_INDEX if mask is None else (tags != IGNORE_INDEX) & (mask != 0)
        with torch.autocast(emissions.device.type, enabled=False):
            emissions, keep, order = self._left_align(emissions, mask)
            tags = (tags.T if self.batch_first else tags).long()
            tags = tags.gather(0, order).masked_fill(~keep, 0)  # (T, B)
            llh = self._compute_score(emissions, tags, keep) - self._compute_normalizer(emissions, keep)
            llh = llh.masked_fill(~keep[0], 0.0)  # (B,)
        if reduction == "none":
            return llh
        if reduction == "token_mean":
            return llh.sum() / keep.sum().clamp(min=1)
        return llh.mean() if reduction == "mean" else llh.sum()

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor | None = None) -> list[list[int]]:
        """The best path of each row (Viterbi): one tag id per kept word, [] for a row without any."""
        self._validate(emissions, None, mask)
        return self._viterbi_decode(*self._left_align(emissions, mask)[:2])

    def decoding_scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """start (C,), end (C,) and pairs (C, C) with which `decode` searches, forbidden transitions lowered."""
        return self._transition_scores()

    def marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Probability of each tag at each word, (B, T, C) in fp32; 0 where masked; carries no gradient.

        Exact: the gradient of log Z with respect to the emissions. Works inside no_grad and inference_mode.
        """
        self._validate(emissions, None, mask)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(emissions.device.type, enabled=False):
            leaf = emissions.detach().float().clone().requires_grad_()  # a copy, never an inference tensor
            aligned, keep, _ = self._left_align(leaf, mask)
            found = torch.autograd.grad(self._compute_normalizer(aligned, keep).sum(), leaf)[0]
        return found / found.sum(2, keepdim=True).clamp(min=0.5)  # tags of a word err alike: 2,000 words gave 1.004

    def _validate(self, emissions: Tensor, tags: Tensor | None = None, mask: Tensor | None = None) -> None:
        size = tuple(emissions.shape)
        if len(size) != 3 or size[2] != self.num_tags:
            raise ValueError(f"emissions: expected 3 dimensions, the last one {self.num_tags}, got {size}")
        for name, other in (("tags", tags), ("mask", mask)):
            if other is not None and other.shape != size[:2]:
                raise ValueError(f"{name}: expected {size[:2]} as emissions have, got {tuple(other.shape)}")

    def _left_align(self, emissions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Kept words first, in their order: -> emissions (T, B, C) in fp32, keep (T, B), order (T, B)."""
        keep = torch.ones_like(emissions[..., 0], dtype=torch.bool) if mask is None else mask != 0
        if self.batch_first:
            emissions, keep = emissions.transpose(0, 1), keep.transpose(0, 1)
        order = torch.argsort((~keep).int(), dim=0, stable=True)  # (T, B)
        keep = keep.gather(0, order)  # (T, B)
        emissions = emissions.float().gather(0, order.unsqueeze(2).expand_as(emissions))  # (T, B, C)
        # A constant added to all tags of a word changes no likelihood, path or marginal. Path sums that stay
        # near 0 keep their digits: at T=512 and confident emissions marginals err by 1e-5 instead of 1e-2.
        emissions = emissions - emissions.detach().logsumexp(2, keepdim=True)  # (T, B, C)
        # Filled, not multiplied: whatever stands on padding, even NaN, gets exactly zero gradient.
        return emissions.masked_fill(~keep.unsqueeze(2), 0.0), keep, order

    def _transition_scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """start (C,), end (C,), pairs (C, C) in fp32, the forbidden ones lowered."""
        start, end = self.start_transitions.float(), self.end_transitions.float()
        pairs = self.transitions.float()
        if self.labels is None:
            return start, end, pairs
        if self._penalties is None or self._penalties[0].device != start.device:  # first call, or after .to()
            with torch.inference_mode(False):  # what an evaluation leaves here must be usable in training
                self._penalties = tuple(torch.where(allowed, 0.0, FORBIDDEN).float().to(start.device)
                                        for allowed in allowed_transitions(self.labels))
        return start + self._penalties[0], end + self._penalties[1], pairs + self._penalties[2]

    # The steps of pytorch-crf under their own names, so that nothing inherited works without these rules.

    def _compute_score(self, emissions: Tensor, tags: Tensor, keep: Tensor) -> Tensor:
        """Score of the given path, (B,)."""
        start, end, pairs = self._transition_scores()
        words = emissions.gather(2, tags.unsqueeze(2)).squeeze(2) * keep  # (T, B)
        steps = pairs[tags[:-1], tags[1:]] * keep[1:]  # (T-1, B)
        last = (keep.sum(0, keepdim=True) - 1).clamp(min=0)  # (1, B)
        return start[tags[0]] + words.sum(0) + steps.sum(0) + end[tags.gather(0, last).squeeze(0)]

    def _compute_normalizer(self, emissions: Tensor, keep: Tensor) -> Tensor:
        """log Z, (B,): log of the summed exp(score) of all paths, by the forward algorithm."""
        start, end, pairs = self._transition_scores()
        if dtype := self._dtype_of_sums(start, end, pairs, emissions):
            return ScaledSums.apply(start, end, pairs, emissions, keep, dtype)
        pairs = pairs.T.contiguous()  # what is summed lies together
        first, *words = emissions.unbind(0)  # one unbind: emissions[t] would each get a gradient of (T, B, C)
        score = start + first  # (B, C) of all paths up to here that end in tag j
        for word, on in zip(words, keep[1:].unsqueeze(2), strict=True):
            longer = torch.logsumexp(score.unsqueeze(1) + pairs, dim=2) + word  # (B, C, C) -> (B, C)
            score = torch.where(on, longer, score)
        return torch.logsumexp(score + end, dim=1)

    @torch.no_grad()
    def _dtype_of_sums(self, start: Tensor, end: Tensor, pairs: Tensor, emissions: Tensor) -> torch.dtype | None:
        """The type in which ScaledSums lose nothing; None: only logarithms are safe, or asking would stop a GPU.

        From the best prefix so many words back any tag can be reached. So the sum for a tag is at most as far below the
        best one as so many transitions and emissions differ from each other, times the number of tags.
        """
        if emissions.device.type != "cpu":
            return None
        scores = [start, end, pairs]
        if self.labels is not None:
            if self._allowed is None:
                self._allowed = allowed_transitions(self.labels)
                self._turn = words_to_turn(self._allowed[2])
            scores = [score[may] for score, may in zip(scores, self._allowed, strict=True)]
        spreads = [score.max() - score.min() for score in scores]
        spreads.append((emissions.amax(2) - emissions.amin(2)).max())
        depth = self._turn * (float(sum(spreads)) + math.log(self.num_tags))
        return next((dtype for dtype, deepest in DEEPEST.items() if depth < deepest), None)

    def _viterbi_decode(self, emissions: Tensor, keep: Tensor) -> list[list[int]]:
        start, end, pairs = self._transition_scores()
        pairs = pairs.T.contiguous()
        scores = [start + emissions[0]]  # (B, C) of the best path up to each word that ends in tag j
        for word, on in zip(emissions[1:], keep[1:].unsqueeze(2), strict=True):
            best = (scores[-1].unsqueeze(1) + pairs).amax(dim=2)  # (B, C)
            scores.append(torch.where(on, best + word, scores[-1]))
        tags = (scores.pop() + end).argmax(dim=1)  # (B,)
        path = [tags]  # the last word first
        for score, on in zip(reversed(scores), keep[1:].flip(0), strict=True):
            tags = torch.where(on, (score + pairs[tags]).argmax(dim=1), tags)  # behind a row's end it stays
            path.append(tags)
        rows = torch.stack([keep.sum(0), *reversed(path)], dim=1)  # (B, 1+T): length, then tags
        return [tags[:length] for length, *tags in rows.tolist()]  # the one transfer to the host


def words_to_turn(pairs: Tensor) -> float:
    """Least n such that any tag can be followed, n words on, by any tag; infinite where there is none.

    pairs: (C, C), True = the second may follow the first.
    """
    step = pairs.float()
    reached = step
    for number in range(1, len(pairs) ** 2 + 1):
        if bool(reached.all()):
            return number
        reached = (reached @ step).clamp(max=1.0)
    return math.inf


class ScaledSums(torch.autograd.Function):
    """log Z and its gradient by sums of probabilities from both ends: Rabiner, "A Tutorial on Hidden Markov Models",
    Proceedings of the IEEE 1989, section V.A.

    Sums are scaled to 1 at each word, so that a word costs a product of small matrices and no logarithm. Those from the
    right are the same recursion on mirrored rows: one loop makes both.
    """

    @staticmethod
    def forward(
        ctx: Any, start: Tensor, end: Tensor, pairs: Tensor, emissions: Tensor, keep: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """(C,), (C,), (C, C), (T, B, C), (T, B), of the sums -> (B,)"""
        number, rows, tags = emissions.shape
        lengths, row = keep.sum(0), torch.arange(rows, device=keep.device)  # (B,)
        mirrored = (lengths - 1 - torch.arange(number, device=keep.device)[:, None]).clamp(min=0)  # (T, B)
        mirrored = (mirrored * rows + row).flatten()  # behind a row's end stands what no one looks at
        last = (lengths - 1).clamp(min=0) * rows + row  # (B,)
        highest = emissions.amax(2)  # (T, B)
        words = emissions.new_empty(number, 2, rows, tags, dtype=dtype)  # from the left, from the right
        torch.exp((emissions - highest.unsqueeze(2)).to(dtype), out=words[:, 0])
        words[:, 1] = words[:, 0].flatten(0, 1).index_select(0, mirrored).unflatten(0, (number, rows))
        follow = (pairs - pairs.max()).to(dtype).exp()
        both = torch.stack([follow, follow.T])  # (2, C, C)
        first = torch.stack([start - start.max(), end - end.max()]).to(dtype).exp()  # (2, C)
        before, after = torch.empty_like(words), torch.empty_like(words)  # sums without and with the word itself
        scale = words.new_empty(number, 2, rows, 1)
        before[0] = first.unsqueeze(1)
        previous = None
        for come, word, total, own in zip(before.unbind(), words.unbind(), scale.unbind(), after.unbind(), strict=True):
            if previous is not None:
                torch.bmm(previous, both, out=come)
            torch.mul(come, word, out=own)
            torch.sum(own, 2, keepdim=True, out=total)
            previous = own.div_(total)
        ends = (after[:, 0].flatten(0, 1)[last] * first[1]).sum(1).log()  # (B,)
        logs = (scale[:, 0].squeeze(2).log() + highest) * keep  # (T, B)
        if any(ctx.needs_input_grad):
            from_right = before[:, 1].flatten(0, 1).index_select(0, mirrored).unflatten(0, (number, rows))  # (T, B, C)
            ctx.save_for_backward(words[:, 0], after[:, 0], scale[:, 0], from_right, follow, keep, last)
        log_z = logs.sum(0) + ends + (lengths - 1) * pairs.max() + start.max() + end.max()
        return log_z.to(emissions.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        words, after, scale, from_right, follow, keep, last = ctx.saved_tensors
        tags = after * from_right  # (T, B, C)
        total = tags.sum(2).masked_fill(~keep, 1.0)  # what is no word may have no tag that fits both sides
        share = ((grad * keep).to(tags.dtype) / total).unsqueeze(2)  # (T, B, 1)
        tags *= share  # probability of each tag, times the gradient of its row
        right = from_right[1:] * words[1:]
        right *= share[1:] / scale[1:]
        pairs = follow * (after[:-1].flatten(0, 1).T @ right.flatten(0, 1))  # (C, C)
        ends = tags.flatten(0, 1)[last].sum(0)
        return *(found.to(grad.dtype) for found in (tags[0].sum(0), ends, pairs, tags)), None, None


if __name__ == "__main__":
    from itertools import product
    torch.manual_seed(0)
    crf, emissions = CRF(3, labels=["O", "B-x", "I-x"]), torch.randn(1, 4, 3)
    mask = torch.tensor([[True, False, True, True]])  # with a hole: 27 paths of 3 words
    paths = [[*path] for path in product(range(3), repeat=3)]
    log_p = [crf(emissions, torch.tensor([[p[0], -100, *p[1:]]]), mask).item() for p in paths]
    assert abs(torch.tensor(log_p).exp().sum().item() - 1) < 1e-5
    assert crf.decode(emissions, mask) == [max(zip(log_p, paths, strict=True))[1]]
    print("ok: the probabilities of all paths sum to 1, and decode finds the best path")
