"""Files of ``torch.save`` are read without running code, and refused with the object that prevents it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weight_formats.unpickling import load_tensors_only

WEIGHT = torch.tensor([1.0, 2.0])


class Payload:
    """Unpickling this object would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "plain",
    [
        argparse.Namespace(model="fasterrcnn_resnet50_fpn", output_dir=Path("runs"), epochs=26),
        Path("runs"),
        np.float64(0.5),
        np.arange(3),
        np.random.RandomState(0).get_state(),
    ],
    ids=["namespace", "path", "numpy-number", "numpy-array", "random-state"],
)
def test_plain_data_beside_weights_is_ignored(tmp_path: Path, plain: object, zipped: bool) -> None:
    torch.save({"model": {"a": WEIGHT}, "args": plain}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    read = load_tensors_only(tmp_path / "a.pth")
    assert torch.equal(read["model"]["a"], WEIGHT)
    # Allowed for this call alone, so that no other torch.load in the process accepts them.
    assert "argparse.Namespace" not in str(torch.serialization.get_safe_globals())


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_file_is_not_run(tmp_path: Path, zipped: bool) -> None:
    content = {"model": {"a": WEIGHT}, "args": Payload(tmp_path / "created")}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"posix\.system"):
        load_tensors_only(tmp_path / "a.pth")
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_module_is_refused_with_its_class_and_how_to_save_weights(tmp_path: Path, zipped: bool) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as caught:
        load_tensors_only(tmp_path / "whole.pth")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'whole.pth'}: ")
    assert "torch.nn.modules.linear.Linear" in message
    assert "torch.save(model.state_dict(), 'weights.pth')" in message
    # torch advises to run the file's code, in colours.
    assert "weights_only" not in message
    assert "\x1b" not in message


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_archive_is_refused_by_name(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "scripted.pt")
    with pytest.raises(CheckpointError, match="TorchScript archive"):
        load_tensors_only(tmp_path / "scripted.pt")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut", b"\x80\x02}q\x00."])
def test_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot|not a file that can be read safely") as caught:
        load_tensors_only(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    assert "file an issue" not in str(caught.value)


def test_folder_of_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        load_tensors_only(tmp_path)
