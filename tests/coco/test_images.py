"""Images of annotations: their files, and errors of their records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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


def test_invalid_image_is_not_reported_again_for_its_boxes(write: Callable[[object], Path]) -> None:
    document = document_of_two_images()
    document["images"][0]["height"] = -1
    assert len(reading_error(write(document)).problems) == 1
