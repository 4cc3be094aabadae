"""Norpix' video container."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.caltech.seq import SeqVideo, open_seq
from tests.data.sources.caltech_writers import ImageArray, compressed_seq, encoded, seq_header

_SIZE = 6, 4
"""Width and height."""


def _pictures(number: int) -> list[ImageArray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (4, 6, 3), dtype=np.uint8) for _ in range(number)]


def _open(tmp_path: Path, data: bytes) -> SeqVideo:
    (tmp_path / "V000.seq").write_bytes(data)
    return open_seq(tmp_path / "V000.seq")


@pytest.mark.parametrize("padding", [0, 8])
@pytest.mark.parametrize(("kind", "image_format", "suffix"), [("JPEG", 201, ".jpg"), ("PNG", 2, ".png")])
def test_compressed_frames_are_copied(tmp_path: Path, padding: int, kind: str, image_format: int, suffix: str) -> None:
    frames = [encoded(picture, kind) for picture in _pictures(3)]
    video = _open(tmp_path, compressed_seq(frames, _SIZE, image_format, padding))
    assert (video.width, video.height, video.suffix) == (*_SIZE, suffix)
    assert (video.frame_count, video.announced_frames) == (3, 3)
    assert [video.encoded(number) for number in (2, 0, 1)] == [frames[2], frames[0], frames[1]]


@pytest.mark.parametrize("announced", [0, 3])
def test_raw_frames_become_png(tmp_path: Path, announced: int) -> None:
    pictures = _pictures(3)
    step = 4 * 6 * 3 + 20
    # Stored as blue, green, red, and a time stamp with padding behind each.
    body = b"".join(picture[:, :, ::-1].tobytes().ljust(step, b"\7") for picture in pictures)
    video = _open(tmp_path, seq_header(_SIZE, 200, announced, step) + body)
    assert (video.suffix, video.frame_count) == (".png", 3)
    for number, picture in enumerate(pictures):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(video.encoded(number)))), picture)


def test_many_small_frames_need_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "V000.seq"
    path.write_bytes(seq_header((1, 1), 100, 0, 1))
    with path.open("r+b") as file:
        file.truncate(1024 + (1 << 33))  # a hole, which occupies no disk space
    video = open_seq(path)
    assert video.frame_count == 1 << 33
    assert np.asarray(Image.open(io.BytesIO(video.encoded((1 << 33) - 1)))).tolist() == [[0]]


def test_raw_grey_frames_become_png(tmp_path: Path) -> None:
    grey = _pictures(1)[0][:, :, 0]
    video = _open(tmp_path, seq_header(_SIZE, 100, 1, 30) + grey.tobytes())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(video.encoded(0)))), grey)


def test_frames_are_counted_if_header_has_no_number(tmp_path: Path) -> None:
    frames = [encoded(picture, "JPEG") for picture in _pictures(4)]
    assert _open(tmp_path, compressed_seq(frames, _SIZE, announced=0)).frame_count == 4
    assert _open(tmp_path, compressed_seq(frames, _SIZE, announced=2)).frame_count == 2


def test_incomplete_frame_is_dropped(tmp_path: Path) -> None:
    frames = [encoded(picture, "JPEG") for picture in _pictures(3)]
    data = compressed_seq(frames, _SIZE)
    video = _open(tmp_path, data[: len(data) - 17])  # 16 bytes follow the last frame
    assert (video.frame_count, video.announced_frames) == (2, 3)
    with pytest.raises(AnnotationError, match="found no frame 2; the video holds frames 0 to 1"):
        video.encoded(2)
    with pytest.raises(AnnotationError, match="found no frame -1"):
        video.encoded(-1)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "does not start with the header of a Norpix"),
        (seq_header(_SIZE, 201, 1)[:1000], "does not start with the header of a Norpix"),
        (bytes(2000), "does not start with the header of a Norpix"),
        (seq_header((0, 4), 201, 1) + bytes(100), "frames of 0 x 4 pixels are announced"),
        (seq_header((1 << 20, 4), 201, 1) + bytes(100), "frames of 1048576 x 4 pixels are announced"),
        (seq_header(_SIZE, 201, 1, bits=10) + bytes(100), "pixels of 10 bits"),
        (seq_header(_SIZE, 101, 1) + bytes(100), "its frames are of format 101"),
        (seq_header(_SIZE, 200, 1, step=5) + bytes(100), "frames of 72 bytes, 5 apart, do not fit 6 x 4"),
        (seq_header(_SIZE, 200, 1, step=80) + bytes(60), "holds no complete frame"),
        (seq_header(_SIZE, 201, 1) + struct.pack("<I", 1 << 31) + bytes(100), "holds no complete frame"),
        (seq_header(_SIZE, 201, 1) + struct.pack("<I", 3) + bytes(100), "holds no complete frame"),
    ],
)
def test_damaged_header_is_reported(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(AnnotationError, match=problem):
        _open(tmp_path, data)


def test_damaged_frame_and_missing_file_are_reported(tmp_path: Path) -> None:
    frames = [encoded(picture, "JPEG") for picture in _pictures(2)]
    video = _open(tmp_path, compressed_seq([frames[0], frames[1][:-2]], _SIZE))
    assert video.encoded(0) == frames[0]
    with pytest.raises(AnnotationError, match="frame 1 is not a complete .jpg image"):
        video.encoded(1)
    video.path.write_bytes(b"short")
    with pytest.raises(AnnotationError, match="frame 0 ends too early"):
        video.encoded(0)
    video.path.unlink()
    with pytest.raises(AnnotationError, match="frame 0 cannot be read .No such file"):
        video.encoded(0)
    with pytest.raises(AnnotationError, match="the file cannot be read .No such file"):
        open_seq(video.path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_raises_annotation_error_or_yields_complete_image(tmp_path: Path, data: st.DataObject) -> None:
    frames = [encoded(picture, "JPEG") for picture in _pictures(2)]
    content = bytearray(compressed_seq(frames, _SIZE))
    places = st.one_of(st.integers(0, len(content) - 1), st.integers(548, 584), st.integers(1024, 1028))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    try:
        video = _open(tmp_path, bytes(content[: data.draw(st.integers(0, len(content)))]))
        images = [video.encoded(number) for number in range(video.frame_count)]
    except AnnotationError:
        return
    assert images
    assert all(image.startswith((b"\xff\xd8", b"\x89PNG")) for image in images)


def test_real_sample_is_read(shared_data: Path) -> None:
    path = shared_data / "caltech" / "sample.seq"
    if not path.is_file():
        pytest.skip(f"no {path}")
    video = open_seq(path)
    # Of its header: 30 colour JPEG frames of 640 x 480 pixels.
    assert (video.width, video.height, video.suffix) == (640, 480, ".jpg")
    assert (video.frame_count, video.announced_frames) == (30, 30)
    for number in (0, 15, 29):
        with Image.open(io.BytesIO(video.encoded(number))) as image:
            image.load()
            assert image.size == (640, 480)
    # Only the time stamp and padding follow the last frame.
    assert video.ends[-1] + 16 == path.stat().st_size
