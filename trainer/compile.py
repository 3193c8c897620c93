"""Each layer of a model by itself through torch.compile.

    compile_layers(model, "cuda")          # in place: the names of the weights stay; before FSDP2 and DDP wrap it

Layers of one kind share their graphs, so that twelve take no longer to compile than one. Batch size and length are
symbols in a graph: batches of other shapes take it too. What takes another one is counted out: training or evaluation,
a mask or none, a single row (torch never makes a symbol of 1), weights frozen or not, a trick that asks for other
gradients. Beyond LIMIT of them a layer runs without compiling, as torch warns.

Copy: with distributed.py, sharding.py; needs torch.
"""

from typing import Any

import torch
from torch import nn

from .sharding import layers

LIMIT = 64  # graphs of one function; torch's 8 are less than two kinds of layers may need, and layers share it


class CompilerError(ValueError):
    """There is nothing here to compile with."""

    exit_code = 2


def compile_layers(model: nn.Module, device: torch.device | str, backend: Any = "inductor") -> int:
    """Members of the outermost lists of modules; returns how many. They are compiled when they are first called.

    backend: of torch.compile.

    Raises: CompilerError without a compiler for this device.
    """
    if backend == "inductor":
        check_compiler(torch.device(device).type)
    found = list(layers(model))
    for layer in found:
        layer.compile(dynamic=True, recompile_limit=LIMIT, backend=backend)
    return len(found)


def check_compiler(device_type: str) -> None:
    """C++ on a CPU, Triton on a GPU."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # imported here: it takes a second
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    if device_type == "cpu":
        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            raise CompilerError("compile: no C++ compiler here; install g++, or leave --compile out") from None
    elif not has_triton():
        raise CompilerError(f"compile: no Triton for {device_type} here; install triton, or leave --compile out")
