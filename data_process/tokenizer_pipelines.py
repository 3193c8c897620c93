r"""What surrounds the vocabulary of a tokenizer: how texts are normalised, cut into words, and put together again.

    normalizer = normalizer_of("bpe", "nfc", lowercase=False, strip_accents=False)
    pipeline("bpe", models.BPE(), normalizer).pre_tokenizer.pre_tokenize_str("我在Paris, 2024")
    # 我在 | Paris | , | ▁2024

Copy: alone; needs tokenizers.
"""

from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers

OF_BERT = ("wordlevel", "wordpiece")
SPACE = "▁"
# GPT-2's words, with Chinese characters apart from other letters, from digits, and from the space before them
WORDS = (
    r"'(?:[sdmt]|ll|ve|re)|\p{Han}+| ?[\p{L}&&\P{Han}]+| ?[\p{N}&&\P{Han}]+| ?[^\s\p{L}\p{N}\p{Han}]+|\s+(?!\S)|\s+"
)
# Unigram's have their punctuation: its trainer takes a piece for a candidate only if it found different characters
# behind it. Without punctuation " and", which is the beginning of no other word, would never be one.
SPACED_WORDS = r"\p{Han}+| ?[^\s\p{Han}]+|\s+(?!\S)|\s+"


def normalizer_of(name: str, unicode_form: str, lowercase: bool, strip_accents: bool) -> Any:
    """
    Args:
        name: of the model: wordlevel, wordpiece, bpe, byte_level_bpe, unigram.
        unicode_form: nfc, nfkc, none.
    """
    forms: dict[str, list[Any]] = {"nfc": [normalizers.NFC()], "nfkc": [normalizers.NFKC()], "none": []}
    steps = forms[unicode_form]
    if name in OF_BERT:
        bert = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        return normalizers.Sequence([*steps, bert])
    if strip_accents:
        steps += [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    if name == "unigram":  # a word is the same at the start of a text and behind a space; Chinese has no spaces
        steps.append(normalizers.Replace(Regex(r"\A(?=[^\s\p{Han}])"), " "))
    return normalizers.Sequence(steps)


def pipeline(name: str, model: Any, normalizer: Any) -> Tokenizer:
    """Everything but special tokens.

    Args:
        model: one of tokenizers.models, trained or to be trained.
        normalizer: `normalizer_of` the same name.
    """
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    if name in OF_BERT:
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer
    words = pre_tokenizers.Split(Regex(SPACED_WORDS if name == "unigram" else WORDS), "isolated")
    marks: Any = pre_tokenizers.Metaspace(SPACE, prepend_scheme="never", split=False)
    if name == "unigram":
        tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")  # drops the space of the normalizer
    elif name == "bpe":
        tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    else:
        marks = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, marks])
    return tokenizer
