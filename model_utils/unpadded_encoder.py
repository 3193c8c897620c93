"""An encoder of BERT's family without padding: every linear layer runs on real sub-words only.

    use_unpadding(encoder)                                    # in place; weights and their names stay
    encoder(input_ids=ids, attention_mask=mask)               # last_hidden_state (R, T, H) as before, 0 at padding

The real sub-words of a batch stand behind each other in one row, each text with positions of its own; attention goes
from text to text: on a CPU in tiles of texts of about the same length, padded a little, on a GPU as jagged nested
tensors, for which torch has fused kernels. It works for any model of transformers whose layers see other sub-words in
attention only, and hand what they are called with on to it: BERT, RoBERTa, XLM-R, ELECTRA, ERNIE … It is tried out
first, and refused for others.

R inputs, T sub-words of the longest, N real sub-words of all, L sub-words in the row, A heads of size D, H hidden size.

Copy: with cpu_attention.py, cpu_dropout.py, encoder.py, model_error.py; needs torch, transformers, numpy, safetensors.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from .cpu_attention import attention_forward
from .encoder import first_position
from .model_error import ModelError

NAME = "unpadded"
WASTE = 64**2  # scores of a head that a tile may have of padding: another tile takes as long as some thousands
BITS = 6  # that lengths of the row on a CPU have: in bf16 a product of a new shape waits until its kernel is made


def use_unpadding(encoder: Any) -> None:
    """In place. Raises ModelError for an encoder that it does not work for, which then stays as it is."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    kind, layers = encoder.config._attn_implementation, getattr(encoder.config, "layer_types", None) or ()
    expected = tried(encoder) if kind == "sdpa" and "sliding_attention" not in layers else None
    if expected is not None:
        encoder.set_attn_implementation(NAME)
        unpadding = Unpadding(encoder)
        found = tried(encoder)
        if found is not None and torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
            return
        unpadding.remove()
        encoder.set_attn_implementation(kind)
    raise ModelError(f"unpad: {type(encoder).__name__} cannot be called without padding; leave it out")


@dataclass
class Row:
    """Where the sub-words of a batch are when they stand in one row."""

    places: Tensor
    """(L,) of R * T; L - N copies of the last one fill the row up on a CPU, and nothing looks at them"""
    num_real: int
    """N"""
    ends: Tensor
    """(R + 1,) where texts begin and end in the row"""
    size: torch.Size
    """R, T"""
    tiles: "Tiles | None" = None
    """on a CPU, where texts stand in the row by their length"""


@dataclass
class Tiles:
    """Neighbouring texts that attention works on together, each tile padded to its longest text; M places in all."""

    shapes: list[tuple[int, int]]
    """texts, sub-words of the longest"""
    masks: list[Tensor | None]
    """(texts, 1, 1, longest) of each tile, True = real; None where nothing is padded"""
    into: Tensor
    """(M,) what stands there of the row; at padding the last sub-word of the text"""
    back: Tensor
    """(N,) where each of the row stands"""
    length: int
    """L"""


def row_of(mask: Tensor, places: Tensor | None = None) -> Row:
    """
    Args:
        mask: (R, T), 1 = real.
        places: (N,) of R * T, with L = N; None: found here, for which the host waits for a GPU.
    """
    lengths, tiles = mask.sum(1), None
    if mask.device.type == "cpu":
        lengths, order = lengths.sort()
        rows, columns = mask[order].nonzero(as_tuple=True)
        tiles = tiles_of(lengths)
        real = order[rows] * mask.shape[1] + columns
        places = torch.cat([real, real[-1:].expand(tiles.length - len(real))])
    elif places is None:
        places = mask.flatten().nonzero().flatten()
    assert places is not None
    num_real = len(places) if tiles is None else len(tiles.back)
    return Row(places, num_real, torch.nn.functional.pad(lengths.cumsum(0), (1, 0)), mask.shape, tiles)


def tiles_of(lengths: Tensor) -> Tiles:
    """lengths: (R,), rising."""
    shapes: list[tuple[int, int]] = []
    wasted = 0
    for length in reversed(lengths.tolist()):
        texts, longest = shapes[-1] if shapes else (0, 0)
        wasted += longest**2 - length**2
        if texts and wasted <= WASTE:
            shapes[-1] = texts + 1, longest
        else:
            shapes.append((1, length))
            wasted = 0
    shapes.reverse()
    widths = torch.tensor([longest for texts, longest in shapes for _ in range(texts)])  # (R,)
    text = torch.repeat_interleave(widths)  # (M,)
    place = torch.arange(len(text)) - (widths.cumsum(0) - widths)[text]
    real = place < lengths[text]
    into = (lengths.cumsum(0) - lengths)[text] + place.minimum(lengths[text] - 1)
    parts = real.split([texts * longest for texts, longest in shapes])
    masks = [None if bool(part.all()) else part.view(texts, 1, 1, longest)
             for part, (texts, longest) in zip(parts, shapes, strict=True)]  # fmt: skip
    back = real.nonzero().flatten()
    return Tiles(shapes, masks, into, back, rounded_up(len(back)))


def rounded_up(length: int) -> int:
    """To a number with BITS significant bits, or to a multiple of 8: of 256 and longer 3 % more at most."""
    multiple = max(8, 2 ** (length.bit_length() - BITS))
    return -(-length // multiple) * multiple


class Unpadding:
    """Flattens what an encoder is called with, and pads what it returns."""

    def __init__(self, encoder: Any):
        self.first_position = first_position(encoder)
        self.row: Row | None = None
        self.hooks = [encoder.register_forward_pre_hook(self.flatten, with_kwargs=True),
                      encoder.register_forward_hook(self.pad)]  # fmt: skip

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def flatten(self, encoder: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> Any:
        """Before the forward pass; without a mask nothing is padded, and nothing changes."""
        places = inputs.pop("real_places", None)
        mask = inputs.pop("attention_mask", None)
        if mask is None:
            return args, inputs
        self.row = row = row_of(mask, places)
        rows = {name: value.flatten()[row.places][None] for name, value in inputs.items()
                if name in ("input_ids", "token_type_ids")}  # fmt: skip
        positions = (mask.cumsum(1) - 1 + self.first_position).flatten()[row.places][None]
        return args, inputs | rows | {"position_ids": positions, "unpadded": row}

    def pad(self, encoder: Any, args: tuple[Any, ...], output: Any) -> Any:
        """After it."""
        if self.row is None:
            return output
        row, self.row = self.row, None
        output.last_hidden_state = padded(output.last_hidden_state, row)
        if output.get("hidden_states") is not None:
            output.hidden_states = tuple(padded(hidden, row) for hidden in output.hidden_states)
        output.pooler_output = None  # of the first sub-word of the row
        return output


def padded(hidden: Tensor, row: Row) -> Tensor:
    """(1, L, H) -> (R, T, H)"""
    full = hidden.new_zeros(row.size.numel(), hidden.shape[-1])
    real = slice(row.num_real)
    return full.index_copy(0, row.places[real], hidden[0, real]).unflatten(0, row.size)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, unpadded: Row | None = None,
    dropout: float = 0.0, scaling: float | None = None, **more: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """As transformers calls it: (1, A, L, D) each; returns (1, L, A, D)."""
    if unpadded is None:
        return attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more)
    if unpadded.tiles is None:
        return jagged(query, key, value, unpadded, dropout, scaling), None
    tiles = unpadded.tiles
    sizes = [texts * longest for texts, longest in tiles.shapes]
    inputs = (Spread.apply(x[0].transpose(0, 1), tiles).split(sizes) for x in (query, key, value))
    found = []
    for shape, mask, *own in zip(tiles.shapes, tiles.masks, *inputs, strict=True):
        q, k, v = (x.unflatten(0, shape).transpose(1, 2) for x in own)  # (texts, A, longest, D)
        found.append(attention_forward(module, q, k, v, mask, dropout=dropout, scaling=scaling, is_causal=False)[0])
    return Gather.apply(torch.cat([texts.flatten(0, 1) for texts in found]), tiles)[None], None


class Spread(torch.autograd.Function):
    """(L, A, D) -> (M, A, D); what padding stands for gets no gradient, as nothing looks at it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tiles: Tiles) -> Tensor:
        ctx.tiles = tiles
        return x.index_select(0, tiles.into)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return in_row(gradient, ctx.tiles), None


class Gather(torch.autograd.Function):
    """(M, A, D) -> (L, A, D)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tiles: Tiles) -> Tensor:
        ctx.tiles = tiles
        return in_row(x, tiles)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        full = gradient.new_zeros(len(ctx.tiles.into), *gradient.shape[1:])
        return full.index_copy_(0, ctx.tiles.back, gradient[: len(ctx.tiles.back)]), None


def in_row(x: Tensor, tiles: Tiles) -> Tensor:
    """(M, A, D) -> (L, A, D), zeros behind the real sub-words"""
    found = x.new_empty(tiles.length, *x.shape[1:])
    found[len(tiles.back) :] = 0
    torch.index_select(x, 0, tiles.back, out=found[: len(tiles.back)])
    return found


def jagged(query: Tensor, key: Tensor, value: Tensor, row: Row, dropout: float, scaling: float | None) -> Tensor:
    """With nested tensors, told bounds of the lengths, which torch would else find out on the device."""

    def nested(x: Tensor) -> Tensor:
        values = x[0].transpose(0, 1).contiguous()  # (N, A, D)
        texts = torch.nested.nested_tensor_from_jagged(values, row.ends, min_seqlen=1, max_seqlen=row.size[1])
        return texts.transpose(1, 2)

    found = scaled_dot_product_attention(nested(query), nested(key), nested(value), dropout_p=dropout, scale=scaling)
    return found.transpose(1, 2).values()[None]


@torch.no_grad()
def tried(encoder: Any) -> Tensor | None:
    """What it gives for two texts of unlike length: the real sub-words, (N, H); None if it cannot be called so."""
    was_training = encoder.training
    tokens = encoder.get_input_embeddings().num_embeddings
    ids = torch.randint(tokens // 2, tokens, (2, 12), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(12) < torch.tensor([[7], [12]])).long()
    ids, mask = (x.to(encoder.device) for x in (ids, mask))
    try:
        return encoder.eval()(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return None
    finally:
        encoder.train(was_training)
