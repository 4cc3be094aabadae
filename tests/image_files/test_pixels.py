"""Pixels of image files of all kinds, as 8-bit RGB."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from hkd.image_files.headers import ImageFileError
from hkd.image_files.pixels import read_rgb
from tests.image_files.pictures import exif_of, stored_pixels, upright_pixels


def _read(path: Path, reduced_to: tuple[int, int] | None = None) -> npt.NDArray[np.int16]:
    picture = read_rgb(path, reduced_to=reduced_to)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(np.int16)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    by_suffix: dict[str, dict[str, Any]] = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}
    options = by_suffix.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(stored_pixels(orientation))).save(path, exif=exif_of(orientation), **options)
    # The quadrants' edges lie on JPEG's blocks of 8 pixels, so that only rounding remains.
    assert np.abs(_read(path) - upright_pixels()).max() <= 3


def test_reduced_jpeg_is_upright_and_not_smaller_than_requested(tmp_path: Path) -> None:
    pixels = np.kron(stored_pixels(6), np.ones((8, 8, 1), dtype=np.uint8))
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif_of(6), quality=95)
    read = _read(tmp_path / "a.jpg", reduced_to=(96, 64))  # a quarter of 384 x 256
    assert read.shape == (64, 96, 3)
    assert np.abs(read[::32, ::48] - upright_pixels()[::16, ::24]).max() <= 5


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_is_scaled_to_8_bits(suffix: str, tmp_path: Path) -> None:
    # 65535 / 255 = 257: 257 n is n, 128 below the next level rounds down, 129 below it up.
    stored = np.array([[0, 257, 257 * 128, 257 * 128 + 128, 257 * 128 + 129, 65535]], dtype=np.uint16)
    Image.fromarray(stored).save(tmp_path / f"a{suffix}")
    assert _read(tmp_path / f"a{suffix}")[0, :, 0].tolist() == [0, 1, 128, 128, 129, 255]


def test_big_endian_16_bit_tiff_is_scaled(tmp_path: Path) -> None:
    # Header, one strip of two pixels after eight tags: TIFF 6.0, "MM".
    tags = [(256, 2), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (279, 4)]
    strip = struct.pack(">HH", 65535, 257 * 7)
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    content = b"MM\0*" + struct.pack(">I", 12) + strip + struct.pack(">H", len(tags)) + entries + b"\0\0\0\0"
    (tmp_path / "a.tif").write_bytes(content)
    assert _read(tmp_path / "a.tif")[0, :, 0].tolist() == [255, 7]


@pytest.mark.parametrize(("mode", "kind"), [("I", "integers"), ("F", "floating point")])
def test_32_bit_pixels_are_refused(mode: str, kind: str, tmp_path: Path) -> None:
    Image.new(mode, (4, 3), 7).save(tmp_path / "a.tif")
    with pytest.raises(ImageFileError, match=f"32-bit {kind}"):
        read_rgb(tmp_path / "a.tif")


def test_palette_and_alpha_give_stored_colours(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 10, 20, 30, 220, 40])
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png", transparency=b"\x00\x80")
    Image.fromarray(np.array([[[200, 10, 20, 0], [30, 220, 40, 128]]], dtype=np.uint8)).save(tmp_path / "alpha.png")
    grey = np.array([[[50, 0], [90, 255]]], dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey_alpha.png")
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "binary.png")
    for name in ("palette.png", "alpha.png"):
        assert _read(tmp_path / name).tolist() == [[[200, 10, 20], [30, 220, 40]]]
    assert _read(tmp_path / "grey_alpha.png").tolist() == [[[50] * 3, [90] * 3]]
    assert _read(tmp_path / "binary.png").tolist() == [[[255] * 3, [0] * 3]]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    for mode_suffix in (".tif", ".jpg"):
        # No ink is white, full black ink is black, cyan has no red.
        for ink, rgb in (((0, 0, 0, 0), (255, 255, 255)), ((0, 0, 0, 255), (0, 0, 0)), ((255, 0, 0, 0), (0, 255, 255))):
            Image.new("CMYK", (16, 16), ink).save(tmp_path / f"a{mode_suffix}")
            assert np.abs(_read(tmp_path / f"a{mode_suffix}") - rgb).max() <= 3


def _fixed_point(values: Sequence[float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...]) -> bytes:
    """An RGB matrix profile (ICC.1:2001-04) of these D50 colorants and gamma 2.2."""
    colorants = {b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue, b"wtpt": (0.9642, 1.0, 0.8249)}
    blocks = {name: b"XYZ \0\0\0\0" + _fixed_point(values) for name, values in colorants.items()}
    blocks |= {name: b"curv\0\0\0\0" + struct.pack(">IHH", 1, 563, 0) for name in (b"rTRC", b"gTRC", b"bTRC")}
    blocks[b"cprt"] = b"text\0\0\0\0none"
    blocks[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + b"\0" * 78
    position = 128 + 4 + 12 * len(blocks)
    table, data = struct.pack(">I", len(blocks)), b""
    for name, block in blocks.items():
        padded = block + b"\0" * (-len(block) % 4)
        table += name + struct.pack(">II", position, len(block))
        position += len(padded)
        data += padded
    head = struct.pack(">I4sI4s4s4s", position, b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ") + b"\0" * 12
    head += b"acsp" + b"\0" * 28 + _fixed_point((0.9642, 1.0, 0.8249))
    return head.ljust(128, b"\0") + table + data


SRGB_RED, SRGB_GREEN, SRGB_BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
"""Colorants of sRGB, adapted to D50 (IEC 61966-2-1)."""


def test_colour_profile_is_applied_where_it_matters(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4), (250, 10, 10))
    # Red and green exchanged. Gamma 2.2 takes 10 to (10 / 255)^2.2 = 0.0008, which sRGB writes as 255 * 12.92 * 0.0008
    # = 2.6, and 250 to 0.957, which sRGB writes as 250.
    picture.save(tmp_path / "exchanged.png", icc_profile=_profile(SRGB_GREEN, SRGB_RED, SRGB_BLUE))
    assert np.abs(_read(tmp_path / "exchanged.png") - (2.6, 250, 2.6)).max() <= 1.5
    for profile in (b"damaged", b""):
        picture.save(tmp_path / "damaged.png", icc_profile=profile)
        assert _read(tmp_path / "damaged.png")[0, 0].tolist() == [250, 10, 10]


def test_profile_of_srgb_changes_nothing(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = np.arange(48 * 32 * 3, dtype=np.uint32).reshape(32, 48, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
    assert (_read(tmp_path / "a.png") == pixels).all()


def test_truncated_image_is_reported(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageFileError, match="damaged"):
        read_rgb(tmp_path / "a.png")
