"""A model and its training as the formulas of the files beside this one see them; nothing is allocated.

    plan = plan_of(given)                       # an argparse.Namespace, see plan_gpus.py
    plan.memory("fsdp", num_gpus=64)            # bytes of a GPU by what they are for
    plan.run("fsdp", num_gpus=64, records=32)   # seconds of a step, MFU, useful share …

Shapes of the weights are those of the model of transformers, made without memory.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Any

import yaml

from config import ConfigError, require

from .cluster_model import Cluster, Work, head_flops, layer_flops, saving_time, step_time
from .failure_model import best_interval, useful_share
from .memory_model import Block, Weights, peak, snapshot, whole


@dataclass(frozen=True)
class Plan:
    """A model and its training."""

    weights: Weights
    block: Block
    vocabulary: int
    cluster: Cluster
    given: argparse.Namespace

    def memory(self, parallel: str, num_gpus: int) -> dict[str, int]:
        """Bytes of a GPU by what they are for, when it needs most."""
        given = self.given
        return peak(
            self.weights, self.block, num_gpus, parallel, rows=given.batch_size, length=given.length,
            vocabulary=self.vocabulary, masked=self.masked(given.batch_size), accumulate=given.accumulate,
            checkpointing=given.activation_checkpointing,
        )  # fmt: skip

    def run(self, parallel: str, num_gpus: int, records: int) -> dict[str, float]:
        """Of steps with so many records of each GPU: what step_time returns, and what saves and failures leave."""
        given, cluster = self.given, self.cluster
        rows = min(records, given.batch_size)
        layers = layer_flops(self.weights, self.block.hidden, rows, given.length)
        flops = layers + head_flops(self.block.hidden, self.vocabulary, self.masked(rows))
        work = Work(self.weights, rows * given.length, flops, layers / flops, -(-records // rows), self.block.item,
                    given.activation_checkpointing)  # fmt: skip
        found = step_time(work, cluster, num_gpus, parallel)
        stall, delay = saving_time(*self.saving(parallel, num_gpus), cluster, num_gpus)
        between = 3600 * cluster.gpu_mtbf / num_gpus
        interval = max(best_interval(stall, between), delay)
        useful = useful_share(interval, stall, between, cluster.restart, delay)
        speed = useful * num_gpus * records * given.length / found["seconds"]
        return {**found, "micro-batches": work.accumulate, "interval": interval, "useful": useful, "sub-words/s": speed}

    def saving(self, parallel: str, num_gpus: int) -> tuple[int, list[int]]:
        """Bytes of main memory for saves in the background, of the first process, and of each tensor it gathers."""
        sharded = parallel == "fsdp" and self.given.save_format == "sharded"
        gathered = [whole([shape]) for shape in self.weights.all] * (parallel == "fsdp") * (1 if sharded else 3)
        return snapshot(self.weights, num_gpus if sharded else 1), gathered

    def masked(self, rows: int) -> int:
        return round(self.given.mask_rate * rows * self.given.length)


def plan_of(given: argparse.Namespace) -> Plan:
    """Raises ConfigError."""
    import torch
    from transformers import AutoModel, AutoModelForMaskedLM

    for name in ("batch_size", "length", "accumulate", "global_batch"):
        require(getattr(given, name) >= 1, name, "must be at least 1")
    require(0 <= given.mask_rate < 1, "mask_rate", "must be at least 0 (no scores of a vocabulary) and below 1")
    cluster = Cluster(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Cluster)})
    for num_gpus in given.gpus:
        whole = num_gpus >= 1 and num_gpus % min(num_gpus, cluster.node) == 0
        require(whole, "gpus", f"{num_gpus} are no whole nodes of {cluster.node}")
        require(given.global_batch % num_gpus == 0, "global_batch", f"must be a multiple of gpus, not {num_gpus}")
    config = config_of(given.model_name_or_path)
    sizes = [getattr(config, name, 0) for name in ("hidden_size", "intermediate_size", "num_attention_heads")]
    require(all(sizes), "model_name_or_path", f"{config.model_type} does not have layers like those of BERT")
    with torch.device("meta"):
        model = (AutoModelForMaskedLM if given.mask_rate else AutoModel).from_config(config)
    vocabulary = config.vocab_size if given.mask_rate else 0
    hidden, intermediate, heads = sizes
    return Plan(weights_of(model), Block(hidden, intermediate, heads), vocabulary, cluster, given)


def config_of(name: str) -> Any:
    """Of a folder or hub name, or of sizes; those of BERT-base where they are not given. Raises ConfigError."""
    from transformers import AutoConfig

    from model_utils.encoder import locate

    try:
        if name.startswith("{"):
            return AutoConfig.for_model(**{"model_type": "bert"} | yaml.safe_load(name))
        return AutoConfig.from_pretrained(locate(name))
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        right = 'give a folder or hub name, or sizes such as "{hidden_size: 1024, num_hidden_layers: 24}"'
        raise ConfigError(f"arguments: model_name_or_path: {name}: {error}; {right}") from None


def weights_of(model: Any) -> Weights:
    """Its layers are those that trainer/sharding.py spreads by themselves."""
    from trainer.sharding import layers

    shapes = {id(weight): tuple(weight.shape) for weight in model.parameters()}
    grouped = [[shapes.pop(id(weight)) for weight in layer.parameters()] for layer in layers(model)]
    names = [id(weight) for weight in model.parameters()]
    rest = list(shapes)
    first = next((place for place, name in enumerate(names) if name not in shapes), len(names))
    return Weights([shapes[name] for name in rest[:first]], grouped, [shapes[name] for name in rest[first:]])
