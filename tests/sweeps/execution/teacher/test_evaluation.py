"""The teacher's result on test images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.data.prepare import prepare_data
from hkd.data.test_images import PreparedTestImages
from hkd.training.teacher.prepare import prepare_teacher
from sweeps.execution.teacher import evaluation
from sweeps.execution.teacher.evaluation import teacher_on_test_images
from sweeps.settings.resources import TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.trials.records.teacher import TeacherRecord
from sweeps.trials.worker import WorkerSettings
from tests.sweeps.console.test_display import plain_display
from tests.sweeps.tiny import tiny_trial


def test_result_of_an_earlier_session_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[Path] = []

    def evaluate(_: object, teacher: Path, *__: object, **___: object) -> dict[str, float]:
        evaluated.append(teacher)
        return {"test_mr2_reasonable": 0.25}

    monkeypatch.setattr(evaluation, "_evaluate_on_cluster", evaluate)
    study, resources, teacher = StudyConfig(name="x"), TrialResources(1, 0, 1, None), Path("teacher.safetensors")
    display, out = plain_display()

    def result(known: TeacherRecord | None) -> dict[str, float]:
        return teacher_on_test_images(study, teacher, "hash", resources, display, known=known)

    assert result(None) == {"test_mr2_reasonable": 0.25}
    assert "Teacher on the test images: MR^-2 reasonable 25.0 %" in out.getvalue()
    metrics = {"mr2_reasonable": 0.1, "test_mr2_reasonable": 0.2}
    assert result(TeacherRecord(teacher, metrics, "hash")) == {"test_mr2_reasonable": 0.2}
    assert evaluated == [teacher]
    # Of other images, or of another teacher.
    result(TeacherRecord(teacher, metrics, "other"))
    result(TeacherRecord(Path("other.safetensors"), metrics, "hash"))
    assert evaluated == [teacher] * 3


def test_teacher_is_evaluated_like_on_validation_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config(TrialConfig, tiny_trial(tmp_path / "cache"), source="tiny")
    data = prepare_data(config.data, progress=False)
    teacher = prepare_teacher(config, data, tmp_path)
    # The validation images in their place, so that both results must be equal.
    images = PreparedTestImages(data.validation_annotations, data.validation_store)
    monkeypatch.setattr(evaluation, "open_test_images", lambda *_, **__: images)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    folder, threads = Path.cwd(), torch.get_num_threads()
    try:
        measured: dict[str, Any] = evaluation._evaluate_on_test_images(
            config, teacher.path, WorkerSettings(1, False, folder)
        )
    finally:
        os.chdir(folder)
        torch.set_num_threads(threads)
    assert measured == {f"test_{name}": value for name, value in teacher.metrics.items()}
