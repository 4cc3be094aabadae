"""Pixels of image files: the one decoder of training, conversion, preview and detection.

* Pictures are upright, see :mod:`hkd.image_files.headers`.
* 16 bits per channel are scaled to 8: 65535 becomes 255.
* Palettes are resolved. The alpha channel is dropped and the stored colours remain, as torchvision and OpenCV do.
* CMYK, Lab, and RGB with a colour profile that differs visibly from sRGB are converted to sRGB.
* Of animations and pages the first is used.
* 32-bit integers and floating point are refused: nothing states which value is white.
"""

from __future__ import annotations

import io
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageCms

from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS, ImageFileError, header_of, open_image
from hkd.image_files.jpeg_scans import require_few_scans
from hkd.image_files.libtiff import damage_reported_by_libtiff

_TRANSPOSITIONS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that turns the stored pixels of each EXIF orientation upright (Exif 2.32, tag 0x0112)."""
_WHITE_16_BITS: Final = 65535
LARGEST_OF_16_BITS: Final = "largest_of_16_bits"
"""Key of the largest stored value in ``info`` of a picture that had 16 bits per channel."""
_LARGEST_PROFILE_BYTES: Final = 1 << 22
_PROFILE_MODES: Final = ("RGB", "CMYK", "LAB", "L")
_INVISIBLE_DIFFERENCE: Final = 3
"""Levels of 255: profiles of sRGB by other makers differ from Pillow's by at most 2."""


def read_rgb(
    path: Path, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS, *, reduced_to: tuple[int, int] | None = None
) -> Image.Image:
    """The upright picture in an image file, RGB of 8 bits.

    Args:
        path: of the file.
        max_megapixels: largest number of pixels, in millions.
        reduced_to: width and height; JPEG files may be decoded at a fraction of their size that is not smaller.

    Raises:
        FileNotFoundError: there is no such file.
        ImageFileError: it does not decode, has more pixels than allowed, or pixels of a kind that is not read.
    """
    with open_image(path, max_megapixels) as image:
        header = header_of(image)
        if image.format in ("JPEG", "MPO"):
            require_few_scans(path)
        if reduced_to is not None:
            turned = (header.width, header.height) != header.stored_size
            image.draft("RGB", reduced_to[::-1] if turned else reduced_to)
        with damage_reported_by_libtiff() if image.format == "TIFF" else nullcontext():
            image.load()
        picture = _rgb(image)
        # Pillow itself turns TIFF files as it decodes them.
        operation = None if image.format == "TIFF" else _TRANSPOSITIONS.get(header.orientation)
        return picture if operation is None else picture.transpose(operation)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Clipped only where Pillow reads a file of 16 bits as 32.
        values = np.clip(np.asarray(image), 0, _WHITE_16_BITS).astype(np.uint32)
        scaled = Image.fromarray(((values * 255 + _WHITE_16_BITS // 2) // _WHITE_16_BITS).astype(np.uint8)).convert(
            "RGB"
        )
        scaled.info[LARGEST_OF_16_BITS] = int(values.max(initial=0))
        return scaled
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floating point"
        raise ImageFileError(
            f"has pixels of 32-bit {kind}, for which nothing states the value of white; convert it to 8 or 16 bits"
        )
    profile = image.info.get("icc_profile")
    if image.mode in ("RGBA", "RGBa", "RGBX"):
        image = image.convert("RGBA").convert("RGB")
    transform = _to_srgb(profile, image.mode)
    if transform is not None:
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # None only where it changes the image in place
        return converted
    return image.convert("RGB")


@lru_cache(maxsize=32)
def _to_srgb(profile: object, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Transform from the embedded profile to sRGB; None where it is absent, damaged, or changes nothing visible."""
    if mode == "LAB" and not profile:
        return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), mode, "RGB")
    if not isinstance(profile, bytes) or mode not in _PROFILE_MODES or len(profile) > _LARGEST_PROFILE_BYTES:
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode in ("RGB", "L"):
            tried = _colours(mode)
            changed = ImageCms.applyTransform(tried, transform)
            assert changed is not None
            difference = np.abs(np.asarray(changed, np.int16) - np.asarray(tried.convert("RGB"), np.int16))
            if difference.max() <= _INVISIBLE_DIFFERENCE:
                return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # as browsers do with a damaged profile, or one of another colour space
    return transform


def _colours(mode: str) -> Image.Image:
    """A picture of 729 colours that span RGB evenly, or of all 256 greys."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3))
