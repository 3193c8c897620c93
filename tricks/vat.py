"""VAT, virtual adversarial training: the prediction should not change where a small change of the input matters most.

Miyato, Maeda, Koyama, Ishii: Virtual Adversarial Training, IEEE TPAMI 2018, https://arxiv.org/abs/1704.03976; on
embedded texts Miyato, Dai, Goodfellow, ICLR 2017, https://arxiv.org/abs/1605.07725. P being the prediction, held
fixed, and P(r) the one with r added to the embedded sub-words of a text: r = epsilon * g / ||g||, g the gradient of
KL(P || P(r)) at r = xi * d for a random direction d of length 1. KL(P || P(r)) is added to the loss. It needs no
labels. (The smoothness term of SMART, Jiang et al. 2020, https://arxiv.org/abs/1911.03437, is of this kind.)

Three ways to use it:

    vat = VAT(model, weight=1.0, epsilon=1.0)
    clean = model(**batch).logits                       # 1. closure: a pass and its KL; in eval mode, or see below
    loss = loss + vat.smoothness(lambda: divergence("", clean.detach(), model(**batch).logits, labels) / len(labels))

    vat(model, batch).loss.backward()                   # 2. around any model(batch, num_items) -> loss, logits by task

    sh run.sh --use_vat --vat_weight 1.0                # 3. by flag

Exact where copies of this trick usually are not: in 2 and 3 all three passes have the same dropout masks, without
which g is mostly the noise of dropout (at r = 0 the KL must be 0, its second order is what counts); norms are those
of each text; padding (label -100) does not count; the divergence is summed over items and divided by the same number
as the loss, so that accumulating micro-batches gives the gradient of the big batch; the search for r leaves `.grad`
alone; no value is read back from the device; a gradient that is zero, NaN or infinite moves nothing.
Cost: two more forward and backward passes, one of the latter without gradients of weights. Behind a CRF the tags'
emissions are compared. Conflicts: batches given as `inputs_embeds`, which are refused with an error; PGD and FreeLB,
which change what the embeddings return too; mixup, whose mixed texts are not those that are compared. Under DDP with
`broadcast_buffers` a later pass overwrites buffers of the first: turn that off.

Copy: alone; needs torch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# BERT's kind, ModernBERT, Llama's kind, GPT-2
WORD_EMBEDDINGS = ("word_embeddings", "tok_embeddings", "embed_tokens", "wte")


class NoEmbedding(ValueError):
    """There is nothing to change: a wrong setting, not a bug."""

    exit_code = 2


def divergence(task: str, scores: Tensor, others: Tensor, labels: Tensor) -> Tensor:
    """KL(P || Q), summed over items; scores (…, C) before the softmax; labels (…), -100 = no item."""
    p, q = (s.float().clamp(min=-1e4).log_softmax(-1) for s in (scores, others))  # -inf - -inf would be NaN
    return torch.where(labels != -100, (p.exp() * (p - q)).sum(-1), 0.0).sum()


class VAT:
    """A `compute_loss` that adds the smoothness of what the embedding layers return: (B texts, T sub-words, H) each."""

    def __init__(
        self,
        model: nn.Module,
        weight: float = 1.0,
        epsilon: float = 1.0,
        xi: float = 0.1,
        emb_name: str | Sequence[str] = WORD_EMBEDDINGS,
        compute_loss: Callable[..., Any] = lambda model, *given: model(*given),
        divergence: Callable[[str, Tensor, Tensor, Tensor], Tensor] = divergence,
        weights: Mapping[str, float] | None = None,
    ):
        """
        Args:
            model: with at least one nn.Embedding whose name contains `emb_name`.
            weight: factor of the divergence.
            epsilon: length of the change of a text.
            xi: length of the random change at which the direction is measured.
            emb_name: part of the module's name, or several of which one is enough.
            compute_loss: (model, batch, num_items) -> `loss`, and `logits` by task.
            divergence: (task, logits, other logits, labels) -> sum over items.
            weights: task -> factor of its divergence, 1 where not given.

        Raises: ValueError if no embedding matches.
        """
        parts = [emb_name] if isinstance(emb_name, str) else list(emb_name)
        tables = {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
        found = [module for name, module in tables.items() if any(part in name for part in parts)]
        if not found:
            raise NoEmbedding(f"no embedding has {' or '.join(parts)} in its name; "
                              f"there are {', '.join(tables) or 'none'}")  # fmt: skip
        self.weight, self.epsilon, self.xi = weight, epsilon, xi
        self.compute_loss, self.divergence, self.weights = compute_loss, divergence, weights or {}
        self.active = False
        self.changes: list[Tensor] = []  # r of each look-up
        self.num_look_ups = 0
        for module in found:
            module.register_forward_hook(self.look_up)

    def look_up(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Runs after each look-up; adds r, at first a random one from a generator that dropout does not share."""
        if not self.active:
            return output
        if self.num_look_ups == len(self.changes):
            generator = torch.Generator(output.device).manual_seed(self.seed + len(self.changes))
            noise = torch.randn(output.shape, dtype=output.dtype, device=output.device, generator=generator)
            self.changes.append((self.xi * unit(noise)).requires_grad_())
        self.num_look_ups += 1
        return output + self.changes[self.num_look_ups - 1]

    def smoothness(self, apart: Callable[[], Tensor]) -> Tensor:
        """KL(P || P(r)), 0-dim, with a gradient; apart: a forward pass of the batch, and its KL from P."""
        self.seed = int(torch.randint(2**62, ()))
        self.active, self.changes = True, []
        try:
            self.num_look_ups = 0
            random = apart()
            if not self.changes:
                raise RuntimeError("VAT: the pass looked nothing up in the embeddings")
            gradients = torch.autograd.grad(random, self.changes)
            self.num_look_ups, self.changes = 0, [self.epsilon * unit(gradient) for gradient in gradients]
            return apart()
        finally:
            self.active, self.changes = False, []

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], num_items: Mapping[str, Any] | None = None) -> Any:
        """What `compute_loss` returns, with the smoothness in its loss.

        Args:
            batch: `labels` by task, and `input_ids`.
            num_items: task -> what its sum is divided by; None: its labels here that are not -100.
        """
        state, labels_of = rng_state(batch["input_ids"].device), batch["labels"]
        output = self.compute_loss(model, batch, num_items)

        def apart() -> Tensor:
            with replayed(batch["input_ids"].device, state):
                changed = model(batch, num_items).logits
            terms = (self.term(task, output.logits, changed, labels, num_items) for task, labels in labels_of.items())
            return torch.stack([*terms]).sum()

        output.loss = output.loss + self.weight * self.smoothness(apart)
        return output

    def term(self, task: str, clean: Any, changed: Any, labels: Tensor, num_items: Mapping[str, Any] | None) -> Tensor:
        items = (labels != -100).sum().clamp(min=1) if num_items is None else num_items[task]
        apart = self.divergence(task, clean[task].detach(), changed[task], labels)
        return self.weights.get(task, 1.0) * apart / items


def unit(gradient: Tensor) -> Tensor:
    """Each text's gradient divided by its norm; 0 where that is 0 or not finite."""
    gradient = gradient / gradient.abs().amax((1, 2), keepdim=True)  # first by this: no square may overflow or vanish
    length = gradient.float().flatten(1).norm(dim=1)[:, None, None]
    return torch.where(length.isfinite(), gradient / length, 0.0).to(gradient.dtype)


def rng_state(device: torch.device) -> Tensor:
    """Of the generator that dropout uses there."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else generators(device).get_rng_state()


def set_rng_state(state: Tensor, device: torch.device) -> None:
    torch.cuda.set_rng_state(state, device) if device.type == "cuda" else generators(device).set_rng_state(state)


def generators(device: torch.device) -> Any:
    return torch if device.type == "cpu" else torch.get_device_module(device)


@contextmanager
def replayed(device: torch.device, state: Tensor) -> Iterator[None]:
    """Inside, random numbers come again as from `state` on; afterwards as if nothing had been drawn."""
    before = rng_state(device)
    set_rng_state(state, device)
    try:
        yield
    finally:
        set_rng_state(before, device)


if __name__ == "__main__":
    torch.manual_seed(0)
    look_up = nn.Embedding(9, 4)  # the scores are the sum of a text's vectors
    vat = VAT(nn.ModuleDict({"word_embeddings": look_up}), epsilon=0.1, xi=1e-3)
    ids = torch.tensor([[1, 2], [3, 3]])
    clean = look_up(ids).sum(1).detach()
    found = vat.smoothness(lambda: divergence("", clean, look_up(ids).sum(1), ids[:, 0])).item()
    p = clean.double().softmax(1)  # the KL of a small r is r (diag p - p p^T) r / 2: at most the largest eigenvalue
    worst = torch.linalg.eigvalsh(torch.diag_embed(p) - p[:, :, None] * p[:, None]).amax(1) * 2 * 0.1**2 / 2
    assert 0 < found < 1.02 * worst.sum()
