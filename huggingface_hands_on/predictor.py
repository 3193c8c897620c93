"""Labels of texts as a Python call, from the folder best/ of a run alone.

    predictor = Predictor("output/sample_joint/best")
    predictor(["book a flight to Paris", "play hello by Adele"])     # [{"intent": "book_flight", "slots": […]}, …]
    predictor([{"tokens": ["play", "hello"]}], confidences=True)     # [{"predictions": {…}, "confidences": {…}}]

The answers are those of `main.py --do_predict` on the same records: the same code encodes, batches and decodes. Nothing
is written. torch is imported with the first Predictor, so that this file and mistakes cost nothing.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import main
from config import Arguments, ConfigError, data_sets, require

NAME = "records"


class Predictor:
    """Holds a model; not for several threads at once."""

    def __init__(
        self,
        folder: str | Path,
        device: str = "auto",
        batch_size: int = 64,
        precision: str = "auto",
        data_set: str | None = None,
        trust_remote_code: bool = False,
    ):
        """
        Args:
            folder: best/ (or last/) of a run, wherever it is now.
            device, precision: as main.py's.
            batch_size: records of a batch; those of about the same length share one.
            data_set: of a model that was trained on several: the one whose columns and tasks the records have.
            trust_remote_code: run Python code that comes with a model of the hub.

        Raises: ConfigError; ModelError, CheckpointError, DataError or DeviceError for what cannot be loaded. All are
            ValueErrors with a message of one line.
        """
        check_folder(Path(folder))
        require(batch_size > 0, "batch_size", "must be above 0")
        self.batch_size = batch_size
        self.job = read_job(Path(folder), device, precision, data_set, trust_remote_code)
        from trainer.device import make_autocast

        [(name, self.data)] = self.job.data.items()
        self.tasks = self.job.options[name]["tasks"]
        self.model = main.build_model(self.job).to(self.job.device).eval()
        self.collate = main.build_collator(self.job, name)
        self.autocast = make_autocast(self.job.precision, self.job.device)

    def __call__(self, records: Iterable[Any], confidences: bool = False) -> list[dict[str, Any]]:
        """task -> prediction of each record, as in the files of main.py, in the order of the records.

        Args:
            records: texts, lists of words, or dicts with the columns of the run; other columns are not looked at.
            confidences: give {"predictions": …, "confidences": …} of each record instead, both by task.

        Raises: ConfigError; DataError that says which record is wrong, counted from 0.
        """
        from data_loader.build import Chained, MapDataset, eval_loader
        from data_loader.order import longest_first
        from data_process.predictions import shown
        from trainer.prediction import predict

        checked = self.checked(records)
        if not checked:
            return []
        features = self.data.encode([*enumerate(checked)])
        order = longest_first([len(feature["input_ids"]) for feature in features])
        rows = MapDataset(lambda numbers: [features[number] for number in numbers], len(features))
        loader = eval_loader(rows, self.collate, batch_size=self.batch_size, order=order)
        found = predict(self.model, Chained([loader], [self.tasks]), self.job.device, self.autocast, confidences,
                        progress=False)  # fmt: skip
        found = found.between(range(len(checked)), self.tasks)
        answers = [shown(number, record, self.data.schema, found.labels, found.confidences)
                   for number, record in enumerate(checked)]  # fmt: skip
        return answers if confidences else [answer["predictions"] for answer in answers]

    def checked(self, records: Iterable[Any]) -> list[dict[str, Any]]:
        """Only the columns with texts, without mistakes."""
        from data_process.errors import DataError, kind
        from data_process.record_checks import check_record

        schema = self.data.schema
        columns = [name for name in (schema.text_column, schema.text_pair_column, schema.choices_column) if name]
        gold = {label.column for label in schema.labels} - {*columns}
        several = isinstance(records, Iterable) and not isinstance(records, str | dict)
        require(several, NAME, "must be a list (or another iterable); put a single record in a list")
        found = []
        for number, record in enumerate(records):
            where = f"{NAME}[{number}]"
            if isinstance(record, str | list):
                record = {schema.text_column: record}
            if not isinstance(record, dict):
                right = f"must be a text, a list of words, or a dict with {', '.join(columns)}"
                raise DataError(where, f"{right}, found {kind(record)}")
            without_gold = {name: value for name, value in record.items() if name not in gold}
            check_record(where, without_gold, schema, "optional", {}, ())
            found.append({name: record[name] for name in columns if name in record})
        return found


def check_folder(folder: Path) -> None:
    """Raises ConfigError if it is no folder that predicts."""
    require(folder.is_dir(), "folder", f"there is no folder {folder}")
    if not (folder / "labels.json").is_file():
        hint = f"give {folder / 'best'}" if (folder / "best/labels.json").is_file() else "give best/ of a finished run"
        raise ConfigError(f"arguments: folder: {folder} holds no trained model (no labels.json); {hint}")


def read_job(
    folder: Path, device: str = "auto", precision: str = "auto", data_set: str | None = None,
    trust_remote_code: bool = False,
) -> main.Job:
    """Tasks, columns, tokenizer and encoding of a saved model, without data; no process group, no log."""
    from data_process import build
    from data_process.data_sets import DataSets
    from data_process.schema import LabelColumn, Schema
    from model_utils.heads import head_class
    from model_utils.language_model import is_causal
    from trainer.checkpoint import read_json
    from trainer.device import pick_device, pick_precision

    names = [entry["name"] for entry in read_json(folder / "config.json")["datasets"]]
    right = f"{folder} was trained on {', '.join(names)}; name the one whose columns the records have"
    require(data_set in names or (data_set is None and len(names) == 1), "data_set", right)
    chosen: list[dict[str, Any]] = [{"name": data_set}] if data_set else []
    args = Arguments(model_name_or_path=str(folder), device=device, do_predict=True, datasets=chosen,
                     trust_remote_code=trust_remote_code)  # fmt: skip
    place = pick_device(device)
    job = main.Job(args, asdict(args), 0, 1, place, pick_precision(precision, place), folder=folder)
    job.tasks = main.saved_tasks(folder, args)
    [options] = data_sets(args, job.tasks)
    levels = {task["name"]: head_class(task["kind"]).LABEL_LEVEL for task in job.tasks}
    labels = tuple(LabelColumn(task, options["label_columns"][task], levels[task]) for task in options["tasks"])
    schema = Schema(options["text_column"], options["text_pair_column"], labels, options["tag_scheme"],
                    options["choices_column"], options["prompt"])  # fmt: skip
    data = build.Data(schema, scans={}, sources={}, indices={}, cache_dir="")
    job.data, job.options = DataSets({options["name"]: data}), {options["name"]: options}
    build.settle_labels([data], job.tasks)
    job.tokenizer = build.build_tokenizer([data], str(folder), trust_remote_code=trust_remote_code)
    job.causal = "text" in levels.values() and is_causal(str(folder), trust_remote_code)
    data.set_encoder(job.tokenizer, args.max_length, args.stride, args.max_target_length, job.causal)
    return job
