"""What the model card in best/ says of a run, gathered before training from the job of main.py.

    describe = card_of(job)                                # metrics entry -> README.md, see model_utils/model_card.py
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from config import FREE, Arguments

MAIN = ("lr", "head_lr", "epochs", "batch_size", "accumulate", "optimizer", "weight_decay", "lr_scheduler", "seed")
OTHERWISE = ("model_name_or_path", "max_length", "stride", "precision", "logging_steps", "eval_steps", "save_steps",
             "save_minutes", "keep_states", "save_format", "trust_remote_code")  # fmt: skip
TEXTS = 1000  # of each data set, in which languages are looked for


def card_of(job: Any) -> Callable[[Mapping[str, Any]], str]:
    """Picks out plain values only: the function is called in another thread while training goes on."""
    from data_process.build import training_texts
    from data_process.languages import languages_of
    from model_utils.model_card import model_card

    args = job.args
    data = [
        {"part": part, "source": name_of(job.data[name].sources[part]), "tasks": job.options[name]["tasks"],
         "records": len(job.data[name].numbers(part))}
        for name in job.data for part in ("train", "eval", "test") if part in job.data[name].sources
    ]  # fmt: skip
    trained = [job.data[name] for name in job.data.having("train")]
    texts = chain.from_iterable(islice(training_texts(each), TEXTS) for each in trained)
    schema = trained[0].schema
    words, loader = schema.form == "words", "AutoModel"
    if schema.form == "source":
        loader = "AutoModelForCausalLM" if job.causal else "AutoModelForSeq2SeqLM"
    example: dict[str, Any] = {schema.text_column: ["the", "words", "of", "a", "text"] if words else "a text"}
    example |= {schema.text_pair_column: "another text"} if schema.text_pair_column else {}
    example |= {schema.choices_column: ["a choice", "another one"]} if schema.choices_column else {}
    return partial(
        model_card, base=job.given["model_name_or_path"], tasks=job.tasks, data=data, languages=languages_of(texts),
        example=example, settings=settings(job), monitor=job.monitor[0], max_length=args.max_length,
        stride=args.stride, loader=loader,
    )  # fmt: skip


def settings(job: Any) -> dict[str, Any]:
    """The main options of the training, and the others that are not at their default."""
    left_out = {*FREE, *OTHERWISE}
    found = {name: job.given[name] for name in MAIN}
    for field in dataclasses.fields(Arguments):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value = job.given[field.name]
        if field.name not in left_out and value != default and not is_path(value):
            found[field.name] = value
    return found | {"processes": job.world_size, "precision": job.precision}


def is_path(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute()


def name_of(source: str) -> str:
    """As it was given, or of an absolute path what is below DATA_DIR, else the file alone."""
    path = Path(source)
    if source.startswith(("hub:", "sample:")) or not path.is_absolute():
        return source
    root = os.environ.get("DATA_DIR")
    return path.relative_to(root).as_posix() if root and path.is_relative_to(root) else path.name
