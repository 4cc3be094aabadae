"""Labels of a folder of images, as `hkd label` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hkd import cli
from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.detections import DetectedBoxes
from hkd.config import EvaluationConfig
from hkd.data.store import ImageStore
from hkd.evaluation.score_thresholds import ScoreThresholds
from hkd.export.onnx_export import ExportSettings, export_detector
from hkd.inference import image_detection
from hkd.inference.labelling import ScoreSources, label_folder
from hkd.inference.picture_detection import CocoResults, detect_command
from hkd.inference.pseudo_labels import LabelSummary
from hkd.models.build import build_detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import save_detector
from tests.training.tiny import HEIGHT, STUDENT, WIDTH


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "teacher.safetensors"
    save_detector(path, build_detector(STUDENT), STUDENT, image_height=HEIGHT, image_width=WIDTH)
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Five images of noise, at two depths and of two sizes."""
    random = np.random.default_rng(0)
    for number in range(5):
        path = tmp_path / "frames" / ("video" if number % 2 else ".") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height = HEIGHT * (1 + number // 3)
        Image.fromarray(random.integers(0, 255, (height, 2 * WIDTH, 3), dtype=np.uint8)).save(path)
    return tmp_path / "frames"


def test_labels_are_the_detections_by_their_scores(
    weights: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reference: the detections that `hkd detect --json` writes, of all images at once.
    files = sorted(frames.rglob("*.png"))
    detect_command(files, weights, None, results=CocoResults(tmp_path / "all.json"))
    found = json.loads((tmp_path / "all.json").read_text())
    lower, upper = np.quantile([one["score"] for one in found], [0.25, 0.5]).tolist()
    monkeypatch.setattr(image_detection, "_IMAGES_AT_A_TIME", 2)
    out = tmp_path / "elsewhere" / "labels.json"
    summary = label_folder(frames, weights, out, ScoreSources(upper, lower), progress=False)
    labels = read_annotations(out)
    assert [(labels.image_root / image.file_name).resolve() for image in labels.images] == files
    expected = [one for one in found if one["score"] >= lower]
    records = json.loads(out.read_text())["annotations"]
    for record, one in zip(records, expected, strict=True):
        assert (record["image_id"], record["category_id"]) == (one["image_id"], 1)
        assert record["bbox"] == pytest.approx(one["bbox"])
        assert record["score"] == pytest.approx(one["score"])
        assert record["ignore"] == (one["score"] < upper)
    assert labels.ignore.tolist() == [one["score"] < upper for one in expected]
    assert 0 < labels.ignore.sum() < len(labels.ignore)
    assert (summary.num_people, summary.num_ignored) == ((~labels.ignore).sum(), labels.ignore.sum())
    assert (summary.num_images, summary.num_empty_images) == (5, 5 - len(set(labels.image_index.tolist())))


def test_exported_detector_without_the_scores_of_labels_is_refused(weights: Path, frames: Path, tmp_path: Path) -> None:
    settings = ExportSettings.of_evaluation(EvaluationConfig(), score_threshold=0.3)
    exported = export_detector(weights, tmp_path / "teacher.onnx", settings).path
    out = tmp_path / "labels.json"
    with pytest.raises(CheckpointError, match=rf"{exported}: .*--score-threshold 0\.2"):
        label_folder(frames, exported, out, ScoreSources(0.5, 0.2), progress=False)
    assert not out.exists()
    label_folder(frames, exported, out, ScoreSources(0.5, 0.3), progress=False)
    assert out.exists()


class FoundByColour:
    """A detector that finds the box [10, 5, 20, 50] in every image, with its grey as score in per cent."""

    def __call__(self, _: object, store: ImageStore, images: Annotations, *__: object, **___: object) -> DetectedBoxes:
        count = len(images.images)
        scores = store.images[:, 0, 0, 0] / 100
        return DetectedBoxes(np.arange(count), np.tile([10.0, 5.0, 20.0, 50.0], (count, 1)), scores)


def write_greys(folder: Path, greys: list[int]) -> list[dict[str, Any]]:
    folder.mkdir()
    for number, grey in enumerate(greys):
        # The last pixel differs, as files with the same content are the same image.
        picture = Image.new("RGB", (WIDTH, HEIGHT), (grey, grey, grey))
        picture.putpixel((WIDTH - 1, HEIGHT - 1), (number, 0, len(greys)))
        picture.save(folder / f"{number}.png")
    # Ids in descending order: detections refer to images by ascending id.
    return [{"id": 100 - n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in range(len(greys))]


def test_scores_are_chosen_on_validation_images(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image_detection, "detect_store", FoundByColour())
    monkeypatch.setattr(image_detection, "_IMAGES_AT_A_TIME", 4)
    # All of score 0.9 and 0.6 are people, one of the four of 0.3, and none of 0.1.
    greys = [90] * 8 + [60] * 4 + [30] * 4 + [10] * 4
    images = write_greys(tmp_path / "validation", greys)
    people = [image["id"] for image in images[:13]]
    annotations = [{"id": i, "image_id": i, "category_id": 1, "bbox": [10, 5, 20, 50]} for i in people]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "validation.json").write_text(json.dumps(document))
    write_greys(tmp_path / "frames", [95, 60, 59, 30, 29, 5])
    out = tmp_path / "labels.json"
    arguments = ["label", str(tmp_path / "frames"), "--weights", str(weights), "--out", str(out)]
    validation = ["--validation", str(tmp_path / "validation.json"), "--images", str(tmp_path / "validation")]
    assert cli.main([*arguments, *validation]) == 0
    labels = read_annotations(out)
    assert [(int(i), bool(ignored)) for i, ignored in zip(labels.image_index, labels.ignore, strict=True)] == [
        *((0, False), (1, False), (2, True), (3, True))
    ]
    printed = capsys.readouterr().out
    assert f"{out}: 2 people and 2 ignore regions in 6 images (2 with neither)" in printed
    assert "people from score 0.6 on (100 % people on the validation images)" in printed
    # 12 of 13 people.
    assert "92 % of the annotated ones" in printed
    assert json.loads(out.read_text())["info"]["pseudo_labels"]["thresholds"]["ignored_score"] == 0.3
    # A second time, and with an image that is also a validation image.
    assert cli.main([*arguments, *validation]) == 2
    assert f"{out}: exists already" in capsys.readouterr().err
    (tmp_path / "frames" / "copy.png").write_bytes((tmp_path / "validation" / "3.png").read_bytes())
    out.unlink()
    assert cli.main([*arguments, *validation]) == 2
    error = capsys.readouterr().err
    assert "hkd label: DIR: 1 image with the file of a validation image" in error
    assert "copy.png" in error
    assert not out.exists()


def test_damaged_image_is_reported_before_detection(
    weights: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image_detection, "detect_store", None)
    path = frames / "video" / "1.png"
    path.write_bytes(path.read_bytes()[:5000])
    arguments = ["label", str(frames), "--weights", str(weights), "--out", str(tmp_path / "labels.json")]
    assert cli.main([*arguments, "--object-score", "0.5", "--ignored-score", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "hkd label: DIR: 1 of 5 images" in error
    assert "video/1.png' is damaged" in error


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ("", ["--validation", "both --object-score and --ignored-score"]),
        ("--object-score 0.5", ["--validation", "both --object-score and --ignored-score"]),
        ("--object-score 0.5 --ignored-score 0.6", ["--ignored-score 0.6 is above --object-score 0.5"]),
        ("--object-score 0.5 --ignored-score 0.4 --images x", ["--images is used with --validation only"]),
        ("--object-score 0.5 --ignored-score 0.4 --config missing.yaml", ["missing.yaml", "no such file"]),
        ("--object-score 0.5 --validation missing.json", ["missing.json", "cannot be read"]),
    ],
)
def test_mistakes_in_options(
    options: str, facts: list[str], weights: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["label", str(frames), "--weights", str(weights), "--out", str(tmp_path / "labels.json")]
    assert cli.main([*arguments, *options.split()]) == 2
    error = capsys.readouterr().err
    assert [fact for fact in facts if fact not in error] == []
    assert not (tmp_path / "labels.json").exists()


def test_state_dict_is_read_as_the_configured_teacher(weights: Path, frames: Path, tmp_path: Path) -> None:
    shape = STUDENT.model_dump(mode="json")
    config = {
        "teacher": shape,
        "data": {"image_height": HEIGHT, "image_width": WIDTH},
    }
    (tmp_path / "train.yaml").write_text(json.dumps(config))
    torch.manual_seed(0)
    torch.save(build_detector(STUDENT).state_dict(), tmp_path / "teacher.pth")
    scores = ["--object-score", "0.3", "--ignored-score", "0.1"]

    def label(file: Path, out: str, *more: str) -> int:
        return cli.main(["label", str(frames), "--weights", str(file), "--out", str(tmp_path / out), *scores, *more])

    assert label(tmp_path / "teacher.pth", "none.json") == 2
    assert label(tmp_path / "teacher.pth", "one.json", "--config", str(tmp_path / "train.yaml")) == 0
    assert label(weights, "other.json") == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()


def test_summary_counts_one_as_one() -> None:
    one = LabelSummary(ScoreThresholds(0.7, 0.2), 1, 1, 1, 0, 1)
    assert str(one).startswith("1 person and 1 ignore region in 1 image (0 with neither), 1 box left out beyond data.")
