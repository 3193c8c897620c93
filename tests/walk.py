"""One record on its way through a small run of main.py; the values of docs/architecture.md.

    python -m tests.walk

Everything is what the functions named in that page return, in the job of its command; only the way of printing is here.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

import main
from config import get_args, seed_everything
from data_process.sample_data import generate

OPTIONS = """--config configs/sample_joint.yaml --debug --model_name_or_path scratch:tiny --scratch_vocab_size 400
    --batch_size 4 --accumulate 2 --epochs 4 --lr 5e-3 --logging_steps 1 --precision fp32 --device cpu"""


def walk(folder: Path, to_the_end: bool = True) -> dict[str, str]:
    """Stage -> what is shown of it; writes only into the folder. to_the_end: not only up to the first update."""
    places = ["--output_dir", str(folder / "walk"), "--cache_dir", str(folder / "cache")]
    job = main.build_job(get_args([*OPTIONS.split(), *places]))
    main.build_data(job)
    seed_everything(job.args.seed)
    model = main.build_model(job)
    changes: dict[int, float] = {}
    job.callbacks.append(lambda event, step, _: changes.setdefault(step, weight(model)) if event == "log" else None)
    options = main.build_training(job, model)
    group = [*options["train_loader"](0, 0)][:2]
    number = int(group[0]["sample_id"][0])
    found = {"record": shown(record_of(number))} | before(job, number)
    found["batch"] = batch_lines(group[0])
    seed_everything(job.args.seed)  # as main.train does
    found |= forward(options["train_step"], group)
    if not to_the_end:
        return found
    start = weight(model)
    (folder / "walk").mkdir()
    main.train(job, model, options, partial(main.about_run, job, model))
    output = folder / "walk"
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text("utf-8").splitlines()]
    first = next(line for line in steps if line["kind"] == "train")
    change = f"heads.intent.classifier.weight[0, 0]: {start:.4f} -> {changes[1]:.4f}"
    found["step"] = f"{line_of(first)}\n{change}"
    return found | scored(job, output)


def weight(model: Any) -> float:
    return model.heads["intent"].classifier.weight[0, 0].item()


def shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def before(job: Any, number: int) -> dict[str, str]:
    """Labels and features."""
    data = job.data["data"]
    row = data.rows("train")[number]
    feature = {name: row[name] for name in ("sample_id", "input_ids", "word_starts", "num_words", "labels")}
    labels = {task["name"]: task["labels"] for task in job.tasks}
    lines = [f"{name:12}{shown(value)}" for name, value in feature.items()]
    lines.insert(1, f"{'(sub-words':12}{' '.join(job.tokenizer.convert_ids_to_tokens(row['input_ids']))})")
    names = [f"{name}: {len(of)} labels, {', '.join(of[:5])} …" for name, of in labels.items()]
    return {"features": "\n".join([*names, *lines])}


def batch_lines(batch: dict[str, Any]) -> str:
    """Shapes, and the first row."""
    flat = {name: value for name, value in batch.items() if name != "labels"}
    flat |= {f"labels[{task!r}]": value for task, value in batch["labels"].items()}
    return "\n".join(f"{name:18}{shown([*value.shape]):9}{shown(value[0].tolist())}" for name, value in flat.items())


def forward(step: Any, group: list[dict[str, Any]]) -> dict[str, str]:
    """The first micro-batch through the model, and the losses of the group; no update."""
    model, state = step.module.train(), torch.get_rng_state()
    num_items, _ = step.count_items(group)
    output = model(group[0], num_items)
    tensors = {"hidden_states[-1]": output.hidden_states[-1]}
    tensors |= {f"logits[{task!r}]": logits for task, logits in output.logits.items()}
    lines = [f"{name:18}{shown([*value.shape]):13}{numbers(value.flatten()[:4])} …" for name, value in tensors.items()]
    found = {"output": "\n".join(lines)}
    lines = [f"num_items of the group: {', '.join(f'{task} {int(count)}' for task, count in num_items.items())}"]
    torch.set_rng_state(state)
    total = 0.0
    for place, batch in enumerate(group, 1):
        output = model(batch, num_items)
        sums = {task: (loss * num_items[task]).item() for task, loss in output.losses.items()}
        total += output.loss.item()
        own = ", ".join(f"{task} {value:.3f}" for task, value in sums.items())
        lines.append(f"micro-batch {place}: sums {own}; loss {output.loss:.4f}")
    lines.append(f"loss of the step: {total:.4f}")
    return found | {"loss": "\n".join(lines)}


def numbers(values: Any) -> str:
    return " ".join(f"{value:.3f}" for value in values.tolist())


def line_of(values: dict[str, Any]) -> str:
    return shown({name: round(value, 5) if isinstance(value, float) else value for name, value in values.items()})


def scored(job: Any, output: Path) -> dict[str, str]:
    """Evaluation of the best state: one decoded record, the scores, the files."""
    from model_utils.build import saved_model
    from trainer.run_folder import find_best

    model = saved_model(find_best(output))
    main.leave_out_padding(job, model)
    trainer = main.build_trainer(job, model)
    loader, references = main.build_eval(job, "eval")
    result = trainer.predict(loader, with_confidences=True)
    place = max(range(len(result.sample_ids)), key=lambda i: sum(t != "O" for t in result.labels["slots"][i]))
    gold = references(result.sample_ids)
    lines = [f"sample_id {result.sample_ids[place]} of {result.sample_ids}"]
    lines += [f"words      {' '.join(record_of(result.sample_ids[place])['tokens'])}"]
    for task in ("intent", "slots"):
        lines += [f"{task:7}{what}: {shown(values[task][place])}" for what, values in
                  (("predicted", result.labels), ("gold     ", gold))]  # fmt: skip
    found = {"decode": "\n".join(lines), "score": json.dumps(rounded(trainer.score(result, references)), indent=1)}
    for part in ("eval", "test"):
        main.report(job, model, part)
    main.write_page(job.args.output_dir)
    return found | {"files": listed(output)}


def listed(folder: Path) -> str:
    """A line for each folder, without those of other tools."""
    lines = []
    for place in (folder, *sorted(path for path in folder.rglob("*") if path.is_dir() and path.name != "tensorboard")):
        names = " ".join(sorted(path.name for path in place.iterdir() if path.is_file()))
        lines.append(f"{place.relative_to(folder).as_posix():24}{names}".replace(". ", "  ", 1))
    return "\n".join(lines)


def record_of(number: int) -> dict[str, Any]:
    return generate(number + 1)[number]


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def report(argv: list[str] | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = walk(Path(folder))
    for stage, text in found.items():
        print(f"--- {stage}\n{text}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main.run(sys.argv[1:], report))
