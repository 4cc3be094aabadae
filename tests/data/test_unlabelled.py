"""Folders of images without annotations."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hkd.coco.annotations import without_boxes
from hkd.config import DataConfig
from hkd.data import prepare as prepare_module
from hkd.data.prepare import prepare_data
from hkd.data.unlabelled import UnlabelledImagesError, find_images

SIZE = (96, 64)
"""Width and height of all images here: that of the network's input."""


def write_image(path: Path, seed: int, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_set(folder: Path, name: str, seeds: range) -> Path:
    """A set of annotated images: an image and a person for each seed."""
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    for i in seeds:
        write_image(folder / f"{name}{i}.png", i)
        document["images"].append({"id": i, "file_name": f"{name}{i}.png", "width": SIZE[0], "height": SIZE[1]})
        document["annotations"].append({"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 20, 50]})
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """Two training and two validation images, and three unlabelled ones in two folders."""
    for name, seed in (("one/frame1.png", 101), ("one/two/frame2.png", 102), ("frame0.jpg", 103)):
        write_image(tmp_path / "footage" / name, seed)
    return DataConfig(
        train_annotations=write_set(tmp_path / "labelled", "train", range(1, 3)),
        validation_annotations=write_set(tmp_path / "labelled", "val", range(3, 5)),
        unlabelled_images=tmp_path / "footage",
        image_height=SIZE[1],
        image_width=SIZE[0],
        cache_dir=tmp_path / "cache",
    )


def footage(config: DataConfig) -> Path:
    assert isinstance(config.unlabelled_images, Path)
    return config.unlabelled_images


def problem(config: DataConfig) -> str:
    with pytest.raises(UnlabelledImagesError) as raised:
        prepare_data(config, progress=False)
    assert str(raised.value).startswith("data.unlabelled_images: ")
    assert "\n" not in str(raised.value), "one message"
    return str(raised.value)


def test_images_of_all_depths_are_found_and_stored_without_boxes(config: DataConfig) -> None:
    data = prepare_data(config, progress=False)
    assert data.unlabelled is not None
    images, store = data.unlabelled.annotations, data.unlabelled.store
    assert [image.file_name for image in images.images] == ["frame0.jpg", "one/frame1.png", "one/two/frame2.png"]
    assert [image.image_id for image in images.images] == [1, 2, 3]
    assert len(images.boxes_xywh) == 0
    assert isinstance(store.images, np.memmap), "images are not held in memory"
    with Image.open(footage(config) / "one/frame1.png") as picture:
        assert (store.images[1] == np.asarray(picture)).all()
    assert prepare_data(config.model_copy(update={"unlabelled_images": None}), progress=False).unlabelled is None


def test_hidden_files_and_linked_folders_are_noted(config: DataConfig, tmp_path: Path) -> None:
    write_image(footage(config) / ".trash" / "old.png", 7)
    write_image(tmp_path / "elsewhere" / "frame.png", 8)
    (footage(config) / "linked").symlink_to(tmp_path / "elsewhere")
    images = find_images(footage(config))
    assert len(images.images) == 3
    notes = "\n".join(map(str, images.notes))
    assert "1 hidden image file not used" in notes
    assert "old.png" in notes
    assert "1 link to a folder not followed" in notes


@pytest.mark.parametrize(
    ("spoil", "facts"),
    [
        (lambda folder: folder.rename(folder.with_name("moved")), ["footage'", "No such file", "exists"]),
        (lambda folder: [p.unlink() for p in folder.rglob("*.*")], ["no image files", ".jpg", "name a folder"]),
        (lambda folder: [p.rename(p.with_suffix(".txt")) for p in folder.rglob("*.*")], ["no image files"]),
        (lambda folder: [p.write_bytes(b"") for p in folder.rglob("*.*")], ["3 of 3", "frame1.png' is empty"]),
        (lambda folder: (folder / "one/frame1.png").write_text("text"), ["1 of 3", "frame1.png'", "does not open"]),
        (lambda folder: (folder / "gone.png").symlink_to("nothing"), ["1 of 4", "gone.png' is a link to no file"]),
        (lambda folder: (folder / "a:30.png").write_bytes(b""), ["1 of 4", "a:30.png' has a name", "rename it"]),
        (lambda folder: os.mkfifo(folder / "pipe.png"), ["1 of 4", "pipe.png' is a pipe"]),
    ],
)
def test_unusable_folders(config: DataConfig, spoil: Any, facts: list[str]) -> None:
    spoil(footage(config))
    message = problem(config)
    for fact in facts:
        assert fact in message


def test_folder_is_found_unusable_before_scenes_are_drawn(tmp_path: Path) -> None:
    config = DataConfig(unlabelled_images=tmp_path / "absent", cache_dir=tmp_path / "cache")
    assert "absent'" in problem(config)
    assert not (tmp_path / "cache").exists()


def test_file_in_place_of_folder(config: DataConfig) -> None:
    file = footage(config) / "frame0.jpg"
    assert "frame0.jpg' is a file; name a folder" in problem(config.model_copy(update={"unlabelled_images": file}))


def test_folder_that_cannot_be_listed(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("two"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr("os.scandir", scandir)
    message = problem(config)
    assert "one/two' (Permission denied)" in message
    assert "make it readable" in message


def test_five_unreadable_files_are_named_and_others_counted(config: DataConfig) -> None:
    for number in range(7):
        (footage(config) / f"bad{number}.png").write_bytes(b"")
    message = problem(config)
    assert "7 of 10" in message
    assert [f"bad{number}.png" in message for number in range(7)] == [True] * 5 + [False] * 2
    assert "and 2 more" in message


def test_image_whose_pixels_do_not_decode_is_reported(config: DataConfig) -> None:
    path = write_image(footage(config) / "cut.png", 9)
    path.write_bytes(path.read_bytes()[:3000])  # the header is complete
    with pytest.raises(ValueError, match=r"footage.*cut\.png' is damaged"):
        prepare_data(config, progress=False)


def test_copies_of_validation_images_are_refused(config: DataConfig, tmp_path: Path) -> None:
    copy = footage(config) / "one" / "another name.png"
    copy.write_bytes((tmp_path / "labelled" / "val3.png").read_bytes())
    message = problem(config)
    assert "1 image with the file of a validation image" in message
    assert "another name.png' is" in message
    assert "val3.png'" in message
    assert not (tmp_path / "cache").exists(), "found before images are decoded"
    copy.unlink()
    # The folder that holds all of the data set.
    assert "val4.png" in problem(config.model_copy(update={"unlabelled_images": tmp_path}))


def test_validation_pixels_in_another_format_are_refused(config: DataConfig, tmp_path: Path) -> None:
    with Image.open(tmp_path / "labelled" / "val3.png") as picture:
        picture.save(footage(config) / "copy.bmp")
        changed = np.asarray(picture).copy()
    changed[17, 3] ^= 1  # a row that is compared last
    Image.fromarray(changed).save(footage(config) / "similar.bmp")
    message = problem(config)
    assert "1 image with the pixels of a validation image" in message
    assert "copy.bmp" in message
    assert "similar.bmp" not in message


def test_files_of_training_images_are_left_out_with_a_note(config: DataConfig, tmp_path: Path) -> None:
    (footage(config) / "a.png").write_bytes((tmp_path / "labelled" / "train1.png").read_bytes())
    data = prepare_data(config, progress=False)
    assert data.unlabelled is not None
    images = data.unlabelled.annotations
    assert [image.file_name for image in images.images] == ["frame0.jpg", "one/frame1.png", "one/two/frame2.png"]
    assert [image.image_id for image in images.images] == [1, 2, 3]
    (note,) = images.notes
    assert "1 training image left out" in str(note)
    assert "a.png" in str(note)


def test_folder_of_training_images_alone_is_refused(config: DataConfig, tmp_path: Path) -> None:
    for number in (3, 4):
        (tmp_path / "labelled" / f"val{number}.png").rename(tmp_path / f"val{number}.png")
    everything = json.loads((tmp_path / "labelled" / "val.json").read_text())
    (tmp_path / "val.json").write_text(json.dumps(everything))
    update = {"unlabelled_images": tmp_path / "labelled", "validation_annotations": tmp_path / "val.json"}
    assert "training images alone (2)" in problem(config.model_copy(update=update))


def test_images_found_before_are_neither_searched_for_nor_compared_again(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (footage(config) / "a.png").write_bytes((tmp_path / "labelled" / "train1.png").read_bytes())
    first = prepare_data(config, progress=False).unlabelled
    assert first is not None
    for name in ("find_images", "check_copies", "without_training_files", "check_pixels"):
        monkeypatch.setattr(prepare_module, name, lambda *_, **__: pytest.fail("repeated"))
    again = prepare_data(config, progress=False, unlabelled=first.annotations.images).unlabelled
    assert again is not None
    assert again.annotations.content_hash() == first.annotations.content_hash()
    assert again.store.checksum == first.store.checksum
    # As on another machine.
    (footage(config) / "one/frame1.png").unlink()
    with pytest.raises(UnlabelledImagesError, match=r"data\.unlabelled_images: 1 of 3 .*frame1\.png'; restore"):
        prepare_data(config, progress=False, unlabelled=first.annotations.images)


def test_images_larger_than_the_limit_are_refused(config: DataConfig) -> None:
    with pytest.raises(UnlabelledImagesError, match=r"limit of 0\.001 megapixels"):
        find_images(footage(config), 0.001)


def test_set_without_boxes() -> None:
    images = without_boxes([], Path("folder"))
    assert (images.path, images.image_root, images.boxes_xywh.shape) == (None, Path("folder"), (0, 4))
