"""Folders that are whole or not there, and training state without pickle.

    write_folder("output/run/last", write)          # write(folder) puts the files in
    folder = newest_whole("output/run/last")        # checks every file's sha256; falls back to last.previous
    save_tree(folder / "trainer.safetensors", {"optimizer": optimizer.state_dict(), ...})

Copy: alone; needs torch, numpy, safetensors.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A saved state that is damaged or does not fit."""

    exit_code = 2


class SaveError(RuntimeError):
    """The disk did not take a state; the one before it is whole."""

    exit_code = 1


def write_folder(target: str | Path, write: Callable[[Path], object], keep_previous: bool = True) -> None:
    """Fill a folder under a temporary name, flush it to disk, then rename it.

    What was at `target` before becomes `<target>.previous`, and stays as fallback if `keep_previous`. A reader sees
    the old state or the new one, never a half-written one. Raises SaveError if the disk is full or fails.
    """
    target = Path(target)
    unfinished = while_written(target)
    previous, old = (target.with_name(f"{target.name}.{end}") for end in ("previous", "old"))
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    try:
        fill(unfinished, write)
    except Exception as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        # safetensors and tokenizers, written in Rust, have exceptions of their own for "… (os error 28)"
        if isinstance(error, OSError) or "os error" in str(error).lower():
            raise SaveError(f"{target}: could not be saved: {error}; what was saved before is whole") from error
        raise
    # only renames until the new folder is in place: `target` and `previous` are whole at any moment
    if target.exists():
        if previous.exists():
            previous.rename(old)
        target.rename(previous)
    unfinished.rename(target)
    flush(target.parent)
    if previous.exists() and not keep_previous:
        shutil.rmtree(old, ignore_errors=True)
        previous.rename(old)
    shutil.rmtree(old, ignore_errors=True)


def while_written(target: Path) -> Path:
    """Where `write_folder` makes it."""
    return target.with_name(f"{target.name}.tmp")


def fill(unfinished: Path, write: Callable[[Path], object]) -> None:
    """Make the folder with its manifest, and wait until it is on the disk."""
    unfinished.mkdir(parents=True)
    write(unfinished)
    files = sorted(p for p in unfinished.rglob("*") if p.is_file())
    folders = [p for p in unfinished.rglob("*") if p.is_dir()]
    manifest = unfinished / MANIFEST
    manifest.touch()
    for path in files:  # safetensors writes files that only their owner may read, whatever the umask
        path.chmod(manifest.stat().st_mode)
    with ThreadPoolExecutor() as pool:  # the disk is as slow as the sums, and neither needs the other
        flushed, sums = pool.map(flush, files), pool.map(sha256, files)
        names = (p.relative_to(unfinished).as_posix() for p in files)
        write_json(manifest, dict(zip(names, sums, strict=True)))
        for _ in flushed:
            pass  # raises what a flush raised
    for path in [*folders, unfinished]:
        flush(path)


def newest_whole(target: str | Path) -> Path | None:
    """`target`, or `<target>.previous` if the newer one is damaged; None if there is neither.

    Raises CheckpointError if there is a state but none is whole: training must not restart from step 0 by itself.
    """
    target = Path(target)
    candidates = [p for p in (target, target.with_name(f"{target.name}.previous")) if p.is_dir()]
    for folder in candidates:
        damage = damaged(folder)
        if not damage:
            return folder
        logger.warning("%s is damaged (%s); looking for the state before it", folder, damage)
    if candidates:
        raise CheckpointError(f"{target}: no whole state is left; give --resume PATH, or a new --output_dir")
    return None


def set_damaged_aside(target: str | Path) -> None:
    """Before going on from `<target>.previous`: a damaged `target` must not take its place at the next save."""
    target = Path(target)
    if target.is_dir() and damaged(target):
        aside = target.with_name(f"{target.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)


def damaged(folder: Path) -> str:
    """What is wrong with a folder written by `write_folder`; "" if every file is as it was written."""
    try:
        sums = read_json(folder / MANIFEST)
    except CheckpointError:
        return f"{MANIFEST} is missing or unreadable"
    for name, expected in sums.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256(folder / name) != expected:
            return f"{name} was changed"
    return ""


def flatten(tree: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Nested dicts, lists and tensors as a structure for JSON, and the tensors by name."""
    tensors: dict[str, torch.Tensor] = {}

    def strip(node: Any, name: str) -> Any:
        if isinstance(node, torch.Tensor):
            tensors[name] = node.detach()
            return {"tensor": name}
        if isinstance(node, dict):
            return {"dict": [[key, strip(value, f"{name}.{key}")] for key, value in node.items()]}
        if isinstance(node, list | tuple):
            return {"list": [strip(value, f"{name}.{i}") for i, value in enumerate(node)]}
        return {"value": node}

    return strip(tree, "state"), tensors


def unflatten(structure: Any, tensor: Callable[[str], Any]) -> Any:
    """The tree, with tensor(name) in its places; tuples come back as lists."""
    if "tensor" in structure:
        return tensor(structure["tensor"])
    if "dict" in structure:
        return {key: unflatten(value, tensor) for key, value in structure["dict"]}
    if "list" in structure:
        return [unflatten(value, tensor) for value in structure["list"]]
    return structure["value"]


def save_tree(path: Path, tree: Any) -> None:
    """One safetensors file; the structure goes into its metadata as JSON."""
    structure, tensors = flatten(tree)
    places: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        tensors[name] = value.clone() if place in places else value  # safetensors takes no memory twice
        places.add(place)
    save_file(tensors, path, metadata={"structure": json.dumps(structure)})


def load_tree(path: Path) -> Any:
    """What `save_tree` wrote; tensors on the CPU. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            return unflatten(json.loads(file.metadata()["structure"]), file.get_tensor)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: is no state of a training: {error}") from None


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Whole or not at all, like the folders."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        flush(unfinished)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)


def read_json(path: str | Path) -> Any:
    """Raises CheckpointError if it is none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from None


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """fsync a file, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
