"""Training states as files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import save_detector
from hkd.training.state import load_state, save_state
from tests.training.tiny import STUDENT, build


def test_state_round_trip_and_refusal_of_other_files(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", {"epoch": 3, "modules": [{"weight": torch.arange(3.0)}]})
    state = load_state(tmp_path / "state.pt")
    assert state["epoch"] == 3
    assert torch.equal(state["modules"][0]["weight"], torch.tensor([0.0, 1.0, 2.0]))
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
    save_state(tmp_path / "state.pt", {"epoch": 1})
    with pytest.raises(Exception, match="pickle"):
        save_state(tmp_path / "state.pt", {"epoch": 2, "bad": lambda: None})
    assert load_state(tmp_path / "state.pt")["epoch"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.pt"]
