"""The tokenizer: loaded from a hub name or folder, or trained on the spot for a model from scratch.

    tokenizer = load_tokenizer("bert-base-chinese", in_words=True)
    tokenizer = train_tokenizer(texts, vocab_size=8000)
"""

from collections.abc import Iterable, Sequence
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from .errors import DataError

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


def load_tokenizer(
    path: str, extra_tokens: Sequence[str] = (), in_words: bool = False, trust_remote_code: bool = False
) -> Any:
    """
    Args:
        path: a hub name or a local folder.
        extra_tokens: tokens to add; the model's embeddings must be resized to len(tokenizer).
        in_words: texts come as lists of words (byte-level tokenizers then need a space before each).

    Raises: DataError if there is no tokenizer, or one without a vocabulary (transformers returns such a one silently).
    """
    options = {"add_prefix_space": True} if in_words else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code, **options)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError("arguments", f"no tokenizer can be loaded from {path}: {reason}", "model_name_or_path") from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise DataError("arguments", f"the tokenizer in {path} has no vocabulary; is it complete?", "model_name_or_path")
    if not tokenizer.is_fast:
        raise DataError("arguments", f"the tokenizer in {path} has no tokenizer.json (a fast one is needed)", "model_name_or_path")
    if tokenizer.pad_token is None:
        raise DataError("arguments", f"the tokenizer in {path} has no padding token; see --extra_tokens", "model_name_or_path")
    if extra_tokens:
        tokenizer.add_tokens(list(extra_tokens))
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int = 512) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer as BERT's: lower-case, Chinese by character, [CLS] a [SEP] b [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk_token"]))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIAL.values()), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    cls, sep = (SPECIAL[name] for name in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **SPECIAL,
    )


