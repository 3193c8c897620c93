"""Every command in the documents is one that its script takes.

A shell reads each `sh` block of the READMEs and of docs/, with stand-ins for the programs in it, so that loops, quotes
and variables are what a reader's shell makes of them. What it calls is then handed to the real script, in this process
and in an empty folder, until all arguments are checked and the work would begin. Files need not be there, but
configurations must. What cannot be tried in this way is in NOT_TRIED, each with its reason; anything else that is new
fails here until it can be tried, or has a reason.
"""

import argparse
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import jsonargparse
import pytest

import config
import main
from experiments import task_list

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/README*.md"), *ROOT.glob("docs/**/*.md")])
# first words of a command -> why no test hands it to a script
NOT_TRIED = {
    ("sh", "run_tests.sh"): "the tests themselves; tests/test_readme.py and tests/test_shell_scripts.py call it",
    ("python", "-m", "pytest"): "tests; those that are named must exist",
    ("python", "-m", "tests.world_sizes"): "takes no arguments; processes of torchrun",
    ("cp",): "copies; tests/test_readme.py does it",
    ("pip",): "needs a network",
    ("tensorboard",): "a server; tests/test_monitoring_doc.py calls what it stands on",
    ("py-spy",): "no part of this; tests/test_monitoring_doc.py calls it",
    ("python", "output/sample_joint_export/predict.py"): "is exported; tests/test_export_model.py calls it",
}
SHELLS = ("sh", "bash", "shell", "console")  # languages of blocks
# pages whose commands need files that only the page has -> the test that runs them
RUN_ELSEWHERE = {"docs/extending.md": "tests/test_extending.py", "docs/cookbook.md": "tests/test_cookbook.py"}
# that a block may call
PROGRAMS = ("python", "sh", "cp", "mkdir", "cd", "pip", "sbatch", "torchrun", "git", "tensorboard", "py-spy")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of the fenced blocks."""
    parts = re.split(r"^ *```(.*)\n", text, flags=re.M)
    return [*zip(parts[1::4], parts[2::4], strict=True)]


def english(page: Path) -> Path:
    """The page that a Chinese one is a translation of, or the page itself."""
    return page.with_name(page.name.replace(".zh-CN.md", ".md"))


def called(script: str, folder: Path) -> list[list[str]]:
    """What a shell calls when it reads this."""
    log, tools = folder / "log", folder / "tools"
    if not tools.exists():
        tools.mkdir()
        for name in PROGRAMS:
            (tools / name).write_text(f'#!/bin/sh\nprintf "%s\\0" {name} "$@" >> {shlex.quote(str(log))}\n'
                                      f'echo >> {shlex.quote(str(log))}\n')  # fmt: skip
            (tools / name).chmod(0o755)
    log.write_text("")
    done = subprocess.run(["/bin/sh", "-eu", "-c", script], cwd=folder, env={"PATH": str(tools)}, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}in\n{script}"
    return [line.removesuffix("\0").split("\0") for line in log.read_text(encoding="utf-8").split("\0\n") if line]


def documented(folder: Path) -> dict[tuple[str, ...], str]:
    """Each command of the pages once, and where it is."""
    found: dict[tuple[str, ...], str] = {}
    for page in PAGES:
        for language, content in blocks(page.read_text(encoding="utf-8")):
            if language in SHELLS and str(english(page).relative_to(ROOT)) not in RUN_ELSEWHERE:
                for words in called(content, folder):
                    found.setdefault(tuple(words), str(page.relative_to(ROOT)))
    return found


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], str]:
    return documented(tmp_path_factory.mktemp("shell"))


class Reached(BaseException):
    """The arguments are checked, the work would begin."""


def reached(*_: Any, **__: Any) -> None:
    raise Reached


def strict(parse: Any) -> Any:
    """After `parse_args` of argparse nothing is left to be checked; after `parse_known_args` the rest is."""

    def parsed(self: argparse.ArgumentParser, *given: Any, **named: Any) -> None:
        parse(self, *given, **named)
        raise Reached

    return parsed


def checked_by_functions(functions: list[Any], argv: list[str] | None, **options: Any) -> None:
    """In place of jsonargparse.auto_cli."""
    jsonargparse.capture_parser(lambda: jsonargparse.auto_cli(functions, argv, **options)).parse_args(argv)
    raise Reached


class Kept:
    """A jsonargparse parser that is made once for each script: making it takes longer than parsing."""

    made: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, prog: str, **options: Any) -> None:
        self.prog, self.is_new = prog, prog not in self.made
        self.parser = self.made.setdefault(prog, jsonargparse.ArgumentParser(prog=prog, **options))

    def add_argument(self, *names: str, **options: Any) -> None:
        if self.is_new:
            self.parser.add_argument(*names, **options)

    def add_class_arguments(self, *given: Any, **options: Any) -> None:
        if self.is_new:
            self.parser.add_class_arguments(*given, **options)

    def parse_args(self, argv: list[str]) -> Any:
        return self.parser.parse_args(argv)


def files_once(parse: Any) -> Any:
    """The look at a configuration alone, for its mistakes, is taken at each of them once."""
    seen = set()

    def parsed(parser: Any, argv: list[str], where: str, known: Any) -> Any:
        if where == "command line" or (parser.prog, where) not in seen:
            seen.add((parser.prog, where))
            return parse(parser, argv, where, known)

    return parsed


@pytest.fixture
def until_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder with the configurations, where nothing begins that takes time or writes."""
    monkeypatch.delenv("DATA_DIR", raising=False)
    for place in ("configs", "experiments/space.yaml", "docs/slurm.sbatch"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / place).is_dir() else shutil.copy)(ROOT / place, tmp_path / place)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr("config.resolve_file", lambda name, source: source)
    monkeypatch.setattr("config.find_spec", lambda name: SimpleNamespace(origin=name))  # trackers
    monkeypatch.setattr("config.ArgumentParser", Kept)
    monkeypatch.setattr("config.parse", files_once(config.parse))
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", strict(argparse.ArgumentParser.parse_args))
    monkeypatch.setattr("model_utils.encoder.locate", lambda name: name)
    monkeypatch.setattr("huggingface_hands_on.command_line.auto_cli", checked_by_functions)
    work = ("main.start_job", "main.build_job", "main.run_args", "experiments.runs.run_all", "subprocess.run",
            "transformers.AutoTokenizer.from_pretrained")  # fmt: skip
    for place in work:
        monkeypatch.setattr(place, reached)


def parse(words: list[str]) -> None:
    """Raises Reached when the script has taken them, SystemExit(0) for --help and its kind."""
    if words[:2] == ["sh", "run.sh"]:
        given = words[2:] if "--config" in words else ["--config", "configs/sample_joint.yaml", *words[2:]]
        main.main(given)
    elif words[:2] == ["python", "main.py"]:
        main.main(words[2:])
    elif words[:2] == ["python", "continual.py"]:
        task_list.get_args(words[2:])
        raise Reached
    elif words[:2] == ["python", "-m"]:
        sys.argv[:] = [words[2], *words[3:]]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        pytest.fail(f"no test knows how to try {shlex.join(words)}; teach it, or give a reason in NOT_TRIED")


def refused(commands: dict[tuple[str, ...], str], capsys: Any) -> list[str]:
    """Where each command is that its script does not take, and what the script says."""
    found, tried = [], set()
    for words, page in commands.items():
        given = [*words]
        if "--toggle" in given:  # each variant once, in whichever table of results it is
            place = given.index("--toggle") + 1
            every = given[place].split(",")
            given[place] = ",".join([name for name in every if name not in tried] or every[:1])
            tried.update(every)
        try:
            parse(given)
            outcome = "it ended without any work"
        except Reached:
            continue
        except SystemExit as left:
            if left.code in (0, None):
                continue
            outcome = capsys.readouterr().err
        except (Exception, pytest.fail.Exception) as error:
            outcome = f"{type(error).__name__}: {error}"
        found.append(f"{page}: {shlex.join(words)}\n    {outcome}")
    return found


def is_tried(words: tuple[str, ...]) -> bool:
    return not any(words[: len(start)] == start for start in NOT_TRIED)


def is_benchmark(words: tuple[str, ...]) -> bool:
    return words[:2] == ("python", "-m") and words[2].startswith("benchmarks.")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_every_command_is_one_that_its_script_takes(
    commands: dict[tuple[str, ...], str], until_the_work: None, capsys: Any
) -> None:
    mine = {words: page for words, page in commands.items() if is_tried(words) and not is_benchmark(words)}
    assert len(mine) > 80
    wrong = refused(mine, capsys)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_every_benchmark_too(commands: dict[tuple[str, ...], str], until_the_work: None, capsys: Any) -> None:
    """They import the trainers that they compare, which takes seconds."""
    mine = {words: page for words, page in commands.items() if is_benchmark(words)}
    assert len(mine) > 20
    wrong = refused(mine, capsys)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sh run.sh --use_fmg", "use_fmg: unknown option; did you mean use_fgm?"),
        ("sh run.sh --config configs/none.yaml", "File does not exist"),
        ("for seed in one; do python main.py --config configs/snips.yaml --seed $seed; done", "Expected a int"),
        ("python -m experiments.ablate --config configs/snips.yaml --toggle use_fgm,use_fmg", "use_fmg: unknown"),
        ("python -m experiments.plan_gpus", "arguments are required"),
        ("python -m huggingface_hands_on.semantic_search index --corpus a.jsonl --modle b", "modle"),
        ("python -m huggingface_hands_on.pretrain_from_scratch --config configs/snips.yaml", "unknown option"),
        ("python -m experiments.none", "No module named experiments.none"),
        ("python other.py", "Failed: no test knows how to try python other.py"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_this_would_be_refused(script: str, said: str, tmp_path: Path, request: Any, capsys: Any) -> None:
    (words,) = called(script, tmp_path)
    request.getfixturevalue("until_the_work")
    (wrong,) = refused({tuple(words): "page"}, capsys)
    assert said in wrong


def test_a_program_that_is_not_known_is_not_overlooked(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not found"):
        called("python main.py; curl example.org", tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_stand_in_blocks_of_a_shell(page: Path) -> None:
    """Where they are tried; a block of nothing in particular has none."""
    for language, content in blocks(page.read_text(encoding="utf-8")):
        if language in ("", "text"):
            assert not re.search(r"^ *(?:[A-Z_]+=\S+ )*(?:python|sh|torchrun) [\w-]", content, re.M), content


def test_what_is_not_tried_is_there(commands: dict[tuple[str, ...], str]) -> None:
    for words, page in commands.items():
        for name in (word for word in words if re.fullmatch(r"tests/\S+\.py", word)):
            assert (ROOT / name).is_file(), f"{page}: {name}"
    for page, test in RUN_ELSEWHERE.items():
        assert page in (ROOT / test).read_text(encoding="utf-8")
    for start in NOT_TRIED:
        assert any(words[: len(start)] == start for words in commands), f"{start} is in no document any more"
