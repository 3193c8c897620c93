"""Files are copied with plain `cp`: each runs beside the files that its header names, with the packages it names.

    python -m pytest tests/test_copy.py             # --slow: in environments that hold nothing else

What is shown, from weak to strong:

- headers say what the imports say, also those of companions and those inside functions (found in the source);
- in an empty folder with these files alone every file is imported, used and checks itself (`python -I`: the
  repository cannot be imported), here with all packages there are;
- the same in an environment that has the named packages, and what these say they require, and nothing else: a folder of
  links to the installed ones, and `python -I -S`, which sees no other. It stands for `pip install` of the names; what
  it does not show is whether older or newer versions work;
- for some files in a real virtual environment made by pip, where pip can get the packages.
"""

import re
import subprocess
import sys
from collections import Counter
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.copies import PRELOAD, ROOMS, ROOT, Copy, Job, advertised, copy, files_below, found, run, stated, written

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

USES = {
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
    "data_loader/samplers.py": """
from parts.samplers import BatchSampler
assert sorted(sum(BatchSampler(10, 4, seed=1), [])) == list(range(10))
""",
    "data_loader/token_batches.py": """
from parts.token_batches import TokenBatchSampler
batches = list(TokenBatchSampler([5, 9, 2, 9, 4], batch_tokens=18, seed=1))
assert sorted(sum(batches, [])) == list(range(5)) and max(map(len, batches)) == 2
""",
    "data_loader/quotas.py": """
from quotas import quotas
assert quotas([3, 2, 1], 60).tolist() == [30, 20, 10]
""",
    "data_loader/class_balance.py": """
import numpy as np
from parts.class_balance import BalancedOrder
classes = [0, 0, 0, 0, 0, 1]
assert sum(classes[number] for number in BalancedOrder(classes)(np.arange(6), 6, seed=1, epoch=2)) == 3
""",
    "data_loader/mixing.py": """
from parts.mixing import MixedBatchSampler, MixedCollator, MixedDataset
batches = list(MixedBatchSampler([5, 3], [2, 2], seed=1))
assert sorted(sum(batches, [])) == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2)]
""",
    "data_loader/map_dataset.py": """
from parts.map_dataset import MapDataset
rows = [{"sample_id": i, "labels": {"a": i}} for i in range(3)]
assert MapDataset(lambda numbers: [rows[n] for n in numbers], 3)[~2] == {"sample_id": -1, "labels": {"a": -100}}
""",
    "data_loader/stream_dataset.py": """
import json, pathlib
from parts.samplers import BatchSampler
from parts.stream_dataset import StreamDataset, build_line_index, count_lines
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
    "model_utils/cpu_attention.py": """
import torch
from transformers import BertConfig, BertModel
from parts.cpu_attention import use_cpu_attention
model = BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).train()
use_cpu_attention(model)
model(input_ids=torch.tensor([[1, 2, 3]])).last_hidden_state.sum().backward()
""",
    "model_utils/unpadded_encoder.py": """
import torch
from transformers import BertConfig, BertModel
from parts.unpadded_encoder import use_unpadding
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
    "model_utils/viterbi.py": """
import numpy as np
from viterbi import viterbi
pairs = np.array([[0.0, -9.0], [0.0, 0.0]])
assert viterbi(np.array([[[1.0, 0], [0, 3.0]]]), np.ones((1, 2)), np.zeros(2), np.zeros(2), pairs) == [[1, 1]]
""",
    "model_utils/model_card.py": """
from model_card import model_card
text = model_card({"epoch": 0, "step": 1}, base="org/bert", tasks=[{"name": "a", "kind": "mine", "labels": ["x|y"]}],
                  data=[], languages=[], example={"text": "a text"}, settings={"lr": 1e-4}, max_length=9)
assert text.startswith("---\\n") and r"`x\\|y`" in text
""",
    "data_process/languages.py": """
from languages import languages_of
assert languages_of(["今天天气怎么样", "what is this"]) == ["en", "zh"]
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
    "trainer/background.py": """
import torch
from parts.background import Background
background, weight, written = Background(), torch.zeros(1), []
for _ in range(3):
    background("last", lambda copy: written.append(copy["weight"].item()), {"weight": weight.add_(1)})
background.wait()
assert written == [1, 2, 3]
""",
    "trainer/sharded_state.py": """
import torch
from parts.sharded_state import load_shards, save_shards
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
    "trainer/machine.py": """
import json, time
from parts.machine import Machine
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
    "trainer/lost_ranks.py": """
import torch.distributed as dist
from parts.lost_ranks import RanksLost, explained
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
    "data_loader/length_groups.py": """
import numpy as np
from parts.length_groups import GroupedByLength
order = GroupedByLength([5, 90, 6, 91], group=2, noise=0.0)(np.arange(4), 4, seed=1, epoch=0)
assert sorted(map(sorted, order.reshape(2, 2).tolist())) == [[0, 2], [1, 3]]
""",
    "data_loader/masking.py": """
import numpy as np
from parts.masking import Masking, number_units
ids = np.arange(100)[None]
masking = Masking(mask_token_id=999, random_ids=np.arange(500, 600), rate=0.2, seed=1)
masked, places, labels = masking(ids, number_units(ids % 2 == 0, ids >= 0), np.array([7]), epoch=0)
assert labels.shape == (1, 20) and (labels % 2 == 0).sum() == 10 and (ids[0, places[0]] == labels[0]).all()
""",
    "model_utils/optim.py": """
import torch
from parts.optim import build_scheduler, parameter_groups
layers = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(2, 2, bias=False) for _ in range(3)])})
groups = parameter_groups(torch.nn.ModuleDict({"encoder": layers}), lr=1.0, layer_decay=0.5)
assert [group["lr"] for group in groups] == [0.25, 0.5, 1.0]
optimizer = torch.optim.AdamW(groups)
build_scheduler("linear", optimizer, warmup_steps=2, total_steps=4)
assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.25, 0.5]
""",
    "model_utils/heads/word_tagging.py": """
import torch
from parts.heads.word_tagging import Head
head = Head(4, ["O", "B-x", "I-x"], decoder="crf")
batch = {"word_starts": torch.tensor([[0, 2]]), "word_mask": torch.ones(1, 2, dtype=torch.bool),
         "num_words": torch.tensor([3])}
assert head.decode(torch.tensor([[[0.0, 5.0, 0.0], [0.0, 0.0, 5.0]]]), batch) == [["B-x", "I-x", "O"]]
assert head.score([["B-x", "I-x"]], [["B-x", "I-x"]])["f1"] == 1
""",
    "model_utils/encoder.py": """
from parts.encoder import freeze, load_encoder
encoder = load_encoder("scratch:tiny", vocab_size=30)
freeze(encoder, layers=1)
assert {name.split(".")[2] for name, p in encoder.named_parameters() if p.requires_grad and "layer." in name} == {"1"}
""",
    "data_process/tag_schemes.py": """
from tag_schemes import from_iob2, to_iob2
assert to_iob2(["B-x", "E-x", "O", "S-y"], "iobes") == ["B-x", "I-x", "O", "B-y"]
assert from_iob2(["B-x", "I-x", "O", "B-y"], "bmes") == ["B-x", "E-x", "O", "S-y"]
""",
    "data_process/readers/__init__.py": """
import pathlib
from parts.readers import read_records
pathlib.Path("a.csv").write_text("text,label\\nNA,007\\n")
assert list(read_records("a.csv")) == [("a.csv:2", {"text": "NA", "label": "007"})]
""",
    "data_process/word_segments.py": """
from tokenizers import Tokenizer, models, pre_tokenizers
from parts.word_segments import word_starts
tokenizer = Tokenizer(models.WordPiece({"play": 0, "##s": 1, "it": 2}, unk_token="it"))
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
assert list(word_starts(tokenizer.encode("plays it"), "plays it", None)) == [1, 0, 1]
""",
    "data_process/splits.py": """
from splits import stratified_split
parts = stratified_split(["a", "b"] * 20, {"eval": 0.25}, seed=1)
assert len(parts["eval"]) == 10 and sum(number % 2 for number in parts["eval"]) == 5
""",
    "data_process/templates.py": """
from templates import cut, windows
assert list(cut([100, 20], room=60)) == [40, 20]
assert [tuple(map(int, span)) for span in windows(1000, room=384, overlap=128)][:2] == [(0, 384), (256, 640)]
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


FILES = advertised()
SELF_CHECKED = [path for path in FILES if path.startswith("tricks/")] + ["model_utils/crf.py"]
ROOMS_COPIED = ["data_loader", "trainer", "model_utils"]


def jobs_of(name: str, folder: Path) -> list[Job]:
    """Copy a file or a room into the empty folder, and what is to be run there."""
    module, jobs = copy(name, folder), []
    for what, lines in {"import": f"import {module}", "use": USES.get(name) or use_in_readme(name)}.items():
        if lines:
            (folder / f"{what}.py").write_text(lines, encoding="utf-8")
            jobs.append((str(folder), f"{what}.py", what))
    if name in SELF_CHECKED:
        jobs.append((str(folder), Path(name).name, "__main__"))
    return jobs


def use_in_readme(room: str) -> str:
    if room != "data_loader":
        return ""
    block = re.search(r"```python\n(.*?)```", (ROOT / room / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return block[1]


# ----------------------------------------------------------------------- headers


def test_what_has_to_say_how_it_is_copied() -> None:
    parts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tricks").rglob("*.py")}
    assert parts - {*FILES} == {"tricks/__init__.py", "tricks/build.py", "tricks/continual/__init__.py"}
    assert {name for name in USES if name.endswith(".py")} <= {*FILES}


def test_files_of_different_rooms_may_share_a_folder() -> None:
    places = [path.removeprefix("tricks/").removeprefix("continual/").split("/", 1)[-1] for path in FILES]
    assert [place for place, count in Counter(places).items() if count > 1] == ["adapters.py"]


@pytest.mark.parametrize("path", FILES)
def test_headers_say_what_the_imports_say(path: str) -> None:
    header = stated(path)
    assert header is not None
    truth = found(path)
    needs, uses = header.files | header.needs, header.uses
    assert truth.files | truth.needs <= needs, "it needs more"
    assert needs | uses == truth.files | truth.needs | truth.uses, "it imports other things"
    assert not needs & uses
    assert found(path, *header.files).files <= header.files, "companions need more"
    assert len(written(path, header.files)) <= 6, "that many files are a room: copy the folder"


@pytest.mark.parametrize("room", ROOMS)
def test_the_readme_of_a_room_says_what_the_folder_needs(room: str) -> None:
    header, truth = stated(f"{room}/README.md"), found(*files_below(room))
    assert header is not None
    assert (header.needs, header.uses) == (truth.needs, truth.uses)


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readme_says_what_files_need(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_/]+(?:\.py|/))`.*\| ([^|]+) \|$", text, re.MULTILINE)
    rows = [(name, needs) for name, needs in rows if "/" in name or name == "logging_config.py"]
    assert len(rows) >= 15
    for name, needs in rows:
        truth = found(*files_below(name)) if name.endswith("/") else stated(name)
        assert truth is not None and {*needs.split(", ")} - {"nothing", "无"} == truth.needs, name


@pytest.mark.parametrize(("text", "header"), [
    ("Copy: alone; needs torch.", Copy(set(), {"torch"}, set())),
    ("Copy: with b.py, ../c.py; needs only Python; can use\nyaml.", Copy({"tricks/b.py", "c.py"}, set(), {"yaml"})),
    ("Imports torch only.", None),
])  # fmt: skip
def test_a_header_is_read(text: str, header: Copy | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.copies.ROOT", tmp_path)
    (tmp_path / "tricks").mkdir()
    (tmp_path / "tricks/a.py").write_text(f'"""A.\n\n{text}\n"""\n', encoding="utf-8")
    assert stated("tricks/a.py") == header


def test_a_header_that_is_not_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.copies.ROOT", tmp_path)
    (tmp_path / "a.py").write_text('"""A.\n\nCopy: with b.py and torch.\n"""\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.py: not as tests/copies\.py describes it: Copy: with b\.py and torch\."):
        stated("a.py")


def test_imports_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.copies.ROOT", tmp_path)
    sources = {
        "room/a.py": "import os, numpy.linalg\nfrom .b import c\ndef f():\n    from . import d\n    import sklearn",
        "room/b.py": "from .e import x\ndef f(): import torch",
        "room/d.py": "import yaml",
        "room/e/__init__.py": "import_module(name)",
        "room/e/f.py": "from torchcrf import CRF",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source, encoding="utf-8")
    files = {"room/b.py", "room/e/__init__.py", "room/e/f.py"}
    assert found("room/a.py") == Copy(files, {"numpy", "pytorch-crf"}, {"room/d.py", "PyYAML", "scikit-learn", "torch"})


# ------------------------------------------------------------------------ copied


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """(what was copied, what was run) -> traceback, or "" if it ran."""
    folders = {name: tmp_path_factory.mktemp("copy") for name in [*FILES, *ROOMS_COPIED]}
    jobs = [jobs_of(name, folder) for name, folder in folders.items()]
    ran = run([job for some in jobs for job in some[len(some) > 1 :]], {*PRELOAD})  # a use is an import, too
    names = {str(folder): name for name, folder in folders.items()}
    return {(names[folder], what): result for (folder, what), result in ran.items()}


@pytest.mark.parametrize("name", [*FILES, *ROOMS_COPIED])
def test_copied_it_runs(results: dict[tuple[str, str], str], name: str) -> None:
    ran = {what: result for (copied, what), result in results.items() if copied == name}
    wanted = {"use"} if USES.get(name) or use_in_readme(name) else set()
    assert ran.keys() == (wanted | ({"__main__"} if name in SELF_CHECKED else set()) or {"import"})
    assert not any(ran.values()), "\n".join(ran.values())


# ----------------------------------------------- with the named packages and no others


def link_environment(packages: set[str], site: Path) -> Path:
    """A folder with links to the packages and to all that they say they require, without extras."""
    todo, seen = list(packages), set[str]()
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
        for place in {file.parts[0] for file in installed.files or () if file.parts[0] != ".."}:
            if not (site / place).exists():
                (site / place).symlink_to(Path(str(installed.locate_file(place))))
        for requirement in map(Requirement, installed.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return site


@cache
def clean_jobs() -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """Packages -> what is run with them: a file is imported with what it needs, and used with what it can use, too."""
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for path in FILES:
        header = stated(path)
        assert header is not None
        groups.setdefault(tuple(sorted(header.needs)), []).append((path, "import"))
        if path in {*USES, *SELF_CHECKED}:
            everything = header.needs | EXTRA.get(path, set()) | {n for n in header.uses if not n.endswith(".py")}
            groups.setdefault(tuple(sorted(everything)), []).append((path, "use"))
    return groups


EXTRA = {"data_process/word_segments.py": {"tokenizers"}}
"""What the lines of use, not the file, import."""


@pytest.mark.parametrize("packages", [
    pytest.param(packages, marks=[] if {*packages} <= {"numpy", "filelock"} else pytest.mark.slow)
    for packages in sorted(clean_jobs())
], ids=lambda packages: ", ".join(packages) or "only Python")  # fmt: skip
def test_with_these_packages_alone(packages: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    site = link_environment({*packages}, tmp_path / "site")
    jobs, names = [], {}
    for number, (path, kind) in enumerate(clean_jobs()[packages]):
        folder = tmp_path / str(number)
        folder.mkdir()
        names[str(folder)] = path
        jobs += [job for job in jobs_of(path, folder) if (job[2] == "import") == (kind == "import")]
    failed = {f"{names[folder]}: {what}": result for (folder, what), result in run(jobs, {*packages}, site).items()
              if result}  # fmt: skip
    assert failed == {}, "\n".join(failed.values())


def test_no_other_package_is_visible_there(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "a.py").write_text("import numpy\nimport torch", encoding="utf-8")
    result = run([(str(tmp_path), "a.py", "a")], set(), link_environment({"numpy"}, tmp_path / "site"))
    assert result[str(tmp_path), "a"].endswith("ModuleNotFoundError: No module named 'torch'\n")


@pytest.mark.slow
@pytest.mark.parametrize("path", ["tricks/fgm.py", "model_utils/crf.py"])
def test_in_an_environment_made_by_pip(path: str, tmp_path: Path) -> None:
    """`pip install` of what the header names, at the versions of requirements.txt; then the file checks itself."""
    header = stated(path)
    assert header is not None
    pins = {line.split("==")[0]: line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line}
    subprocess.run([sys.executable, "-m", "venv", "env"], cwd=tmp_path, check=True)
    python = tmp_path / "env/bin/python"
    command = [str(python), "-m", "pip", "install", "--quiet", *(pins[name] for name in sorted(header.needs))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip: {done.stderr.strip().splitlines()[-1]}")
    copy(path, tmp_path / "project")
    command = [str(python), Path(path).name]
    done = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
