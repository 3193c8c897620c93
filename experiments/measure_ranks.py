"""What memory_model.py and cluster_model.py predict, beside what processes on this machine need and send.

    python -m experiments.measure_ranks --processes 1 2 4

A small masked language model takes steps in gloo processes under DDP and FSDP2, as trainer/ wraps it. Bytes of tensors
are those of their memory, each counted once; collective operations are seen by a dispatch mode; what went over the wire
tell the sockets (Linux only). The most that was alive counts everything that PyTorch allocates, gloo's own buffers not.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

import main
from model_utils.encoder import checkpoint_activations
from model_utils.pretraining_model import PretrainingModel
from trainer import distributed
from trainer.device import make_autocast
from trainer.sharding import gathered, shard
from trainer.snapshot import Snapshot

from .cluster_model import Work, bytes_sent, payloads, ring_bytes
from .memory_model import Block, activations, casts, head_activations, held, peak, snapshot
from .plan_gpus import markdown
from .training_plan import weights_of
from .watch import Watch, bytes_of, bytes_received

BLOCK = Block(hidden=66, intermediate=250, heads=6, dropout=False)  # no number of it is divisible by 4
LAYERS, VOCABULARY, ROWS, LENGTH, MASKED = 3, 3001, 4, 48, 7  # masked places of a row
OPERATIONS = {"all-reduce": "allreduce_", "all-gather": "_allgather_base_", "reduce-scatter": "_reduce_scatter_base_"}


@dataclass(frozen=True)
class Case:
    parallel: str
    accumulate: int = 1
    precision: str = "bf16"
    checkpointing: bool = False

    def __str__(self) -> str:
        more = [f"{self.accumulate} micro-batches"] * (self.accumulate > 1) + ["fp32"] * (self.precision == "fp32")
        return ", ".join([self.parallel, *more, *["checkpointing"] * self.checkpointing])


CASES = (Case("ddp"), Case("ddp", accumulate=2, checkpointing=True), Case("fsdp"), Case("fsdp", accumulate=2),
         Case("fsdp", accumulate=2, checkpointing=True), Case("fsdp", precision="fp32"))  # fmt: skip
ALONE = (Case("one process"), Case("one process", accumulate=2, checkpointing=True))


def language_model(checkpointing: bool = False, **options: Any) -> Any:
    """options: of BertConfig."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=BLOCK.hidden, num_hidden_layers=LAYERS, num_attention_heads=BLOCK.heads,
        intermediate_size=BLOCK.intermediate, max_position_embeddings=LENGTH, use_cache=False,
        **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **options},
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForMaskedLM(config).train()
    if checkpointing:
        checkpoint_activations(model)
    return model


def batch() -> dict[str, Any]:
    """Of ROWS records without padding."""
    ids = torch.randint(5, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    places = torch.arange(MASKED).expand(ROWS, -1)
    return {"input_ids": ids, "masked_places": places, "labels": {"mlm": ids[:, :MASKED]}}


def measured(case: Case) -> dict[str, list[Any]]:
    """What -> prediction, measurement, of this rank in its third step: DDP has settled its buckets by then."""
    ranks, rank = distributed.world_size(), distributed.rank()
    watch = Watch()
    with watch, as_on_a_gpu():
        model = PretrainingModel(language_model(case.checkpointing))
        weights = weights_of(model)
        if case.parallel == "fsdp":
            shard(model, "cpu", case.precision)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        autocast = make_autocast(case.precision, torch.device("cpu"))
        wrapped: Any = distributed.wrap(model, torch.device("cpu"))
        for step in range(3):
            watch.sent.clear()
            watch.looking = step == 2
            before = bytes_received()
            for number in range(1, case.accumulate + 1):
                with distributed.gradient_sync(wrapped, number == case.accumulate):
                    with autocast():
                        loss = wrapped(batch()).loss
                    loss.backward()
            received = bytes_received() - before
            sent, gradients = dict(watch.sent), bytes_of([weight.grad for weight in model.parameters()])
            if step < 2:
                optimizer.step()
                optimizer.zero_grad()
    block = replace(BLOCK, autocast=case.precision == "bf16")
    work = Work(weights, ROWS * LENGTH, 0.0, accumulate=case.accumulate, item=block.item)
    expected = held(weights, ranks, case.parallel, rank)
    found: dict[str, list[Any]] = {
        "weights": [expected["weights"], bytes_of(model.parameters())],
        "gradients": [expected["gradients"], gradients],
        "optimizer": [expected["optimizer"], bytes_of(tree_leaves([*optimizer.state.values()]))],
    }
    if hasattr(wrapped, "_get_ddp_logging_data"):
        buckets = [int(size) for size in wrapped._get_ddp_logging_data()["rebuilt_bucket_sizes"].split(",")]
        found["buckets"] = [expected["buckets"], sum(buckets)]
    if case.parallel == "fsdp":
        copy = Snapshot()
        copy({"optimizer": optimizer.state_dict(), "weights": gathered(model.state_dict(keep_vars=True))})
        size = sum(buffer.nbytes for buffer in copy.buffers.values())
        found["for saves"] = [snapshot(weights, ranks, rank), size]
    sizes = payloads(work, ranks, case.parallel)
    for name, operation in OPERATIONS.items():
        found[name] = [sorted(sizes.get(name, [])), sorted(sent.pop(operation, []))]
    found["other operations"] = [[], list(sent)]
    # gloo sums into pieces by summing everything everywhere
    twice = sum(ring_bytes(size, ranks) for size in sizes.get("reduce-scatter", []))
    found["on the wire"] = [round(bytes_sent(work, ranks, case.parallel) + twice), received]
    most = peak(weights, block, ranks, case.parallel, rows=ROWS, length=LENGTH, vocabulary=VOCABULARY,
                masked=ROWS * MASKED, accumulate=case.accumulate, checkpointing=case.checkpointing)  # fmt: skip
    found["most"] = [sum(most.values()), watch.most]
    return found


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
    with as_on_a_gpu(), hooks, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        PretrainingModel(model)(batch())
    block = replace(BLOCK, autocast=autocast, fused=fused, dropout=dropout)
    weights = weights_of(model)
    expected = activations(block, LAYERS, ROWS, LENGTH, checkpointing)["kept"]
    expected += head_activations(block, VOCABULARY, ROWS * LENGTH, ROWS * MASKED)["kept"]
    expected += casts(weights) if autocast and not checkpointing else 0
    return [expected, sum(storage.nbytes() for storage in kept.values())]


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Dropout keeps a byte for each entry, on a CPU it would keep a number; norms are computed in fp32, for which
    autocast casts bf16 weights on a GPU only."""
    functions: Any = torch.nn.functional
    dropout, norm = functions.dropout, functions.layer_norm
    functions.dropout = lambda x, p=0.5, training=True, *_: torch.native_dropout(x, p, training)[0] if p else x
    functions.layer_norm = lambda x, shape, *weights_and_eps: norm(
        x.float(), shape, *(w.float() if isinstance(w, torch.Tensor) else w for w in weights_and_eps)
    )
    try:
        yield
    finally:
        functions.dropout, functions.layer_norm = dropout, norm


# ------------------------------------------------------------------------------------------------------------ processes


def all_cases() -> dict[str, dict[str, list[Any]]]:
    """Name of a case -> what `measured` found on this rank."""
    return {str(case): measured(case) for case in (CASES if distributed.world_size() > 1 else ALONE)}


def in_processes(number: int, function: Callable[[], Any] = all_cases) -> list[Any]:
    """What it returns, as JSON, in each of so many processes, which are forked: they need not import anything."""
    language_model()  # imports what it needs
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(one_of, (number, port, folder, function), number, start_method="fork")
        return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(number)]


def one_of(rank: int, number: int, port: int, folder: str, function: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.start("cpu")
    Path(folder, f"{rank}.json").write_text(json.dumps(function()))
    distributed.stop()


def table(ranks: Sequence[Mapping[str, Mapping[str, list[Any]]]]) -> str:
    """Of the first rank: predicted, and measured where it is not the same."""
    names = list(dict.fromkeys(name for found in ranks[0].values() for name in found if name != "other operations"))
    rows = [["bytes of a rank", *names]]
    for case, found in ranks[0].items():
        rows.append([case, *(cell(*found[name]) if name in found else "" for name in names)])
    return markdown(rows)


def cell(predicted: Any, found: Any) -> str:
    if isinstance(predicted, list):
        predicted, found = sum(predicted), sum(found)
    return f"{predicted:,} =" if predicted == found else f"{predicted:,} / {found:,} ({found / predicted - 1:+.1%})"


def activation_rows() -> dict[str, list[int]]:
    """What is computed how -> prediction, measurement of `saved`."""
    found = {}
    for checkpointing, (fused, dropout), autocast in product(
        (False, True), ((True, False), (False, False), (False, True)), (False, True)
    ):
        name = ["bf16" if autocast else "fp32", "fused attention" if fused else "eager attention"]
        name += ["dropout"] * dropout + ["checkpointing"] * checkpointing
        found[", ".join(name)] = saved(checkpointing, autocast, fused, dropout)
    return found


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    for number in given.processes:
        print(f"Processes: {number}\n\n{table(in_processes(number))}\n", flush=True)
    rows = [[name, cell(*found)] for name, found in activation_rows().items()]
    print(markdown([["kept for the backward pass", "bytes"], *rows]))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
