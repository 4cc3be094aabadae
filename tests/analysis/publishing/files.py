"""A study, and files of ``hkd export`` of its trials."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from analysis.publishing.exported import ExportedTrial
from analysis.records.study_records import StudyRecords
from hkd.config import DetectorConfig
from hkd.inference.deployed.metadata import DeployedMetadata, StudyIdentity
from hkd.inference.deployed.onnx_file import DeployedFile
from tests.analysis.studies import TEACHER, record, records

PARAMS: dict[str, bool | int | float | str | None] = {
    "training.total_epochs": 4,
    "data.train_annotations": "data/mine/train.json",
}
TRIAL = record("t1", 0.25, 1e6, 2e9, params=PARAMS)
STOPPED = record("t3", 0.9, 1e5, 1e9, not_counted_because="stopped")
STUDY = records([TRIAL, record("t2", 0.3, 5e5, 1e9), STOPPED], TEACHER)


def metadata(
    study: str | None = "demo", trial: str = "t1", precision: Literal["fp32", "int8"] = "fp32"
) -> DeployedMetadata:
    return DeployedMetadata(
        format="hkd.onnx.1",
        hkd_version="0.1.0",
        versions={},
        opset=17,
        precision=precision,
        fp32_layers=(),
        classes=("person",),
        batch=1,
        image_height=64,
        image_width=96,
        resizing="",
        max_detections=100,
        score_threshold=0.01,
        nms_iou=0.5,
        detector=DetectorConfig(),
        num_params=1_000_000,
        flops=2_000_000_000,
        metrics={},
        weights_sha256="0" * 64,
        study=None if study is None else StudyIdentity(study=study, trial=trial),
    )


def exported(
    trial_id: str = "t1", study: StudyRecords = STUDY, precision: Literal["fp32", "int8"] = "fp32"
) -> ExportedTrial:
    (trial,) = (each for each in study.trials if each.trial_id == trial_id)
    return ExportedTrial(DeployedFile(Path("student.onnx"), b"x" * 4_470_000, metadata(precision=precision)), trial)
