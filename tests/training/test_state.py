"""Training states as files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import save_detector
from hkd.training.state import load_state, restore_state, save_state
from tests.training.tiny import STUDENT, build


def layer_and_optimizer(value: float) -> tuple[nn.Linear, torch.optim.Optimizer]:
    """A layer of this weight, and an optimiser after a step of rate 0."""
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, value)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0, momentum=0.9)
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    return layer, optimizer


def test_state_round_trip_and_refusal_of_other_files(tmp_path: Path) -> None:
    layer, optimizer = layer_and_optimizer(2.5)
    save_state(tmp_path / "state.pt", {"a": 1}, [layer], optimizer, epoch=3)
    other, its_optimizer = layer_and_optimizer(0.5)
    its_optimizer.state.clear()
    assert restore_state(tmp_path / "state.pt", {"a": 1}, [other], its_optimizer, total_epochs=3) == 3
    assert other.weight.item() == 2.5
    # The weight's gradient is the input, 1: the momentum after one step.
    assert its_optimizer.state[other.weight]["momentum_buffer"].item() == 1.0
    with pytest.raises(CheckpointError, match="a was 1 and is 2"):
        restore_state(tmp_path / "state.pt", {"a": 2}, [other], its_optimizer, total_epochs=3)
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    save_detector(tmp_path / "detector.safetensors", build(STUDENT, 0), STUDENT, image_height=64, image_width=96)
    with pytest.raises(CheckpointError, match="not a training state"):
        load_state(tmp_path / "other.pt")
    # Some versions of torch.load read a .safetensors file, others refuse it.
    with pytest.raises(CheckpointError, match="not a (training state|file that can be read safely)"):
        load_state(tmp_path / "detector.safetensors")
    (tmp_path / "half.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:500])
    with pytest.raises(CheckpointError, match="not a file that can be read safely"):
        load_state(tmp_path / "half.pt")


def test_failed_write_keeps_previous_state(tmp_path: Path) -> None:
    layer, optimizer = layer_and_optimizer(1.0)
    save_state(tmp_path / "state.pt", {}, [layer], optimizer, epoch=1)
    with pytest.raises(Exception, match="pickle"):
        save_state(tmp_path / "state.pt", {"bad": lambda: None}, [layer], optimizer, epoch=2)
    assert load_state(tmp_path / "state.pt")["epoch"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.pt"]
