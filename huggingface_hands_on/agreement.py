"""How far an exported model's logits are from those of the model itself, and whether they are decoded alike.

    batches = probe_batches(job, collate)                  # title -> batch: one record, unequal lengths, the longest
    rows = agreement(model, batches, tasks, {"onnx": lambda batch: …})
    print(as_table(rows))
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from model_utils.viterbi import viterbi

Run = Callable[[Mapping[str, Any]], Sequence[torch.Tensor]]  # batch -> logits of each task
COLUMNS = ("format", "batch", "inputs x sub-words", "task", "largest logit", "largest difference", "same predictions")


def probe_batches(job: Any, collate: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Batches of records made of random words of the vocabulary, encoded as all records are."""
    [data] = job.data.values()
    longest = 2 * job.args.max_length  # words, so that they are cut, or become windows
    sizes = {
        "one word": [1],
        "one record": [11],
        "lengths that differ": [2, 9, longest],
        "8 short ones": [5, 6, 7, 8, 9, 10, 11, 12],
        "the longest": [longest, longest],
    }
    words = known_words(job.tokenizer)
    drawn = random.Random(0)
    return {
        title: collate(data.encode([*enumerate(record(data.schema, words, size, drawn) for size in some)]))
        for title, some in sizes.items()
    }


def known_words(tokenizer: Any) -> list[str]:
    """Words of the vocabulary, in the order of their numbers."""
    known = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    texts = (tokenizer.convert_tokens_to_string([token]).strip() for token, _ in known)
    return [text for text in texts if text.isalnum()] or ["a"]


def record(schema: Any, words: Sequence[str], size: int, drawn: random.Random) -> dict[str, Any]:
    """Texts of so many words in the columns of the schema."""
    def some(number: int) -> list[str]:
        return drawn.choices(words, k=number)

    found: dict[str, Any] = {schema.text_column: some(size)}
    if schema.form != "words":
        found[schema.text_column] = " ".join(found[schema.text_column])
    if schema.text_pair_column:
        pair = some(size + 1)
        found[schema.text_pair_column] = pair if schema.form == "words" else " ".join(pair)
    if schema.choices_column:
        found[schema.choices_column] = [" ".join(some(3)) for _ in range(2 + size % 3)]
    return found


@torch.no_grad()
def agreement(
    model: Any, batches: Mapping[str, Mapping[str, Any]], tasks: Sequence[str], runs: Mapping[str, Run]
) -> list[dict[str, Any]]:
    """A row for each format, batch and task; those with a CRF are decoded by viterbi.py as well."""
    rows = []
    for name, run in runs.items():
        for title, batch in batches.items():
            expected = model({**batch, "tasks": tasks}).logits
            for task, logits in zip(tasks, run(batch), strict=True):
                rows.append({"format": name, "batch": title, "shape": [*batch["input_ids"].shape], "task": task,
                             **compared(model.heads[task], expected[task].float(), logits, batch)})  # fmt: skip
    return rows


def compared(head: Any, expected: torch.Tensor, found: torch.Tensor, batch: Mapping[str, Any]) -> dict[str, Any]:
    finite, right = expected.isfinite(), head.decode(expected, batch)
    if expected.shape != found.shape or not torch.equal(finite, found.isfinite()):
        difference, alike = math.inf, [False] * len(right)
    else:
        difference = (expected - found)[finite].abs().max().item() if finite.any() else 0.0
        alike = [is_same(*each) for each in zip(right, head.decode(found, batch), strict=True)]
        if (crf := getattr(head, "crf", None)) is not None:
            start, end, pairs = (scores.detach().numpy() for scores in crf.decoding_scores())
            own = viterbi(found.numpy(), batch["word_mask"].numpy(), start, end, pairs)
            paths = [[head.labels[n] for n in path] for path in own]
            alike = [yes and tags[: len(path)] == path for yes, tags, path in zip(alike, right, paths, strict=True)]
    return {
        "largest_logit": expected[finite].abs().max().item() if finite.any() else 0.0,
        "largest_difference": difference,
        "same_predictions": sum(alike),
        "records": len(alike),
    }


def is_same(one: Any, other: Any) -> bool:
    """Numbers are so if they are as close as their logits."""
    return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-4) if isinstance(one, float) else one == other


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """As Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS)]
    for row in rows:
        size, same = " x ".join(map(str, row["shape"])), f"{row['same_predictions']} of {row['records']}"
        lines.append((row["format"], row["batch"], size, row["task"], f"{row['largest_logit']:.3g}",
                      f"{row['largest_difference']:.1e}", same))  # fmt: skip
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
