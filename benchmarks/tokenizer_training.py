"""Training a tokenizer with data_process/train_tokenizer.py against calling the tokenizers library directly.

    python -m benchmarks.tokenizer_training --corpus data/corpus_en_fiction/train.jsonl --vocab_size 8000
    python -m benchmarks.tokenizer_training --corpus data/corpus_en_fiction/train.jsonl --memory 1 8

Speed: interleaved in one process, the seconds of all its threads. Directly means the same normalizer, words and
trainer, fed with json.loads of each line, or for the lines of a .txt file by Tokenizer.train. Memory: by how much the
peak of a process of its own grows in training, for so many copies of the corpus in one file.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import main
from config import in_data_dir
from data_process.corpus import read_texts
from data_process.tokenizer_pipelines import normalizer_of, pipeline
from data_process.train_tokenizer import BYTES, STYLES, learn_tokenizer
from experiments.cost import interleaved, ratios

MODELS = ("wordlevel", "wordpiece", "bpe", "byte_level_bpe", "unigram")
SPECIAL = list(STYLES["bert"][0].values())


def ours(name: Any, file: str, vocab_size: int) -> None:
    learn_tokenizer((text for _, text in read_texts([file])), name, vocab_size)


def directly(name: str, file: str, vocab_size: int) -> None:
    tokenizer, trainer = of_library(name, vocab_size)
    if file.endswith(".txt"):
        tokenizer.train([file], trainer)
    else:
        tokenizer.train_from_iterator(texts_of(file), trainer)


def texts_of(file: str) -> Iterator[str]:
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def of_library(name: str, vocab_size: int) -> tuple[Tokenizer, Any]:
    common: dict[str, Any] = {"vocab_size": vocab_size, "special_tokens": SPECIAL, "show_progress": False}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    kinds: dict[str, tuple[Any, Any]] = {
        "wordlevel": (models.WordLevel, partial(trainers.WordLevelTrainer, min_frequency=2)),
        "wordpiece": (models.WordPiece, partial(trainers.WordPieceTrainer, min_frequency=2)),
        "bpe": (models.BPE, partial(trainers.BpeTrainer, min_frequency=2)),
        "byte_level_bpe": (models.BPE, partial(trainers.BpeTrainer, min_frequency=2, initial_alphabet=alphabet)),
        "unigram": (models.Unigram, partial(trainers.UnigramTrainer, unk_token="[UNK]")),
    }
    model, trainer = kinds[name]
    if name == "bpe":
        common["special_tokens"] = SPECIAL + BYTES
    normalizer = normalizer_of(name, "nfc", lowercase=False, strip_accents=False)
    return pipeline(name, model(), normalizer), trainer(**common)


def compare_speed(name: str, file: str, vocab_size: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each training."""
    ways: dict[str, Callable[..., None]] = {"directly": directly, "ours": ours}
    steps = {way: lambda _, train=train: train(name, file, vocab_size) for way, train in ways.items()}
    return interleaved(steps, [None], rounds, warmup=0)


def memory_growth(name: str, file: str, vocab_size: int) -> float:
    """MB by which the peak grows, in a process of its own."""
    program = "import sys; from benchmarks.tokenizer_training import grow; grow(*sys.argv[1:])"
    command = [sys.executable, "-c", program, name, file, str(vocab_size)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    return float(done.stdout)


def grow(name: str, file: str, vocab_size: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours(name, file, int(vocab_size))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def write_copies(source: str, target: Path, copies: int = 1) -> str:
    """Every line of the texts as a .txt file, so often."""
    lines = [line for _, text in read_texts([source]) for line in text.splitlines() if line.strip()]
    with open(target, "w", encoding="utf-8") as file:
        for _ in range(copies):
            file.writelines(f"{line}\n" for line in lines)
    return str(target)


def report(argv: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="a .jsonl file with a column text")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--vocab_size", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="+", help="copies of the corpus; without it: speed")
    given = parser.parse_args(argv)
    corpus = in_data_dir(given.corpus)
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            if given.memory:
                files = [write_copies(corpus, Path(folder, f"{copies}.txt"), copies) for copies in given.memory]
                grown = [memory_growth(name, file, given.vocab_size) for file in files]
                for copies, megabytes in zip(given.memory, grown, strict=True):
                    print(f"{name:16}{copies:3} x {given.corpus}: {megabytes:6.1f} MB", flush=True)
                continue
            for file in (corpus, write_copies(corpus, Path(folder, "corpus.txt"))):
                seconds = compare_speed(name, file, given.vocab_size, given.rounds)
                direct, own = (median(seconds[way]) for way in ("directly", "ours"))
                what = f"{name:16}{Path(file).suffix:7} directly {direct:6.2f} s, ours {own:6.2f} s"
                print(f"{what}: {1 / ratios(seconds)['ours']:.2f} x as fast", flush=True)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
