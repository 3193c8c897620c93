"""transformers.Trainer as its documentation has it: checkpoints every few steps, resume_from_checkpoint=True.

full_determinism is on, and so is restore_callback_states_from_checkpoint, which early stopping needs to go on exactly.
`options_on` is enable_jit_checkpoint, which saves on SIGTERM.
"""

import json
from pathlib import Path
from typing import Any

from tests.faults.job import BATCH, SAVE_STEPS, Job, classifier, eval_records, train_records

NAME = "transformers.Trainer"
LOADED = ("transformers.trainer", "transformers.models.bert.modeling_bert")  # before a process is forked


def packages() -> list[str]:
    return ["transformers", "accelerate"]


def train(folder: Path, job: Job) -> tuple[Any, int]:
    """Resumes if there is a checkpoint; returns the model and its step."""
    from transformers import EarlyStoppingCallback, Trainer, TrainingArguments, default_data_collator, set_seed
    from transformers.trainer_utils import get_last_checkpoint

    set_seed(0)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=job.epochs,
        per_device_train_batch_size=BATCH,
        learning_rate=job.lr,
        lr_scheduler_type="linear",
        save_strategy="steps",
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        eval_strategy="epoch",
        metric_for_best_model="loss",
        greater_is_better=False,
        logging_steps=1,
        full_determinism=True,
        seed=0,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        restore_callback_states_from_checkpoint=True,
        enable_jit_checkpoint=job.options_on,
    )
    callbacks: Any = [EarlyStoppingCallback(job.patience)] if job.patience else []
    trainer = Trainer(
        model=classifier(job),
        args=arguments,
        data_collator=default_data_collator,
        train_dataset=train_records(),
        eval_dataset=eval_records(),
        callbacks=callbacks,
    )
    exists = folder.is_dir() and get_last_checkpoint(str(folder)) is not None
    trainer.train(resume_from_checkpoint=True if exists else None)
    return trainer.model, trainer.state.global_step


def newest(folder: Path) -> Path | None:
    from transformers.trainer_utils import get_last_checkpoint

    found = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    return Path(found) if found else None


def state_files(folder: Path) -> list[Path]:
    """Of the newest checkpoint."""
    checkpoint = newest(folder)
    return sorted(path for path in checkpoint.rglob("*") if path.is_file()) if checkpoint else []


def saved_step(folder: Path) -> int:
    checkpoint = newest(folder)
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def logged_loss(folder: Path, step: int) -> str:
    checkpoint = newest(folder)
    if checkpoint is None:
        return "nothing"
    history = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["log_history"]
    found = [entry["loss"] for entry in history if entry["step"] == step and "loss" in entry]
    return str(found[0]) if found else "nothing"


def repair(folder: Path) -> None:
    """There is no manifest."""
