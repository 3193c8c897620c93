"""Memory of a GPU, time of a step and use of a cluster for a masked language model, before there is a cluster.

    python -m experiments.plan_gpus --model_name_or_path bert-large-uncased --gpus 8 64 1024 --plot plan.png
    python -m experiments.plan_gpus --model_name_or_path "{hidden_size: 2048, num_hidden_layers: 24}" --parallel fsdp
    python -m experiments.plan_gpus --help

Weak scaling: each GPU has as many records as before. Strong scaling: all have as many together. What is assumed of the
cluster are options, and is printed; docs/scaling.md has the formulas, and how far they were checked.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import docstring_parser

import main

from .cluster_model import Cluster
from .training_plan import Plan, plan_of

NAMES = {"ddp": "DDP", "fsdp": "FSDP2"}
GIB = 2**30


def memory_table(plan: Plan) -> str:
    """With DDP a GPU needs as much whatever their number is."""
    rows = {f"FSDP2, {num_gpus:,} GPUs": ("fsdp", num_gpus) for num_gpus in plan.given.gpus}
    rows = {name: row for name, row in ({"DDP": ("ddp", plan.given.gpus[-1])} | rows).items()
            if row[0] in plan.given.parallel}  # fmt: skip
    lines = []
    for name, (kind, num_gpus) in rows.items():
        parts = plan.memory(kind, num_gpus)
        most = sum(parts.values())
        fits = "" if most <= plan.cluster.memory else " (too much)"
        cells = [f"{value / GIB:.2f}" for value in parts.values()]
        heads = [f"GiB of a GPU: {plan.given.batch_size} x {plan.given.length}", *parts, "at most", "in main memory"]
        lines.append([name, *cells, f"{most / GIB:.1f}{fits}", f"{plan.saving(kind, num_gpus)[0] / GIB:.2f}"])
    return markdown([heads, *lines])


def time_table(plan: Plan, scaling: str) -> str:
    """scaling: "weak", or "strong", for which saves are those of weak scaling."""
    rows = []
    for kind in plan.given.parallel:
        for num_gpus in plan.given.gpus:
            records = records_of(plan.given, scaling, num_gpus)
            found = plan.run(kind, num_gpus, records)
            row = {f"simulated, {scaling} scaling": f"{NAMES[kind]}, {num_gpus:,} GPUs",
                   "records of a GPU": f"{records:,}", "step": f"{1000 * found['seconds']:,.0f} ms"}  # fmt: skip
            row |= {part: f"{found[part] / found['seconds']:.1%}" for part in ("stragglers", "exposed")}
            row |= {"MFU": f"{found['mfu']:.1%}", "sub-words/s": f"{found['sub-words/s'] / 1e6:,.2f} M"}
            if scaling == "weak":
                lost = 1440 * (1 - found["useful"])
                row |= {"a save every": f"{found['interval'] / 60:,.1f} min", "useful": f"{found['useful']:.2%}",
                        "lost a day": f"{lost:,.1f} min"}  # fmt: skip
            rows.append(row)
    return markdown([[*rows[0]], *([*row.values()] for row in rows)])


def records_of(given: argparse.Namespace, scaling: str, num_gpus: int) -> int:
    return given.batch_size * given.accumulate if scaling == "weak" else given.global_batch // num_gpus


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def summary(plan: Plan) -> str:
    """Of the model, and all assumptions."""
    numbers = sum(map(math.prod, plan.weights.all))
    assumed = ", ".join(f"{field.name} {getattr(plan.cluster, field.name):g}" for field in dataclasses.fields(Cluster))
    return (f"{len(plan.weights.layers)} layers of {plan.block.hidden:,}, {numbers / 1e6:,.1f} M weights, "
            f"vocabulary {plan.vocabulary:,}. Assumed: {assumed}.")  # fmt: skip


def plot(plan: Plan, path: Path) -> None:
    """Memory, MFU and useful share over the number of GPUs."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no {path.name}: pip install matplotlib", file=sys.stderr)
        return
    figure = Figure(figsize=(12, 4), layout="constrained")
    figure.suptitle("predicted and simulated, not measured", fontsize=10)
    memory, share, useful = figure.subplots(1, 3)
    for kind, color in zip(plan.given.parallel, ("tab:blue", "tab:orange"), strict=False):
        most = [sum(plan.memory(kind, num_gpus).values()) / GIB for num_gpus in plan.given.gpus]
        memory.plot(plan.given.gpus, most, "o-", color=color, label=NAMES[kind])
        for scaling, line in (("weak", "o-"), ("strong", "s--")):
            runs = [plan.run(kind, n, records_of(plan.given, scaling, n)) for n in plan.given.gpus]
            share.plot(plan.given.gpus, [100 * r["mfu"] for r in runs], line, color=color,
                       label=f"{NAMES[kind]}, {scaling} scaling")  # fmt: skip
            if scaling == "weak":
                useful.plot(plan.given.gpus, [100 * r["useful"] for r in runs], line, color=color, label=NAMES[kind])
    memory.axhline(plan.cluster.memory / GIB, color="black", linewidth=0.8, linestyle=":")
    memory.set_ylabel("GiB of a GPU, at most; dotted: there are")
    share.set_ylabel("MFU in %")
    useful.set_ylabel("share of the time in steps that count, in %")
    for panel, bottom in ((memory, 0), (share, 0), (useful, None)):
        panel.set_xscale("log", base=2)
        panel.set_xticks(plan.given.gpus, [f"{number:,}" for number in plan.given.gpus], fontsize=8)
        panel.set_ylim(bottom=bottom)
        panel.set_xlabel("GPUs")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--model_name_or_path", required=True, help="folder or hub name with a config.json, or sizes")
    found.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 256, 1024])
    found.add_argument("--parallel", choices=NAMES, nargs="+", default=list(NAMES))
    found.add_argument("--batch_size", type=int, default=32, help="records of a micro-batch of a GPU")
    found.add_argument("--length", type=int, default=512, help="sub-words of a record")
    found.add_argument("--accumulate", type=int, default=1, help="micro-batches of a step, with weak scaling")
    found.add_argument("--global_batch", type=int, default=4096, help="records of a step of all, with strong scaling")
    found.add_argument("--mask_rate", type=float, default=0.15, help="share of masked sub-words; 0 = no vocabulary")
    found.add_argument("--activation_checkpointing", action="store_true", help="layers are computed a second time")
    found.add_argument("--save_format", choices=("whole", "sharded"), default="whole",
                       help="of the optimizer's state, with FSDP2")  # fmt: skip
    found.add_argument("--plot", type=Path, help="a picture of it")
    assumed = found.add_argument_group("assumptions about the cluster")
    helps = {part.args[1]: part.description for part in docstring_parser.parse_from_object(Cluster).meta}
    for field in dataclasses.fields(Cluster):
        assumed.add_argument(f"--{field.name}", type=type(field.default), default=field.default,
                             help=f"{helps[field.name]}; {field.default:g}")  # fmt: skip
    return found


def report(argv: list[str] | None) -> None:
    given = parser().parse_args(argv)
    plan = plan_of(given)
    tables = [summary(plan), memory_table(plan), time_table(plan, "weak"), time_table(plan, "strong")]
    print("\n\n".join(tables))
    if given.plot:
        plot(plan, given.plot)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
