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
  - g belongs to the last backward alone, caught by a hook on its way to `.grad`: gradients accumulated before, a loss
    scale and other ranks' gradients do not bend the direction.
  - the rows are those of the look-ups that this backward came through: evaluations, forward passes without a backward,
    gradient checkpointing, deep copies of the model (EMA) and `torch.compile` change nothing.
  - with FSDP2 rows of the whole table move, which a rank has while it works on a batch: as DDP does, each its own rows.
    The table must stay whole between the two passes, as `model.set_reshard_after_backward(False)` has it.
  - a weight tied to an output layer is found; its rows move along their whole gradient, by epsilon together.
  - only these rows are saved and moved, and the second backward adds to their gradients alone, without a gradient of
    the whole table: the attack's cost does not grow with the vocabulary. (Except under torch.distributed, which waits
    for the gradient of each parameter, and with scale_grad_by_freq.)
  - no value is read back to the host. A gradient that is zero, NaN or infinite moves nothing.
Unlike in the paper, one norm is taken over the batch, as everybody does, not one per text.
Cost: a second forward and backward pass. Conflicts, all of them refused with an error: frozen embeddings, sparse ones
(`sparse=True`), batches given as `inputs_embeds`, FSDP1 and nn.DataParallel (their modules hold other weights); by flag
also PGD and FreeLB, which attack the same embeddings, and gradual unfreezing, which freezes them.

Copy: alone; needs torch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# BERT's kind, ModernBERT, Llama's kind, GPT-2
WORD_EMBEDDINGS = ("word_embeddings", "tok_embeddings", "embed_tokens", "wte")


class NoEmbedding(ValueError):
    """There is nothing to attack: a wrong setting, not a bug."""

    exit_code = 2


class FGM:
    """Attack on the embedding tables of a model."""

    def __init__(self, model: nn.Module, epsilon: float = 1.0, emb_name: str | Sequence[str] = WORD_EMBEDDINGS):
        """
        Args:
            model: with at least one trainable nn.Embedding whose name contains `emb_name`.
            epsilon: length of the step, for each table over all its rows.
            emb_name: part of the module's name, or several of which one is enough.

        Raises: ValueError if no trainable embedding matches.
        """
        parts = [emb_name] if isinstance(emb_name, str) else list(emb_name)
        named = {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
        matching = [m for name, m in named.items() if any(part in name for part in parts) and m.weight.requires_grad]
        if not matching:
            found = [name if m.weight.requires_grad else f"{name} (frozen)" for name, m in named.items()]
            raise NoEmbedding(f"no trainable embedding has {' or '.join(parts)} in its name; "
                              f"there are {', '.join(found) or 'none'}")  # fmt: skip
        if any(m.sparse for m in matching):
            raise NoEmbedding("embeddings with sparse=True are not supported")
        self.epsilon = epsilon
        tables = {id(m.weight): Table(m.weight) for m in matching}  # tied modules share one weight
        self.tables = list(tables.values())
        for module in matching:
            module.register_forward_hook(tables[id(module.weight)].note_look_up)

    def attack(self) -> None:
        """Move the rows of the last backward; call `restore` afterwards."""
        if any(table.saved is not None for table in self.tables):
            raise RuntimeError("FGM.attack: called again before FGM.restore")
        reached = [table for table in self.tables if table.rows is not None]
        if not reached:
            raise RuntimeError("FGM.attack: no backward pass has come through the embeddings since the last attack")
        for table in reached:
            table.move(self.epsilon)

    def restore(self) -> None:
        """Put the rows back, bit for bit."""
        for table in self.tables:
            table.move_back()

    def __call__(self, backward: Callable[[], Any]) -> Any:
        """Attack, run `backward` (forward and backward of the same batch), restore."""
        try:
            self.attack()
            return backward()
        finally:
            self.restore()


class Table:
    """One embedding weight (V, H), the N rows that the last backward came through, and their gradient."""

    def __init__(self, weight: Tensor):
        self.looked_up: list[Tensor] = []
        self.rows: Any = None  # (N,), sorted, a row may be in it several times
        self.gradient: Any = None  # (N, H)
        self.saved: Any = None  # (N, H) while the rows are moved
        self.watch(weight)

    def watch(self, weight: Tensor) -> None:
        self.weight = weight
        weight.register_hook(self.note_gradient)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Table":
        """The hooks of a copied model lead here too, where its weight is not ours."""
        return self

    def note_look_up(self, module: nn.Embedding, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """Runs after each look-up; the rows count when a backward comes through it."""
        if not output.requires_grad:
            return None
        if hasattr(self.weight, "full_tensor"):  # spread by FSDP2, which has made it whole for this pass
            self.watch(module.weight)
        if module.weight is not self.weight:
            return None
        rows = inputs[0].detach().flatten()
        if self.saved is None or module.scale_grad_by_freq or in_process_group():
            output.register_hook(lambda _: self.looked_up.append(rows))
            return None
        output = output.detach().requires_grad_()
        output.register_hook(partial(self.add_gradient, rows, module.padding_idx))
        return output

    @torch.no_grad()
    def add_gradient(self, rows: Tensor, padding_idx: int | None, gradient: Tensor) -> None:
        """What autograd would do with the gradient of a look-up of the N `rows`, without making (V, H) zeros for it."""
        gradient = gradient.reshape(len(rows), -1)
        if padding_idx is not None:
            gradient = gradient.masked_fill((rows == padding_idx)[:, None], 0.0)
        numbers = torch.searchsorted(rows.sort().values, rows)  # (N,), the same for the same row
        # sums those of the same row in a fixed order on every device, as index_add_ does not
        sums = torch.ops.aten.embedding_dense_backward(gradient, numbers, len(rows), -1, False)  # (N, H)
        if self.weight.grad is None:
            self.weight.grad = torch.zeros_like(self.weight)
        self.weight.grad[rows] = self.weight.grad[rows] + sums[numbers]

    def note_gradient(self, gradient: Tensor) -> None:
        """Runs once per backward, after those of its look-ups, with the gradient of this backward alone."""
        if self.saved is None:
            self.rows = torch.cat(self.looked_up).sort().values if self.looked_up else None
            self.gradient = None if self.rows is None else gradient.detach()[self.rows]
        self.looked_up = []

    @torch.no_grad()
    def move(self, epsilon: float) -> None:
        first = self.rows.diff(prepend=self.rows[:1] - 1) > 0  # (N,), True = not a repetition
        direction = self.gradient / self.gradient.abs().amax()  # first by this: no square may overflow or vanish
        length = (direction * first[:, None]).norm()  # NaN for a gradient that is zero or not finite
        step = torch.where(length.isfinite(), epsilon * direction / length, 0.0)  # (N, H)
        self.saved = self.weight[self.rows]
        self.weight[self.rows] = self.saved + step  # a repeated row gets the same value each time

    @torch.no_grad()
    def move_back(self) -> None:
        if self.saved is not None and self.weight.untyped_storage().size():  # FSDP2 has thrown what was moved away
            self.weight[self.rows] = self.saved
        self.saved = self.rows = self.gradient = None


def in_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


if __name__ == "__main__":
    torch.manual_seed(0)
    embeddings = nn.Embedding(9, 4)
    fgm, weight = FGM(nn.ModuleDict({"word_embeddings": embeddings})), embeddings.weight
    loss = lambda: embeddings(torch.tensor([[1, 2, 2]])).pow(2).sum()  # noqa: E731
    before, clean = weight.detach().clone(), loss()
    (gradient,) = torch.autograd.grad(clean, weight)  # also runs the hooks, as clean.backward() does
    step = gradient / gradient.norm()
    assert fgm(lambda: torch.testing.assert_close(weight.detach() - before, step) or loss().item()) > clean.item()
    assert torch.equal(weight, before)
