"""Memory that the vocabulary scores take in a step: of masked places by us, and of all places as in transformers.

    python -m benchmarks.head_memory --corpus data/corpus_en_fiction/train.jsonl --model bert-base-uncased

The head and its loss, forward and backward, on the hidden states of one batch: bytes of all tensors that are alive at
the same time, beside the hidden states and the weights. For each kind of masking, in the precision of the device.
"""

import argparse
import sys
import tempfile
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.modeling_outputs import BaseModelOutput

import main

from .mlm import dense_labels, job_on, prepared

KINDS = ("token", "whole_word", "ngram")


class Alive(TorchDispatchMode):
    """Bytes of the tensors made inside that are alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {self.address(x) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and self.address(tensor) not in self.known | given:
                self.add(tensor.untyped_storage())
        return result

    @staticmethod
    def address(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def add(self, storage: torch.UntypedStorage) -> None:
        self.known.add(storage._cdata)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.remove, storage._cdata, storage.nbytes())

    def remove(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.now -= size


def most(run: Callable[[], torch.Tensor]) -> int:
    """Bytes of a loss and its gradients."""
    with Alive() as alive:
        run().backward()
    return alive.most


def compare(argv: Sequence[str]) -> dict[str, tuple[int, int]]:
    """kind of masking -> bytes of ours, and of scores at all places."""
    found = {}
    for kind in KINDS:
        job, model, options = prepared([*argv, "--masking", kind])
        batch = next(iter(options["train_loader"](0, 0)))
        model.requires_grad_(False).train()
        language_model = model.encoder
        hidden = torch.randn(*batch["input_ids"].shape, language_model.config.hidden_size, device=job.device)
        hidden.requires_grad_()
        language_model.base_model.forward = lambda *_, hidden=hidden, **__: BaseModelOutput(last_hidden_state=hidden)
        labels = dense_labels(batch).to(job.device)
        autocast = options["train_step"].autocast

        def ours(model: Any = model, batch: Any = batch, autocast: Any = autocast) -> torch.Tensor:
            with autocast():
                return model(batch).loss

        def theirs(head: Any = language_model, labels: Any = labels, autocast: Any = autocast) -> torch.Tensor:
            with autocast():
                scores = head(input_ids=None).logits  # (B, T, V)
            return F.cross_entropy(scores.flatten(0, 1).float(), labels.flatten())

        torch.testing.assert_close(ours(), theirs(), rtol=1e-2, atol=1e-2)
        found[kind] = (most(ours), most(theirs))
    return found


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="a file of texts")
    parser.add_argument("--model", required=True, help="a masked language model, or an encoder")
    given, rest = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        job = [*job_on(given.corpus, given.model, folder), *rest]
        print("| masks | ours | scores everywhere | |\n|---|---|---|---|")
        for kind, (own, dense) in compare(job).items():
            print(f"| {kind} | {own / 2**20:,.0f} MiB | {dense / 2**20:,.0f} MiB | 1/{dense / own:.1f} |")


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
