"""Labels of texts with onnxruntime and tokenizers alone: neither torch nor transformers is needed.

    python predict.py "book a flight to Paris"              # a JSON line; or a record: '{"tokens": ["book", "a"]}'

    from predict import Predictor                           # with this folder on the path
    Predictor("output/run/export")(["book a flight to Paris"])      # [{"intent": "book_flight", "slots": […]}]

It stands in a folder that export_model.py wrote, beside templates.py and viterbi.py. Needs: pip install onnxruntime
tokenizers. B records, R inputs of the encoder, T sub-words, W words.
"""

import json
import sys
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from templates import cut, owners, windows
from tokenizers import Tokenizer
from viterbi import viterbi


class Predictor:
    def __init__(self, folder: str | Path = ".", threads: int = 0):
        """threads: of a call; 0: as many as there are cores."""
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.crf = {task["name"]: dict(np.load(folder / task["crf"])) for task in self.config["tasks"] if task["crf"]}
        self.special, self.room = self.config["special"], self.config["room"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, ["CPUExecutionProvider"])

    def __call__(self, records: list[Any]) -> list[dict[str, Any]]:
        """task -> prediction of each record (a text, a list of words, or a dict with the columns of config.json).

        All in one batch: texts of like length together cost least.
        """
        records = [record if isinstance(record, dict) else {self.config["text_column"]: record} for record in records]
        features = [getattr(self, self.config["form"])(record) for record in records]
        batch = self.collate(features)
        names = [output.name for output in self.session.get_outputs()]
        outputs = self.session.run(names, {name: batch[name] for name in self.config["inputs"]})
        found = {
            task["name"]: getattr(self, f"decode_{task['kind']}")(task, logits, features)
            for task, logits in zip(self.config["tasks"], outputs, strict=True)
        }
        return [{task: values[number] for task, values in found.items()} for number in range(len(records))]

    # records -> inputs; a feature has "rows", the texts of each input, and for words "places", (input, place) of each

    def column(self, record: dict[str, Any], name: str) -> Any:
        column = self.config[name]
        return None if column is None else record.get(column)

    def ids(self, text: Any) -> list[int]:
        text = text if isinstance(text, str) else " ".join(text)
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def pieces(self, words: Any) -> list[list[int]]:
        words = words.split() if isinstance(words, str) else words
        encoding = self.tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
        found: dict[int | None, list[int]] = {number: [] for number in range(len(words))}
        for number, word in zip(encoding.ids, encoding.word_ids, strict=True):
            found[word].append(number)
        return [*found.values()]

    def text(self, record: dict[str, Any]) -> dict[str, Any]:
        pair = self.column(record, "text_pair_column")
        return self.joined(self.ids(self.column(record, "text_column")), None if pair is None else self.ids(pair))

    def words(self, record: dict[str, Any]) -> dict[str, Any]:
        pair = self.column(record, "text_pair_column")
        pieces = [piece or [self.config["filler"]] for piece in self.pieces(self.column(record, "text_column"))]
        ids = [*chain.from_iterable(pieces)]
        feature = self.joined(ids, None if pair is None else [*chain.from_iterable(self.pieces(pair))])
        starts = accumulate(map(len, pieces), initial=0)
        feature["places"] = [feature["places"][start] for start in starts if start < len(feature["places"])]
        words = self.column(record, "text_column")
        return feature | {"words": words.split() if isinstance(words, str) else words}

    def joined(self, ids: list[int], pair: list[int] | None) -> dict[str, Any]:
        first = len(self.special[0])
        if self.config["stride"]:
            return self.windowed([], ids, first, self.room)
        sides = [ids] if pair is None else [ids, pair]
        kept = cut([len(side) for side in sides], self.room)
        rows = [[side[:number] for side, number in zip(sides, kept, strict=True)]]
        return {"rows": rows, "places": [(0, first + number) for number in range(kept[0])]}

    def windowed(self, before: list[list[int]], ids: list[int], first: int, room: int) -> dict[str, Any]:
        """Pieces of a long text, each behind the same other texts; a place is in the piece with most context."""
        spans = windows(len(ids), room, self.config["stride"]) if self.config["stride"] else [(0, min(len(ids), room))]
        rows = [[*before, ids[start:end]] for start, end in spans]
        chosen = owners(spans).tolist()
        return {"rows": rows, "places": [(own, first + n - spans[own][0]) for n, own in enumerate(chosen)]}

    def context(self, record: dict[str, Any]) -> dict[str, Any]:
        asked = self.ids(self.column(record, "text_column"))[: self.room // 2]
        text = self.column(record, "text_pair_column")
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        first = len(self.special[0]) + len(asked) + len(self.special[1])
        feature = self.windowed([asked], encoding.ids, first, self.room - len(asked))
        offsets = [without_space(text, *offset) for offset in encoding.offsets[: len(feature["places"])]]
        return feature | {"places": [(0, 0), *feature["places"]], "offsets": [(0, 0), *offsets], "context": text}

    def choices(self, record: dict[str, Any]) -> dict[str, Any]:
        text, question = self.ids(self.column(record, "text_column")), self.column(record, "text_pair_column")
        asked, choices = [] if question is None else self.ids(question), self.column(record, "choices_column")
        rows = []
        for choice in choices:
            sides = [text, asked + self.ids(choice)]
            kept = cut([len(side) for side in sides], self.room)
            rows.append([side[:number] for side, number in zip(sides, kept, strict=True)])
        return {"rows": rows, "choices": choices}

    def separate(self, record: dict[str, Any]) -> dict[str, Any]:
        first, second = (self.column(record, name) for name in ("text_column", "text_pair_column"))
        return {"rows": [[self.ids(text)[: self.room]] for text in (first, first if second is None else second)]}

    def collate(self, features: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        ids, types = [], []
        for row in chain.from_iterable(feature["rows"] for feature in features):
            first, *others = self.config["special_types"]
            own, kinds = [*self.special[0]], [*first]
            around = zip(row, self.config["text_types"], self.special[1:], others, strict=True)
            for part, kind, behind, kinds_behind in around:
                own += [*part, *behind]
                kinds += [*[kind] * len(part), *kinds_behind]
            ids.append(own)
            types.append(kinds)
        longest = max(map(len, ids))
        input_ids, real = padded(ids, longest, self.config["pad_token_id"])
        places = [[row * longest + place for row, place in feature.get("places", [])] for feature in features]
        word_starts, word_mask = padded(places, max(map(len, places)), 0)
        rows = [[1] * len(feature["rows"]) for feature in features]
        return {
            "input_ids": input_ids, "attention_mask": real.astype(np.int64), "word_starts": word_starts,
            "token_type_ids": padded(types, longest, 0)[0], "word_mask": word_mask,
            "input_mask": padded(rows, max(map(len, rows)), 0)[1],
        }  # fmt: skip

    # logits -> predictions, one method per kind of task

    def decode_sequence_classification(self, task: Any, logits: np.ndarray, features: Any) -> list[str]:
        return [self.labels[task["name"]][number] for number in logits.argmax(1).tolist()]

    def decode_multi_label_classification(self, task: Any, logits: np.ndarray, features: Any) -> list[list[str]]:
        chosen = 1 / (1 + np.exp(-logits)) >= np.array(task["thresholds"], dtype=np.float32)
        labels = self.labels[task["name"]]
        return [sorted(label for label, yes in zip(labels, row, strict=True) if yes) for row in chosen.tolist()]

    def decode_sequence_regression(self, task: Any, logits: np.ndarray, features: Any) -> list[float]:
        return logits.tolist()

    def decode_word_tagging(self, task: Any, logits: np.ndarray, features: Any) -> list[list[str]]:
        lengths = [len(feature["places"]) for feature in features]
        if task["name"] in self.crf:
            mask = np.arange(logits.shape[1]) < np.array(lengths)[:, None]
            paths = viterbi(logits, mask, **self.crf[task["name"]])
        else:
            paths = [row[:length] for row, length in zip(logits.argmax(2).tolist(), lengths, strict=True)]
        names = self.labels[task["name"]]
        lost = [len(feature["words"]) - length for feature, length in zip(features, lengths, strict=True)]
        return [[names[n] for n in path] + ["O"] * more for path, more in zip(paths, lost, strict=True)]

    def decode_global_pointer(self, task: Any, logits: np.ndarray, features: Any) -> list[list[dict[str, Any]]]:
        found: list[list[tuple[int, int, str]]] = [[] for _ in features]
        for text, number, first, last in np.argwhere(logits > 0).tolist():
            found[text].append((first, last + 1, self.labels[task["name"]][number]))
        return [
            [{"start": a, "end": b, "label": label, "words": feature["words"][a:b]} for a, b, label in sorted(spans)]
            for spans, feature in zip(found, features, strict=True)
        ]

    def decode_multiple_choice(self, task: Any, logits: np.ndarray, features: Any) -> list[dict[str, Any]]:
        chosen = zip(logits.argmax(1).tolist(), features, strict=True)
        return [{"number": number, "text": feature["choices"][number]} for number, feature in chosen]

    def decode_sentence_embedding(self, task: Any, logits: np.ndarray, features: Any) -> list[float]:
        return (logits[:, 0] * logits[:, 1]).sum(1).tolist()

    def decode_span_selection(self, task: Any, logits: np.ndarray, features: Any) -> list[dict[str, Any]]:
        answers = []
        for scores, feature in zip(logits, features, strict=True):
            starts, ends = scores[1 : len(feature["places"])].T
            best, first, last = -np.inf, 0, 0
            for length in range(min(task["max_answer_length"], len(starts))):
                sums = starts[: len(starts) - length] + ends[length:]
                if sums.max() > best:
                    best, first = sums.max(), int(sums.argmax())
                    last = first + length
            start, end = feature["offsets"][first + 1][0], feature["offsets"][last + 1][1]
            answered = np.isfinite(best) and scores[0].sum() - best <= task["no_answer_margin"]
            text = [feature["context"][start:end]] if answered else []
            answers.append({"text": text, "answer_start": [start] * len(text)})
        return answers


def padded(rows: list[list[int]], length: int, value: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, length) numbers, and True where they are real."""
    real = np.arange(length) < np.array([len(row) for row in rows])[:, None]
    found = np.full(real.shape, value, dtype=np.int64)
    found[real] = [number for row in rows for number in row]
    return found, real


def without_space(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    return start, end


if __name__ == "__main__":
    given = [json.loads(text) if text.startswith("{") else text for text in sys.argv[1:]]
    for answer in Predictor(Path(__file__).parent)(given) if given else []:
        print(json.dumps(answer, ensure_ascii=False))
