r"""A tokenizer trained on your own texts, with a report on how well it fits them; the report also for any other one.

    python -m huggingface_hands_on.train_tokenizer_from_scratch train --corpus "data/books/*.txt" --model wordpiece \
        --vocab_size 30000 --output_dir output/tokenizer
    python -m huggingface_hands_on.train_tokenizer_from_scratch report --tokenizer output/tokenizer \
        --corpus data/new.jsonl

`AutoTokenizer.from_pretrained("output/tokenizer")` loads it. Which model for what: docs/tokenizers.md.
"""

import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from config import in_data_dir

from .command_line import CommandError, require, require_new, run


def train(
    corpus: str | list[str],
    output_dir: str,
    model: Literal["wordlevel", "wordpiece", "bpe", "byte_level_bpe", "unigram"] = "wordpiece",
    vocab_size: int = 30000,
    style: Literal["bert", "roberta", "gpt"] = "bert",
    text_column: str = "text",
    unicode_form: Literal["nfc", "nfkc", "none"] = "nfc",
    lowercase: bool = False,
    strip_accents: bool = False,
    min_frequency: int = 2,
    special_tokens: list[str] | None = None,
    max_length: int = 512,
    report_corpus: str | list[str] | None = None,
    report_texts: int = 10000,
) -> None:
    """Train a tokenizer, print its report and save both. The corpus is read once and need not fit in memory.

    Args:
        corpus: files, globs or folders, several as '[a.txt, "b/*.jsonl"]': .jsonl .json .csv .tsv .txt .parquet …
        output_dir: a new folder for tokenizer.json, tokenizer_config.json and report.json
        model: wordpiece for a BERT, byte_level_bpe or bpe for texts that are to be generated
        vocab_size: the most tokens, special ones included; fewer if the corpus does not hold so many
        style: special tokens: bert [CLS] a [SEP] b [SEP]; roberta <s> a </s> </s> b </s>; gpt none around a text,
            <|endoftext|> to end it
        text_column: column with the text, a string; a .txt file has one "text" per line
        unicode_form: nfkc also makes full-width letters and Chinese punctuation ASCII's
        lowercase: make all letters small
        strip_accents: é -> e; not for Japanese or scripts of India, whose marks are vowels and sounds
        min_frequency: how often a word, or a pair that is merged, must occur; unigram has no such number
        special_tokens: further special tokens, as '["<user>", "<bot>"]'
        max_length: longest input of the model, in tokens; the tokenizer cuts there when it is told to
        report_corpus: what the report is about, such as a held-out part; null = the corpus
        report_texts: texts that the report reads, from the first on; 0 = all
    """
    require(vocab_size >= 1, "vocab_size", "must be above 0")
    require(min_frequency >= 1, "min_frequency", "must be above 0")
    require(max_length >= 4, "max_length", "must leave room for special tokens: at least 4")
    require(report_texts >= 0, "report_texts", "must not be negative; 0 = all")
    require_new(output_dir)
    from data_process.tokenizer_report import as_table
    from data_process.tokenizer_report import report as figures_of
    from data_process.train_tokenizer import learn_tokenizer
    from trainer.checkpoint import write_folder, write_json
    from trainer.progress import on_terminal, progress_bar

    texts = texts_of(corpus, text_column)
    if model in ("wordlevel", "wordpiece"):  # while the others read, tokenizers shows a bar of its own
        texts = progress_bar(texts, "[WORDS]", 0)
    report_on = texts_of(report_corpus or corpus, text_column)
    tokenizer = learn_tokenizer(
        texts, model, vocab_size, style=style, unicode_form=unicode_form, lowercase=lowercase,
        strip_accents=strip_accents, min_frequency=min_frequency, special_tokens=special_tokens or [],
        max_length=max_length, show_progress=on_terminal() and not os.environ.get("TQDM_DISABLE"),
    )  # fmt: skip
    first = islice(report_on, report_texts or None)
    figures = figures_of(tokenizer, progress_bar(first, "[REPORT]", report_texts))

    def write(folder: Path) -> None:
        tokenizer.save_pretrained(folder)
        write_json(folder / "report.json", figures)

    write_folder(output_dir, write, keep_previous=False)
    print(as_table(figures))
    print(f"{output_dir}: {len(tokenizer):,} tokens")


def report(
    tokenizer: str,
    corpus: str | list[str],
    text_column: str = "text",
    report_texts: int = 10000,
    output_file: str = "",
) -> None:
    """Print how well a tokenizer fits a corpus; what the figures are is said in data_process/tokenizer_report.py.

    Args:
        tokenizer: a hub name or a local folder
        corpus: files, globs or folders, several as '[a.txt, "b/*.jsonl"]': .jsonl .json .csv .tsv .txt .parquet …
        text_column: column with the text, a string; a .txt file has one "text" per line
        report_texts: texts that are read, from the first on; 0 = all
        output_file: write the figures as JSON, too
    """
    require(report_texts >= 0, "report_texts", "must not be negative; 0 = all")
    from data_process.errors import DataError
    from data_process.tokenizer import load_tokenizer
    from data_process.tokenizer_report import as_table
    from data_process.tokenizer_report import report as figures_of
    from trainer.checkpoint import write_json
    from trainer.progress import progress_bar

    texts = texts_of(corpus, text_column)
    try:
        loaded = load_tokenizer(tokenizer)
    except DataError as error:
        raise CommandError("tokenizer", error.message) from None
    first = islice(texts, report_texts or None)
    figures = figures_of(loaded, progress_bar(first, "[REPORT]", report_texts))
    if output_file:
        write_json(output_file, figures)
    print(as_table(figures))


def texts_of(corpus: str | list[str], column: str) -> Iterator[str]:
    """Raises DataError at once if there is no such file, and while reading for what is wrong in it."""
    from data_process.corpus import find_files, read_texts

    patterns: list[Any] = corpus if isinstance(corpus, list) else [corpus]
    files = find_files([in_data_dir(pattern) for pattern in patterns])
    return (text for _, text in read_texts(files, column))


def main(argv: list[str] | None = None) -> int:
    return run("huggingface_hands_on.train_tokenizer_from_scratch", [train, report], argv)


if __name__ == "__main__":
    sys.exit(main())
