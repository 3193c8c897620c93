r"""Go on pretraining an encoder (masked) or a causal language model on texts of your domain.

    python -m huggingface_hands_on.continue_pretrain_task --model_name_or_path bert-base-chinese \
        --corpus "data/medical/*.jsonl" --eval_corpus data/medical_dev.jsonl --masking whole_word \
        --output_dir output/medical_bert --epochs 3 --lr 5e-5
    python main.py --config configs/mine.yaml --model_name_or_path output/medical_bert/best

--dry_run prepares the corpus and says how large it is, how long training will take, and how much memory. --help lists
the options; those of the trainer are main.py's. An interrupted run goes on with the same command.
"""

import sys
from pathlib import Path
from typing import Any

import main
from config import require

from .pretraining import Load, pretrain
from .pretraining_arguments import ContinueArguments, get_args


def continue_pretraining(argv: list[str] | None = None) -> None:
    pretrain(*parse(argv))


def parse(argv: list[str] | None) -> tuple[Any, Load]:
    """The arguments, and what loads tokenizer and model."""
    args = get_args(argv, ContinueArguments, "continue_pretrain_task", "Go on pretraining a language model.")
    require(bool(args.model_name_or_path), "model_name_or_path", "which model is to be trained? A hub name or a folder")

    from data_process.tokenizer import load_tokenizer
    from model_utils.encoder import locate
    from model_utils.pretraining_build import load_pretrained

    path = locate(args.model_name_or_path)

    def load(state: Path | None) -> tuple[Any, Any, bool]:
        tokenizer = load_tokenizer(path, trust_remote_code=args.trust_remote_code)
        saved = None if state is None else str(state)
        return tokenizer, *load_pretrained(path, args.objective, saved, args.trust_remote_code)

    return args, load


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], continue_pretraining))
