"""``hkd evaluate`` on broken ground truth, detections of every format, and protocols."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import strategies as st

from hkd.coco.ground_truth import read_ground_truth
from hkd.evaluation.formats.detection_files import read_detections
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.evaluation.protocols import Interval
from tests.fuzz.breaking import broken_bytes, broken_json, broken_text
from tests.fuzz.plain_readers import (
    has_area,
    plain_detections_json,
    plain_ground_truth,
    plain_id,
    plain_json,
    plain_rows,
)
from tests.fuzz.running import MalformedError, Outcome, Tally, assert_refused, fuzz, run_hkd

pytestmark = pytest.mark.thorough

IMAGES: list[dict[str, Any]] = [
    {"id": 3, "file_name": "set06_V000_I00029.jpg", "height": 480, "width": 640},
    {"id": 5, "file_name": "set06_V000_I00059.jpg", "height": 480, "width": 640},
    {"id": 8, "file_name": "set07_V001_I00029.jpg", "height": 480, "width": 640},
]
TRUTH: dict[str, Any] = {
    "images": IMAGES,
    "categories": [{"id": 1, "name": "pedestrian"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 1, "bbox": [10, 20, 30, 60], "height": 60, "vis_ratio": 0.8},
        {"id": 2, "image_id": 3, "category_id": 1, "bbox": [90.5, 20, 40, 90], "ignore": 1, "label": "rider"},
        {"id": 3, "image_id": 5, "category_id": 1, "bbox": [200, 100, 41, 100], "vis_bbox": [200, 100, 41, 50]},
        {"id": 4, "image_id": 8, "category_id": 1, "bbox": [5, 6, 30, 70], "iscrowd": 0, "occluded": 1},
    ],
}
NAMES = {str(image["file_name"])[:-4]: int(image["id"]) for image in IMAGES}
ROWS = ((3, (11, 21, 30, 60), 0.9), (3, (300, 20, 40, 90), 0.75), (5, (201, 99, 40, 100), 0.5), (8, (5, 8, 30, 69), -2))
DETECTIONS = [{"image_id": i, "category_id": 1, "bbox": list(box), "score": score} for i, box, score in ROWS]
MOT_ROWS = ((3, (11, 21, 30, 60), 0.9), (3, (300, 20, 40, 90), 0.75), (1, (5, 8, 30, 69), -2))
Rows = list[tuple[int, list[float], float]]
"""Image id, box and score of detections."""
TEXT = "1,11,21,30,60,0.9\n1,300,20,40,90,0.75\n2,201,99,40,100,0.5\n3,5,8,30,69,-2\n"
VIDEO = "30,11,21,30,60,0.9\n30 300 20 40 90 0.75\n31,1,1,10,10,1\n60,201,99,40,100,0.5\n"
PROTOCOL = """\
name: street
subsets:
  - name: near
    height: [50, null]
    height_includes_high: true
    visibility: [0.65, null]
  - {name: far, height: [20, 50], height_includes_high: false}
iou_threshold: 0.5
height_filter_ratio: 1.25
miss_rate_floor: 1e-10
ignored_labels: [rider]
border_xyxy: [5, 5, 635, 475]
truth_aspect_ratio: 0.41
max_detections_per_image: 100
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "truth.json").write_text(json.dumps(TRUTH))
    (folder / "found.json").write_text(json.dumps(DETECTIONS))
    (folder / "videos" / "set06").mkdir(parents=True)
    (folder / "videos" / "set07").mkdir()
    (folder / "videos" / "set06" / "V000.txt").write_text(VIDEO)
    (folder / "videos" / "set07" / "V001.txt").write_text("30,5,8,30,69,-2\n")
    return folder


def _evaluate(
    folder: Path,
    broken: Path,
    record: str,
    *,
    truth: Path | None = None,
    detections: Path | None = None,
    protocol: Path | str = "citypersons",
) -> tuple[Outcome, Any]:
    """Run the command, by default on the folder's files; return its outcome and the one detector's result."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    outcome = run_hkd(
        *("evaluate", "--resamples", "0", "--json", result, "--ground-truth", truth or folder / "truth.json"),
        *("--detections", f"x={detections or folder / 'found.json'}", "--protocol", protocol),
    )
    if outcome.code != 0:
        assert_refused(outcome, "evaluate", str(broken), record, result)
        return outcome, None
    return outcome, json.loads(result.read_text())["detectors"][0]["result"]


def _same_numbers(result: Any, again: Any) -> None:
    """The same but for notes on how files were read."""
    assert {**result, "notes": None} == {**again, "notes": None}


def _rewritten(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def _held_to_plain_detections(
    folder: Path,
    broken: Path,
    record: str,
    plain: Callable[[], list[tuple[int, list[float], float]]],
    truth_file: Path | None = None,
) -> Outcome:
    """Detections equal a plain reader's, and evaluate like these written as COCO results."""
    outcome, result = _evaluate(folder, broken, record, truth=truth_file, detections=broken)
    if result is None:
        return outcome
    rows = plain()
    truth = read_ground_truth(truth_file or folder / "truth.json")
    boxes = read_detections(broken, truth)
    assert truth.image_ids[boxes.image_index].tolist() == [image_id for image_id, _, _ in rows]
    assert boxes.boxes_xywh.tolist() == [box for _, box, _ in rows]
    assert boxes.scores.tolist() == [float(score) for _, _, score in rows]
    records = [{"image_id": i, "category_id": 1, "bbox": box, "score": score} for i, box, score in rows]
    rewritten = _rewritten(folder / "again.json", records)
    again = _evaluate(folder, broken, record, truth=truth_file, detections=rewritten)[1]
    _same_numbers(result, again)
    return outcome


def test_mutated_coco_results(folder: Path) -> None:
    path = folder / "broken.json"

    def check(content: bytes) -> Outcome:
        path.write_bytes(content)
        record = (
            r"line \d|detections\[\d|detections must be a list|not valid JSON \(|is repeated in the object|"
            r"of \d detections"  # their categories
        )
        return _held_to_plain_detections(folder, path, record, lambda: plain_detections_json(content, NAMES))

    _some_of_each(fuzz(broken_json(DETECTIONS), check, 90))


def test_mutated_detection_text_file(folder: Path) -> None:
    path, truth = folder / "broken.txt", folder / "numbered.json"
    # Numbers of images are positions: ids with gaps are refused.
    ids = {image["id"]: number for number, image in enumerate(IMAGES, 1)}
    images = [image | {"id": ids[image["id"]]} for image in IMAGES]
    annotations = [record | {"image_id": ids[record["image_id"]]} for record in TRUTH["annotations"]]
    truth.write_text(json.dumps(TRUTH | {"images": images, "annotations": annotations}))

    def check(content: bytes) -> Outcome:
        path.write_bytes(content)

        def plain() -> Rows:
            return [(int(row[0]), row[1:5], row[5]) for row in plain_rows(content) if has_area(row[1:5])]

        return _held_to_plain_detections(folder, path, r"line \d|\(byte \d", plain, truth)

    _some_of_each(fuzz(broken_text(TEXT.encode()), check, 90))


def test_mutated_caltech_detection_folders(folder: Path) -> None:
    path = folder / "videos" / "set06" / "V000.txt"

    def check(content: bytes) -> Outcome:
        path.write_bytes(content)
        rows: list[tuple[int, list[float], float]] = []

        def plain() -> list[tuple[int, list[float], float]]:
            found = plain_rows(content)
            rows.extend(({30: 3, 60: 5}[int(row[0])], row[1:5], row[5]) for row in found if row[0] in (30, 60))
            between = len(found) - len(rows)
            rows[:] = [row for row in rows if has_area(row[1])]
            # What is on other frames is counted.
            assert not between or f"{between} of {len(found) + 1} detections are on frames that the" in outcome.out
            return [*rows, (8, [5.0, 8.0, 30.0, 69.0], -2.0)]

        outcome, _ = _evaluate(folder, path, r"line \d|\(byte \d", detections=folder / "videos")
        if outcome.code == 0:
            _held_to_plain_detections(folder, folder / "videos", "", plain)
        return outcome

    tally = fuzz(broken_text(VIDEO.encode()), check, 70)
    path.write_text(VIDEO)
    _some_of_each(tally)


def test_mutated_files_of_frames(folder: Path) -> None:
    root = folder / "frames"
    path = root / "set06" / "V000" / "I00029.txt"
    for name in ("set06/V000/I00059.txt", "set07/V001/I00029.txt", "set06/V000/I00029.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")

    def check(content: bytes) -> Outcome:
        path.write_bytes(content)

        def plain() -> Rows:
            return [(3, row[:4], row[4]) for row in plain_rows(content, 5) if has_area(row[:4])]

        outcome, _ = _evaluate(folder, path, r"line \d|\(byte \d", detections=root)
        if outcome.code == 0:
            _held_to_plain_detections(folder, root, "", plain)
        return outcome

    _some_of_each(fuzz(broken_text(b"11,21,30,60,0.9\n300 20 40 90 0.75\n"), check, 60))


def test_mutated_text_of_motchallenge(folder: Path) -> None:
    path, truth = folder / "det.txt", folder / "sequence.json"
    images = [{"id": 4 - i, "file_name": f"seq/img1/{i:06}.jpg", "height": 480, "width": 640} for i in (1, 2, 3)]
    truth.write_text(json.dumps({"images": images, "annotations": []}))
    text = "".join(f"{4 - i},-1,{x},{y},{w},{h},{score},-1,-1,-1\n" for i, (x, y, w, h), score in MOT_ROWS)

    def check(content: bytes) -> Outcome:
        path.write_bytes(content)
        outcome, _ = _evaluate(folder, path, r"line \d|\(byte \d", truth=truth, detections=path)
        if outcome.code == 0 and content.strip():
            found = read_ground_truth(truth)
            boxes = read_detections(path, found)
            rows = [row for row in plain_rows(content, 10) if has_area(row[2:6])]
            assert found.image_ids[boxes.image_index].tolist() == [4 - row[0] for row in rows]
            assert boxes.boxes_xywh.tolist() == [row[2:6] for row in rows]
            assert boxes.scores.tolist() == [row[6] for row in rows]
        return outcome

    _some_of_each(fuzz(broken_text(text.encode()), check, 60))


@pytest.mark.parametrize("is_file_broken", [True, False])
def test_mutated_dumps_of_crowddet(folder: Path, is_file_broken: bool) -> None:
    """Broken as a file of lines, or the first line as JSON."""
    path = folder / "dump.odgt"
    records = [
        {
            "ID": name,
            "height": 480,
            "dtboxes": [{"box": list(box), "score": s, "tag": 1} for i, box, s in ROWS if i == id_],
        }
        for name, id_ in NAMES.items()
    ]
    lines = [json.dumps(record) for record in records]

    def check(broken: bytes) -> Outcome:
        content = broken if is_file_broken else broken.replace(b"\n", b" ") + ("\n" + "\n".join(lines[1:])).encode()
        path.write_bytes(content)

        def plain() -> Rows:
            dumps = [plain_json(line) for line in content.split(b"\n") if line.strip()]
            return [
                (NAMES.get(record["ID"], plain_id(record["ID"])), one["box"], float(one["score"]))
                for record in dumps
                for one in record["dtboxes"]
                if one.get("tag") in (None, 1, "person") and has_area(one["box"])
            ]

        return _held_to_plain_detections(folder, path, r"line \d|detections must be|not valid JSON|no box has", plain)

    broken = broken_text("\n".join(lines).encode()) if is_file_broken else broken_json(records[0])
    _some_of_each(fuzz(broken, check, 60))


def test_detections_of_another_data_set_are_rejected(folder: Path) -> None:
    """Shifted ids, files of other images, ground truth and detections swapped."""
    path = folder / "other.json"

    def check(content: bytes) -> Outcome:
        path.write_bytes(content)
        outcome, _ = _evaluate(folder, path, r"detections\[\d|files were swapped", detections=path)
        return outcome

    def moved(step: int) -> bytes:
        return json.dumps([{**one, "image_id": step + i} for i, one in enumerate(DETECTIONS)]).encode()

    others = st.one_of(st.integers(9, 10**6).map(moved), st.just(json.dumps(TRUTH).encode()))
    tally = fuzz(others, check, 10)
    assert tally.read == 0


def test_mutated_ground_truth(folder: Path) -> None:
    path = folder / "broken_truth.json"

    def check(content: bytes) -> Outcome:
        path.write_bytes(content)
        record = (
            r"line \d|(images|annotations|detections|categories)\[\d|must be an object|"
            r"at least one image|not valid JSON \(|is repeated in"
        )
        outcome, result = _evaluate(folder, path, record, truth=path)
        if result is None:
            return outcome
        plain = plain_ground_truth(content)
        truth = read_ground_truth(path)
        assert truth.image_ids.tolist() == sorted(plain["image_ids"])
        assert truth.image_ids[truth.image_index].tolist() == [one["image_id"] for one in plain["boxes"]]
        assert truth.boxes_xywh.tolist() == [one["bbox"] for one in plain["boxes"]]
        for name, key in (("heights", "height"), ("visibilities", "vis_ratio"), ("ignore", "ignore")):
            assert getattr(truth, name).tolist() == [one[key] for one in plain["boxes"]]
        document = {
            "images": [{"id": image_id} for image_id in plain["image_ids"]],
            "annotations": [{**one, "ignore": int(one["ignore"]), "category_id": 1} for one in plain["boxes"]],
        }
        again = _evaluate(folder, path, record, truth=_rewritten(folder / "again.json", document))[1]
        _same_numbers(result, again)
        return outcome

    _some_of_each(fuzz(broken_json(TRUTH), check, 110))


def test_mutated_protocol_files(folder: Path) -> None:
    path = folder / "street.yaml"

    def check(content: bytes) -> Outcome:
        path.write_bytes(content)
        outcome, _ = _evaluate(folder, path, "", protocol=path)
        if outcome.code == 0:
            _held_to_plain_protocol(path, yaml.safe_load(content))
        return outcome

    _some_of_each(fuzz(st.one_of(broken_text(PROTOCOL.encode()), broken_bytes(PROTOCOL.encode())), check, 80))


def _held_to_plain_protocol(path: Path, said: dict[str, Any]) -> None:
    protocol = load_protocol(path)
    # YAML 1.1, which PyYAML reads, takes 1e-10 for text.
    assert protocol.miss_rate_floor == float(said.get("miss_rate_floor", 1e-10))
    for key, default in (("iou_threshold", 0.5), ("height_filter_ratio", 1.25), ("truth_aspect_ratio", None)):
        assert getattr(protocol, key) == _number(said.get(key, default))
    assert protocol.max_detections_per_image == _number(said.get("max_detections_per_image"))
    border = said.get("border_xyxy")
    assert protocol.border_xyxy == (border and tuple(map(float, border)))
    assert protocol.ignored_labels == tuple(said.get("ignored_labels", ()))
    assert [subset.name for subset in protocol.subsets] == [str(subset["name"]) for subset in said["subsets"]]
    for subset, words in zip(protocol.subsets, said["subsets"], strict=True):
        _same_interval(subset.height_range, words["height"], words.get("height_includes_high", True))
        visibility = words.get("visibility", [0, None])
        _same_interval(subset.visibility_range, visibility, words.get("visibility_includes_high", True))


def _same_interval(interval: Interval, bounds: list[Any], includes_high: bool) -> None:
    low, high = bounds
    assert (interval.low, interval.high) == (float(low), math.inf if high is None else float(high))
    assert interval.includes_high == includes_high


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _some_of_each(tally: Tally) -> None:
    """Both outcomes occur, so that neither half of the property is vacuous."""
    assert tally.refused > len(tally.contents) // 3
    assert tally.read >= 3


def test_reference_readers_distinguish_malformed_from_valid_files() -> None:
    assert plain_rows(TEXT.encode())[0] == [1, 11, 21, 30, 60, 0.9]
    with pytest.raises(MalformedError):
        plain_rows(b"1,2,3,4,5\n")
    assert np.isfinite(plain_ground_truth(json.dumps(TRUTH).encode())["boxes"][0]["bbox"]).all()
