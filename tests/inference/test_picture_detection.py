from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hkd.coco.annotations import without_boxes
from hkd.coco.detections import DetectedBoxes
from hkd.config import DataConfig, EvaluationConfig, StudentConfig, TrialConfig
from hkd.export.onnx_export import ExportSettings, export_detector
from hkd.inference.image_detection import ImageDetection
from hkd.inference.picture_detection import CocoResults, FoundPedestrian, PictureDetections, detect_command
from hkd.inference.pictures import PictureError, picture_records
from hkd.models.build import build_detector
from hkd.models.fused import fuse_for_inference
from hkd.models.weight_formats.errors import CheckpointError
from tests.training.tiny import HEIGHT, STUDENT, WIDTH, trial_config

ORANGE = (255, 64, 0)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_boxes_equal_detector_in_pixels_of_image(
    weights: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype | None
) -> None:
    monkeypatch.setattr("hkd.inference.image_detection.autocast_dtype", lambda *_: dtype)
    (found,) = detect_command([picture], weights, tmp_path / "out", score_threshold=0.1)
    torch.manual_seed(0)
    detector = build_detector(STUDENT).eval()
    if dtype is not None:
        # As in a training's evaluation; in bf16, scores of the original detector differ by about 1e-3.
        detector = fuse_for_inference(detector, dtype)
    # Resized to half, at the top left, with 10 columns of padding.
    with Image.open(picture) as opened:
        half = np.asarray(opened.resize((WIDTH - 10, HEIGHT), Image.Resampling.BILINEAR))
    images = torch.zeros(1, 3, HEIGHT, WIDTH)
    images[0, :, :, : WIDTH - 10] = torch.from_numpy(half.copy()).permute(2, 0, 1) / 255
    sizes = torch.tensor([[HEIGHT, WIDTH - 10.0]])
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        direct = detector.detect(images, sizes, score_threshold=0.1, nms_iou=0.5, max_detections=100)
    corners = 2 * direct.boxes_xyxy[direct.valid]
    expected = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
    assert len(found.pedestrians) == len(expected) > 0
    scores = torch.tensor([one.score for one in found.pedestrians])
    torch.testing.assert_close(scores, direct.scores[direct.valid])
    torch.testing.assert_close(torch.tensor([one.bbox for one in found.pedestrians]), expected, atol=1e-3, rtol=0)


def test_files_list_all_detections(weights: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "grey.jpg"
    Image.new("L", (50, 40), 128).save(other)
    out = tmp_path / "made" / "out"
    found = detect_command([picture, other], weights, out, score_threshold=0.0)
    assert [one.drawn for one in found] == [out / "street.png", out / "grey.png"]
    sizes = []
    for one in found:
        with Image.open(drawn_to(one)) as drawn:
            sizes.append(drawn.size)
    assert sizes == [(2 * WIDTH - 20, 2 * HEIGHT), (50, 40)]
    on_file = json.loads((out / "detections.json").read_text())
    assert [PictureDetections(Path(one["image"]), Path(one["drawn"]), pedestrians(one)) for one in on_file] == found
    scores = [one.score for one in found[0].pedestrians]
    assert scores == sorted(scores, reverse=True)


def drawn_to(found: PictureDetections) -> Path:
    assert found.drawn is not None
    return found.drawn


def pedestrians(record: dict[str, list[dict[str, list[float] | float]]]) -> tuple[FoundPedestrian, ...]:
    return tuple(FoundPedestrian(tuple(one["bbox"]), one["score"]) for one in record["pedestrians"])  # type: ignore[arg-type]


def test_boxes_are_drawn_at_detections(
    weights: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_boxes = DetectedBoxes(np.array([0]), np.array([[40.0, 30.0, 20.0, 60.0]]), np.array([0.5]))
    monkeypatch.setattr("hkd.inference.image_detection.detect_store", lambda *_, **__: found_boxes)
    (found,) = detect_command([picture], weights, tmp_path / "out")
    with Image.open(drawn_to(found)) as drawn, Image.open(picture) as original:
        for corner in ((40, 30), (60, 30), (40, 90), (60, 90)):
            assert drawn.getpixel(corner) == ORANGE
        for outside in ((38, 60), (62, 60), (50, 92), (50, 60)):
            assert drawn.getpixel(outside) == original.getpixel(outside)


def test_image_without_detections_is_drawn_unchanged(weights: Path, picture: Path, tmp_path: Path) -> None:
    (found,) = detect_command([picture], weights, tmp_path / "out", score_threshold=0.999)
    assert found.pedestrians == ()
    with Image.open(drawn_to(found)) as drawn, Image.open(picture) as original:
        assert drawn.tobytes() == original.tobytes()


def test_all_unreadable_images_are_listed_and_nothing_is_written(weights: Path, picture: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(picture.read_bytes()[:1000])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    with pytest.raises(PictureError) as caught:
        detect_command([picture, damaged, text, tmp_path / "missing.png"], weights, tmp_path / "out")
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        str(path) for path in (damaged, text, tmp_path / "missing.png")
    ]
    assert not (tmp_path / "out").exists()


def test_unreadable_images_are_left_out_and_listed_if_requested(weights: Path, picture: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(picture.read_bytes()[:1000])
    unreadable: list[str] = []
    found = detect_command([damaged, picture], weights, tmp_path / "out", unreadable=unreadable)
    assert [one.image for one in found] == [picture]
    assert [problem.partition(": ")[0] for problem in unreadable] == [str(damaged)]
    with pytest.raises(PictureError, match="damaged.png"):  # none can be read
        detect_command([damaged], weights, tmp_path / "none", unreadable=[])
    assert not (tmp_path / "none").exists()


def test_images_of_folders_are_drawn_below_their_sub_folders(weights: Path, picture: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    for name in ("b/2.png", "b/1.png", "a.png"):
        (frames / name).parent.mkdir(parents=True, exist_ok=True)
        (frames / name).write_bytes(picture.read_bytes())
    (frames / "notes.txt").write_text("")
    results = CocoResults(tmp_path / "results.json")
    found = detect_command([frames], weights, tmp_path / "out", results=results, score_threshold=0.1)
    assert [one.image.relative_to(frames).as_posix() for one in found] == ["a.png", "b/1.png", "b/2.png"]
    assert [drawn_to(one).relative_to(tmp_path / "out").as_posix() for one in found] == ["a.png", "b/1.png", "b/2.png"]
    assert len({one.pedestrians for one in found}) == 1
    listed = json.loads(results.images_path.read_text())["images"]
    assert [image["id"] for image in listed] == [1, 2, 3]


def test_folder_without_images_and_drawings_in_it_are_refused(weights: Path, picture: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PictureError, match=f"{empty}: the folder has no image files"):
        detect_command([empty], weights, tmp_path / "out")
    with pytest.raises(PictureError, match="is in the folder of images"):
        detect_command([tmp_path], weights, tmp_path / "out")


def test_exported_detector_has_the_same_detections(
    weights: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkd.inference.image_detection.autocast_dtype", lambda *_: None)
    settings = ExportSettings.of_evaluation(EvaluationConfig(), score_threshold=0.1)
    exported = export_detector(weights, tmp_path / "student.onnx", settings).path
    (expected,) = detect_command([picture], weights, tmp_path / "a", score_threshold=0.1)
    (found,) = detect_command([picture], exported, tmp_path / "b", score_threshold=0.1)
    assert len(found.pedestrians) > 0
    np.testing.assert_allclose(
        [one.bbox for one in found.pedestrians], [one.bbox for one in expected.pedestrians], atol=2e-3
    )
    scores = [one.score for one in expected.pedestrians]
    np.testing.assert_allclose([one.score for one in found.pedestrians], scores, atol=1e-4)
    with pytest.raises(PictureError, match=r"0\.1"):
        detect_command([picture], exported, tmp_path / "c", score_threshold=0.05)
    with pytest.warns(UserWarning, match=r"exported without scores up to 0\.1"):
        detect_command([picture], exported, None, results=CocoResults(tmp_path / "results.json"))


def test_drawing_warns_of_scores_that_the_exported_detector_lacks(weights: Path, picture: Path, tmp_path: Path) -> None:
    settings = ExportSettings.of_evaluation(EvaluationConfig(), score_threshold=0.6)
    exported = export_detector(weights, tmp_path / "student.onnx", settings).path
    # Drawings have scores from 0.5 on; no miss rate is computed of them.
    with pytest.warns(UserWarning, match=r"0\.6: drawings"):
        detect_command([picture], exported, tmp_path / "out")


def test_all_detections_of_an_exported_detector_are_used(weights: Path, picture: Path, tmp_path: Path) -> None:
    exported = export_detector(
        weights, tmp_path / "student.onnx", ExportSettings.of_evaluation(EvaluationConfig())
    ).path
    # The file has 100 slots: its user asked for them, whatever the evaluation's default is.
    detection = ImageDetection(exported, None, EvaluationConfig(max_detections_per_image=2), 100.0)
    images = without_boxes(picture_records([picture], 100.0, []), Path())
    assert len(detection.detect(images, "", progress=False).scores) > 2


def test_configuration_for_an_exported_detector_is_refused(weights: Path, picture: Path, tmp_path: Path) -> None:
    exported = export_detector(
        weights, tmp_path / "student.onnx", ExportSettings.of_evaluation(EvaluationConfig())
    ).path
    with pytest.raises(CheckpointError, match=f"{exported}: .*--config"):
        detect_command([picture], exported, tmp_path / "out", config=trial_config(tmp_path))


def test_dangling_link_at_a_drawing_is_replaced_and_not_followed(weights: Path, picture: Path, tmp_path: Path) -> None:
    # In a folder that others can write to; a link to an existing file is refused, as any existing drawing.
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "street.png").symlink_to(tmp_path / "target")
    detect_command([picture], weights, tmp_path / "out", score_threshold=1.0)
    assert not (tmp_path / "target").exists()
    assert not (tmp_path / "out" / "street.png").is_symlink()


def test_existing_images_are_not_overwritten_by_drawings(weights: Path, picture: Path, tmp_path: Path) -> None:
    before = picture.read_bytes()
    with pytest.raises(PictureError, match=r"street\.png: is an input image .* --out"):
        detect_command([picture], weights, tmp_path)
    assert picture.read_bytes() == before
    with pytest.raises(PictureError, match="would all be drawn to"):
        detect_command([picture, tmp_path / "elsewhere" / "street.jpg"], weights, tmp_path / "out")
    # A file of that name that is neither an input nor a drawing.
    jpeg = tmp_path / "street.jpg"
    with Image.open(picture) as opened:
        opened.save(jpeg)
    with pytest.raises(PictureError, match="street.png: exists already"):
        detect_command([jpeg], weights, tmp_path)
    assert picture.read_bytes() == before
    # Drawings of an earlier call may be overwritten.
    for _ in range(2):
        detect_command([jpeg], weights, tmp_path / "out")


def test_configuration_replaces_metadata_of_weights(weights: Path, picture: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.pt"
    torch.manual_seed(0)
    torch.save(build_detector(STUDENT).state_dict(), bare)
    config = TrialConfig(
        student=StudentConfig.model_validate(STUDENT.model_dump()),
        data=DataConfig(image_height=HEIGHT, image_width=WIDTH),
    )
    (found,) = detect_command([picture], bare, tmp_path / "a", config=config)
    (expected,) = detect_command([picture], weights, tmp_path / "b")
    assert found.pedestrians == expected.pedestrians
    with pytest.raises(CheckpointError, match="another architecture"):
        detect_command([picture], bare, tmp_path / "c", config=TrialConfig())
    with pytest.raises(
        CheckpointError, match=r"bare\.pt: a state dict does not describe .* --config, .* student\.safetensors"
    ):
        detect_command([picture], bare, tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file"):
        detect_command([picture], tmp_path / "absent.pth", tmp_path / "c")
    assert not (tmp_path / "c").exists()


# --------------------------------------------------------------------------------------------------- EXIF orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_detections_and_drawings(
    orientation: int, weights: Path, picture: Path, tmp_path: Path
) -> None:
    # Storage of the upright image for each orientation: the inverse of the viewer's transform.
    stored_by = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # viewers rotate clockwise
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(picture) as upright:
        stored = upright if orientation == 1 else upright.transpose(stored_by[orientation])
        stored.save(turned, exif=exif)
    (expected,) = detect_command([picture], weights, tmp_path / "a", score_threshold=0.1)
    (found,) = detect_command([turned], weights, tmp_path / "b", score_threshold=0.1)
    assert found.pedestrians == expected.pedestrians
    assert len(found.pedestrians) > 0
    with Image.open(drawn_to(found)) as drawn, Image.open(drawn_to(expected)) as as_expected:
        assert drawn.size == as_expected.size
        assert drawn.tobytes() == as_expected.tobytes()


def test_damaged_exif_data_leaves_image_as_stored(weights: Path, picture: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jpg"
    with Image.open(picture) as opened:
        opened.save(damaged, exif=b"Exif\x00\x00no TIFF header at all")
        size = opened.size
    (found,) = detect_command([damaged], weights, tmp_path / "out")
    with Image.open(drawn_to(found)) as drawn:
        assert drawn.size == size


# -------------------------------------------------------------------------------------------------------- COCO results
