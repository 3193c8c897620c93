"""States written in the background: the values of the moment of saving, never half, never lost, the same files."""

import signal
from contextlib import suppress
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, BertConfig

import main
from model_utils.adapters import saved_weights
from model_utils.multitask_model import MultiTaskModel, encoder_weights
from model_utils.pretraining_model import PretrainingModel
from tests.sample_job import arguments, read
from tests.test_kills import assert_same
from tests.tiny import tiny_model, tiny_trainer
from tests.tiny_generation import FAMILIES, config_of, tokenizer_of
from trainer.background import Background
from trainer.checkpoint import SaveError, damaged, load_tree, save_tree
from trainer.monitor import RunLog
from trainer.run_folder import RunFolder
from trainer.signals import Interrupted
from trainer.snapshot import Snapshot

SECONDS = 60  # a test that waits so long has failed


def held_back(trainer: Any, until: Event) -> list[int]:
    """The writer of this trainer waits for the event each time; the list grows by 1 when it begins to wait."""
    begun, save = [], trainer.run_folder.save_pretrained

    def late(folder: Path, weights: Any) -> None:
        begun.append(1)
        assert until.wait(SECONDS), "training waits for the disk"
        save(folder, weights)

    trainer.run_folder.save_pretrained = late
    return begun


def clones(trainer: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """Weights, and all else that a state holds."""
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    return weights, Snapshot()(trainer.state_dict())


def assert_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict | list | tuple):
        pairs = expected.items() if isinstance(expected, dict) else enumerate(expected)
        assert len(found) == len(expected)
        for key, value in pairs:
            assert_equal(found[key], value)
    else:
        assert found == expected


def test_a_copy_stays_as_it_was_and_keeps_its_memory() -> None:
    tied, other = torch.arange(6.0), torch.arange(6).view(2, 3)
    tree: Any = {"a": tied, "b": [tied, (other.T, None, 0.1)], 3: {"same": tied.view(6), "part": tied[:3]}, "s": "x",
            "empty": torch.empty(0), "half": torch.ones(2, dtype=torch.bfloat16)}  # fmt: skip
    snapshot = Snapshot()
    first = snapshot(tree)
    assert_equal(first, tree)
    tree["b"][1] = 5
    tied.add_(1)
    assert torch.equal(first["a"], tied - 1) and len(first["b"]) == 2 and first["b"][1][2] == 0.1
    assert first["a"] is first["b"][0] is first[3]["same"], "ties stay"
    places = {name: first[name].data_ptr() for name in ("a", "half")}
    del tree["empty"]
    second = snapshot(tree)
    assert_equal(second, tree)
    assert places == {name: second[name].data_ptr() for name in places}
    assert second[3]["part"].data_ptr() == first[3]["part"].data_ptr()
    tree["a"], tree["half"] = torch.zeros(9), torch.ones(2)  # another shape, another type
    third = snapshot(tree)
    assert_equal(third, tree)
    assert torch.equal(second["a"], tied), "what no longer fits is not overwritten"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_fills_the_copy_behind_the_work_it_has() -> None:
    snapshot, weight = Snapshot(), torch.zeros(10_000_000, device="cuda")
    places = set()
    for number in range(3):
        for _ in range(50):
            weight += 1
        copy = snapshot({"a": weight, "b": weight})
        weight += 1
        snapshot.wait()
        assert copy["a"].is_pinned() and copy["a"] is copy["b"] and copy["a"].device.type == "cpu"
        assert (copy["a"] == 50 + 51 * number).all()
        places.add(copy["a"].data_ptr())
    assert len(places) == 1


def test_what_is_written_are_the_values_of_the_moment_of_saving(tmp_path: Path) -> None:
    trainer: Any = tiny_trainer(tiny_model(), tmp_path, max_steps=2)
    release = Event()
    trainer.train()
    begun = held_back(trainer, release)
    weights, state = clones(trainer)
    trainer.save_model()
    with torch.no_grad():
        for tensor in [*trainer.model.state_dict().values(), *trainer.train_step.optimizer.state.values()]:
            for value in [tensor] if isinstance(tensor, torch.Tensor) else tensor.values():
                value.add_(1)
    torch.rand(9)
    trainer.history.append({"step": 99})
    trainer.run_folder.check()
    assert read(tmp_path / "last" / "trainer_state.json")["step"] == 2
    release.set()
    trainer.run_folder.wait()
    assert begun == [1]
    found = MultiTaskModel.from_pretrained(tmp_path / "last").state_dict()
    assert_equal(dict(found), weights)
    assert_equal(load_tree(tmp_path / "last" / "trainer.safetensors"), state["tensors"])
    assert_equal(read(tmp_path / "last" / "trainer_state.json"), {**state["progress"], "arguments": {}})
    snapshot = trainer.run_folder.background.snapshots["last"]
    places = {name: buffer.data_ptr() for name, buffer in snapshot.buffers.items()}
    trainer.save_model()
    trainer.run_folder.wait()
    assert {name: buffer.data_ptr() for name, buffer in snapshot.buffers.items()} == places and len(places) > 50
    assert not any(torch.equal(value, weights[name]) for name, value in
                   MultiTaskModel.from_pretrained(tmp_path / "last").state_dict().items())  # fmt: skip


def test_training_goes_on_while_a_state_is_written(tmp_path: Path) -> None:
    """The writer is let go by a later step, so a loop that waited for it would not get there."""
    release, written = Event(), []
    trainer = tiny_trainer(tiny_model(), tmp_path, epochs=1, save_steps=4, logging_steps=1)
    begun = held_back(trainer, release)

    def let_go(event: str, step: int, values: Any) -> None:
        if event == "log" and step == 7:
            written.append((tmp_path / "last").exists())
            release.set()

    trainer.callbacks = [let_go]
    trainer.train()
    assert written == [False] and len(begun) == 5  # steps 4, 8, 12, and best/ and last/ of step 13
    assert read(tmp_path / "last" / "trainer_state.json")["step"] == 13
    assert not damaged(tmp_path / "last") and not damaged(tmp_path / "best")


def test_a_save_waits_for_the_one_before_and_none_follows_one_that_failed() -> None:
    release, done = Event(), []
    background, tensor = Background(), torch.zeros(2)

    def late(copy: Any) -> None:
        assert release.wait(SECONDS)
        done.append(copy["x"].tolist())

    background("a", late, {"x": tensor})
    background("b", late, {"x": tensor.add_(1)})  # another copy: it need not wait
    background.check()
    Timer(0.2, release.set).start()
    background("a", late, {"x": tensor.add_(1)})
    background.wait()
    assert done == [[0, 0], [1, 1], [2, 2]]
    release.clear()

    def fail(_: Any) -> None:
        assert release.wait(SECONDS)
        raise SaveError("full")

    background("a", fail, {})
    background("b", late, {"x": tensor})
    release.set()
    for again in (background.wait, background.check, lambda: background("c", late, {"x": tensor})):
        with pytest.raises(SaveError, match="full"):
            again()
    assert len(done) == 3, "b came after one that failed"


@pytest.mark.parametrize("async_save", [True, False])
def test_an_error_of_the_disk_ends_the_run(tmp_path: Path, async_save: bool) -> None:
    """At the next step, when the thread has failed by then; the state before is whole."""
    failed = Event()
    trainer: Any = tiny_trainer(tiny_model(), tmp_path, epochs=1, save_steps=4, async_save=async_save)
    save, number = trainer.run_folder.save_pretrained, iter(range(9))

    def full(folder: Path, weights: Any) -> None:
        save(folder, weights)
        if next(number) == 1:
            failed.set()
            raise OSError("No space left on device")

    trainer.run_folder.save_pretrained = full
    take_step = trainer.take_step

    def after_the_failure(group: Any) -> None:
        if trainer.step == 8:
            assert failed.wait(SECONDS)
            with suppress(SaveError):
                trainer.run_folder.wait()
        take_step(group)

    trainer.take_step = after_the_failure
    with pytest.raises(SaveError, match=r"could not be saved: No space left .*; what was saved before is whole"):
        trainer.train()
    assert trainer.step == (9 if async_save else 8)
    assert read(tmp_path / "last" / "trainer_state.json")["step"] == 4 and not damaged(tmp_path / "last")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]


def test_a_failure_at_the_end_is_not_lost(data: Path, tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("trainer.run_folder.save_tree", full)
    assert main.run(arguments(data, tmp_path / "out", debug=True, epochs=1, do_eval=None)) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: ")


def test_interrupted_while_a_state_is_written(tmp_path: Path) -> None:
    """SIGTERM in step 6, while the state of step 5 waits for the disk: both are written before the run ends."""
    release, steps = Event(), []
    asked = iter([0] * 5 + [signal.SIGTERM])

    def stop_signal() -> int:
        number = int(next(asked))
        if number:
            steps.append((tmp_path / "last").exists())
            release.set()
        return number

    trainer = tiny_trainer(tiny_model(), tmp_path, save_steps=5, stop_signal=stop_signal)
    held_back(trainer, release)
    with pytest.raises(Interrupted):
        trainer.train()
    assert steps == [False] and not any(tmp_path.glob("*.tmp"))
    for folder, step in (("last.previous", 5), ("last", 6)):
        assert read(tmp_path / folder / "trainer_state.json")["step"] == step and not damaged(tmp_path / folder)


def run(folder: Path, model: MultiTaskModel, state: Path | None = None, **options: Any) -> None:
    folder.mkdir(exist_ok=True)
    trainer = tiny_trainer(model, folder, **{"epochs": 2, "save_steps": 3, "eval_steps": 5, "keep_states": 2} | options)
    torch.manual_seed(3)
    if state is not None:
        trainer.resume(state)
    trainer.callbacks = [RunLog(folder, trainer.step, trainer.history)]
    trainer.train()


def test_the_same_files_with_and_without_and_resumed(tmp_path: Path) -> None:
    """Bit for bit; a run that was saved in the one way goes on in the other."""
    for async_save in (True, False):
        run(tmp_path / f"{async_save}", tiny_model(), async_save=async_save)
        asked = iter([0] * 10 + [signal.SIGTERM])
        resumed = tmp_path / f"resumed {async_save}"
        with pytest.raises(Interrupted):
            run(resumed, tiny_model(), async_save=async_save, stop_signal=lambda asked=asked: int(next(asked)))
        run(resumed, MultiTaskModel.from_pretrained(resumed / "last"), resumed / "last", async_save=not async_save)
    for other in ("False", "resumed True", "resumed False"):
        assert_same(tmp_path / other, tmp_path / "True")
        states = [sorted(path.name for path in (tmp_path / run / "states").iterdir()) for run in (other, "True")]
        assert states[0] == states[1] and len(states[0]) == 2


TIED = [*FAMILIES, "bert"]


@pytest.mark.parametrize("kind", TIED)
def test_a_copy_of_the_weights_is_saved_like_the_model_itself(tmp_path: Path, kind: str) -> None:
    """Bit for bit, in the thread, after the model has changed; most of these tie embeddings and scores."""
    if kind == "bert":
        config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=32)  # fmt: skip
        language_model = AutoModelForMaskedLM.from_config(config)
    else:
        config = config_of(kind, tokenizer_of(FAMILIES[kind]))
        auto_class: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        language_model = auto_class.from_config(config)
    model = PretrainingModel(language_model)
    model.encoder.save_pretrained(tmp_path / "own")

    def save(folder: Path, weights: Any) -> None:
        model.encoder.save_pretrained(folder, state_dict=encoder_weights(weights))

    run_folder = RunFolder(tmp_path, save, lambda: saved_weights(model))
    run_folder.save_best({})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    run_folder.wait()
    for name in (path.name for path in (tmp_path / "own").iterdir()):
        if name == "model.safetensors":
            assert_equal(load_file(tmp_path / "best" / name), load_file(tmp_path / "own" / name))
        assert (tmp_path / "best" / name).read_bytes() == (tmp_path / "own" / name).read_bytes(), name


def test_ties_are_written_out(tmp_path: Path) -> None:
    value = torch.arange(4.0)
    tree = {"a": value, "b": value, "c": value[1:], "d": value.view(2, 2).T}
    save_tree(tmp_path / "x", tree)
    assert_equal(load_tree(tmp_path / "x"), tree)
