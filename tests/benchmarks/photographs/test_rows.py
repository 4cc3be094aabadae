"""What the rows of the comparison train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.photographs.rows import ROWS, load_base, row_config, student_pretraining, with_pretrained_student
from hkd.config import DetectorConfig, TrialConfig
from hkd.config_files.parsing import apply_overrides

STUDY = """\
name: photographs
base:
  data: {train_annotations: train.json, validation_annotations: validation.json, image_root: photos}
  teacher:
    init_from_synthetic: {total_epochs: 3, learning_rate: 0.004, seed: 5}
  student: {init_from: teacher, width_multiplier: 0.25, pyramid_channels: 48, head_channels: 96}
"""


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return load_base(path, {"training.total_epochs": 4})


def _row(raw: dict[str, Any], row: str, seed: int = 7, *, one_teacher: bool = False) -> TrialConfig:
    return row_config(raw, row, seed, 2, one_teacher=one_teacher, source="study.yaml")


@pytest.mark.parametrize(
    ("row", "uses_teacher", "is_distilled", "init_from"),
    [
        ("alone", False, False, None),
        ("selected", True, False, "teacher"),
        ("distilled", True, True, None),
        ("both", True, True, "teacher"),
    ],
)
def test_rows_differ_in_first_weights_and_distillation(
    raw: dict[str, Any], row: str, uses_teacher: bool, is_distilled: bool, init_from: str | None
) -> None:
    config = _row(raw, row)
    assert (config.uses_teacher, config.is_distilled, config.student.init_from) == (
        uses_teacher,
        is_distilled,
        init_from,
    )


def test_pretrained_student_needs_no_teacher(raw: dict[str, Any]) -> None:
    config = with_pretrained_student(_row(raw, "pretrained"), Path("first.safetensors"))
    assert (config.uses_teacher, config.student.init_from) == (False, Path("first.safetensors"))


def test_all_rows_share_data_and_schedule(raw: dict[str, Any]) -> None:
    configs = [_row(raw, row) for row in ROWS]
    assert all(config.data == configs[0].data and config.training == configs[0].training for config in configs)
    assert (configs[0].training.total_epochs, configs[0].training.seed, configs[0].training.num_threads) == (4, 7, 2)


def test_each_seed_has_a_teacher_unless_one_is_requested(raw: dict[str, Any]) -> None:
    def seed(*, one_teacher: bool) -> int:
        teacher = _row(raw, "both", one_teacher=one_teacher).teacher
        assert teacher is not None
        return teacher.training.seed

    assert seed(one_teacher=False) == 7
    assert seed(one_teacher=True) == 0


def test_student_is_pretrained_on_the_scenes_and_schedule_of_the_teacher(raw: dict[str, Any]) -> None:
    with_footage = apply_overrides(raw, {"data.unlabelled_images": "footage"})
    config = _row(with_footage, "pretrained")
    origin = student_pretraining(config)
    assert origin.data.unlabelled_images is None
    assert origin.teacher is not None
    assert origin.data.train_annotations is None
    assert origin.data.synthetic == config.data.synthetic
    schedule = origin.teacher.training
    assert (schedule.total_epochs, schedule.learning_rate, schedule.seed) == (3, 0.004, 5)
    assert origin.teacher.init_from_synthetic is None
    architecture = config.student.model_dump(include=set(DetectorConfig.model_fields))
    assert {name: getattr(origin.teacher, name) for name in architecture} == architecture


def test_base_is_read_inline_by_its_path_or_as_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("training: {batch_size: 3}\n")
    (tmp_path / "study.yaml").write_text("name: x\nbase: train.yaml\n")
    (tmp_path / "inline.yaml").write_text("name: x\nbase: {training: {batch_size: 3}}\n")
    bases = [load_base(tmp_path / name, {}) for name in ("train.yaml", "study.yaml", "inline.yaml")]
    assert bases == [{"training": {"batch_size": 3}}] * 3
