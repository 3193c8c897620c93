"""Functions as commands: their parameters are the options, their docstrings the help.

    run("huggingface_hands_on.semantic_search", [index, search], ["search", "--index", "output/index"])

Imports jsonargparse only, so that --help and mistakes answer at once.
"""

import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import auto_cli

Pooling = Literal["cls", "mean", "max", "first_last_mean"]
"""model_utils.pooling.POOLING, without importing torch"""


class CommandError(ValueError):
    """A wrong argument; the message is `arguments: name: what is wrong and what would be right`."""

    exit_code = 2

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"arguments: {name}: {message}")


def run(
    module: str, commands: Sequence[Callable[..., Any]], argv: list[str] | None = None, positional: bool = False
) -> int:
    """Run the command that the arguments name; for what is no bug of ours one line and an exit code.

    Args:
        module: what follows `python -m`, for the help.
        commands: typed functions; of a single one the name is left out.
        argv: None = the process's arguments.
        positional: parameters without a default come without their names.

    Returns: 0 done, 2 wrong input, 130 interrupted, 1 disk full.
    """
    try:
        # allow_abbrev: --model for --model_name_or_path
        auto_cli([*commands], argv, as_positional=positional, exit_on_error=False, allow_abbrev=True,
                 prog=f"python -m {module}")  # fmt: skip
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not isinstance(error, ArgumentError) and not hasattr(error, "exit_code"):
            raise
        where = "arguments: " if isinstance(error, ArgumentError) else ""
        print(f"error: {where}{' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    return 0


def require(condition: bool, name: str, message: str) -> None:
    if not condition:
        raise CommandError(name, message)


def require_new(folder: str) -> None:
    """Results replace nothing: the folder must not exist, or be empty."""
    path = Path(folder)
    is_new = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    require(is_new, "output_dir", f"{folder} is there already; remove it, or give another")
