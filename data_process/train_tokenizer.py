r"""A tokenizer trained on texts: word-level, WordPiece, BPE, byte-level BPE or Unigram; Chinese, English, mixed.

    tokenizer = learn_tokenizer(texts, "wordpiece", vocab_size=30000)       # any iterable, read once
    tokenizer.save_pretrained("folder")                                     # AutoTokenizer.from_pretrained("folder")

The same texts give the same tokenizer in every process. No token holds both Chinese characters and anything else.

| model | what it is | unknown characters | decoding gives back |
|---|---|---|---|
| wordlevel | words as BERT cuts them, Chinese by character | [UNK] for the word | words, with other spaces |
| wordpiece | BERT's (arXiv 1810.04805): sub-words of these words | [UNK] for the word | the same |
| bpe | arXiv 1508.07909 with Llama's bytes: sub-words, Chinese of several characters | spelled in bytes | the text |
| byte_level_bpe | GPT-2's: the same over bytes, so nothing is unknown | cannot be | the text |
| unigram | arXiv 1804.10959, SentencePiece's default | [UNK] for the characters | the text, but for a space before it |

Words of Chinese (jieba) are none of the options: that cut is Python, which a tokenizer.json cannot hold.

Copy together with: bert_words.py, errors.py.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .bert_words import count_words, wordlevel_vocab, wordpiece_vocab
from .errors import DataError

Model = Literal["wordlevel", "wordpiece", "bpe", "byte_level_bpe", "unigram"]
Style = Literal["bert", "roberta", "gpt"]
UnicodeForm = Literal["nfc", "nfkc", "none"]

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
SPACE = "▁"
# GPT-2's words, with Chinese characters apart from other letters, from digits, and from the space before them
WORDS = Regex(
    r"'(?:[sdmt]|ll|ve|re)|\p{Han}+| ?[\p{L}&&\P{Han}]+| ?[\p{N}&&\P{Han}]+| ?[^\s\p{L}\p{N}\p{Han}]+|\s+(?!\S)|\s+"
)


def learn_tokenizer(
    texts: Iterable[str],
    model: Model,
    vocab_size: int,
    style: Style = "bert",
    unicode_form: UnicodeForm = "nfc",
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
    normalizer = normalizer_of(model, unicode_form, lowercase, strip_accents)
    learned = learn_model(model, at_least_one(texts), vocab_size, special, names["unk_token"], normalizer,
                          min_frequency, show_progress)  # fmt: skip
    tokenizer = pipeline(model, learned, normalizer)
    if tokenizer.get_vocab_size() > vocab_size:
        raise too_small(vocab_size, f"{tokenizer.get_vocab_size():,} are needed")
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


def too_small(vocab_size: int, needed: str) -> DataError:
    message = f"{vocab_size} is too small for the special tokens and every character of the texts; {needed}"
    return DataError("arguments", message, "vocab_size")


def normalizer_of(model: str, unicode_form: str, lowercase: bool, strip_accents: bool) -> Any:
    steps = {"nfc": [normalizers.NFC()], "nfkc": [normalizers.NFKC()], "none": []}[unicode_form]
    if model in ("wordlevel", "wordpiece"):
        bert = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        return normalizers.Sequence([*steps, bert])
    if strip_accents:
        steps += [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    if model == "unigram":  # a word is the same at the start of a text and behind a space; Chinese has no spaces
        steps.append(normalizers.Replace(Regex(r"\A(?=[^\s\p{Han}])"), " "))
    return normalizers.Sequence(steps)


def pipeline(name: str, model: Any, normalizer: Any) -> Tokenizer:
    """Everything but special tokens."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    if name in ("wordlevel", "wordpiece"):
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer
    words = pre_tokenizers.Split(WORDS, "isolated")
    if name == "byte_level_bpe":
        marks: Any = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        marks = pre_tokenizers.Metaspace(SPACE, prepend_scheme="never", split=False)
        tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")  # takes one space from the start
    if name == "bpe":
        tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, marks])
    return tokenizer


def learn_model(
    name: str, texts: Iterable[str], vocab_size: int, special: list[str], unknown: str, normalizer: Any,
    min_frequency: int, show_progress: bool,
) -> Any:  # fmt: skip
    """The vocabulary, and the merges or scores that go with it, as a model of tokenizers."""
    common: dict[str, Any] = {"vocab_size": vocab_size, "show_progress": show_progress}
    if name in ("wordlevel", "wordpiece"):
        words = count_words(texts, normalizer, pre_tokenizers.BertPreTokenizer())
        if name == "wordlevel":
            return models.WordLevel(wordlevel_vocab(words, vocab_size, special, min_frequency), unk_token=unknown)
        vocab = wordpiece_vocab(words, special=special, min_frequency=min_frequency, **common)
        return models.WordPiece(vocab, unk_token=unknown)
    if name == "unigram":
        tokenizer = pipeline(name, models.Unigram(), normalizer)
        try:
            tokenizer.train_from_iterator(
                texts, trainers.UnigramTrainer(special_tokens=special, unk_token=unknown, **common)
            )
        except Exception as error:
            if "not large enough" in str(error):  # tokenizers has no kinds of errors
                raise too_small(vocab_size, "give more") from None
            raise
        return models.Unigram(settled(json.loads(tokenizer.to_str())["model"]["vocab"], special), special.index(unknown))
    # a piece "<0x41>" in a text is none: these are tokens of the model, not special ones of the tokenizer below
    tokenizer = pipeline(name, models.BPE(), normalizer)
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        special_tokens=special + (BYTES if name == "bpe" else []), min_frequency=min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if name == "byte_level_bpe" else [], **common,
    ))  # fmt: skip
    learned = tokenizer.model
    learned.byte_fallback = name == "bpe"
    return learned


def settled(pieces: list[list[Any]], special: list[str]) -> list[tuple[str, float]]:
    """The scores that the trainer meant, without what chance added: sums in another order in every process, and
    steps of 0.0001, in any order, between characters that it saw too rarely to score.
    """
    scores = {piece: score for piece, score in pieces if piece not in special}
    single = [piece for piece in scores if len(piece) == 1]
    lowest = min(scores.values())
    for piece in single:
        if scores[piece] < lowest + 0.0001 * len(single):
            scores[piece] = lowest
    rounded = {piece: round(score, 4) for piece, score in scores.items()}
    ordered = sorted(rounded.items(), key=lambda item: (-item[1], item[0]))
    return [(token, 0.0) for token in special] + ordered
