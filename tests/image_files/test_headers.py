"""Formats, sizes, orientations and limits of image files."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hkd.image_files.headers import ImageFileError, ImageHeader, read_header
from tests.image_files.pictures import exif_of, stored_pixels


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_that_of_upright_picture(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.ascontiguousarray(stored_pixels(orientation))).save(path, exif=exif_of(orientation))
    header = read_header(path)
    assert header == ImageHeader(width=48, height=32, orientation=orientation)
    assert header.stored_size == ((32, 48) if orientation >= 5 else (48, 32))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_undefined_orientation_is_upright(orientation: int, tmp_path: Path) -> None:
    Image.new("RGB", (48, 32)).save(tmp_path / "a.jpg", exif=exif_of(orientation))
    assert read_header(tmp_path / "a.jpg") == ImageHeader(48, 32, 1)


def test_damaged_exif_is_upright(tmp_path: Path) -> None:
    Image.new("RGB", (48, 32)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_header(tmp_path / "a.jpg") == ImageHeader(48, 32, 1)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", "is empty"),
        (b"no image", "does not open as an image; b'no image'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript; PNG"),
        (b"%PDF-1.7", "PDF; PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS; git lfs pull"),
        (b"<!DOCTYPE html><html>", "HTML; download"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC; JPEG"),
        (b"\x00\x05\x16\x07\0\x02\0\0Mac OS X", "AppleDouble; remove"),
    ],
)
def test_file_of_another_kind_is_named(content: bytes, facts: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageFileError) as caught:
        read_header(tmp_path / "a.jpg")
    assert all(fact in str(caught.value) for fact in facts.split("; "))


def test_pipe_and_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageFileError, match="pipe"):
        read_header(tmp_path / "pipe.jpg")
    with pytest.raises(ImageFileError, match="folder"):
        read_header(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "none.jpg")


def test_documents_never_reach_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow renders EPS with the Ghostscript of PATH, whatever the file's name.
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(ImageFileError):
        read_header(tmp_path / "a.png")
    assert not (tmp_path / "executed").exists()


def test_limit_of_pixels_is_exact_and_no_warning_is_raised(tmp_path: Path) -> None:
    # A PNG header of 20,000 x 10,000 pixels, 200 megapixels, without pixels.
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    pixels = b"IDAT"
    data += struct.pack(">I", 0) + pixels + struct.pack(">I", zlib.crc32(pixels))
    (tmp_path / "a.png").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_header(tmp_path / "a.png", 200).width == 20_000
        with pytest.raises(ImageFileError, match=r"20000 x 10000.*200\.0 megapixels.*100.*--max-megapixels"):
            read_header(tmp_path / "a.png")
