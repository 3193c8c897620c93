"""A trained model as a graph of tensors: encoder and heads up to their logits, for torch.export and ONNX.

    program = export_program(model, batch, ["intent"])       # batch: at least two records of unequal lengths
    torch.export.save(program, "model.pt2")
    save_onnx(program, "model.onnx", input_names(model, batch), ["intent"])

Numbers of records, inputs and words and the lengths are free. What becomes of the logits (Viterbi, thresholds, spans)
stays outside. The model must be as `saved_model` gives it: an encoder without padding is no graph.

Copy: with encoder.py, model_error.py; needs torch, transformers, safetensors; can use onnx, onnxscript.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .encoder import position_limit
from .model_error import ModelError

SHAPES = {  # tensors of a batch that a model may look at, see data_loader/collate.py
    "input_ids": ("inputs", "sub_words"),
    "attention_mask": ("inputs", "sub_words"),
    "token_type_ids": ("inputs", "sub_words"),
    "input_mask": ("records", "inputs_of_a_record"),
    "word_starts": ("records", "words"),
    "word_mask": ("records", "words"),
}
LARGEST = 2**31 - 2**24  # bytes of an ONNX file, whose format cannot hold 2 GB; larger weights lie beside it


class Logits(nn.Module):
    """Tensors in, one tensor of logits per task out."""

    def __init__(self, model: Any, names: Sequence[str], tasks: Sequence[str]):
        """names: of the tensors, in their order; tasks: whose logits are wanted, in their order."""
        super().__init__()
        self.model, self.names, self.tasks = model, names, tasks

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        batch = dict(zip(self.names, tensors, strict=True))
        logits = self.model({**batch, "tasks": self.tasks}).logits
        return tuple(logits[task].float() for task in self.tasks)


def input_names(model: Any, batch: Mapping[str, Any]) -> list[str]:
    """Tensors of a batch that the model looks at."""
    return [name for name in SHAPES
            if name in batch and (name in model.inputs or SHAPES[name][0] == "records")]  # fmt: skip


def export_program(model: Any, batch: Mapping[str, Any], tasks: Sequence[str]) -> ExportedProgram:
    """Raises ModelError if the model generates texts, or if torch cannot make a graph of it."""
    if hasattr(model, "generate"):
        raise ModelError(f"{model.task} generates texts step by step, which is no graph; transformers' own exporters "
                         "take its encoder/")  # fmt: skip
    names = input_names(model, batch)
    sizes = {"sub_words": Dim("sub_words", max=min(position_limit(model.encoder), 2**20))}
    for name in ("inputs", "inputs_of_a_record", "words", "records"):
        sizes[name] = Dim(name)
    if "input_mask" not in batch:  # each record has one
        sizes["inputs"] = sizes["records"]
    shapes = tuple(dict(enumerate(sizes[size] for size in SHAPES[name])) for name in names)
    tensors = tuple(batch[name] for name in names)
    fast, model = torch.backends.mha.get_fastpath_enabled(), model.cpu().eval()
    torch.backends.mha.set_fastpath_enabled(False)  # of shared layers: one operation that no other runtime has
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(Logits(model, names, tasks), tensors, dynamic_shapes=(shapes,), strict=False)
    except Exception as error:  # of torch's tracer, and whatever a model does with numbers that are not there yet
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ModelError(f"{type(model.encoder).__name__} cannot be exported: {reason}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def save_onnx(program: ExportedProgram, path: str | Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raises ModelError if an operation has no counterpart in ONNX."""
    bytes_of_weights = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it names libraries of pictures that are not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(program, (), str(path), dynamo=True, verbose=False, input_names=[*inputs],
                              output_names=[*outputs], external_data=bytes_of_weights > LARGEST)  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise ModelError(f"it cannot become ONNX: {' '.join(str(error).split())[:300]}") from error
    finally:
        logger.setLevel(level)
