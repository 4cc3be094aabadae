"""Reader of Norpix' video container ``.seq``, the format of Caltech's videos: a header, then independent frames.

The header has 1024 bytes, little-endian: at 0 the number 0xFEED and "Norpix seq" in UTF-16; at 548 width, height, bits
per pixel, bits per channel, bytes per image, format, number of frames, zero, and bytes between uncompressed frames. A
compressed frame consists of its length (four bytes, included in the length), a JPEG or PNG file, and a time stamp;
frames can be located only one after the other. Follows ``seqReaderPlugin.m`` of Dollar's toolbox.
"""

from __future__ import annotations

import io
import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from hkd.coco.parsing.errors import AnnotationError

LARGEST_FRAME_BYTES = 1 << 26
LARGEST_SIDE = 1 << 14
"""Pixels."""

_HEADER_BYTES = 1024
_MAGIC = struct.pack("<I", 0xFEED) + "Norpix seq".encode("utf-16-le")
_FIELDS_AT = 548
_RAW = {100: ("L", 1), 200: ("RGB", 3)}
"""Uncompressed formats: Pillow's mode and bytes per pixel (blue, green, red)."""
_JPEG_FORMATS, _PNG_FORMATS = (102, 201), (1, 2)
_BRACKETS = {".jpg": (b"\xff\xd8", b"\xff\xd9"), ".png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")}
"""First and last bytes of an image file of each kind."""
_TIME_STAMP_BYTES = 8


@dataclass(frozen=True)
class SeqVideo:
    """Positions of the frames of a ``.seq`` file."""

    path: Path
    width: int
    """Pixels."""
    height: int
    suffix: str
    """Suffix of the image files of :meth:`encoded`: ``.jpg`` or ``.png``."""
    announced_frames: int
    """Number of frames in the header, 0 if unknown. If it exceeds ``frame_count``, the file is truncated."""
    starts: Sequence[int]
    """First byte of each frame."""
    ends: Sequence[int]
    """First byte behind each frame."""
    raw_mode: str | None
    """Pillow's mode of uncompressed frames."""

    @property
    def frame_count(self) -> int:
        """Number of complete frames in the file."""
        return len(self.starts)

    def encoded(self, frame: int) -> bytes:
        """Frame ``frame``, counted from 0, as an image file: its bytes if it is JPEG or PNG, otherwise as PNG.

        Raises:
            AnnotationError: there is no such frame, it is damaged, or the file cannot be read.
        """
        if not 0 <= frame < self.frame_count:
            raise _error(self.path, f"found no frame {frame}; the video holds frames 0 to {self.frame_count - 1}")
        start, size = self.starts[frame], self.ends[frame] - self.starts[frame]
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise _error(self.path, f"frame {frame} cannot be read ({error.strerror})") from error
        if len(data) < size:
            raise _error(self.path, f"frame {frame} ends too early; the file is truncated")
        if self.raw_mode is not None:
            return self._png(data, self.raw_mode)
        first_bytes, last_bytes = _BRACKETS[self.suffix]
        if not (data.startswith(first_bytes) and data.endswith(last_bytes)):
            raise _error(self.path, f"frame {frame} is not a complete {self.suffix} image; the file is damaged")
        return data

    def _png(self, data: bytes, mode: str) -> bytes:
        image = Image.frombytes(mode, (self.width, self.height), data)
        if mode == "RGB":
            blue, green, red = image.split()
            image = Image.merge("RGB", (red, green, blue))
        packed = io.BytesIO()
        image.save(packed, format="PNG")
        return packed.getvalue()


def open_seq(path: Path) -> SeqVideo:
    """Read the header of a ``.seq`` file and locate its frames.

    An incomplete last frame is dropped; ``announced_frames`` then exceeds ``frame_count``.

    Raises:
        AnnotationError: the file cannot be read, is not a ``.seq`` file, has an unsupported format, or contains no
            complete frame.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _index(path, file, size)
    except OSError as error:
        raise _error(path, f"the file cannot be read ({error.strerror}); name a readable .seq") from error


def _index(path: Path, file: BinaryIO, file_bytes: int) -> SeqVideo:
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise _error(path, "it does not start with the header of a Norpix .seq; is it a video of Caltech?")
    width, height, _, channel_bits, image_bytes, image_format, announced, _, step = struct.unpack_from(
        "<9I", header, _FIELDS_AT
    )
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise _error(path, f"frames of {width} x {height} pixels are announced; allowed: 1 to {LARGEST_SIDE} a side")
    if channel_bits != 8:
        raise _error(path, f"pixels of {channel_bits} bits a channel are announced; only 8 are read")
    raw_mode = None
    if image_format in _RAW:
        raw_mode, pixel_bytes = _RAW[image_format]
        if image_bytes != width * height * pixel_bytes or step < image_bytes or image_bytes > LARGEST_FRAME_BYTES:
            raise _error(path, f"frames of {image_bytes} bytes, {step} apart, do not fit {width} x {height} pixels")
        complete = max(0, (file_bytes - _HEADER_BYTES - image_bytes) // step + 1)
        count = min(complete, announced) if announced else complete
        # Ranges need no memory, even if a sparse file has billions of tiny frames.
        starts: Sequence[int] = range(_HEADER_BYTES, _HEADER_BYTES + count * step, step)
        ends: Sequence[int] = range(starts[0] + image_bytes, starts[-1] + image_bytes + 1, step) if starts else ()
        suffix = ".png"
    elif image_format in (*_JPEG_FORMATS, *_PNG_FORMATS):
        suffix = ".jpg" if image_format in _JPEG_FORMATS else ".png"
        starts, ends = _compressed_frames(file, file_bytes, announced)
    else:
        allowed = sorted((*_RAW, *_JPEG_FORMATS, *_PNG_FORMATS))
        raise _error(path, f"its frames are of format {image_format}; read are {allowed} (grey or colour, not Bayer)")
    if not starts:
        raise _error(path, "it holds no complete frame; the file is truncated")
    return SeqVideo(path, width, height, suffix, announced, starts, ends, raw_mode)


def _compressed_frames(file: BinaryIO, file_bytes: int, announced: int) -> tuple[array[int], array[int]]:
    """First and last bytes of the frames before the first incomplete or empty one."""
    starts, ends = array("Q"), array("Q")
    position, gap = _HEADER_BYTES, 0
    while not announced or len(starts) < announced:
        length = _uint32(file, position)
        if not 4 < length <= LARGEST_FRAME_BYTES or position + length > file_bytes:
            break
        starts.append(position + 4)
        ends.append(position + length)
        if not gap:
            # Some writers add eight empty bytes after the time stamp; the first frame shows whether.
            next_length = _uint32(file, position + length + _TIME_STAMP_BYTES)
            gap = _TIME_STAMP_BYTES if next_length else 2 * _TIME_STAMP_BYTES
        position += length + gap
    return starts, ends


def _uint32(file: BinaryIO, position: int) -> int:
    """The number at a position of the file; 0 at and beyond the end."""
    file.seek(position, os.SEEK_SET)
    data = file.read(4)
    return int.from_bytes(data, "little") if len(data) == 4 else 0


def _error(path: Path, problem: str) -> AnnotationError:
    return AnnotationError([problem], str(path))
