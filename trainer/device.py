"""Where to compute, and how precisely.

    device = pick_device("auto"); precision = pick_precision("auto", device)
"""

import torch


def pick_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """auto: this process's accelerator, else the CPU. Raises ValueError if the named device is not there."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        name = found.type if found else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device: {name!r} is none of auto, cpu, cuda, cuda:1, mps, xpu") from None
    if device.type != "cpu" and (found is None or device.type != found.type):
        raise ValueError(f"device: no {device.type} here; torch sees {found.type if found else 'only the cpu'}")
    return torch.device(device.type, local_rank) if device.type == "cuda" and device.index is None else device


def pick_precision(name: str, device: torch.device) -> str:
    """auto: bf16 where the device multiplies it natively, else fp16 on CUDA, else fp32."""
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision: fp16 needs an accelerator; give fp32 or bf16 on a CPU")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
    return "fp32"
