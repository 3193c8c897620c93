"""How much longer a training step takes with FGM, for small and large vocabularies.

    python -m benchmarks.fgm --vocabulary 21128 250002

Interleaved in one process: a plain step, one with tricks/fgm.py, and one with FGM as it is often copied, which saves
and moves the whole table. Random weights of MiniLM's shape, random sub-words, one intent per text.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import AutoModel, BertConfig

import main
from experiments.cost import interleaved, table
from model_utils.multitask_model import build_model
from model_utils.optim import build_optimizer, build_scheduler
from trainer.step import TrainStep
from tricks.fgm import FGM


class WholeTableFGM:
    """As it is often copied."""

    def __init__(self, model: torch.nn.Module, epsilon: float = 1.0):
        self.weight, self.epsilon = model.get_parameter("encoder.embeddings.word_embeddings.weight"), epsilon

    def __call__(self, backward: Callable[[], Any]) -> Any:
        saved = self.weight.data.clone()
        assert self.weight.grad is not None
        norm = torch.norm(self.weight.grad)
        if norm != 0:
            self.weight.data.add_(self.epsilon * self.weight.grad / norm)
        output = backward()
        self.weight.data = saved
        return output


ATTACKS: dict[str, Any] = {"plain": None, "tricks/fgm.py": FGM, "a copy of the whole table": WholeTableFGM}


def train_step(vocabulary: int, attack: Any, layers: int, hidden: int, precision: str = "fp32") -> TrainStep:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=12,
                        intermediate_size=4 * hidden)  # fmt: skip
    tasks = [{"name": "intent", "kind": "sequence_classification", "labels": [f"label {i}" for i in range(10)]}]
    model = build_model(AutoModel.from_config(config, add_pooling_layer=False), tasks).train()
    optimizer = build_optimizer(model, lr=1e-5)
    attacks = [] if attack is None else [attack(model)]
    scheduler = build_scheduler("constant", optimizer, 0, 1)
    return TrainStep(model, optimizer, scheduler, attacks=attacks, precision=precision)


def random_batch(vocabulary: int, texts: int, length: int, seed: int) -> dict[str, Any]:
    draw = partial(torch.randint, generator=torch.Generator().manual_seed(seed))
    ids = draw(vocabulary, (texts, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": {"intent": draw(10, (texts,))},
            "sample_id": torch.arange(texts)}  # fmt: skip


def compare(
    vocabulary: int, texts: int = 32, length: int = 32, layers: int = 6, hidden: int = 384, rounds: int = 20
) -> dict[str, list[float]]:
    """Seconds of each step."""
    torch.set_num_threads(1)
    steps = {name: train_step(vocabulary, attack, layers, hidden) for name, attack in ATTACKS.items()}
    groups = [[random_batch(vocabulary, texts, length, seed)] for seed in range(rounds)]
    return interleaved(steps, groups, rounds)


def report(argv: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[21128, 250002], help="entries of the table")
    parser.add_argument("--texts", type=int, default=32, help="texts of a batch")
    parser.add_argument("--length", type=int, default=32, help="sub-words of a text")
    given = parser.parse_args(argv)
    for vocabulary in given.vocabulary:
        print(f"vocabulary of {vocabulary}:\n{table(compare(vocabulary, given.texts, given.length))}", flush=True)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
