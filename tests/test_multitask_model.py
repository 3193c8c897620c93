"""model_utils/multitask_model.py: the joint loss, its normalisation, absent tasks, padding, saving and loading.

Letters: B texts, T sub-words, W words, H hidden size.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModel, BertConfig, DistilBertConfig, ModernBertConfig, RobertaConfig

from data_loader.collate import Collator
from data_process.tokenizer import train_tokenizer
from model_utils.encoder import ModelError
from model_utils.multitask_model import MultiTaskModel, build_model

ROOT = Path(__file__).resolve().parents[1]
SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 40,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "bert": BertConfig(**SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    "distilbert": DistilBertConfig(
        vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40
    ),
    "roberta": RobertaConfig(**SIZES, pad_token_id=0),
    "modernbert": ModernBertConfig(**SIZES, pad_token_id=0),
}
INTENTS = ["a", "b", "c"]
TAGS = ["O", "B-x", "I-x"]
TASKS: list[dict[str, Any]] = [
    {"name": "intent", "kind": "sequence_classification", "labels": INTENTS, "loss_weight": 0.3, "dropout": 0.0},
    {"name": "slots", "kind": "word_tagging", "labels": TAGS, "loss_weight": 2.0, "dropout": 0.0, "decoder": "crf"},
]
PREFIXES = {"intent": "heads.intent.", "slots": "heads.slots."}


def tiny(kind: str = "bert", tasks: list[dict[str, Any]] = TASKS, shared_layers: int = 0) -> Any:
    """In training mode; "bert" is without dropout."""
    torch.manual_seed(1)
    model = build_model(AutoModel.from_config(CONFIGS[kind]), tasks, shared_layers)
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


def records(size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Of 1 to 6 words of 1 or 2 sub-words; some without an intent, some without tags."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    features = []
    for number in range(size):
        words = [[draw(5, 40) for _ in range(draw(1, 3))] for _ in range(draw(1, 7))]
        starts = [1 + sum(map(len, words[:w])) for w in range(len(words))]
        labels: dict[str, Any] = {"intent": draw(0, 3), "slots": [draw(0, 2) for _ in words]}
        if number % 3 == 1:
            labels["intent"] = None
        if number % 4 == 2:
            labels["slots"] = None
        input_ids = [2, *(sub_word for word in words for sub_word in word), 3]
        features.append({"sample_id": number, "input_ids": input_ids, "word_starts": starts, "num_words": len(words),
                         "labels": labels})  # fmt: skip
    return features


def collate(features: list[dict[str, Any]], pad_to_multiple_of: int = 1) -> Any:
    levels = {"intent": "sequence", "slots": "word"}
    return Collator(0, levels, pad_to_multiple_of)(features)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# ------------------------------------------------------------------------------------------------ the joint loss


def test_the_loss_is_the_weighted_sum_of_the_tasks_means() -> None:
    model, batch = tiny(), collate(records(8))
    output = model(batch)
    mask = batch["attention_mask"]
    hidden = model.encoder(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
    intent, slots = model.heads["intent"], model.heads["slots"]
    torch.testing.assert_close(output.logits["intent"], intent.classifier(hidden[:, 0]))
    words = torch.stack([hidden[b, batch["word_starts"][b]] for b in range(8)])
    torch.testing.assert_close(output.logits["slots"], slots.classifier(words))

    intent_loss = F.cross_entropy(output.logits["intent"], batch["labels"]["intent"], ignore_index=-100)  # a mean
    likelihood = slots.crf(output.logits["slots"], batch["labels"]["slots"], batch["word_mask"])
    slots_loss = -likelihood / (batch["labels"]["slots"] != -100).sum()
    torch.testing.assert_close(output.losses, {"intent": intent_loss, "slots": slots_loss})
    torch.testing.assert_close(output.loss, 0.3 * intent_loss + 2.0 * slots_loss)
    assert torch.equal(output.hidden_states[-1], hidden) and len(output.hidden_states) == 1


def test_without_gold_labels_all_heads_answer_and_there_is_no_loss() -> None:
    model, batch = tiny().eval(), collate(records(3))
    with_labels = model(batch)
    output = model({name: value for name, value in batch.items() if name != "labels"})
    assert output.loss is None and output.losses == {}
    torch.testing.assert_close(output.logits, with_labels.logits, rtol=0, atol=0)
    output = model(batch | {"labels": {"intent": batch["labels"]["intent"]}})
    assert set(output.losses) == {"intent"} and set(output.logits) == {"intent", "slots"}
    torch.testing.assert_close(output.loss, 0.3 * with_labels.losses["intent"])


def test_num_items_divides_the_sums() -> None:
    model, batch = tiny(), collate(records(8))
    items = model.num_items(batch["labels"])
    assert {task: int(n) for task, n in items.items()} == {
        task: int((labels != -100).sum()) for task, labels in batch["labels"].items()
    }
    means, sums = model(batch), model(batch, {"intent": 1, "slots": 1})
    for task in ("intent", "slots"):
        torch.testing.assert_close(sums.losses[task], means.losses[task] * items[task])
    assert model.num_items({"intent": batch["labels"]["intent"]})["slots"].item() == 0
    nothing = {"intent": torch.full((8,), -100), "slots": torch.full_like(batch["labels"]["slots"], -100)}
    output = model(batch | {"labels": nothing})  # stand-ins only: nothing is divided by 0
    assert output.loss.item() == 0
    output.loss.backward()
    assert not any(grad.any() for grad in gradients(model).values())


@pytest.mark.parametrize("shared_layers", [0, 1])
def test_micro_batches_give_the_gradient_of_the_big_batch(shared_layers: int) -> None:
    """1 x 8 = 2 x 4 = 4 x 2 = 8 x 1, with other numbers of labels, words and pads in each."""
    features = records(8)
    found = {}
    for size in (8, 4, 2, 1):
        model = tiny(shared_layers=shared_layers)
        batches = [collate(features[i : i + size]) for i in range(0, 8, size)]
        counts = [model.num_items(batch["labels"]) for batch in batches]
        num_items = {task: sum(count[task] for count in counts) for task in ("intent", "slots")}
        for batch in batches:
            model(batch, num_items).loss.backward()
        found[size] = gradients(model)
    counts = [int(n) for n in model.num_items(collate(features[:4])["labels"]).values()]
    assert counts != [int(n) for n in model.num_items(collate(features[4:])["labels"]).values()]
    largest = max(grad.abs().max() for grad in found[8].values())
    assert largest > 0.1
    for size in (4, 2, 1):
        assert found[size].keys() == found[8].keys()
        for name, grad in found[size].items():
            assert (grad - found[8][name]).abs().max() < 2e-6 * largest, (size, name)

    model = tiny(shared_layers=shared_layers)  # means of means are something else
    for half in (features[:4], features[4:]):
        (model(collate(half)).loss / 2).backward()
    naive = gradients(model)
    assert max((naive[name] - grad).abs().max() for name, grad in found[8].items()) > 0.01 * largest


@pytest.mark.parametrize("absent", ["intent", "slots"])
def test_an_absent_task_costs_nothing(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    present = {"intent": "slots", "slots": "intent"}[absent]
    features = records(8)
    for feature in features:
        feature["labels"][absent] = None
    batch = collate(features)
    assert set(batch["labels"]) == {present}
    model = tiny()
    for parameter in model.heads[absent].parameters():
        parameter.data.fill_(float("nan"))  # whatever it holds
    monkeypatch.setattr(model.heads[absent], "forward", lambda *_: pytest.fail("the head was run"))
    output = model(batch)
    output.loss.backward()
    found = gradients(model)
    assert set(output.logits) == set(output.losses) == {present}
    assert not [name for name in found if name.startswith(PREFIXES[absent])]
    weight = {"intent": 0.3, "slots": 2.0}[present]
    torch.testing.assert_close(output.loss, weight * output.losses[present])

    alone = tiny(tasks=[task for task in TASKS if task["name"] == present])  # the same as a model without that task
    alone.load_state_dict({k: v for k, v in tiny().state_dict().items() if not k.startswith(PREFIXES[absent])})
    alone(batch).loss.backward()
    torch.testing.assert_close(found, gradients(alone), rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "first_last_mean"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_padding_changes_no_logit(kind: str, pooling: str) -> None:
    tasks = [TASKS[0] | {"pooling": pooling}, TASKS[1]]
    features = records(5)
    for shared_layers in (0, 1):
        model = tiny(kind, tasks, shared_layers).eval()
        for mode in (torch.enable_grad, torch.no_grad):  # torch has another, fused path for the latter
            with mode():
                together = model(collate(features, pad_to_multiple_of=32)).logits
                for number, feature in enumerate(features):
                    intent, slots = together["intent"][number], together["slots"][number, : feature["num_words"]]
                    alone = {task: logits[0] for task, logits in model(collate([feature])).logits.items()}
                    torch.testing.assert_close({"intent": intent, "slots": slots}, alone, rtol=1e-4, atol=1e-5)


def test_shared_layers_stand_between_encoder_and_heads() -> None:
    tasks = [TASKS[0] | {"pooling": "first_last_mean"}, TASKS[1]]
    model, batch = tiny(tasks=tasks, shared_layers=2), collate(records(4))
    encoded = model.encoder(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
    )
    hidden = encoded.last_hidden_state
    for layer in model.shared_layers:
        hidden = layer(hidden, src_key_padding_mask=batch["attention_mask"] == 0)
    output = model(batch)
    torch.testing.assert_close(output.hidden_states[-1], hidden, rtol=0, atol=0)
    assert len(output.hidden_states) == 3
    for ours, theirs in zip(output.hidden_states[:-1], encoded.hidden_states[:-1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    output.loss.backward()
    assert all(name in gradients(model) for name, _ in model.shared_layers.named_parameters(prefix="shared_layers"))


# ------------------------------------------------------------------------------------------------ saving, loading

LOAD_IN_A_NEW_PROCESS = """
import sys
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer
from model_utils.multitask_model import MultiTaskModel

torch.set_num_threads(1)
folder, inputs, results = sys.argv[1:]
batch = load_file(inputs)
model = MultiTaskModel.from_pretrained(folder)
assert not model.training
with torch.no_grad():
    output = model(batch)
    encoder = AutoModel.from_pretrained(f"{folder}/encoder").eval()
    hidden = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
found = {f"parameter/{name}": value for name, value in model.state_dict().items()}
found |= {f"logits/{task}": value for task, value in output.logits.items()} | {"hidden": hidden}
for place in (folder, f"{folder}/encoder"):
    ids = AutoTokenizer.from_pretrained(place)("one two three", "two")
    found |= {f"{place == folder} {name}": torch.tensor(value) for name, value in ids.items()}
save_file({name: value.contiguous() for name, value in found.items()}, results)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model saved as main.save_pretrained saves it, and what a new process found in its folder."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("saved")
    model = tiny("bert", [TASKS[0] | {"pooling": "mean"}, TASKS[1]], shared_layers=1)
    tokenizer = train_tokenizer(["one two three four"] * 3, vocab_size=40)
    model.save_pretrained(root / "best", text_column="text", max_length=40)
    for place in (root / "best", root / "best/encoder"):
        tokenizer.save_pretrained(place)
    batch = collate(records(5))
    save_file({name: value for name, value in batch.items() if name != "labels"}, root / "batch.safetensors")
    arguments = [sys.executable, "-c", LOAD_IN_A_NEW_PROCESS, "best", "batch.safetensors", "found.safetensors"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HF_HUB_OFFLINE": "1", "HOME": str(root)}
    process = subprocess.run(arguments, cwd=root, env=environment, timeout=120, capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    found = load_file(root / "found.safetensors")
    return SimpleNamespace(folder=root / "best", model=model.eval(), batch=batch, tokenizer=tokenizer, found=found)


def test_a_new_process_finds_every_parameter_and_every_logit_bit_for_bit(saved: Any) -> None:
    found = {k.removeprefix("parameter/"): v for k, v in saved.found.items() if k.startswith("parameter/")}
    state = saved.model.state_dict()
    assert found.keys() == state.keys()
    for name in ("encoder.pooler.dense.bias", "shared_layers.0.linear1.weight", "heads.slots.crf.transitions"):
        assert name in found
    for name, value in state.items():
        assert value.dtype == found[name].dtype and torch.equal(value, found[name]), name
    with torch.no_grad():
        logits = saved.model(saved.batch).logits
    for task in ("intent", "slots"):
        assert torch.equal(saved.found[f"logits/{task}"], logits[task])


def test_the_encoder_alone_is_a_transformers_folder(saved: Any) -> None:
    inputs = {name: saved.batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        assert torch.equal(saved.found["hidden"], saved.model.encoder(**inputs).last_hidden_state)


def test_the_tokenizer_is_in_both_folders(saved: Any) -> None:
    ids = saved.tokenizer("one two three", "two")
    for place in (True, False):
        for name, value in ids.items():
            assert saved.found[f"{place} {name}"].tolist() == value
    assert set(ids) == {"input_ids", "token_type_ids", "attention_mask"}


def test_the_folder_holds_exactly_these_files(saved: Any) -> None:
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    files = {str(path.relative_to(saved.folder)) for path in saved.folder.rglob("*") if path.is_file()}
    own = {"config.json", "labels.json", "model.safetensors"} | tokenizer
    assert files == own | {f"encoder/{name}" for name in {"config.json", "model.safetensors"} | tokenizer}
    assert json.loads((saved.folder / "labels.json").read_text()) == {"intent": INTENTS, "slots": TAGS}
    assert json.loads((saved.folder / "config.json").read_text()) == {
        "tasks": [
            {k: v for k, v in task.items() if k != "labels"} | ({"pooling": "mean"} if task["name"] == "intent" else {})
            for task in TASKS
        ],
        "shared_layers": 1,
        "uncertainty": False,
        "text_column": "text",
        "max_length": 40,
    }
    stored = load_file(saved.folder / "model.safetensors")
    assert {name for name in saved.model.state_dict() if not name.startswith("encoder.")} == set(stored)


def test_saving_again_what_was_loaded_gives_the_same_bytes(saved: Any, tmp_path: Path) -> None:
    model = MultiTaskModel.from_pretrained(saved.folder)
    assert not any(p.requires_grad for p in model.encoder.pooler.parameters())
    model.save_pretrained(tmp_path)
    for name in ("model.safetensors", "encoder/model.safetensors", "encoder/config.json", "labels.json"):
        assert (tmp_path / name).read_bytes() == (saved.folder / name).read_bytes(), name


def damage(folder: Path, change: str) -> None:
    weights = folder / "model.safetensors"
    state = load_file(weights)
    if change == "weight missing":
        del state["heads.slots.crf.transitions"]
    elif change == "weight too many":
        state["heads.topic.classifier.bias"] = torch.zeros(2)
    elif change == "weight of another size":
        state["heads.intent.classifier.bias"] = torch.zeros(4)
    if change.startswith("weight"):
        save_file(state, weights)
    elif change == "cut off":
        weights.write_bytes(weights.read_bytes()[:3000])
    elif change == "encoder cut off":
        file = folder / "encoder/model.safetensors"
        file.write_bytes(file.read_bytes()[:3000])
    elif change == "encoder weight missing":
        file = folder / "encoder/model.safetensors"
        state = load_file(file)
        del state["encoder.layer.0.output.dense.weight"]
        save_file(state, file, {"format": "pt"})
    elif change == "another label":
        labels = {"intent": INTENTS, "slots": [*TAGS, "B-y"]}
        (folder / "labels.json").write_text(json.dumps(labels))
    elif change == "labels of other tasks":
        (folder / "labels.json").write_text(json.dumps({"intent": INTENTS, "topic": TAGS}))
    elif change == "broken json":
        (folder / "labels.json").write_text("{")
    else:
        (folder / change.removesuffix(" gone")).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weight missing", "does not fit config.json and labels.json: heads.slots.crf.transitions"),
        ("weight too many", "does not fit config.json and labels.json: heads.topic.classifier.bias"),
        ("weight of another size", "does not fit config.json and labels.json: heads.intent.classifier.bias"),
        ("another label", "does not fit config.json and labels.json: heads.slots.classifier.weight"),
        ("cut off", "holds no whole model: "),
        ("broken json", "holds no whole model: "),
        ("labels of other tasks", "holds no whole model: 'slots'"),
        ("config.json gone", "holds no whole model: "),
        ("labels.json gone", "holds no whole model: "),
        ("model.safetensors gone", "holds no whole model: "),
        ("encoder cut off", "encoder cannot be loaded: "),
        ("encoder weight missing", "encoder do not fit its config.json: encoder.layer.0.output.dense.weight"),
    ],
)
def test_damaged_and_misfitting_folders_are_refused(change: str, message: str, saved: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(saved.folder, tmp_path / "copy")
    damage(folder, change)
    with pytest.raises(ModelError) as error:
        MultiTaskModel.from_pretrained(folder)
    assert str(folder) in str(error.value) and message in str(error.value)


# ------------------------------------------------------------------------------------------------------ building


def test_a_name_that_torch_needs_is_refused() -> None:
    encoder = AutoModel.from_config(CONFIGS["bert"])
    for name in ("type", "keys", "training"):
        with pytest.raises(ModelError, match=f"^tasks: torch itself needs the name '{name}'"):
            build_model(encoder, [TASKS[0] | {"name": name}])
    with pytest.raises(ModelError, match=r"^unknown kind of task 'no_such'"):
        build_model(encoder, [TASKS[0] | {"kind": "no_such"}])
    model = build_model(encoder, [{k: v for k, v in TASKS[0].items() if k != "loss_weight"}])
    assert model.loss_weights == {"intent": 1.0}


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_encoder_gets_the_inputs_that_it_takes(kind: str) -> None:
    model = tiny(kind).eval()
    batch = collate(records(3))
    batch["token_type_ids"] = torch.ones_like(batch["input_ids"])
    taken = {"bert", "roberta"} & {kind}
    assert ("token_type_ids" in model.inputs) == bool(taken)
    if kind == "roberta":  # it has one type only
        return
    changed = model(batch).logits["intent"] - model(batch | {"token_type_ids": batch["input_ids"] * 0}).logits["intent"]
    assert bool(changed.any()) == bool(taken)
