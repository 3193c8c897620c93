"""Time of a data-parallel step on a cluster that is not there, and what it is made of.

    work = Work(weights, places=32 * 512, flops=…, layer_share=0.9)
    step_time(work, Cluster(), num_gpus=1024, parallel="fsdp")       # {"seconds": …, "mfu": …, …}
    bytes_sent(work, num_ranks=1024, parallel="ddp")                 # by each rank, in a step

All of it follows from the assumptions in `Cluster`; nothing is measured. Bytes of a ring: Patarasuk and Yuan 2009
(doi.org/10.1016/j.jpdc.2008.09.002); steps of rings and trees: as NCCL counts them to choose between them
(github.com/NVIDIA/nccl, src/graph/tuning.cc); buckets: Li et al. 2020 (arxiv.org/abs/2006.15704); gathering layer by
layer: Zhao et al. 2023 (arxiv.org/abs/2304.11277). Copy together with: memory_model.py. The standard library only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from .memory_model import BF16, FP32, Weights, bucket_sizes, padded


@dataclass(frozen=True)
class Cluster:
    """Assumptions; by default nodes of 8 H100 with a network card of 400 Gb/s for each."""

    peak: float = 989e12
    """FLOP/s of a GPU in bf16, dense"""
    reachable: float = 0.45
    """share of the peak that a GPU reaches when it waits for no other"""
    memory: float = 80e9
    """bytes of a GPU"""
    node: int = 8
    """GPUs of a node"""
    node_bandwidth: float = 450e9
    """bytes/s that a GPU sends within its node"""
    network_bandwidth: float = 50e9
    """bytes/s that a GPU sends to other nodes"""
    link_share: float = 0.8
    """share of both that a collective operation reaches"""
    node_latency: float = 1.9e-6
    """seconds of a step of a ring or tree within a node"""
    network_latency: float = 4e-6
    """seconds of a step between nodes"""
    jitter: float = 0.02
    """standard deviation of a rank's time for its computation, as a share of it"""
    host_bandwidth: float = 25e9
    """bytes/s from a GPU into main memory"""
    disk_bandwidth: float = 1e9
    """bytes/s that a process writes"""
    gpu_mtbf: float = 50_700.0
    """hours of one GPU between failures that end the job"""
    restart: float = 600.0
    """seconds from a failure to the first step after it"""


@dataclass(frozen=True)
class Work:
    """What a rank does in a step."""

    weights: Weights
    places: int
    """sub-words of a micro-batch"""
    flops: float
    """of its forward and backward pass"""
    layer_share: float = 1.0
    """of these operations, within layers"""
    accumulate: int = 1
    """micro-batches"""
    item: int = BF16
    """bytes of a layer's weight on its way, with FSDP2; other weights, and all gradients, are fp32"""
    checkpointing: bool = False
    """layers are computed a second time in the backward pass"""


def layer_flops(weights: Weights, hidden: int, rows: int, length: int) -> float:
    """Forward and backward pass of all layers, as trainer/speed.py counts them (Chowdhery et al. 2022,
    arxiv.org/abs/2204.02311, appendix B)."""
    matrices = sum(math.prod(shape) for layer in weights.layers for shape in layer if len(shape) > 1)
    return rows * length * (6 * matrices + 12 * len(weights.layers) * hidden * length)


def head_flops(hidden: int, vocabulary: int, places: float) -> float:
    """The same of a masked language model's head at its masked places."""
    return 6 * places * hidden * (hidden + vocabulary) if vocabulary else 0.0


# ---------------------------------------------------------------------------------------------------------------- bytes


def payloads(work: Work, num_ranks: int, parallel: str) -> dict[str, list[int]]:
    """Bytes of the whole array of each collective operation of a step.

    DDP sums micro-batches before it sends anything. FSDP2 gathers a layer for each of its passes, forward and backward,
    and the weights outside of layers once for both; gradients are sent after the last micro-batch only.
    """
    if num_ranks == 1:
        return {}
    if parallel == "ddp":
        return {"all-reduce": bucket_sizes(work.weights.all)}
    rest, *layers = [num_ranks * padded(unit, num_ranks) for unit in (work.weights.rest, *work.weights.layers)]
    gathered = [work.item * layer for layer in layers]
    return {"all-gather": [FP32 * rest, *gathered, *reversed(gathered)] * work.accumulate,
            "reduce-scatter": [FP32 * unit for unit in (*reversed(layers), rest)]}  # fmt: skip


def bytes_sent(work: Work, num_ranks: int, parallel: str) -> float:
    """By each rank in a step, and received; a sum over all is a reduce-scatter and an all-gather of the sums."""
    found = payloads(work, num_ranks, parallel)
    twice = 2 if parallel == "ddp" else 1
    return sum(twice * ring_bytes(size, num_ranks) for sizes in found.values() for size in sizes)


def ring_bytes(size: int, num_ranks: int) -> float:
    """Of an all-gather or a reduce-scatter of a whole array of this size."""
    return (num_ranks - 1) / num_ranks * size


# -------------------------------------------------------------------------------------------------------------- seconds


def gather_time(size: int, num_gpus: int, cluster: Cluster) -> float:
    """Seconds of an all-gather or a reduce-scatter: rings over all GPUs, one for each network card of a node."""
    nodes, local = layout(num_gpus, cluster)
    latency = nodes * (local - 1) * cluster.node_latency + (nodes - 1) * cluster.network_latency
    return ring_bytes(size, num_gpus) / bandwidth(num_gpus, cluster) + latency


def all_reduce_time(size: int, num_gpus: int, cluster: Cluster) -> float:
    """Twice the bytes, over trees of nodes, whose steps grow as a logarithm."""
    nodes, local = layout(num_gpus, cluster)
    latency = (local - 1) * cluster.node_latency + math.ceil(math.log2(nodes)) * cluster.network_latency
    return 2 * (ring_bytes(size, num_gpus) / bandwidth(num_gpus, cluster) + latency)


def layout(num_gpus: int, cluster: Cluster) -> tuple[int, int]:
    """Nodes, GPUs in each."""
    local = min(num_gpus, cluster.node)
    return num_gpus // local, local


def bandwidth(num_gpus: int, cluster: Cluster) -> float:
    """Bytes/s that each GPU sends in a ring: the slowest link counts."""
    links = [cluster.node_bandwidth] + [cluster.node * cluster.network_bandwidth] * (num_gpus > cluster.node)
    return cluster.link_share * min(links)


def step_time(work: Work, cluster: Cluster, num_gpus: int, parallel: str) -> dict[str, float]:
    """
    Returns:
        seconds: of a step; the next three are what they are made of.
        compute: of a rank that waits for no other.
        stragglers: until the slowest has computed, too.
        exposed: while bytes are on their way and nothing is computed.
        mfu: share of the peak; what is computed a second time does not count.
    """
    forward = work.flops / 3 / (cluster.peak * cluster.reachable)
    backward = (2 + work.checkpointing * work.layer_share) * forward
    compute = work.accumulate * (forward + backward)
    stragglers = compute * cluster.jitter * expected_maximum(num_gpus)
    hidden_by = ddp_exposed if parallel == "ddp" else fsdp_exposed
    exposed = hidden_by(work, cluster, num_gpus, forward, backward) if num_gpus > 1 else 0.0
    seconds = compute + stragglers + exposed
    mfu = work.accumulate * work.flops / seconds / cluster.peak
    return {"seconds": seconds, "compute": compute, "stragglers": stragglers, "exposed": exposed, "mfu": mfu}


def ddp_exposed(work: Work, cluster: Cluster, num_gpus: int, forward: float, backward: float) -> float:
    """A bucket is sent when all its gradients are there and the one before it has been sent; they come evenly over the
    backward pass of the last micro-batch."""
    sizes = bucket_sizes(work.weights.all)
    ready = sent = 0.0
    for size in sizes:
        ready += backward * size / sum(sizes)
        sent = max(sent, ready) + all_reduce_time(size, num_gpus, cluster)
    return sent - backward


def fsdp_exposed(work: Work, cluster: Cluster, num_gpus: int, forward: float, backward: float) -> float:
    """While a layer is computed, the gradients of the one before are summed, and then the next one is gathered. What
    comes first and last in a pass is not hidden, nor what belongs to the weights outside of layers.

    Layers are taken to be alike; in the backward pass the first has no gradients to be summed yet, and after the last
    there is nothing to be gathered.
    """
    count = len(work.weights.layers)
    layer, rest = (num_gpus * padded(unit, num_gpus) for unit in (work.weights.layers[0], work.weights.rest))
    gather, total, others = (gather_time(size, num_gpus, cluster)
                             for size in (work.item * layer, FP32 * layer, FP32 * rest))  # fmt: skip
    network = [gather, *[gather + total] * (count - 2), total] if count > 1 else []  # while each layer goes back
    ahead, back = (work.layer_share * seconds / count for seconds in (forward, backward))

    def micro_batch(last: bool) -> float:
        passes = others + 2 * gather + (count - 1) * max(0.0, gather - ahead)
        if not last:
            return passes + (count - 1) * max(0.0, gather - back)
        return passes + sum(max(0.0, busy - back) for busy in network) + total + others

    return (work.accumulate - 1) * micro_batch(last=False) + micro_batch(last=True)


def expected_maximum(number: int) -> float:
    """Of so many independent standard normal numbers: the integral over x > 0 of 1 - F(x)^n - F(-x)^n."""
    normal, step = NormalDist(), 2e-3
    points = (step * (i + 0.5) for i in range(4000))
    return step * sum(1 - normal.cdf(x) ** number - normal.cdf(-x) ** number for x in points)


def saving_time(copy: int, gathered: Sequence[int], cluster: Cluster, num_gpus: int) -> tuple[float, float]:
    """Seconds that training waits for a save in the background, and until it is on the disk.

    It waits for the copy in main memory; what is gathered from all GPUs before goes there once more.

    Args:
        copy: bytes of the first rank's copy, which is the largest.
        gathered: of each tensor that was spread, one after the other.
    """
    gather = sum(gather_time(size, num_gpus, cluster) for size in gathered)
    return gather + (sum(gathered) + copy) / cluster.host_bandwidth, copy / cluster.disk_bandwidth
