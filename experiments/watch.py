"""What a process really needs and sends: memory of tensors, collective operations, bytes of its sockets.

    with Watch() as watch:                  # from the first tensor on
        watch.looking = True
        model(batch).loss.backward()
    watch.most, watch.sent                  # bytes; name of an operation -> bytes of each call's largest array
    bytes_of(model.parameters())

torch only.
"""

import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Watch(TorchDispatchMode):
    """Collective operations inside, and the most that was alive, while `looking`, of tensors made inside. Memory that a
    backend of torch.distributed takes for itself is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.looking, self.most = False, 0
        self.alive: dict[int, int] = {}  # address of a memory -> weak reference to it
        self.sent: dict[str, list[int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if function.namespace == "c10d":
            name = function._schema.name.removeprefix("c10d::")
            self.sent.setdefault(name, []).append(max((x.nbytes for x in given), default=0))
        result = function(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        storages = [getattr(x, "_local_tensor", x).untyped_storage() for x in made]
        new = [storage for storage in storages if storage._cdata not in self.alive]
        self.alive |= {storage._cdata: storage._weak_ref() for storage in new}
        if new and self.looking:
            self.most = max(self.most, self.now())
        return result

    def now(self) -> int:
        """FSDP2 gives memory back without forgetting it, so all sizes are read again."""
        total = 0
        for address, weak in list(self.alive.items()):
            storage = torch.UntypedStorage._new_with_weak_ptr(weak)
            if storage is None:
                torch.UntypedStorage._free_weak_ref(self.alive.pop(address))
            else:
                total += storage.nbytes()
        return total


def bytes_of(tensors: Iterable[Any]) -> int:
    """Of their memory, each counted once; of spread ones, what this process has."""
    storages = [getattr(tensor, "_local_tensor", tensor).untyped_storage() for tensor in tensors]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def bytes_received() -> int:
    """By all sockets of this process, as TCP counts them; 0 where Linux does not tell."""
    total = 0
    for number in map(int, os.listdir("/proc/self/fd") if sys.platform == "linux" else ()):
        with suppress(OSError):  # closed meanwhile, or no connection of TCP
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as connection:
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    total += struct.unpack_from("Q", info, 128)[0]  # tcpi_bytes_received
    return total
