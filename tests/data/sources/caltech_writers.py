"""Writes small files in Caltech's formats, in the layout of MATLAB and Norpix' tools."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
from PIL import Image

ImageArray = npt.NDArray[np.uint8]


def video_object(identity: int, box: Sequence[float], occluded: int = 0, visible: object = (0, 0, 0, 0)) -> Any:
    """One entry of ``objLists``; ``identity`` counts labels from 1."""
    return {"id": identity, "pos": list(box), "occl": occluded, "lock": 0, "posv": visible}


def write_vbb(path: Path, labels: Sequence[str], frames: Sequence[Sequence[Any]], **replaced: Any) -> None:
    """A ``.vbb`` of some frames, each a list of :func:`video_object`; ``replaced`` overrides fields of ``A``."""
    lists = np.empty((1, len(frames)), dtype=object)
    for number, objects in enumerate(frames):
        lists[0, number] = _structs(objects) if objects else np.zeros((0, 0))
    texts = np.empty((1, len(labels)), dtype=object)
    texts[0] = list(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {"nFrame": len(frames), "objLists": lists, "maxObj": len(labels), "objLbl": texts, **replaced}
    scipy.io.savemat(path, {"A": fields, "vers": 1.4}, appendmat=False)


def _structs(objects: Sequence[dict[str, Any]]) -> npt.NDArray[np.void]:
    rows = [tuple(np.atleast_2d(np.asarray(value, dtype=float)) for value in found.values()) for found in objects]
    array = np.empty((1, len(rows)), dtype=[(key, object) for key in objects[0]])
    for number, row in enumerate(rows):
        array[0, number] = row
    return array


def encoded(picture: ImageArray, kind: str) -> bytes:
    """An image file of the kind, "JPEG" or "PNG"."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format=kind)
    return data.getvalue()


def seq_header(size: tuple[int, int], image_format: int, num_frames: int, step: int = 0, bits: int = 8) -> bytes:
    """The first 1024 bytes of a ``.seq``, for frames of (width, height) pixels."""
    width, height = size
    channels = 1 if image_format in (1, 100, 102) else 3
    head = struct.pack("<I", 0xFEED) + "Norpix seq\0\0".encode("utf-16-le") + struct.pack("<iI", 3, 1024)
    fields = (width, height, 8 * channels, bits, width * height * channels, image_format, num_frames, 0, step)
    return (head.ljust(548, b"\0") + struct.pack("<9Id", *fields, 30.0)).ljust(1024, b"\0")


def compressed_seq(
    frames: Sequence[bytes], size: tuple[int, int], image_format: int = 201, padding: int = 8, announced: int = -1
) -> bytes:
    """A complete ``.seq`` of JPEG or PNG files, with ``padding`` empty bytes behind each time stamp."""
    body = b"".join(
        struct.pack("<I", len(frame) + 4) + frame + struct.pack("<IHH", number + 1, 0, 0) + bytes(padding)
        for number, frame in enumerate(frames)
    )
    return seq_header(size, image_format, len(frames) if announced < 0 else announced) + body
