"""PGD, projected gradient descent on embedded texts: train also on the worst input that several steps find.

Madry, Makelov, Schmidt, Tsipras, Vladu: Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018,
https://arxiv.org/abs/1706.06083. A change r is added to the embedded sub-words of each text, from r = 0 on: `steps`
times r <- P(r + alpha * g / ||g||), g being the loss gradient there and P the projection into the ball of radius
epsilon. The gradient of the loss at the last r is added to that of the plain pass.

Three ways to use it:

    pgd = PGD(model, epsilon=1.0, alpha=0.3, steps=3)
    model(**batch).loss.backward()
    for _ in pgd:                                       # 1. a loop around the same forward and backward
        model(**batch).loss.backward()

    pgd(lambda: model(**batch).loss.backward())         # 2. closure

    sh run.sh --use_pgd --pgd_steps 3                   # 3. by flag

Exact where copies of this trick usually are not:
  - r is added to what the embeddings return, not to their table: the same word in another place may move differently, a
    tied output layer stays where it is, nothing has to be put back, and the cost does not grow with the vocabulary.
  - norms are those of each text, so that a text moves the same whatever it is batched with.
  - the passes that only look for r compute no gradients of weights, and those accumulated before stay as they are, also
    when a pass fails.
  - no value is read back to the host. A gradient that is zero, NaN or infinite moves nothing.
Cost: `steps` more forward and backward passes, all but the last of them without gradients of weights.
Conflicts, refused with an error: frozen embeddings, batches given as `inputs_embeds`; by flag also FGM and FreeLB,
which attack the same embeddings, VAT, which changes what they return too, and gradual unfreezing, which freezes them.
In DDP only the last pass may average gradients (`no_sync` around the others; our trainer reads `passes`).

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


class PGD:
    """Attack on what the embedding layers of a model return: N look-ups of (B texts, T sub-words, H)."""

    def __init__(
        self,
        model: nn.Module,
        epsilon: float = 1.0,
        alpha: float = 0.3,
        steps: int = 3,
        emb_name: str | Sequence[str] = WORD_EMBEDDINGS,
    ):
        """
        Args:
            model: with at least one trainable nn.Embedding whose name contains `emb_name`.
            epsilon: greatest norm of the change of a text.
            alpha: length of a step.
            steps: number of steps, hence of additional passes.
            emb_name: part of the module's name, or several of which one is enough.

        Raises: ValueError for impossible values, and if no trainable embedding matches.
        """
        if steps < 1:
            raise ValueError(f"PGD: steps must be at least 1, found {steps}")
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
        self.changes: list[Tensor] = []  # r of each look-up; empty outside of an attack
        self.gradients: dict[int, Tensor] = {}  # number of a look-up -> g of the last backward
        self.num_look_ups = 0
        for module in found:
            module.register_forward_hook(self.look_up)

    def look_up(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Runs after each look-up: adds r, and has its gradient noted by the backward."""
        if not torch.is_grad_enabled():
            return output
        if self.gradients:  # a backward has come since: these are the look-ups of another pass
            self.num_look_ups, self.gradients = 0, {}
        if self.changes:
            output = output + self.changes[self.num_look_ups].requires_grad_()
        if output.requires_grad:
            output.register_hook(partial(self.gradients.__setitem__, self.num_look_ups))
            self.num_look_ups += 1
        return output

    def __iter__(self) -> Generator[int]:
        """Before each item r is moved; the forward and backward of the same batch belong into the loop."""
        trained = [weight for weight in self.weights if weight.requires_grad]
        try:
            for step in range(1, self.steps + 1):
                if not self.gradients:
                    raise RuntimeError("PGD: no backward pass has come through the embeddings since the last attack")
                gradients = [self.gradients[number] for number in sorted(self.gradients)]
                before = self.changes or [torch.zeros_like(gradient) for gradient in gradients]
                self.changes = [self.moved(r, g) for r, g in zip(before, gradients, strict=True)]
                for weight in trained:
                    weight.requires_grad_(step == self.steps)
                yield step
        finally:
            for weight in trained:
                weight.requires_grad_()
            self.changes, self.gradients, self.num_look_ups = [], {}, 0

    def __call__(self, backward: Callable[[], Any]) -> Any:
        """Run `backward` (forward and backward of the same batch) at each r; returns what the last one does."""
        with closing(self.__iter__()) as steps:
            for _ in steps:
                output = backward()
        return output

    @torch.no_grad()
    def moved(self, change: Tensor, gradient: Tensor) -> Tensor:
        """P(r + alpha * g / ||g||), each text by itself."""
        change = change + self.alpha * unit(gradient)
        length = norm(change)
        return change * (self.epsilon / length).nan_to_num(1.0).clamp(max=1.0)


def norm(values: Tensor) -> Tensor:
    """Of each text: (B, 1, 1) in fp32."""
    return values.float().flatten(1).norm(dim=1)[:, None, None]


def unit(gradient: Tensor) -> Tensor:
    """Each text's gradient divided by its norm; 0 where that is 0 or not finite."""
    gradient = gradient / gradient.abs().amax((1, 2), keepdim=True)  # first by this: no square may overflow or vanish
    length = norm(gradient)
    return torch.where(length.isfinite(), gradient / length, 0.0).to(gradient.dtype)


if __name__ == "__main__":
    look_up, ids, seen = nn.Embedding(9, 4), torch.tensor([[1, 2], [3, 3]]), []
    pgd = PGD(nn.ModuleDict({"word_embeddings": look_up}), epsilon=0.5, alpha=0.3, steps=4)
    look_up(ids).pow(2).sum().backward()
    for _ in pgd:
        seen.append(look_up(ids).pow(2).sum())
        seen[-1].backward()
    lengths = look_up(ids).flatten(1).norm(dim=1)  # uphill is along the text's own vectors, at most by 0.5
    torch.testing.assert_close(torch.stack(seen[:1] + seen[-1:]).detach(), torch.stack(
        [((lengths + r) ** 2).sum() for r in (0.3, 0.5)]).detach())  # fmt: skip
