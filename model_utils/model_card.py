"""The model card of a trained model: the text of its README.md, as the Hugging Face hub reads it.

    card = partial(model_card, base="bert-base-chinese", tasks=tasks, data=data, settings={"lr": 5e-5}, …)
    text = card({"epoch": 2, "step": 300, "eval": {"topic/accuracy": 0.93}})

YAML front matter (https://huggingface.co/docs/hub/model-cards), then tasks, training, evaluation, use and limits for
people. A pure function of its arguments, without dates and paths: the same run gives the same bytes. What comes from
data (labels, file and column names) stands in code spans, where Markdown and HTML mean nothing.

Copy: alone; needs PyYAML.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KINDS = {  # kind of task -> pipeline of the hub, what is predicted
    "sequence_classification": ("text-classification", "one label per text"),
    "multi_label_classification": ("text-classification", "any number of labels per text"),
    "sequence_regression": ("text-classification", "a number per text"),
    "word_tagging": ("token-classification", "a tag per word"),
    "global_pointer": ("token-classification", "entities, which may nest"),
    "span_selection": ("question-answering", "the part of a context that answers a question, or none"),
    "multiple_choice": ("multiple-choice", "one of several choices"),
    "sentence_embedding": ("sentence-similarity", "how alike two texts are, and a vector per text"),
    "text_generation": ("text-generation", "a text"),
}
FOLDERS = ("best", "last", "encoder")  # names that say nothing without the one above
MOST_LABELS = 200  # of a task that are listed


def model_card(
    entry: Mapping[str, Any],
    *,
    base: str,
    tasks: Sequence[Mapping[str, Any]],
    data: Sequence[Mapping[str, Any]],
    languages: Sequence[str],
    example: Mapping[str, Any],
    settings: Mapping[str, Any],
    monitor: str = "",
    max_length: int,
    stride: int = 0,
    loader: str = "AutoModel",
) -> str:
    """
    Args:
        entry: epoch, step, and metrics of the state that is described; metrics are named task/metric.
        base: the model that training began with, as it was given.
        tasks: {name, kind, labels, …options of the head}.
        data: {part, source, records, tasks} of each part of each data set, part being "train", "eval" or "test".
        languages: ISO 639-1 codes of the training texts, none where they are not known.
        example: a record as the model wants it.
        settings: option -> value, of the training.
        monitor: the metric that chose this state; "" where none did.
        max_length, stride: longest input in sub-words, and what windows of a longer text share.
        loader: class of transformers that loads encoder/.
    """
    import yaml

    front = yaml.safe_dump(metadata(entry, base, tasks, data, languages), sort_keys=False, allow_unicode=True)
    metrics = entry.get("eval", {})
    trained = "\n".join(sentences(entry, base, data, monitor))
    parts = [
        f"---\n{front}---\n",
        f"# {title(base, tasks)}\n",
        f"{trained}\n",
        "## Tasks\n",
        table(("task", "kind", "what is predicted", "labels"), [task_row(task) for task in tasks]),
        "## Training\n",
        table(("part", "source", "records"), [data_row(part, data) for part in data]),
        table(("option", "value"), [(code(name), code(shown(value))) for name, value in settings.items()]),
        "## Evaluation\n",
        *evaluation(metrics, tasks, data, monitor),
        "## Use\n",
        use(example, loader),
        "## Limits\n",
        "".join(f"- {limit}\n" for limit in limits(base, tasks, data, languages, max_length, stride)),
    ]
    return "\n".join(parts)


def metadata(
    entry: Mapping[str, Any],
    base: str,
    tasks: Sequence[Mapping[str, Any]],
    data: Sequence[Mapping[str, Any]],
    languages: Sequence[str],
) -> dict[str, Any]:
    """The front matter."""
    pipelines = [KINDS[task["kind"]][0] for task in tasks if task["kind"] in KINDS]
    kinds = sorted({task["kind"].replace("_", "-") for task in tasks})
    found: dict[str, Any] = {"language": list(languages)} if languages else {}
    found |= {"library_name": "pytorch", "tags": ["pytorch", "safetensors", *kinds, *["multi-task"] * (len(tasks) > 1)]}
    if pipelines:
        found["pipeline_tag"] = pipelines[0]
    if on_hub(base):
        found["base_model"] = base
    results = [result for task in tasks if (result := task_result(task, entry.get("eval", {}), data))]
    if results:
        found["model-index"] = [{"name": model_name(base, tasks), "results": results}]
    return found


def task_result(
    task: Mapping[str, Any], metrics: Mapping[str, float], data: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Of the model-index: the scores of a task; losses, and what is no number, are left out."""
    own = {key.partition("/")[2]: value for key, value in metrics.items() if key.startswith(f"{task['name']}/")}
    scores = [
        {"type": name, "value": round(value, 4), "name": f"{task['name']}/{name}"}
        for name, value in own.items()
        if name not in ("loss", "perplexity") and math.isfinite(value)
    ]
    sources = [d["source"] for d in data if d["part"] == "eval" and task["name"] in d["tasks"]]
    if not scores or not sources:
        return None
    about = {"name": ", ".join(sources), "type": slug(sources[0]), "split": "validation"}
    kind = KINDS[task["kind"]][0] if task["kind"] in KINDS else task["kind"].replace("_", "-")
    return {"task": {"type": kind, "name": task["name"]}, "dataset": about, "metrics": scores}


def sentences(
    entry: Mapping[str, Any], base: str, data: Sequence[Mapping[str, Any]], monitor: str
) -> list[str]:
    records = sum(d["records"] for d in data if d["part"] == "train")
    first = "Trained from random weights" if base.startswith("scratch:") else f"Fine-tuned from {code(short(base))}"
    chosen = f", chosen by `{monitor}` on the evaluation data" if monitor else ""
    return [f"{first} on {records:,} records with a plain-PyTorch training skeleton.",
            f"This is the state of step {entry['step']} (epoch {entry['epoch']}, counted from 0){chosen}."]  # fmt: skip


def evaluation(
    metrics: Mapping[str, float], tasks: Sequence[Mapping[str, Any]], data: Sequence[Mapping[str, Any]], monitor: str
) -> list[str]:
    if not metrics:
        return ["It was not evaluated in training.\n"]
    records = sum(d["records"] for d in data if d["part"] == "eval")
    optimistic = "; as they chose this state, the figures flatter it" if monitor else ""
    words = any(task["kind"] in ("word_tagging", "global_pointer") for task in tasks)
    strictly = " Entities count as right if type and both ends are; words lost by cutting count as missed." * words
    return [table(("metric", "value"), [(code(name), f"{value:.4f}") for name, value in metrics.items()]),
            f"On the {records:,} records of the evaluation data{optimistic}.{strictly}\n"]  # fmt: skip


def use(example: Mapping[str, Any], loader: str) -> str:
    record = json.dumps(example, ensure_ascii=False)
    return f"""In a checkout of the skeleton, as a call, or for a file of such records (one JSON object a line):

```python
from huggingface_hands_on.predictor import Predictor

predictor = Predictor("path/to/this/folder")
predictor([{record}])
```

```sh
python main.py --do_predict --predict_file new.jsonl --model_name_or_path path/to/this/folder --output_dir output/new
```

The encoder alone, with transformers:

```python
from transformers import AutoTokenizer, {loader}

encoder = {loader}.from_pretrained("path/to/this/folder/encoder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder/encoder")
```
"""


def limits(
    base: str,
    tasks: Sequence[Mapping[str, Any]],
    data: Sequence[Mapping[str, Any]],
    languages: Sequence[str],
    max_length: int,
    stride: int,
) -> list[str]:
    sources = ", ".join(code(d["source"]) for d in data if d["part"] == "train")
    spoken = f" in {' and '.join(languages)}" if languages else ""
    found = [f"It was trained on {sources}{spoken}. On texts of another kind, domain or language it may do worse, and "
             "no figure here says by how much."]  # fmt: skip
    if any(task["labels"] for task in tasks):
        found.append("It knows the labels above only: a text that fits none of them gets one (or none) all the same.")
    cut = f"are read in windows that share {stride} sub-words" if stride else "are cut, and the rest is not seen"
    found.append(f"Inputs longer than {max_length} sub-words {cut}.")
    found.append("Confidences are the model's own probabilities, not tested for calibration here.")
    if not base.startswith("scratch:"):
        found.append(f"What {code(short(base))} learnt before, its biases and its licence come with it.")
    return [*found, "No licence is named here; whoever passes the model on has to settle it."]


def title(base: str, tasks: Sequence[Mapping[str, Any]]) -> str:
    return f"{' and '.join(task['name'] for task in tasks)}: a model on {code(short(base))}"


def model_name(base: str, tasks: Sequence[Mapping[str, Any]]) -> str:
    return slug("-".join([short(base).rsplit("/", 1)[-1], *(task["name"] for task in tasks)]))


def on_hub(base: str) -> bool:
    """Whether it is a name of the hub, and no folder, package or size."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) is not None and base[0] not in ".-" and not Path(base).is_dir()


def short(path: str) -> str:
    """The name of a model or a file without the folders it is in; what is no path stays."""
    if on_hub(path) or ":" in path.partition("/")[0]:
        return path
    names = Path(path).parts[-2:]
    return "/".join(names) if names[-1] in FOLDERS and len(names) > 1 else names[-1]


def slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-").lower()


def task_row(task: Mapping[str, Any]) -> tuple[str, ...]:
    labels = [code(str(label)) for label in task["labels"][:MOST_LABELS]]
    more = len(task["labels"]) - len(labels)
    listed = ", ".join([*labels, *[f"and {more:,} more in labels.json"] * (more > 0)])
    return task["name"], task["kind"], KINDS.get(task["kind"], ("", ""))[1], listed


def data_row(part: Mapping[str, Any], data: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    trained = [other["source"] for other in data if other["part"] == "train"]
    split_off = ", split off" if part["part"] != "train" and part["source"] in trained else ""
    return part["part"], f"{code(part['source'])}{split_off}", f"{part['records']:,}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(text: str) -> str:
    """A code span that holds any text, also in a table."""
    text = " ".join(text.split())
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    space = " " * (text[:1] == "`" or text[-1:] == "`")
    return f"{'`' * (longest + 1)}{space}{text}{space}{'`' * (longest + 1)}".replace("|", r"\|")


def shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
