"""Images of annotations: their files, and errors of their records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from tests.coco.conftest import document_of_two_images, reading_error


def test_image_that_does_not_open_is_reported(write: Callable[[object], Path]) -> None:
    path = write(document_of_two_images())
    (path.parent / "pictures" / "a.png").write_bytes(b"not a picture")
    (sentence,) = reading_error(path).problems
    assert "a.png' does not open as an image" in sentence
    assert len(read_annotations(path, check_images=False).images) == 2


def test_missing_and_empty_image_folder_are_reported(write: Callable[[object], Path], tmp_path: Path) -> None:
    path = write(document_of_two_images())
    with pytest.raises(AnnotationError, match=r"folder '.*nowhere' cannot be listed .*set image_root"):
        read_annotations(path, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"folder '.*empty' is empty; put the images there"):
        read_annotations(path, tmp_path / "empty")


def test_backslashes_separate_folders_unless_a_file_has_that_name(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["images"][1]["file_name"] = "sub\\b.png"
    path = write(document)
    assert [image.file_name for image in read_annotations(path).images] == ["a.png", "sub/b.png"]
    (path.parent / "pictures" / "sub" / "b.png").rename(path.parent / "pictures" / "sub\\b.png")
    assert [image.file_name for image in read_annotations(path).images] == ["a.png", "sub\\b.png"]


@pytest.mark.parametrize("name", ["C:\\pictures\\a.png", "\\\\host\\share\\a.png", "sub\\..\\..\\a.png", "C:a.png"])
def test_paths_of_windows_that_leave_the_image_root_are_reported(write: Callable[[object], Path], name: str) -> None:
    document = document_of_two_images()
    document["images"][0]["file_name"] = name
    (problem,) = reading_error(write(document)).problems
    assert all(fact in problem for fact in ('"file_name"', "relative to the image root", "images[0]"))


def test_invalid_image_is_not_reported_again_for_its_boxes(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["images"][0]["height"] = -1
    assert len(reading_error(write(document)).problems) == 1


def _rotate(path: Path, name: str, size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(path.parent / "pictures" / name, exif=exif)


def test_rotated_image_is_read_upright_and_counted(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    path = write(document)
    first = document["images"][0]
    _rotate(path, first["file_name"], (first["height"], first["width"]), 6)
    (note,) = read_annotations(path).notes
    assert (note.kind, note.count) == ("images_turned_upright", 1)
    assert "orientation 6" in note.sentence


def test_size_of_stored_pixels_is_refused_with_orientation(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    path = write(document)
    first = document["images"][0]
    _rotate(path, first["file_name"], (first["width"], first["height"]), 8)
    (sentence,) = reading_error(path).problems
    for fact in (
        "EXIF orientation 8",
        f"upright it is {first['height']} x {first['width']}",
        f"annotated as {first['width']} x {first['height']}",
        "remove the orientation",
    ):
        assert fact in sentence


def test_image_beyond_the_limit_of_megapixels_is_refused(write: Callable[[object], Path]) -> None:
    path = write(document_of_two_images())
    sizes = sorted(image["width"] * image["height"] for image in document_of_two_images()["images"])
    assert len(read_annotations(path, max_megapixels=sizes[1] / 1e6).images) == 2
    with pytest.raises(AnnotationError, match=r"more than the limit .*data\.max_megapixels"):
        read_annotations(path, max_megapixels=(sizes[1] - 1) / 1e6)
