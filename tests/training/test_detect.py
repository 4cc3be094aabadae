from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hkd.config import DataConfig, TrialConfig
from hkd.models.build import build_detector
from hkd.training.checkpoint import CheckpointError, save_detector
from hkd.training.detect import FoundPedestrian, PictureDetections, PictureError, detect_command
from tests.training.tiny import HEIGHT, STUDENT, WIDTH

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


def test_boxes_are_those_of_the_detector_in_pixels_of_the_picture(
    weights: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkd.training.detect.autocast_dtype", lambda *_: None)
    (found,) = detect_command([picture], weights, tmp_path / "out", score_threshold=0.1)
    torch.manual_seed(0)
    detector = build_detector(STUDENT).eval()
    # Half the size, at the top left; 10 columns of padding.
    with Image.open(picture) as opened:
        half = np.asarray(opened.resize((WIDTH - 10, HEIGHT), Image.Resampling.BILINEAR))
    images = torch.zeros(1, 3, HEIGHT, WIDTH)
    images[0, :, :, : WIDTH - 10] = torch.from_numpy(half.copy()).permute(2, 0, 1) / 255
    direct = detector.detect(
        images, torch.tensor([[HEIGHT, WIDTH - 10.0]]), score_threshold=0.1, nms_iou=0.5, max_detections=100
    )
    corners = 2 * direct.boxes_xyxy[direct.valid]
    expected = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
    assert len(found.pedestrians) == len(expected) > 0
    scores = torch.tensor([one.score for one in found.pedestrians])
    torch.testing.assert_close(scores, direct.scores[direct.valid])
    torch.testing.assert_close(torch.tensor([one.bbox for one in found.pedestrians]), expected, atol=1e-3, rtol=0)


def test_files_tell_what_was_found(weights: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "grey.jpg"
    Image.new("L", (50, 40), 128).save(other)
    out = tmp_path / "made" / "out"
    found = detect_command([picture, other], weights, out, score_threshold=0.0)
    assert [one.drawn for one in found] == [out / "street.png", out / "grey.png"]
    sizes = []
    for one in found:
        with Image.open(one.drawn) as drawn:
            sizes.append(drawn.size)
    assert sizes == [(2 * WIDTH - 20, 2 * HEIGHT), (50, 40)]
    on_file = json.loads((out / "detections.json").read_text())
    assert [PictureDetections(Path(one["image"]), Path(one["drawn"]), pedestrians(one)) for one in on_file] == found
    scores = [one.score for one in found[0].pedestrians]
    assert scores == sorted(scores, reverse=True)


def pedestrians(record: dict[str, list[dict[str, list[float] | float]]]) -> tuple[FoundPedestrian, ...]:
    return tuple(FoundPedestrian(tuple(one["bbox"]), one["score"]) for one in record["pedestrians"])  # type: ignore[arg-type]


def test_boxes_are_drawn_where_they_were_found(
    weights: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {"image_id": 1, "category_id": 1, "bbox": [40.0, 30.0, 20.0, 60.0], "score": 0.5}
    monkeypatch.setattr("hkd.training.detect.detect_store", lambda *_, **__: [result])
    (found,) = detect_command([picture], weights, tmp_path / "out")
    with Image.open(found.drawn) as drawn, Image.open(picture) as original:
        for corner in ((40, 30), (60, 30), (40, 90), (60, 90)):
            assert drawn.getpixel(corner) == ORANGE
        for outside in ((38, 60), (62, 60), (50, 92), (50, 60)):
            assert drawn.getpixel(outside) == original.getpixel(outside)


def test_a_threshold_that_nothing_reaches_leaves_the_picture_alone(
    weights: Path, picture: Path, tmp_path: Path
) -> None:
    (found,) = detect_command([picture], weights, tmp_path / "out", score_threshold=0.999)
    assert found.pedestrians == ()
    with Image.open(found.drawn) as drawn, Image.open(picture) as original:
        assert drawn.tobytes() == original.tobytes()


def test_all_unusable_pictures_are_named_and_nothing_is_written(weights: Path, picture: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(picture.read_bytes()[:1000])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    with pytest.raises(PictureError) as caught:
        detect_command([picture, damaged, text, tmp_path, tmp_path / "missing.png"], weights, tmp_path / "out")
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        str(path) for path in (damaged, text, tmp_path, tmp_path / "missing.png")
    ]
    assert not (tmp_path / "out").exists()


def test_pictures_are_not_drawn_over(weights: Path, picture: Path, tmp_path: Path) -> None:
    before = picture.read_bytes()
    with pytest.raises(PictureError, match="is a picture to read"):
        detect_command([picture], weights, tmp_path)
    assert picture.read_bytes() == before
    with pytest.raises(PictureError, match="would all be drawn to"):
        detect_command([picture, tmp_path / "elsewhere" / "street.jpg"], weights, tmp_path / "out")
    # Somebody's own picture of that name, though it is not read.
    jpeg = tmp_path / "street.jpg"
    with Image.open(picture) as opened:
        opened.save(jpeg)
    with pytest.raises(PictureError, match="street.png: exists already"):
        detect_command([jpeg], weights, tmp_path)
    assert picture.read_bytes() == before
    # What an earlier call drew may be drawn again.
    for _ in range(2):
        detect_command([jpeg], weights, tmp_path / "out")


def test_configuration_replaces_what_the_weights_say(weights: Path, picture: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.pt"
    torch.manual_seed(0)
    torch.save(build_detector(STUDENT).state_dict(), bare)
    config = TrialConfig(student=STUDENT, data=DataConfig(image_height=HEIGHT, image_width=WIDTH))
    (found,) = detect_command([picture], bare, tmp_path / "a", config=config)
    (expected,) = detect_command([picture], weights, tmp_path / "b")
    assert found.pedestrians == expected.pedestrians
    with pytest.raises(CheckpointError, match="another architecture"):
        detect_command([picture], bare, tmp_path / "c", config=TrialConfig())
    with pytest.raises(CheckpointError, match=r"bare\.pt"):
        detect_command([picture], bare, tmp_path / "c")
    assert not (tmp_path / "c").exists()
