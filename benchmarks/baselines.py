"""What a job has to beat: the commonest label, the commonest tag of each word, TF-IDF with a linear model.

    python -m benchmarks.baselines --config configs/thucnews10.yaml

Learned from the training data of the job and scored on its test data by the heads themselves, so the figures stand
beside those of main.py. Generated texts have no baseline here.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

import main
from config import ConfigError, get_args
from data_process.errors import DataError
from data_process.sources import open_source
from model_utils.heads import build_head

Example = tuple[Any, ...]  # (text,), (text, second text), (words,) or (text, question, choices)
Predictions = dict[str, list[Any]]  # baseline -> its predictions
PIECE = re.compile(r"[^，。！？；：、,.!?;:]+")  # of a sentence


def baselines(argv: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """task -> baseline -> metrics on the test data."""
    job = main.build_job(get_args([*argv, "--do_train", "true", "--do_eval", "true"]))
    main.build_data(job)
    if not any(task["kind"] in LEARN for task in job.tasks):
        raise ConfigError(f"arguments: tasks: there are baselines for {', '.join(sorted(LEARN))} only")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for task in job.tasks:
        if task["kind"] in LEARN:
            train, labels = examples(job, "train", task["name"])
            test, references = examples(job, "test", task["name"])
            head: Any = build_head(task["kind"], 1, task["labels"], main.head_options(task))
            predictions = LEARN[task["kind"]](train, labels, test)
            found[task["name"]] = {name: head.score(guessed, references) for name, guessed in predictions.items()}
    return found


def examples(job: main.Job, part: str, task: str) -> tuple[list[Example], list[Any]]:
    """Texts of all records with a gold label, and these."""
    texts, gold = [], []
    for name in job.data.having(part):
        data = job.data[name]
        chosen = set(data.numbers(part))
        for number, (_, record) in enumerate(open_source(data.sources[part])):
            if number in chosen and not isinstance(record, DataError) and task in data.schema.gold(record):
                read = (data.schema.text(record), data.schema.text_pair(record), data.schema.choices(record))
                texts.append(tuple(text for text in read if text is not None and text != []))
                gold.append(data.schema.gold(record)[task])
    return texts, gold


def classify(train: Sequence[Example], labels: Sequence[str], test: Sequence[Example]) -> Predictions:
    """Of two texts, what they share and where they differ."""
    commonest = Counter(labels).most_common(1)[0][0]
    vectorizer = tf_idf(train)
    svm = LinearSVC().fit(features(vectorizer, train), labels)
    return {"commonest label": [commonest] * len(test),
            "TF-IDF, linear SVM": svm.predict(features(vectorizer, test)).tolist()}  # fmt: skip


def tag(train: Sequence[Example], tags: Sequence[Sequence[str]], test: Sequence[Example]) -> Predictions:
    counts: dict[str, Counter[str]] = {}
    for (words,), own in zip(train, tags, strict=True):
        for word, name in zip(words, own, strict=True):
            counts.setdefault(word, Counter())[name] += 1
    best = {word: found.most_common(1)[0][0] for word, found in counts.items()}
    other = Counter(name for own in tags for name in own).most_common(1)[0][0]
    return {"commonest tag of each word": [[best.get(word, other) for word in words] for (words,) in test]}


def compare(train: Sequence[Example], scores: Sequence[float], test: Sequence[Example]) -> Predictions:
    first, second = sides(tf_idf(train), test)
    cosines = np.asarray(first.multiply(second).sum(1)).ravel()
    return {"cosine of TF-IDF": (cosines * max(scores)).tolist()}


def choose(train: Sequence[Example], labels: Sequence[int], test: Sequence[Example]) -> Predictions:
    vectorizer = tf_idf([(text,) for text, *_ in train])
    nearest = []
    for *texts, choices in test:
        cosines = vectorizer.transform(choices) @ vectorizer.transform([" ".join(texts)]).T
        nearest.append(int(cosines.toarray().argmax()))
    commonest = Counter(labels).most_common(1)[0][0]
    return {"commonest place": [commonest] * len(test), "nearest to the text by TF-IDF": nearest}


def answer(train: Sequence[Example], labels: Sequence[Any], test: Sequence[Example]) -> Predictions:
    vectorizer, nearest = tf_idf(train), []
    for question, context in test:
        pieces = [found.span() for found in PIECE.finditer(context)] or [(0, 0)]
        cosines = vectorizer.transform([context[a:b] for a, b in pieces]) @ vectorizer.transform([question]).T
        nearest.append(pieces[int(cosines.toarray().argmax())])
    return {"piece nearest to the question by TF-IDF": nearest}


LEARN: dict[str, Callable[..., Predictions]] = {
    "sequence_classification": classify, "sequence_regression": compare, "sentence_embedding": compare,
    "word_tagging": tag, "multiple_choice": choose, "span_selection": answer,
}  # fmt: skip


def tf_idf(texts: Sequence[Example]) -> TfidfVectorizer:
    """Of character n-grams within words, which need no segmentation."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=2)
    return vectorizer.fit([plain(text) for each in texts for text in each])


def sides(vectorizer: TfidfVectorizer, texts: Sequence[Example]) -> list[Any]:
    """The TF-IDF vectors (N, V) of first texts, and of second ones if there are."""
    return [vectorizer.transform([plain(text) for text in column]) for column in zip(*texts, strict=True)]


def features(vectorizer: TfidfVectorizer, texts: Sequence[Example]) -> Any:
    """(N, V) of texts, (N, 2 V) of pairs."""
    first, *second = sides(vectorizer, texts)
    return hstack([first.multiply(second[0]), abs(first - second[0])]).tocsr() if second else first


def plain(text: str | list[str]) -> str:
    return text if isinstance(text, str) else " ".join(text)


def report(argv: list[str] | None) -> None:
    for task, by_name in baselines(argv or []).items():
        for name, metrics in by_name.items():
            print(f"{task}: {name}: " + " ".join(f"{key}={value:.4f}" for key, value in metrics.items()))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
