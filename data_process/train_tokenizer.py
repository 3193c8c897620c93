"""A tokenizer trained on texts: word-level, WordPiece, BPE, byte-level BPE or Unigram; Chinese, English, mixed.

    tokenizer = learn_tokenizer(texts, "wordpiece", vocab_size=30000)       # any iterable, read once
    tokenizer.save_pretrained("folder")                                     # AutoTokenizer.from_pretrained("folder")

The same texts give the same tokenizer in every process. No token holds both Chinese characters and anything else.

| model | what it is | a character it does not know | decoding gives back |
|---|---|---|---|
| wordlevel | words as BERT cuts them, Chinese by character | makes the word unknown | words, with other spaces |
| wordpiece | BERT's (arXiv 1810.04805): sub-words of these words | makes the word unknown | the same |
| bpe | arXiv 1508.07909, Llama's way: sub-words, also of several Chinese characters | is spelled in bytes | the text |
| byte_level_bpe | GPT-2's: the same over bytes | there is none | the text |
| unigram | arXiv 1804.10959, as SentencePiece | is unknown | the text, but for a space at its start |

Words of Chinese, as jieba cuts them, are none of the options: that would be Python, which a tokenizer.json cannot hold.

Copy: with bert_words.py, errors.py, tokenizer_pipelines.py; needs transformers, tokenizers.
"""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal

from tokenizers import models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .bert_words import count_words, wordlevel_vocab, wordpiece_vocab
from .errors import DataError
from .tokenizer_pipelines import OF_BERT, normalizer_of, pipeline

# style -> special tokens, in the order of their numbers; one text; two texts
STYLES: dict[str, tuple[dict[str, str], str, str]] = {
    "bert": ({"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
              "mask_token": "[MASK]"}, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    "roberta": ({"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
                 "mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>"},
                "<s> $A </s>", "<s> $A </s> </s> $B </s>"),
    "gpt": ({"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
            "$A", "$A $B"),
}  # fmt: skip
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def learn_tokenizer(
    texts: Iterable[str],
    model: Literal["wordlevel", "wordpiece", "bpe", "byte_level_bpe", "unigram"],
    vocab_size: int,
    style: Literal["bert", "roberta", "gpt"] = "bert",
    unicode_form: Literal["nfc", "nfkc", "none"] = "nfc",
    lowercase: bool = False,
    strip_accents: bool = False,
    min_frequency: int = 2,
    special_tokens: Sequence[str] = (),
    max_length: int = 512,
    show_progress: bool = False,
) -> PreTrainedTokenizerFast:
    """
    Args:
        texts: read once, one after the other.
        vocab_size: the most tokens, special ones included; there are fewer if the texts do not hold so many.
        style: special tokens, and what stands around one text and two (STYLES).
        unicode_form: nfkc also makes full-width letters and Chinese punctuation ASCII's.
        strip_accents: é -> e; harms scripts whose vowels are marks, and Japanese.
        min_frequency: how often a word, or a pair that is merged, must occur; Unigram has no such number.
        special_tokens: further ones, numbered behind those of the style.
        max_length: model_max_length of the tokenizer.

    Raises: DataError for no texts, and for a vocab_size below the number of special tokens and characters.
    """
    names, single, pair = STYLES[style]
    special = list(dict.fromkeys([*names.values(), *special_tokens]))
    texts = at_least_one(texts)
    if unicode_form != "none":  # here and not by tokenizers: Python sees quickly that most texts have the form already
        form: Any = unicode_form.upper()
        texts = map(partial(unicodedata.normalize, form), texts)
    normalizer = normalizer_of(model, "none", lowercase, strip_accents)
    options: dict[str, Any] = {"vocab_size": vocab_size, "show_progress": show_progress}
    if model in OF_BERT:
        learned = learn_words(model, texts, normalizer, special, names["unk_token"], min_frequency, options)
    elif model == "unigram":
        learned = learn_unigram(texts, normalizer, special, names["unk_token"], options)
    else:
        learned = learn_bpe(model, texts, normalizer, special, options | {"min_frequency": min_frequency})
    tokenizer = pipeline(model, learned, normalizer_of(model, unicode_form, lowercase, strip_accents))
    if tokenizer.get_vocab_size() > vocab_size:
        raise too_small(vocab_size, f"give at least {tokenizer.get_vocab_size()}")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, number) for number, token in enumerate(special)]
    )
    types = ["token_type_ids"] if ":1" in pair else []
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_length, extra_special_tokens=list(special_tokens),
        model_input_names=["input_ids", *types, "attention_mask"], **names,
    )  # fmt: skip


def at_least_one(texts: Iterable[str]) -> Iterable[str]:
    remaining = iter(texts)
    first = next(remaining, None)
    if first is None:
        raise DataError("arguments", "there is no text in it", "corpus")
    return chain([first], remaining)


def too_small(vocab_size: int, hint: str) -> DataError:
    message = f"{vocab_size} is too small for the special tokens and every character of the texts; {hint}"
    return DataError("arguments", message, "vocab_size")


def learn_words(
    name: str, texts: Iterable[str], normalizer: Any, special: list[str], unknown: str, min_frequency: int,
    options: dict[str, Any],
) -> Any:  # fmt: skip
    words = count_words(texts, normalizer, pre_tokenizers.BertPreTokenizer())
    if name == "wordpiece":
        return models.WordPiece(wordpiece_vocab(words, special, min_frequency, **options), unk_token=unknown)
    vocab = wordlevel_vocab(words, special, min_frequency, options["vocab_size"])
    return models.WordLevel(vocab, unk_token=unknown)


def learn_bpe(name: str, texts: Iterable[str], normalizer: Any, special: list[str], options: dict[str, Any]) -> Any:
    tokenizer = pipeline(name, models.BPE(), normalizer)
    if name == "bpe":  # special for this trainer only, that they come first: "<0x41>" in a text stays six characters
        trainer = trainers.BpeTrainer(special_tokens=special + BYTES, **options)
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, **options)
    tokenizer.train_from_iterator(texts, trainer)
    learned: Any = tokenizer.model
    learned.byte_fallback = name == "bpe"
    return learned


def learn_unigram(
    texts: Iterable[str], normalizer: Any, special: list[str], unknown: str, options: dict[str, Any]
) -> Any:
    tokenizer = pipeline("unigram", models.Unigram(), normalizer)
    trainer = trainers.UnigramTrainer(special_tokens=special, unk_token=unknown, **options)
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as error:
        if "not large enough" not in str(error):  # tokenizers has one kind of error for all
            raise
        raise too_small(options["vocab_size"], "give more") from None
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    return models.Unigram(settled(pieces, special), special.index(unknown))


def settled(pieces: Iterable[tuple[str, float]], special: Sequence[str]) -> list[tuple[str, float]]:
    """The same pieces without what is another in every process: the trainer's sums differ in their last digits, and
    characters too rare for a score get the lowest one plus steps of 0.0001, in any order.
    """
    scores = {piece: score for piece, score in pieces if piece not in special}
    characters = [piece for piece in scores if len(piece) == 1]
    lowest = min(scores.values())
    for character in characters:
        if scores[character] < lowest + 0.0001 * len(characters):
            scores[character] = lowest
    rounded = [(piece, round(score, 4)) for piece, score in scores.items()]
    return [(token, 0.0) for token in special] + sorted(rounded, key=lambda item: (-item[1], item[0]))
