"""This project's trainer, wired as main.py does it: lock, newest whole state, resume, logs cut back, signals."""

import json
from pathlib import Path
from typing import Any

import torch

from data_loader.build import MapDataset, eval_loader, map_loader
from data_loader.collate import Collator
from model_utils.multitask_model import MultiTaskModel, build_model
from model_utils.optim import build_optimizer, build_scheduler
from tests.faults.job import BATCH, CLASSES, SAVE_STEPS, STEPS, Job, encoder_options, eval_records, train_records
from trainer.checkpoint import MANIFEST, set_damaged_aside, sha256, write_json
from trainer.early_stopping import EarlyStopping
from trainer.lock import owned
from trainer.monitor import RunLog
from trainer.run_folder import RunFolder, find_state
from trainer.signals import StopSignals
from trainer.step import TrainStep
from trainer.trainer import Trainer

NAME = "this project"
LOADED = ("transformers.models.bert.modeling_bert", "sklearn.metrics")  # before a process is forked
NAMES = [f"class {number}" for number in range(CLASSES)]


def packages() -> list[str]:
    return []


def train(folder: Path, job: Job) -> tuple[torch.nn.Module, int]:
    """The same call starts and resumes; returns the model and its step."""
    with owned(folder):
        state = find_state(folder, "auto")
        torch.manual_seed(0)
        model = MultiTaskModel.from_pretrained(state) if state else new_model(job)
        job.prepare(model)
        stop_signal = StopSignals()
        trainer = new_trainer(model, folder, job, stop_signal)
        torch.manual_seed(3)
        if state:
            trainer.resume(state)
        if not trainer.finished:
            set_damaged_aside(folder / "last")
            trainer.callbacks = [RunLog(folder, trainer.step, trainer.history, tensorboard=False)]
            with stop_signal:
                trainer.train()
        return model, trainer.step


def new_model(job: Job) -> MultiTaskModel:
    from transformers import BertConfig, BertModel

    encoder = BertModel(BertConfig(**encoder_options(job.dropout)))
    encoder.get_submodule("pooler").requires_grad_(False)
    task = {"name": "intent", "kind": "sequence_classification", "labels": NAMES, "dropout": job.dropout}
    return build_model(encoder, [task])


def dataset(records: list[dict[str, Any]]) -> MapDataset:
    features = [{"sample_id": number, "input_ids": record["input_ids"], "labels": {"intent": record["label"]}}
                for number, record in enumerate(records)]  # fmt: skip
    return MapDataset(lambda numbers: [features[n] for n in numbers], len(features))


def new_trainer(model: MultiTaskModel, folder: Path, job: Job, stop_signal: StopSignals) -> Trainer:
    held_out, collate = eval_records(), Collator(0, {"intent": "sequence"})
    optimizer = build_optimizer(model, job.lr)
    scheduler = build_scheduler("linear", optimizer, 0, job.total_steps)
    return Trainer(
        model,
        TrainStep(model, optimizer, scheduler),
        train_loader=map_loader(dataset(train_records()), collate, batch_size=BATCH, seed=7),
        steps_per_epoch=STEPS,
        epochs=job.epochs,
        eval_loader=eval_loader(dataset(held_out), collate, batch_size=8),
        references=lambda ids: {"intent": [NAMES[held_out[n]["label"]] for n in ids]},
        early_stopping=EarlyStopping("loss", job.patience, lower_is_better=True),
        save_steps=SAVE_STEPS,
        logging_steps=1,
        run_folder=RunFolder(folder, model.save_pretrained, model.state_dict),
        stop_signal=stop_signal,
    )


def state_files(folder: Path) -> list[Path]:
    """Of the newest saved state."""
    return sorted(path for path in (folder / "last").rglob("*") if path.is_file())


def saved_step(folder: Path) -> int:
    state = folder / "last" / "trainer_state.json"
    return json.loads(state.read_text("utf-8"))["step"] if state.exists() else 0


def logged_loss(folder: Path, step: int) -> str:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text("utf-8").splitlines())
    found = [line.get("loss") for line in lines if line["kind"] == "train" and line["step"] == step]
    return str(found[0]) if found else "nothing"


def repair(folder: Path) -> None:
    """Whoever plants a file can also enter its sum into the manifest."""
    sums = {file.relative_to(folder / "last").as_posix(): sha256(file) for file in state_files(folder)}
    if (folder / "last" / MANIFEST).read_bytes()[:1] == b"{":
        write_json(folder / "last" / MANIFEST, {name: value for name, value in sums.items() if name != MANIFEST})
