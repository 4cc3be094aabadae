"""Image files that are malformed on purpose: each is read or refused with one message, and starts no other program."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from hkd.image_files.headers import ImageFileError, read_header
from hkd.image_files.pixels import read_rgb


def _noise(count: int) -> bytes:
    return np.random.default_rng(1).bytes(count)


def _encoded(file_format: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(width: int, height: int, *chunks: bytes, pixels: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", zlib.compress(pixels)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _tiff(*tags: tuple[int, int, int, int], next_directory: int = 0) -> bytes:
    """One directory of (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_directory)


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, width, height, 1, 24, 0) + bytes(20)


def _jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A grey progressive JPEG file; the table of AC codes has the code 1 alone, "no more values in 2^14 blocks"."""
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\1\x11\0"
    tables = b"\xff\xdb\0\x43\0" + b"\1" * 64 + b"\xff\xc4\0\x14\x10\1" + bytes(15) + b"\xe0"
    blocks = (width + 7) // 8 * ((height + 7) // 8)
    bits = ("0" + "1" * 14) * -(-blocks // 32767)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + tables + frame + (b"\xff\xda\0\x08\1\1\0\1\x3f\0" + data) * scans + b"\xff\xd9"


_ZEROS = zlib.compress(bytes(1 << 26))
"""64 MiB in 64 KiB."""
_PLAIN_TIFF = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8))

HOSTILE: dict[str, Callable[[], bytes]] = {
    "eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%id) (w) file\n",
    "eps_with_binary_header": lambda: b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, 99) + bytes(20) + b"%!PS-Adobe\n",
    "pdf": lambda: b"%PDF-1.7\n1 0 obj<</OpenAction<</S/Launch>>>>endobj",
    "svg": lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    "svg_bomb": lambda: b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
    "photoshop": lambda: b"8BPS" + bytes(60),
    "windows_metafile": lambda: b"\xd7\xcd\xc6\x9a" + bytes(60),
    "fits": lambda: b"SIMPLE  =                    T" + bytes(60),
    "hdf5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(60),
    "icns": lambda: b"icns" + struct.pack(">I", 1 << 31) + b"ic10",
    "xbm": lambda: b"#define a_width 100000\n#define a_height 100000\nstatic char a_bits[] = {0};",
    "im": lambda: b"Image type: L 32F image\r\nImage size (x*y): 99999999*99999999\r\n",
    "empty": lambda: b"",
    "one_byte": lambda: b"\x89",
    "git_lfs_pointer": lambda: b"version https://git-lfs.github.com/spec/v1\n",
    "html": lambda: b"<!DOCTYPE html><html><body>404</body></html>",
    "heic": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
    "pickle": lambda: b"cos\nsystem\n(S'id'\ntR.",
    "png_of_two_gigapixels": lambda: _png(65_535, 32_768),
    "png_of_most_pixels": lambda: _png(2**31 - 1, 2**31 - 1),
    "png_without_pixels": lambda: _png(0, 0),
    "png_of_negative_size": lambda: _png(2**32 - 1, 5),
    "png_of_missing_rows": lambda: _png(64, 48, pixels=bytes(10)),
    "png_of_surplus_rows": lambda: _png(4, 4, pixels=bytes(1 << 24)),
    "png_of_unknown_depth": lambda: _png(4, 4, depth=7, pixels=bytes(64)),
    "png_palette_missing": lambda: _png(4, 4, colour=3, pixels=bytes(64)),
    "png_text_bomb": lambda: _png(4, 4, _chunk(b"zTXt", b"a\0\0" + _ZEROS), pixels=bytes(52)),
    "png_many_text_bombs": lambda: _png(4, 4, *[_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 19)))] * 200),
    "png_profile_bomb": lambda: _png(4, 4, _chunk(b"iCCP", b"a\0\0" + _ZEROS), pixels=bytes(52)),
    "png_wrong_checksum": lambda: _png(4, 4, pixels=bytes(52)).replace(b"IHDR\0\0\0\x04", b"IHDR\0\0\0\x05"),
    "png_chunk_of_four_gigabytes": lambda: _png(4, 4)[:33] + b"\xff\xff\xff\xffIDAT" + bytes(50),
    "png_exif_of_noise": lambda: _png(4, 4, _chunk(b"eXIf", _noise(500)), pixels=bytes(52)),
    "tiff_circle_of_directories": lambda: _tiff(*_PLAIN_TIFF, next_directory=8),
    "tiff_of_most_pixels": lambda: _tiff((256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1), *_PLAIN_TIFF[2:]),
    "tiff_of_gigabyte_strip": lambda: _tiff(*_PLAIN_TIFF, (279, 4, 1, 2**31)),
    "tiff_of_absurd_count": lambda: _tiff(*_PLAIN_TIFF[:5], (273, 4, 2**31, 8)),
    "tiff_without_tags": _tiff,
    "tiff_of_unknown_compression": lambda: _tiff(*_PLAIN_TIFF[:3], (259, 3, 1, 9999), *_PLAIN_TIFF[4:]),
    "tiff_exif_pointing_to_itself": lambda: _tiff(*_PLAIN_TIFF, (34665, 4, 1, 8)),
    "bmp_of_most_pixels": lambda: (
        b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0) + bytes(20)
    ),
    "bmp_of_negative_height": lambda: b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 4, -(2**31), 1, 24, 0) + bytes(20),
    "gif_of_most_pixels": lambda: (
        b"GIF89a\xff\xff\xff\xff\0\0\0," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\0;"
    ),
    "ppm_of_most_pixels": lambda: b"P6 99999999 99999999 255\n",
    "ppm_of_long_number": lambda: b"P6 " + b"9" * 5000 + b" 1 255\n",
    "webp_of_noise": lambda: b"RIFF" + struct.pack("<I", 500) + b"WEBPVP8L" + _noise(490),
    "avif_of_noise": lambda: b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + _noise(400),
    "jpeg2000_of_noise": lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + _noise(400),
    "jpeg_of_markers": lambda: b"\xff\xd8" + b"\xff\xfe\x00\x02" * 10_000,
    "jpeg_of_a_hundred_thousand_scans": lambda: _jpeg_of_scans(8000, 8000, 100_000),
    "png_of_a_hundred_million_rows": lambda: _png(1, 99_000_000),
    "jpeg_exif_of_noise": lambda: _encoded("JPEG", exif=b"Exif\0\0" + bytes(range(256))),
    "jpeg_profile_of_noise": lambda: _encoded("JPEG", icc_profile=bytes(range(256)) * 4),
    "jpeg_thumbnails_without_end": lambda: _encoded(
        "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x11\x01\x04\0\x01\0\0\0\x08"
    ),
    **{
        f"{name.lower()}_cut_to_{percent}_per_cent": (
            lambda name=name, percent=percent: (data := _encoded(name))[: len(data) * percent // 100]  # type: ignore[misc]
        )
        for name in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM")
        for percent in (20, 90)
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_image_is_refused_or_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in ("gs", "convert", "inkscape", "pdftoppm"):
        (programs / program).write_text(f"#!/bin/sh\ntouch '{tmp_path}/executed'\n")
        (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    path = tmp_path / "a.jpg"
    path.write_bytes(HOSTILE[name]())
    message = "-"
    try:
        header = read_header(path)
        picture = read_rgb(path)
    except ImageFileError as error:
        message = str(error)
    else:
        assert picture.size == (header.width, header.height)
        assert picture.mode == "RGB"
    assert 0 < len(message) < 600
    assert "\n" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "programs"]


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/full", "/dev/null", ".", "a.jpg", "missing"])
def test_link_to_what_is_no_image_is_refused_at_once(target: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(target)
    with pytest.raises((ImageFileError, FileNotFoundError)):
        read_rgb(tmp_path / "a.jpg")


def test_pixels_beyond_the_limit_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(_png(20_000, 6_000))

    def decode(self: PngImagePlugin.PngImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decode)
    with pytest.raises(ImageFileError, match="120.0 megapixels"):
        read_rgb(tmp_path / "a.png")


def test_scans_are_counted_in_the_image_alone(tmp_path: Path) -> None:
    # The marker's two bytes occur by chance in a thumbnail, a comment or a video behind the image.
    marker = b"\xff\xda" * 200
    plain = _encoded("JPEG", progressive=True)
    for content in (plain + marker, plain[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(marker)) + marker + plain[2:]):
        (tmp_path / "a.jpg").write_bytes(content)
        assert read_rgb(tmp_path / "a.jpg").size == (64, 48)
    # 100 scans are read, 101 are not, whatever stands between them.
    (tmp_path / "a.jpg").write_bytes(_jpeg_of_scans(64, 48, 100))
    assert read_rgb(tmp_path / "a.jpg").size == (64, 48)
    for between in (b"", b"\xff" * 9, b"\xff\xfe\0\x06\xff\xd9\0\0"):
        parts = _jpeg_of_scans(64, 48, 101).split(b"\xff\xda")
        (tmp_path / "a.jpg").write_bytes((between + b"\xff\xda").join(parts))
        with pytest.raises(ImageFileError, match="more than 100 scans"):
            read_rgb(tmp_path / "a.jpg")
