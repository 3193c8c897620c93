"""The tokenizer: loaded from a hub name or folder, or trained on the spot for a model from scratch.

    tokenizer = load_tokenizer("bert-base-chinese", in_words=True)
    tokenizer = train_tokenizer(texts, vocab_size=8000)

Copy: with errors.py; needs transformers, tokenizers.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from .errors import DataError

SPECIAL = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
}  # fmt: skip


def load_tokenizer(
    path: str, extra_tokens: Sequence[str] = (), in_words: bool = False, trust_remote_code: bool = False
) -> Any:
    """
    Args:
        path: a hub name or a local folder.
        extra_tokens: tokens to add; the model's embeddings must be resized to len(tokenizer).
        in_words: texts come as lists of words.

    Raises: DataError if there is no tokenizer, or one without a vocabulary (transformers returns such a one silently).
    """
    from transformers import AutoTokenizer  # takes a second: mistakes in the data are named before

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        if in_words and tokenizer.is_fast and marks_spaces(tokenizer.backend_tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code, add_prefix_space=True)
    except Exception as error:  # a dozen kinds, others in each version
        raise refusal(f"no tokenizer can be loaded from {path}: {reason(path, error)}") from error
    if not tokenizer.is_fast:
        raise refusal(f"the tokenizer in {path} has no tokenizer.json (a fast one is needed)")
    if len(tokenizer.get_vocab().keys() - tokenizer.added_tokens_encoder.keys()) < 2:  # T5 makes up one by itself
        raise refusal(f"the tokenizer in {path} has no vocabulary; is tokenizer.json missing?")
    if tokenizer.pad_token is None:  # decoders have none; attention never sees it, so any token will do
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise refusal(f"the tokenizer in {path} has no padding token; name a pad_token in its tokenizer_config.json")
    if extra_tokens:
        tokenizer.add_tokens(list(extra_tokens))
    if in_words:
        put_space_before_words(tokenizer.backend_tokenizer)
    for name in ("is_local", "local_files_only"):  # how it was loaded, which would be saved with it
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def refusal(message: str) -> DataError:
    return DataError("arguments", message, "model_name_or_path")


def reason(path: str, error: Exception) -> str:
    """One line; transformers' own speaks of the hub, or lists converters, when a folder lacks a file."""
    if Path(path).is_dir() and not Path(path, "tokenizer.json").is_file():
        found = ", ".join(sorted(entry.name for entry in Path(path).iterdir())[:8])
        return f"the folder has no tokenizer.json, it holds {found or 'nothing'}"
    if Path(path).is_absolute() and not Path(path).exists():
        return "there is no such folder"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def put_space_before_words(tokenizer: Tokenizer) -> None:
    """Make a word alone the sub-words that it is inside a text.

    `add_prefix_space` does this for the classes that know it; others ignore it without a word.
    """
    if marks_spaces(tokenizer):
        known = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(" "), *known])


def marks_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a word is another one behind a space, as for byte-level tokenizers."""
    normalizer, pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer

    def last_word(text: str) -> str:
        text = normalizer.normalize_str(text) if normalizer else text
        return pre_tokenizer.pre_tokenize_str(text)[-1][0]

    return bool(pre_tokenizer) and last_word("a") != last_word("a a")


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int = 512) -> Any:
    """A WordPiece tokenizer as BERT's: lower-case, Chinese by character, [CLS] a [SEP] b [SEP].

    The same texts give the same tokenizer in every process. vocab_size counts the special tokens; it is exceeded only
    where there are more characters than that.
    """
    from transformers import PreTrainedTokenizerFast

    texts = list(texts)
    special = list(SPECIAL.values())
    # The trainer numbers the ##characters in an order that is another in every process, and breaks ties between
    # merges by these numbers. So a first training, without merges, finds them, and a second gets them in order.
    characters = train_vocab(texts, 0, special)
    vocab = train_vocab(texts, vocab_size, special + sorted(c for c in characters if c.startswith("##")))
    tokenizer = bert_pipeline(vocab)
    cls, sep = SPECIAL["cls_token"], SPECIAL["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, vocab[token]) for token in (cls, sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **SPECIAL,
    )


def train_vocab(texts: Iterable[str], vocab_size: int, first: list[str]) -> dict[str, int]:
    """Sub-word -> number; those of `first` get the lowest numbers."""
    tokenizer = bert_pipeline({})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=first, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


def bert_pipeline(vocab: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
