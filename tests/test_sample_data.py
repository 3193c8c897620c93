"""The sample corpus: reproducible, well formed, and too ambiguous for a dictionary.

    python -m pytest tests/test_sample_data.py -s      # -s prints what the baselines reach
"""
from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from data_process import sample_data
from data_process.sample_data import TEMPLATES, WORDS, generate, main

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return generate()


def is_chinese(record: dict) -> bool:
    return any("\u4e00" <= token <= "\u9fff" for token in record["tokens"])


def spans_of(tags: list[str]) -> list[tuple[int, int, str]]:
    """(start, end, slot) of every B-slot I-slot ... run."""
    spans: list[tuple[int, int, str]] = []
    for position, tag in enumerate(tags):
        if tag.startswith("B-"):
            spans.append((position, position + 1, tag[2:]))
        elif tag.startswith("I-"):
            spans[-1] = (spans[-1][0], position + 1, tag[2:])
    return spans


# ---- the corpus

@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_same_file_in_every_process(tmp_path: Path, hash_seed: str) -> None:
    command = [sys.executable, "-m", "data_process.sample_data", "--num_sentences", "1500", "--out"]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    subprocess.run([*command, str(tmp_path)], cwd=ROOT, check=True, env=env)
    raw = (tmp_path / "all.jsonl").read_bytes()
    assert b"\r" not in raw and b"\\u" not in raw
    random.seed(7)  # the global generator must not matter
    assert [json.loads(line) for line in raw.decode("utf-8").splitlines()] == generate(1500)


def test_seed_and_size_are_arguments(tmp_path: Path) -> None:
    assert generate(300, seed=0) == generate(600, seed=0)[:300] != generate(300, seed=1)
    main(["--out", str(tmp_path), "--num_sentences", "20", "--seed", "5"])
    lines = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == generate(20, seed=5)


def test_counts(records: list[dict]) -> None:
    assert len(records) >= 4000
    assert 0.45 < sum(map(is_chinese, records)) / len(records) < 0.55
    intents = Counter(record["intent"] for record in records)
    assert len(intents) >= 12
    assert min(intents.values()) >= 0.015 * len(records)
    assert max(intents.values()) >= 3 * min(intents.values())  # unevenly frequent


def test_both_languages_share_every_label(records: list[dict]) -> None:
    intents: dict[bool, set[str]] = defaultdict(set)
    slots: dict[bool, set[str]] = defaultdict(set)
    for record in records:
        intents[is_chinese(record)].add(record["intent"])
        slots[is_chinese(record)].update(tag[2:] for tag in record["tags"] if tag != "O")
    assert intents[True] == intents[False]
    assert slots[True] == slots[False]
    assert len(slots[True]) >= 20


def test_well_formed(records: list[dict]) -> None:
    for record in records:
        assert set(record) == {"tokens", "tags", "intent"}
        assert len(record["tokens"]) == len(record["tags"]) > 0
        for token in record["tokens"]:
            assert re.fullmatch(r"[a-z0-9':]+|[\u4e00-\u9fff]", token), token
        for before, tag in zip(["O", *record["tags"][:-1]], record["tags"], strict=True):
            assert re.fullmatch(r"O|[BI]-[a-z_]+", tag), tag
            assert not tag.startswith("I-") or before[2:] == tag[2:], record


def test_distinct(records: list[dict]) -> None:
    assert len({tuple(record["tokens"]) for record in records}) == len(records)


def test_chitchat_has_no_slots_and_the_rest_has(records: list[dict]) -> None:
    for record in records:
        assert (record["intent"] == "chitchat") == (set(record["tags"]) == {"O"}), record


def test_ambiguity(records: list[dict]) -> None:
    roles: dict[str, set[str]] = defaultdict(set)
    verbs: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for start, end, slot in spans_of(record["tags"]):
            roles[" ".join(record["tokens"][start:end])].add(slot)
        for token, tag in zip(record["tokens"], record["tags"], strict=True):
            if tag == "O":
                verbs[token].add(record["intent"])
    for value in ("jordan", "washington", "长 沙", "苹 果", "小 明"):
        assert len(roles[value]) >= 4, (value, roles[value])
    for verb in ("play", "set", "book", "find", "打", "放", "查", "订"):
        assert len(verbs[verb]) >= 3, (verb, verbs[verb])


def test_no_value_appears_twice_in_a_sentence(records: list[dict]) -> None:
    for record in records:
        values = [tuple(record["tokens"][start:end]) for start, end, _ in spans_of(record["tags"])]
        assert len(set(values)) == len(values), record  # nobody travels from paris to paris


def test_templates_name_only_entries_that_exist() -> None:
    """Every template and every alternative can be spoken, also the rare ones."""
    reference = re.compile(r"<(?:(en):)?(\w+)>|\{(?:\w+=)?()(\w+)\}")
    for lang, words in WORDS.items():
        for text in [*TEMPLATES[lang].values(), *words.values()]:
            for other, word, _, entry in reference.findall(text):
                assert (word or entry) in WORDS[other or lang], text


def test_too_many_sentences_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_data, "TEMPLATES", {lang: {"greet": "hello"} for lang in WORDS})
    monkeypatch.setattr(sample_data, "INTENT_WEIGHTS", {"greet": 1})
    monkeypatch.setattr(sample_data, "NOISE_RATE", 0.0)
    with pytest.raises(ValueError, match="num_sentences=100 is too many"):
        generate(100)


# ---- what a dictionary reaches

def split(records: list[dict], seed: int) -> tuple[list[dict], list[dict]]:
    """90% to fit, 10% to score."""
    shuffled = random.Random(seed).sample(records, len(records))
    return shuffled[len(records) // 10:], shuffled[:len(records) // 10]


class NaiveBayes:
    """Intent from the bag of tokens, add-one smoothing."""

    def __init__(self, train: list[dict]) -> None:
        self.priors = Counter(record["intent"] for record in train)
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        for record in train:
            self.counts[record["intent"]].update(record["tokens"])
        self.vocab_size = len({token for record in train for token in record["tokens"]})
        self.totals = {intent: sum(self.counts[intent].values()) + self.vocab_size for intent in self.priors}

    def predict(self, tokens: list[str]) -> str:
        def score(intent: str) -> float:
            known = sum(math.log((self.counts[intent][token] + 1) / self.totals[intent]) for token in tokens)
            return math.log(self.priors[intent]) + known

        return max(self.priors, key=score)


class UnigramTagger:
    """Each token gets its most frequent tag; I-x after anything but x becomes B-x, unknown tokens are O."""

    def __init__(self, train: list[dict]) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for record in train:
            for token, tag in zip(record["tokens"], record["tags"], strict=True):
                counts[token][tag] += 1
        self.best = {token: tags.most_common(1)[0][0] for token, tags in counts.items()}

    def predict(self, tokens: list[str]) -> list[str]:
        tags: list[str] = []
        for token in tokens:
            tag = self.best.get(token, "O")
            follows = bool(tags) and tags[-1][2:] == tag[2:]
            tags.append("B-" + tag[2:] if tag.startswith("I-") and not follows else tag)
        return tags


class PhraseTagger:
    """The longest known slot value wins, left to right, with its most frequent slot (or O)."""

    def __init__(self, train: list[dict]) -> None:
        counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for record in train:
            for start, end, slot in spans_of(record["tags"]):
                counts[tuple(record["tokens"][start:end])][slot] += 1
            for token, tag in zip(record["tokens"], record["tags"], strict=True):
                if tag == "O":
                    counts[(token,)]["O"] += 1
        self.best = {phrase: slots.most_common(1)[0][0] for phrase, slots in counts.items()}
        self.longest = max(map(len, self.best))

    def predict(self, tokens: list[str]) -> list[str]:
        tags: list[str] = []
        while len(tags) < len(tokens):
            start = len(tags)
            lengths = range(min(self.longest, len(tokens) - start), 0, -1)
            length = next((n for n in lengths if tuple(tokens[start:start + n]) in self.best), 1)
            slot = self.best.get(tuple(tokens[start:start + length]), "O")
            tags += ["O"] * length if slot == "O" else [f"B-{slot}"] + [f"I-{slot}"] * (length - 1)
        return tags


@pytest.mark.parametrize("seed", [1, 2])
def test_a_dictionary_is_not_enough(records: list[dict], seed: int) -> None:
    train, test = split(records, seed)
    intents, unigrams, phrases = NaiveBayes(train), UnigramTagger(train), PhraseTagger(train)
    majority = Counter(record["intent"] for record in train).most_common(1)[0][0]
    hits: Counter[str] = Counter()
    for record in test:
        tokens, tags = record["tokens"], record["tags"]
        right_intent = intents.predict(tokens) == record["intent"]
        hits["naive Bayes, intent alone"] += right_intent
        hits["majority intent alone"] += record["intent"] == majority
        hits["majority intent, no slots"] += record["intent"] == majority and set(tags) == {"O"}
        hits["naive Bayes + unigram tags"] += right_intent and unigrams.predict(tokens) == tags
        hits["naive Bayes + longest phrase"] += right_intent and phrases.predict(tokens) == tags
    accuracy = {name: count / len(test) for name, count in hits.items()}
    for name, value in accuracy.items():
        print(f"seed {seed}  {name:28s} {value:.3f}")
    assert accuracy.pop("naive Bayes, intent alone") > 0.80  # the baseline itself works
    assert accuracy.pop("majority intent alone") < 0.25
    assert accuracy.pop("majority intent, no slots") < 0.10
    assert max(accuracy.values()) < 0.60  # promised to the reader: below 0.80


def test_baselines_are_not_straw_men() -> None:
    """On a toy corpus without ambiguity both taggers are perfect, multi-word values included."""
    toy: list[dict] = [{"tokens": ["hello", "you"], "tags": ["O", "O"], "intent": "chat"}]
    for song in (["moon"], ["red", "river"], ["golden", "train", "road"]):
        tags = ["O", "B-song", *["I-song"] * (len(song) - 1)]
        toy.append({"tokens": ["play", *song], "tags": tags, "intent": "play"})
    for record in toy:
        assert NaiveBayes(toy).predict(record["tokens"]) == record["intent"]
        assert UnigramTagger(toy).predict(record["tokens"]) == record["tags"]
        assert PhraseTagger(toy).predict(record["tokens"]) == record["tags"]
