r"""The model of best/ for other runtimes: torch.export and ONNX, with all that is needed to predict without torch.

    python -m huggingface_hands_on.export_model output/sample_joint/best --output_dir output/sample_joint/export
    python output/sample_joint/export/predict.py "book a flight to Paris"

The folder holds model.onnx (records, lengths and words are free), model.pt2, tokenizer, labels, predict.py, which needs
onnxruntime and tokenizers only, and agreement.md: how far the logits of each format are from those of the model. It is
written whole, or not at all if they are farther than --tolerance or decoded in another way.
"""

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from .command_line import require, require_new, run

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
ROOT = Path(__file__).parents[1]
SHIPPED = {  # beside model.onnx: name there -> file here
    "predict.py": ROOT / "huggingface_hands_on/onnx_predict.py",
    "templates.py": ROOT / "data_process/templates.py",
    "viterbi.py": ROOT / "model_utils/viterbi.py",
}
Format = Literal["torch_export", "onnx"]
ONNX = """`model.onnx` with onnxruntime and tokenizers alone:

```sh
pip install onnxruntime tokenizers
python predict.py "a text"
```

```python
from predict import Predictor  # with this folder on the path

Predictor("path/to/this/folder")(["a text"])
```
"""


def export_model(
    folder: str,
    output_dir: str = "",
    formats: list[Format] = ["torch_export", "onnx"],  # noqa: B006 (jsonargparse shows it)
    data_set: str | None = None,
    tolerance: float = 1e-5,
    trust_remote_code: bool = False,
) -> None:
    """Export a trained model and compare it with itself.

    Args:
        folder: best/ of a run
        output_dir: a new folder
        formats: torch_export writes model.pt2, onnx writes model.onnx (needs the extra `export`)
        data_set: of a model that was trained on several: the one whose columns and tasks are wanted
        tolerance: greatest difference of a logit, times the largest logit where that is above 1
        trust_remote_code: run Python code that comes with a model of the hub
    """
    require(bool(output_dir), "output_dir", "needed: a new folder")
    require(bool(formats), "formats", "give torch_export, onnx, or both")
    missing = [name for name in LIBRARIES if "onnx" in formats and importlib.util.find_spec(name) is None]
    require(not missing, "formats", f"onnx needs {', '.join(missing)}: pip install \".[export]\"")
    from .predictor import check_folder

    check_folder(Path(folder))
    require_new(output_dir)
    import main
    from model_utils.build import saved_model
    from model_utils.model_error import ModelError
    from trainer.checkpoint import write_folder

    from .agreement import as_table, probe_batches
    from .predictor import read_job

    job = read_job(Path(folder), "cpu", "fp32", data_set, trust_remote_code)
    [(name, options)] = job.options.items()
    model = saved_model(folder, trust_remote_code)
    batches = probe_batches(job, main.build_collator(job, name))
    rows: list[dict[str, Any]] = []

    def write(target: Path) -> None:
        rows.extend(save_graphs(model, batches, options["tasks"], formats, target))
        far = next((row for row in rows if is_far(row, tolerance)), None)
        if far:
            raise ModelError(
                f"{far['format']} differs from the model: logits of {far['task']} by {far['largest_difference']:.1e} "
                f"({far['batch']}), {far['same_predictions']} of {far['records']} predictions are the same"
            )
        describe(job, model, batches, rows, Path(folder), target)

    write_folder(output_dir, write, keep_previous=False)
    print(as_table(rows))
    print(f"{output_dir}: {', '.join(formats)}")


def save_graphs(
    model: Any, batches: dict[str, Any], tasks: list[str], formats: list[Format], target: Path
) -> list[dict[str, Any]]:
    """Write the graphs, and compare what was written with the model."""
    import torch

    from model_utils.export_graph import export_program, input_names, save_onnx

    from .agreement import agreement

    example = batches["lengths that differ"]
    program, names = export_program(model, example, tasks), input_names(model, example)
    runs: dict[str, Any] = {}
    if "torch_export" in formats:
        torch.export.save(program, target / "model.pt2")
        loaded = torch.export.load(target / "model.pt2").module()
        runs["torch_export"] = lambda batch: loaded(*(batch[name] for name in names))
    if "onnx" in formats:
        import onnxruntime

        save_onnx(program, target / "model.onnx", names, tasks)
        session = onnxruntime.InferenceSession(str(target / "model.onnx"), providers=["CPUExecutionProvider"])
        runs["onnx"] = lambda batch: [
            torch.from_numpy(found) for found in session.run(tasks, {name: batch[name].numpy() for name in names})
        ]
    return agreement(model, batches, tasks, runs)


def is_far(row: dict[str, Any], tolerance: float) -> bool:
    return row["largest_difference"] > tolerance * max(1.0, row["largest_logit"]) or (
        row["same_predictions"] < row["records"]
    )


def describe(
    job: Any, model: Any, batches: dict[str, Any], rows: list[dict[str, Any]], folder: Path, target: Path
) -> None:
    """Everything beside the graphs."""
    from data_process.feature_cache import tokenizer_settings
    from model_utils.export_graph import input_names
    from model_utils.viterbi import save_scores
    from trainer.checkpoint import write_json

    from .agreement import as_table

    [options], [data] = job.options.values(), job.data.values()
    inputs, template = data.encode.inputs, data.encode.inputs.template
    tasks = []
    for task in options["tasks"]:
        head = model.heads[task]
        crf = f"crf-{task}.npz" if getattr(head, "crf", None) is not None else None
        if crf:
            save_scores(target / crf, head.crf)
        own = {key: getattr(head, key) for key in ("max_answer_length", "no_answer_margin") if hasattr(head, key)}
        thresholds = {"thresholds": head.thresholds.tolist()} if hasattr(head, "thresholds") else {}
        tasks.append({"name": task, "kind": head.spec["kind"], "crf": crf, **own, **thresholds})
    columns = {name: options[name] for name in ("text_column", "text_pair_column", "choices_column")}
    write_json(target / "config.json", {
        "tasks": tasks, "inputs": input_names(model, batches["one word"]), "form": data.schema.form, **columns,
        "room": inputs.room, "stride": inputs.stride, "special": template.special,
        "special_types": template.special_types, "text_types": template.text_types, "filler": inputs.filler,
        "pad_token_id": job.tokenizer.pad_token_id,
    })  # fmt: skip
    write_json(target / "agreement.json", rows)
    (target / "agreement.md").write_text(as_table(rows), encoding="utf-8")
    (target / "tokenizer.json").write_text(tokenizer_settings(job.tokenizer), encoding="utf-8")
    for name in ("labels.json", "tokenizer_config.json"):
        shutil.copyfile(folder / name, target / name)
    formats = list(dict.fromkeys(row["format"] for row in rows))
    for name, file in SHIPPED.items() if "onnx" in formats else ():
        shutil.copyfile(file, target / name)
    card = folder / "README.md"
    about = card.read_text(encoding="utf-8") if card.is_file() else "# Exported model\n\n## Use\n\n## Limits\n"
    (target / "README.md").write_text(with_use(about, use(formats, tasks)), encoding="utf-8")


def use(formats: list[str], tasks: list[dict[str, Any]]) -> str:
    """A section of the model card."""
    lines = ["## Use\n"]
    if "onnx" in formats:
        lines.append(ONNX)
    if "torch_export" in formats:
        lines.append('`model.pt2` with torch: `torch.export.load("model.pt2").module()`, called with the tensors that '
                     "`config.json` names under `inputs`, in that order.\n")  # fmt: skip
    if any(task["crf"] for task in tasks):
        lines.append("Logits of tasks with a CRF are scores of each tag at each word; the best path through them is "
                     "`viterbi` of `viterbi.py`, which needs NumPy only.\n")  # fmt: skip
    lines.append("How close the logits are to the model's: `agreement.md`.\n")
    return "\n".join(lines)


def with_use(card: str, section: str) -> str:
    """The card with another section on its use."""
    before, _, rest = card.partition("## Use\n")
    return f"{before}{section}\n## Limits\n{rest.partition('## Limits' + chr(10))[2]}"


def main(argv: list[str] | None = None) -> int:
    return run("huggingface_hands_on.export_model", [export_model], argv, positional=True)


if __name__ == "__main__":
    sys.exit(main())
