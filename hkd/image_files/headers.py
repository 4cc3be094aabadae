"""Opening of image files: formats, size limit, orientation.

Images are always upright: sizes and pixels are those of the picture turned as its EXIF orientation says, as browsers
and labelling tools show it. Orientations other than 1 to 8 are read as 1, the stored one.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from PIL import ExifTags, Image, UnidentifiedImageError

DEFAULT_MAX_MEGAPIXELS: Final = 100.0
"""Of one image: as RGB it takes 300 MB, and ten times as much while JPEG 2000 is decoded."""
LARGEST_SIDE: Final = 1_000_000
"""Pixels. Every row takes memory of its own, whatever its length."""

# Raster formats alone: Pillow would hand EPS to Ghostscript, and documents of other formats to other programs.
_FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_SIGNATURES: Final = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the image; fetch the image with `git lfs pull`"),
    (b"%!PS", "is PostScript, which is not read; convert it to PNG"),
    (b"%PDF", "is PDF, which is not read; convert it to PNG"),
    (b"8BPS", "is a Photoshop document, which is not read; convert it to PNG"),
    (b"<", "starts with '<', as HTML, XML and SVG do; download it again, or convert it to PNG"),
    (b"\x00\x05\x16\x07", "is an AppleDouble file of macOS, not an image; remove it"),
)
_HEIC_BRANDS: Final = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_TURNED_SIDEWAYS: Final = (5, 6, 7, 8)

# Sizes are limited by _require_size, per call and with a message that names the setting.
Image.MAX_IMAGE_PIXELS = None
# Damaged metadata does not concern the pixels, and Pillow's warnings do not name the file.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageFileError(ValueError):
    """A file cannot be used as an image; the message continues a sentence that starts with its path, and ends with
    what to do.
    """


@dataclass(frozen=True)
class ImageHeader:
    """Size and orientation of an image file."""

    width: int
    """Pixels of the upright image."""
    height: int
    orientation: int
    """EXIF orientation, 1 to 8; 1 is stored upright."""

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the pixels as stored, before they are turned."""
        return (self.height, self.width) if self.orientation in _TURNED_SIDEWAYS else (self.width, self.height)


def read_header(path: Path, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> ImageHeader:
    """Upright size and orientation of an image file; its pixels are not decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ImageFileError: it cannot be read, is none of the formats, or has more pixels than ``max_megapixels`` million.
    """
    with open_image(path, max_megapixels) as image:
        return header_of(image)


@contextmanager
def open_image(path: Path, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> Iterator[Image.Image]:
    """An image file, opened but not decoded; every error within the block becomes an :class:`ImageFileError`.

    Raises:
        FileNotFoundError: there is no such file.
        ImageFileError: as :func:`read_header`, or the block failed to decode.
    """
    try:
        _require_file(path)
        # A decoder may raise anything on a damaged file.
        with Image.open(path, formats=_readable_formats()) as image:
            _require_size(image, max_megapixels)
            yield image
    except (FileNotFoundError, ImageFileError):
        raise
    except MemoryError as error:
        raise ImageFileError("needs more memory than available; reduce its size") from error
    except UnidentifiedImageError as error:
        raise ImageFileError(_unidentified(path)) from error
    except OSError as error:
        if error.errno is not None:
            raise ImageFileError(f"cannot be read ({error.strerror}); make it readable") from error
        raise ImageFileError(f"is damaged ({error}); replace it") from error  # raised by a decoder
    except Exception as error:
        raise ImageFileError(f"is damaged ({type(error).__name__}: {error}); replace it") from error


def header_of(image: Image.Image) -> ImageHeader:
    """Header of an image that is not decoded yet."""
    orientation = _orientation(image)
    width, height = image.size
    if image.format == "TIFF":  # some versions of Pillow state the upright size, some the stored one
        tags = getattr(image, "tag_v2", {})
        width, height = tags.get(256, width), tags.get(257, height)
    if orientation in _TURNED_SIDEWAYS:
        width, height = height, width
    return ImageHeader(width, height, orientation)


def _orientation(image: Image.Image) -> int:
    try:
        # Not the method of PNG's class, which decodes the image to find tags behind the pixels.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 (damaged EXIF data does not make the pixels unusable)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _require_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a null character
        raise ImageFileError(f"is no valid path ({error}); rename the file") from error
    if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
        kind = "a folder; name" if stat.S_ISDIR(mode) else "a pipe or a device; save it as"
        raise ImageFileError(f"is {kind} an image file")


def _require_size(image: Image.Image, max_megapixels: float) -> None:
    width, height = image.size
    if max(width, height) > LARGEST_SIDE:
        raise ImageFileError(
            f"has {width} x {height} pixels; allowed: at most {LARGEST_SIDE:,} a side. Cut it, or remove it"
        )
    if width * height > max_megapixels * 1e6:
        raise ImageFileError(
            f"has {width} x {height} pixels ({width * height / 1e6:,.1f} megapixels), more than the limit of"
            f" {max_megapixels:g} megapixels; reduce or cut it, or raise the limit (--max-megapixels or"
            " data.max_megapixels)"
        )


@cache
def _readable_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _unidentified(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "is empty; copy or download it again"
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
        return "is HEIC, which is not read; convert it to JPEG or PNG"
    for signature, sentence in _SIGNATURES:
        if start.lstrip().startswith(signature):
            return sentence
    allowed = ", ".join(name.replace("JPEG2000", "JPEG 2000") for name in _readable_formats())
    return f"does not open as an image (read: {allowed}; it starts with {start[:12]!r}); replace it"
