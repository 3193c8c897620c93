"""What holds for the whole repository: who may import whom, what is never called, what runs when copied alone.

    python -m pytest tests/test_laws.py
"""

import ast
import json
import os
import re
import shutil
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


# ------------------------------------------------------------------ copied alone

TOY = """
from types import SimpleNamespace
import torch
class Head(torch.nn.Linear):
    MONITOR, LOWER_IS_BETTER, LABEL_LEVEL = "accuracy", (), "sequence"
    def decode(self, logits, batch): return logits.argmax(1).tolist()
    def num_items(self, labels): return (labels != -100).sum()
    def score(self, predictions, references):
        return {"accuracy": sum(map(int.__eq__, predictions, references)) / len(references)}
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.heads, self.loss_weights = torch.nn.ModuleDict({"sign": Head(4, 2)}), {"sign": 1.0}
    def num_items(self, labels): return {"sign": self.heads["sign"].num_items(labels["sign"])}
    def forward(self, batch, num_items):
        logits = self.heads["sign"](batch["x"])
        loss = torch.nn.functional.cross_entropy(logits, batch["labels"]["sign"], reduction="sum") / num_items["sign"]
        return SimpleNamespace(loss=loss, losses={"sign": loss}, logits={"sign": logits})
torch.manual_seed(0)
x = torch.randn(64, 4)
gold = (x[:, 0] > 0).long()
parts = torch.arange(64).split(8)
batches = [{"sample_id": part, "x": x[part], "labels": {"sign": gold[part]}} for part in parts]
references = lambda ids: {"sign": gold[list(ids)].tolist()}
"""

# What is advertised for copying -> a few lines of use beside the copy. Tricks and data_loader/ have their own.
ALONE = {
    "data_loader/order.py": """
import numpy as np, sys
from order import shuffled
assert sorted(shuffled(np.arange(9), 9, seed=1, epoch=2).tolist()) == list(range(9))
""",
    "data_loader/collate.py": """
from collate import Collator, blank
features = [{"sample_id": 0, "input_ids": [1, 2], "labels": {"a": 1}}, {"sample_id": 1, "input_ids": [3], "labels": {}}]
batch = Collator(9, {"a": "sequence"})([features[0], features[1], blank(features[0])])
assert batch["input_ids"].tolist() == [[1, 2], [3, 9], [1, 2]] and batch["labels"]["a"].tolist() == [1, -100, -100]
""",
    "data_loader/samplers.py data_loader/order.py": """
from data_loader.samplers import BatchSampler
assert sorted(sum(BatchSampler(10, 4, seed=1), [])) == list(range(10))
""",
    "data_loader/token_batches.py data_loader/samplers.py data_loader/order.py": """
from data_loader.token_batches import TokenBatchSampler
batches = list(TokenBatchSampler([5, 9, 2, 9, 4], batch_tokens=18, seed=1))
assert sorted(sum(batches, [])) == list(range(5)) and max(map(len, batches)) == 2
""",
    "data_loader/quotas.py": """
from quotas import quotas
assert quotas([3, 2, 1], 60).tolist() == [30, 20, 10]
""",
    "data_loader/class_balance.py data_loader/quotas.py data_loader/order.py": """
import numpy as np
from data_loader.class_balance import BalancedOrder
classes = [0, 0, 0, 0, 0, 1]
assert sum(classes[number] for number in BalancedOrder(classes)(np.arange(6), 6, seed=1, epoch=2)) == 3
""",
    "data_loader/mixing.py data_loader/samplers.py data_loader/quotas.py data_loader/order.py": """
from data_loader.mixing import MixedBatchSampler, MixedCollator, MixedDataset
batches = list(MixedBatchSampler([5, 3], [2, 2], seed=1))
assert sorted(sum(batches, [])) == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2)]
""",
    "data_loader/map_dataset.py data_loader/collate.py": """
from data_loader.map_dataset import MapDataset
rows = [{"sample_id": i, "labels": {"a": i}} for i in range(3)]
assert MapDataset(lambda numbers: [rows[n] for n in numbers], 3)[~2] == {"sample_id": -1, "labels": {"a": -100}}
""",
    "data_loader/stream_dataset.py data_loader/samplers.py data_loader/order.py data_loader/collate.py": """
import json, pathlib
from data_loader.samplers import BatchSampler
from data_loader.stream_dataset import StreamDataset, build_line_index, count_lines
pathlib.Path("a.jsonl").write_text("[0]\\n\\n[1]\\n[2]")
index = build_line_index("a.jsonl", "a.lines")
sampler = BatchSampler(count_lines(index), 2)
stream = StreamDataset("a.jsonl", index, parse=json.loads, encode=list, collate=list, sampler=sampler)
assert sorted(sum(stream, [])) == [(0, [0]), (1, [1]), (2, [2])]
""",
    "model_utils/pooling.py": """
import torch
from pooling import pool
hidden, mask = torch.tensor([[[1.0, 4.0], [3.0, 2.0], [9.0, 9.0]]]), torch.tensor([[1, 1, 0]])
found = {how: pool([hidden], mask, how).tolist() for how in ("cls", "mean", "max")}
assert found == {"cls": [[1.0, 4.0]], "mean": [[2.0, 3.0]], "max": [[3.0, 4.0]]}
""",
    "model_utils/cpu_dropout.py": """
import torch
from cpu_dropout import use_cpu_dropout
model = torch.nn.Sequential(torch.nn.Dropout(0.5))
use_cpu_dropout(model)
assert 450 < (model(torch.ones(1000)) == 2).sum() < 550
""",
    "model_utils/cpu_attention.py model_utils/cpu_dropout.py": """
import torch
from transformers import BertConfig, BertModel
from model_utils.cpu_attention import use_cpu_attention
model = BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).train()
use_cpu_attention(model)
model(input_ids=torch.tensor([[1, 2, 3]])).last_hidden_state.sum().backward()
""",
    "model_utils/unpadded_encoder.py model_utils/cpu_attention.py model_utils/cpu_dropout.py model_utils/encoder.py": \
    """
import torch
from transformers import BertConfig, BertModel
from model_utils.unpadded_encoder import use_unpadding
model = BertModel(BertConfig(vocab_size=99, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).eval()
ids, mask = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
before = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
use_unpadding(model)
torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).last_hidden_state, before, rtol=1e-5, atol=1e-5)
""",
    "model_utils/vocabulary_loss.py": """
import math, torch
from vocabulary_loss import summed_cross_entropy
assert abs(summed_cross_entropy(torch.zeros(3, 5), torch.tensor([1, 4, -100])) - 2 * math.log(5)) < 1e-6
""",
    "model_utils/losses.py": """
import math, torch
from losses import cross_entropy, kl_divergence
scores = torch.zeros(1, 4)
assert abs(cross_entropy(scores, torch.tensor([2])).item() - math.log(4)) < 1e-6
assert abs(cross_entropy(scores, torch.ones(1, 4)).sum().item() - 4 * math.log(2)) < 1e-6
assert kl_divergence(scores, scores, torch.tensor([True])) == 0
""",
    "model_utils/class_weights.py": """
from class_weights import ClassWeights
weights = ClassWeights(["rare", "common"], "balanced")
weights.balance({"rare": 10, "common": 990}, 1000)
assert weights()[0] == 50 and abs(weights()[1] - 1000 / 1980) < 1e-6
""",
    "model_utils/inputs.py": """
import torch
from inputs import at_places, per_record, record_mean
batch = {"input_mask": torch.tensor([[True, True], [True, False]])}
rows = torch.tensor([[1.0], [3.0], [5.0]])
assert record_mean(rows, batch).tolist() == [[2.0], [5.0]] and per_record(rows, batch)[0].tolist() == [[1.0], [3.0]]
assert at_places(torch.arange(6.0).view(3, 2, 1), torch.tensor([[3], [1]]), batch).flatten().tolist() == [3.0, 5.0]
""",
    "model_utils/whitening.py": """
import torch
from whitening import Moments, Whitening
x = torch.tensor([[1.0, 0.0, 5.0], [3.0, 0.0, 5.0], [2.0, 2.0, 5.0], [2.0, -2.0, 5.0]])
whitening = Whitening.fit(x.split(3))
whitening.save("w.safetensors")
y = Whitening.load("w.safetensors").transform(x)
assert torch.allclose(y.T @ y / 3, torch.eye(2)) and torch.allclose(y[:, 0], x[:, 1] / (8 / 3) ** 0.5)
whole = Moments.of(x[:1]) + Moments.of(x[1:])
assert torch.allclose(Whitening.from_moments(whole, dim=1).matrix, whitening.matrix[:, :1])
""",
    "model_utils/semantic_search.py": """
import torch
from semantic_search import SearchIndex, search
corpus = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
assert search(corpus[:1], corpus, top_k=2, block_size=1)[1].tolist() == [[0, 2]]
SearchIndex(corpus, ["a", "b", "c"]).save("index")
assert [hit["item"] for hit in SearchIndex.load("index").search(corpus[2:], top_k=2)[0]] == ["c", "a"]
""",
    "model_utils/crf.py": """
import torch
from crf import CRF
crf = CRF(3, labels=["O", "B-x", "I-x"])
assert crf.decode(torch.tensor([[[0.0, 1.0, 9.0], [0.0, 0.0, 9.0]]])) == [[1, 2]]
""",
    "model_utils/scores/answers.py": """
from answers import score_answers
assert score_answers(["the Eiffel tower"], [["Eiffel Tower", "tower"]]) == {"exact_match": 1.0, "f1": 1.0}
assert round(score_answers(["山东省北部"], [["山东省"]], language="zh")["f1"], 9) == 0.75
""",
    "model_utils/scores/texts.py": """
from texts import chinese_tokens
assert chinese_tokens("我爱NLP。") == ["我", "爱", "nlp"]
""",
    "model_utils/scores/classification.py": """
from classification import calibration, class_report, confusions, entity_report
report = class_report(["a", "b", "b"], ["a", "a", "b"])
assert report["classes"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}
assert confusions(["b"], ["a"])["largest"] == [{"reference": "a", "prediction": "b", "count": 1}]
assert calibration([1.0, 0.0], [True, False])["ece"] == 0 and entity_report([["B-x"]], [["B-x"]])["micro"]["f1"] == 1
""",
    "model_utils/scores/thresholds.py": """
from thresholds import search_thresholds
assert search_thresholds([[0.2], [0.4]], [[False], [True]], how="global", average="macro")[0] == (0.2 + 0.4) / 2
""",
    "model_utils/scores/ranking.py": """
from ranking import score_rankings, spearman
assert score_rankings([["b", "a"]], [{"a"}], k=2)["mrr@2"] == 0.5 and spearman([0.1, 0.8], [0, 5]) > 0.999
""",
    "trainer/early_stopping.py": """
from early_stopping import EarlyStopping
stopping = EarlyStopping("f1", patience=2)
assert [stopping.update({"f1": value}) for value in (0.1, 0.3, 0.2, 0.3)] == [True, True, False, False]
assert stopping.should_stop and stopping.best == 0.3
""",
    "trainer/checkpoint.py": """
from pathlib import Path
import torch
from checkpoint import load_tree, newest_whole, save_tree, write_folder
for number in (1.0, 2.0):
    write_folder("run/last", lambda folder: save_tree(folder / "state.safetensors", {"x": torch.tensor(number)}))
Path("run/last/state.safetensors").write_bytes(b"")
assert newest_whole("run/last") == Path("run/last.previous")
assert load_tree(Path("run/last.previous/state.safetensors"))["x"] == 1.0
""",
    "trainer/snapshot.py": """
import torch
from snapshot import Snapshot
snapshot, weight = Snapshot(), torch.zeros(2)
copy = snapshot({"a": weight, "b": [weight, 1]})
snapshot.wait()
weight.add_(1)
assert copy["a"].tolist() == [0, 0] and copy["b"][0] is copy["a"] and snapshot({"a": weight})["a"] is copy["a"]
""",
    "trainer/background.py trainer/snapshot.py": """
import torch
from trainer.background import Background
background, weight, written = Background(), torch.zeros(1), []
for _ in range(3):
    background("last", lambda copy: written.append(copy["weight"].item()), {"weight": weight.add_(1)})
background.wait()
assert written == [1, 2, 3]
""",
    "trainer/sharded_state.py trainer/checkpoint.py trainer/distributed.py trainer/sharding.py": """
import torch
from trainer.sharded_state import load_shards, save_shards
save_shards("last", {"a": [torch.ones(2), 3], "b": None})
found = load_shards("last")
assert found["a"][0].tolist() == [1, 1] and found["a"][1] == 3 and found["b"] is None
""",
    "trainer/signals.py": """
import os, signal
from signals import Interrupted, StopSignals
with StopSignals() as stop_signal:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop_signal() == signal.SIGTERM and Interrupted(stop_signal()).exit_code == 143
""",
    "trainer/machine.py trainer/checkpoint.py": """
import json, time
from trainer.machine import Machine
with Machine(".", seconds=0.05):
    time.sleep(0.3)
columns = json.load(open("machine.json"))["columns"]
assert len(columns["seconds"]) == len(columns["memory_gib"]) > 0
""",
    "trainer/profiler.py": """
from types import SimpleNamespace
import pathlib, torch
from contextlib import nullcontext
from profiler import Profile
step = SimpleNamespace(speed=lambda part: nullcontext())
trainer = SimpleNamespace(device="cpu", train_step=step, take_step=lambda group: torch.ones(9, 9) @ torch.ones(9, 9))
with Profile(trainer, 1, "profile", skipped=1):
    for _ in range(3):
        trainer.take_step([])
assert "aten::mm" in pathlib.Path("profile/table.txt").read_text()
""",
    "trainer/stragglers.py": """
from stragglers import slow_ranks
assert slow_ranks([0.9, 1.0, 2.4, 1.1], seconds=5.0) == [2]
""",
    "trainer/lost_ranks.py trainer/distributed.py": """
import torch.distributed as dist
from trainer.lost_ranks import RanksLost, explained
try:
    raise dist.DistNetworkError("connection reset")
except RuntimeError as error:
    assert isinstance(explained(error), RanksLost)
""",
    "trainer/nonfinite.py": """
import torch
from nonfinite import NonfinitePolicy, TrainingDiverged
policy = NonfinitePolicy("skip", limit=1)
policy.add(1, torch.tensor(1.0), [7])
policy.check()
policy.add(2, torch.tensor(1.0), [8, 9])
try:
    policy.check()
except TrainingDiverged as error:
    assert "step 2 with the sample ids 8, 9" in str(error)
else:
    raise AssertionError
""",
    "trainer/lock.py": """
import os
from lock import owned
with owned("run"):
    assert open("run/.lock").read().split()[0] == str(os.getpid())
""",
    "logging_config.py": """
import logging, pathlib
from logging_config import setup_logging
setup_logging("run.log")
logging.getLogger("a").info("hello")
assert pathlib.Path("run.log").read_text().endswith(" INFO hello\\n")
""",
    "trainer": TOY + """
from trainer.early_stopping import EarlyStopping
from trainer.step import TrainStep
from trainer.trainer import Trainer
model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
step = TrainStep(model, optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0))
trainer = Trainer(model, step, train_loader=lambda epoch, samples_seen: batches, steps_per_epoch=4, epochs=5,
                  accumulate=2, eval_loader=batches, references=references,
                  early_stopping=EarlyStopping("sign/accuracy"))
losses = [entry["train"]["loss"] for entry in trainer.train()]
assert trainer.step == 20 and losses[-1] < losses[0] / 2
assert trainer.eval(batches, references)["sign/accuracy"] > 0.9
""",
    "model_utils": """
import torch
from model_utils.encoder import load_encoder
from model_utils.multitask_model import MultiTaskModel, build_model
tasks = [{"name": "intent", "kind": "sequence_classification", "labels": ["a", "b"]},
         {"name": "slots", "kind": "word_tagging", "labels": ["O", "B-x", "I-x"]}]
model = build_model(load_encoder("scratch:tiny", vocab_size=20), tasks)
batch = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64),
         "word_starts": torch.tensor([[1, 2]]), "word_mask": torch.ones(1, 2, dtype=torch.bool),
         "num_words": torch.tensor([2]), "labels": {"intent": torch.tensor([1]), "slots": torch.tensor([[1, 2]])}}
loss = model.eval()(batch).loss
model.save_pretrained("saved")
assert torch.equal(MultiTaskModel.from_pretrained("saved")(batch).loss, loss)
""",
}  # fmt: skip

# Each copy runs in a child of one interpreter that has torch, and what torch imports late (for an optimizer, say): that
# costs more than all the copies do.
# -I: neither the repository nor the current folder can be imported, nor what PYTHONPATH names.
DRIVER = """
import json, os, runpy, sys, torch, torch.testing, torch._dynamo, traceback
for folder, script, run_name in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        result = ""
        try:
            os.chdir(folder)
            sys.path.insert(0, folder)
            runpy.run_path(script, run_name=run_name)
        except BaseException:
            result = traceback.format_exc()
        with open(os.path.join(folder, run_name), "w") as out:
            out.write(result)
        os._exit(0)
    os.waitpid(child, 0)
"""


def uses() -> dict[str, str]:
    """What is copied -> lines of use; those of data_loader stand in its README."""
    block = re.search(r"```python\n(.*?)```", text_of(Path("data_loader/README.md")), re.DOTALL)
    assert block is not None
    return ALONE | {"data_loader": block[1]} | {str(path): "" for path in TRICKS}


def copy(names: str, folder: Path) -> None:
    """A file by itself; files that belong together, or a room, as a folder."""
    for name in names.split():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target = folder / (name if " " in names else Path(name).name)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, target)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """(what was copied, "use" or "__main__") -> traceback, or "" if it ran."""
    jobs = {}
    for number, (names, use) in enumerate(uses().items()):
        folder = tmp_path_factory.mktemp(f"copy{number}")
        copy(names, folder)
        if use:
            (folder / "use.py").write_text(use, encoding="utf-8")
            jobs[names, "use"] = (str(folder), "use.py", "use")
        script = folder / Path(names).name
        if script.is_file() and "__main__" in script.read_text(encoding="utf-8"):
            jobs[names, "__main__"] = (str(folder), script.name, "__main__")
    command = [sys.executable, "-I", "-c", DRIVER, json.dumps(list(jobs.values()))]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {job: Path(folder, run_name).read_text(encoding="utf-8") for job, (folder, _, run_name) in jobs.items()}


@pytest.mark.parametrize("names", [*ALONE, "data_loader"])
def test_copied_alone(results, names):
    assert results[names, "use"] == "", results[names, "use"]


def test_every_self_check_runs_alone(results):
    checks = {names: result for (names, what), result in results.items() if what == "__main__"}
    assert {*map(str, TRICKS), "model_utils/crf.py"} <= checks.keys()
    assert {names: result for names, result in checks.items() if result} == {}


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
