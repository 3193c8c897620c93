"""The same model, data and hyperparameters trained by our loop and by transformers.Trainer: which one is better?

    python -m benchmarks.quality --seeds 1,2,3 --output_dir output/quality --config configs/sst2.yaml

Both start from the same weights and choose the best epoch on the dev data; our metrics score the test data for both.
What differs is what the two loops do: order of the data, normalisation of losses, precision, clipping, schedule.
transformers.Trainer needs: pip install accelerate
"""

import argparse
import copy
import importlib.util
import json
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

import main
from config import ConfigError, get_args, seed_everything

RUN = ("--do_train", "true", "--do_eval", "true", "--resume", "never")


def compare(config: str, seeds: list[int], output: Path, options: list[str]) -> dict[str, Any]:
    """Test metrics and seconds of both, by seed; in `output` also as quality.json."""
    results: dict[str, Any] = {"ours": [], "transformers.Trainer": []}
    for seed in seeds:
        for name, train in (("ours", train_ours), ("transformers.Trainer", train_theirs)):
            folder = output / f"{name}-{seed}"
            done = folder / "quality.json"
            if not done.exists():
                argv = ["--config", config, *options, *RUN, "--seed", str(seed), "--output_dir", str(folder)]
                began = time.monotonic()
                metrics = train(argv)
                folder.mkdir(parents=True, exist_ok=True)
                done.write_text(json.dumps(metrics | {"seconds": time.monotonic() - began}), encoding="utf-8")
            results[name].append(json.loads(done.read_text(encoding="utf-8")))
    (output / "quality.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return results


def train_ours(argv: list[str]) -> dict[str, float]:
    args = get_args(argv)
    main.main(argv)
    return json.loads(Path(args.output_dir, "test_metrics.json").read_text(encoding="utf-8"))


def train_theirs(argv: list[str]) -> dict[str, float]:
    """The loop of transformers.Trainer around our model, data, optimizer and schedule."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from model_utils.optim import build_optimizer, build_scheduler

    job = main.build_job(get_args(argv))
    main.build_data(job)
    args = job.args
    seed_everything(args.seed)
    model = main.build_model(job)
    loader, references = main.build_eval(job, "eval")
    scorer = main.build_trainer(job, model)
    monitor, falls = main.choose_monitor(job, model, references)
    best: dict[str, Any] = {}

    class Evaluate(TrainerCallback):
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            value = scorer.eval(loader, references)[monitor] * (-1 if falls else 1)
            if not best or value > best["value"]:
                best.update(value=value, state=copy.deepcopy(model.state_dict()))
            model.train()

    name, *others = job.data.having("train")
    if others:
        raise ConfigError(f"arguments: datasets: one training file only, found {name}, {', '.join(others)}")
    features = main.build_part(job, name, "train")
    steps = -(-len(features) // args.batch_size) // args.accumulate * args.epochs
    optimizer = build_optimizer(
        model.to(job.device), args.lr, args.head_lr, args.weight_decay, args.layer_decay, args.optimizer
    )
    scheduler: Any = build_scheduler(args.lr_scheduler, optimizer, round(args.warmup_ratio * steps), steps)
    settings = TrainingArguments(
        output_dir=args.output_dir, num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size,
        gradient_accumulation_steps=args.accumulate, max_grad_norm=args.max_grad_norm, seed=args.seed,
        bf16=job.precision == "bf16", fp16=job.precision == "fp16", use_cpu=job.device.type == "cpu",
        save_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
        logging_steps=args.logging_steps,
    )  # fmt: skip
    theirs = Trainer(
        model=WithLoss(model), args=settings, train_dataset=features,
        data_collator=InBatch(main.build_collator(job, name)), optimizers=(optimizer, scheduler),
        callbacks=[Evaluate()],
    )  # fmt: skip
    theirs.train()
    model.load_state_dict(best["state"])
    return scorer.eval(*main.build_eval(job, "test"))


class InBatch:
    """Our batch as one argument of `forward`: Trainer hands a batch over as keyword arguments."""

    def __init__(self, collate: Any):
        self.collate = collate

    def __call__(self, features: list[Any]) -> dict[str, Any]:
        return {"batch": self.collate(features)}


class WithLoss(torch.nn.Module):
    """Our model as Trainer wants it: keyword arguments in, a dict with the loss out."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"loss": self.model(batch).loss}


def table(results: dict[str, Any]) -> str:
    """Mean and sample standard deviation over the seeds, as Markdown."""
    names = [name for name in results["ours"][0] if not name.endswith("loss") and name != "seconds"]
    lines = ["| | " + " | ".join(names) + " | minutes |", "|---|" + "---|" * (len(names) + 1)]
    for loop, runs in results.items():
        cells = []
        for metric in names:
            values = [100 * run[metric] for run in runs]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        cells.append(f"{statistics.mean(run['seconds'] for run in runs) / 60:.1f}")
        lines.append(f"| {loop} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a job with one training file")
    parser.add_argument("--seeds", default="1,2,3", help="comma-separated")
    parser.add_argument("--output_dir", type=Path, required=True, help="finished seeds in it are not trained again")
    given, rest = parser.parse_known_args(argv)
    if not re.fullmatch(r"\d+(,\d+)*", given.seeds):
        raise ConfigError(f"command line: seeds: {given.seeds!r} must be whole numbers with commas between, as 1,2,3")
    if importlib.util.find_spec("accelerate") is None:
        raise ConfigError("transformers.Trainer needs accelerate: pip install accelerate")
    print(table(compare(given.config, [int(seed) for seed in given.seeds.split(",")], given.output_dir, rest)))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
