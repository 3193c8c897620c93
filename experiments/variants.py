"""Variants of a job: what `--toggle` of the scripts beside this file means.

    rest, variants = split_toggles(["--config", "c.yaml", "--toggle", "use_fgm,use_ema+ema_decay=0.99"])

Each entry between commas is a variant; its parts are joined by +. A part is `option=value`, or the name of an option
that is on or off and becomes the opposite of what it is in the job.
"""

import argparse
import dataclasses
from collections.abc import Sequence

from config import Arguments, ConfigError, get_args


def split_toggles(argv: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The other arguments, and variant -> its options; the first variant is "base", without any. Raises ConfigError."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--toggle", default="")
    given, rest = parser.parse_known_args(list(argv))
    args = get_args([*rest, "--do_train"])
    variants: dict[str, list[str]] = {"base": []}
    for name in filter(None, given.toggle.split(",")):
        variants[name] = [word for part in name.split("+") for word in option(part, args)]
        get_args([*rest, "--do_train", *variants[name]])
    if len(variants) == 1:
        raise ConfigError("command line: toggle: give the options to be tried, for example --toggle use_fgm,use_ema")
    return rest, variants


def folder_name(variant: str) -> str:
    """Values may be paths."""
    return variant.replace("/", "_")


def option(part: str, args: Arguments) -> list[str]:
    name, equals, value = part.partition("=")
    kinds = {field.name: field.type for field in dataclasses.fields(Arguments)}
    if name not in kinds:
        raise ConfigError(f"command line: toggle: {name}: unknown option; --help of main.py lists the options")
    if equals:
        return [f"--{name}", value]
    if kinds[name] is not bool:
        raise ConfigError(f"command line: toggle: {name}: is not on or off; give {name}=VALUE")
    return [f"--{name}", "false" if getattr(args, name) else "true"]
