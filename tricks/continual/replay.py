"""Experience replay: each batch is trained together with samples of earlier tasks from a memory.

Rolnick, Ahuja, Schwarz, Lillicrap, Wayne: Experience Replay for Continual Learning, NeurIPS 2019,
https://arxiv.org/abs/1811.11682; Chaudhry, Rohrbach, Elhoseiny, Ajanthan, Dokania, Torr, Ranzato: On Tiny Episodic
Memories in Continual Learning, 2019, https://arxiv.org/abs/1902.10486. The loss of a batch is its mean loss
+ weight * the mean loss of `batch_size` samples of earlier tasks, drawn anew for each; then it goes into the memory.

    approach = Approach(Buffer(size=500), collate, batch_size=32)       # buffer.py
    loss = model(batch).loss + approach.extra_loss(model, batch, output)

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[{name: replay, size: 500}]'

Exact where copies usually are not: samples of several heads in one draw count alike, whatever batches they come in; the
memory holds no sample twice and prefers none, also where epochs repeat them (buffer.py); it resumes bit for bit. With
accumulation each micro-batch has its own draw. A batch of words is the mean over its words, as in training.
Cost: a forward and backward pass of `batch_size` samples per micro-batch, from the second task on. Conflicts: none
known.

Copy: alone; needs torch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Approach:
    """Draws from the memory, and fills it."""

    def __init__(
        self,
        buffer: Any,
        collate: Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]],
        batch_size: int = 32,
        weight: float = 1.0,
    ):
        """
        Args:
            buffer: the memory, a Buffer.
            collate: samples -> batches, each with its `share` of the samples; model(batch).loss is its mean loss.
            batch_size: samples drawn for each micro-batch.
            weight: factor of their loss.

        Raises: ValueError for an impossible one.
        """
        if batch_size < 1 or weight < 0:
            raise ValueError(f"replay: batch_size must be at least 1 and weight not negative, "
                             f"found {batch_size} and {weight}")  # fmt: skip
        self.buffer, self.collate, self.batch_size, self.weight = buffer, collate, batch_size, weight

    def extra_loss(self, model: Any, batch: Mapping[str, Any], output: Any) -> Any:
        """0 in the first task. batch: has `task` and `samples`."""
        earlier = self.buffer.draw(self.batch_size, but=batch["task"])
        self.buffer.add(batch["samples"])
        loss = output.loss.new_zeros(())
        if earlier:
            loss = loss + self.weight * sum(some["share"] * model(some).loss for some in self.collate(earlier))
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.buffer.load_state_dict(state["buffer"])


if __name__ == "__main__":
    from types import SimpleNamespace

    import torch

    memory = SimpleNamespace(draw=lambda number, but: [1.0, 2.0, 6.0], add=lambda samples: None)
    batches = [{"share": 2 / 3, "loss": 1.5}, {"share": 1 / 3, "loss": 6.0}]
    approach, plain = Approach(memory, lambda samples: batches, weight=2.0), SimpleNamespace(loss=torch.ones(()))
    found = approach.extra_loss(lambda some: SimpleNamespace(**some), {"task": "b", "samples": []}, plain)
    torch.testing.assert_close(found, torch.tensor(2 * 3.0))
