"""What has to be copied with a file: what its header says, and what its imports say.

    python -m tests.copies              # writes the table of all files into docs/cookbook.md and its Chinese twin

The docstring of a file that is meant to be copied ends with a line such as

    Copy: alone; needs torch.
    Copy: with order.py, samplers.py; needs numpy.
    Copy: with ../errors.py, levels/; needs only Python; can use jieba.

Files are named from the file's own folder, whole folders with a slash; packages as pip calls them. Without what it
"needs" nothing works; what it "can use" is imported inside functions, and asked for by some of their arguments only.
The README of a room that may be copied whole has such a line for the folder.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("tricks", "data_loader", "model_utils", "trainer", "data_process")
PIP = {"sklearn": "scikit-learn", "torchcrf": "pytorch-crf", "yaml": "PyYAML"}  # where pip calls a package otherwise
HEADER = re.compile(
    r"Copy: (?:alone|the folder|with (?P<files>[^;]+)); needs (?P<needs>[^;]+?)(?:; can use (?P<uses>[^;]+?))?\."
)


MARK = "<!-- written by python -m tests.copies -->\n"
HEADS = {
    "docs/cookbook.md": ("file", "what it is", "with it", "needs"),
    "docs/cookbook.zh-CN.md": ("文件", "一起复制", "依赖"),
}


@dataclass
class Copy:
    """Files as paths from the root of the repository, packages by their names in pip."""

    files: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)


def stated(path: str) -> Copy | None:
    """What the header of a file, or the README of a folder, says; None if there is no such line."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        text = docstring(text)
    line = re.search(r"^Copy: .*?\.$", text, re.MULTILINE | re.DOTALL)
    if not line:
        return None
    found = HEADER.fullmatch(" ".join(line[0].split()))
    if not found:
        raise ValueError(f"{path}: not as tests/copies.py describes it: {line[0]}")
    return Copy(*({item for name in listed(part) for item in expanded(path, name)} for part in found.groups()))


@cache
def docstring(source: str) -> str:
    return ast.get_docstring(ast.parse(source), clean=False) or ""


def listed(part: str | None) -> list[str]:
    return part.split(", ") if part and part != "only Python" else []


def expanded(path: str, name: str) -> list[str]:
    """A package; a file, or the files of a folder, that is named from the folder of `path`."""
    place = os.path.normpath(f"{os.path.dirname(path)}/{name}")
    if name.endswith("/"):
        return files_below(place)
    return [place if name.endswith(".py") else name]


@cache
def files_below(folder: str) -> list[str]:
    return sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*.py") if p.read_bytes().strip())


@cache
def own_imports(path: str) -> list[tuple[bool, str]]:
    """(whether without being called, what) a file imports: files of its room, and packages."""
    source, is_package = (ROOT / path).read_text(encoding="utf-8"), path.endswith("__init__.py")
    found: list[tuple[bool, str]] = []

    def look(node: ast.AST, at_once: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((at_once, alias.name) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0:
                found.append((at_once, str(child.module)))
            elif isinstance(child, ast.ImportFrom):
                found.extend((at_once, file) for file in files_of(path, child))
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith("import_module"):
                found.extend((True, file) for file in files_below(os.path.dirname(path)) if is_package)
            look(child, at_once and not isinstance(child, ast.FunctionDef | ast.Lambda))

    look(ast.parse(source), True)
    found += [(at_once, "numpy") for at_once, name in found if name == "safetensors.torch"]  # though it does not say so
    found += [(False, name) for name in ("onnx", "onnxscript") if "torch.onnx.export(" in source]
    return [(at_once, name if name.endswith(".py") else package(name)) for at_once, name in found if package(name)]


def package(module: str) -> str:
    """What pip installs for it; "" for Python's own."""
    if module.startswith("torch.utils.tensorboard"):
        return "tensorboard"
    name = module.split(".")[0]
    return "" if name in sys.stdlib_module_names else PIP.get(name, name.replace("_", "-"))


def files_of(path: str, node: ast.ImportFrom) -> Iterator[str]:
    """`from .a import b` is of a.py or a/__init__.py; `from . import a` too."""
    folder = (ROOT / path).parents[node.level - 1]
    for name in [node.module] if node.module else [alias.name for alias in node.names]:
        target = folder / name.replace(".", "/")
        file = target.with_suffix(".py") if target.with_suffix(".py").is_file() else target / "__init__.py"
        yield file.relative_to(ROOT).as_posix()


def found(*paths: str) -> Copy:
    """What the imports of files, and of the files that these import, say."""
    needed, used = reach(paths, [True]), reach(paths, [True, False])
    files, needs = ({name for name in needed if name.endswith(".py") == is_file} for is_file in (True, False))
    return Copy(files - {*paths}, needs, used - needed - {*paths})


def reach(paths: tuple[str, ...], kinds: list[bool]) -> set[str]:
    seen, todo = set[str](), list(paths)
    while todo:
        for at_once, name in own_imports(todo.pop()):
            if at_once in kinds and name not in seen:
                seen.add(name)
                if name.endswith(".py"):
                    todo.append(name)
    return seen


def advertised() -> list[str]:
    """All files that may be copied: those with a header."""
    places = [file for room in ROOMS for file in files_below(room)] + ["logging_config.py"]
    return [path for path in places if stated(path)]


def written(path: str, files: set[str]) -> list[str]:
    """Files as a header names them: from the folder of `path`, whole folders by their names."""
    folders = {os.path.dirname(file) for file in files} - {os.path.dirname(path), path.split("/")[0]}
    whole = {folder for folder in folders if {*files_below(folder)} <= files}
    places = [f"{f}/" for f in whole] + [f for f in files if os.path.dirname(f) not in whole]
    start = os.path.dirname(path) or "."
    return sorted((os.path.relpath(p, start) + "/" * p.endswith("/") for p in places), key=lambda p: (p[-1] != "/", p))


def copy(name: str, folder: Path) -> str:
    """With plain `cp` into an empty folder: a room; a file by itself; or with its companions in a folder "parts", where
    they stand to each other as they do here. Returns the name of the module."""
    folder.mkdir(exist_ok=True)
    if (ROOT / name).is_dir():
        subprocess.run(["cp", "-r", ROOT / name, folder], check=True)
        return name
    header = stated(name)
    files = sorted({name} | (header.files if header else set()))
    if len(files) == 1:
        subprocess.run(["cp", ROOT / name, folder], check=True)
        return Path(name).stem
    for place in sorted({os.path.dirname(file) for file in files}):
        target = folder / "/".join(["parts", *place.split("/")[1:]])
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", *(ROOT / file for file in files if os.path.dirname(file) == place), target], check=True)
    return ".".join(["parts", *name.removesuffix("/__init__.py").removesuffix(".py").split("/")[1:]])


# Each job runs in a child of one interpreter that has the packages, and what they import late (for an optimizer, say):
# that costs more than all the copies do. -I: neither the repository nor what PYTHONPATH names can be imported.
DRIVER = """
import json, os, runpy, sys, traceback
site, preload, jobs = json.loads(sys.argv[1])
sys.path += site
for statement in preload:
    exec(statement)
for folder, script, run_name in jobs:
    child = os.fork()
    if child == 0:
        result = ""
        try:
            os.chdir(folder)
            sys.path.insert(0, folder)
            runpy.run_path(script, run_name=run_name)
        except BaseException:
            result = traceback.format_exc()
        with open(os.path.join(folder, run_name + ".result"), "w") as out:
            out.write(result)
        os._exit(0)
    os.waitpid(child, 0)
"""
PRELOAD = {
    "numpy": "import numpy",
    "torch": "import torch, torch.testing, torch._dynamo, torch.optim",
    "transformers": "from transformers import BertConfig, BertModel, SchedulerType, get_scheduler",
    "scikit-learn": "import sklearn.metrics, sklearn.model_selection, scipy.stats",
}

Job = tuple[str, str, str]  # folder, script, and the name that it runs under


def run(jobs: list[Job], packages: set[str], site: Path | None = None) -> dict[tuple[str, str], str]:
    """(folder, name) -> traceback, or "" if it ran.

    packages: those that are imported before. site: a folder of packages, the only ones that are visible; None = all.
    """
    preload = [statement for package, statement in PRELOAD.items() if package in packages]
    options = ["-I"] if site is None else ["-I", "-S"]
    arguments = json.dumps([[] if site is None else [str(site)], preload, jobs])
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"], "HOME": str(Path.home())}
    done = subprocess.run([sys.executable, *options, "-c", DRIVER, arguments], env=environment, capture_output=True,
                          text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {(folder, name): Path(folder, f"{name}.result").read_text(encoding="utf-8") for folder, _, name in jobs}


def table(document: str) -> str:
    """A row for each file, of the English or the Chinese cookbook."""
    head = HEADS[document]
    rows = [head, ("---",) * len(head)]
    for path in advertised():
        header = stated(path)
        assert header is not None
        what = " ".join(docstring((ROOT / path).read_text(encoding="utf-8")).split("\n\n")[0].split()).rstrip(".")
        uses = [*written(path, {u for u in header.uses if u.endswith(".py")}), *packages(header.uses)]
        needs = ", ".join(packages(header.needs)) + (f" ({', '.join(uses)})" if uses else "")
        row = (f"`{path}`", what.replace("|", "\\|"), " ".join(f"`{f}`" for f in written(path, header.files)), needs)
        rows.append(row if len(head) == 4 else (row[0], *row[2:]))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def packages(names: set[str]) -> list[str]:
    return sorted((n for n in names if not n.endswith(".py")), key=lambda n: (n != "torch", n))


def main() -> None:
    for document in HEADS:
        path = ROOT / document
        text = path.read_text(encoding="utf-8")
        path.write_text(text[: text.index(MARK)] + MARK + table(document), encoding="utf-8")


if __name__ == "__main__":
    main()
