"""Tricks by flag, through main.py: they train, predict, resume, and refuse what cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import main
from config import TRICKS, chosen_tricks, get_args
from tests.sample_job import TASKS, arguments, read

PLAIN = [TASKS[0], {**TASKS[1], "decoder": "linear"}]
TOGETHER: list[dict[str, Any]] = [
    {"use_fgm": True, "use_awp": True, "use_rdrop": True, "use_multi_sample_dropout": True, "use_ema": True,
     "use_lookahead": True, "use_label_smoothing": True, "use_neftune": True, "use_child_tuning": True},
    {"use_pgd": True, "pgd_steps": 1, "use_sam": True, "use_mixup": True, "use_swa": True, "swa_start": 0.2,
     "swa_every": 2, "use_focal": True, "use_reinit": True},
    {"use_freelb": True, "freelb_steps": 2, "use_distillation": True, "use_dice": True, "use_ema": True},
    {"use_vat": True, "use_ghm": True, "use_gradual_unfreezing": True, "gradual_unfreezing_every": 3,
     "use_child_tuning": True, "child_tuning_batches": 2},
]  # fmt: skip


def test_every_flag_is_tried_here() -> None:
    assert {name for options in TOGETHER for name in options if name.startswith("use_")} == {
        name for name in TRICKS if name.startswith("use_")
    }


def test_options_of_tricks_by_the_names_of_their_parameters() -> None:
    given = ["--train_file", "sample:joint", "--do_train", "--tasks", json.dumps(TASKS)]
    assert chosen_tricks(get_args(given)) == {}
    found = chosen_tricks(get_args([*given, "--use_fgm", "--fgm_eps", "0.3", "--use_swa", "--swa_every", "7"]))
    assert found == {"fgm": {"epsilon": 0.3}, "swa": {"start": 0.5, "every": 7}}


@pytest.mark.parametrize("options", TOGETHER, ids=lambda options: "+".join(n[4:] for n in options if n[:4] == "use_"))
def test_a_run_with_tricks_resumes_bit_for_bit(data: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    shared = {"debug": True, "epochs": 2, "tasks": json.dumps(PLAIN), "do_eval": False, **options}
    if "use_distillation" in options:
        teacher = tmp_path / "teacher"
        assert main.run(arguments(data, teacher, **shared | {"use_distillation": False, "epochs": 1})) == 0
        shared["distillation_teacher"] = teacher / "best"
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert main.run(arguments(data, whole, **shared, save_steps=3, keep_states=9)) == 0
    assert main.run(arguments(data, again, **shared, resume=whole / "states/step-3")) == 0
    for name in ("model.safetensors", "encoder/model.safetensors", "trainer.safetensors"):
        assert (whole / "last" / name).read_bytes() == (again / "last" / name).read_bytes()
    assert main.run(arguments(data, whole, **shared | {"do_train": False, "do_eval": True})) == 0
    assert "sentence_accuracy" in read(whole / "test_metrics.json")


def test_best_has_the_averages_and_last_the_weights(data: Path, tmp_path: Path) -> None:
    for part, files in (("with", {}), ("without", {"eval_file": None, "eval_ratio": 0})):
        out = tmp_path / part
        given = {"debug": True, "epochs": 1, "use_ema": True, "do_eval": False, **files}
        assert main.run(arguments(data, out, **given)) == 0
        best, last = (load_file(out / name / "encoder/model.safetensors") for name in ("best", "last"))
        averages = main_averages(out)
        assert best.keys() == last.keys()
        assert any(not torch.equal(best[key], last[key]) for key in best)
        for key, value in averages.items():
            if key.startswith("encoder."):
                assert torch.equal(best[key.removeprefix("encoder.")], value), key


def main_averages(out: Path) -> dict[str, torch.Tensor]:
    from trainer.checkpoint import load_tree

    return load_tree(out / "last/trainer.safetensors")["averager 0"]["averages"]


@pytest.mark.parametrize(("options", "message"), [
    ({"use_fgm": True, "use_pgd": True}, "arguments: use_fgm and use_pgd do not go together: each of them attacks the"),
    ({"use_distillation": True}, "use_distillation: give distillation_teacher"),
    ({"use_focal": True, "tasks": json.dumps([TASKS[1]])}, "use_focal: no task here has a loss over classes"),
    ({"use_mixup": True, "tasks": json.dumps([TASKS[1]])}, "use_mixup: no task here is of kind sequence_class"),
    ({"use_rdrop": True, "tasks": json.dumps([{"name": "e", "kind": "global_pointer", "label_column": "tags"}])},
     "use_rdrop: it compares predictions, which is not defined for global_pointer (task e)"),
    ({"tasks": json.dumps([TASKS[0] | {"criterion": "foci"}])}, "tasks: intent: no criterion 'foci'; there are label"),
    ({"tasks": json.dumps([TASKS[0] | {"criterion": {"name": "focal", "gama": 1}}])}, "tasks: intent: criterion: "),
    ({"tasks": json.dumps([TASKS[0] | {"criterion": {"gamma": 1}}])}, "criterion must be a name, or {name"),
    ({"tasks": json.dumps([TASKS[1] | {"criterion": "focal"}])}, "word_tagging with a CRF: its loss has no other"),
    ({"use_reinit": True, "reinit_layers": 9}, "reinit: the encoder has 2 layers, not 9"),
    ({"use_fgm": True, "freeze_layers": 1}, "no trainable embedding has word_embeddings"),
    ({"use_ema": True, "ema_decay": 1.0}, "arguments: use_ema: EMA: decay must be"),
    ({"use_pgd": True, "pgd_steps": 0}, "arguments: use_pgd: PGD: steps must be"),
    ({"use_mixup": True, "mixup_alpha": 0}, "arguments: use_mixup: Mixup: alpha must be"),
    ({"use_child_tuning": True, "child_tuning_batches": -1}, "arguments: child_tuning_batches: must not be negative"),
])  # fmt: skip
def test_what_cannot_be_is_one_line_and_writes_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], message: str
) -> None:
    out = tmp_path / "out"
    assert main.run(arguments(data, out, debug=True, **options)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line and not out.exists()
