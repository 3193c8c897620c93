"""Attention that stays inside each of several texts packed into one row.

    isolate = Isolation(encoder)
    encoder(input_ids, **isolate(pieces))           # a mask, and positions that begin anew in each text
    isolate.works(encoder, length=128)              # False: this architecture mixes the texts all the same

For the encoders of transformers positions that begin anew change no attention. B rows, T sub-words.

Copy: with encoder.py, model_error.py; needs torch, transformers, safetensors.
"""

import inspect
from typing import Any

import torch
from torch import Tensor

from .encoder import first_position


class Isolation:
    """Holds what it must know of an encoder, not the encoder."""

    def __init__(self, encoder: Any, causal: bool = False):
        """causal: no sub-word sees a later one."""
        self.config, self.causal = encoder.config, causal
        self.takes_positions = "position_ids" in inspect.signature(encoder.forward).parameters
        self.first_position = first_position(encoder)
        layers = getattr(self.config, "layer_types", None) or ()
        self.window = getattr(self.config, "sliding_window", None) if "sliding_attention" in layers else None

    def __call__(self, pieces: Tensor) -> dict[str, Any]:
        """Inputs of the encoder beside the sub-words.

        Args:
            pieces: (B, T), the same number for all sub-words of a text.
        """
        inputs: dict[str, Any] = {"attention_mask": self.mask(pieces)}
        if self.takes_positions:
            inputs["position_ids"] = positions(pieces) + self.first_position
        return inputs

    def mask(self, pieces: Tensor) -> Any:
        """(B, 1, T, T), True = is seen; where layers see differently far, one for each kind of them."""
        mask = pieces[:, None, :, None] == pieces[:, None, None, :]
        places = torch.arange(pieces.shape[1], device=pieces.device)
        distance = places[:, None] - places  # (T, T)
        if self.causal:
            mask = mask & (distance >= 0)
        if not self.window:
            return self.as_taken(mask)
        near = distance < self.window if self.causal else distance.abs() <= self.window
        return {"full_attention": self.as_taken(mask), "sliding_attention": self.as_taken(mask & near)}

    def as_taken(self, mask: Tensor) -> Tensor:
        """Eager attention adds its mask, without a word also one of True and False."""
        if getattr(self.config, "_attn_implementation", None) != "eager":
            return mask
        return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float32).min)

    @torch.no_grad()
    def works(self, encoder: Any, length: int) -> bool:
        """Whether two texts in a row of this length give what each gives alone: tried out, and nothing is changed."""
        was_training = encoder.training
        encoder.eval()
        tokens = encoder.get_input_embeddings().num_embeddings
        ids = torch.randint(tokens // 2, tokens, (1, length), generator=torch.Generator().manual_seed(0))
        ids = ids.to(next(encoder.parameters()).device)
        pieces = (torch.arange(length, device=ids.device) >= length // 3)[None].long()
        try:
            together = encoder(input_ids=ids, **self(pieces)).last_hidden_state[0]  # (T, H)
            alone = [encoder(input_ids=ids[:, pieces[0] == n]).last_hidden_state[0] for n in (0, 1)]
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):  # it reads no such mask
            return False
        finally:
            encoder.train(was_training)
        return torch.allclose(together, torch.cat(alone), rtol=1e-3, atol=1e-4)


def positions(pieces: Tensor) -> Tensor:
    """(B, T) places inside each text."""
    places = torch.arange(pieces.shape[1], device=pieces.device).expand_as(pieces)
    begins = pieces.diff(dim=1, prepend=pieces[:, :1]) != 0
    return places - (places * begins).cummax(1).values
