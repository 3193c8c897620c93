"""A copy of a training state on the CPU, which can be read while training goes on.

    snapshot = Snapshot()
    copy = snapshot({"weights": model.state_dict(), "optimizer": optimizer.state_dict()})
    snapshot.wait()         # before the copy is read: a GPU fills it behind the work that it has been given before

The next call overwrites the copy: its memory is allocated once, as long as names and shapes stay. Of what FSDP2 has
spread, each rank's part is copied.

Copy: alone; needs torch; can use distributed.py, sharding.py.
"""

from collections.abc import Mapping
from typing import Any

import torch


class Snapshot:
    """Copies nested dicts and lists; the host does not wait for a GPU, whose copies go into pinned memory."""

    def __init__(self) -> None:
        self.buffers: dict[str, torch.Tensor] = {}
        self.events: list[torch.cuda.Event] = []

    def __call__(self, tree: Any) -> Any:
        """Tuples come back as lists. Tensors with the same memory, such as tied weights, have the same in the copy."""
        kept, self.buffers = self.buffers, {}
        ties: dict[tuple[Any, ...], torch.Tensor] = {}

        def copied(node: Any, name: str) -> Any:
            if hasattr(node, "full_tensor"):  # spread
                from .sharding import with_part

                return with_part(node, copied(node.detach().to_local(), name))
            if isinstance(node, torch.Tensor):
                place = (node.device, node.data_ptr() or name, node.dtype, node.shape, node.stride())
                if place not in ties:
                    ties[place] = self.buffers[name] = filled(kept.get(name), node.detach())
                return ties[place]
            if isinstance(node, Mapping):
                return {key: copied(value, f"{name}.{key}") for key, value in node.items()}
            if isinstance(node, list | tuple):
                return [copied(value, f"{name}.{i}") for i, value in enumerate(node)]
            return node

        copy = copied(tree, "")
        self.events = [torch.cuda.current_stream(gpu).record_event() for gpu in {place[0] for place in ties}
                       if gpu.type == "cuda"]  # fmt: skip
        return copy

    def wait(self) -> None:
        """Until the last copy is whole; from any thread."""
        for event in self.events:
            event.synchronize()


def filled(buffer: torch.Tensor | None, tensor: torch.Tensor) -> torch.Tensor:
    """The buffer, or a new one where there is none that fits, with the values of the tensor."""
    if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
        buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return buffer.copy_(tensor, non_blocking=tensor.is_cuda)
