"""New models and saved ones of either kind: an encoder with heads, or a language model that generates.

    model = new_model("scratch:small", tasks, tokenizer, max_length=128)
    model = saved_model("output/run/best")
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .encoder import load_encoder
from .generation_model import GenerationModel, build_generation_model
from .heads import head_class
from .model_error import ModelError
from .multitask_model import MultiTaskModel, build_model, read_folder

Model = MultiTaskModel | GenerationModel


def new_model(
    path: str,
    tasks: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    max_length: int,
    *,
    max_target_length: int = 128,
    shared_layers: int = 0,
    uncertainty: bool = False,
    label_counts: Mapping[str, tuple[Mapping[str, int], int]] | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """
    Args:
        path: what `locate` returned: a hub name, a folder, or scratch:…
        tasks: {name, kind, labels, loss_weight?, …options of the head}.
        max_length, max_target_length: longest input and longest text to be generated, in sub-words.
        shared_layers: Transformer layers between encoder and heads.
        uncertainty: learn weights of the tasks, see loss_weights.py.
        label_counts: task -> (label -> occurrences, records) in the training data, for balanced class weights.

    Raises: ModelError.
    """
    if generates(tasks):
        if shared_layers or uncertainty:
            name = "shared_layers" if shared_layers else "loss_weighting"
            raise ModelError(f"{name}: not for {tasks[0]['name']}, which generates texts; leave it out")
        return build_generation_model(path, tokenizer, tasks[0], max_length, max_target_length, trust_remote_code)
    encoder = load_encoder(path, len(tokenizer), max_length, trust_remote_code)
    model = build_model(encoder, tasks, shared_layers, uncertainty)
    for task, (counts, num_records) in (label_counts or {}).items():
        if hasattr(model.heads[task], "class_weights"):
            model.heads[task].class_weights.balance(counts, num_records)
    return model


def saved_model(folder: str | Path, trust_remote_code: bool = False) -> Model:
    """What `save_pretrained` wrote, in eval mode. Raises ModelError."""
    kind = GenerationModel if generates(read_folder(folder)[1]) else MultiTaskModel
    return kind.from_pretrained(folder, trust_remote_code)


def generates(tasks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether this is a task for a language model. Raises ModelError if there are others beside it."""
    texts = [task["name"] for task in tasks if head_class(task["kind"]).LABEL_LEVEL == "text"]
    if texts and len(tasks) > 1:
        raise ModelError(f"tasks: {texts[0]} generates texts and needs a model of its own, without other tasks")
    return bool(texts)
