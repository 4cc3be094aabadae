"""Splits are checked, written and counted together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.splits import Split
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.writing import write_splits


def _split(name: str, *annotations: dict[str, Any], width: int = 40) -> Split:
    """A split of one image, ``<name>.png``, 30 pixels high."""
    image = {"id": 1, "file_name": f"{name}.png", "height": 30, "width": width}
    return Split(name, [image], [{"image_id": 1, **annotation} for annotation in annotations])


@pytest.fixture
def image_root(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for name in ("train", "test"):
        Image.new("RGB", (40, 30)).save(root / f"{name}.png")
    return root


def _write(splits: list[Split], image_root: Path, **arguments: Any) -> ConversionSummary:
    settings: dict[str, Any] = {"check_images": True, "problems": (), "source": "street"} | arguments
    return write_splits(splits, image_root.parent / "out", image_root, **settings)


def test_splits_are_written_and_counted(image_root: Path) -> None:
    train = _split(
        "train",
        {"bbox": [1, 2, 3, 4]},
        {"bbox": [5, 5, 9, 9], "ignore": 1, "label": "people"},
        {"bbox": [6, 5, 9, 9], "ignore": 1, "label": "people"},
        {"bbox": [35, 5, 9, 9], "ignore": 1, "label": "person?"},  # to x = 44, four pixels beyond the image
    )
    test = _split("test", {"bbox": [1, 2, 3, 4], "label": "cyclist"}, {"bbox": [1, 2, 3, 4], "iscrowd": 1})
    summary = _write([train, test], image_root, notes=[Note("boxes_of_other_categories", 1, "dropped a wheel")])
    out = image_root.parent / "out"
    assert summary.paths == (out / "train.json", out / "test.json")
    assert (summary.images, summary.boxes, summary.ignored) == (2, 6, 4)
    assert list(summary.ignored_by_label.items()) == [("people", 2), ("person?", 1), ("no label", 1)]
    assert str(summary).splitlines() == [
        "2 images, 6 boxes, 4 of them ignored",
        "  ignored as people    2",
        "  ignored as person?   1",
        "  ignored as no label  1",
        "dropped a wheel",
        f"train: {summary.changes[1].removeprefix('train: ')}",
        f"wrote {out / 'train.json'}",
        f"wrote {out / 'test.json'}",
    ]
    assert summary.changes[1].startswith(
        "train: clipped 1 of 4 boxes that reach outside their image, by up to 4 pixels"
    )
    counts = [(split.name, split.images, split.boxes, split.ignored) for split in summary.splits]
    assert counts == [("train", 1, 4, 3), ("test", 1, 2, 1)]
    report = json.loads(json.dumps(summary.to_json()))
    assert [(note["kind"], note["count"], note["split"]) for note in report["notes"]] == [
        ("boxes_of_other_categories", 1, None),
        ("boxes_clipped", 1, "train"),
    ]
    assert report["splits"][0]["ignored_by_label"] == {"people": 2, "person?": 1}
    records = read_annotations(summary.paths[0]).coco_records()
    assert [record.get("label") for record in records] == [None, "people", "people", "person?"]
    assert records[3]["bbox"] == [35, 5, 9, 9]  # as annotated


def test_summary_escapes_labels(image_root: Path) -> None:
    summary = _write([_split("train", {"bbox": [1, 2, 3, 4], "ignore": 1, "label": "\ud800é\x1b[31m\n"})], image_root)
    # A control sequence would colour the terminal, a line break would imitate a line of ours.
    assert str(summary).splitlines()[1] == "  ignored as \\ud800é\\x1b[31m\\n  1"
    assert str(AnnotationError(["image '\x1b[31m.png' is absent"], "a\nb")) == (
        "a\\nb: image '\\x1b[31m.png' is absent"
    )


def test_all_problems_are_reported_together_and_nothing_is_written(image_root: Path) -> None:
    _write([_split("train", {"bbox": [1, 2, 3, 4]}), _split("test")], image_root)
    out = image_root.parent / "out"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    faulty = [_split("train", {"bbox": [1, 2, -3, 4]}), _split("test", width=41)]
    with pytest.raises(AnnotationError) as caught:
        _write(faulty, image_root, problems=["labels.txt, line 7: is no label"])
    assert caught.value.source == "street"
    assert len(caught.value.problems) == 3
    assert caught.value.problems[0] == "labels.txt, line 7: is no label"
    assert caught.value.problems[1].startswith('train: "bbox" must be ')
    assert "the last two at least 0" in caught.value.problems[1]
    assert "annotations[0] (id 1, image_id 1) has [1, 2, -3, 4]" in caught.value.problems[1]
    assert caught.value.problems[2].startswith("test: image 1 ")
    assert "is 40 x 30 pixels (width x height), but annotated as 41 x 30" in caught.value.problems[2]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_problem_of_all_splits_is_reported_once(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError) as caught:
        _write([_split("train"), _split("test")], tmp_path / "nowhere")
    (problem,) = caught.value.problems
    assert problem.startswith("the images' folder ")


def test_conversion_without_splits_is_rejected(image_root: Path) -> None:
    with pytest.raises(AnnotationError, match="street: there is nothing to convert"):
        _write([], image_root)


def test_folder_at_path_of_second_file_leaves_first_unchanged(image_root: Path) -> None:
    out = image_root.parent / "out"
    (out / "test.json").mkdir(parents=True)
    old = json.dumps({"images": [{"file_name": "train.png"}]})
    (out / "train.json").write_text(old)
    with pytest.raises(IsADirectoryError):
        _write([_split("train"), _split("test")], image_root)
    assert (out / "train.json").read_text() == old
    assert sorted(path.name for path in out.iterdir()) == ["test.json", "train.json"]


def _two_images(name: str, second: str) -> Split:
    split = _split(name)
    return Split(name, [*split.images, {"id": 2, "file_name": second, "height": 30, "width": 40}], [])


def test_annotations_of_another_data_set_are_not_replaced(image_root: Path) -> None:
    out = image_root.parent / "out"
    _write([_split("train"), _split("test")], image_root)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = Split("train", [{"id": 1, "file_name": "street.png", "height": 30, "width": 40}], [])
    for splits in ([other], [Split("test", other.images, []), other]):
        with pytest.raises(AnnotationError, match=r"train.json' .*1 other images; .*--out"):
            _write(splits, image_root, check_images=False)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / "train.json").write_text("of somebody")
    with pytest.raises(AnnotationError, match=r"train.json' .*no file of annotations; .*--out"):
        _write([_split("train")], image_root)
    assert (out / "train.json").read_text() == "of somebody"


def test_number_of_lost_images_is_reported(image_root: Path) -> None:
    assert _write([_two_images("train", "more/a.png"), _split("test")], image_root, check_images=False).changes == ()
    # The same images in other folders, then one of them less, then other ones in each of the two splits.
    assert _write([_two_images("train", "a.png")], image_root, check_images=False).changes == ()
    (one_less,) = _write([_split("train")], image_root).changes
    assert "train.json" in one_less
    assert "1 of its 2 images" in one_less
    swapped = [Split("train", _split("test").images, []), Split("test", _split("train").images, [])]
    assert len(_write(swapped, image_root).changes) == 2


def test_unchecked_images_may_be_missing(tmp_path: Path) -> None:
    summary = _write([_split("train", {"bbox": [1, 2, 3, 4]})], tmp_path / "nowhere", check_images=False)
    assert json.loads(summary.paths[0].read_text())["info"]["image_root"] == "../nowhere"
