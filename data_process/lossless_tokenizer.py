"""A tokenizer for texts that are to be generated, trained on the spot: what it encodes, it decodes to the same text.

    tokenizer = train_lossless_tokenizer(["Play it again, Sam.", "再弹一次。"], vocab_size=8000)
    tokenizer.decode(tokenizer("Sam, 弹!")["input_ids"], skip_special_tokens=True)     # "Sam, 弹!"

Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) in the way of Llama's: a space belongs to the word behind
it, and a character that is not in the vocabulary is spelled in bytes. Chinese characters stay single, as with BERT.

Copy: alone; needs transformers, tokenizers.
"""

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PAD, END, SPACE = "<pad>", "</s>", "▁"  # in texts the last is a space, too


def train_lossless_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Texts end with </s>; there is no unknown token. The same texts give the same tokenizer in every process.

    vocab_size counts 256 bytes and 2 special tokens; it is exceeded only where there are more characters than that.
    """
    from transformers import PreTrainedTokenizerFast  # takes a second

    words = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(SPACE, prepend_scheme="never"),
        pre_tokenizers.Split(Regex(r"\p{Han}|\p{P}|\s"), "isolated"),
    ])  # fmt: skip
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = words
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=max(0, vocab_size - 258), min_frequency=2, show_progress=False)
    )
    trained = json.loads(tokenizer.to_str())["model"]
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = dict.fromkeys([PAD, END, *spelled, *sorted(trained["vocab"], key=trained["vocab"].get)])
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(pair) for pair in trained["merges"]], byte_fallback=True))
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, vocab[END])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_input_names=["input_ids", "attention_mask"]
    )
