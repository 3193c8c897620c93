"""What memory_model.py and cluster_model.py predict, beside what processes on this machine need and send.

    python -m experiments.measure_ranks --processes 1 2 4

A small masked language model takes steps in gloo processes under DDP and FSDP2, as trainer/ wraps it. Bytes of tensors
are those of their memory, each counted once; collective operations are seen by a dispatch mode; what went over the wire
tell the sockets (Linux only). The most that was alive counts everything that PyTorch allocates, gloo's own buffers not.
"""

import argparse
import dataclasses
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import main
from model_utils.pretraining_model import PretrainingModel
from trainer import distributed
from trainer.sharding import is_spread, layers, shard

from .cluster_model import Work, bytes_sent, payloads, ring_bytes
from .memory_model import BF16, FP32, Block, activations, casts, head_activations, held, peak
from .plan_gpus import markdown
from .training_plan import weights_of

BLOCK = Block(hidden=66, intermediate=250, heads=6, dropout=False)  # no number of it is divisible by 4
LAYERS, VOCABULARY, ROWS, LENGTH, MASKED = 4, 3001, 4, 48, 7  # masked places of a row
# parallel, micro-batches, bytes of a number on its way, layers computed a second time
CASES = (("ddp", 1, FP32, False), ("ddp", 2, FP32, True), ("fsdp", 1, FP32, False), ("fsdp", 2, FP32, False),
         ("fsdp", 2, FP32, True), ("fsdp", 1, BF16, False))  # fmt: skip
OPERATIONS = {"all-reduce": "allreduce_", "all-gather": "_allgather_base_", "reduce-scatter": "_reduce_scatter_base_"}


class Watch(TorchDispatchMode):
    """Collective operations inside, and the most bytes that were alive of tensors seen inside."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self.alive: dict[int, int] = {}  # address of a memory -> weak reference to it
        self.sent: dict[str, list[int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if function.namespace == "c10d":
            name = function._schema.name.removeprefix("c10d::")
            self.sent.setdefault(name, []).append(max((x.nbytes for x in given), default=0))
        result = function(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        storages = [(x._local_tensor if is_spread(x) else x).untyped_storage() for x in made]
        new = [storage for storage in storages if storage._cdata not in self.alive]
        self.alive |= {storage._cdata: storage._weak_ref() for storage in new}
        if new or "resize" in function.__name__:
            self.most = max(self.most, self.now())
        return result

    def now(self) -> int:
        """FSDP2 gives memory back without forgetting it, so all sizes are read again."""
        total = 0
        for address, weak in list(self.alive.items()):
            storage = torch.UntypedStorage._new_with_weak_ptr(weak)
            if storage is None:
                torch.UntypedStorage._free_weak_ref(self.alive.pop(address))
            else:
                total += storage.nbytes()
        return total


def language_model(checkpointing: bool = False, **options: Any) -> Any:
    """options: of BertConfig."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=BLOCK.hidden, num_hidden_layers=LAYERS, num_attention_heads=BLOCK.heads,
        intermediate_size=BLOCK.intermediate, max_position_embeddings=LENGTH,
        **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **options},
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForMaskedLM(config).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def batch() -> dict[str, Any]:
    """Of ROWS records without padding."""
    ids = torch.randint(5, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    places = torch.arange(MASKED).expand(ROWS, -1)
    return {"input_ids": ids, "masked_places": places, "labels": {"mlm": ids[:, :MASKED]}}


def measured(parallel: str, accumulate: int, item: int, checkpointing: bool) -> dict[str, list[Any]]:
    """What -> prediction, measurement, of this rank in its third step: DDP has settled its buckets by then."""
    ranks, rank = distributed.world_size(), distributed.rank()
    watch = Watch()
    with watch:
        model = PretrainingModel(language_model(checkpointing))
        weights = weights_of(model)
        if parallel == "fsdp" and ranks > 1:
            spread_in_bf16(model) if item == BF16 else shard(model, "cpu")
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        wrapped: Any = distributed.wrap(model, torch.device("cpu"))
        for step in range(3):
            watch.sent.clear()
            watch.most = 0
            before = bytes_received()
            for number in range(1, accumulate + 1):
                with distributed.gradient_sync(wrapped, number == accumulate):
                    with torch.autocast("cpu", torch.bfloat16, enabled=item == FP32 or ranks == 1):
                        loss = wrapped(batch()).loss
                    loss.backward()
            received = bytes_received() - before
            sent, gradients = dict(watch.sent), bytes_of([weight.grad for weight in model.parameters()])
            if step < 2:
                optimizer.step()
                optimizer.zero_grad()
    work = Work(weights, ROWS * LENGTH, 0.0, accumulate=accumulate, item=item)
    expected = held(weights, ranks, parallel, rank)
    found = {
        "weights": [expected["weights"], bytes_of(model.parameters())],
        "gradients": [expected["gradients"], gradients],
        "optimizer": [expected["optimizer"], bytes_of(tree_leaves([*optimizer.state.values()]))],
    }
    if hasattr(wrapped, "_get_ddp_logging_data"):
        buckets = [int(size) for size in wrapped._get_ddp_logging_data()["rebuilt_bucket_sizes"].split(",")]
        found["buckets"] = [expected["buckets"], sum(buckets)]
    sizes = payloads(work, ranks, parallel)
    for name, operation in OPERATIONS.items():
        found[name] = [sorted(sizes.get(name, [])), sorted(sent.pop(operation, []))]
    found["other operations"] = [[], list(sent)]
    # gloo sums into pieces by summing everything everywhere
    twice = sum(ring_bytes(size, ranks) for size in sizes.get("reduce-scatter", []))
    found["on the wire"] = [round(bytes_sent(work, ranks, parallel) + twice), received]
    most = peak(weights, BLOCK, ranks, parallel, rows=ROWS, length=LENGTH, vocabulary=VOCABULARY, masked=ROWS * MASKED,
                item=item, accumulate=accumulate, checkpointing=checkpointing)  # fmt: skip
    found["most"] = [sum(most.values()), watch.most]
    return found


def spread_in_bf16(model: Any) -> None:
    """`trainer.sharding.shard` with a policy."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    for module in (*layers(model), model):
        fully_shard(module, mp_policy=policy)


def bytes_of(tensors: Any) -> int:
    """Of their memory, each counted once."""
    parts = [tensor.to_local() if is_spread(tensor) else tensor for tensor in tensors]
    storages = {part.untyped_storage()._cdata: part.untyped_storage() for part in parts}
    return sum(storage.nbytes() for storage in storages.values())


def bytes_received() -> int:
    """By all sockets of this process, as TCP counts them; 0 where Linux does not tell."""
    total = 0
    for number in map(int, os.listdir("/proc/self/fd") if sys.platform == "linux" else ()):
        with suppress(OSError):  # closed meanwhile, or no connection of TCP
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as connection:
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    total += struct.unpack_from("Q", info, 128)[0]  # tcpi_bytes_received
    return total


def saved(checkpointing: bool = False, autocast: bool = True, fused: bool = True, dropout: bool = False) -> list[int]:
    """Bytes that autograd keeps of a forward pass: prediction, measurement."""
    rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.1 * dropout)
    model = language_model(checkpointing, attn_implementation="sdpa" if fused else "eager", **rates)
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with masks_of_a_gpu(), hooks, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        PretrainingModel(model)(batch())
    block = dataclasses.replace(BLOCK, autocast=autocast, fused=fused, dropout=dropout)
    weights = weights_of(model)
    expected = activations(block, LAYERS, ROWS, LENGTH, checkpointing)["kept"]
    expected += head_activations(block, VOCABULARY, ROWS * LENGTH, ROWS * MASKED)["kept"]
    expected += casts(weights) if autocast and not checkpointing else 0
    return [expected, sum(storage.nbytes() for storage in kept.values())]


@contextmanager
def masks_of_a_gpu() -> Iterator[None]:
    """Dropout keeps a byte for each entry, as it does on a GPU; on a CPU it would keep a number."""
    plain = torch.nn.functional.dropout
    torch.nn.functional.dropout = lambda x, p=0.5, training=True, inplace=False: (
        torch.native_dropout(x, p, training)[0] if p else x)  # fmt: skip
    try:
        yield
    finally:
        torch.nn.functional.dropout = plain


# ------------------------------------------------------------------------------------------------------------ processes


def all_cases() -> dict[str, dict[str, list[Any]]]:
    """Of this rank: name of a case -> what `measured` found; on a single process, of the model as it is."""
    cases = CASES if distributed.world_size() > 1 else [("none", *rest) for kind, *rest in CASES[:2]]
    return {title(*case): measured(*case) for case in cases}


def title(parallel: str, accumulate: int, item: int, checkpointing: bool) -> str:
    more = [f"{accumulate} micro-batches"] * (accumulate > 1) + ["bf16"] * (item == BF16)
    return ", ".join([parallel, *more, *["checkpointing"] * checkpointing])


def in_processes(number: int) -> list[dict[str, dict[str, list[Any]]]]:
    """What `all_cases` found in each of so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={number}"]
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        subprocess.run([*command, "-m", "experiments.measure_ranks", "--into", folder], env=env, check=True)
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(number)]


def table(number: int, ranks: Sequence[Mapping[str, Mapping[str, list[Any]]]]) -> str:
    """Bytes of the first rank: predicted, and measured where it is not the same."""
    names = list(dict.fromkeys(name for found in ranks[0].values() for name in found if name != "other operations"))
    rows = [[f"{number} processes", *names]]
    for case, found in ranks[0].items():
        rows.append([case, *(cell(*found[name]) if name in found else "" for name in names)])
    return markdown(rows)


def cell(predicted: Any, found: Any) -> str:
    if isinstance(predicted, list):
        predicted, found = sum(predicted), sum(found)
    return f"{predicted:,} =" if predicted == found else f"{predicted:,} / {found:,} ({found / predicted - 1:+.1%})"


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--into", type=Path, help="a folder for the figures of this rank; in a process of torchrun")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    if given.into:
        distributed.start("cpu")
        (given.into / f"{distributed.rank()}.json").write_text(json.dumps(all_cases()))
        return
    for number in given.processes:
        print(table(number, in_processes(number)), end="\n\n", flush=True)
    kinds = [{"autocast": autocast, "fused": fused, "dropout": dropout, "checkpointing": checkpointing}
             for checkpointing in (False, True) for fused, dropout in ((True, False), (False, False), (False, True))
             for autocast in (False, True)]  # fmt: skip
    rows = [["activations", "kept"]]
    for kind in kinds:
        name = ", ".join(["bf16" if kind["autocast"] else "fp32", "fused" if kind["fused"] else "eager",
                          *["dropout"] * kind["dropout"], *["checkpointing"] * kind["checkpointing"]])  # fmt: skip
        rows.append([name, cell(*saved(**kind))])
    print(markdown(rows))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
