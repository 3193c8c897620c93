"""Where to compute, how precisely, and the state of the random generators there.

device = pick_device("auto"); precision = pick_precision("auto", device)

Copy: alone; needs torch.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch


class DeviceError(ValueError):
    """A device or precision that is not there."""

    exit_code = 2


def pick_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """auto: this process's accelerator, else the CPU. Raises DeviceError if the named device is not there."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        name = found.type if found else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device: {name!r} is none of auto, cpu, cuda, cuda:1, mps, xpu") from None
    if device.type != "cpu" and (found is None or device.type != found.type):
        raise DeviceError(f"device: no {device.type} here; torch sees {found.type if found else 'only the cpu'}")
    return torch.device(device.type, local_rank) if device.type == "cuda" and device.index is None else device


def pick_precision(name: str, device: torch.device) -> str:
    """auto: bf16 where the device multiplies it natively, else fp16 on CUDA, else fp32."""
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("precision: fp16 needs an accelerator; give fp32 or bf16 on a CPU")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
    return "fp32"


def make_autocast(precision: str, device: torch.device) -> Callable[[], torch.autocast]:
    """Makes the context for forward passes; one that does nothing for "fp32"."""
    dtypes = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in dtypes:
        raise ValueError(f"precision: {precision!r} is none of {', '.join(dtypes)}")
    return partial(torch.autocast, device.type, dtype=dtypes[precision], enabled=precision != "fp32")


def to_device(batch: Any, device: torch.device | str) -> Any:
    """A batch with its tensors on the device; pinned memory is copied while the host goes on."""
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    return batch.to(device, non_blocking=True) if isinstance(batch, torch.Tensor) else batch


def sum_dtype(device: torch.device | str) -> torch.dtype:
    """For adding up many numbers; Apple's GPUs have no float64."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """torch's generators, which dropout and some tricks draw from; the data does not."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_rng_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
