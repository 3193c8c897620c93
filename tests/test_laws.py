"""What holds for the whole repository: who may import whom, what is never called.

    python -m pytest tests/test_laws.py
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"data_process", "data_loader", "model_utils", "trainer", "tricks", "config", "logging_config"}
WIRING = {"main", "continual", "experiments", "huggingface_hands_on", "benchmarks", "tests"}


def listed_files() -> list[Path]:
    """Tracked files, and new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        listed = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if not p.relative_to(ROOT).parts[0].startswith(".")]
    return [Path(name) for name in sorted(set(listed)) if (ROOT / name).is_file()]


FILES = listed_files()
MODULES = [path for path in FILES if path.suffix == ".py"]
OWN_CODE = [path for path in MODULES if path.parts[0] != "tests"]
CONTINUAL = [path for path in MODULES if path.parent == Path("tricks/continual") and path.name != "__init__.py"]
TRICKS = [path for path in MODULES if path.parent == Path("tricks") and path.name not in ("__init__.py", "build.py")]
TRICKS += CONTINUAL


def files_of(room: str) -> list[Path]:
    return [path for path in MODULES if path.parts[0].removesuffix(".py") == room]


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """("torch.load", node) of every call in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(source: str) -> Iterator[tuple[int, str]]:
    """(level, module) of every import, also inside functions and by `import_module`."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
    for name, node in calls(tree):
        if name.endswith(("import_module", "__import__")) and node.args and isinstance(node.args[0], ast.Constant):
            yield 0, str(node.args[0].value)


def foreign_imports(path: Path, source: str) -> list[str]:
    """What a file of a room takes from another room or from a wiring script."""
    room = path.parts[0].removesuffix(".py")
    found = []
    for level, module in imports(source):
        name = module.split(".")[0]
        if (level == 0 and name in (ROOMS | WIRING) - {room}) or level >= len(path.parts):
            found.append("." * level + module)
    return found


# --------------------------------------------------------------------- law 1


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_never_import_each_other(room):
    assert files_of(room)
    assert {str(path): found for path in files_of(room) if (found := foreign_imports(path, text_of(path)))} == {}


@pytest.mark.parametrize(("path", "source", "found"), [
    ("trainer/a.py", "import torch\nfrom . import b\nfrom .c import d\nimport trainer.e", []),
    ("trainer/a.py", "def f():\n    from tricks.fgm import FGM", ["tricks.fgm"]),
    ("trainer/a.py", "import os, config as c", ["config"]),
    ("trainer/a.py", "from ..tricks import fgm", ["..tricks"]),
    ("trainer/a.py", "importlib.import_module('main')", ["main"]),
    ("model_utils/heads/a.py", "from ..encoder import x\nfrom ...trainer import y", ["...trainer"]),
    ("config.py", "from logging_config import x\nfrom . import main", ["logging_config", "."]),
])  # fmt: skip
def test_this_would_be_found(path, source, found):
    assert foreign_imports(Path(path), source) == found


ALLOWED = {"tricks": {"torch"}, "data_loader": {"torch", "numpy"}, "logging_config": set()}


@pytest.mark.parametrize("room", ALLOWED)
def test_libraries_of_a_room(room):
    allowed = ALLOWED[room] | set(sys.stdlib_module_names)
    for path in files_of(room):
        absolute = {module.split(".")[0] for level, module in imports(text_of(path)) if level == 0}
        assert absolute - allowed == set(), path


@pytest.mark.parametrize("path", TRICKS, ids=str)
def test_tricks_stand_alone(path):
    source = text_of(path)
    assert [module for level, module in imports(source) if level] == []
    check = ast.parse(source).body[-1]
    assert isinstance(check, ast.If) and ast.unparse(check.test) == "__name__ == '__main__'", "no self-check at the end"
    assert check.end_lineno is not None and check.end_lineno - check.lineno <= 10, "the self-check is too long"


def test_no_file_is_named_utils():
    assert [str(path) for path in FILES if re.fullmatch(r"_*(utils?|helpers?|misc)", path.stem)] == []


# --------------------------------------------------------------------- forbidden


def dangers(source: str) -> list[str]:
    """Calls that run code from files, and handlers that hide everything."""
    tree = ast.parse(source)
    found = []
    for name, node in calls(tree):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if re.fullmatch(r"(pickle|dill|cloudpickle|joblib)\.(loads?|Unpickler)|yaml\.(unsafe_)?load", name):
            found.append(name)
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if name == "np.load" and options.get("allow_pickle", "False") != "False":
            found.append("np.load with allow_pickle")
        if options.get("shell", "False") != "False" or name in ("os.system", "eval", "exec"):
            found.append(f"{name} runs a string")
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    return found + ["except:" for handler in handlers if handler.type is None]


def test_no_danger():
    assert {str(path): found for path in OWN_CODE if (found := dangers(text_of(path)))} == {}


@pytest.mark.parametrize("source", [
    "pickle.load(f)", "import pickle\npickle.loads(b)", "torch.load(p)", "torch.load(p, weights_only=False)",
    "torch.load(p, map_location='cpu')", "yaml.load(f)", "yaml.unsafe_load(f)", "joblib.load(p)",
    "np.load(p, allow_pickle=True)", "subprocess.run('ls', shell=True)", "try:\n    f()\nexcept:\n    pass",
])  # fmt: skip
def test_this_danger_would_be_found(source):
    assert len(dangers(source)) == 1


@pytest.mark.parametrize("source", ["torch.load(p, weights_only=True)", "yaml.safe_load(f)", "model.eval()"])
def test_this_is_no_danger(source):
    assert dangers(source) == []


# Written so that this file does not contain what it looks for.
TEXTS = {
    "a path of one machine": re.compile(r"(?<![\w.~}-])/(?:wor[k]/|roo[t]/|hom[e]/\w|User[s]/\w)|:\\Use[r]s"),
    "a host of a package registry": re.compile(
        r"pypi\.(?:or[g]|tun[a]|doub[a]n)|pythonhoste[d]|mirro[r]s?\.[a-z]+\.|artifactor[y]|jfro[g]|/nexu[s]/"
        r"|anaconda\.or[g]|download\.pytorc[h]|inde[x]-url[= ]+\w"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_that_do_not_belong_here(kind):
    found = []
    for path in FILES:
        for number, line in enumerate((ROOT / path).read_bytes().decode("utf-8", "ignore").split("\n"), 1):
            if TEXTS[kind].search(line):
                found.append(f"{path}:{number}: {line.strip()[:100]}")
    assert found == []


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("a path of one machine", "cd /wor" "k/main"),
        ("a path of one machine", 'cache = "/hom' 'e/me/cache"'),
        ("a host of a package registry", "pip install --index" "-url https://x"),
        ("a host of a package registry", "https://pypi" ".org/simple"),
    ],
)
def test_this_text_would_be_found(kind, line):
    assert TEXTS[kind].search(line)


# ------------------------------------------------------------------------- tools


@pytest.mark.parametrize("command", [["ruff", "check"], pytest.param(["mypy"], marks=pytest.mark.slow)], ids=" ".join)
def test_tool_finds_nothing(command: list[str]) -> None:
    if find_spec(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (see requirements-dev.txt)")
    done: Any = subprocess.run([sys.executable, "-m", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
