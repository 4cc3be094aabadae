"""How a study prepares its teacher and the labels of unlabelled images, and records them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hkd.coco.annotations import without_boxes
from hkd.coco.images import ImageRecord
from hkd.config import TeacherConfig, TrialConfig
from hkd.data.prepare import prepare_data
from hkd.evaluation.score_thresholds import ScoreThresholds
from hkd.inference.pseudo_labels import LabelSummary
from hkd.models.cost import Cost
from hkd.training.teacher.prepare import PreparedTeacher, prepare_teacher
from hkd.training.teacher.pseudo_labels import PseudoLabels, prepare_labels
from sweeps import ready_teacher as teacher_module
from sweeps import study as study_module
from sweeps.console.display import Display
from sweeps.execution.teacher.task import Prepared
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.trials.records.teacher import read_teacher, teacher_record
from tests.sweeps.study_doubles import Place, TuneDouble
from tests.sweeps.tiny import tiny_trial, with_unlabelled_images


def test_mlflow_is_opened_before_teacher_is_trained(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_experiment(*_: Any, **__: Any) -> str:
        place.order.append("experiment")
        return "1"

    monkeypatch.setattr(place.store, "create_experiment", create_experiment)
    place.trials = TuneDouble.finish_all
    assert place.run() == 0
    assert place.order == ["experiment", "teacher"]


def test_teacher_is_recorded_in_folder_and_mlflow(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = PreparedTeacher(Path("t.safetensors"), {"mr2_all": 0.25}, Cost(10, 100), TeacherConfig(), ())
    summary = LabelSummary(ScoreThresholds(0.75, 0.25, 0.9, 0.5, 0.4), 40, 100, 20, 3)
    labels = PseudoLabels(Path("labels.json"), without_boxes([], Path()), summary)
    monkeypatch.setattr(teacher_module, "prepare_teacher", lambda *_: teacher_module.ReadyTeacher(teacher, labels))
    place.trials = TuneDouble.finish_all
    place.run()
    record = read_teacher(place.folder.teacher_file)
    assert record is not None
    assert record == teacher_record(teacher, labels)
    assert record.metrics["pseudo_labels_object_score"] == 0.75
    logged = {(name, value) for name, _, value in place.store.named("teacher").history}
    assert set(summary.as_metrics().items()) <= logged
    assert place.status["teacher"] == ("finished", "FINISHED")
    sections = {name.partition(".")[0] for name in place.store.named("teacher").params}
    assert sections <= {"teacher", "data"}
    assert "data" in sections


def test_trial_that_passes_the_teacher_is_warned_about_at_its_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = PreparedTeacher(Path("t"), {"mr2_reasonable": 0.6}, Cost(10, 100), TeacherConfig(), (), ("t: note",))
    monkeypatch.setattr(teacher_module, "prepare_teacher", lambda *_: teacher_module.ReadyTeacher(teacher))
    base = place.study.base.model_copy(update={"teacher": TeacherConfig()})
    place.study = place.study.model_copy(update={"base": base})
    place.trials = TuneDouble.finish_all
    place.run()
    lines = place.out.getvalue().splitlines()
    # All three trials miss 50 %: the first one is warned about, and the summary counts the others.
    (end,) = (index for index, line in enumerate(lines) if line.strip().startswith("baseline-b finished"))
    (warning, summary) = (index for index, line in enumerate(lines) if "teacher holds students back" in line)
    assert warning == end + 1
    assert "2 more" in lines[summary]
    assert place.store.named("teacher").artifacts == {"weights_origin.txt": "t: note\n"}


def test_worker_prepares_teacher_only_if_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StudyConfig.model_validate({"name": "x", "storage_path": tmp_path, "base": tiny_trial(tmp_path / "cache")})
    data = prepare_data(study.base.data, progress=False)
    assert study.base.teacher is not None
    teacher = PreparedTeacher(tmp_path / "t.safetensors", {}, Cost(10, 100), study.base.teacher, ())
    on_worker: list[Path] = []

    def prepare_on_cluster(_: object, cache_dir: Path, *__: object, **___: object) -> Prepared:
        on_worker.append(cache_dir)
        return Prepared(teacher, None)

    monkeypatch.setattr(teacher_module, "prepare_on_cluster", prepare_on_cluster)
    cluster, resources = Cluster(None, 2, 0), TrialResources(1, 0, 1, 2)
    out = io.StringIO()
    display = Display(Console(file=out))

    def prepare() -> teacher_module.ReadyTeacher | None:
        return teacher_module.prepare_teacher(study, data, cluster, resources, display)

    assert prepare() == teacher_module.ReadyTeacher(teacher)
    assert on_worker == [tmp_path]
    assert out.getvalue().startswith("Teacher: training\n")
    out.truncate(0)
    cached = prepare_teacher(study.base, data, tmp_path)
    assert prepare() == teacher_module.ReadyTeacher(cached)
    assert on_worker == [tmp_path]
    assert "training" not in out.getvalue()


def test_worker_labels_unlabelled_images_only_if_labels_are_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = with_unlabelled_images(tiny_trial(tmp_path / "cache"), tmp_path / "footage")
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}}
    study = StudyConfig.model_validate({"name": "x", "storage_path": tmp_path, "base": raw, "space": space})
    data = prepare_data(study.base.data, progress=False)
    teacher = prepare_teacher(study.base, data, tmp_path)
    on_worker: list[Path] = []

    def prepare_on_cluster(
        config: TrialConfig, cache_dir: Path, *_: object, unlabelled: Sequence[ImageRecord], **__: object
    ) -> Prepared:
        on_worker.append(cache_dir)
        assert [image.file_name for image in unlabelled] == [f"{number}.png" for number in range(5)]
        labels = prepare_labels(config, data, teacher)
        assert labels is not None
        return Prepared(teacher, labels.path)

    monkeypatch.setattr(teacher_module, "prepare_on_cluster", prepare_on_cluster)
    out = io.StringIO()
    display = Display(Console(file=out, width=300))
    for _ in range(2):
        ready = teacher_module.prepare_teacher(study, data, Cluster(None, 2, 0), TrialResources(1, 0, 1, 2), display)
        assert ready is not None
        assert ready.labels is not None
        assert ready.labels.summary.num_images == 5
        assert f"Labels of unlabelled images: {ready.labels.summary}; {ready.labels.path}" in out.getvalue()
        assert "training" not in out.getvalue()
    assert on_worker == [tmp_path]
    assert ready is not None
    assert ready.labels is not None
    inputs = study_module._trial_inputs(study, Cluster(None, 2, 0), TrialResources(1, 0, 1, 2), ready, 8, display)
    assert inputs.labels_file == ready.labels.path
    # Eight labelled and five unlabelled images fill three batches of four.
    assert "2 epochs of 3 steps" in out.getvalue()
