"""Reading, checking and writing of annotations."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.errors import AnnotationError
from hkd.coco.reading import read_bounded
from hkd.coco.writing import write_annotations
from hkd.data import annotations as annotations_module


def _document() -> dict[str, Any]:
    return {
        "info": {"image_root": "pictures"},
        "images": [
            {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
            {"id": 3, "file_name": "sub/b.png", "height": 30, "width": 20},
        ],
        "categories": [{"id": 1, "name": "pedestrian"}, {"id": 2, "name": "rider"}],
        "annotations": [
            {"id": 0, "image_id": 3, "category_id": 1, "bbox": [1, 2, 10, 20], "vis_bbox": [1, 2, 10, 5]},
            {"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, 0, 5, 10], "vis_ratio": 0.75, "height": 12},
        ],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    """Writes a document beside two images that fit :func:`_document`; returns its path."""
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(tmp_path / "pictures" / "a.png")
    Image.new("RGB", (20, 30)).save(tmp_path / "pictures" / "sub" / "b.png")

    def write_document(document: object) -> Path:
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return write_document


def _error(path: Path) -> AnnotationError:
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(f"{path}: ")
    return caught.value


def test_reads_every_field(write: Callable[[object], Path]) -> None:
    path = write(_document())
    annotations = read_annotations(path)
    assert annotations.path == path
    assert annotations.image_root == path.parent / "pictures"
    assert [(i.image_id, i.file_name, i.height, i.width) for i in annotations.images] == [
        (7, "a.png", 40, 60),
        (3, "sub/b.png", 30, 20),
    ]
    assert annotations.image_index.tolist() == [1, 0]
    assert annotations.boxes_xywh.tolist() == [[1, 2, 10, 20], [0, 0, 5, 10]]
    # (10 * 5) / (10 * 20) of the first is visible; the second states its own.
    assert annotations.vis_ratio.tolist() == [0.25, 0.75]
    assert annotations.heights.tolist() == [20, 12]
    assert annotations.ignore.tolist() == [False, True]  # a rider is no pedestrian
    assert annotations.boxes_of(0).tolist() == [[0, 0, 5, 10]]
    assert annotations.mended == ()


def test_raw_is_a_document_of_one_category_numbered_from_one(write: Callable[[object], Path]) -> None:
    annotations = read_annotations(write(_document()))
    raw = annotations.raw()
    assert [image["id"] for image in raw["images"]] == [7, 3]
    assert raw["categories"] == [{"id": 1, "name": "pedestrian"}]
    assert raw["annotations"] == [
        {
            "id": 1,
            "image_id": 3,
            "category_id": 1,
            "bbox": [1, 2, 10, 20],
            "vis_bbox": [1, 2, 10, 5],
            "vis_ratio": 0.25,
            "height": 20,
            "ignore": 0,
            "iscrowd": 0,
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 1,
            "bbox": [0, 0, 5, 10],
            "vis_ratio": 0.75,
            "height": 12,
            "ignore": 1,
            "iscrowd": 0,
        },
    ]
    raw["annotations"][0]["bbox"][0] = 99  # an evaluator may change what it was given
    assert annotations.raw()["annotations"][0]["bbox"][0] == 1


def test_boxes_are_clipped_for_training_but_not_for_evaluation(write: Callable[[object], Path]) -> None:
    document = _document()
    document["annotations"][0]["bbox"] = [-4, 25, 10, 20]  # on a 20 x 30 image
    annotations = read_annotations(write(document))
    # x: -4..6 -> 0..6; y: 25..45 -> 25..30, 15 pixels below the edge.
    assert annotations.boxes_xywh[0].tolist() == [0, 25, 6, 5]
    assert annotations.heights[0] == 20
    assert annotations.raw()["annotations"][0]["bbox"] == [-4, 25, 10, 20]
    (sentence,) = annotations.mended
    assert sentence.startswith("clipped 1 of 2 boxes that reach outside their image, by up to 15 pixels")
    assert "annotations[0]" in sentence


def test_label_and_occlusion_are_kept(write: Callable[[object], Path], tmp_path: Path) -> None:
    document = _document()
    document["annotations"][0] |= {"label": "person?", "occluded": 1, "ignore": 1}
    document["annotations"][1] |= {"occluded": False}
    annotations = read_annotations(write(document))
    first, second = annotations.raw()["annotations"]
    assert (first["label"], first["occluded"]) == ("person?", 1)
    assert (second.get("label"), second["occluded"]) == (None, 0)
    path = tmp_path / "again.json"
    write_annotations(path, annotations.raw()["images"], annotations.raw()["annotations"], "pictures")
    assert read_annotations(path).raw() == annotations.raw()


def test_a_width_beside_the_height_is_the_images(write: Callable[[object], Path]) -> None:
    document = _document()
    document["annotations"][0] |= {"width": 20, "height": 30}
    annotations = read_annotations(write(document))
    # The box of 10 x 20 pixels in an image of 20 x 30; the other annotation states a person's height alone.
    assert annotations.heights.tolist() == [20, 12]
    (told,) = annotations.mended
    assert told.startswith("1 annotations state a width beside their height")


def test_flags_may_be_true_and_false(write: Callable[[object], Path]) -> None:
    document = _document()
    document["annotations"][0] |= {"ignore": True, "iscrowd": False}
    document["annotations"][1] |= {"ignore": False, "iscrowd": True, "category_id": 1}
    annotations = read_annotations(write(document))
    assert annotations.ignore.tolist() == [True, True]
    flags = [(record["ignore"], record["iscrowd"]) for record in annotations.raw()["annotations"]]
    assert flags == [(1, 0), (1, 1)]
    assert all(type(flag) is int for pair in flags for flag in pair)  # as evaluators expect


def test_crowds_are_ignored(write: Callable[[object], Path]) -> None:
    document = _document()
    document["annotations"][0]["iscrowd"] = 1
    assert read_annotations(write(document)).ignore.tolist() == [True, True]


@pytest.mark.parametrize(
    ("categories", "ignored"),
    [
        ([{"id": 1, "name": "Person"}, {"id": 2, "name": "car"}], [False, True]),
        ([{"id": 1, "name": "person"}, {"id": 2, "name": "pedestrian"}], [True, False]),
        ([{"id": 2, "name": "pedestrian"}, {"id": 1, "name": "rider"}], [True, False]),
    ],
)
def test_category_is_found_by_name(
    write: Callable[[object], Path], categories: list[dict[str, Any]], ignored: list[bool]
) -> None:
    assert read_annotations(write(_document() | {"categories": categories})).ignore.tolist() == ignored


def test_an_only_category_needs_no_known_name(write: Callable[[object], Path]) -> None:
    document = _document() | {"categories": [{"id": 1, "name": "walker"}]}
    document["annotations"][1]["category_id"] = 1
    assert read_annotations(write(document)).ignore.tolist() == [False, False]
    document["categories"] = [{"id": 1, "name": "walker"}, {"id": 2, "name": "car"}]
    assert "must be named 'pedestrian' or 'person'; found {1: 'walker', 2: 'car'}" in str(_error(write(document)))


def test_a_category_id_is_used_once(write: Callable[[object], Path]) -> None:
    document = _document()
    document["categories"].append({**document["categories"][0], "name": "car"})
    assert "its id 1 is used before; ids are unique" in str(_error(write(document)))


def test_image_without_boxes_and_set_without_boxes_are_fine(write: Callable[[object], Path]) -> None:
    annotations = read_annotations(write(_document() | {"annotations": []}))
    assert annotations.boxes_xywh.shape == (0, 4)
    assert annotations.boxes_of(1).shape == (0, 4)
    assert annotations.raw()["annotations"] == []


def test_image_root_override_and_citypersons_image_names(write: Callable[[object], Path], tmp_path: Path) -> None:
    document = _document()
    del document["info"]
    document["images"] = [{"id": 7, "im_name": "b.png", "height": 30, "width": 20}]
    document["annotations"] = []
    path = write(document)
    annotations = read_annotations(path, tmp_path / "pictures" / "sub")
    assert annotations.images[0].file_name == "b.png"
    assert "b.png': there is no such file" in str(_error(path))  # by default the JSON file's own folder
    assert read_annotations(path, check_images=False).image_root == tmp_path


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([float("nan"), 2, 10, 20], "holds a number that is not finite"),
        ([1, 2, float("inf"), 20], "holds a number that is not finite"),
        ([1, 2, 1e10, 20], "beyond 1e9 pixels"),
        ([1, 2, -10, 20], "must have a width and a height above 0"),
        ([1, 2, 10, 0], "must have a width and a height above 0"),
        ([20, 2, 10, 20], "lies wholly outside its image"),  # the image is 20 wide
        ([-10, 2, 10, 20], "lies wholly outside its image"),
        ([1, 2, 10], "is not four numbers"),
        ([1, 2, 10, "20"], "is not four numbers"),
        ([1, 2, 10, True], "is not four numbers"),
        (None, "is not four numbers"),
        ([1, 2, 10, 10**400], "is not four numbers"),
    ],
)
def test_bad_box(write: Callable[[object], Path], box: object, problem: str) -> None:
    document = _document()
    document["annotations"][0]["bbox"] = box
    error = _error(write(document))
    assert len(error.problems) == 1
    assert error.problems[0].startswith("annotations[0] (id 0, image 3): bbox ")
    assert problem in error.problems[0]


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("annotations", 0, "image_id"), 4, "annotations[0] (id 0, image 4): its image is not among the 'images'"),
        (("annotations", 0, "id"), 5, "annotations[1] (id 5, image 7): its id is used before"),
        (("annotations", 0, "id"), "x", "annotations[0] (id 'x', image 3): 'id' must be an integer"),
        (("annotations", 0, "category_id"), 9, "annotations[0] (id 0, image 3): category_id 9 is not among"),
        (("annotations", 1, "vis_ratio"), 1.5, "vis_ratio is 1.5; it must be a number from 0 to 1"),
        (("annotations", 1, "vis_ratio"), float("nan"), "vis_ratio is nan; it must be a number from 0 to 1"),
        (("annotations", 1, "height"), -3, "height is -3; it must be a finite number of pixels above 0"),
        (
            ("annotations", 1, "height"),
            1e10,
            "height is 10000000000.0; it must be a finite number of pixels above 0, at",
        ),
        (("annotations", 1, "ignore"), 2, "ignore is 2; it must be 0 or 1"),
        (("annotations", 1, "ignore"), float("nan"), "ignore is nan; it must be 0 or 1"),
        (("annotations", 1, "occluded"), 0.5, "occluded is 0.5; it must be 0 or 1"),
        (("annotations", 1, "occluded"), [1], "occluded is [1]; it must be 0 or 1"),
        (("annotations", 1, "label"), 3, "label is 3; it must be a text, or absent for a pedestrian"),
        (("annotations", 1, "label"), "", "label is ''; it must be a text"),
        (("annotations", 1, "iscrowd"), "no", "iscrowd is 'no'; it must be 0 or 1"),
        (("annotations", 0, "vis_bbox"), [1, 2, -1, 3], "vis_bbox [1, 2, -1, 3] is not four finite numbers"),
        (("annotations", 0), 3, "annotations[0] is a int; it must be an object"),
        (("images", 0, "id"), "seven", "images[0] needs an integer 'id'"),
        (("images", 0, "file_name"), None, "images[0] needs an integer 'id' and a text 'file_name'"),
        (("images", 0, "height"), 0, "image 7 'a.png': height and width must be integers of at least 1"),
        (("images", 0, "id"), 2**63, "images[0] needs an integer 'id'"),
        (("images", 0, "width"), 10**400, "image 7 'a.png': height and width must be integers of at least 1"),
        (("images", 0, "width"), 60.5, "image 7 'a.png': height and width must be integers of at least 1"),
        (("images", 0, "file_name"), "../a.png", "file_name '../a.png' leaves the image root"),
        (("images", 0, "file_name"), "sub/../../a.png", "leaves the image root"),
        (("images", 0, "file_name"), "/etc/a.png", "leaves the image root"),
        (("images", 0, "file_name"), "..\\a.png", "leaves the image root"),
        (("images", 0, "file_name"), "c.png", "c.png': there is no such file"),
        (("images", 0, "file_name"), "a\0.png", "does not open as an image (embedded null byte)"),
        (("images", 1, "id"), 7, "image id 7 is given to both 'a.png' and 'sub/b.png'"),
        (("images", 0, "width"), 61, "a.png' is 60 x 40 pixels (width x height), but annotated as 61 x 40"),
        (("images", 0), [], "images[0] is a list; it must be an object"),
        (("categories", 1), {"id": 2}, "categories[1] needs an integer 'id' and a text 'name'"),
        (("info", "image_root"), 5, "info.image_root is 5; it must be the path"),
        (("images",), [], "'images' is empty"),
        (("images",), {}, "'images' is a dict; it must be a list"),
    ],
)
def test_bad_record(write: Callable[[object], Path], place: tuple[Any, ...], value: object, problem: str) -> None:
    document = _document()
    part: Any = document
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    assert any(problem in sentence for sentence in _error(write(document)).problems)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_key(write: Callable[[object], Path], key: str) -> None:
    document = _document()
    del document[key]
    assert _error(write(document)).problems == (f"'{key}' is missing; it must be a list, as in COCO JSON",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "line 1, column 1: not valid JSON"),
        (b'{"images": [\n{"id": 1', "line 2, column 9: not valid JSON"),
        (b"[]", "the top level is a list; it must be an object"),
        (
            b'{"images": [], "images": [1]}',
            'the key "images" stands twice in the object {"images": [], "images": [1]};',
        ),
        (b'{"images": "\xff\xfe\xfd"}', "not valid JSON (UnicodeDecodeError)"),
        (b"[" + b"9" * 5000 + b"]", "not valid JSON (ValueError)"),
        (b"[" * 100_000, "not valid JSON (RecursionError)"),
    ],
)
def test_file_that_is_no_document(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(content)
    assert problem in str(_error(path))


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "there is no such file" in str(_error(tmp_path / "none.json"))
    assert "cannot be read" in str(_error(tmp_path))


def test_image_that_does_not_open(write: Callable[[object], Path]) -> None:
    path = write(_document())
    (path.parent / "pictures" / "a.png").write_bytes(b"not a picture")
    (sentence,) = _error(path).problems
    assert "a.png' does not open as an image" in sentence
    assert len(read_annotations(path, check_images=False).images) == 2


def test_visibility_may_pass_one_by_rounding(write: Callable[[object], Path]) -> None:
    document = _document()
    document["annotations"][1]["vis_ratio"] = 1 + 1e-9
    annotations = read_annotations(write(document))
    assert annotations.vis_ratio[1] == 1
    assert annotations.raw()["annotations"][1]["vis_ratio"] == 1


def test_missing_and_empty_image_folder(write: Callable[[object], Path], tmp_path: Path) -> None:
    path = write(_document())
    with pytest.raises(AnnotationError, match=r"folder '.*nowhere' cannot be listed .*set image_root"):
        read_annotations(path, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"folder '.*empty' is empty; put the images there"):
        read_annotations(path, tmp_path / "empty")


def test_all_problems_come_together_and_twenty_are_listed(write: Callable[[object], Path]) -> None:
    document = _document()
    document["images"][0]["width"] = 61
    document["annotations"] = [
        {"id": number, "image_id": 7, "category_id": 1, "bbox": [1, 2, -1, 3]} for number in range(30)
    ]
    error = _error(write(document))
    assert len(error.problems) == 31
    lines = str(error).splitlines()
    assert lines[0].endswith("annotations.json: 31 problems:")
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "- and 11 more"


def test_a_faulty_image_is_not_reported_again_at_its_boxes(write: Callable[[object], Path]) -> None:
    document = _document()
    document["images"][0]["height"] = -1
    assert len(_error(write(document)).problems) == 1


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(AnnotationError(["first", "second"], "file.json")))
    assert error.problems == ("first", "second")
    assert str(error) == "file.json: 2 problems:\n- first\n- second"


def test_content_hash_follows_content_not_place(write: Callable[[object], Path], tmp_path: Path) -> None:
    def digest(document: dict[str, Any]) -> str:
        return read_annotations(write(document), check_images=False).content_hash()

    first = digest(_document())
    assert digest(_document() | {"info": {"image_root": "elsewhere"}}) == first
    for part, key, value in (("annotations", "bbox", [1, 2, 10, 19]), ("images", "file_name", "z.png")):
        changed = _document()
        changed[part][0][key] = value
        assert digest(changed) != first


def test_what_is_written_reads_back_completed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "train.json"
    images = [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}]
    write_annotations(
        path,
        images,
        [{"image_id": 1, "bbox": [1, 2, 3, 4]}, {"image_id": 1, "bbox": [1, 2, 3, 4], "ignore": 1, "vis_ratio": 0.5}],
        "pictures",
    )
    annotations = read_annotations(path, check_images=False)
    assert annotations.image_root == tmp_path / "new" / "folder" / "pictures"
    assert [record["id"] for record in annotations.raw()["annotations"]] == [1, 2]
    assert annotations.heights.tolist() == [4, 4]
    assert annotations.vis_ratio.tolist() == [1, 0.5]
    assert annotations.ignore.tolist() == [False, True]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_annotations(path, [], [{"image_id": 1, "bbox": [1, 2, 3, float("nan")]}], ".")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def citypersons(shared_data: Path) -> tuple[Annotations, dict[str, Any]]:
    path = shared_data / "citypersons" / "val_gt.json"
    if not path.is_file():
        pytest.skip(f"no CityPersons ground truth at {path}")
    return read_annotations(path, check_images=False), json.loads(path.read_text())


def test_citypersons_is_read_as_its_evaluation_server_has_it(citypersons: tuple[Annotations, dict[str, Any]]) -> None:
    annotations, document = citypersons
    assert len(annotations.images) == 500
    assert annotations.boxes_xywh.shape == (5795, 4)
    assert annotations.raw()["annotations"] == document["annotations"]  # its ids run from 1 already
    assert annotations.ignore.tolist() == [bool(record["ignore"]) for record in document["annotations"]]


def test_citypersons_boxes_beyond_the_image_are_clipped(citypersons: tuple[Annotations, dict[str, Any]]) -> None:
    annotations, document = citypersons
    boxes = np.array([record["bbox"] for record in document["annotations"]])
    # All its images are 2048 x 1024.
    beyond = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, :2] + boxes[:, 2:] > [2048, 1024]).any(axis=1)
    assert annotations.mended[0].startswith(f"clipped {beyond.sum()} of 5795 boxes")
    high = annotations.boxes_xywh[:, :2] + annotations.boxes_xywh[:, 2:]
    assert annotations.boxes_xywh[:, :2].min() == 0
    assert high.max(axis=0).tolist() == [2048, 1023]


def test_the_improved_caltech_annotations_are_read(shared_data: Path) -> None:
    path = shared_data / "caltech" / "new_annotations_test.json"
    if not path.is_file():
        pytest.skip(f"no improved Caltech annotations at {path}")
    document = json.loads(path.read_text())
    annotations = read_annotations(path, check_images=False)
    # Its only category is called "pedestrain", and its flags are true and false.
    assert len(annotations.images) == 4024
    assert annotations.ignore.tolist() == [record["iscrowd"] for record in document["annotations"]]


def test_visibility_of_a_visible_box_is_not_written_as_whole(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.png", "height": 40, "width": 60}
    boxes = [
        {"image_id": 1, "bbox": [1, 2, 10, 20], "vis_bbox": [1, 2, 10, 5]},
        {"image_id": 1, "bbox": [1, 2, 10, 20]},
    ]
    write_annotations(tmp_path / "a.json", [image], boxes, ".")
    # 10 x 5 of 10 x 20 pixels; and 1 where nothing is known.
    assert read_annotations(tmp_path / "a.json", check_images=False).vis_ratio.tolist() == [0.25, 1]


def test_files_larger_than_annotations_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(bytes(5))
    monkeypatch.setattr(annotations_module, "read_bounded", lambda path: read_bounded(path, 4))
    with pytest.raises(AnnotationError, match="the file cannot be read .it is larger than 4 bytes"):
        read_annotations(tmp_path / "a.json")


def test_no_memory_for_a_document_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(content: bytes) -> object:
        raise MemoryError(len(content))

    monkeypatch.setattr(annotations_module, "load_json", out_of_memory)
    with pytest.raises(AnnotationError, match=r"a.json: it takes more memory than there is"):
        annotations_module.parse_json(b"[]", "a.json")
