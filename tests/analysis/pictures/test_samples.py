from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from analysis.pictures import samples as module
from analysis.pictures.differences import shown_detections
from analysis.pictures.samples import Samples, find_samples, samples_of, summary_sentence
from analysis.pictures.validation_images import ImagesError, read_validation_images
from analysis.records.store import fetch_runs
from analysis.results import StudyResults, compute_results
from hkd.evaluation.formats.stored_detections import StoredDetections
from hkd.evaluation.matching import TRUE_POSITIVE
from hkd.evaluation.protocols import CITYPERSONS
from tests.analysis.pictures.street import NUM_IMAGES, STUDENT, TEACHER, detected, images_of, write_images
from tests.analysis.studies import Written, record, records, write_study

CONFIG = "data: {{train_annotations: {0}, validation_annotations: {0}}}"


def study(*names: str) -> StudyResults:
    """Students of these names; the first has the lowest miss rate."""
    trials = [record(name, 0.5 + 0.1 * index, 4e6 / (index + 1), 4e9) for index, name in enumerate(names)]
    return compute_results(records(trials, record("teacher", 0.4, 6e6, 9e9, role="teacher")))


def found_on(path: Path, results: StudyResults, **detections: StoredDetections) -> Samples:
    by_run = {f"run-of-{name}": each for name, each in detections.items()}
    students = [student for student in module.shown_students(results) if student.run_id in by_run]
    return samples_of(results.front, students, by_run, images_of(path))


def test_images_of_the_greatest_difference_are_chosen(tmp_path: Path) -> None:
    path = write_images(tmp_path)
    truth = images_of(path).annotations.ground_truth()
    found = found_on(path, study("s"), s=detected(truth, STUDENT), teacher=detected(truth, TEACHER))
    # Image 1: only the teacher finds B, and has a false positive. 3: two false positives of the student. 2: only the
    # teacher finds C, because the student does at a lower score. 4: only the student finds D.
    chosen = [(found.pictures[each.picture].name, each.difference) for each in found.by_trial["s"]]
    assert chosen == [("01.jpg", 2), ("03.jpg", 2), ("02.jpg", 1), ("04.jpg", 1)]
    first, third, *_, fourth = found.by_trial["s"]
    assert first.teacher is not None
    assert fourth.teacher is not None
    assert (first.student.found, first.teacher.found) == ((0,), (0, 1))
    boxes = first.teacher.boxes
    assert [(each.box[0], each.outcome) for each in boxes] == [(10.0, 1), (100.0, 1), (50.0, 0)]
    assert [each.score for each in boxes] == pytest.approx([0.9, 0.8, 0.6])
    assert [each.outcome for each in third.student.boxes] == [0, 0]
    assert [(person.box[0], person.counts) for person in found.pictures[fourth.picture].people] == [
        (10.0, True),
        (100.0, False),
    ]
    # On the person who does not count.
    assert [each.outcome for each in fourth.teacher.boxes] == [-1]
    assert found.notes == ()


def test_people_found_are_as_many_as_true_positives(tmp_path: Path) -> None:
    images = images_of(write_images(tmp_path))
    truth = images.annotations.ground_truth()
    # Two detections on one person: the second is a false positive, though it overlaps.
    stored = detected(truth, [("A", 0.9), ("B", 0.85), ((1, 12.0), 0.8), ("D", 0.7)])
    shown = shown_detections(stored, "reasonable", images.truth, CITYPERSONS)
    per_image = np.bincount(shown.image_index[shown.outcomes == TRUE_POSITIVE], minlength=NUM_IMAGES)
    np.testing.assert_array_equal(np.bincount(images.truth.image_index[shown.finds], minlength=NUM_IMAGES), per_image)
    assert per_image[[0, 3]].tolist() == [2, 1]


def test_pictures_are_small_and_have_no_metadata(tmp_path: Path) -> None:
    path = write_images(tmp_path)
    truth = images_of(path).annotations.ground_truth()
    Image.open(tmp_path / "01.jpg").resize((1600, 1200)).save(tmp_path / "01.jpg", comment=b"taken at 52.5 N")
    document = path.read_text().replace(
        '"01.jpg", "width": 160, "height": 120', '"01.jpg", "width": 1600, "height": 1200'
    )
    path.write_text(document)
    found = found_on(path, study("s"), s=detected(truth, STUDENT), teacher=detected(truth, TEACHER))
    large, small = (Image.open(io.BytesIO(found.pictures[each].jpeg)) for each in (0, 1))
    assert (large.size, small.size) == ((512, 384), (160, 120))
    assert (found.pictures[0].width, found.pictures[0].height) == (1600, 1200)
    assert b"52.5" in (tmp_path / "01.jpg").read_bytes()
    assert all(b"52.5" not in each.jpeg for each in found.pictures)


def test_students_share_pictures_and_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_images(tmp_path)
    truth = images_of(path).annotations.ground_truth()
    stored = {"a": detected(truth, STUDENT), "b": detected(truth, [("A", 0.9)]), "teacher": detected(truth, TEACHER)}
    whole = found_on(path, study("a", "b"), **stored)
    # b: 1 (B, and the teacher's false positive) and 2 (C).
    assert [whole.pictures[each.picture].name for each in whole.by_trial["b"]] == ["01.jpg", "02.jpg"]
    assert len(whole.pictures) == 4
    sizes = [4 * ((len(each.jpeg) + 2) // 3) for each in whole.pictures]
    monkeypatch.setattr(module, "LARGEST_BYTES", sum(sizes[:2]))
    # The choice, a, comes first; b has the one of them that is its own.
    limited = found_on(path, study("a", "b"), **stored)
    assert [limited.pictures[each.picture].name for each in limited.by_trial["a"]] == ["01.jpg", "03.jpg"]
    assert [limited.pictures[each.picture].name for each in limited.by_trial["b"]] == ["01.jpg"]
    assert any("fewer than 4 pictures" in note for note in limited.notes)


def test_student_is_compared_with_the_ground_truth_where_the_teacher_has_no_detections(tmp_path: Path) -> None:
    path = write_images(tmp_path)
    truth = images_of(path).annotations.ground_truth()
    found = found_on(path, study("s"), s=detected(truth, STUDENT))
    # 3: two false positives. 1: B is missed. 2: C.
    assert [(found.pictures[each.picture].name, each.difference, each.teacher) for each in found.by_trial["s"]] == [
        ("03.jpg", 2, None),
        ("01.jpg", 1, None),
        ("02.jpg", 1, None),
    ]
    assert any("ground truth" in note for note in found.notes)


def test_pictures_that_are_missing_or_damaged_are_left_out(tmp_path: Path) -> None:
    path = write_images(tmp_path)
    truth = images_of(path).annotations.ground_truth()
    stored = {"s": detected(truth, STUDENT), "teacher": detected(truth, TEACHER)}
    (tmp_path / "01.jpg").unlink()
    (tmp_path / "03.jpg").write_bytes(b"<svg onload='alert(1)'/>")
    found = found_on(path, study("s"), **stored)
    assert [picture.name for picture in found.pictures] == ["02.jpg", "04.jpg"]
    assert any("01.jpg" in note for note in found.notes)
    for name in ("02.jpg", "04.jpg"):
        (tmp_path / name).unlink()
    with pytest.raises(ImagesError, match=r"01\.jpg"):
        found_on(path, study("s"), **stored)


def test_images_of_other_people_are_not_shown(tmp_path: Path) -> None:
    path = write_images(tmp_path)
    truth = images_of(path).annotations.ground_truth()
    stored = detected(truth, STUDENT)
    path.write_text(path.read_text().replace('"image_id": 2', '"image_id": 7'))
    with pytest.raises(ImagesError, match="not those of the stored detections"):
        found_on(path, study("s"), s=stored)


def test_report_does_not_name_the_folders_above_that_of_the_images(tmp_path: Path) -> None:
    folder = tmp_path / "customer" / "mine"
    folder.mkdir(parents=True)
    path = write_images(folder)
    truth = images_of(path).annotations.ground_truth()
    text = summary_sentence(found_on(path, study("s"), s=detected(truth, STUDENT)))
    assert f" .../mine/{path.name} " in text
    assert "customer" not in text


@pytest.fixture
def store(client: MlflowClient, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)  # of the artifacts
    write_study(client, "demo", [Written("s")], parent=False)
    return f"sqlite:///{database}"


@pytest.mark.parametrize(
    ("config", "because"),
    [
        (CONFIG.format("there/validation.json"), None),
        (CONFIG.format("elsewhere.json"), "no file elsewhere.json here"),
        (CONFIG.format("/dev/zero"), "no file .../dev/zero here"),
        (CONFIG.format("x" * 5000), "no file xxxx"),
        ("data: {validation_annotations: [1]}", "configuration of run"),
        ("a: &a [*a, *a]", "configuration of run"),
        (None, "configuration of run"),
        ("data: {cache_dir: nowhere}", "no file nowhere/scenes-"),
    ],
)
def test_images_are_those_of_the_stored_configuration(
    client: MlflowClient, store: str, tmp_path: Path, config: str | None, because: str | None
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    path = write_images(folder)
    (run,) = fetch_runs("demo", store)
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
        client.log_artifact(run.run_id, str(tmp_path / "config.yaml"))
    stored: Mapping[str, StoredDetections] = {run.run_id: detected(images_of(path).annotations.ground_truth(), STUDENT)}
    results = compute_results(records([dataclasses.replace(record("s", 0.5, 1e6, 1e9), run_id=run.run_id)]))
    found = find_samples(results, stored, store)
    if because is None:
        assert len(found.pictures) == 3
        assert "there/validation.json" in summary_sentence(found)
    else:
        assert found.pictures == ()
        assert because in summary_sentence(found)


def test_large_configuration_is_not_downloaded(
    client: MlflowClient, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = fetch_runs("demo", store)
    (tmp_path / "config.yaml").write_text("#" * (2 << 20))
    client.log_artifact(run.run_id, str(tmp_path / "config.yaml"))
    downloaded: list[str] = []

    def download(_: MlflowClient, run_id: str, path: str, folder: str) -> str:
        downloaded.append(path)
        return str(tmp_path / path)

    monkeypatch.setattr(MlflowClient, "download_artifacts", download)
    with pytest.raises(ImagesError, match="larger than 1 MiB"):
        read_validation_images(store, run.run_id)
    assert downloaded == []
