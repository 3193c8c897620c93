"""Lightning as its documentation has it: ModelCheckpoint every few steps with save_last, fit(ckpt_path="last").

deterministic is on and everything is seeded. Lightning warns about resuming within an epoch without a loader that has
`state_dict` and `load_state_dict`, so there is one. `options_on` is ModelCheckpoint(save_on_exception=True), which
saves on SIGTERM.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.faults.job import BATCH, SAVE_STEPS, Job, classifier, eval_records, train_records

NAME = "Lightning"
BERT = "transformers.models.bert.modeling_bert"
LOADED = ("lightning.pytorch.callbacks", "lightning.pytorch.loggers", BERT)  # before a process is forked


def packages() -> list[str]:
    return ["lightning"]


def train(folder: Path, job: Job) -> tuple[Any, int]:
    """The same call starts and resumes; returns the model and its step."""
    import lightning
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger
    from torch.utils.data import DataLoader

    lightning.seed_everything(0, workers=True, verbose=False)
    saving = ModelCheckpoint(
        dirpath=folder,
        every_n_train_steps=SAVE_STEPS,
        save_last=True,
        save_top_k=1,
        save_on_exception=job.options_on,
    )
    callbacks = [saving, EarlyStopping("val_loss", patience=job.patience)] if job.patience else [saving]
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=job.epochs,
        deterministic=True,
        gradient_clip_val=1.0,
        callbacks=callbacks,
        logger=CSVLogger(folder, name="logs"),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    model = module(job)
    held_out: Any = eval_records()
    trainer.fit(model, ResumableLoader(train_records()), DataLoader(held_out, 8, collate_fn=collate), ckpt_path="last")
    return model.model, trainer.global_step


class ResumableLoader:
    """Batches whose order depends on the epoch alone; goes on after the batches that were handed out."""

    def __init__(self, records: list[dict[str, Any]]):
        self.records = records
        self.epoch = self.taken = 0

    def __len__(self) -> int:
        return -(-len(self.records) // BATCH)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        if self.taken == len(self):
            self.epoch, self.taken = self.epoch + 1, 0
        order = torch.randperm(len(self.records), generator=torch.Generator().manual_seed(7 + self.epoch))
        while self.taken < len(self):
            self.taken += 1
            yield collate([self.records[n] for n in order.split(BATCH)[self.taken - 1].tolist()])

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "taken": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.taken = state["epoch"], state["taken"]


def collate(records: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    ids = torch.tensor([record["input_ids"] for record in records])
    labels = torch.tensor([record["label"] for record in records])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def module(job: Job) -> Any:
    import lightning

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = classifier(job)
            self.model.train()

        def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
            loss = self.model(**batch).loss
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
            self.log("val_loss", self.model(**batch).loss, batch_size=len(batch["labels"]))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=job.lr)
            left = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / job.total_steps))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": left, "interval": "step"}}

    return Classifier()


def newest(folder: Path) -> Path | None:
    """As ckpt_path="last" chooses: the youngest of last.ckpt, last-v1.ckpt, …"""
    return max(folder.glob("last*.ckpt"), key=lambda path: path.stat().st_mtime, default=None)


def state_files(folder: Path) -> list[Path]:
    """The newest checkpoint is one file."""
    checkpoint = newest(folder)
    return [checkpoint] if checkpoint else []


def saved_step(folder: Path) -> int:
    checkpoint = newest(folder)
    return torch.load(checkpoint, weights_only=True)["global_step"] if checkpoint else 0


def logged_loss(folder: Path, step: int) -> str:
    """Lightning counts from 0."""
    for file in sorted(folder.glob("logs/version_*/metrics.csv")):
        with open(file, encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if row["step"] == str(step - 1) and row.get("train_loss"):
                    return row["train_loss"]
    return "nothing"


def repair(folder: Path) -> None:
    """There is no manifest."""
