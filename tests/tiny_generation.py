"""Language models of a few thousand parameters, of all families, that have learned a few pairs of texts."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    GPT2Config,
    LlamaConfig,
    M2M100Config,
    MarianConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

from data_loader.collate import Collator
from data_process.encode import RecordEncoder, TargetEncoder
from data_process.lossless_tokenizer import train_lossless_tokenizer
from data_process.schema import LabelColumn, Schema
from data_process.tokenizer import train_tokenizer
from model_utils.generation_model import GenerationModel, build_generation_model

PAIRS = [
    ("hello world", "你好世界"),
    ("play it again", "再弹一次"),
    ("what is the weather in paris", "巴黎天气怎么样"),
    ("i do not know", "我不知道"),
    ("你好", "hello my friend"),
    ("再弹一次", "play it again and again please"),
]
TEXTS = [text for pair in PAIRS for text in pair]
TASK = {"name": "reply", "kind": "text_generation"}
SEQ2SEQ = {"t5": "unigram", "bart": "wordpiece", "marian": "unigram", "m2m_100": "lossless"}
CAUSAL = {"gpt2": "bytes", "llama": "wordpiece", "opt": "bytes"}
FAMILIES = SEQ2SEQ | CAUSAL  # kind of model -> kind of tokenizer
MAX_LENGTH, MAX_TARGET_LENGTH = 40, 19  # transformers would stop at 20


@cache
def tokenizer_of(kind: str) -> Any:
    """wordpiece: as BERT's, without an end token; unigram: as T5's; bytes: as GPT-2's, without special tokens."""
    if kind == "wordpiece":
        return train_tokenizer(TEXTS, 120)
    if kind == "lossless":
        return train_lossless_tokenizer(TEXTS, 360)
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(TEXTS, trainer)
        end = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
        )
        tokenizer.train_from_iterator(TEXTS, trainer)
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        end = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **end)


def config_of(kind: str, tokenizer: Any) -> Any:
    """Two layers, 16 wide, without dropout."""
    pad = tokenizer.pad_token_id
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    known: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": pad, "eos_token_id": end}
    encoder_decoder = known | {
        "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "dropout": 0.0,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
        "attention_dropout": 0.0, "activation_dropout": 0.0, "decoder_start_token_id": end, "forced_eos_token_id": None,
    }  # fmt: skip
    decoder = known | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "bos_token_id": end}
    configs = {
        "t5": lambda: T5Config(**known | {"decoder_start_token_id": pad}, d_model=16, d_kv=8, d_ff=32, num_layers=2,
                               num_heads=2, dropout_rate=0.0),
        "bart": lambda: BartConfig(**encoder_decoder),
        "marian": lambda: MarianConfig(**encoder_decoder | {"decoder_start_token_id": pad}),
        "m2m_100": lambda: M2M100Config(**encoder_decoder, encoder_layerdrop=0.0, decoder_layerdrop=0.0),
        "gpt2": lambda: GPT2Config(**known, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=end,
                                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
        "llama": lambda: LlamaConfig(**decoder, intermediate_size=32, max_position_embeddings=64),
        "opt": lambda: OPTConfig(**decoder, ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=64,
                                 dropout=0.0),
    }  # fmt: skip
    return configs[kind]()


def saved_language_model(kind: str, folder: Path, steps: int) -> str:
    """A folder as transformers saves it; after 40 steps the model knows PAIRS."""
    torch.manual_seed(0)
    tokenizer = tokenizer_of(FAMILIES[kind])
    auto_class: Any = AutoModelForCausalLM if kind in CAUSAL else AutoModelForSeq2SeqLM
    language_model = auto_class.from_config(config_of(kind, tokenizer))
    language_model.save_pretrained(folder)
    model = build_generation_model(str(folder), tokenizer, TASK, MAX_LENGTH, MAX_TARGET_LENGTH).train()
    batch = collate(model, features(model))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(steps):
        model(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.encoder.save_pretrained(folder)
    return str(folder)


def features(model: GenerationModel, prompt: str = "{text}") -> list[dict[str, Any]]:
    """Of PAIRS."""
    schema = Schema("source", None, (LabelColumn("reply", "target", "text"),), prompt=prompt)
    target = TargetEncoder(model.tokenizer, MAX_TARGET_LENGTH, with_special=not model.causal)
    encoder = RecordEncoder(model.tokenizer, schema, {"reply": target}, MAX_LENGTH)
    return encoder([(n, {"source": source, "target": target}) for n, (source, target) in enumerate(PAIRS)])


def collate(model: GenerationModel, some: list[dict[str, Any]], pad_to_multiple_of: int = 1) -> dict[str, Any]:
    side = "left" if model.causal else "right"
    return Collator(model.tokenizer.pad_token_id, {"reply": "text"}, pad_to_multiple_of, side)(some)
