"""What a run runs on, for run_info.json: versions, device, commit. Written when it starts; later nobody knows."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "transformers", "datasets", "numpy", "scikit-learn", "safetensors", "peft")


def run_info(job: Any, model: Any) -> dict[str, Any]:
    """Nothing that says whose machine it is.

    Args:
        job: of main.py. model: with `heads`.
    """
    import torch

    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    name = torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else job.device.type
    lower = [f"{task}/{name}" for task, head in model.heads.items() for name in head.LOWER_IS_BETTER]
    found = {
        "monitor": job.monitor[0], "main_metrics": [f"{task}/{head.MONITOR}" for task, head in model.heads.items()],
        "lower_is_better": lower,
        "parameters": sum(size for size, _ in sizes), "trained_parameters": sum(size for size, own in sizes if own),
        "device": name, "precision": job.precision, "processes": job.world_size, "cpu_count": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
    }  # fmt: skip
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found | git_info()


def git_info() -> dict[str, Any]:
    """The commit of this code, and whether tracked files differ from it; empty without git."""

    def git(*arguments: str) -> str:
        options: dict[str, Any] = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": True}
        return subprocess.run(["git", *arguments], **options).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return {}
