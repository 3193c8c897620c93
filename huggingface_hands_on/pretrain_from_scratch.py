r"""Pretrain a language model from random weights: BERT, RoBERTa, ModernBERT, GPT-2, Llama … in any size.

    python -m huggingface_hands_on.pretrain_from_scratch --tokenizer output/tokenizer --corpus "data/corpus/*.txt" \
        --model '{model_type: bert, hidden_size: 256, num_hidden_layers: 4, num_attention_heads: 4}' \
        --output_dir output/small_bert --epochs 10 --lr 5e-4 --warmup_ratio 0.05 --batch_size 64

The options of the model are those of its configuration in transformers; what is not given is that one's default. All
the rest is as in continue_pretrain_task.py.
"""

import sys
from pathlib import Path
from typing import Any

import main
from config import require

from .pretraining import Load, pretrain
from .pretraining_arguments import FromScratchArguments, get_args


def pretrain_from_scratch(argv: list[str] | None = None) -> None:
    pretrain(*parse(argv))


def parse(argv: list[str] | None) -> tuple[Any, Load]:
    """The arguments, and what loads tokenizer and model."""
    args = get_args(argv, FromScratchArguments, "pretrain_from_scratch", "Pretrain a language model from scratch.")
    require(bool(args.model), "model", "of which shape? For example {model_type: bert, hidden_size: 256}")
    require(bool(args.tokenizer), "tokenizer", "none given; train_tokenizer_from_scratch makes one")

    from data_process.tokenizer import load_tokenizer
    from model_utils.encoder import locate
    from model_utils.pretraining_build import new_of_shape

    def load(state: Path | None) -> tuple[Any, Any, bool]:
        tokenizer = load_tokenizer(locate(args.tokenizer))
        saved = None if state is None else str(state)
        return tokenizer, *new_of_shape(args.model, tokenizer, args.block_length, args.objective, saved)

    return args, load


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], pretrain_from_scratch))
