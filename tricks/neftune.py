"""NEFTune: uniform noise on the embedded texts in training.

Jain, Chiang, Wen, Kirchenbauer et al.: NEFTune: Noisy Embeddings Improve Instruction Finetuning, ICLR 2024,
https://arxiv.org/abs/2310.05914. To each embedded sub-word (-1, 1)-uniform noise times alpha / sqrt(L * H) is added,
L being the sub-words of the text and H the hidden size, so that the noise of a text has the same length for any L.

Three ways to use it:

    neftune = NEFTune(model, alpha=5.0)                 # 1. from now on in every forward pass in training mode

    with NEFTune(model, alpha=5.0):                     # 2. a context
        train(model)

    sh run.sh --use_neftune --neftune_alpha 5.0         # 3. by flag

Exact where copies of this trick usually are not: padding is not counted in L and gets no noise where the embedding
has a `padding_idx`, so that a text is treated alike whatever it is batched with; tied output layers see no noise;
none in evaluation.
Cost: one random number per embedded value. Conflicts: batches given as `inputs_embeds`, which get no noise.

Copy: alone; needs torch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

# BERT's kind, ModernBERT, Llama's kind, GPT-2
WORD_EMBEDDINGS = ("word_embeddings", "tok_embeddings", "embed_tokens", "wte")


class NoEmbedding(ValueError):
    """There is nothing to add noise to: a wrong setting, not a bug."""

    exit_code = 2


class NEFTune:
    """Hooks on the embedding layers of a model."""

    def __init__(self, model: nn.Module, alpha: float = 5.0, emb_name: str | Sequence[str] = WORD_EMBEDDINGS):
        """
        Args:
            model: with at least one nn.Embedding whose name contains `emb_name`.
            alpha: strength; the noise of a text has a length of about alpha / sqrt(3).
            emb_name: part of the module's name, or several of which one is enough.

        Raises: ValueError if no embedding matches.
        """
        parts = [emb_name] if isinstance(emb_name, str) else list(emb_name)
        tables = {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
        found = [module for name, module in tables.items() if any(part in name for part in parts)]
        if not found:
            raise NoEmbedding(f"no embedding has {' or '.join(parts)} in its name; "
                              f"there are {', '.join(tables) or 'none'}")  # fmt: skip
        self.alpha = alpha
        self.handles = [module.register_forward_hook(self.look_up) for module in found]

    def look_up(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Runs after each look-up of (B texts, T sub-words)."""
        if not module.training:
            return output
        padding, ids = getattr(module, "padding_idx", None), inputs[0]
        real = torch.ones_like(ids) if padding is None else ids != padding  # (B, T)
        size = (real.sum(1, keepdim=True) * output.shape[-1]).clamp(min=1)[..., None]  # (B, 1, 1)
        return output + (2 * torch.rand_like(output) - 1) * real[..., None] * self.alpha / size.sqrt()

    def remove(self) -> None:
        """No noise any more."""
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> "NEFTune":
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


if __name__ == "__main__":
    look_up = nn.Embedding(9, 64, padding_idx=0)
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    with NEFTune(nn.ModuleDict({"word_embeddings": look_up}), alpha=5.0):
        noise = look_up(ids) - look_up.weight[ids]
    assert not noise[1, 2:].any() and noise[0].abs().max() <= 5 / (4 * 64) ** 0.5
    torch.testing.assert_close(noise.flatten(1).norm(dim=1), torch.full((2,), 5 / 3**0.5), rtol=0.15, atol=0)
