"""How fast a run is and where its time goes, measured without waiting for the device.

    speed = Speed("cuda")
    with speed("forward"): ...              # or "data", "backward", "optimizer", "eval", "checkpoint"
    speed.count(batch)                      # of each micro-batch
    speed.since("log")                      # figures since the last call with this name; the host waits

Work of a GPU is timed by events in its own queue, the rest by the host's clock. Floating-point operations are those of
the linear layers, counted in one step, and of attention, by its formula (Chowdhery et al. 2022,
https://arxiv.org/abs/2204.02311, appendix B); norms, activations and embeddings are left out.

Copy: with distributed.py; needs torch.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from . import distributed

PARTS = ("data", "forward", "backward", "optimizer", "eval", "checkpoint")
ON_DEVICE = ("forward", "backward", "optimizer")
ALONE = ("data", "forward")  # DDP waits for the other ranks in backward
# TFLOP/s of a GPU in half precision (matrix units, dense, summed in fp32) and in fp32 (without TF32), from the makers'
# data sheets, of GeForce from NVIDIA's white papers. The first whose words are all in the device's name; 0 = not known.
PEAKS = {
    "B200": (2250, 0), "GH200": (990, 67), "H200 NVL": (835, 60), "H200": (989, 67), "H100 NVL": (835, 60),
    "H100 PCIE": (756, 51), "H100": (989, 67), "H800 PCIE": (756, 51), "H800": (989, 67), "H20": (148, 44),
    "A100": (312, 19.5), "A800": (312, 19.5), "L40S": (362, 91.6), "L40": (181, 90.5), "L20": (119.5, 59.8),
    "L4": (121, 30.3), "A40": (149.7, 37.4), "A30": (165, 10.3), "A10": (125, 31.2), "V100 PCIE": (112, 14),
    "V100": (125, 15.7), "T4": (65, 8.1), "5090": (209.5, 104.8), "4090": (165.2, 82.6), "3090": (71, 35.6),
    "MI300X": (1307, 163.4),
}  # fmt: skip


class Speed:
    """Counts and times since it was made; `since` tells what came in between."""

    def __init__(
        self, device: torch.device | str = "cpu", padded: bool = True, alone: Sequence[str] = ALONE, peak: float = 0.0
    ):
        """
        Args:
            padded: the model works on padding, too; else every batch has an attention_mask.
            alone: parts in which a rank never waits for another.
            peak: FLOP/s that the device can do; 0 = not known.
        """
        self.device = torch.device(device)
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.pending: list[tuple[str, Any, Any]] = []
        self.records = self.places = 0
        self.tokens: Any = 0  # a tensor wherever the batches are
        self.flops: Any = 0.0 if padded else torch.zeros((), dtype=torch.float64)
        self.flops_per_place = self.layers_width = 0.0
        self.padded, self.alone, self.peak = padded, alone, peak
        self.work: list[float] = []  # seconds of each rank in those parts, of the last `since`
        self.marks: dict[str, list[float]] = {}
        self.made = self.now()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """The time inside counts as that of this part."""
        start = self.clock(part)
        yield
        self.pending.append((part, start, self.clock(part)))

    def clock(self, part: str) -> Any:
        if self.device.type != "cuda" or part not in ON_DEVICE:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def count(self, batch: Mapping[str, Any]) -> None:
        """input_ids (R, T), else only records are counted; if there is padding, attention_mask (R, T)."""
        rows, length = size_of(batch)
        mask = batch.get("attention_mask")
        lengths = torch.full((rows,), length) if mask is None else mask.sum(1)
        self.records += len(batch["sample_id"])
        self.places += rows * length
        self.tokens = self.tokens + lengths.sum()
        worked, squares = (rows * length, rows * length**2) if self.padded else (lengths.sum(), (lengths**2).sum())
        # forward and backward; each of scores and sums multiplies (T, d) by (d, T): 2 T T d operations
        self.flops = self.flops + worked * self.flops_per_place + 12 * squares * self.layers_width

    @contextmanager
    def counting(self, model: nn.Module, group: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """Count the operations of the linear layers inside, and what their gradients take; only the first time.

        Args:
            model: with `encoder.config` of transformers, for the size of attention. In a layer that is compiled every
                linear layer is taken to see all places of the layer's first input.
            group: the micro-batches whose forward passes are inside.
        """
        if self.flops_per_place:
            yield
            return
        found = 0.0

        def add(module: Any, inputs: tuple[Any, ...], _: Any) -> None:
            nonlocal found
            passes = 1 + torch.is_grad_enabled() * (module.weight.requires_grad + inputs[0].requires_grad)
            found += 2.0 * passes * module.weight.numel() * inputs[0].numel() / inputs[0].shape[-1]

        compiled = {module: module._compiled_call_impl for module in model.modules() if module._compiled_call_impl}
        inside = {module for layer in compiled for module in layer.modules()}
        hooks = [module.register_forward_hook(add) for module in linear(model) if module not in inside]
        for layer, call in compiled.items():  # hooks in there would be compiled, too
            layer._compiled_call_impl = told(layer, call, add)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for layer, call in compiled.items():
                layer._compiled_call_impl = call
        worked = [math.prod(size_of(batch)) if self.padded else int(batch["attention_mask"].sum()) for batch in group]
        self.flops_per_place = found / max(1, sum(worked))
        config = getattr(getattr(model, "encoder", None), "config", None)
        self.layers_width = getattr(config, "num_hidden_layers", 0) * getattr(config, "hidden_size", 0)

    def now(self) -> list[float]:
        for part, start, end in self.pending:
            if isinstance(end, float):
                self.seconds[part] += end - start
            else:
                end.synchronize()
                self.seconds[part] += start.elapsed_time(end) / 1e3
        self.pending.clear()
        counts = [self.records, int(self.tokens), self.places, float(self.flops)]
        return [time.perf_counter(), *counts, *self.seconds.values()]

    def since(self, name: str) -> dict[str, float]:
        """A collective operation.

        Returns:
            seconds: on the clock, of this process.
            samples/s, tokens/s: of all ranks; tokens are real sub-words of the inputs.
            padding: share of the places.
            TFLOP/s, and MFU, their share of the peak where that is known; of a rank.
            memory_GiB: most that was ever in use; not on Windows.
            time/data, …: shares of the seconds.
        """
        now = self.now()
        before = self.marks.get(name, self.made)
        self.marks[name] = now
        seconds, *rest = (a - b for a, b in zip(now, before, strict=True))
        counts, parts = rest[:4], rest[4:]
        work = [0.0] * distributed.world_size()
        work[distributed.rank()] = sum(own for part, own in zip(PARTS, parts, strict=True) if part in self.alone)
        totals = distributed.sum_over_ranks(torch.tensor([*counts, *work], dtype=torch.float64)).tolist()
        records, tokens, places, flops, *self.work = totals
        seconds = max(seconds, 1e-9)
        rate = flops / seconds / distributed.world_size()
        found = {"seconds": seconds, "samples/s": records / seconds, "tokens/s": tokens / seconds,
                 "padding": 1 - tokens / places if places else 0.0, "TFLOP/s": rate / 1e12}  # fmt: skip
        if self.peak:
            found["MFU"] = rate / self.peak
        if sys.platform != "win32":
            found["memory_GiB"] = peak_memory(self.device) / 2**30
        return found | {f"time/{part}": own / seconds for part, own in zip(PARTS, parts, strict=True)}


def linear(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if type(module).__name__ in ("Linear", "Conv1D")]


def told(layer: nn.Module, call: Callable[..., Any], add: Callable[..., None]) -> Callable[..., Any]:
    """The same call; `add` is told of all linear layers in there."""

    def calls(*inputs: Any, **named: Any) -> Any:
        for module in linear(layer):
            add(module, (*inputs, *named.values()), None)
        return call(*inputs, **named)

    return calls


def size_of(batch: Mapping[str, Any]) -> Sequence[int]:
    """(R, T)"""
    return batch["input_ids"].shape if "input_ids" in batch else (0, 0)


def peak_flops(device: torch.device, precision: str) -> float:
    """precision: "fp32", "bf16" or "fp16". 0 if it is not known, also for fp32 if torch may compute it in TF32."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    words = {*name.upper().replace("-", " ").split()}
    tf32 = precision == "fp32" and torch.get_float32_matmul_precision() != "highest"
    if tf32 or words & {"TI", "SUPER", "LAPTOP"}:
        return 0.0
    peaks = (peaks for known, peaks in PEAKS.items() if {*known.split()} <= words)
    half, single = next(peaks, (0.0, 0.0))
    return 1e12 * (single if precision == "fp32" else half)


def peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe(found: Mapping[str, float]) -> str:
    """One line for people."""
    mfu = f" (MFU {found['MFU']:.1%})" if "MFU" in found else ""
    parts = ", ".join(f"{part} {found[f'time/{part}']:.0%}" for part in PARTS)
    return (f"{found['seconds']:.0f} s, {found['samples/s']:,.0f} records/s, {found['tokens/s']:,.0f} sub-words/s "
            f"beside {found['padding']:.0%} padding, {found['TFLOP/s']:.3g} TFLOP/s{mfu}, "
            f"{found.get('memory_GiB', 0):.1f} GiB; time: {parts}")  # fmt: skip
