from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from pycocotools.coco import COCO
from rich.console import Console
from torchvision.models import resnet18

from hkd.coco.parsing.errors import AnnotationError
from hkd.config import DataConfig, StudentConfig, SyntheticConfig, TeacherConfig, TrainingConfig, TrialConfig
from hkd.config_files.parsing import load_config
from hkd.config_files.problems import ConfigError
from hkd.evaluation.evaluator import evaluate_files
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import load_detector, save_detector
from hkd.training import run
from hkd.training.run import TrainingFolderError, train_into_folder
from hkd.training.teacher.prepare import PreparedTeacher, prepare_teacher
from tests.process_configuration import TrainerBuiltError, record_configuration
from tests.training.tiny import HEIGHT, STUDENT, TEACHER_SHAPE, WIDTH, build


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    return TrialConfig(
        data=DataConfig(
            synthetic=SyntheticConfig(train_images=4, validation_images=2, height=96, width=128),
            image_height=HEIGHT,
            image_width=WIDTH,
            cache_dir=tmp_path_factory.mktemp("cache"),
        ),
        teacher=None,
        student=StudentConfig.model_validate(STUDENT.model_dump()),
        training=TrainingConfig(total_epochs=2, batch_size=4, device="cpu", num_threads=0),
    )


@pytest.fixture(scope="module")
def finished(config: TrialConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "new" / "folders"
    train_into_folder(config, out, console=silent())
    return out


def silent() -> Console:
    return Console(file=io.StringIO(), width=200)


def changed(config: TrialConfig, section: str, **values: Any) -> TrialConfig:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class InterruptAfter(Console):
    """Raises KeyboardInterrupt when a line with this prefix is printed."""

    def __init__(self, prefix: str) -> None:
        super().__init__(file=io.StringIO())
        self._prefix = prefix

    def print(self, *objects: Any, **kwargs: Any) -> None:
        if objects and str(objects[0]).startswith(self._prefix):
            raise KeyboardInterrupt
        super().print(*objects, **kwargs)


def test_files_of_results_are_consistent(config: TrialConfig, finished: Path) -> None:
    assert set(contents(finished)) - {".lock"} == {
        "config.yaml",
        "training_state.pt",
        "epochs.json",
        "student.safetensors",
        "metrics.json",
        "miss_rate_curve.json",
        "detections.json",
        "origin.json",
        "weights_origin.txt",
    }
    assert (finished / "weights_origin.txt").read_text() == "first weights of the student: random\n"
    assert load_config(finished / "config.yaml") == config
    metrics = json.loads((finished / "metrics.json").read_text())
    detector, metadata = load_detector(finished / "student.safetensors")
    assert metrics["num_params"] == sum(parameter.numel() for parameter in detector.parameters())
    assert metrics["gmacs"] == metrics["flops"] / 2e9
    assert (metadata.config, metadata.image_height, metadata.image_width) == (STUDENT, HEIGHT, WIDTH)
    measured = {name: metrics[name] for name in metrics if name.startswith(("mr2_", "ap"))}
    assert metadata.metrics == measured
    epochs = json.loads((finished / "epochs.json").read_text())
    assert len(epochs) == 2
    assert {name: epochs[1][name] for name in measured} == measured
    # The metrics belong to the detections in the file: `hkd evaluate` computes the same ones.
    (ground_truth,) = config.data.cache_dir.glob("scenes-*/validation.json")
    again = evaluate_files(ground_truth, finished / "detections.json", "citypersons")
    assert again.as_metrics() == pytest.approx(measured, abs=1e-12)


def test_detections_file_is_readable_by_pycocotools(config: TrialConfig, finished: Path) -> None:
    (ground_truth,) = config.data.cache_dir.glob("scenes-*/validation.json")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(ground_truth))
        results = coco.loadRes(str(finished / "detections.json"))
    records = json.loads((finished / "detections.json").read_text())
    assert len(records) == len(results.anns) > 0
    assert {type(record["image_id"]) for record in records} == {int}
    assert {record["image_id"] for record in records} <= set(coco.getImgIds())
    assert {record["category_id"] for record in records} == set(coco.getCatIds()) == {1}
    assert all(len(record["bbox"]) == 4 and min(record["bbox"][2:]) > 0 for record in records)


def test_finished_training_is_only_evaluated(config: TrialConfig, finished: Path) -> None:
    before = contents(finished)
    with pytest.raises(TrainingFolderError, match="already holds a training.*--resume.*--out"):
        train_into_folder(config, finished, console=silent())
    assert contents(finished) == before
    summary = train_into_folder(config, finished, resume=True, console=silent())
    assert contents(finished) == before
    assert summary.evaluation.as_metrics().items() <= json.loads(before["metrics.json"]).items()


def test_interrupted_and_resumed_equals_uninterrupted(config: TrialConfig, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_into_folder(config, tmp_path, console=InterruptAfter("epoch 1/2"))
    assert not (tmp_path / "student.safetensors").exists()
    assert len(json.loads((tmp_path / "epochs.json").read_text())) == 1
    console = silent()
    train_into_folder(config, tmp_path, resume=True, console=console)
    assert isinstance(console.file, io.StringIO)
    assert "resuming after epoch 1 of 2" in console.file.getvalue()
    once, resumed = contents(finished), contents(tmp_path)
    for name in ("origin.json", "student.safetensors", "detections.json", "metrics.json", "config.yaml"):
        assert resumed[name] == once[name], name


def test_resume_without_training_starts_one(config: TrialConfig, finished: Path, tmp_path: Path) -> None:
    train_into_folder(config, tmp_path / "new", resume=True, console=silent())
    assert contents(tmp_path / "new")["student.safetensors"] == contents(finished)["student.safetensors"]


def test_resume_with_other_settings_is_refused(config: TrialConfig, finished: Path) -> None:
    before = contents(finished)
    other = changed(changed(config, "training", seed=5), "evaluation", nms_iou=0.4)
    with pytest.raises(TrainingFolderError) as caught:
        train_into_folder(other, finished, resume=True, console=silent())
    assert "evaluation.nms_iou was 0.5 and is 0.4; training.seed was 0 and is 5." in str(caught.value)
    assert contents(finished) == before


def test_settings_without_effect_on_result_may_differ_on_resume(
    config: TrialConfig, finished: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    other = changed(changed(config, "training", evaluate_every_epochs=2), "data", cache_dir=tmp_path / "cache")
    train_into_folder(other, out, resume=True, console=silent())
    for name in ("student.safetensors", "metrics.json"):
        assert contents(out)[name] == contents(finished)[name], name


def test_resume_with_other_data_is_refused(
    config: TrialConfig, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(finished)
    origin = json.loads(before["origin.json"])
    monkeypatch.setattr(run, "_origin", lambda *_: {**origin, "training images": "changed"})
    with pytest.raises(TrainingFolderError, match="training images"):
        train_into_folder(config, finished, resume=True, console=silent())
    assert contents(finished) == before


def test_folder_in_use_is_refused(config: TrialConfig, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingFolderError, match="another process is training there"):
        train_into_folder(config, tmp_path, console=silent())


def test_existing_files_are_not_overwritten(config: TrialConfig, tmp_path: Path) -> None:
    (tmp_path / "student.safetensors").write_text("precious")
    with pytest.raises(TrainingFolderError, match="already holds a training"):
        train_into_folder(config, tmp_path, console=silent())
    with pytest.raises(TrainingFolderError, match=r"has no config\.yaml.*--out"):
        train_into_folder(config, tmp_path, resume=True, console=silent())
    (tmp_path / "config.yaml").write_text("studnet: {}")
    with pytest.raises(ConfigError, match="did you mean student"):
        train_into_folder(config, tmp_path, resume=True, console=silent())
    assert (tmp_path / "student.safetensors").read_text() == "precious"


def test_refused_inputs_leave_no_files(config: TrialConfig, tmp_path: Path) -> None:
    missing = Path("missing.json")
    without_data = changed(config, "data", train_annotations=missing, validation_annotations=missing)
    with pytest.raises(AnnotationError, match="missing.json"):
        train_into_folder(without_data, tmp_path, console=silent())
    without_teacher = config.model_copy(update={"teacher": TrialConfig().teacher})
    without_teacher = changed(without_teacher, "teacher", checkpoint=Path("missing.safetensors"))
    with pytest.raises(CheckpointError, match="missing.safetensors"):
        train_into_folder(without_teacher, tmp_path, console=silent())
    assert set(contents(tmp_path)) <= {".lock"}


@pytest.fixture
def distilled(config: TrialConfig, tmp_path: Path) -> TrialConfig:
    """A training under a teacher from a file."""
    path = tmp_path / "a_teacher.safetensors"
    save_detector(path, build(TEACHER_SHAPE, 1), TEACHER_SHAPE, image_height=HEIGHT, image_width=WIDTH)
    teacher = TeacherConfig.model_validate({**TEACHER_SHAPE.model_dump(), "checkpoint": path})
    return config.model_copy(update={"teacher": teacher})


def printed(config: TrialConfig, out: Path) -> list[str]:
    console = silent()
    train_into_folder(config, out, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_origin_of_weights_is_printed_and_written(distilled: TrialConfig, tmp_path: Path) -> None:
    # A state dict as training programs save it, with a tensor outside the network, whose omission is noted.
    assert distilled.teacher is not None
    path = tmp_path / "teacher.pth"
    tensors = {f"module.{name}": tensor for name, tensor in build(TEACHER_SHAPE, 1).state_dict().items()}
    torch.save({"state_dict": {**tensors, "loss.weight": torch.ones(2)}, "epoch": 3}, path)
    teacher = distilled.teacher.model_dump() | {"checkpoint": path}
    config = changed(
        distilled.model_copy(update={"teacher": TeacherConfig.model_validate(teacher)}), "student", init_from="teacher"
    )
    lines = printed(config, tmp_path / "out")
    written = (tmp_path / "out" / "weights_origin.txt").read_text().splitlines()
    assert written[-1] == (
        "first weights of the student: all layers selected from the teacher, and fitted to its outputs on up to 64"
        " training images"
    )
    assert written[-1] in lines
    notes = [line.removeprefix("teacher: ") for line in written[:-1]]
    assert notes
    assert all(note.startswith(f"{path}: ") and note in lines for note in notes)
    # The teacher is in the cache now.
    assert printed(config, tmp_path / "again")
    assert (tmp_path / "again" / "weights_origin.txt").read_text().splitlines() == written


def test_changed_file_of_the_backbone_is_noticed_on_resume(config: TrialConfig, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    classifier = resnet18(weights=None)
    torch.save(classifier.state_dict(), path)
    config = changed(config, "student", backbone_from=path)
    with pytest.raises(KeyboardInterrupt):
        train_into_folder(config, tmp_path / "out", console=InterruptAfter("epoch 1/2"))
    torch.save({name: 2 * tensor for name, tensor in classifier.state_dict().items()}, path)
    with pytest.raises(TrainingFolderError, match="first weights of the backbone"):
        train_into_folder(config, tmp_path / "out", resume=True, console=silent())


@pytest.mark.parametrize(("of_teacher", "warned"), [(1.5, "Train the teacher longer"), (0.0, None)])
def test_student_that_passes_its_teacher_is_warned_about_once(
    distilled: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_teacher: float, warned: str | None
) -> None:
    def prepare(*arguments: Any) -> PreparedTeacher:
        # 1.5 is above the miss rate of any student.
        return dataclasses.replace(prepare_teacher(*arguments), metrics={"mr2_all": of_teacher})

    monkeypatch.setattr(run, "prepare_teacher", prepare)
    lines = printed(distilled, tmp_path / "out")
    warnings = [line for line in lines if "holds students back" in line]
    assert len(warnings) == (warned is not None)
    if warned is not None:
        assert warned in warnings[0]
        # After the first evaluation of the two.
        first = lines.index(warnings[0])
        assert [line.split(":")[0] for line in lines[first - 1 : first + 2]] == ["epoch 1/2", "warning", "epoch 2/2"]


def test_process_is_configured_before_training(
    config: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = record_configuration(monkeypatch, run)
    with pytest.raises(TrainerBuiltError):
        train_into_folder(changed(config, "training", num_threads=3), tmp_path, console=silent())
    assert configured == [("cpu", 3)]
