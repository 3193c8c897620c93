"""What a prediction costs from best/ and from its export: calls beside bare forward passes, onnxruntime beside torch.

    python -m huggingface_hands_on.export_model output/snips/best --output_dir output/snips/export --formats '[onnx]'
    python -m benchmarks.serving --folder output/snips/best --export output/snips/export --records data/snips/test.jsonl

The same records in the same batches, fp32 on a CPU. "forward" is encoder and heads on a ready batch; a call goes
from records to predictions (Viterbi included). predict.py is in this process too, but uses no torch.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import main
from config import in_data_dir
from data_process.readers import read_records
from huggingface_hands_on.predictor import Predictor
from model_utils.build import saved_model
from trainer.checkpoint import read_json

from .rounds import Comparison, Go, compare, once, options, show

SIZES = (1, 8, 64)  # records of a call
REPEATS = {1: 40, 8: 20, 64: 5}  # calls that a round times


def repeated(function: Callable[[], Any], times: int) -> Callable[[], Go]:
    def call() -> None:
        for _ in range(times):
            function()

    return lambda: once(call, times)


def exported_predictor(folder: Path) -> Any:
    """The class of predict.py in an export, on one thread."""
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("exported_predict", folder / "predict.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Predictor(folder, threads=1)


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.set_defaults(threads=[1])
    parser.add_argument("--folder", required=True, help="best/ of a run")
    parser.add_argument("--export", required=True, help="what export_model wrote from it")
    parser.add_argument("--records", required=True, help="a file of records")
    given = parser.parse_args(argv)
    predictor = Predictor(given.folder, device="cpu", precision="fp32")
    exported = exported_predictor(Path(given.export))
    padded, names = saved_model(given.folder), read_json(Path(given.export, "config.json"))["inputs"]
    records = [record for _, record in read_records(in_data_dir(given.records))]
    for size in SIZES:
        some = predictor.checked(records[:size])
        batch = predictor.collate(predictor.data.encode([*enumerate(some)]))
        arrays: dict[str, np.ndarray] = {name: batch[name].numpy() for name in names}

        def forward(model: Any, batch: Any = batch) -> None:
            with torch.no_grad():
                model(batch)

        shape, times = " x ".join(map(str, batch["input_ids"].shape)), REPEATS[size]
        calls: dict[str, Callable[[], Any]] = {
            "Predictor": lambda some=some: predictor(some),  # type: ignore[misc]
            "forward alone": lambda forward=forward: forward(predictor.model),  # type: ignore[misc]
            "predict.py": lambda some=some: exported(some),  # type: ignore[misc]
        }
        forwards: dict[str, Callable[[], Any]] = {
            "onnxruntime": lambda arrays=arrays: exported.session.run(None, arrays),  # type: ignore[misc]
            "torch": lambda forward=forward: forward(padded),  # type: ignore[misc]
            "torch without padding": lambda forward=forward: forward(predictor.model),  # type: ignore[misc]
        }
        for title, runs in ((f"call, {shape}", calls), (f"forward, {shape}", forwards)):
            for run in runs.values():
                run()  # what is made at first use
            yield compare(title, "call", {name: repeated(run, times) for name, run in runs.items()}, given)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
