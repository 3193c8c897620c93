"""A state that four processes wrote is the same for one, two, three and four, however it is spread there."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.checkpoint import check
from tests.processes import torchrun
from tests.tiny import tiny_model
from trainer import distributed
from trainer.checkpoint import CheckpointError, SaveError
from trainer.sharded_state import load_shards, new_group, save_shards
from trainer.sharding import gathered, is_spread, layout, shard
from trainer.snapshot import Snapshot


def started_optimizer(spread: bool) -> torch.optim.Optimizer:
    """After a step."""
    model = tiny_model(dropout=0.0)
    if spread:
        shard(model, "cpu")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for number, weight in enumerate(model.parameters()):
        weight.grad = torch.full_like(weight, 1 + number)
    optimizer.step()
    return optimizer


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"optimizer": optimizer.state_dict(), "rng": [torch.arange(5), {"place": None, "name": "a"}], "steps": 3}


def test_a_process_alone_reads_what_it_wrote(tmp_path: Path) -> None:
    state = state_of(started_optimizer(spread=False))
    save_shards(tmp_path / "trainer", state)
    check(load_shards(tmp_path / "trainer"), state, "state")
    assert not [path for path in (tmp_path / "trainer").iterdir() if path.suffix not in (".safetensors", ".json")]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no state of a training"):
        load_shards(tmp_path)
    save_shards(tmp_path / "trainer", {"a": torch.ones(3)})
    (tmp_path / "trainer" / "structure.json").write_text('{"tensor": "state.b"}')
    with pytest.raises(CheckpointError, match="is no state of a training"):
        load_shards(tmp_path / "trainer")
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="file"):
        save_shards(tmp_path / "file" / "trainer", {"a": torch.ones(3)})


@pytest.mark.slow
@pytest.mark.parametrize("before", [1, 2, 4])
def test_any_number_of_processes_reads_what_any_number_wrote(tmp_path: Path, before: int) -> None:
    write = torchrun(before, "-m", "tests.test_sharded_state", "write", str(tmp_path / "trainer"))
    assert write.returncode == 0, write.stderr[-3000:]
    expected = state_of(started_optimizer(spread=False))
    check(load_shards(tmp_path / "trainer"), expected, "state")
    for after in (2, 3, 4):
        read = torchrun(after, "-m", "tests.test_sharded_state", "read", str(tmp_path / "trainer"))
        assert read.returncode == 0, read.stderr[-3000:]
    sizes = [path.stat().st_size for path in (tmp_path / "trainer").glob("*.safetensors")]
    assert len(sizes) == before and max(sizes) < 1.4 * sum(sizes) / before


if __name__ == "__main__":  # under torchrun, see above
    torch.set_num_threads(1)
    what, folder = sys.argv[1:]
    distributed.start("cpu")
    optimizer = started_optimizer(spread=distributed.world_size() > 1)
    if what == "write":
        save_shards(folder, Snapshot()(state_of(optimizer)), new_group())
    else:
        for like in ({"optimizer": layout(optimizer)}, None):
            found = load_shards(folder, like)
            first = found["optimizer"]["state"][0]
            assert {key for key, value in first.items() if is_spread(value)} == ({*first} - {"step"} if like else set())
            whole = gathered(found)
            if distributed.rank() == 0:
                check(whole, state_of(started_optimizer(spread=False)), "state")
