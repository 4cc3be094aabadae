from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hkd.coco.annotations import without_boxes
from hkd.coco.detections import DetectedBoxes
from hkd.config import DataConfig, EvaluationConfig, StudentConfig, TrialConfig
from hkd.evaluation.evaluator import evaluate_files
from hkd.export.onnx_export import ExportSettings, export_detector
from hkd.inference.image_detection import ImageDetection
from hkd.inference.picture_detection import CocoResults, FoundPedestrian, PictureDetections, detect_command
from hkd.inference.pictures import PictureError, picture_records
from hkd.models.build import build_detector
from hkd.models.fused import fuse_for_inference
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import save_detector
from tests.training.tiny import HEIGHT, STUDENT, WIDTH, trial_config

ORANGE = (255, 64, 0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "student.safetensors"
    save_detector(path, build_detector(STUDENT), STUDENT, image_height=HEIGHT, image_width=WIDTH)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Noise, twice as large as the network's input both ways, but for a strip that is missing at the right."""
    pixels = np.random.default_rng(0).integers(0, 256, (2 * HEIGHT, 2 * WIDTH - 20, 3), dtype=np.uint8)
    path = tmp_path / "street.png"
    Image.fromarray(pixels).save(path)
    return path


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


def ground_truth(folder: Path, *images: tuple[int, str, int, int], bbox: Sequence[float] = (1, 1, 4, 6)) -> Path:
    """A person at the same place of each image: (id, file_name, height, width)."""
    path = folder / "truth.json"
    people = [
        {"id": number, "image_id": image[0], "category_id": 1, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
        for number, image in enumerate(images, 1)
    ]
    document = {
        "images": [{"id": i, "file_name": name, "height": h, "width": w} for i, name, h, w in images],
        "categories": [{"id": 1, "name": "pedestrian"}],
        "annotations": people,
    }
    path.write_text(json.dumps(document))
    return path


def test_results_are_read_by_pycocotools(weights: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "grey.jpg"
    Image.new("L", (50, 40), 128).save(other)
    images = (7, "grey.jpg", 40, 50), (3, "street.png", 2 * HEIGHT, 2 * WIDTH - 20), (5, "unseen.png", 9, 9)
    truth = ground_truth(tmp_path, *images)
    results = CocoResults(tmp_path / "made" / "found.json", truth)
    found = detect_command([picture, other], weights, None, results=results)
    records = json.loads(results.path.read_text())
    assert {type(one["image_id"]) for one in records} == {int}
    assert {one["category_id"] for one in records} == {1}
    assert {one["image_id"] for one in records} <= {3, 7}
    assert sorted(results.path.parent.iterdir()) == [results.path]
    assert [one.drawn for one in found] == [None, None]

    # The ground truth is the box with the highest score.
    ground_truth(tmp_path, *images, bbox=max(records, key=lambda one: one["score"])["bbox"])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(results.path)), iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = evaluate_files(truth, results.path, "citypersons")
    assert ours.num_detections == len(records)
    assert ours.ap == pytest.approx(evaluation.stats[0], abs=1e-12)
    assert evaluation.stats[0] > 0


@pytest.mark.parametrize(
    ("asked", "lowest", "drawn_scores"), [(None, 0.01, [0.9]), (0.02, 0.02, [0.9, 0.03]), (0.7, 0.7, [0.9])]
)
def test_results_keep_low_scores_and_drawings_high_scores(
    asked: float | None,
    lowest: float,
    drawn_scores: list[float],
    weights: Path,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = [score for score in (0.9, 0.03) if score >= lowest]

    def detect_store(*arguments: object, **_: object) -> DetectedBoxes:
        evaluation = arguments[3]
        assert isinstance(evaluation, EvaluationConfig)
        assert evaluation.score_threshold == lowest
        boxes = np.array([[4.0, 3.0, 2.0, 6.0]] * len(scores))
        return DetectedBoxes(np.zeros(len(scores), dtype=np.int64), boxes, np.array(scores))

    monkeypatch.setattr("hkd.inference.image_detection.detect_store", detect_store)
    results = CocoResults(tmp_path / "found.json")
    (found,) = detect_command([picture], weights, tmp_path / "out", results=results, score_threshold=asked)
    assert [one["score"] for one in json.loads(results.path.read_text())] == scores
    assert [one.score for one in found.pedestrians] == drawn_scores


def test_images_without_annotations_are_numbered_in_order_given(weights: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "grey.jpg"
    Image.new("L", (50, 40), 128).save(other)
    results = CocoResults(tmp_path / "found.json")
    drawn, _ = detect_command([picture, other], weights, tmp_path / "out", results=results, score_threshold=0.2)
    assert json.loads((tmp_path / "found.images.json").read_text())["images"] == [
        {"id": 1, "file_name": str(picture), "height": 2 * HEIGHT, "width": 2 * WIDTH - 20},
        {"id": 2, "file_name": str(other), "height": 40, "width": 50},
    ]
    # An explicit threshold applies to drawings and results.
    of_first = [one for one in json.loads(results.path.read_text()) if one["image_id"] == 1]
    assert [FoundPedestrian(tuple(one["bbox"]), one["score"]) for one in of_first] == list(drawn.pedestrians)
    assert len(of_first) > 0


def test_parent_folders_distinguish_images_of_same_name(weights: Path, picture: Path, tmp_path: Path) -> None:
    for city in ("bonn", "ulm"):
        (tmp_path / city).mkdir()
        (tmp_path / city / "street.png").write_bytes(picture.read_bytes())
    size = (2 * HEIGHT, 2 * WIDTH - 20)
    truth = ground_truth(tmp_path, (1, "bonn/street.png", *size), (2, "ulm/street.png", *size))
    results = CocoResults(tmp_path / "found.json", truth)
    detect_command([tmp_path / "ulm" / "street.png"], weights, None, results=results)
    assert {one["image_id"] for one in json.loads(results.path.read_text())} == {2}


def test_annotations_are_needed_for_their_images_only(weights: Path, picture: Path, tmp_path: Path) -> None:
    truth = ground_truth(tmp_path, (2, "street.png", 2 * HEIGHT, 2 * WIDTH - 20), (3, "other.png", 9, 9))
    document = json.loads(truth.read_text())
    # Which of two categories are people is no question here.
    document["categories"].append({"id": 2, "name": "person"})
    document["annotations"][1]["category_id"] = 2
    for changed in (document, {"images": document["images"]}):
        truth.write_text(json.dumps(changed))
        results = CocoResults(tmp_path / "found.json", truth)
        detect_command([picture], weights, None, results=results)
        found = json.loads(results.path.read_text())
        assert {(one["image_id"], one["category_id"]) for one in found} == {(2, 1)}


def test_ids_of_images_and_people_are_those_of_annotations(weights: Path, picture: Path, tmp_path: Path) -> None:
    truth = ground_truth(tmp_path, (1, "other.png", 9, 9), (2, "street.png", 2 * HEIGHT, 2 * WIDTH - 20))
    document = json.loads(truth.read_text())
    for image in document["images"]:
        image["id"] = f"frame {image['id']}"
    document["categories"] = [{"id": 0, "name": "person"}, {"id": 1, "name": "car"}]
    for i, annotation in enumerate(document["annotations"], 1):
        annotation |= {"image_id": f"frame {i}", "category_id": 0}
    truth.write_text(json.dumps(document))
    results = CocoResults(tmp_path / "found.json", truth)
    detect_command([picture], weights, None, results=results)
    found = json.loads(results.path.read_text())
    # 1 would be a car.
    assert {(one["image_id"], one["category_id"]) for one in found} == {("frame 2", 0)}
    assert evaluate_files(truth, results.path, "citypersons").num_detections > 0


def test_all_images_that_do_not_match_annotations_are_listed(weights: Path, picture: Path, tmp_path: Path) -> None:
    for name, size in (("other.png", (8, 8)), ("small.png", (8, 8))):
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "copy").mkdir()
    again = tmp_path / "copy" / "street.png"
    again.write_bytes(picture.read_bytes())
    size = (2 * HEIGHT, 2 * WIDTH - 20)
    truth = ground_truth(
        tmp_path, (1, "street.png", *size), (2, "small.png", 8, 9), (3, "a/two.png", 8, 8), (4, "b/two.png", 8, 8)
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "two.png")
    images = [picture, again, *(tmp_path / name for name in ("other.png", "small.png", "two.png", "absent.png"))]
    with pytest.raises(PictureError) as caught:
        detect_command(images, weights, None, results=CocoResults(tmp_path / "found.json", truth))
    # Each problem starts with its file; the rest must name these facts.
    facts: list[tuple[str, list[str]]] = [
        ("absent.png", ["no such file"]),
        ("copy/street.png", ["image 1 of", str(truth), f"so is {picture}"]),
        ("other.png", [f"{truth} has no image", "--annotations"]),
        ("small.png", ["8 x 8 pixels", f"image 2 of {truth} is 9 x 8"]),
        ("two.png", [f"{truth} has several images", "--annotations"]),
    ]
    for problem, (name, expected) in zip(caught.value.problems, facts, strict=True):
        assert problem.startswith(f"{tmp_path / name}: ")
        assert all(fact in problem for fact in expected), problem
    assert not (tmp_path / "found.json").exists()


def test_results_do_not_overwrite_inputs(weights: Path, picture: Path, tmp_path: Path) -> None:
    truth = ground_truth(tmp_path, (1, "street.png", 2 * HEIGHT, 2 * WIDTH - 20))
    for path in (picture, weights, truth):
        with pytest.raises(PictureError, match=rf"{path.name}: is an input and would be overwritten.*--json"):
            detect_command([picture], weights, None, results=CocoResults(path, truth))
    out = tmp_path / "out"
    with pytest.raises(PictureError, match=r"detections\.json: .* --out .*--json"):
        detect_command([picture], weights, out, results=CocoResults(out / "detections.json"))
