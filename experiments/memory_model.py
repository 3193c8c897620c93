"""Bytes that a rank of a data-parallel training needs, with DDP or FSDP2: predicted from shapes, nothing is allocated.

    weights = Weights(before=[(30522, 768), …], layers=[[(768, 768), (768,), …], …], after=[…])
    held(weights, num_ranks=8, parallel="fsdp")          # {"weights": …, "gradients": …, …} of one rank
    peak(weights, Block(768, 3072, 12), num_ranks=8, parallel="fsdp", rows=32, length=128)      # … with activations

FSDP2 (`fully_shard`, each layer by itself, the rest together) cuts each weight along its first dimension into equal
pieces and fills up the last ones, so a weight of 768 rows takes a row of each of 1,024 ranks: 1.33 times its size in
all. Weights, gradients and AdamW's two moments are fp32. What the layers of a BERT keep for the backward pass is
counted as in Korthikanti et al. 2022 (arxiv.org/abs/2205.05198), section 4.1, for today's kernels. The standard library
only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

FP32, BF16 = 4, 2
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20  # bytes: DDP's defaults
SCORES = 2**26  # of a vocabulary that are in fp32 at the same time, see model_utils/vocabulary_loss.py

Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Weights:
    """Shapes of a model's weights, in the model's order."""

    before: Shapes
    layers: Sequence[Shapes]
    after: Shapes

    @property
    def all(self) -> Shapes:
        return [*self.before, *(shape for layer in self.layers for shape in layer), *self.after]

    @property
    def rest(self) -> Shapes:
        """Outside of layers."""
        return [*self.before, *self.after]


def held(weights: Weights, num_ranks: int, parallel: str, rank: int = 0) -> dict[str, int]:
    """Bytes of a rank between a backward pass and the optimizer's step; no rank has more than the first.

    Args:
        parallel: "ddp" or "fsdp"; a single rank has the model as it is.
    """
    pieces = num_ranks if parallel == "fsdp" else 1
    own = FP32 * padded(weights.all, pieces)
    moments = 2 * FP32 * sum(part(shape, rank if pieces > 1 else 0, pieces) for shape in weights.all)
    steps = FP32 * len(weights.all)  # AdamW counts them for each weight
    buckets = own if parallel == "ddp" and num_ranks > 1 else 0  # a copy of the gradients, in which they are summed
    return {"weights": own, "gradients": own, "buckets": buckets, "optimizer": moments + steps}


def part(shape: tuple[int, ...], rank: int, num_ranks: int) -> int:
    """Numbers of a weight that belong to this rank; the first one has the most."""
    rows = -(-shape[0] // num_ranks)
    return max(0, min(rows, shape[0] - rank * rows)) * math.prod(shape[1:])


def padded(shapes: Shapes, num_ranks: int) -> int:
    """Numbers that each rank has memory for, and sends."""
    return sum(part(shape, 0, num_ranks) for shape in shapes)


def bucket_sizes(shapes: Shapes) -> list[int]:
    """Bytes of DDP's buckets in the order in which they are sent: gradients come from the last weight to the first, and
    a bucket is closed once it has reached its size."""
    found, limit = [0], FIRST_BUCKET
    for shape in reversed(shapes):
        if found[-1] >= limit:
            found.append(0)
            limit = BUCKET
        found[-1] += FP32 * math.prod(shape)
    return found


def snapshot(weights: Weights, num_ranks: int = 1, rank: int = 0) -> int:
    """Bytes of main memory for the copy of weights and optimizer that stays there for saves in the background.

    Args:
        num_ranks: over which the optimizer's state is spread when it is saved; 1 = whole.
        rank: the first one has all weights, the others have none.
    """
    return (rank == 0) * whole(weights.all) + held(weights, num_ranks, "fsdp", rank)["optimizer"]


def whole(shapes: Shapes) -> int:
    """Bytes of these weights, or their gradients."""
    return FP32 * sum(map(math.prod, shapes))


@dataclass(frozen=True)
class Block:
    """Sizes of a layer, and how it computes."""

    hidden: int
    intermediate: int
    heads: int
    autocast: bool = True
    """linear layers and attention in bf16, sums and norms in fp32"""
    fused: bool = True
    """attention keeps no scores, and of their dropout only the state of the random numbers"""
    dropout: bool = True
    """with masks of a byte an entry, as on a GPU"""
    norm: int = FP32
    """bytes of a number that goes into a norm"""

    @property
    def item(self) -> int:
        """Bytes of a number that goes into a product of matrices."""
        return BF16 if self.autocast else self.norm


STATISTICS = 2 * FP32  # of a norm, for each sub-word


def layer_activations(block: Block, rows: int, length: int) -> int:
    """Bytes that the forward pass of a layer leaves for its backward pass.

    For each sub-word: queries, keys, values, what attention gives and the input of the first linear layer after its
    norm, each as wide as the layer; the intermediate numbers before and after GELU; and the layer's input, under
    autocast three times, because each of three linear layers casts it for itself. Two norms keep their input, two
    dropouts a mask.
    """
    inputs = 3 if block.autocast else 1
    numbers = block.item * ((inputs + 5) * block.hidden + 2 * block.intermediate)
    norms = 2 * (block.norm * block.hidden + STATISTICS)
    masks = 2 * block.dropout * block.hidden
    return rows * length * (numbers + norms + masks) + attention_scores(block, rows, length)


def attention_scores(block: Block, rows: int, length: int) -> int:
    """Fused: a logarithm for each query. Else a number for each pair of sub-words and each head: the softmax, and with
    dropout the mask and what it leaves."""
    if block.fused:
        return FP32 * rows * block.heads * length
    kept = block.item * (1 + block.dropout) + block.dropout
    return kept * rows * block.heads * length**2


def activations(block: Block, num_layers: int, rows: int, length: int, checkpointing: bool = False) -> dict[str, int]:
    """"kept": bytes from forward to backward, of all layers and the embeddings before them; "again": what a layer keeps
    that is computed a second time, where only the inputs of layers are kept."""
    places = rows * length
    embeddings = places * ((block.norm + block.dropout) * block.hidden + STATISTICS)
    one = layer_activations(block, rows, length)
    inputs = places * block.norm * block.hidden
    kept = embeddings + num_layers * (inputs if checkpointing else one)
    return {"kept": kept, "again": one if checkpointing else 0}


def casts(weights: Weights, checkpointing: bool = False) -> int:
    """Bytes of autocast's bf16 copies of the matrices of layers, which the backward pass needs; where layers are
    computed a second time, of one of them."""
    layers = [BF16 * sum(math.prod(shape) for shape in layer if len(shape) > 1) for layer in weights.layers]
    return max(layers) if checkpointing else sum(layers)


def head_activations(block: Block, vocabulary: int, places: int, masked: int) -> dict[str, int]:
    """Of a masked language model's head, at masked places only, with the loss of model_utils/vocabulary_loss.py.

    Returns:
        kept: the output of the last layer, from which they are taken; the inputs of a linear layer, GELU, norm and the
            last linear layer; autocast's copies of both matrices; and the scores.
        loss: the gradient of the scores, and what it is made of in fp32, a part of the scores at a time; bf16 scores
            are there in fp32, too.
    """
    if not vocabulary:
        return {"kept": 0, "loss": 0}
    scores = masked * vocabulary
    between = masked * (3 * block.item * block.hidden + block.norm * block.hidden + STATISTICS)
    copies = block.autocast * BF16 * block.hidden * (block.hidden + vocabulary)
    return {
        "kept": places * block.norm * block.hidden + between + copies + scores * block.item,
        "loss": scores * block.item + (1 + block.autocast) * FP32 * min(scores, SCORES),
    }


def peak(
    weights: Weights, block: Block, num_ranks: int, parallel: str, *, rows: int, length: int, vocabulary: int = 0,
    masked: int = 0, accumulate: int = 1, checkpointing: bool = False,
) -> dict[str, int]:  # fmt: skip
    """Bytes of a rank by what they are for, at the one of three moments of the last backward pass when it needs most:
    when the gradient of the loss is computed, when that of the last layer is, or when all are.

    A masked language model's last matrix is its table of embeddings: in the end both gradients and their sum are there,
    beside that of earlier micro-batches.

    FSDP2 has whole weights: those outside of layers, from the forward pass on, and one layer, then two, the one at
    work and the one that is fetched, as they travel, so that autocast has no copies of layers. It has whole gradients:
    of all weights if micro-batches are added up, since they are cut into pieces at the last one only; in the end those
    outside of layers, and a copy on its way, of a layer's, then of theirs.

    Args:
        rows, length: of a micro-batch.
        vocabulary, masked: scores, and places that have them; 0 = none.
        accumulate: micro-batches of a step.
    """
    spread = parallel == "fsdp" and num_ranks > 1
    own = held(weights, num_ranks, parallel)
    layer = spread * num_ranks * max(padded(shapes, num_ranks) for shapes in weights.layers)  # numbers
    own_rest = spread * FP32 * padded(weights.rest, num_ranks)
    fetched, rest = block.item * layer, num_ranks * own_rest
    work = activations(block, len(weights.layers), rows, length, checkpointing)
    head = head_activations(block, vocabulary, rows * length, masked)
    added = whole(weights.all) if accumulate > 1 else 0
    copies = (block.autocast and not spread) * casts(weights, checkpointing)
    flowing = rows * length * (block.item * block.intermediate + block.norm * block.hidden)  # gradients of activations
    table = FP32 * block.hidden * vocabulary  # its gradient
    loss = own | {"gradients": added, "gathered": rest + fetched, "bf16 copies": 0 if checkpointing else copies,
                  "activations": work["kept"], "scores": head["kept"] + head["loss"]}  # fmt: skip
    last = own | {"gradients": added + table, "gathered": rest + 2 * fetched, "bf16 copies": copies,
                  "activations": sum(work.values()) + flowing, "scores": 0}  # fmt: skip
    before = rest + (3 if accumulate > 1 else 2) * table + FP32 * layer - own_rest  # that of the table is whole
    end = own | {"gradients": own["gradients"] + max(before, 2 * rest), "gathered": rest}
    end |= dict.fromkeys(list(loss)[5:], 0)
    return max(loss, last, end, key=lambda parts: sum(parts.values()))
