"""The CityPersons converter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.citypersons import mat
from hkd.data.sources.citypersons.convert import convert
from hkd.evaluation.evaluator import evaluate_files

_LINDAU = "lindau_000000_000019_leftImg8bit.png"
_ULM = "ulm_000001_000019_leftImg8bit.png"


def _write_mat(path: Path, images: Sequence[tuple[Any, Any, Any]]) -> None:
    """One cell per image, with a struct of city, file name and rows."""
    cells = np.empty((1, len(images)), dtype=object)
    for number, (city, name, rows) in enumerate(images):
        one = np.empty((1, 1), dtype=[("cityname", object), ("im_name", object), ("bbs", object)])
        one[0, 0] = (city, name, np.array(rows))
        cells[0, number] = one
    scipy.io.savemat(path, {path.stem + "_aligned": cells}, do_compression=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images, the first with a box of every class, the last with none."""
    root = tmp_path / "cityscapes"
    root.mkdir()
    rows = [[kind, 100 * kind - 10, 20, 40, 90, 24000, 100 * kind - 10, 20, 40, 60] for kind in range(6)]
    _write_mat(root / "anno_train.mat", [("ulm", _ULM, rows)])
    _write_mat(root / "anno_val.mat", [("lindau", _LINDAU, rows[1:2]), ("lindau", "lindau_2.png", np.zeros((0, 0)))])
    for path in (f"train/ulm/{_ULM}", f"val/lindau/{_LINDAU}", "val/lindau/lindau_2.png"):
        (root / "leftImg8bit" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2048, 1024)).save(root / "leftImg8bit" / path)
    return root


def _document(path: Path) -> Any:
    return json.loads(path.read_text())


def test_classes_boxes_and_paths_are_converted(root: Path, tmp_path: Path) -> None:
    summary = convert(root, tmp_path / "out", progress=False)
    assert summary.paths == (tmp_path / "out" / "train.json", tmp_path / "out" / "val.json")
    assert (summary.images, summary.boxes, summary.ignored) == (3, 7, 5)
    train = _document(summary.paths[0])
    assert train["images"] == [{"id": 1, "file_name": f"train/ulm/{_ULM}", "height": 1024, "width": 2048}]
    # Classes 0 to 5 in order; the README of the data set: 1 pedestrian, 5 a group, and val_gt.json's names.
    assert [(one.get("label"), one["ignore"], one["iscrowd"]) for one in train["annotations"]] == [
        ("ignore region", 1, 0),
        (None, 0, 0),
        ("rider", 1, 0),
        ("sitting person", 1, 0),
        ("other person", 1, 0),
        ("people group", 1, 1),
    ]
    pedestrian = train["annotations"][1]
    assert (pedestrian["bbox"], pedestrian["vis_bbox"]) == ([90, 20, 40, 90], [90, 20, 40, 60])
    # 60 of 90 rows are visible: 2/3 to twelve digits, as val_gt.json has it.
    assert (pedestrian["height"], pedestrian["vis_ratio"]) == (90, 0.666666666667)
    assert len(read_annotations(summary.paths[1]).images) == 2
    # The first box reaches 10 pixels out of the image on the left: it is written as annotated, and the reader reports
    # it.
    assert train["annotations"][0]["bbox"] == [-10, 20, 40, 90]
    assert "clipped 1 of 6 boxes that reach outside their image, by up to 10 pixels" in summary.changes[0]


def test_val_gt_json_replaces_mat_file(root: Path, tmp_path: Path) -> None:
    (root / "anno_train.mat").unlink()
    (root / "anno_val.mat").unlink()
    box = {"id": 1, "image_id": 5, "category_id": 1, "iscrowd": 0, "ignore": 1, "bbox": [1, 2, 3, 4]}
    document = {
        "categories": [{"id": 1, "name": "pedestrian"}, {"id": 2, "name": "rider"}],
        "images": [{"id": 5, "im_name": _LINDAU, "height": 1024, "width": 2048}],
        "annotations": [{**box, "vis_bbox": [1, 2, 3, 2], "height": 4, "vis_ratio": 0.5}],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "val_gt.json").write_text(json.dumps(document))
    summary = convert(root, tmp_path / "out", progress=False)
    (path,) = summary.paths
    read = read_annotations(path)
    assert [(image.image_id, image.file_name) for image in read.images] == [(5, f"val/lindau/{_LINDAU}")]
    assert (read.ignore.tolist(), read.visibilities.tolist(), read.heights.tolist()) == ([True], [0.5], [4])
    document["images"][0]["im_name"] = "lindau.png"
    (root / "annotations" / "val_gt.json").write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match="image 'lindau.png' does not start with its city"):
        convert(root, tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (("ulm", _ULM, [[1, 2, 3, 4, 5, 6, 7, 8, 9]]), "bbs is of 1 x 9 numbers; it must have 10 columns"),
        (("ulm", _ULM, [[7, 0, 0, 9, 9, 0, 0, 0, 9, 9]]), r"row 1: found \[7.0, .*a class from 0 to 5"),
        (("ulm", _ULM, [[1, 0, np.nan, 9, 9, 0, 0, 0, 9, 9]]), "row 1: .*ten finite numbers"),
        (("ulm", _ULM, [[1, 0, np.inf, 9, 9, 0, 0, 0, 9, 9]]), "row 1: .*ten finite numbers"),
        (("ulm", _ULM, [[1, 0, 0, 9, 9, 0, 0, 0, 1e200, 1e200]]), "row 1: .*ten finite numbers, none beyond 1e9"),
        (("ulm", _ULM, [[1, 0, 0, 9, 9, 0, 0, 0, -9, 9]]), "row 1: .*these not below 0"),
        (("..", "../../secret.png", [[1, 0, 0, 9, 9, 0, 0, 0, 9, 9]]), "names without folders"),
        (("..", _ULM, [[1, 0, 0, 9, 9, 0, 0, 0, 9, 9]]), "relative to the image root"),
        (("", _ULM, [[1, 0, 0, 9, 9, 0, 0, 0, 9, 9]]), "names without folders"),
        (("ulm", 5.0, [[1, 0, 0, 9, 9, 0, 0, 0, 9, 9]]), "expected text, found numbers"),
        (("lindau", _LINDAU, [[1, 0, 0, 9, 9, 0, 0, 0, 9, 9]]), f"'{_LINDAU}' is a duplicate"),
    ],
)
def test_malformed_image_is_reported(root: Path, tmp_path: Path, image: tuple[Any, Any, Any], problem: str) -> None:
    _write_mat(root / "anno_val.mat", [("lindau", _LINDAU, np.zeros((0, 0))), image])
    with pytest.raises(AnnotationError, match=problem):
        convert(root, tmp_path / "out", annotations_only=True, progress=False)
    assert not (tmp_path / "out").exists()


def test_mat_file_without_images_is_reported(root: Path, tmp_path: Path) -> None:
    _write_mat(root / "anno_val.mat", [])
    with pytest.raises(AnnotationError, match="anno_val.mat: it holds no image"):
        convert(root, tmp_path / "out", annotations_only=True, progress=False)


def test_all_problems_are_reported_together(root: Path, tmp_path: Path) -> None:
    (root / "anno_train.mat").write_bytes(b"none")
    wrong = [[9, 0, 0, 9, 9, 0, 0, 0, 9, 9]] * 2
    _write_mat(root / "anno_val.mat", [("lindau", _LINDAU, wrong)])
    shutil.rmtree(root / "leftImg8bit")
    with pytest.raises(AnnotationError) as caught:
        convert(root, tmp_path / "out", progress=False)
    train, first, second, images = caught.value.problems
    assert train.startswith(f"{root / 'anno_train.mat'}: it is no MAT-file of level 5")
    assert first.startswith(f"{root / 'anno_val.mat'}, image 1 ('{_LINDAU}'), row 1: found [9.0")
    assert second.startswith(f"{root / 'anno_val.mat'}, image 1 ('{_LINDAU}'), row 2: found [9.0")
    assert images.startswith("found no folder leftImg8bit")


def test_too_many_boxes_are_rejected(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat, "LARGEST_ROWS", 5)
    with pytest.raises(AnnotationError, match=r"anno_train.mat, image 1: the file holds more than 5 boxes"):
        convert(root, tmp_path / "out", progress=False)


def test_progress_bar_can_be_disabled(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(root, tmp_path / "out", progress=False)
    assert capsys.readouterr().err == ""


def test_invalid_file_is_reported(root: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"found no gtBboxCityPersons.*anno_train.mat.*val_gt.json"):
        convert(tmp_path / "nowhere", tmp_path / "out", annotations_only=True, progress=False)
    scipy.io.savemat(root / "anno_val.mat", {"a": 1, "b": 2})
    with pytest.raises(AnnotationError, match="it holds 2 variables, where one is expected"):
        convert(root, tmp_path / "out", progress=False)
    scipy.io.savemat(root / "anno_val.mat", {"a": 1})
    with pytest.raises(AnnotationError, match="expected a cell array, found numbers; CityPersons' anno_val.mat"):
        convert(root, tmp_path / "out", progress=False)


def _write_official(folder: Path, image: str, objects: Any, **changes: Any) -> Path:
    """The official release's file of one image; ``image`` is as in ``val/lindau/lindau_000000_000019``."""
    path = folder / f"{image}_gtBboxCityPersons.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"imgHeight": 1024, "imgWidth": 2048, "objects": objects, **changes}))
    return path


def _object(label: str, **changes: Any) -> dict[str, Any]:
    return {"instanceId": 24000, "bbox": [947, 406, 17, 40], "bboxVis": [950, 407, 14, 39], "label": label, **changes}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """The official release: an image with an object of every label, one without objects, and their images."""
    root = tmp_path / "official"
    labels = ("pedestrian", "rider", "sitting person", "person (other)", "person group", "ignore")
    _write_official(root / "gtBboxCityPersons", "val/lindau/lindau_000000_000019", [_object(one) for one in labels])
    _write_official(root / "gtBboxCityPersons", "val/frankfurt/frankfurt_000001_000000", [])
    for name in ("lindau/lindau_000000_000019", "frankfurt/frankfurt_000001_000000"):
        path = root / "leftImg8bit" / "val" / f"{name}_leftImg8bit.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (2048, 1024)).save(path)
    return root


def test_official_release_is_read(official: Path, tmp_path: Path) -> None:
    summary = convert(official, tmp_path / "out", progress=False)
    assert (summary.images, summary.boxes, summary.ignored, summary.notes) == (2, 6, 5, ())
    document = _document(summary.paths[0])
    # Ids by city and name: frankfurt is first.
    assert [(image["id"], image["file_name"]) for image in document["images"]] == [
        (1, "val/frankfurt/frankfurt_000001_000000_leftImg8bit.png"),
        (2, f"val/lindau/{_LINDAU}"),
    ]
    assert [(one.get("label"), one["ignore"], one["iscrowd"]) for one in document["annotations"]] == [
        (None, 0, 0),
        ("rider", 1, 0),
        ("sitting person", 1, 0),
        ("other person", 1, 0),
        ("people group", 1, 1),
        ("ignore region", 1, 0),
    ]
    pedestrian = document["annotations"][0]
    assert (pedestrian["image_id"], pedestrian["bbox"], pedestrian["vis_bbox"]) == (
        *(2, [947, 406, 17, 40]),
        [950, 407, 14, 39],
    )
    # 14 x 39 of 17 x 40 pixels: 546 / 680, to twelve digits.
    assert (pedestrian["height"], pedestrian["vis_ratio"]) == (40, 0.802941176471)


@pytest.mark.parametrize(
    ("annotations", "images", "given"),
    [
        ("gtBbox_cityPersons_trainval/gtBboxCityPersons", "leftImg8bit_trainvaltest/leftImg8bit", "."),
        ("gtBboxCityPersons", "leftImg8bit", "gtBboxCityPersons"),
        ("annotations/gtBboxCityPersons", "leftImg8bit", "."),
    ],
)
def test_folders_of_archives_are_found(
    official: Path, tmp_path: Path, annotations: str, images: str, given: str
) -> None:
    root = tmp_path / "moved"
    for folder, place in (("gtBboxCityPersons", annotations), ("leftImg8bit", images)):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (official / folder).rename(root / place)
    (root / "leftImg8bit_trainvaltest" / "__MACOSX" / "leftImg8bit").mkdir(parents=True)
    summary = convert(root / given, tmp_path / "out", progress=False)
    assert (summary.images, summary.boxes) == (2, 6)
    assert read_annotations(summary.paths[0]).image_root.resolve() == (root / images).resolve()


def test_several_folders_of_annotations_are_reported(official: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(official / "gtBboxCityPersons", tmp_path / "both" / name / "gtBboxCityPersons")
    with pytest.raises(AnnotationError, match="several folders gtBboxCityPersons: .*/a/.*/b/.*; move the one"):
        convert(tmp_path / "both", tmp_path / "out", annotations_only=True, progress=False)


def test_hidden_official_files_are_left_out(official: Path, tmp_path: Path) -> None:
    city = official / "gtBboxCityPersons" / "val" / "lindau"
    (city / "._lindau_000000_000019_gtBboxCityPersons.json").write_bytes(b"\0\5\x16\7")
    shutil.copytree(city, city.parent / ".ipynb_checkpoints")
    summary = convert(official, tmp_path / "out", progress=False)
    assert (summary.images, summary.boxes) == (2, 6)
    (note,) = summary.notes
    assert (note.kind, note.count) == ("files_hidden", 3)


def test_missing_images_are_left_out_and_ids_remain(official: Path, tmp_path: Path) -> None:
    (official / "leftImg8bit/val/frankfurt/frankfurt_000001_000000_leftImg8bit.png").unlink()
    _write_official(official / "gtBboxCityPersons", "train/ulm/ulm_000001_000019", [_object("pedestrian")])
    with pytest.raises(AnnotationError, match=r"val: 1 of its 2 .*frankfurt_000001_000000.*--skip-missing"):
        convert(official, tmp_path / "out", progress=False)
    summary = convert(official, tmp_path / "out", skip_missing=True, progress=False)
    assert [path.name for path in summary.paths] == ["val.json"]
    assert [(note.kind, note.count, note.split) for note in summary.notes] == [
        ("splits_missing", 1, "train"),
        ("images_missing", 1, "val"),
    ]
    document = _document(summary.paths[0])
    assert [image["id"] for image in document["images"]] == [2]
    assert {one["image_id"] for one in document["annotations"]} == {2}
    shutil.rmtree(official / "leftImg8bit" / "val")
    with pytest.raises(AnnotationError, match="none of the 3 annotated images is in .*ulm_000001_000019_leftImg8bit"):
        convert(official, tmp_path / "other", progress=False)
    assert convert(official, tmp_path / "out", annotations_only=True, progress=False).images == 3


def test_boxes_without_area_are_counted_in_images_that_exist(official: Path, tmp_path: Path) -> None:
    empty = _object("pedestrian", bbox=[5, 5, 0, 40])
    for name in ("lindau_000000_000019", "lindau_000009_000019"):  # there is no image of the second
        _write_official(official / "gtBboxCityPersons", f"val/lindau/{name}", [empty, _object("rider")])
    summary = convert(official, tmp_path / "out", skip_missing=True, progress=False)
    dropped = [note for note in summary.notes if note.kind == "boxes_without_area"]
    assert [note.count for note in dropped] == [1]


def test_one_of_several_annotations_is_read_and_named(root: Path, tmp_path: Path) -> None:
    _write_official(root / "gtBboxCityPersons", "val/lindau/lindau_000000_000019", [])
    summary = convert(root, tmp_path / "out", progress=False)
    (note,) = [note for note in summary.notes if note.kind == "annotations_not_read"]
    assert "anno_val.mat" in note.sentence.split("not read")[0]
    assert "1 files *_gtBboxCityPersons.json" in note.sentence.split("not read")[1]
    assert summary.boxes == 7  # those of the .mat files


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "it must be an object with imgWidth, imgHeight and a list 'objects'"),
        ({"objects": {}}, "and a list 'objects'"),
        ({"imgWidth": 1024, "imgHeight": 512, "objects": []}, "is 1024 x 512; CityPersons' images are 2048 x 1024"),
        ({"imgHeight": 1024, "objects": []}, "imgWidth x imgHeight is null x 1024"),
        ([3], r"objects\[0\] is 3; it must be an object with label"),
        ([_object("car")], r'objects\[0\]: label is "car"; it must be one of ignore, pedestrian, rider'),
        ([{**_object("pedestrian"), "label": None}], "label is null; it must be one of"),
        ([_object("pedestrian", bbox=[1, 2, 3])], r"bbox is \[1, 2, 3\]; it must be \[x, y, width, height\]"),
        ([_object("pedestrian", bbox=[1, 2, 3, float("nan")])], "bbox is .*NaN"),
        ([_object("pedestrian", bboxVis=None)], "bboxVis is null"),
        ([_object("pedestrian", bboxVis=[1, 2, -3, 4])], r"bboxVis is \[1, 2, -3, 4\]"),
    ],
)
def test_malformed_official_file_is_reported(official: Path, tmp_path: Path, content: Any, problem: str) -> None:
    place = official / "gtBboxCityPersons", "val/lindau/lindau_000000_000019"
    path = _write_official(*place, content)
    if isinstance(content, dict) or not content:
        path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=problem) as caught:
        convert(official, tmp_path / "out", progress=False)
    (sentence,) = caught.value.problems
    assert sentence.startswith(str(path))
    assert not (tmp_path / "out").exists()


def test_spelling_of_labels_and_byte_order_mark_do_not_matter(official: Path, tmp_path: Path) -> None:
    objects = [_object("Pedestrian"), _object(" person  (other) ")]
    path = _write_official(official / "gtBboxCityPersons", "val/lindau/lindau_000000_000019", objects)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    summary = convert(official, tmp_path / "out", progress=False)
    assert (summary.boxes, dict(summary.ignored_by_label)) == (2, {"other person": 1})


def test_official_release_equals_real_mat_file(shared_data: Path, tmp_path: Path) -> None:
    """The rows of the real anno_val.mat, written as the official release has them, convert to the same annotations."""
    folder = shared_data / "citypersons"
    if not folder.is_dir():
        pytest.skip(f"no CityPersons annotations at {folder}")
    labels = {0: "ignore", 1: "pedestrian", 2: "rider", 3: "sitting person", 4: "person (other)", 5: "person group"}
    for cell in scipy.io.loadmat(folder / "anno_val.mat")["anno_val_aligned"][0]:
        city, image, rows = (cell[0, 0][key] for key in ("cityname", "im_name", "bbs"))
        objects = [
            {"instanceId": row[5], "bbox": row[1:5], "bboxVis": row[6:], "label": labels[row[0]]}
            for row in rows.tolist()
        ]
        stem = str(image[0]).removesuffix("_leftImg8bit.png")
        _write_official(tmp_path / "gtBboxCityPersons" / "val" / str(city[0]), stem, objects)
    official = convert(tmp_path, tmp_path / "official", annotations_only=True, progress=False)
    (tmp_path / "mat").mkdir()
    (tmp_path / "mat" / "anno_val.mat").symlink_to(folder / "anno_val.mat")
    mat = convert(tmp_path / "mat", tmp_path / "from_mat", annotations_only=True, progress=False)
    assert (official.images, official.boxes) == (500, 5795)
    assert {**_document(official.paths[0]), "info": None} == {**_document(mat.paths[0]), "info": None}
    result = evaluate_files(official.paths[0], folder / "detections_csp_dla34_siblinghead.json", "citypersons")
    # As the benchmark's script evaluates val_gt.json, see tests/golden/test_citypersons_miss_rates.py.
    assert result.subsets[0].log_average_miss_rate == pytest.approx(0.11346899607698208, abs=1e-9, rel=0)


def test_real_mat_file_equals_val_gt_json(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "citypersons"
    if not folder.is_dir():
        pytest.skip(f"no CityPersons annotations at {folder}")
    summary = convert(folder, tmp_path, annotations_only=True, progress=False)
    train, val = (_document(path) for path in summary.paths)
    theirs = _document(folder / "val_gt.json")
    assert (len(train["images"]), len(train["annotations"])) == (2975, 27770)
    assert (len(val["images"]), len(val["annotations"])) == (500, 5795)
    assert [(image["id"], image["file_name"].split("/")[2]) for image in val["images"]] == [
        (image["id"], image["im_name"]) for image in theirs["images"]
    ]
    # Every number and flag of every box, in the same order: id, image, box, visible box, visibility, ignore, crowd.
    for ours, reference in zip(val["annotations"], theirs["annotations"], strict=True):
        assert {key: ours[key] for key in reference} == reference
    # val_gt.json alone reads as the same.
    (tmp_path / "json").mkdir()
    shutil.copy(folder / "val_gt.json", tmp_path / "json")
    alone = convert(tmp_path / "json", tmp_path / "out", annotations_only=True, progress=False)
    keys = set(theirs["annotations"][0])
    assert [{key: one[key] for key in keys} for one in _document(alone.paths[0])["annotations"]] == [
        {key: one[key] for key in keys} for one in theirs["annotations"]
    ]
