from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from hkd.evaluation.bootstrap import resample_miss_rates, resample_outcomes
from hkd.evaluation.formats.stored_detections import (
    LARGEST_NUMBER_OF_IMAGES,
    StoredDetections,
    StoredDetectionsError,
    encode_detections,
    read_stored_detections,
    stored_detections,
)
from hkd.evaluation.matching import match
from hkd.evaluation.protocols import CITYPERSONS, Protocol
from tests.evaluation.coco_files import EVERYONE, coco, crowded_scene, detection, parse, person


def stored(protocol: Protocol = CITYPERSONS, num_images: int = 30) -> StoredDetections:
    return stored_detections(*parse(*crowded_scene(1, num_images, people=4, detections=15)), protocol)


@pytest.mark.parametrize("protocol", [CITYPERSONS, EVERYONE])
def test_miss_rates_and_resamples_equal_those_of_detections(protocol: Protocol, tmp_path: Path) -> None:
    truth, boxes = parse(*crowded_scene(seed=1, num_images=30, people=4, detections=15))
    expected = resample_miss_rates(match(truth, boxes, protocol), protocol, resamples=50, seed=3)
    path = tmp_path / "a.safetensors"
    path.write_bytes(encode_detections(stored_detections(truth, boxes, protocol)))
    read = read_stored_detections(path)
    for index, subset in enumerate(read.subsets):
        found = resample_outcomes(
            read.matches(subset), (subset,), read.fppi_points, read.miss_rate_floor, resamples=50, seed=3
        )
        np.testing.assert_array_equal(found.values, expected.values[[index]])
        np.testing.assert_array_equal(found.resampled, expected.resampled[[index]])


def test_file_has_what_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    before = stored()
    path.write_bytes(encode_detections(before))
    read = read_stored_detections(path)
    assert (read.protocol, read.subsets) == ("citypersons", before.subsets)
    assert (read.fppi_points, read.num_detections) == (before.fppi_points, 450)
    for name in ("image_ids", "image_index", "outcomes", "counted_per_image"):
        np.testing.assert_array_equal(getattr(read, name), getattr(before, name))
    np.testing.assert_allclose(read.boxes_xywh, before.boxes_xywh, rtol=1e-7)


def test_ranking_ends_at_three_times_the_false_positives_that_are_read(tmp_path: Path) -> None:
    # 10 images, read up to 1 false positive per image: 3 x 10 false positives are kept, and what ranks before the next.
    boxes = [detection(1 + i % 10, [500.0, 0.0, 20.0, 60.0], 0.9 - 0.001 * i) for i in range(50)]
    people = [person(1, [0.0, 0.0, 20.0, 60.0])]
    truth, found = parse(coco(10, people), [*boxes, detection(1, [0.0, 0.0, 20.0, 60.0], 0.1)])
    kept = stored_detections(truth, found, EVERYONE)
    assert (len(kept.scores), kept.num_detections) == (30, 51)
    # About 20 bytes of boxes and scores, 4 of the image and 1 of a subset for each detection.
    assert len(encode_detections(kept)) < 30 * 25 + 10 * 12 + 1500


def test_detectors_are_comparable_on_same_truth_only() -> None:
    one = stored()
    assert one.has_same_truth(replace(one, scores=one.scores / 2), "reasonable")
    assert not one.has_same_truth(replace(one, image_ids=one.image_ids + 1), "reasonable")
    assert not one.has_same_truth(replace(one, counted_per_image=one.counted_per_image + 1), "reasonable")
    assert not one.has_same_truth(replace(one, fppi_points=(0.1, 1.0)), "reasonable")


def _header(arrays: dict[str, Any], **changes: object) -> None:
    header = json.loads(arrays["header"].tobytes()) | changes
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda a: a.pop("scores"), "scores"),
        (lambda a: a.update(scores=a["scores"].astype(np.float64)), "scores"),
        (lambda a: a.update(boxes_xywh=a["boxes_xywh"][:, :3].copy()), "fit"),
        (lambda a: a.update(image_index=a["image_index"] + 1000), "unknown images"),
        (lambda a: a.update(scores=np.full_like(a["scores"], np.nan)), "finite"),
        (lambda a: a.update(outcomes=np.full_like(a["outcomes"], 7)), "outcomes"),
        (lambda a: a.update(outcomes=np.full_like(a["outcomes"], 1)), "more people"),
        (lambda a: a.update(counted_per_image=-a["counted_per_image"]), "people"),
        (lambda a: a.update(image_ids=np.zeros(LARGEST_NUMBER_OF_IMAGES + 1, dtype=np.int64)), "images"),
        (lambda a: _header(a, format="hkd.stored_detections.9"), "hkd.stored_detections.1"),
        (lambda a: _header(a, fppi_points=[1.0, 0.1]), "fppi_points"),
        (lambda a: _header(a, fppi_points=[]), "fppi_points"),
        (lambda a: _header(a, miss_rate_floor=2), "miss_rate_floor"),
        (lambda a: _header(a, subsets=["one"]), "fit"),
        (lambda a: _header(a, num_detections=None), "num_detections"),
        (lambda a: a.update(header=np.frombuffer(b"[" * 100_000, dtype=np.uint8)), "not readable"),
        (lambda a: a.update(header=np.frombuffer(b"[]", dtype=np.uint8)), "not readable"),
    ],
)
def test_foreign_content_is_refused(change: Any, fact: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    arrays = load(encode_detections(stored()))
    change(arrays)
    path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    with pytest.raises(StoredDetectionsError) as raised:
        read_stored_detections(path)
    assert str(path) in str(raised.value)
    if fact != "num_detections":
        assert fact in str(raised.value)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff" * 64, b"\x80\x04cos\nsystem\n", encode_detections(stored())[:-9]]
)
def test_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoredDetectionsError):
        read_stored_detections(path)
    with pytest.raises(StoredDetectionsError):
        read_stored_detections(tmp_path / "absent")
