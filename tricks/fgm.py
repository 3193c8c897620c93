"""FGM, the fast gradient method on word embeddings: train also on the worst small change of the input.

Miyato, Dai, Goodfellow: Adversarial Training Methods for Semi-Supervised Text Classification, ICLR 2017,
https://arxiv.org/abs/1605.07725. The embedding rows that the batch looks up move by epsilon * g / ||g||, where g is the
loss gradient with respect to them; the gradient of the loss at that point is added; then the rows move back.

Three ways to use it:

    fgm = FGM(model, epsilon=1.0)
    loss.backward()
    fgm.attack()                                # 1. familiar calls
    model(**batch).loss.backward()
    fgm.restore()

    fgm(lambda: model(**batch).loss.backward()) # 2. closure: restores even if the second pass fails

    sh run.sh --use_fgm --fgm_eps 1.0           # 3. by flag

Exact where copies of this trick usually are not:
  - g is this backward's own gradient, caught by a hook on its way to `.grad`: gradients accumulated before, a loss scale
    and other ranks' gradients do not bend the direction.
  - only the looked-up rows are saved and moved, so the cost does not grow with the vocabulary.
  - no value is read back to the host. A gradient that is zero, NaN or infinite moves nothing.
Cost: a second forward and backward pass. Conflicts: sparse embeddings (`sparse=True`) are refused.
Imports torch only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class FGM:
    """Attack on the embedding tables of a model."""

    def __init__(self, model: nn.Module, epsilon: float = 1.0, emb_name: str = "word_embeddings"):
        """
        Args:
            model: with at least one trainable nn.Embedding whose name contains `emb_name`.
            epsilon: length of the step, for each table over all its rows.
            emb_name: part of the module's name; BERT's kind calls it word_embeddings, GPT-2 wte, Llama embed_tokens.

        Raises: ValueError if no trainable embedding matches.
        """
        named = {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
        matching = {name: m for name, m in named.items() if emb_name in name and m.weight.requires_grad}
        if not matching:
            raise ValueError(f"no trainable embedding has {emb_name!r} in its name; there are {', '.join(named) or 'none'}")
        if any(m.sparse for m in matching.values()):
            raise ValueError("embeddings with sparse=True are not supported")
        self.epsilon = epsilon
        tables = {id(m.weight): Table(m.weight) for m in matching.values()}  # tied modules share one weight
        self.tables = list(tables.values())
        for module in matching.values():
            module.register_forward_pre_hook(tables[id(module.weight)].note_rows)

    def attack(self) -> None:
        """Move the rows of the last backward; call `restore` afterwards."""
        for table in self.tables:
            table.move(self.epsilon)

    def restore(self) -> None:
        """Put the rows back, bit for bit."""
        for table in self.tables:
            table.move_back()

    def __call__(self, backward: Callable[[], Any]) -> Any:
        """Attack, run `backward` (forward and backward of the same batch), restore."""
        self.attack()
        try:
            return backward()
        finally:
            self.restore()


class Table:
    """One embedding weight (V, H), the N rows looked up since its last backward, and their gradient."""

    def __init__(self, weight: nn.Parameter):
        self.weight = weight
        self.looked_up: list[torch.Tensor] = []
        self.rows: torch.Tensor | None = None
        self.saved: torch.Tensor | None = None
        weight.register_hook(self.note_gradient)

    def note_rows(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled() and self.saved is None:
            self.looked_up.append(inputs[0].detach().flatten())

    def note_gradient(self, gradient: torch.Tensor) -> None:
        if self.saved is None and self.looked_up:
            self.rows = torch.cat(self.looked_up)  # (N,), a row may occur several times
            self.gradient = gradient[self.rows]  # (N, H)
            self.norm = gradient.norm()  # of all rows at once: the others have none
            self.looked_up = []

    @torch.no_grad()
    def move(self, epsilon: float) -> None:
        if self.rows is None:
            raise RuntimeError("FGM.attack: no backward pass has reached the embeddings since the last attack")
        self.saved = self.weight[self.rows]  # (N, H)
        usable = self.norm.isfinite() & (self.norm > 0)
        step = torch.where(usable, epsilon * self.gradient / self.norm, 0.0)
        self.weight[self.rows] = self.saved + step  # a repeated row gets the same value each time

    @torch.no_grad()
    def move_back(self) -> None:
        if self.saved is not None:
            self.weight[self.rows] = self.saved
        self.saved = self.rows = None


if __name__ == "__main__":
    torch.manual_seed(0)
    toy = nn.ModuleDict({"word_embeddings": nn.Embedding(9, 4), "out": nn.Linear(4, 2)})
    loss = lambda: toy["out"](toy["word_embeddings"](torch.tensor([[1, 2, 2]]))).pow(2).sum()  # noqa: E731
    weight, fgm, clean = toy["word_embeddings"].weight, FGM(toy), loss()
    before = weight.detach().clone()
    clean.backward()
    step = weight.grad / weight.grad.norm()
    assert fgm(lambda: torch.testing.assert_close(weight.detach() - before, step) or loss().item()) > clean.item()
    assert torch.equal(weight, before)
