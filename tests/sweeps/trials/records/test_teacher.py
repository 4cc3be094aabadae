"""The file on a study's teacher."""

from __future__ import annotations

from pathlib import Path

from hkd.coco.annotations import without_boxes
from hkd.config import TeacherConfig
from hkd.evaluation.score_thresholds import ScoreThresholds
from hkd.inference.pseudo_labels import LabelSummary
from hkd.models.cost import Cost
from hkd.training.teacher.prepare import PreparedTeacher
from hkd.training.teacher.pseudo_labels import PseudoLabels
from sweeps.trials.records.teacher import TeacherRecord, read_teacher, teacher_record, write_teacher


def test_record_has_evaluation_and_costs_and_is_read_as_written(tmp_path: Path) -> None:
    path, cost = tmp_path / "teacher.safetensors", Cost(10, 4 * 10**9)
    prepared = PreparedTeacher(path, {"mr2_all": 0.25}, cost, TeacherConfig(), epochs=())
    expected = {"mr2_all": 0.25, "num_params": 10, "flops": 4 * 10**9, "gmacs": 2.0}
    record = teacher_record(prepared)
    assert record == TeacherRecord(tmp_path / "teacher.safetensors", expected)
    summary = LabelSummary(ScoreThresholds(0.75, 0.25), 40, 100, 20, 3)
    labels = PseudoLabels(tmp_path / "labels.json", without_boxes([], tmp_path), summary)
    assert teacher_record(prepared, labels).metrics == {**expected, **summary.as_metrics()}
    write_teacher(tmp_path / "teacher.json", record)
    assert read_teacher(tmp_path / "teacher.json") == record
    assert read_teacher(tmp_path / "other.json") is None
    tested = TeacherRecord(path, {"mr2_all": 0.25, "test_mr2_all": 0.5}, "hash")
    write_teacher(tmp_path / "teacher.json", tested)
    assert read_teacher(tmp_path / "teacher.json") == tested
    assert tested.on_test_images == {"test_mr2_all": 0.5}
