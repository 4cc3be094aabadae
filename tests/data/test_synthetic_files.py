"""Generated scenes as files: complete, repeatable, and never written over another data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources import synthetic
from hkd.data.sources.synthetic import (
    FIRST_VALIDATION_INDEX,
    Scene,
    SceneError,
    SceneStyle,
    draw_scene,
    write_scenes,
)


def _write(out_dir: Path, train_images: int = 5, validation_images: int = 3) -> tuple[Path, Path]:
    return write_scenes(
        out_dir,
        train_images=train_images,
        validation_images=validation_images,
        height=96,
        width=128,
        seed=4,
        progress=False,
    )


def test_written_files_contain_scenes(tmp_path: Path) -> None:
    train, validation = _write(tmp_path)
    assert (train, validation) == (tmp_path / "train.json", tmp_path / "validation.json")
    for path, first_index, count in ((train, 0, 5), (validation, FIRST_VALIDATION_INDEX, 3)):
        annotations = read_annotations(path)  # checks every box and image
        assert annotations.notes == ()
        assert len(annotations.images) == count
        for position, record in enumerate(annotations.images):
            scene = draw_scene(4, first_index + position, 96, 128)
            with Image.open(annotations.image_root / record.file_name) as picture:
                assert np.array_equal(np.asarray(picture), scene.image)
            mine = annotations.image_index == position
            assert annotations.boxes_of(position).tolist() == [list(map(float, box.bbox)) for box in scene.boxes]
            assert annotations.visibilities[mine].tolist() == [box.vis_ratio for box in scene.boxes]
            assert annotations.ignore[mine].tolist() == [box.ignore for box in scene.boxes]
            assert annotations.heights[mine].tolist() == [box.bbox[3] for box in scene.boxes]
    document = json.loads(train.read_text())
    assert {box["iscrowd"] <= box["ignore"] for box in document["annotations"]} == {True}


def test_training_and_validation_scenes_differ(tmp_path: Path) -> None:
    _write(tmp_path)
    pictures = [path.read_bytes() for path in sorted((tmp_path / "images").iterdir())]
    assert len(pictures) == 8
    assert len(set(pictures)) == 8


def test_validation_scenes_do_not_depend_on_number_of_training_scenes(tmp_path: Path) -> None:
    _, first = _write(tmp_path / "a")
    _, second = _write(tmp_path / "b", train_images=7)
    assert first.read_bytes() == second.read_bytes()
    name = "validation_000002.png"
    assert (tmp_path / "a/images" / name).read_bytes() == (tmp_path / "b/images" / name).read_bytes()


@pytest.mark.parametrize("name", ["train_images", "validation_images"])
@pytest.mark.parametrize("count", [0, FIRST_VALIDATION_INDEX + 1])
def test_invalid_number_of_scenes_is_rejected(tmp_path: Path, name: str, count: int) -> None:
    with pytest.raises(SceneError, match=rf"{name} is {count}\b.*1 to {FIRST_VALIDATION_INDEX}"):
        _write(tmp_path, **{name: count})
    assert list(tmp_path.iterdir()) == []


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_scenes_can_be_drawn_again(tmp_path: Path) -> None:
    _write(tmp_path)
    before = _files(tmp_path)
    (tmp_path / "images" / "train_000000.png").write_bytes(b"damaged")
    _write(tmp_path)
    assert _files(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"train_images": 4}, "images 5 instead of 4"),
        ({"seed": 5}, "seed 4 instead of 5"),
        ({"width": 130}, "width 128 instead of 130"),
        ({"style": SceneStyle(crowd_probability=0.5)}, "style '"),
    ],
)
def test_scenes_of_other_settings_are_not_replaced(tmp_path: Path, changes: dict[str, Any], difference: str) -> None:
    _write(tmp_path)
    before = _files(tmp_path)
    settings = {"train_images": 5, "validation_images": 3, "height": 96, "width": 128, "seed": 4} | changes
    with pytest.raises(AnnotationError, match=f"train.json: .*{difference}.*folder"):
        write_scenes(tmp_path, progress=False, **settings)
    assert _files(tmp_path) == before


@pytest.mark.parametrize("content", ["{}", "[]", '{"info": {"image_root": "images"}, "images": []}'])
def test_annotations_of_another_set_are_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "validation.json").write_text(content)
    with pytest.raises(AnnotationError, match=r"validation.json: .*another data set"):
        _write(tmp_path)
    assert _files(tmp_path) == {"validation.json": content.encode()}


def test_interrupted_drawing_leaves_previous_files_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path)
    before = _files(tmp_path)

    def interrupted(seed: int, index: int, *arguments: Any) -> Scene:
        if index == FIRST_VALIDATION_INDEX:
            raise KeyboardInterrupt
        # A different picture than the existing one, as a later version of the code might draw.
        return draw_scene(seed + 1, index, *arguments)

    monkeypatch.setattr(synthetic, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path)
    assert _files(tmp_path) == before
