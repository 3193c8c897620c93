r"""New whole words for a model and its tokenizer: find what a corpus needs, add it, check that all else stays.

    python -m huggingface_hands_on.extend_vocabulary find --model bert-base-chinese --corpus "data/medical/*.jsonl" \
        --output_file output/words.jsonl
    python -m huggingface_hands_on.extend_vocabulary extend --model bert-base-chinese --corpus "data/medical/*.jsonl" \
        --num_tokens 2000 --output_dir output/extended

`extend --words FILE` takes a list that was edited, or one of your own. What is guaranteed: docs/vocabulary.md. The
result is a folder as any other model's; pretrain it further, since its new embeddings are only means of old ones.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .command_line import require, require_new, run

Patterns = str | list[str]


def find(
    model_name_or_path: str,
    corpus: Patterns,
    output_file: str = "",
    text_column: str = "text",
    num_tokens: int = 2000,
    min_count: int = 5,
    min_length: int = 2,
    lexicon: str = "",
) -> None:
    """List the words of a corpus that would save most sub-words; no model is loaded.

    Args:
        model_name_or_path: a hub name, a local folder, or package:NAME/FOLDER; --model for short
        corpus: a file, a folder, a glob such as "data/*.jsonl.gz", or a list of them
        output_file: write a JSON line per word, {"word", "count", "pieces", "saved"}, instead of printing
        text_column: column with the text; a .txt file has one "text" per line
        num_tokens: longest list
        min_count: rarer words are left out
        min_length: words of fewer characters are left out
        lexicon: file of Chinese words, a .txt with one per line or a column "word"; without one jieba finds them
    """
    from data_process.tokenizer import load_tokenizer
    from model_utils.encoder import locate
    from trainer.checkpoint import write_text

    tokenizer = load_tokenizer(locate(model_name_or_path))
    rows = ranked(tokenizer, corpus, text_column, num_tokens, min_count, min_length, lexicon)
    if output_file:
        Path(output_file).parent.mkdir(parents=True, exist_ok=True)
        write_text(output_file, json_lines(rows))
        print(f"{output_file}: {len(rows)} words")
        return
    print(f"{'count':>9} {'pieces':>6} {'saved':>9}  word")
    for row in rows:
        print(f"{row['count']:9} {row['pieces']:6} {row['saved']:9}  {row['word']}")


def extend(
    model_name_or_path: str,
    corpus: Patterns,
    output_dir: str,
    words: str = "",
    text_column: str = "text",
    num_tokens: int = 2000,
    min_count: int = 5,
    min_length: int = 2,
    lexicon: str = "",
    check_corpus: Patterns | None = None,
    check_texts: int = 10_000,
    allow_violations: bool = False,
) -> None:
    """Add words to a model and its tokenizer, and save both.

    Args:
        model_name_or_path: a hub name, a local folder, or package:NAME/FOLDER; --model for short
        corpus: a file, a folder, a glob such as "data/*.jsonl.gz", or a list of them; for the words and the check
        output_dir: a new folder for the model
        words: instead of the words that `find` lists, all of this file: its output, or a .txt with one per line
        text_column: column with the text; a .txt file has one "text" per line
        num_tokens: most words that are added
        min_count: rarer words are left out
        min_length: words of fewer characters are left out
        lexicon: file of Chinese words, a .txt with one per line or a column "word"; without one jieba finds them
        check_corpus: other texts that should stay as they are, such as those of daily life
        check_texts: texts of each corpus, drawn at random, that the old and the new tokenizer encode
        allow_violations: save a model whose check found some, too; they are in its vocabulary.json
    """
    require(check_texts >= 1, "check_texts", "must be above 0")
    require_new(output_dir)
    from data_process.tokenizer import load_tokenizer
    from data_process.vocabulary import add_words, in_text, pieces_of, save
    from model_utils.encoder import locate
    from model_utils.grow_embeddings import grow_embeddings, load_whole
    from trainer.checkpoint import write_folder, write_json, write_text

    path = locate(model_name_or_path)
    tokenizer = load_tokenizer(path)
    chosen = listed(tokenizer, words) if words else [
        row["word"] for row in ranked(tokenizer, corpus, text_column, num_tokens, min_count, min_length, lexicon)
    ]  # fmt: skip
    new, ids = add_words(tokenizer, chosen)
    corpora = {"corpus": corpus} | ({"check_corpus": check_corpus} if check_corpus else {})
    texts, report = checked(tokenizer, new, ids, corpora, text_column, check_texts)
    violations = [violation for found in report.values() for violation in found["violations"]]
    right = "give a list of --words without such, or --allow_violations true"
    require(allow_violations or not violations, "words", f"{'; '.join(violations[:3])}: {right}")

    pieces = dict(zip(ids, pieces_of(tokenizer, list(ids)), strict=True))
    model = load_whole(path)
    grow_embeddings(model, {number: pieces[word] for word, number in ids.items()})
    added = [
        {"word": word, "id": number, "pieces": tokenizer.convert_ids_to_tokens(pieces[word])}
        for word, number in ids.items()
    ]

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        save(new, folder, [in_text(tokenizer, word) for word in ids] + texts["corpus"][:1000])
        write_text(folder / "added_words.jsonl", json_lines(added))
        about = {"model_name_or_path": model_name_or_path, "corpora": corpora, "num_added": len(ids)}
        write_json(folder / "vocabulary.json", about | {"check": report})

    write_folder(output_dir, write, keep_previous=False)
    print(f"{output_dir}: {len(ids)} words added to {min(ids.values())} sub-words, the first is {chosen[0]}")


def checked(
    old: Any, new: Any, ids: dict[str, int], corpora: dict[str, Patterns], column: str, size: int
) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """Some texts of each corpus, and what the two tokenizers make of them, which is also printed."""
    from data_process.vocabulary_check import compare, sample

    texts = {name: sample(texts_of(patterns, column), size) for name, patterns in corpora.items()}
    for name, some in texts.items():
        require(bool(some), name, f"has no text in its column {column!r}")
    report = {name: compare(old, new, ids, some) for name, some in texts.items()}
    for name, found in report.items():
        print(summary(name, found))
    return texts, report


def ranked(
    tokenizer: Any, corpus: Patterns, column: str, num_tokens: int, min_count: int, min_length: int, lexicon: str
) -> list[dict[str, Any]]:
    """The best words of a corpus. Raises CommandError if there is none."""
    require(min(num_tokens, min_count, min_length) >= 1, "num_tokens", "this, min_count and min_length must be above 0")
    from data_process.domain_words import count_words, jieba_words, lexicon_cut, rank_words
    from data_process.vocabulary import normalized, pieces_of

    cut = lexicon_cut(words_of(lexicon)) if lexicon else jieba_words
    counts = count_words(texts_of(corpus, column), cut, lambda word: normalized(tokenizer, word))
    rows = rank_words(counts, lambda words: [*map(len, pieces_of(tokenizer, words))], num_tokens, min_count, min_length)
    what = f"no word of {min_length} letters that occurs {min_count} times has more than one sub-word"
    require(bool(rows), "corpus", f"{what}; there is nothing to add")
    return rows


def listed(tokenizer: Any, file: str) -> list[str]:
    """The words of a file that are not single sub-words already. Raises CommandError if there is none."""
    from data_process.vocabulary import normalized, pieces_of

    words = list(dict.fromkeys(normalized(tokenizer, word) for word in words_of(file)))
    pieces = dict(zip(words, pieces_of(tokenizer, words), strict=True))
    left_out = [word for word in words if len(pieces[word]) < 2]
    if left_out:
        print(f"{len(left_out)} words are left out, one sub-word already or none to add: {', '.join(left_out[:8])}")
    require(len(left_out) < len(words), "words", f"{file} has no word that can be added")
    return [word for word in words if len(pieces[word]) > 1]


def words_of(file: str) -> Iterator[str]:
    """Of a .txt with a word per line, or the column "word" of another file."""
    from config import in_data_dir
    from data_process.corpus import find_files, read_texts

    column = "text" if file.removesuffix(".gz").endswith(".txt") else "word"
    return (text.strip() for _, text in read_texts(find_files([in_data_dir(file)]), column))


def texts_of(patterns: Patterns, column: str) -> Iterator[str]:
    from config import in_data_dir
    from data_process.corpus import find_files, read_texts

    each = [patterns] if isinstance(patterns, str) else patterns
    return (text for _, text in read_texts(find_files([in_data_dir(pattern) for pattern in each]), column))


def summary(name: str, found: dict[str, Any]) -> str:
    before, after, changed = found["subwords_before"], found["subwords_after"], found["texts_changed"]
    return (f"{name}: {found['texts']} texts, {before} -> {after} sub-words ({(after - before) / before:+.1%}), "
            f"{changed / found['texts']:.1%} of the texts changed, {found['neighbours_changed']} of them also beside "
            f"the new words; {found['num_violations']} violations")  # fmt: skip


def json_lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(argv: list[str] | None = None) -> int:
    return run("huggingface_hands_on.extend_vocabulary", [find, extend], argv)


if __name__ == "__main__":
    sys.exit(main())
