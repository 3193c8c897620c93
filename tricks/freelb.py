"""FreeLB, "free" large-batch adversarial training: the mean gradient over the steps of an attack on the embedded texts.

Zhu, Cheng, Gan, Sun, Goldstein, Liu: FreeLB: Enhanced Adversarial Training for Natural Language Understanding, ICLR
2020, https://arxiv.org/abs/1909.11764, algorithm 1. A change r is added to the embedded sub-words of each text, which
is uniform in (-epsilon, epsilon) / sqrt(sub-words * hidden size) at first. In each of `steps` passes 1/steps of the
gradient of the weights is collected, and r <- P(r + alpha * g / ||g||), g being the loss gradient with respect to r,
P the projection into the ball of radius epsilon.

Three ways to use it; no plain pass comes before:

    freelb = FreeLB(model, epsilon=0.5, alpha=0.3, steps=3)
    for _ in freelb:                                    # 1. a loop around forward and backward
        model(**batch).loss.backward()

    freelb(lambda: model(**batch).loss.backward())      # 2. closure

    sh run.sh --use_freelb --freelb_steps 3             # 3. by flag

Exact where copies of this trick usually are not: it is a mean over the steps, not a sum on top of a plain pass;
gradients accumulated before are neither divided nor lost, also when a pass fails; norms are those of each text;
padding gets no noise where the embedding has a `padding_idx`; tied output layers stay where they are; no value is
read back to the host; a gradient that is zero, NaN or infinite moves nothing.
Cost: `steps` forward and backward passes instead of one; while gradients are accumulated, a second copy of them.
Conflicts, refused with an error: frozen embeddings, batches given as `inputs_embeds`; by flag also FGM and PGD, which
attack the same embeddings, VAT, which changes what they return too, gradual unfreezing, which freezes them, SAM and
AWP, which take the main pass themselves. Dropout draws a new mask in each pass. In DDP only the last pass may average
gradients (`no_sync` around the others; our trainer reads `passes`).

Copy: alone; needs torch.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# BERT's kind, ModernBERT, Llama's kind, GPT-2
WORD_EMBEDDINGS = ("word_embeddings", "tok_embeddings", "embed_tokens", "wte")


class NoEmbedding(ValueError):
    """There is nothing to attack: a wrong setting, not a bug."""

    exit_code = 2


class FreeLB:
    """Changes of what the embedding layers of a model return: N look-ups of (B texts, T sub-words, H)."""

    def __init__(
        self,
        model: nn.Module,
        epsilon: float = 0.5,
        alpha: float = 0.3,
        steps: int = 3,
        emb_name: str | Sequence[str] = WORD_EMBEDDINGS,
    ):
        """
        Args:
            model: with at least one trainable nn.Embedding whose name contains `emb_name`.
            epsilon: greatest norm of the change of a text.
            alpha: length of a step.
            steps: number of passes.
            emb_name: part of the module's name, or several of which one is enough.

        Raises: ValueError for impossible values, and if no trainable embedding matches.
        """
        if steps < 1:
            raise ValueError(f"FreeLB: steps must be at least 1, found {steps}")
        parts = [emb_name] if isinstance(emb_name, str) else list(emb_name)
        tables = {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
        found = [m for name, m in tables.items() if any(part in name for part in parts) and m.weight.requires_grad]
        if not found:
            names = [name if m.weight.requires_grad else f"{name} (frozen)" for name, m in tables.items()]
            raise NoEmbedding(f"no trainable embedding has {' or '.join(parts)} in its name; "
                              f"there are {', '.join(names) or 'none'}")  # fmt: skip
        self.epsilon, self.alpha, self.steps = epsilon, alpha, steps
        self.passes = steps
        self.weights = list(model.parameters())
        self.active = False
        self.changes: list[Tensor] = []  # r of each look-up
        self.gradients: dict[int, Tensor] = {}  # number of a look-up -> g of this pass
        self.num_look_ups = 0
        for module in found:
            module.register_forward_hook(self.look_up)

    def look_up(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Runs after each look-up: adds r, and has its gradient noted by the backward."""
        if not self.active or not torch.is_grad_enabled():
            return output
        if self.num_look_ups == len(self.changes):
            self.changes.append(self.noise(inputs[0], output, getattr(module, "padding_idx", None)))
        output = output + self.changes[self.num_look_ups]
        output.register_hook(partial(self.gradients.__setitem__, self.num_look_ups))
        self.num_look_ups += 1
        return output

    def noise(self, ids: Tensor, output: Tensor, padding_idx: int | None) -> Tensor:
        real = torch.ones_like(ids) if padding_idx is None else ids != padding_idx  # (B, T)
        size = (real.sum(1, keepdim=True) * output.shape[-1]).clamp(min=1)[:, None]  # (B, 1, 1)
        return (2 * torch.rand_like(output) - 1) * real[..., None] * self.epsilon / size.sqrt()

    def __iter__(self) -> Generator[int]:
        """The forward and backward of the same batch belong into the loop."""
        trained = [weight for weight in self.weights if weight.requires_grad]
        accumulated = [weight.grad for weight in trained]
        collected = False
        self.active = True
        try:
            for weight in trained:
                weight.grad = None
            for step in range(1, self.steps + 1):
                self.num_look_ups, self.gradients = 0, {}
                if step == self.steps:  # before this pass, so that DDP averages them too
                    add_multiples(trained, accumulated, self.steps)
                yield step
                if not self.gradients:
                    raise RuntimeError("FreeLB: no backward pass has come through the embeddings")
                self.changes = [self.moved(r, self.gradients[number]) for number, r in enumerate(self.changes)]
            torch._foreach_div_([weight.grad for weight in trained if weight.grad is not None], self.steps)
            collected = True
        finally:
            if not collected:
                for weight, gradient in zip(trained, accumulated, strict=True):
                    weight.grad = gradient
            self.active, self.changes, self.gradients = False, [], {}

    def __call__(self, backward: Callable[[], Any]) -> Any:
        """Run `backward` (forward and backward of the same batch) `steps` times; returns what the first one does."""
        outputs = []
        with closing(self.__iter__()) as steps:
            for step in steps:
                output = backward()
                outputs += [output] * (step == 1)
        return outputs[0]

    @torch.no_grad()
    def moved(self, change: Tensor, gradient: Tensor) -> Tensor:
        """P(r + alpha * g / ||g||), each text by itself."""
        change = change + self.alpha * unit(gradient)
        length = norm(change)
        return change * (self.epsilon / length).nan_to_num(1.0).clamp(max=1.0)


def add_multiples(weights: Sequence[Tensor], gradients: Sequence[Tensor | None], factor: int) -> None:
    """weight.grad += factor * gradient; `gradients` stay as they are."""
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is not None:
            weight.grad = factor * gradient if weight.grad is None else weight.grad.add_(gradient, alpha=factor)


def norm(values: Tensor) -> Tensor:
    """Of each text: (B, 1, 1) in fp32."""
    return values.float().flatten(1).norm(dim=1)[:, None, None]


def unit(gradient: Tensor) -> Tensor:
    """Each text's gradient divided by its norm; 0 where that is 0 or not finite."""
    gradient = gradient / gradient.abs().amax((1, 2), keepdim=True)  # first by this: no square may overflow or vanish
    length = norm(gradient)
    return torch.where(length.isfinite(), gradient / length, 0.0).to(gradient.dtype)


if __name__ == "__main__":
    look_up, ids = nn.Embedding(9, 4), torch.tensor([[1, 2], [3, 3]])
    freelb = FreeLB(nn.ModuleDict({"word_embeddings": look_up}), steps=3)
    expected = torch.autograd.grad(2 * look_up(ids).sum(), look_up.weight)  # the same at every r, as it is linear
    look_up(ids).sum().backward()
    freelb(lambda: look_up(ids).sum().backward())
    torch.testing.assert_close([look_up.weight.grad], list(expected))
