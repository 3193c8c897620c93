"""How much longer a training step takes with FGM, for small and large vocabularies.

    python -m benchmarks.fgm --vocabulary 21128 250002

A step with tricks/fgm.py, one with FGM as it is often copied, which saves and moves the whole table, and a plain one.
Before, both attacks must leave the same weights. Random weights of MiniLM's shape, one intent per text.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch
from transformers import AutoModel, BertConfig

import main
from model_utils.multitask_model import build_model
from model_utils.optim import build_optimizer, build_scheduler
from trainer.step import TrainStep
from tricks.fgm import FGM

from .rounds import Comparison, Go, compare, once, options, show


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


ATTACKS: dict[str, Any] = {"tricks/fgm.py": FGM, "a copy of the whole table": WholeTableFGM, "no attack": None}


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


def comparisons(argv: Sequence[str]) -> Iterator[Comparison]:
    parser = options(__doc__)
    parser.set_defaults(rounds=20)
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[21128, 250002], help="entries of the table")
    parser.add_argument("--texts", type=int, default=32, help="texts of a batch")
    parser.add_argument("--length", type=int, default=32, help="sub-words of a text")
    parser.add_argument("--layers", type=int, default=6)
    given = parser.parse_args(argv)
    for vocabulary in given.vocabulary:
        batches = [random_batch(vocabulary, given.texts, given.length, seed) for seed in range(8)]

        def steps(attack: Any, vocabulary: int = vocabulary, batches: Any = batches) -> Go:
            step, turns = train_step(vocabulary, attack, given.layers, 384), cycle(batches)
            return once(lambda: step([next(turns)]))

        check(vocabulary, batches[:2], given.layers)
        runs = {name: partial(steps, attack) for name, attack in ATTACKS.items()}
        yield compare(f"a step, vocabulary of {vocabulary:,}", "step", runs, given)


def check(vocabulary: int, batches: Sequence[Any], layers: int) -> None:
    """Both attacks leave the same weights, without dropout."""
    found = []
    for attack in list(ATTACKS.values())[:2]:
        step = train_step(vocabulary, attack, layers, 384)
        for module in step.module.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for batch in batches:
            step([batch])
        found.append(step.module.state_dict())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], show(comparisons)))
