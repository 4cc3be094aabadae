"""Files of teachers whose settings are not known or differ, and teachers that are too weak."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import save_detector
from hkd.training.teacher import files as teacher_files
from hkd.training.teacher.files import check_teacher_files
from tests.training.tiny import TEACHER_SHAPE, build, trial_config


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "trained.safetensors"
    save_detector(path, build(TEACHER_SHAPE, 7), TEACHER_SHAPE, image_height=64, image_width=96)
    return path


def test_checkpoint_with_other_anchors_is_refused_but_allowed_as_first_weights(
    scenes_dir: Path, checkpoint: Path
) -> None:
    # No tensor's shape shows the anchors' size.
    changes = {"teacher__anchor_sizes": [14.0, 23.0, 41.0, 72.0, 113.0]}
    with pytest.raises(CheckpointError, match=r"teacher.anchor_sizes is \(14.0.* and was \(13.0"):
        check_teacher_files(trial_config(scenes_dir, teacher__checkpoint=str(checkpoint), **changes))
    check_teacher_files(trial_config(scenes_dir, teacher__init_from=str(checkpoint), **changes))


def test_state_dict_without_anchors_is_refused_unless_they_are_configured(scenes_dir: Path, tmp_path: Path) -> None:
    # The same weights gave 24.1 % with their anchors and 61.6 % with others, without a word.
    torch.save(build(TEACHER_SHAPE, 7).state_dict(), tmp_path / "trained.pth")
    path = str(tmp_path / "trained.pth")
    check_teacher_files(trial_config(scenes_dir, teacher__checkpoint=path))
    shape = {name: value for name, value in TEACHER_SHAPE.model_dump().items() if "anchor" not in name}
    config = trial_config(scenes_dir, teacher={**shape, "checkpoint": path})
    with pytest.raises(CheckpointError) as caught:
        check_teacher_files(config)
    message = str(caught.value)
    assert f"{path}: states no anchors" in message
    assert "set teacher.anchor_sizes, teacher.anchor_aspect_ratios to" in message
    assert "teacher.torchvision" in message
    # A training learns its own anchors.
    check_teacher_files(trial_config(scenes_dir, teacher={**shape, "init_from": path}))


def test_advice_on_input_size_of_torchvision(scenes_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_files, "build_detector", lambda _config: None)
    monkeypatch.setattr(teacher_files, "load_weights", lambda *_, **__: ())
    small, large = (
        trial_config(scenes_dir, teacher={"torchvision": "a.pth"}, data__image_height=height, data__image_width=1088)
        for height in (192, 800)
    )
    assert check_teacher_files(large) == ()
    (note,) = check_teacher_files(small)
    assert "800 pixels on the shorter side" in note
    assert "192 and 1088" in note
