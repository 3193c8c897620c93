"""The arguments of the pretraining scripts: typed like those of main.py, whose options for training they share.

    args = get_args(["--corpus", "data/books/*.txt"], ContinueArguments, "continue_pretrain_task", "Go on training.")
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from config import (
    TRICKS,
    RunArguments,
    TrainArguments,
    TrickArguments,
    check_numbers,
    check_training,
    in_data_dir,
    parse_into,
    require,
)

AVERAGES = (
    *("use_ema", "ema_decay", "use_swa", "swa_start", "swa_every"),
    *("use_lookahead", "lookahead_k", "lookahead_alpha"),
)
NOT_HERE = (  # of main.py's options
    *("batch_tokens", "head_lr", "loss_weighting", "metrics", "monitor"),
    *("do_train", "do_eval", "do_predict", "check", "debug"),
    *(name for name in TRICKS if name not in AVERAGES),
)
SETTLED = (  # what a saved run has in itself
    *("seed", "objective", "model", "tokenizer", "model_name_or_path", "block_length", "packing", "attention"),
    *("masking", "mask_rate", "mask_rate_end", "ngram_words", "lr", "layer_decay", "optimizer", "weight_decay"),
    *("warmup_ratio", "warmup_steps", "lr_scheduler", "lr_scheduler_options", "train_data", "eval_data", *AVERAGES),
)


@dataclass
class CorpusArguments:
    """Corpora"""

    corpus: str | list[Any] = ""
    """file, glob or folder (.txt: a text per line; .jsonl .csv .parquet …), or a list of them and of {files: …,
    name: …, weight: …, text_column: …, text_pair_column: …}; weights are shares of an epoch's blocks"""
    eval_corpus: str | list[Any] = ""
    """the same, held out for perplexity and accuracy; empty = eval_ratio of each corpus"""
    eval_ratio: float = 0.0
    """share of the texts that is held out where there is no eval_corpus; a hash of its words decides for each text, so
    that a text stays where it is when others are added; 0 = nothing is held out"""
    text_column: str = "text"
    """column with the text"""
    text_pair_column: str | None = None
    """column with the second text of a pair; null: single texts"""
    clean: bool = False
    """remove what is not seen and fold white space, see data_process/clean.py"""
    min_chars: int = 0
    """shorter texts are left out"""
    deduplicate: float = 0.0
    """leave out texts that are so similar to an earlier one (of eval_corpus first): 1 = the same but for capitals,
    spaces and punctuation, 0.8 = near duplicates too (MinHash); 0 = off"""
    block_length: int = 128
    """sub-words of a block, special tokens included"""
    packing: Literal["documents", "crossing"] = "documents"
    """documents: no text goes on in another block unless it is longer than one; crossing: texts run on over blocks"""
    attention: Literal["document", "block"] = "document"
    """what a sub-word sees: its own text, or the whole block"""
    num_workers: int = 0
    """processes that encode the corpora and prepare batches; 0 = the main process"""
    cache_dir: str = "cache"
    """folder of encoded corpora, reused by later runs"""


@dataclass
class MaskArguments:
    """Masks (of masked language models)"""

    masking: Literal["token", "whole_word", "ngram", "entity"] = "token"
    """what is masked as a whole: single sub-words, words, spans of words, or words and the phrases of `lexicon`"""
    mask_rate: float = 0.15
    """share of the sub-words"""
    mask_rate_end: float | None = None
    """share at the end of training, reached on a straight line; null = mask_rate"""
    ngram_words: float = 3.0
    """with ngram: mean number of words of a span"""
    segmenter: Literal["auto", "none", "jieba"] = "auto"
    """joins Chinese characters to words; auto: jieba where a tenth of the corpus is Chinese and words are masked"""
    lexicon: str | None = None
    """file of words or phrases, one per line, that are words too"""


@dataclass
class LanguageModelArguments:
    """Model"""

    model_name_or_path: str = ""
    """a hub name, a local folder, or package:NAME/FOLDER"""
    trust_remote_code: bool = False
    """run Python code that comes with a model of the hub"""
    model: dict[str, Any] = field(default_factory=dict)
    """model_type of transformers and its sizes, such as {model_type: bert, hidden_size: 256, num_hidden_layers: 4,
    num_attention_heads: 4, intermediate_size: 1024}; the vocabulary is the tokenizer's"""
    tokenizer: str = ""
    """its folder, such as train_tokenizer_from_scratch writes, or a hub name"""
    objective: Literal["auto", "mlm", "clm"] = "auto"
    """masked or causal language modelling; auto: what the architecture is made for"""
    dry_run: bool = False
    """prepare the corpora, try a few steps, print sizes and forecasts of time and memory; train nothing"""


@dataclass
class PretrainingArguments(
    RunArguments, TrickArguments, TrainArguments, MaskArguments, LanguageModelArguments, CorpusArguments
):
    """All of them; each script hides some."""

    GROUPS: ClassVar = (CorpusArguments, LanguageModelArguments, MaskArguments, TrainArguments, TrickArguments,
                        RunArguments)  # fmt: skip


@dataclass
class ContinueArguments(PretrainingArguments):
    HIDDEN: ClassVar[Sequence[str]] = (*NOT_HERE, "model", "tokenizer")


@dataclass
class FromScratchArguments(PretrainingArguments):
    HIDDEN: ClassVar[Sequence[str]] = (*NOT_HERE, "model_name_or_path", "trust_remote_code")


def get_args(argv: list[str] | None, kind: type[PretrainingArguments], script: str, description: str) -> Any:
    """Parse and check; afterwards the corpora are lists of dicts. Raises ConfigError."""
    args = parse_into(kind, argv, f"python -m huggingface_hands_on.{script}", description)
    check_training(args)
    check_numbers(args, above_0=("batch_size", "eval_batch_size"), not_negative=("min_chars", "num_workers"))
    require(bool(args.corpus), "corpus", 'none given; for example --corpus "data/books/*.txt"')
    for name in ("corpus", "eval_corpus"):
        setattr(args, name, corpora(args, name))
    weights = [entry["weight"] for entry in args.corpus]
    require(all(weights) or not any(weights), "corpus", "give each corpus a weight, or none of them")
    require(0 <= args.eval_ratio < 1, "eval_ratio", "must be at least 0 and below 1")
    require(not (args.eval_corpus and args.eval_ratio), "eval_ratio", "give this or eval_corpus, not both")
    require(0 <= args.deduplicate <= 1, "deduplicate", "must be between 0 (off) and 1 (the same texts only)")
    require(args.block_length >= 8, "block_length", "must be at least 8")
    for name in ("mask_rate", "mask_rate_end"):
        rate = getattr(args, name)
        require(rate is None or 0 < rate < 1, name, "must be above 0 and below 1")
    require(args.ngram_words >= 1, "ngram_words", "must be at least 1")
    require((args.masking == "entity") <= bool(args.lexicon), "lexicon", "needed by --masking entity")
    pairs = any(entry["text_pair_column"] for entry in args.corpus + args.eval_corpus)
    require(not (pairs and args.packing == "crossing"), "packing", "pairs of texts are packed as documents")
    return args


def corpora(args: Any, name: str) -> list[dict[str, Any]]:
    """--corpus or --eval_corpus as a list of {name, files, weight, text_column, text_pair_column}."""
    given = getattr(args, name)
    found = []
    for number, entry in enumerate([given] if isinstance(given, str) and given else given or []):
        where = f"{name}[{number}]"
        entry = {"files": entry} if isinstance(entry, str) else entry
        require(isinstance(entry, dict) and "files" in entry, where, "must be a file, or have `files`")
        own = {"name": f"{name}_{number}", "weight": 0.0, "text_column": args.text_column,
               "text_pair_column": args.text_pair_column} | entry  # fmt: skip
        unknown = sorted(own.keys() - {"name", "weight", "text_column", "text_pair_column", "files"})
        require(not unknown, where, f"{', '.join(unknown)}: unknown option; there are {', '.join(own)}")
        number_given = isinstance(own["weight"], int | float) and own["weight"] >= 0
        require(number_given, where, f"weight: {own['weight']!r} is no number above 0")
        files = [own["files"]] if isinstance(own["files"], str) else own["files"]
        texts = isinstance(files, list) and bool(files) and all(isinstance(file, str) for file in files)
        require(texts, where, f"files: {files!r} is no list of files")
        plain = isinstance(own["name"], str) and re.fullmatch(r"\w+", own["name"]) is not None
        require(plain, where, f"name {own['name']!r}: letters, digits and _ only")
        found.append(own | {"files": [in_data_dir(file) for file in files]})
    names = [entry["name"] for entry in found]
    require(len(set(names)) == len(names), name, f"names must differ, found {names}")
    return found
