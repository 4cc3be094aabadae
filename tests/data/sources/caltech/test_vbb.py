"""Caltech's .vbb files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.caltech.vbb import VideoObject, read_vbb, sampled_frames
from tests.data.sources.caltech_writers import video_object, write_vbb


def test_frames_are_sampled_as_in_benchmark() -> None:
    # dbEval: frames 30, 60, 90 counted from 1; the last of 90 frames is one of them, and there is no 30th of 29.
    assert list(sampled_frames(90, 30)) == [29, 59, 89]
    assert list(sampled_frames(29, 30)) == []
    assert list(sampled_frames(7, 3)) == [2, 5]
    assert list(sampled_frames(3, 1)) == [0, 1, 2]


def test_objects_of_sampled_frames_are_read(tmp_path: Path) -> None:
    walker = video_object(1, [10.5, 20, 30, 70], occluded=1, visible=[12, 20, 10, 50])
    crowd = video_object(2, [-3, 0, 5.25, 6])
    write_vbb(tmp_path / "V000.vbb", ["person", "people"], [[crowd], [], [crowd, walker], [], [walker], []])
    read = read_vbb(tmp_path / "V000.vbb", every=3)
    assert read.frame_count == 6
    # Frames 2 and 5, counted from 0, are every third; nobody is in the last.
    assert read.objects == {
        2: (
            VideoObject("people", (-3, 0, 5.25, 6), occluded=False, visible_xywh=(0, 0, 0, 0)),
            VideoObject("person", (10.5, 20, 30, 70), occluded=True, visible_xywh=(12, 20, 10, 50)),
        ),
        5: (),
    }


def test_single_zero_means_unknown_visible_part(tmp_path: Path) -> None:
    write_vbb(tmp_path / "a.vbb", ["person"], [[video_object(1, [1, 2, 3, 4], visible=0)]])
    assert read_vbb(tmp_path / "a.vbb", every=1).objects[0][0].visible_xywh == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": 2}, "frame 1, object 1: id is 2; it must be from 1 to 1"),
        ({"id": 0}, "id is 0; it must be from 1 to 1"),
        ({"id": 1.5}, r"id is \[1.5\]; it must be one whole number"),
        ({"pos": [1, 2, 3]}, "it must be four finite numbers"),
        ({"pos": [1, 2, 3, float("nan")]}, "it must be four finite numbers"),
        ({"pos": [1, 2, 3, float("inf")]}, "it must be four finite numbers"),
        ({"pos": [1, 2, 1e10, 4]}, "frame 1, object 1: pos is .* none beyond 1e9"),
        ({"occl": 2}, "occl is 2; it must be 0 or 1"),
        ({"posv": 7}, "posv is .7.0.; it must be four finite numbers"),
        ({"posv": [1, 2, -3, 4]}, "posv .* must not be below 0"),
    ],
)
def test_invalid_object_is_reported_with_frame(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    right = video_object(1, [1, 2, 3, 4])
    write_vbb(tmp_path / "a.vbb", ["person"], [[right], [right | change]])
    with pytest.raises(AnnotationError, match=problem) as caught:
        read_vbb(tmp_path / "a.vbb", every=1)
    assert caught.value.source == str(tmp_path / "a.vbb")


def test_invalid_objects_are_reported_together(tmp_path: Path) -> None:
    wrong = video_object(9, [1, 2, 3, 4])
    write_vbb(tmp_path / "a.vbb", ["person"], [[wrong], [wrong, wrong]])
    with pytest.raises(AnnotationError) as caught:
        read_vbb(tmp_path / "a.vbb", every=1)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("replaced", "problem"),
    [
        ({"nFrame": 5}, "nFrame is 5, but objLists holds 1 frames"),
        ({"nFrame": "many"}, "expected numbers, found text"),
        ({"objLists": 3.0}, "expected a cell array, found numbers"),
        ({"objLbl": 3.0}, "expected a cell array, found numbers"),
    ],
)
def test_invalid_field_is_reported(tmp_path: Path, replaced: dict[str, Any], problem: str) -> None:
    write_vbb(tmp_path / "a.vbb", ["person"], [[video_object(1, [1, 2, 3, 4])]], **replaced)
    with pytest.raises(AnnotationError, match=problem):
        read_vbb(tmp_path / "a.vbb", every=1)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.unlink(), "the file cannot be read .No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "more than there are; the file is damaged"),
        (lambda path: path.write_text("{}"), "no MAT-file of level 5.*a .vbb of Caltech is needed"),
        (lambda path: path.write_bytes(path.read_bytes()[:128]), "it holds no 'A' .found: nothing."),
    ],
)
def test_other_file_is_rejected(tmp_path: Path, spoil: Callable[[Path], Any], problem: str) -> None:
    write_vbb(tmp_path / "a.vbb", ["person"], [[video_object(1, [1, 2, 3, 4])]])
    spoil(tmp_path / "a.vbb")
    with pytest.raises(AnnotationError, match=problem):
        read_vbb(tmp_path / "a.vbb")
